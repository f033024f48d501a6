"""A model's config.json: how a record becomes tensors, and how tensors become a result.

Defines the keys, their types and defaults, and the rules between them. Knows nothing of folders, graphs or tensors. An unknown key
is an error, so that a misspelt key is not silently ignored.
"""

import datetime
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Scalar = bool | int | float | str
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
# The name of a file in the version's folder; a path is refused.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]

# How deep the values of the file may be nested. The libraries that read and write them later use recursion and
# give up at some hundred levels. No record that a model reads needs more than a few.
MAX_DEPTH = 64
# Lists of models show descriptions, so that 300 models make a list of 1.2 MB at most.
MAX_DESCRIPTION_CHARACTERS = 4096
DEFAULT_BATCH_SIZE = 1024
# Padded cells (longest text x texts) of one run: with more, CPU throughput falls, and the memory arena grows and never shrinks.
DEFAULT_BATCH_TOKENS = 4096


class ConfigPart(BaseModel):
    """One part of config.json. Values are not converted: "true" is not a boolean, 1.0 is not an integer."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Entry(ConfigPart):
    """The keys of every kind of input.

    input    name of the input in the graph
    missing  value for an absent or null field, "nan" for a missing float; without it such a record gets `missing_field`
    coerce   where the graph takes numbers, convert numeric strings to numbers; where it takes strings, convert numbers and booleans
             to their JSON text
    """

    input: Text
    missing: Scalar | list[Scalar] | None = None
    coerce: bool = False


class ColumnInput(Entry):
    """One field -> [N] or [N,1], whichever the graph has."""

    kind: Literal["column"]
    field: Text


class MatrixInput(Entry):
    """Several fields, in this order -> [N,k].

    field  name of a field with the whole row as a list, which a record may have instead; models published without a config have it
    """

    kind: Literal["matrix"]
    features: list[Text] = Field(min_length=1)
    field: Text | None = None


class VectorInput(Entry):
    """One field with a list of k numbers -> [N,k]. `missing` stands for the whole list."""

    kind: Literal["vector"]
    field: Text


class PeriodDaysInput(ConfigPart):
    """One field with the date of the last of several periods -> [N,window]: the days from `origin` to the first day of each period.

    input   name of the input in the graph
    origin  a date, `2018-01-07`; for weekly data it is the first day of a period
    window  how many periods; the oldest comes first
    """

    kind: Literal["period_days"]
    input: Text
    field: Text
    origin: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    frequency: Literal["daily", "weekly", "monthly"]
    window: Count

    @field_validator("origin")
    @classmethod
    def _origin_is_a_date(cls, origin: str) -> str:
        datetime.date.fromisoformat(origin)
        return origin


class TextInput(Entry):
    """One field, tokenised -> input_ids, attention_mask: int64 [N, tokens of the longest text of the block]."""

    kind: Literal["text"]
    field: Text
    max_tokens: Count
    tokenizer: FileName = "tokenizer.json"
    pad_id: int = Field(default=0, ge=0)
    pad_token: str = "[PAD]"


Input = Annotated[ColumnInput | MatrixInput | VectorInput | PeriodDaysInput | TextInput, Field(discriminator="kind")]


class Output(ConfigPart):
    """One output of the graph.

    output     name of the output in the graph
    key        `as` in the file: the key in the result; with None the result is the bare value of the only output
    labels     an integer i becomes labels[i]; when the output has rows, these are the names of the columns
    form       "object": a row becomes an object with the labels as keys
    squeeze    turn rows of length 1 into scalars
    axis       the batch axis
    pooling    how token vectors [N, tokens, width] become one vector
    normalise  divide each row by its length
    """

    output: Text
    key: Text | None = Field(alias="as")
    labels: list[Scalar] | dict[str, Scalar] | None = None
    form: Literal["list", "object"] = "list"
    squeeze: bool = True
    axis: int = Field(default=0, ge=0)
    pooling: Literal["mean", "cls"] | None = None
    normalise: bool = False

    @model_validator(mode="after")
    def _form_needs_labels(self) -> "Output":
        if self.form == "object" and not self.labels:
            raise ValueError("form 'object' needs labels")
        return self


class ModelConfig(ConfigPart):
    """The whole file.

    description       at most MAX_DESCRIPTION_CHARACTERS when it is published; of a longer one in a folder only this much is shown
    example           a record that the model answers; a replica warms the model up with it and checks that it works
    dim               embedding models: how many values a vector has
    max_tokens        embedding models: how many tokens of a text the model reads
    max_batch_tokens  models that tokenise: how many padded cells one run may have
    fingerprint       the vector that an embedding model gave for the example when it was built: base64 of little-endian float32;
                      a replica refuses a model that gives another vector
    """

    owner: Text
    name: Text
    task: Literal["predict", "embed"]
    description: str = ""
    shared: bool = False
    max_batch_size: Count = DEFAULT_BATCH_SIZE
    inputs: list[Input] = Field(min_length=1)
    outputs: list[Output] = Field(min_length=1)
    example: dict[str, Any]
    dim: Count | None = None
    max_tokens: Count | None = None
    max_batch_tokens: Count = DEFAULT_BATCH_TOKENS
    fingerprint: str | None = None

    @model_validator(mode="after")
    def _keys_are_distinct(self) -> "ModelConfig":
        keys = [output.key for output in self.outputs]
        if None in keys and len(keys) > 1:
            raise ValueError("'as': null needs a single output")
        if len(set(keys)) < len(keys):
            raise ValueError("two outputs have the same 'as'")
        return self

    @model_validator(mode="after")
    def _embedding_is_complete(self) -> "ModelConfig":
        if self.is_embedding and (self.dim is None or self.max_tokens is None):
            raise ValueError("task 'embed' needs dim and max_tokens")
        if self.is_embedding and [entry.kind for entry in self.inputs] != ["text"]:
            raise ValueError("task 'embed' needs one input of kind 'text'")
        if self.is_embedding and [output.key for output in self.outputs] != ["embedding"]:
            raise ValueError("task 'embed' needs one output, 'as' embedding")
        return self

    @property
    def is_embedding(self) -> bool:
        return self.task == "embed"

    @property
    def family(self) -> str:
        """The family of tasks that opens the model in a replica."""
        return "embedding" if self.is_embedding else "scoring"

    @property
    def shown_description(self) -> str:
        return self.description[:MAX_DESCRIPTION_CHARACTERS]

    @property
    def text(self) -> TextInput | None:
        """The text input, whose length decides what a record costs; None for a model that does not tokenise."""
        return next((entry for entry in self.inputs if isinstance(entry, TextInput)), None)

    def as_dict(self) -> dict[str, Any]:
        """The file with every default filled in and the keys named as in the file; replicas get this."""
        return self.model_dump(by_alias=True)

    def as_written(self) -> dict[str, Any]:
        """Only the keys that were written in the file."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def parse_config(text: bytes) -> ModelConfig:
    """Parse and check a config.json. ValueError with one sentence for the person who wrote the file."""
    try:
        raw = _loads(text)
        # Refuse what we could not write as JSON again: NaN, Infinity, 1e999, half of a surrogate pair.
        json.dumps(raw, allow_nan=False, ensure_ascii=False).encode()
    except TooDeep:
        raise ValueError(f"config.json is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError(f"config.json is not JSON: {error}") from None
    try:
        return ModelConfig.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"config.json: {first_fault(error)}") from None


class TooDeep(ValueError):
    """The values of a config.json are nested too deeply."""


def _loads(text: bytes) -> Any:
    """Read JSON. TooDeep for more than MAX_DEPTH levels of lists and objects; ValueError for what is not JSON."""
    try:
        raw = json.loads(text)
    except RecursionError:
        raise TooDeep from None
    level = [raw]
    for _ in range(MAX_DEPTH):
        level = [value for outer in level for value in _values(outer)]
        if not level:
            return raw
    raise TooDeep


def _values(outer: Any) -> Iterable[Any]:
    """The lists and objects directly inside a value."""
    inside = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return (value for value in inside if isinstance(value, dict | list))


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, written like `field 'inputs.0.field': field required`."""
    fault = error.errors(include_url=False)[0]
    message = "a JSON object is needed" if fault["type"] == "model_type" else fault["msg"].removeprefix("Value error, ")
    where = ".".join(str(part) for part in fault["loc"])
    return f"field '{where}': {message[0].lower()}{message[1:]}" if where else message
