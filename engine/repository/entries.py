"""The entries of a config.json: how one input of the graph is filled from a record, and where one output goes in the result.

Defines their keys, types and defaults. Knows nothing of the keys around them, of folders, graphs or tensors. An unknown key is an
error, so that a misspelt key is not silently ignored.
"""

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

Scalar = bool | int | float | str
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
# The name of a file in the version's folder; a path is refused.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
# The longest side of a picture that a model may ask for.
Side = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
MAX_CHANNELS = 4


class ConfigPart(BaseModel):
    """One part of config.json. Values are not converted: "true" is not a boolean, 1.0 is not an integer."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _with(data: Any, key: str, source: str) -> Any:
    """An entry as it was written, with the value of another key for one that it leaves out."""
    return {key: data[source]} | data if isinstance(data, dict) and source in data else data


# Inputs


class Entry(ConfigPart):
    """The keys of every kind of input but pictures and periods.

    input    name of the input in the graph
    missing  value for an absent or null field, "nan" for a missing float; without it such a record gets `missing_field`
    coerce   where the graph takes numbers, convert numeric strings to numbers; where it takes strings, convert numbers and booleans
             to their JSON text
    """

    input: Text
    missing: Scalar | list[Scalar] | None = None
    coerce: bool = False


class FieldPart(ConfigPart):
    """An entry that reads one field. An entry that does not name it reads the one that is named like the input."""

    field: Text

    @model_validator(mode="before")
    @classmethod
    def _field_is_named_like_the_input(cls, data: Any) -> Any:
        return _with(data, "field", "input")


class ColumnInput(FieldPart, Entry):
    """One field -> [N] or [N,1], whichever the graph has; or [], whose records then share a run only if they agree."""

    kind: Literal["column"]


class MatrixInput(Entry):
    """Several fields, in this order -> [N,k].

    field  name of a field with the whole row as a list, which a record may have instead; models published without a config have it
    """

    kind: Literal["matrix"]
    features: list[Text] = Field(min_length=1)
    field: Text | None = None


class VectorInput(FieldPart, Entry):
    """One field with a list of k numbers -> [N,k]. `missing` stands for the whole list."""

    kind: Literal["vector"]


class TensorInput(FieldPart, Entry):
    """One field with lists in lists -> [N,...], as many levels as the graph has axes beside the first.

    pad      fills lists that are shorter than others of the same run; without it records of different shapes get runs of their own
    missing  stands for every value of the tensor, whose axes must then be fixed
    """

    kind: Literal["tensor"]
    pad: Scalar | None = None


class ImageInput(FieldPart):
    """One field with the bytes of a picture in base64 -> [N,C,H,W] or [N,H,W,C]: (pixel * scale - mean) / std.

    size       height and width; needed where the graph leaves them open
    resize     stretch: to this size; crop: as small as covers it, then the middle; pad: as large as fits, black beside it
    filter     how pixels between others are computed
    layout     needed where both axes of the graph could be the channels
    channels   rgb or bgr; a graph with one channel gets grey
    scale      default 1/255 for floats, 1 for integers
    mean, std  one number for each channel, after `scale`
    """

    kind: Literal["tensor"] = "tensor"
    input: Text
    decode: Literal["image"]
    size: tuple[Side, Side] | None = None
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    filter: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    layout: Literal["NCHW", "NHWC"] | None = None
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: Positive | None = None
    mean: list[Finite] | None = Field(default=None, min_length=1, max_length=MAX_CHANNELS)
    std: list[Positive] | None = Field(default=None, min_length=1, max_length=MAX_CHANNELS)

    @field_validator("size", mode="before")
    @classmethod
    def _size_is_a_pair(cls, size: Any) -> Any:
        return tuple(size) if isinstance(size, list) else size


class PeriodDaysInput(FieldPart):
    """One field with the date of the last of several periods -> [N,window]: the days from `origin` to the first day of each period.

    input   name of the input in the graph
    origin  a date, `2018-01-07`; for weekly data it is the first day of a period
    window  how many periods; the oldest comes first
    """

    kind: Literal["period_days"]
    input: Text
    origin: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    frequency: Literal["daily", "weekly", "monthly"]
    window: Count

    @field_validator("origin")
    @classmethod
    def _origin_is_a_date(cls, origin: str) -> str:
        datetime.date.fromisoformat(origin)
        return origin


class TextInput(FieldPart, Entry):
    """One field, tokenised -> input_ids, attention_mask: int64 [N, tokens of the longest text of the block]."""

    kind: Literal["text"]
    max_tokens: Count
    tokenizer: FileName = "tokenizer.json"
    pad_id: int = Field(default=0, ge=0)
    pad_token: str = "[PAD]"


class OpenInput(Entry):
    """An entry without a kind, which the graph decides. Only a config that is sent for publishing may have one."""

    kind: None = None
    field: Text | None = None
    features: list[Text] | None = Field(default=None, min_length=1)
    pad: Scalar | None = None


def _class_of(entry: Any) -> str | None:
    """The tag of the class that an entry is read as: its kind, `image` if it decodes one, `open` if it has no kind."""
    found = entry if isinstance(entry, dict) else {key: getattr(entry, key, None) for key in ("kind", "decode")}
    if found.get("decode") is not None:
        return "image"
    kind = found.get("kind")
    return "open" if kind is None else kind if isinstance(kind, str) else None


_KINDS = "an entry has one of the kinds column, matrix, vector, tensor, period_days and text"
_BY_KIND = Discriminator(_class_of, custom_error_type="kind", custom_error_message=_KINDS)
_Known = (
    Annotated[ColumnInput, Tag("column")]
    | Annotated[MatrixInput, Tag("matrix")]
    | Annotated[VectorInput, Tag("vector")]
    | Annotated[TensorInput, Tag("tensor")]
    | Annotated[ImageInput, Tag("image")]
    | Annotated[PeriodDaysInput, Tag("period_days")]
    | Annotated[TextInput, Tag("text")]
)
Input = Annotated[_Known, _BY_KIND]
SentInput = Annotated[_Known | Annotated[OpenInput, Tag("open")], _BY_KIND]


# Outputs


class Output(ConfigPart):
    """One output of the graph.

    output     name of the output in the graph
    key        `as` in the file: the key in the result; with None the result is the bare value of the only output. Left out, it is
               the name of the output
    labels     an integer i becomes labels[i]; when the output has rows, these are the names of the columns; when it is a sequence
               of tensors, the names of these
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

    @model_validator(mode="before")
    @classmethod
    def _key_is_the_name_of_the_output(cls, data: Any) -> Any:
        return _with(data, "as", "output")

    @model_validator(mode="after")
    def _form_needs_labels(self) -> "Output":
        if self.form == "object" and not self.labels:
            raise ValueError("form 'object' needs labels")
        return self
