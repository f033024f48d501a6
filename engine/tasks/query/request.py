"""The body of a query request: its fields, checked one by one. Knows no text of a query, and no limit that a setting may change."""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine.tasks import codec
from engine.tasks.query.lifting import OWN_PREFIX, Vector
from engine.tasks.query.limits import MAX_INT, MIN_INT
from engine.tasks.query.refusals import Refused, nearest, quoted
from engine.tasks.query.translation import source_name

Params = list[Any] | dict[str, Any] | None

FIELDS = ("query", "as_list", "params", "dataset", "timeout_ms", "explain", "format", "class_labels")
TABLE_FIELDS = ("query", "params", "timeout_ms")
CONDITION_FIELDS = ("where", "params")
# A condition is read as the end of this text, whose source the request names.
CONDITION_START = "select row_number() where "
# A list of a parameter is a vector, a matrix, or the choices of IN.
MAX_LIST_DEPTH = 2


@dataclass(frozen=True, slots=True)
class Request:
    """What a body says.

    params      values for `?` and `$1`, or by name; a vector in base64 is float32 [dim], everything else as JSON has it
    dataset     the source of a text without FROM, without `hub://`
    timeout_ms  None where the body has none; its upper limit is the server's
    explain     `plan` and `analyze` ask for the steps instead of rows
    format      wins over the header Accept
    """

    query: str
    as_list: bool = True
    params: Params = None
    dataset: str | None = None
    timeout_ms: int | None = None
    explain: Literal[False, "plan", "analyze"] = False
    format: Literal["json", "ndjson", "arrow"] | None = None
    class_labels: Literal["names", "ids"] = "names"


def read_request(body: bytes | memoryview) -> Request:
    """The body of `POST /api/query/v1`. Refused, without a place."""
    fields = _fields(body, FIELDS)
    return Request(
        query=_query(fields),
        as_list=_as_list(fields),
        params=_params(fields),
        dataset=_dataset(fields),
        timeout_ms=_timeout_ms(fields),
        explain=_choice(fields, "explain", (False, "plan", "analyze"), False),
        format=_choice(fields, "format", ("json", "ndjson", "arrow"), None),
        class_labels=_choice(fields, "class_labels", ("names", "ids"), "names"),
    )


def read_table_request(body: bytes | memoryview) -> Request:
    """The body of `POST /workspaces/{w}/tables/query`. Refused, without a place."""
    fields = _fields(body, TABLE_FIELDS)
    return Request(query=_query(fields), params=_params(fields), timeout_ms=_timeout_ms(fields))


def read_condition(body: bytes | memoryview) -> Request:
    """The body of a deletion: `where`, and `params`. The query begins with CONDITION_START. Refused, without a place."""
    fields = _fields(body, CONDITION_FIELDS)
    where = fields.get("where")
    if not isinstance(where, str) or not where.strip():
        raise Refused("invalid_parameter", "where is a text with a condition.")
    if not _is_text(where):
        raise Refused("invalid_body", "where has half of a surrogate pair, which is no character.")
    return Request(query=CONDITION_START + where, params=_params(fields))


def _fields(body: bytes | memoryview, known: tuple[str, ...]) -> Mapping[str, Any]:
    """The fields of a body that are not null."""
    try:
        fields = codec.parse_json(bytes(body))
    except codec.NotJson as error:
        raise Refused("invalid_body", f"The body is not JSON: {error.reason} at byte {error.offset + 1}.") from None
    if not isinstance(fields, dict):
        hint = 'Send {"where": "..."}.' if known is CONDITION_FIELDS else 'Send {"query": "select ..."}.'
        raise Refused("invalid_body", "The body is one JSON object.", hint=hint)
    for name in fields:
        if name not in known:
            raise Refused("unknown_field", f'Unknown field "{quoted(codec.without_surrogates(name))}".', hint=nearest(name, known))
    return {name: value for name, value in fields.items() if value is not None}


def _query(fields: Mapping[str, Any]) -> str:
    text = fields.get("query")
    if not isinstance(text, str) or not text.strip():
        raise Refused("invalid_parameter", "query is a text with one SELECT.")
    if not _is_text(text):
        raise Refused("invalid_body", "query has half of a surrogate pair, which is no character.")
    return text


def _is_text(text: str) -> bool:
    """Whether the text can be written in UTF-8; a text of JSON may hold half of a surrogate pair."""
    return text.isascii() or codec.without_surrogates(text) == text


