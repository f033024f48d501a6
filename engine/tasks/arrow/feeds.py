"""Columns to what a model takes: tensors without a detour where the columns are plain, and records for everything else."""

import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.tasks.arrow.reading import BINARIES, ID, LISTS, TEXTS, is_any
from engine.tasks.codec import Record
from engine.tasks.scoring.inputs import Input, Irregular

# numpy's kind of a tensor -> the columns whose values it takes as they are.
PLAIN = {
    "f": (pa.types.is_integer, pa.types.is_floating),
    "i": (pa.types.is_integer,),
    "u": (pa.types.is_integer,),
    "b": (pa.types.is_boolean,),
    "O": TEXTS,
}


class Feeds(NamedTuple):
    """The tensors of some rows.

    tensors       by name; the rows are along the first axis
    is_irregular  bool [N]: the tensors say nothing of these rows, which must be looked at as records; None if there is none
    """

    tensors: dict[str, np.ndarray]
    is_irregular: np.ndarray | None


def plain_feeds(inputs: Sequence[object], rows: pa.RecordBatch) -> Feeds | None:
    """The tensors of all rows; None if some input cannot be made of these columns."""
    tensors: dict[str, np.ndarray] = {}
    irregular: list[np.ndarray] = []
    try:
        for entry in inputs:
            if not isinstance(entry, Input) or (wanted := entry.wanted()) is None:
                return None
            columns = [_column(rows, key) for key in wanted.keys]
            tensors |= entry.from_plain(_tensor(columns, wanted.dtype, wanted.width, irregular))
    except Irregular:
        return None
    if not tensors:  # a model that does not say what its inputs are made of
        return None
    return Feeds(tensors, np.logical_or.reduce(irregular) if irregular else None)


def _column(rows: pa.RecordBatch, name: str) -> pa.Array:
    place = rows.schema.get_field_index(name)
    if place < 0:
        raise Irregular
    return rows.column(place)


def _tensor(columns: list[pa.Array], dtype: np.dtype, width: int, irregular: list[np.ndarray]) -> np.ndarray:
    """[N, columns], or [N, width] of one column of lists. Irregular."""
    if width:
        return _lists(columns[0], dtype, width, irregular)
    array = np.empty((len(columns[0]), len(columns)), dtype)
    for i, column in enumerate(columns):
        array[:, i] = _values(column, dtype, irregular)
    return array


def _values(column: pa.Array, dtype: np.dtype, irregular: list[np.ndarray]) -> np.ndarray:
    """[N] in the type of the tensor. Rows whose value is null or does not fit are noted. Irregular for another kind of values."""
    if not is_any(column.type, PLAIN[dtype.kind]):
        raise Irregular
    if column.null_count:
        irregular.append(column.is_null().to_numpy(zero_copy_only=False))
        column = column.fill_null("" if dtype.kind == "O" else False if dtype.kind == "b" else 0)
    if dtype.kind == "O":
        return np.array(column.to_pylist(), object)
    given = column.to_numpy(zero_copy_only=False)
    if given.dtype == dtype:
        return given
    with np.errstate(over="ignore", invalid="ignore"):
        values: np.ndarray = given.astype(dtype)
    is_lost = np.isinf(values) & ~np.isinf(given) if dtype.kind == "f" else _is_outside(given, dtype)
    if is_lost.any():
        irregular.append(is_lost)
    return values


def _is_outside(given: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "b":
        return np.zeros(len(given), np.bool_)
    limits = np.iinfo(dtype)
    outside: np.ndarray = (given < limits.min) | (given > limits.max)
    return outside


def _lists(column: pa.Array, dtype: np.dtype, width: int, irregular: list[np.ndarray]) -> np.ndarray:
    """[N, width]. Irregular unless every row has a list of so many values, none of them null."""
    if not is_any(column.type, LISTS) or column.null_count or not len(column):
        raise Irregular
    if set(np.unique(column.value_lengths().to_numpy(zero_copy_only=False)).tolist()) != {width}:
        raise Irregular
    values = column.flatten()
    if values.null_count:
        raise Irregular
    found: list[np.ndarray] = []
    array = _values(values, dtype, found).reshape(-1, width)
    irregular += [np.any(one.reshape(-1, width), axis=1) for one in found]
    return array


# Records


def records_of(rows: pa.RecordBatch) -> list[Record]:
    """The rows as objects, as if they had come as JSON; binary values as base64. The id is not among the fields."""
    names = [name for name in rows.schema.names if name != ID]
    columns = [_python(rows.column(name)) for name in names]
    return (
        [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        if names
        else [{} for _ in range(len(rows))]
    )


def _python(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if is_any(column.type, BINARIES):
        return [None if value is None else binascii.b2a_base64(value, newline=False).decode() for value in values]
    return values
