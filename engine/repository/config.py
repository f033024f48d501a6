"""A model's config.json: how a record becomes tensors, and how tensors become a result.

Defines the keys around the entries of entries.py, and the rules between them. Knows nothing of folders, graphs or tensors.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from engine.repository.entries import ConfigPart, Count, Input, Output, SentInput, Text, TextInput

# How deep the values of the file may be nested. The libraries that read and write them later use recursion and
# give up at some hundred levels. No record that a model reads needs more than a few.
MAX_DEPTH = 64
# Lists of models show descriptions, so that 300 models make a list of 1.2 MB at most.
MAX_DESCRIPTION_CHARACTERS = 4096
DEFAULT_BATCH_SIZE = 1024
# Padded cells (longest text x texts) of one run: with more, CPU throughput falls, and the memory arena grows and never shrinks.
DEFAULT_BATCH_TOKENS = 4096
# A result that differs by more in a batch is another result, which nobody can want.
MAX_TOLERANCE = 1.0
MAX_PROVIDERS = 8

Task = Literal["predict", "embed"]
# As onnxruntime calls it, in any letters, with or without `ExecutionProvider`.
Provider = Annotated[str, Field(pattern=r"^[A-Za-z]{1,60}$")]


class CommonKeys(ConfigPart):
    """The keys that a config may always leave out.

    description       at most MAX_DESCRIPTION_CHARACTERS when it is published; of a longer one in a folder only this much is shown
    dim               embedding models: how many values a vector has
    max_tokens        embedding models: how many tokens of a text the model reads
    max_batch_tokens  models that tokenise: how many padded cells one run may have
    batch_tolerance   how far results in a batch may be from those of the same records alone; without it, not further than rounding
    providers         execution providers of onnxruntime, the preferred one first; without it those of the setting
    fingerprint       the vector that an embedding model gave for the example when it was built: base64 of little-endian float32;
                      a replica refuses a model that gives another vector
    """

    owner: Text
    name: Text
    description: str = ""
    shared: bool = False
    max_batch_size: Count = DEFAULT_BATCH_SIZE
    dim: Count | None = None
    max_tokens: Count | None = None
    max_batch_tokens: Count = DEFAULT_BATCH_TOKENS
    batch_tolerance: Annotated[float, Field(gt=0, le=MAX_TOLERANCE)] | None = None
    providers: list[Provider] | None = Field(default=None, min_length=1, max_length=MAX_PROVIDERS)
    fingerprint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The file with every default filled in and the keys named as in the file; replicas get this."""
        return self.model_dump(by_alias=True)

    def as_written(self) -> dict[str, Any]:
        """Only the keys that were written in the file."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class SentConfig(CommonKeys):
    """A file that was sent for publishing: whatever it leaves out is derived from the graph."""

    task: Task = "predict"
    inputs: list[SentInput] | None = Field(default=None, min_length=1)
    outputs: list[Output] | None = Field(default=None, min_length=1)
    example: dict[str, Any] | None = None

    def clashes(self) -> list[str]:
        """Why the outputs that were sent do not go together; a sentence each."""
        return _clashes(self.outputs or [])

    def gaps(self) -> list[str]:
        """What the task needs and nothing derives."""
        return _gaps(self, self.inputs, self.outputs) if self.task == "embed" else []


class ModelConfig(CommonKeys):
    """The whole file.

    example  a record that the model answers; a replica warms the model up with it and checks that it works
    """

    task: Task
    inputs: list[Input] = Field(min_length=1)
    outputs: list[Output] = Field(min_length=1)
    example: dict[str, Any]

    @model_validator(mode="after")
    def _keys_go_together(self) -> "ModelConfig":
        found = _clashes(self.outputs)
        if self.is_embedding:
            found += _gaps(self, self.inputs, self.outputs)
        if found:
            raise ValueError("; ".join(found))
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


def _clashes(outputs: Sequence[Output]) -> list[str]:
    """Why these outputs cannot stand in one result."""
    keys = [output.key for output in outputs]
    found = ["'as': null needs a single output"] if None in keys and len(keys) > 1 else []
    return found + (["two outputs have the same 'as'"] if len(set(keys)) < len(keys) else [])


def _gaps(config: CommonKeys, inputs: Sequence[Any] | None, outputs: Sequence[Output] | None) -> list[str]:
    """What an embedding model lacks."""
    found = []
    if config.dim is None or config.max_tokens is None:
        found.append("task 'embed' needs dim and max_tokens")
    if inputs is None or [entry.kind for entry in inputs] != ["text"]:
        found.append("task 'embed' needs one input of kind 'text'")
    if outputs is None or [output.key for output in outputs] != ["embedding"]:
        found.append("task 'embed' needs one output, 'as' embedding")
    return found


def parse_config(text: bytes) -> ModelConfig:
    """Parse and check a config.json. ValueError with one sentence for the person who wrote the file."""
    raw = read_json(text)
    try:
        return ModelConfig.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"config.json: {first_fault(error)}") from None


def read_json(text: bytes) -> Any:
    """The value of a config.json. ValueError with one sentence for what is not JSON, or cannot be written as JSON again."""
    try:
        raw = _loads(text)
        # Refuse what we could not write as JSON again: NaN, Infinity, 1e999, half of a surrogate pair.
        json.dumps(raw, allow_nan=False, ensure_ascii=False).encode()
    except TooDeep:
        raise ValueError(f"config.json is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError(f"config.json is not JSON: {error}") from None
    return raw


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
    return all_faults(error)[0]


def all_faults(error: ValidationError) -> list[str]:
    """The faults that pydantic found, in the order of the file."""
    return [_fault_text(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors(include_url=False)]


def _fault_text(place: tuple[int | str, ...], kind: str, message: str) -> str:
    message = "a JSON object is needed" if kind == "model_type" else message.removeprefix("Value error, ")
    where = ".".join(str(part) for part in place)
    return f"field '{on_one_line(where)}': {message[0].lower()}{message[1:]}" if where else message


def on_one_line(text: str) -> str:
    """Text of a sender as a sentence can name it: with escapes where it has characters that do not print."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
