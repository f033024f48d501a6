"""Requests of the Open Inference Protocol: a body becomes arrays, and rows of them become a body again.

A body is JSON or, with the binary tensor data extension, a head in JSON and the raw bytes of tensors behind it. Knows no model.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from engine.frames import LINE_END
from engine.tasks import codec
from engine.tasks.codec import NotJson
from engine.tasks.scoring.inputs import Irregular, Refused, Scalars
from engine.tasks.tensors.datatypes import DATATYPES, STRINGS, BadBytes, datatype_of, to_array, to_bytes

MAX_RANK = 16
# A request that is answered within a minute has no part of more than 0.1 s on two replicas, however few rows that is.
MAX_PARTS = 1024
MAX_OUTPUTS = 1024
MAX_VALUES = 2**31
MAX_MESSAGE_CHARACTERS = 2_000
MAX_ID_CHARACTERS = 1024
NO_PARAMETERS: dict[str, Any] = {}
# What the server would have to do something for, by the object that has the parameter.
UNKNOWN_TO_US = {
    "the request": ("sequence_id",),
    "an input": ("shared_memory_region",),
    "an output": ("shared_memory_region", "classification"),
}


class Rejected(Exception):
    """A request is refused.

    code  a word of TENSOR_CODES in engine/tensors.py
    """

    def __init__(self, code: str, message: str) -> None:
        message = message[:MAX_MESSAGE_CHARACTERS]
        super().__init__(message)
        self.code = code
        self.message = message


class Wanted(NamedTuple):
    """An output that the sender asked for, and whether as raw bytes."""

    name: str
    is_binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a body asks for.

    id         comes back in the answer; None if it has none
    tensors    by name: at least one; all have as many rows along their first axis, one or more
    outputs    those that were asked for; None means all
    is_binary  with None: whether they are to come as raw bytes
    """

    id: str | None
    tensors: dict[str, np.ndarray]
    outputs: list[Wanted] | None
    is_binary: bool

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.tensors.values())))


def read_request(raw: memoryview) -> InferRequest:
    """Read what `framed` made of a body. Rejected `invalid_body`, `invalid_parameter`."""
    start = bytes(raw[:20]).index(LINE_END) + 1
    head_bytes, body = int(raw[: start - 1]), raw[start:]
    if head_bytes > len(body):
        raise Rejected("invalid_body", "Inference-Header-Content-Length is larger than the body")
    head = _object(bytes(body[:head_bytes] if head_bytes else body))
    parameters = _parameters(head, "the request")
    rest = body[head_bytes:] if head_bytes else body[:0]
    return InferRequest(
        id=_id(head),
        tensors=_tensors(head.get("inputs"), rest),
        outputs=_wanted(head.get("outputs"), is_binary=parameters.get("binary_data_output") is True),
        is_binary=parameters.get("binary_data_output") is True,
    )


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = codec.parse_json(text)
    except NotJson as fault:
        raise Rejected("invalid_body", f"the request is not JSON: {fault.reason} (byte {fault.offset})") from None
    if not isinstance(value, dict):
        raise Rejected("invalid_body", "the request must be a JSON object with `inputs`")
    return value


def _id(head: dict[str, Any]) -> str | None:
    given = head.get("id")
    if given is None:
        return None
    if not isinstance(given, str) or len(given) > MAX_ID_CHARACTERS:
        raise Rejected("invalid_parameter", f"`id` must be a string of at most {MAX_ID_CHARACTERS} characters")
    return given


def _parameters(value: dict[str, Any], owner: str) -> dict[str, Any]:
    """The parameters of an object, of which most are hints that change no answer."""
    given = value.get("parameters")
    if given is None:
        return NO_PARAMETERS
    if not isinstance(given, dict):
        raise Rejected("invalid_parameter", f"`parameters` of {owner} must be an object")
    for name in UNKNOWN_TO_US[owner]:
        if given.get(name):
            raise Rejected("invalid_parameter", f"this server does not know the parameter `{name}` of {owner}")
    return given


# Outputs


def _wanted(given: Any, *, is_binary: bool) -> list[Wanted] | None:
    """The outputs that are asked for. An output says itself how it is to come, else the request does."""
    if not given:
        return None
    if not isinstance(given, list):
        raise Rejected("invalid_parameter", "`outputs` must be a list of objects with a `name`")
    if len(given) > MAX_OUTPUTS:
        raise Rejected("invalid_parameter", f"`outputs` may name at most {MAX_OUTPUTS} outputs")
    wanted = [Wanted(_name(one, "output"), _parameters(one, "an output").get("binary_data", is_binary) is True) for one in given]
    if len({one.name for one in wanted}) < len(wanted):
        raise Rejected("invalid_parameter", "an output is asked for twice")
    return wanted


def _name(given: Any, kind: str) -> str:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise Rejected("invalid_parameter", f"`{kind}s` must be a list of objects with a `name`")
    name: str = given["name"]
    return name


# Inputs


def _tensors(given: Any, rest: memoryview) -> dict[str, np.ndarray]:
    """The inputs by name.

    rest  what stands behind the head: the bytes of those inputs that have `binary_data_size`, in their order
    """
    if not isinstance(given, list) or not given:
        raise Rejected("invalid_parameter", "`inputs` must be a list of objects with name, datatype, shape and data")
    tensors: dict[str, np.ndarray] = {}
    position = 0
    for one in given:
        name = _name(one, "input")
        size = _parameters(one, "an input").get("binary_data_size")
        if name in tensors:
            raise Rejected("invalid_parameter", f"input '{name}' is there twice")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(rest) - position:
                raise Rejected(
                    "invalid_body", f"`binary_data_size` of input '{name}' is not a number of bytes that the body has left"
                )
            tensors[name] = _binary(one, name, rest[position : position + size])
            position += size
        else:
            tensors[name] = _from_json(one, name)
    if position != len(rest):
        raise Rejected("invalid_body", f"the body has {len(rest) - position} bytes that belong to no input")
    return _with_equal_rows(tensors)


