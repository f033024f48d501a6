"""From the values of one field to an Arrow array of the column's type; values that do not fit are faults, and null in the array.

Values are what a JSON reader makes of a field. Each type has a quick way, for a column whose values all have the one right kind,
and a careful way value by value (single_values.py), which finds the misfits. Knows no lines and no files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.tasks.ingestion.inference import NOTHING
from engine.tasks.ingestion.schema import UploadColumn
from engine.tasks.ingestion.single_values import READERS, Misfit
from engine.tasks.query.segments import ColumnInfo, Vectors

# A time of RFC 3339 that Arrow reads as well.
_PLAIN_TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
# 0001-01-01 to the end of 9999, in microseconds of 1970: what datetime can hold, and so what can be written again.
_FIRST_INSTANT, _LAST_INSTANT = -62_135_596_800_000_000, 253_402_300_799_999_999


@dataclass(slots=True)
class Converted:
    """One column of a block.

    column  with the type that the array has: wider than asked, where integers met floats
    array   one entry for each row; a vector column has float32 lists of its length
    faults  row -> why its value does not fit
    """

    column: UploadColumn
    array: pa.Array
    faults: dict[int, str] = field(default_factory=dict)


def convert(column: UploadColumn, values: Sequence[Any]) -> Converted:
    """The values of one field as an array; None stands for null and for a missing field."""
    kinds = set(map(type, values)) - {NOTHING}
    if not kinds:
        return Converted(column, pa.nulls(len(values), _staged_type(column.info)))
    column = _widened(column, values, kinds)
    array = _QUICK[_family(column.info)](column.info, values, kinds)
    return _carefully(column, values) if array is None else Converted(column, array)


def spread(converted: Converted, rows: list[int], num_rows: int) -> Converted:
    """The column of all rows, from that of a few.

    rows  the row of each entry, ascending; all others are null
    """
    places = np.full(num_rows, -1, np.int64)
    places[rows] = np.arange(len(rows))
    array = converted.array.take(pa.array(places, mask=places < 0))
    return Converted(converted.column, array, {rows[i]: reason for i, reason in converted.faults.items()})


def _family(info: ColumnInfo) -> str:
    return "list" if info.dtype.startswith("list<") else info.dtype


def _staged_type(info: ColumnInfo) -> pa.DataType:
    """Labels stay strings until the upload is sealed: only then are the numbers of all labels known."""
    return pa.string() if info.dtype == "class" else info.arrow_type


def _widened(column: UploadColumn, values: Sequence[Any], kinds: set[type]) -> UploadColumn:
    """The column as floats, if its integers may widen and there are floats among the values."""
    if column.is_fixed:
        return column
    dtype = column.info.dtype
    is_widened = dtype == "int64" and float in kinds
    if dtype == "list<int64>" and list in kinds:
        is_widened = float in set(map(type, chain.from_iterable(value for value in values if type(value) is list)))
    return replace(column, info=replace(column.info, dtype=dtype.replace("int64", "float64"))) if is_widened else column


# The quick way: an array, or None where something is not plain


def _quick_scalars(info: ColumnInfo, values: Sequence[Any], kinds: set[type]) -> pa.Array | None:
    if not kinds <= _PLAIN_KINDS[info.dtype]:
        return None
    try:
        return pa.array(values, _staged_type(info))
    except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):  # an integer that is too large
        return None


_PLAIN_KINDS: dict[str, set[type]] = {
    "bool": {bool},
    "int64": {int},
    "float64": {int, float},
    "string": {str},
    "class": {str},
}


def _quick_list(info: ColumnInfo, values: Sequence[Any], kinds: set[type]) -> pa.Array | None:
    if kinds != {list}:
        return None
    items = set(map(type, chain.from_iterable(value for value in values if value is not None))) - {NOTHING}
    if not items <= _PLAIN_KINDS[info.dtype[5:-1]]:
        return None
    try:
        return pa.array(values, info.arrow_type)
    except (OverflowError, pa.ArrowInvalid):
        return None


def _quick_vector(info: ColumnInfo, values: Sequence[Any], kinds: set[type]) -> pa.Array | None:
    if kinds != {list}:
        return None
    lists = [value for value in values if value is not None]
    if set(map(len, lists)) != {info.dim} or not set(map(type, chain.from_iterable(lists))) <= {int, float}:
        return None
    try:
        numbers = np.fromiter(chain.from_iterable(lists), np.float64, len(lists) * info.dim)
    except OverflowError:
        return None
    with np.errstate(over="ignore"):
        flat = numbers.astype(np.float32)
    if not np.isfinite(flat).all():
        return None
    return vector_array(flat, info.dim, np.array([value is not None for value in values]))


def _quick_timestamp(info: ColumnInfo, values: Sequence[Any], kinds: set[type]) -> pa.Array | None:
    if kinds != {str}:
        return None
    texts = pa.array(values, pa.string())
    if not pc.all(pc.match_substring_regex(texts, _PLAIN_TIMESTAMP)).as_py():
        return None
    try:
        instants = texts.cast(info.arrow_type)
    except pa.ArrowInvalid:
        return None
    bounds = pc.min_max(instants.cast(pa.int64())).as_py()
    return instants if bounds["min"] >= _FIRST_INSTANT and bounds["max"] <= _LAST_INSTANT else None


def _never_quick(info: ColumnInfo, values: Sequence[Any], kinds: set[type]) -> pa.Array | None:
    return None


_QUICK: dict[str, Callable[[ColumnInfo, Sequence[Any], set[type]], pa.Array | None]] = {
    **dict.fromkeys(_PLAIN_KINDS, _quick_scalars),
    "list": _quick_list,
    "vector": _quick_vector,
    "timestamp": _quick_timestamp,
    "date": _never_quick,
    "bytes": _never_quick,
    "json": _never_quick,
}


def vector_array(flat: Vectors, dim: int, is_there: np.ndarray) -> pa.Array:
    """Vectors as fixed-size lists.

    flat      float32 [k * dim], the vectors one after the other
    is_there  bool [rows], k times true: whether the row has a vector or is null
    """
    if not is_there.all():
        filled = np.zeros((len(is_there), dim), np.float32)
        filled[is_there] = flat.reshape(-1, dim)
        flat = filled.reshape(-1)
    mask = None if is_there.all() else pa.array(~is_there)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=pa.list_(pa.float32(), dim), mask=mask)


# The careful way


def _carefully(column: UploadColumn, values: Sequence[Any]) -> Converted:
    """Each value on its own."""
    read = READERS[_family(column.info)]
    faults: dict[int, str] = {}
    fitting: list[Any] = [None] * len(values)
    for i, value in enumerate(values):
        if value is not None:
            try:
                fitting[i] = read(column.info, value)
            except Misfit as misfit:
                faults[i] = str(misfit)
    if column.info.dtype != "vector":
        return Converted(column, pa.array(fitting, _staged_type(column.info)), faults)
    vectors = [vector for vector in fitting if vector is not None]
    flat = np.concatenate(vectors) if vectors else np.empty(0, np.float32)
    is_there = np.array([vector is not None for vector in fitting], bool)
    return Converted(column, vector_array(flat, column.info.dim, is_there), faults)
