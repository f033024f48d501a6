"""Values: columns of the output as Python values that JSON can write, or as Arrow columns that a client can read.

Works on whole columns of a record batch. Knows no body of an answer.
"""

import binascii
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.tasks import codec
from engine.tasks.query.output import OutputColumn
from engine.tasks.query.refusals import Refused

ClassLabels = Literal["names", "ids"]
Array = np.ndarray[Any, np.dtype[Any]]

# The years 1 to 9999, which RFC 3339 can write.
FIRST_TIME, END_TIME = np.datetime64("0001-01-01", "us"), np.datetime64("10000-01-01", "us")


def json_values(array: pa.Array, column: OutputColumn, class_labels: ClassLabels) -> list[Any]:
    """One value for each row, for codec.dumps; None for null, NaN and infinities. Refused when a time has no written form."""
    return _values(_typed(array, column.type), column.kind, column.names if class_labels == "names" else ())


def _values(array: pa.Array, kind: str, names: Sequence[str]) -> list[Any]:
    if kind.startswith("list"):
        return _lists(array, kind[5:-1] or _kind_of(array.type.value_type, names), names)
    match kind:
        case "vector":
            return _vectors(array)
        case "float64" | "float32":
            # A float32 is written as the double that is equal to it.
            return array.to_numpy(zero_copy_only=False).astype(np.float64).tolist()
        case "class":
            return _labels(array, names) if names else array.to_pylist()
        case "bytes":
            return [None if value is None else binascii.b2a_base64(value, newline=False).decode() for value in array.to_pylist()]
        case "timestamp" | "date":
            return _times(array, kind)
        case "json":
            return codec.as_written(array.to_pylist())
        case "null":
            return [None] * len(array)
    return array.to_pylist()


def _typed(array: pa.Array, type: pa.DataType) -> pa.Array:
    """The array in the type of its column: a sum of integers, for one, comes with more digits. Refused if a value does not fit."""
    if array.type.equals(type):
        return array
    try:
        return array.cast(type)
    except pa.ArrowInvalid:
        raise Refused("arithmetic_error", "A value is too large for its type.") from None


def _kind_of(type: pa.DataType, names: Sequence[str]) -> str:
    """The kind of the items of a list whose own kind does not say it."""
    if pa.types.is_fixed_size_list(type) and pa.types.is_float32(type.value_type):
        return "vector"
    if names and pa.types.is_integer(type):
        return "class"
    known = {
        "list": pa.types.is_nested(type),
        "float64": pa.types.is_floating(type),
        "bytes": pa.types.is_binary(type) or pa.types.is_large_binary(type),
        "timestamp": pa.types.is_timestamp(type),
        "date": pa.types.is_date(type),
        "null": pa.types.is_null(type),
    }
    return next((kind for kind, is_it in known.items() if is_it), "plain")


def _lists(array: pa.Array, kind: str, names: Sequence[str]) -> list[Any]:
    items = _values(array.flatten(), kind, names)
    return _parted(items, array)


def _vectors(array: pa.Array) -> list[Any]:
    """Rows of float32, which are written in the shortest form of a float32."""
    numbers = array.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if pa.types.is_fixed_size_list(array.type) and not array.null_count:
        return list(numbers.reshape(len(array), array.type.list_size))
    return _parted(numbers, array)


def _parted(items: Any, array: pa.Array) -> list[Any]:
    """The items of all lists, put together, as one sequence for each list; None for a null."""
    lengths = pc.list_value_length(array)
    ends = np.cumsum(lengths.fill_null(0).to_numpy()).tolist()
    parts = [items[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if array.null_count:
        return [None if length is None else part for part, length in zip(parts, lengths.to_pylist(), strict=True)]
    return parts


def _labels(array: pa.Array, names: Sequence[str]) -> list[str | None]:
    return [None if index is None else names[index] for index in array.to_pylist()]


def _times(array: pa.Array, kind: str) -> list[str | None]:
    """RFC 3339 in UTC, with microseconds where they are not 0; of a date, the day."""
    unit = "D" if kind == "date" else array.type.unit
    counts = (array.cast(pa.int32()) if kind == "date" else array).cast(pa.int64()).fill_null(0).to_numpy()
    _check_times(counts, unit)
    times = counts.astype(f"M8[{unit}]").astype("M8[us]")
    texts = np.datetime_as_string(times, unit="D" if kind == "date" else "us").tolist()
    if kind == "timestamp":
        texts = [text[:19] + "Z" if text.endswith(".000000") else text + "Z" for text in texts]
    if not array.null_count:
        return texts
    return [text if is_valid else None for text, is_valid in zip(texts, array.is_valid().to_pylist(), strict=True)]


def _check_times(counts: Array, unit: str) -> None:
    """Refused if one of the times, in units since 1970, is outside the years that can be written."""
    first, end = (int(bound.astype(f"M8[{unit}]").astype(np.int64)) for bound in (FIRST_TIME, END_TIME))
    if len(counts) and not (first <= counts.min() and counts.max() < end):
        raise Refused("arithmetic_error", "A time lies outside the years 1 to 9999.")


# Arrow


def arrow_values(array: pa.Array, column: OutputColumn, class_labels: ClassLabels) -> pa.Array:
    """The column as it goes to the client: of `arrow_type`."""
    array = _typed(array, column.type)
    return _with_names(array, pa.array(column.names, pa.string())) if column.names and class_labels == "names" else array


def arrow_type(column: OutputColumn, class_labels: ClassLabels) -> pa.DataType:
    """The type of the column for the client: labels by name are strings."""
    return _with_strings(column.type) if column.names and class_labels == "names" else column.type


def _with_names(array: pa.Array, names: pa.Array) -> pa.Array:
    if not pa.types.is_nested(array.type):
        return names.take(array)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, _with_names(array.flatten(), names), mask=array.is_null())


def _with_strings(type: pa.DataType) -> pa.DataType:
    return pa.list_(_with_strings(type.value_type)) if pa.types.is_nested(type) else pa.string()