def _with_equal_rows(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    counts = {name: len(array) for name, array in tensors.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
        raise Rejected("invalid_parameter", f"all inputs need as many rows (the first number of `shape`): {told}")
    if 0 in counts.values():
        raise Rejected("invalid_parameter", "the inputs have no rows: the first number of `shape` is 0")
    return tensors


def _form(one: dict[str, Any], name: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Datatype and shape of an input."""
    datatype, shape = one.get("datatype"), one.get("shape")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise Rejected("invalid_parameter", f"`datatype` of input '{name}' must be one of {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_RANK or not all(type(one) is int and one >= 0 for one in shape):
        text = f"`shape` of input '{name}' must be a list of numbers, of which the first counts the rows: one record is [1, ...]"
        raise Rejected("invalid_parameter", text)
    if math.prod(max(1, length) for length in shape) > MAX_VALUES:  # a 0 beside a huge number would pass for few values
        raise Rejected("invalid_parameter", f"`shape` of input '{name}' must mean at most {MAX_VALUES:,} values")
    return DATATYPES[datatype], tuple(shape)


def _binary(one: dict[str, Any], name: str, raw: memoryview) -> np.ndarray:
    dtype, shape = _form(one, name)
    try:
        return to_array(raw, dtype, shape)
    except BadBytes as fault:
        raise Rejected("invalid_parameter", f"input '{name}' {fault}") from None


def _from_json(one: dict[str, Any], name: str) -> np.ndarray:
    """An input whose `data` are a list in C order, or lists in lists."""
    dtype, shape = _form(one, name)
    data = one.get("data")
    if not isinstance(data, list):
        raise Rejected("invalid_parameter", f"input '{name}' needs `data`, a list of its values")
    flat = _flat(data)
    if len(flat) != math.prod(shape):
        raise Rejected("invalid_parameter", f"input '{name}' has {len(flat)} values, and its shape needs {math.prod(shape)}")
    scalars = Scalars(dtype, coerce=False)
    try:
        return scalars.bulk(flat).reshape(shape)
    except Irregular:
        return _careful(scalars, flat, name).reshape(shape)


def _careful(scalars: Scalars, flat: list[Any], name: str) -> np.ndarray:
    try:
        return scalars.array([scalars.check(value, f"{name}[{i}]") for i, value in enumerate(flat)])
    except Refused as refused:
        raise Rejected("invalid_parameter", refused.fault.reason) from None


def _flat(data: list[Any]) -> list[Any]:
    """The values of lists in lists, in their order."""
    for _ in range(MAX_RANK):
        if not any(type(one) is list for one in data):
            return data
        data = [value for one in data for value in (one if type(one) is list else (one,))]
    return data


# Rows of a request, as a request of its own


def framed(head_bytes: int, body: bytes) -> bytes:
    """A body as it travels: the length of its head before it, 0 if all of it is JSON."""
    return b"%d\n" % head_bytes + body


def write_rows(request: InferRequest, start: int, end: int) -> bytes:
    """A request for some of the rows, framed; its tensors are raw bytes."""
    inputs: list[dict[str, Any]] = []
    data: list[bytes] = []
    for name, array in request.tensors.items():
        rows = array[start:end]
        data.append(to_bytes(rows))
        form = {"name": name, "datatype": datatype_of(array.dtype), "shape": list(rows.shape)}
        inputs.append(form | {"parameters": {"binary_data_size": len(data[-1])}})
    head: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": request.is_binary}}
    if request.outputs is not None:
        head["outputs"] = [{"name": one.name, "parameters": {"binary_data": one.is_binary}} for one in request.outputs]
    text = codec.dumps(head)
    return framed(len(text), b"".join((text, *data)))


def cut_rows(request: InferRequest, most_units: int, record_bytes: int | None) -> list[tuple[int, int]]:
    """Where to cut the rows, as (start, end): each part has about `most_units`, or more where that would be too many parts.

    record_bytes  for a model that tokenises, whose unit is a byte of text: the bytes of a row that it looks at. Else None, and the
                  unit is a row
    """
    ends = np.cumsum(row_units(request, record_bytes))
    most_units = max(most_units, math.ceil(ends[-1] / MAX_PARTS))
    cuts = [0]
    while cuts[-1] < request.num_rows:
        taken = ends[cuts[-1] - 1] if cuts[-1] else 0
        end = int(np.searchsorted(ends, taken + most_units, side="right"))
        cuts.append(max(end, cuts[-1] + 1))
    return list(pairwise(cuts))


def row_units(request: InferRequest, record_bytes: int | None) -> np.ndarray:
    """What each row counts: int64 [N], at least 1."""
    texts = [array for array in request.tensors.values() if array.dtype == STRINGS]
    if record_bytes is None or not texts:
        return np.ones(request.num_rows, np.int64)
    lengths = [sum(map(len, row)) for array in texts for row in array.reshape(request.num_rows, -1).tolist()]
    return np.clip(np.reshape(lengths, (len(texts), -1)).sum(axis=0), 1, record_bytes)
