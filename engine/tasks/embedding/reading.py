"""Reads request bodies of embeddings: JSON becomes texts or token ids, and every fault is told as the body's shape tells faults.

The shape `simple` is that of FastAPI and pydantic, which tells all faults at once; `openai` is that of the OpenAI API, which tells
the first one. Knows nothing of tokenizers and vectors.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails

from engine.frames import LINE_END
from engine.tasks import codec
from engine.tasks.codec import NotJson

TokenIds = list[int]

# How much of a refused body its refusal repeats. FastAPI repeats every wrong value whole, and its place in the answer tells which
# it is; nobody needs 32 MiB of it again.
ECHO_CHARACTERS = 64 * 1024
ECHO_DEPTH = 100
NAME_CHARACTERS = 200
CUT = "..."


class Choice(NamedTuple):
    """A model that a body may name, as the server process knows it.

    key           "owner/name@version"
    dim           number of values of its vectors
    at_once       the replica that reads the body embeds up to this many bytes of text; longer lists are divided among replicas,
                  and with a negative number all lists are
    record_bytes  bytes of one text that count for its cost: the model cuts off what lies beyond
    """

    key: str
    dim: int
    at_once: int
    record_bytes: int


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The most that a body may hold: inputs, bytes of one text in UTF-8, and tokens of all inputs after cutting.

    refuse_token_ids  inputs must be texts
    """

    inputs: int
    text_bytes: int
    tokens: int
    refuse_token_ids: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedBody:
    """What a body asks for, once it has no fault.

    model       the name that the sender used
    inputs      texts, or lists of token ids
    dimensions  how many values of each vector to keep; None for all
    truncate    cut an input that is longer than the model takes; if false, refuse it
    normalise   scale each vector to length 1, whatever the model gives
    """

    model: str
    inputs: list[str] | list[TokenIds]
    is_base64: bool = False
    dimensions: int | None = None
    truncate: bool = True
    normalise: bool = False


class BodyFault(Exception):
    """A body is refused.

    code    a word of BODY_CODES in engine/embeddings.py
    param   the field that is wrong, or None for the body as a whole
    detail  the JSON of the whole answer, for a shape that tells more than a message; else empty
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, detail: bytes = b"") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.detail = detail


# The simple shape


class SimpleFields(BaseModel):
    """The body of POST /embeddings; other keys are ignored. The context of its validation is the names of the models."""

    model: str
    input: str | list[str]

    @field_validator("model")
    @classmethod
    def _is_served(cls, name: str, info: ValidationInfo) -> str:
        if info.context is not None and name not in info.context:
            shown = codec.without_surrogates(name if len(name) <= NAME_CHARACTERS else name[:NAME_CHARACTERS] + CUT)
            # The shape shows this kind of error. It is raised, not asserted, so that `python -O` does not remove it.
            raise AssertionError(f"Model `{shown}` has not been specified and is not available.")
        return name


def read_simple(raw: bytes, models: Mapping[str, Choice], limits: BodyLimits) -> AcceptedBody:
    """Read a body of the shape `simple`. BodyFault `invalid_request`, with FastAPI's list of faults as its detail."""
    try:
        value = codec.parse_json(raw)
    except NotJson as fault:
        raise _unprocessable([_json_fault(fault)]) from None
    try:
        body = SimpleFields.model_validate(_bounded(value, limits), from_attributes=True, context=models)
        texts = [body.input] if isinstance(body.input, str) else body.input
        _check_limits(value["input"], texts, limits)
    except ValidationError as error:
        raise _unprocessable(_items(error)) from None
    return AcceptedBody(body.model, texts)


def _bounded(value: Any, limits: BodyLimits) -> Any:
    """The body with an overlong list cut to one input too many: each wrong input would add a fault to the answer."""
    if isinstance(value, dict) and isinstance(value.get("input"), list) and len(value["input"]) > limits.inputs:
        return value | {"input": value["input"][: limits.inputs + 1]}
    return value


