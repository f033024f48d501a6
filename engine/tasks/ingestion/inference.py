"""The type of a column, from the values that the first rows have. Values are what a JSON reader makes of one field."""

import binascii
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from engine.tasks.query.segments import Vectors

# A type as in ColumnInfo: dtype, and dim of a vector, else 0.
Type = tuple[str, int]

NOTHING = type(None)
# Shorter arrays of numbers are lists, such as a pair of coordinates.
LEAST_DIM = 8
# What takes any value; also the type of a column that has no values to tell by.
ANYTHING: Type = ("json", 0)
_KINDS: dict[frozenset[type], str] = {
    frozenset({bool}): "bool",
    frozenset({int}): "int64",
    frozenset({float}): "float64",
    frozenset({int, float}): "float64",
    frozenset({str}): "string",
}


def inferred(values: Sequence[Any]) -> Type | None:
    """The type that fits these values; None where all are null or empty arrays."""
    kinds = frozenset(map(type, values)) - {NOTHING}
    if not kinds:
        return None
    if kinds in _KINDS:
        return _KINDS[kinds], 0
    if kinds <= {list, dict}:
        return _inferred_arrays([value for value in values if value is not None])
    return ANYTHING


def _inferred_arrays(values: list[Any]) -> Type | None:
    """The type of arrays and objects: a vector, a list, or JSON."""
    if dim := _common_dim(values):
        return "vector", dim
    if dict in set(map(type, values)):
        return ANYTHING
    kinds = frozenset(map(type, chain.from_iterable(values))) - {NOTHING}
    if not kinds:
        return None if not any(values) else ANYTHING
    return (f"list<{_KINDS[kinds]}>", 0) if kinds in _KINDS else ANYTHING


def _common_dim(values: list[Any]) -> int:
    """The length of these values if they are vectors of one length, else 0. Vectors in base64 may be shorter than arrays."""
    lists = [value for value in values if type(value) is list]
    packed = [unpacked(value) for value in values if type(value) is dict]
    vectors = [vector for vector in packed if vector is not None]
    dims = {*map(len, lists), *map(len, vectors)}
    if len(vectors) < len(packed) or len(dims) != 1 or not frozenset(map(type, chain.from_iterable(lists))) <= {int, float}:
        return 0
    [dim] = dims
    return dim if packed or dim >= LEAST_DIM else 0


def unpacked(value: dict[str, Any]) -> Vectors | None:
    """The vector of `{"b64": "<little-endian float32>", "dtype": "f32"}`, at least one number; None for any other object.

    As in the parameters of a query, `dtype` may be missing.
    """
    text = value.get("b64")
    if not value.keys() <= {"b64", "dtype"} or value.get("dtype", "f32") != "f32" or type(text) is not str:
        return None
    try:
        data = binascii.a2b_base64(text.encode(), strict_mode=True)
    except ValueError:
        return None
    return np.frombuffer(data, dtype="<f4").astype(np.float32) if data and len(data) % 4 == 0 else None
