"""Taking: the values of chosen rows, from the mapped files of a source. For tables that DuckDB reads, and for the output.

Knows no SQL.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from engine.tasks.query.bound import Field, Score, Taken
from engine.tasks.query.datatypes import arrow_type
from engine.tasks.query.segments import ColumnInfo, Source
from engine.tasks.query.vectors import Rows, gather

# Up to this many rows, cutting each out by itself takes less time than putting them into the order of the chunks.
FEW_ROWS = 32
NAIVE = pa.timestamp("us")


def taken_column(taken: Taken, leaf: Field, part: slice) -> pa.Array:
    """A stored column, or the row number, of a part of the chosen rows, in the type of the output."""
    rows = row_numbers(taken, part)
    if leaf == taken.scan.row:
        return pa.array(rows)
    if leaf.column is None:
        raise TypeError("this is a bug: only stored columns can be taken")
    if leaf.type.name == "vector":
        return vector_array(taken.scan.source, leaf.column, rows)
    stored = taken.scan.source.table.column(leaf.column.field)
    if taken.rows is None:
        return _joined(stored.slice(part.start, part.stop - part.start)).cast(arrow_type(leaf.type))
    return take_rows(stored, rows)


def row_numbers(taken: Taken, part: slice) -> Rows:
    return np.arange(part.start, min(part.stop, taken.num_rows)) if taken.rows is None else taken.rows[part]


def vector_array(source: Source, column: ColumnInfo, rows: Rows) -> pa.Array:
    """The vectors of these rows, of a fixed size; -1 is a row that is null."""
    side = gather(source.vectors(column), rows)
    values = pa.array(np.ascontiguousarray(side.vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, column.dim, mask=pa.array(np.isnan(side.norms)))


def take_rows(column: pa.ChunkedArray, rows: Rows) -> pa.Array:
    """The values of these rows in their order. Each chunk gives its own: `take` of the whole would join all chunks first."""
    if 0 < len(rows) <= FEW_ROWS:
        return pa.concat_arrays([column.slice(row, 1).chunk(0) for row in rows.tolist()])
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])
    parts: list[pa.Array] = []
    edges = np.searchsorted(ascending, starts)
    for i in np.flatnonzero(np.diff(edges)):
        parts.append(column.chunk(int(i)).take(pa.array(ascending[edges[i] : edges[i + 1]] - starts[i])))
    if not parts:
        return pa.nulls(0, column.type)
    taken = pa.concat_arrays(parts)
    places = np.empty(len(rows), dtype=np.int64)
    places[order] = np.arange(len(rows))
    return taken if np.array_equal(order, places) and (order == np.arange(len(rows))).all() else taken.take(pa.array(places))


def score_array(scores: Any) -> pa.Array:
    """float32 with NaN as null."""
    return pa.array(scores, pa.float32(), mask=np.isnan(scores))


def table_of(taken: Taken, wanted: dict[str, Field | Score | None], scores: dict[Field | Score, Any]) -> pa.Table:
    """The wanted columns by the names of a statement; None is the mask of the chosen rows.

    scores  float32 [N] for each score that is wanted, in the order of the chosen rows
    """
    columns: dict[str, Any] = {}
    for name, leaf in wanted.items():
        if leaf is None:
            columns[name] = pa.array(_mask(taken))
        elif leaf in scores:
            columns[name] = score_array(_spread(taken, scores[leaf]))
        elif leaf == taken.position:
            columns[name] = pa.array(np.arange(taken.num_rows))
        elif isinstance(leaf, Field):
            columns[name] = _stored(taken, leaf)
    return pa.table(columns)


def _mask(taken: Taken) -> Any:
    mask = np.zeros(taken.scan.source.num_rows, dtype=bool)
    mask[taken.rows] = True
    return mask


def _spread(taken: Taken, scores: Any) -> Any:
    """The scores for a table of all rows; a row that is not chosen has NaN."""
    if not taken.is_masked:
        return scores
    spread = np.full(taken.scan.source.num_rows, np.nan, dtype=np.float32)
    spread[taken.rows] = scores
    return spread


def _stored(taken: Taken, leaf: Field) -> Any:
    source, scan = taken.scan.source, taken.scan
    is_whole = taken.rows is None or taken.is_masked
    if leaf == scan.row:
        return pa.array(np.arange(source.num_rows) if is_whole else taken.rows)
    if leaf.column is None:
        raise TypeError("this is a bug: a table holds stored columns, scores and positions")
    if leaf.type.name == "vector":
        return _mapped_vectors(source, leaf.column) if is_whole else vector_array(source, leaf.column, taken.rows)
    stored = source.table.column(leaf.column.field)
    column = stored if is_whole else pa.chunked_array([take_rows(stored, taken.rows)])
    return _without_zone(column)


def _mapped_vectors(source: Source, column: ColumnInfo) -> pa.ChunkedArray:
    """All vectors of a column, not copied."""
    chunks = [
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), column.dim, mask=pa.array(np.isnan(norms)))
        for vectors, norms in source.vectors(column)
    ]
    return pa.chunked_array(chunks, pa.list_(pa.float32(), column.dim))


def _without_zone(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A time in UTC as a plain time: DuckDB needs an extension for times with zones, and it may load none here."""
    if pa.types.is_timestamp(column.type):
        return column.cast(NAIVE)
    if pa.types.is_list(column.type) and pa.types.is_timestamp(column.type.value_type):
        return column.cast(pa.list_(NAIVE))
    return column


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """A slice of a column, as one array; mostly it lies in one batch or two."""
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)