def _check_limits(given: str | list[str], texts: list[str], limits: BodyLimits) -> None:
    """ValidationError as pydantic would raise it. As constraints of SimpleFields these limits would rename its union's branches."""
    faults: list[InitErrorDetails] = []
    if isinstance(given, list) and len(given) > limits.inputs:
        context = {"field_type": "List", "max_length": limits.inputs, "actual_length": len(given)}
        faults.append({"type": "too_long", "loc": ("input",), "input": given, "ctx": context})
    for i, text in enumerate(texts[: limits.inputs]):
        if num_bytes(text) > limits.text_bytes:
            faults.append({"type": "string_too_long", "loc": ("input", i), "input": text, "ctx": {"max_length": limits.text_bytes}})
    if faults:
        raise ValidationError.from_exception_data("SimpleFields", faults)


def _items(error: ValidationError) -> list[dict[str, Any]]:
    """The faults as FastAPI shows them. Together they repeat no more than ECHO_CHARACTERS of the body as their `input`."""
    room = [ECHO_CHARACTERS]
    return [_item(fault, room) for fault in error.errors()]


def _item(fault: Any, room: list[int]) -> dict[str, Any]:
    """One fault as FastAPI shows it: `body` before its location, and no exception object in its context."""
    item = {**fault, "loc": ["body", *fault["loc"]], "input": _shortened(fault["input"], room)}
    if "error" in item.get("ctx", {}):
        item["ctx"] = {**item["ctx"], "error": {}}
    return item


def _shortened(value: Any, room: list[int], depth: int = 0) -> Any:
    """A part of a body that may be repeated: the same, or its beginning, with CUT where characters or values are left out.

    room  its one number is how many more characters may be repeated; a value counts one besides its characters
    """
    room[0] -= 1
    if isinstance(value, str):
        shown = value if len(value) <= room[0] else value[: max(room[0], 0)] + CUT
        room[0] -= len(shown)
        return shown
    if not isinstance(value, list | dict):
        return value
    if depth == ECHO_DEPTH:
        return CUT
    if isinstance(value, list):
        return list(_shortened_items(value, room, depth + 1))
    names = _shortened_items(value, room, depth + 1)
    return {name: _shortened(value.get(name, CUT), room, depth + 1) for name in names}


def _shortened_items(values: Iterable[Any], room: list[int], depth: int) -> Iterator[Any]:
    """The values, as long as there is room; then CUT."""
    for value in values:
        if room[0] <= 0:
            yield CUT
            return
        yield _shortened(value, room, depth)


def _json_fault(fault: NotJson) -> dict[str, Any]:
    place = ["body", fault.offset]
    return {"type": "json_invalid", "loc": place, "msg": "JSON decode error", "input": {}, "ctx": {"error": fault.reason}}


def _unprocessable(items: Any) -> BodyFault:
    detail = list(items)
    return BodyFault("invalid_request", detail[0]["msg"], detail=codec.dumps({"detail": detail}))


# The OpenAI shape


def read_openai(raw: bytes, models: Mapping[str, Choice], limits: BodyLimits) -> AcceptedBody:
    """Read a body of the shape `openai`.

    BodyFault, with the wrong field: `invalid_body`, `invalid_parameter`, `invalid_token`, `model_not_found`, `too_many_inputs`.
    """
    try:
        body = codec.parse_json(raw)
    except NotJson as fault:
        raise BodyFault("invalid_body", f"The body is not JSON: {fault.reason} (byte {fault.offset}).") from None
    if not isinstance(body, dict):
        raise BodyFault("invalid_body", "The body must be a JSON object with 'model' and 'input'.")
    model = _given(body, "model", str, "a string: the name of a model")
    inputs = read_inputs(body, "input", limits)
    encoding = optional_field(body, "encoding_format", str, "'float' or 'base64'")
    if encoding not in (None, "float", "base64"):
        raise wrong_field("encoding_format", "'float' or 'base64'")
    truncate = optional_field(body, "truncate", bool, "true or false")
    dimensions = optional_field(body, "dimensions", int, "an integer")
    if model not in models:
        text = f"The model `{model[:200]}` does not exist or you do not have access to it."
        raise BodyFault("model_not_found", text, param="model")
    if dimensions is not None and not 1 <= dimensions <= models[model].dim:
        raise wrong_field("dimensions", f"between 1 and {models[model].dim}")
    return AcceptedBody(model, inputs, encoding == "base64", dimensions, truncate is not False)


