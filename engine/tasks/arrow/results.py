"""Results as record batches: the schema of an answer, and the columns of its rows."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.tasks.arrow.reading import ID, TEXTS, is_any
from engine.tasks.codec import MAX_ID_CHARACTERS, Fault
from engine.tasks.scoring.arrays import ANY
from engine.tasks.scoring.results import ResultColumn

CODE, ERROR = "code", "error"
OWN = (ID, CODE, ERROR)
# A made id has so many bytes, which are twice as many hex digits.
ID_BYTES = 16
BAD_ID = Fault("invalid_yhat_id", "yhat_id must be a string or a number of at most 1024 characters")


@dataclass(slots=True)
class Part:
    """The results of some rows.

    places   int64 [M]: which rows of the block they are
    columns  one for each ResultColumn, with M values
    """

    places: np.ndarray
    columns: list[pa.Array]


# Types


def id_type(schema: pa.Schema) -> pa.DataType:
    """The type of the ids in the answer: numbers stay as they are, and everything else is a string."""
    place = schema.get_field_index(ID)
    kind = schema.field(place).type if place >= 0 else pa.string()
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind if pa.types.is_integer(kind) or pa.types.is_floating(kind) else pa.string()


def answer_schema(ids: pa.DataType, columns: Sequence[ResultColumn], metadata: dict[str, str]) -> pa.Schema:
    """The columns of the answer: the id, the results, and why a row has none."""
    results = [(f"{'result.' if one.name in OWN else ''}{one.name}", type_of(one)) for one in columns]
    return pa.schema([(ID, ids), *results, (CODE, pa.string()), (ERROR, pa.string())], metadata)


def type_of(column: ResultColumn) -> pa.DataType:
    """float16, which few programs read, becomes float32."""
    dtype = np.dtype(np.float32) if column.dtype == np.float16 else column.dtype
    kind = pa.string() if column.labels is not None or dtype.kind == "O" else pa.from_numpy_dtype(dtype)
    if column.keys:
        return pa.struct([(key, kind) for key in column.keys])
    for length in reversed(column.shape[1:]):
        kind = pa.list_(kind) if length == ANY else pa.list_(kind, length)
    return kind


# Values


def to_column(column: ResultColumn, array: np.ndarray) -> pa.Array:
    """An array of results [M, ...] as one column of its type."""
    if column.labels is not None and array.dtype.kind in "iu":
        return _labelled(column.labels, array)
    if column.keys:
        return pa.StructArray.from_arrays([_flat(array[:, i], type_of(column)[i].type) for i in range(array.shape[1])], column.keys)
    inner = type_of(column)
    for _ in column.shape[1:]:
        inner = inner.value_type
    values = _flat(array.reshape(-1), inner)
    for length, wanted in zip(reversed(array.shape[1:]), reversed(column.shape[1:]), strict=True):
        if wanted == ANY:
            count = len(values) // length if length else len(array)
            values = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * length), values)
        else:
            values = pa.FixedSizeListArray.from_arrays(values, length)
    return values


def _flat(array: np.ndarray, kind: pa.DataType) -> pa.Array:
    if array.dtype.kind in "OSU":
        return pa.array([one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in array.tolist()], kind)
    return pa.array(np.ascontiguousarray(array, kind.to_pandas_dtype()), kind)


def _labelled(labels: dict[int, str], array: np.ndarray) -> pa.Array:
    """The label of each integer; one without a label stays as it is, as text."""
    first = min(labels, default=0)
    texts = [labels.get(i) for i in range(first, max(labels, default=-1) + 1)] if len(labels) > (max(labels) - first) // 2 else []
    places = array.reshape(-1).astype(np.int64) - first
    if len(places) and None not in texts and places.min() >= 0 and places.max() < len(texts):
        return pa.array(texts, pa.string()).take(pa.array(places))
    return pa.array([labels.get(value, str(value)) for value in array.reshape(-1).tolist()], pa.string())


def joined(parts: Sequence[Part], columns: Sequence[ResultColumn], num_rows: int) -> list[pa.Array]:
    """The columns of all rows of a block, null where a row has no result."""
    if not parts:
        return [pa.nulls(num_rows, type_of(column)) for column in columns]
    places = np.concatenate([part.places for part in parts])
    wholes = [pa.concat_arrays([part.columns[i] for part in parts]) for i in range(len(columns))]
    if len(places) == num_rows and bool((places == np.arange(num_rows)).all()):
        return wholes
    order = np.full(num_rows, -1)
    order[places] = np.arange(len(places))
    indices = pa.array(order, mask=order < 0)
    return [whole.take(indices) for whole in wholes]


def fault_columns(faults: dict[int, Fault], num_rows: int) -> list[pa.Array]:
    """The columns `code` and `error`."""
    if not faults:
        return [pa.nulls(num_rows, pa.string())] * 2
    found = [faults.get(i) for i in range(num_rows)]
    return [pa.array([None if one is None else getattr(one, name) for one in found], pa.string()) for name in ("code", "reason")]


# Ids


def ids_of(rows: pa.RecordBatch, kind: pa.DataType) -> tuple[pa.Array, dict[int, Fault]]:
    """The id of each row, made up where a text is absent or empty, and the faults of ids that are too long."""
    place = rows.schema.get_field_index(ID)
    if place < 0 or pa.types.is_null(rows.column(place).type):
        return (_made(rows.num_rows), {}) if pa.types.is_string(kind) else (pa.nulls(rows.num_rows, kind), {})
    ids = rows.column(place)
    if not is_any(ids.type, TEXTS):
        return ids.cast(kind), {}
    ids = ids.cast(pa.string())
    sizes = pc.binary_length(ids).fill_null(0).to_numpy(zero_copy_only=False)
    too_long = [i for i in np.flatnonzero(sizes > MAX_ID_CHARACTERS).tolist() if len(ids[i].as_py()) > MAX_ID_CHARACTERS]
    is_made = sizes == 0
    is_made[too_long] = True
    if is_made.any():
        ids = pc.if_else(pa.array(is_made), _made(rows.num_rows), ids)
    return ids, dict.fromkeys(too_long, BAD_ID)


def _made(count: int) -> pa.Array:
    """32 random hex digits for each row."""
    digits = secrets.token_hex(ID_BYTES * count).encode()
    offsets = np.arange(count + 1, dtype=np.int32) * (2 * ID_BYTES)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(digits))
