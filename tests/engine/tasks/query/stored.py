"""Small datasets on disk for the tests of queries: real segments, written from Python rows."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.tasks.query import words
from engine.tasks.query.database import Database
from engine.tasks.query.helping import Helper
from engine.tasks.query.output import Result
from engine.tasks.query.request import Request
from engine.tasks.query.running import run
from engine.tasks.query.segments import PAYLOAD, PAYLOAD_ROWS, ColumnInfo, Segment, Source
from engine.tasks.query.tql import parse

# A new one costs 30 ms.
DATABASE = Database()
Row = dict[str, Any]


@dataclass(slots=True)
class Unstoppable:
    """The control of a query that nobody stops."""

    helper: Helper | None = None

    def check(self) -> None:
        """Never raises."""

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        """Nobody interrupts."""


def columns_of(**dtypes: str) -> tuple[ColumnInfo, ...]:
    """`text="string words"`, `v="vector 3"`, `genre="class fiction news"`, `tags="list<string>"`."""
    return tuple(_column(number, name, *written.split()) for number, (name, written) in enumerate(dtypes.items()))


def _column(number: int, name: str, dtype: str, *rest: str) -> ColumnInfo:
    if dtype == "vector":
        return ColumnInfo(number, name, dtype, dim=int(rest[0]))
    return ColumnInfo(number, name, dtype, names=rest if dtype == "class" else (), words="words" in rest and dtype == "string")


def store(folder: Path, columns: Sequence[ColumnInfo], rows: Sequence[Row], *, title: str = "ann/facts@1", cuts: int = 1) -> Source:
    """A source of these rows, in `cuts` segments of about equal size."""
    edges = [len(rows) * i // cuts for i in range(cuts + 1)]
    segments = [_write(folder / uuid.uuid4().hex, columns, rows[start:stop]) for start, stop in pairwise(edges)]
    return Source(title, tuple(columns), tuple(segments))


def _write(folder: Path, columns: Sequence[ColumnInfo], rows: Sequence[Row]) -> Segment:
    folder.mkdir(parents=True)
    payload: dict[str, pa.Array] = {}
    for column in columns:
        values = [row.get(column.name) for row in rows]
        if column.dtype == "vector":
            _write_vectors(folder, column, values)
            continue
        if column.dtype == "class":
            values = [None if value is None else column.names.index(value) for value in values]
        payload[column.field] = pa.array(values, column.arrow_type)
        if column.words:
            words.write(folder, column, pa.chunked_array([payload[column.field]]))
    table = pa.table(payload)
    with pa.OSFile(str(folder / PAYLOAD), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=PAYLOAD_ROWS)
    return Segment(folder, len(rows))


def _write_vectors(folder: Path, column: ColumnInfo, values: list[Any]) -> None:
    vectors = np.zeros((len(values), column.dim), dtype=np.float32)
    norms = np.full(len(values), np.nan, dtype=np.float32)
    for i, value in enumerate(values):
        if value is not None:
            vectors[i] = value
            norms[i] = np.linalg.norm(vectors[i].astype(np.float64))
    vectors.tofile(folder / f"{column.field}.f32")
    norms.tofile(folder / f"{column.field}.norm")


def answer(text: str, sources: Any, params: Any = None, *, embedded: Any = None, format: str | None = "json") -> Result:
    """The result of a text. `sources` is the default dataset, or sources by name."""
    by_name = sources if isinstance(sources, dict) else {None: sources}
    parsed = parse(text, has_default_source=None in by_name)
    return run(parsed, Request(text, params=params, format=format), by_name, embedded or {}, Unstoppable(), DATABASE)


def rows_of(text: str, sources: Any, params: Any = None, **options: Any) -> list[Row]:
    """The rows of a text as Python values."""
    result = answer(text, sources, params, **options)
    names = [column.name for column in result.columns]
    return [dict(zip(names, row.values(), strict=True)) for batch in result.batches for row in batch.to_pylist()]