def _as_list(fields: Mapping[str, Any]) -> bool:
    as_list = fields.get("as_list", True)
    if not isinstance(as_list, bool):
        raise Refused("invalid_parameter", "as_list is true or false.")
    return as_list


def _dataset(fields: Mapping[str, Any]) -> str | None:
    name = fields.get("dataset")
    if name is None:
        return None
    if not isinstance(name, str):
        raise Refused("invalid_parameter", "dataset is the name of a source.", hint="A source is hub://org/name.")
    return source_name(name)


def _timeout_ms(fields: Mapping[str, Any]) -> int | None:
    timeout_ms = fields.get("timeout_ms")
    if timeout_ms is not None and (type(timeout_ms) is not int or timeout_ms < 1):
        raise Refused("invalid_parameter", "timeout_ms is a whole number of at least 1.")
    return timeout_ms


def _choice(fields: Mapping[str, Any], name: str, choices: tuple[Any, ...], default: Any) -> Any:
    if name not in fields:
        return default
    value = fields[name]
    # 0 is not false here.
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        words = [str(choice).lower() if isinstance(choice, bool) else f'"{choice}"' for choice in choices]
        hint = nearest(value, [choice for choice in choices if isinstance(choice, str)]) if isinstance(value, str) else None
        raise Refused("invalid_parameter", f"{name} is {' or '.join([', '.join(words[:-1]), words[-1]])}.", hint=hint)
    return value


def _params(fields: Mapping[str, Any]) -> Params:
    params = fields.get("params")
    if params is None:
        return None
    if isinstance(params, list):
        return [_value(value, f"Parameter {i}") for i, value in enumerate(params, 1)]
    if not isinstance(params, dict):
        raise Refused("invalid_parameter", "params is a list, or an object.")
    for name in params:
        if name.startswith(OWN_PREFIX) or not name.isidentifier():
            hint = "A name has letters, digits and _, and begins with a letter."
            raise Refused("bad_param", f'A parameter cannot be called "{quoted(codec.without_surrogates(name))}".', hint=hint)
    return {name: _value(value, f'Parameter "{quoted(name)}"') for name, value in params.items()}


def _value(value: Any, title: str) -> Any:
    """One value of `params`; title says which, for people."""
    if isinstance(value, dict):
        return _base64_vector(value, title)
    if isinstance(value, list):
        _check_list(value, title, MAX_LIST_DEPTH)
    else:
        _check_scalar(value, title)
    return value


def _check_list(values: list[Any], title: str, max_depth: int) -> None:
    # A vector has thousands of numbers, so numbers alone are checked in one go.
    if set(map(type, values)) == {float} and all(map(math.isfinite, values)):
        return
    for value in values:
        if isinstance(value, list) and max_depth > 1:
            _check_list(value, title, max_depth - 1)
        elif isinstance(value, (list, dict)):
            raise Refused("bad_param", f"{title} is nested more than a matrix.")
        else:
            _check_scalar(value, title)


def _check_scalar(value: Any, title: str) -> None:
    if isinstance(value, int) and not MIN_INT <= value <= MAX_INT:
        raise Refused("bad_param", f"{title} has an integer of more than 64 bits.")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("bad_param", f"{title} has a number that is not finite.")
    if isinstance(value, str) and not _is_text(value):
        raise Refused("bad_param", f"{title} has half of a surrogate pair, which is no character.")


def _base64_vector(value: dict[str, Any], title: str) -> Vector:
    """float32 [dim] of `{"b64": "...", "dtype": "f32"}`."""
    if not {"b64"} <= set(value) <= {"b64", "dtype"} or not isinstance(value["b64"], str) or value.get("dtype", "f32") != "f32":
        hint = 'A vector is a list of numbers, or {"b64": "<little-endian float32 bytes>", "dtype": "f32"}.'
        raise Refused("bad_vector", f"{title} is an object, but not a vector in base64.", hint=hint)
    try:
        raw = base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise Refused("bad_vector", f"{title} is not base64.") from None
    if not raw or len(raw) % 4:
        raise Refused("bad_vector", f"{title} has {len(raw)} bytes, and float32 numbers have 4 each.")
    vector = np.frombuffer(raw, dtype="<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise Refused("bad_vector", f"{title} has a number that is not finite.")
    return vector
