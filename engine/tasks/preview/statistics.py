"""The task `statistics`: what the columns of a prepared split hold, one column after the other."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.frames import Buffer, Header
from engine.tasks import codec
from engine.tasks.preview import figures, pictures, sounds
from engine.tasks.preview.answers import etag, packed
from engine.tasks.preview.columns import ADDRESS, CLASS, JSON, NUMBER, PICTURE, SOUND, STRING, TRUTH, WHOLE, Column
from engine.tasks.preview.failures import failing_as
from engine.tasks.preview.features import kind_of
from engine.tasks.preview.files import Folder
from engine.tasks.preview.prepared import Segments

Told = tuple[str, dict[str, Any]]

MICROS_A_DAY = 86_400_000_000
MAX_DAYS = (2**63 - 1) // MICROS_A_DAY


def statistics(header: Header) -> tuple[Header, list[Buffer]]:
    """The docstring of the family has header and answer. Failed."""
    columns = [Column.from_header(one) for one in header["columns"]]
    with failing_as("RowsError"), Folder.at(header["folder"]) as folder:
        rows = Segments(folder, header["segments"], columns)
        found = [_entry(column, *told) for column in columns if (told := _of_column(rows, column)) is not None]
        body = codec.dumps({"num_examples": rows.num_rows, "statistics": found, "partial": False})
    bodies: list[Buffer] = [body, packed(body)]
    return {"sizes": [len(one) for one in bodies], "etag": etag(body)}, bodies


def _entry(column: Column, kind: str, figures: dict[str, Any]) -> Header:
    return {"column_name": column.name, "column_type": kind, "column_statistics": figures}


def _of_column(rows: Segments, column: Column) -> Told | None:
    """The kind and the figures of a column; None for a kind of value that has none."""
    make = _MAKERS.get(column.type, lambda rows, column: None)
    return make(rows, column)


def _values(rows: Segments, column: Column, change: Callable[[pa.Array], pa.Array] | None = None) -> figures.Values:
    """The column, each batch changed."""

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows.column_batches(column):
            yield batch if change is None else pa.record_batch([change(batch.column(0))], names=["v"])

    return batches


def _class(rows: Segments, column: Column) -> Told:
    return "class_label", figures.labels(_values(rows, column), rows.num_rows, column.labels)


def _texts(rows: Segments, column: Column) -> Told:
    return figures.texts(_values(rows, column), rows.num_rows)


def _whole(rows: Segments, column: Column) -> Told:
    if column.dtype == "json":  # integers that 64 bits with a sign do not hold
        return "int", figures.numbers(pa.float64(), _values(rows, column, lambda one: one.cast(pa.float64())), rows.num_rows)
    return "int", figures.numbers(pa.int64(), _values(rows, column), rows.num_rows)


def _number(rows: Segments, column: Column) -> Told:
    return "float", figures.numbers(pa.float64(), _values(rows, column), rows.num_rows)


def _truth(rows: Segments, column: Column) -> Told:
    return "bool", figures.truths(_values(rows, column), rows.num_rows)


def _json(rows: Segments, column: Column) -> Told | None:
    """Lists by their lengths, times by when they are; objects and mixtures have no figures."""
    if column.dtype in ("timestamp", "date"):
        return "datetime", figures.instants(_values(rows, column, _micros), rows.num_rows)
    if kind_of(column.feature) == "List":
        lengths = _json_lengths if column.dtype == "json" else _list_lengths
        return "list", figures.numbers(pa.int64(), _values(rows, column, lengths), rows.num_rows)
    return None


def _micros(array: pa.Array) -> pa.Array:
    """Microseconds since 1970; null for a date beyond what these can say, 292,000 years away."""
    if pa.types.is_date32(array.type):
        days = array.cast(pa.int32()).cast(pa.int64())
        return pc.multiply(pc.if_else(pc.less_equal(pc.abs(days), MAX_DAYS), days, None), MICROS_A_DAY)
    return array.cast(pa.timestamp("us", "UTC") if pa.types.is_timestamp(array.type) else pa.timestamp("us")).cast(pa.int64())


def _list_lengths(array: pa.Array) -> pa.Array:
    return pc.list_value_length(array).cast(pa.int64())


def _json_lengths(array: pa.Array) -> pa.Array:
    return pa.array([None if one is None else _length(codec.parse_exactly(one.encode())) for one in array.to_pylist()], pa.int64())


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _picture(rows: Segments, column: Column) -> Told:
    """By widths in pixels."""

    def widths(array: pa.Array) -> pa.Array:
        sizes = [pictures.size_of(one) if one else None for one in array.to_pylist()]
        return pa.array([size[0] if size else None for size in sizes], pa.int64())

    return "image", figures.numbers(pa.int64(), _values(rows, column, widths), rows.num_rows)


def _sound(rows: Segments, column: Column) -> Told:
    """By lengths in seconds, of the sounds that say it in their first bytes."""

    def seconds(array: pa.Array) -> pa.Array:
        return pa.array([sounds.seconds_of(one) if one else None for one in array.to_pylist()], pa.float64())

    return "audio", figures.numbers(pa.float64(), _values(rows, column, seconds), rows.num_rows)


_MAKERS: dict[str, Callable[[Segments, Column], Told | None]] = {
    CLASS: _class,
    STRING: _texts,
    ADDRESS: _texts,
    WHOLE: _whole,
    NUMBER: _number,
    TRUTH: _truth,
    JSON: _json,
    PICTURE: _picture,
    SOUND: _sound,
}