def _given(body: dict[str, Any], name: str, kind: type, what: str) -> Any:
    if body.get(name) is None:
        raise BodyFault("invalid_parameter", f"'{name}' is missing: it must be {what}.", param=name)
    return optional_field(body, name, kind, what)


def optional_field(body: dict[str, Any], name: str, kind: type, what: str) -> Any:
    """The value of a field, None if it is absent or null. `true` is not an integer."""
    value = body.get(name)
    if value is not None and type(value) is not kind:
        raise wrong_field(name, what)
    return value


def wrong_field(name: str, what: str) -> BodyFault:
    return BodyFault("invalid_parameter", f"'{name}' must be {what}.", param=name)


def read_inputs(body: dict[str, Any], field: str, limits: BodyLimits) -> list[str] | list[TokenIds]:
    """The inputs in a field, as a list of texts or of lists of ids. A string, or a list of integers, is one input."""
    value = body.get(field)
    if value is None:
        raise BodyFault("invalid_parameter", f"'{field}' is missing: it must be {INPUT_FORMS}.", param=field)
    many = value if type(value) is list and value and type(value[0]) in (str, list) else [value]
    if len(many) > limits.inputs:
        text = f"'{field}' has {len(many)} inputs; one request takes {limits.inputs}."
        raise BodyFault("too_many_inputs", text, param=field)
    check = _check_text if type(many[0]) is str else _check_ids
    for i, one in enumerate(many):
        check(one, Place(field, i if many is value else None), limits)
    return many


class Place(NamedTuple):
    """Where an input stands: in a field, and in its list if that holds several."""

    field: str
    number: int | None

    def __str__(self) -> str:
        return f"'{self.field}'" if self.number is None else f"'{self.field}[{self.number}]'"


INPUT_FORMS = "a string, a list of strings, a list of token ids, or a list of such lists"


def _check_text(text: Any, place: Place, limits: BodyLimits) -> None:
    if type(text) is not str:
        raise _unusable(place, f"{place} is not a string: '{place.field}' must be {INPUT_FORMS}.")
    if not text:
        raise _unusable(place, f"{place} is empty.")
    if num_bytes(text) > limits.text_bytes:
        raise _unusable(place, f"{place} is longer than {limits.text_bytes} bytes.")


def _check_ids(ids: Any, place: Place, limits: BodyLimits) -> None:
    if type(ids) is list and any(
        type(one) is float and abs(one) >= 2**63 for one in ids
    ):  # the parser makes floats of longer integers
        raise BodyFault("invalid_token", f"{place} has a token id of more than 64 bits.", param=place.field)
    if type(ids) is not list or set(map(type, ids)) - {int}:
        raise _unusable(place, f"{place} is wrong: '{place.field}' must be {INPUT_FORMS}.")
    if not ids:
        raise _unusable(place, f"{place} is empty.")
    if limits.refuse_token_ids:
        raise BodyFault(
            "invalid_token", f"{place} has token ids, and this server takes texts only. {OTHER_TOKENIZER}", param=place.field
        )
    if 4 * len(ids) > limits.text_bytes:
        raise _unusable(place, f"{place} is longer than {limits.text_bytes // 4} tokens.")


# Ids of another tokenizer are nearly all ids of the model's own as well, where they stand for other words.
OTHER_TOKENIZER = "LangChain sends ids of another tokenizer unless it is told check_embedding_ctx_length=False."


def _unusable(place: Place, text: str) -> BodyFault:
    return BodyFault("invalid_parameter", text, param=place.field)


def num_bytes(text: str) -> int:
    """The size of a text in UTF-8; half of a surrogate pair counts as the character that will replace it."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# Lines, for bodies of both shapes


def read_lines(raw: bytes) -> list[Any]:
    """The inputs that `write_lines` wrote."""
    return list(map(codec.parse_json, raw.split(LINE_END)[:-1]))


def write_lines(inputs: list[str] | list[TokenIds]) -> bytes:
    """The inputs as lines of JSON, which can be divided among replicas."""
    return b"".join(codec.dumps(one) + LINE_END for one in inputs)
