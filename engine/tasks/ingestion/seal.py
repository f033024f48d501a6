"""The task `seal`: the blocks of an upload, typed and staged, become segments.

Only now are the columns settled: blocks in which integers met floats widen the others, labels get their numbers, and new columns
are numbered behind those that the dataset has by now.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.frames import Header
from engine.tasks.ingestion.columns import vector_array
from engine.tasks.ingestion.ingest import LINE_COLUMN, staged_path
from engine.tasks.ingestion.refusals import RefusedUpload, in_quotes
from engine.tasks.ingestion.schema import MAX_COLUMNS, MAX_NAMES, schema_from, type_name
from engine.tasks.ingestion.segment_files import pieces, with_columns, write_segments
from engine.tasks.ingestion.vectors import read_vectors, vectors_path
from engine.tasks.query.segments import ColumnInfo

_FLOATS = {"int64": "float64", "list<int64>": "list<float64>"}


@dataclass(frozen=True, slots=True)
class Staged:
    """One block in the staging folder; its table has columns `c<i>` by the numbers of the upload, and the lines."""

    number: int
    table: pa.Table

    def has(self, column: ColumnInfo) -> bool:
        """Whether a line of the block brings this column of the upload."""
        return bool(self.table.schema.get_field_index(column.field) >= 0)


def seal(header: Header) -> Header:
    """The docstring of the family has header and answer. RefusedUpload."""
    staging = Path(header["staging"])
    shutil.rmtree(staging / "segments", ignore_errors=True)  # of an attempt that was cut short
    blocks = [Staged(number, _read(staged_path(staging, number))) for number in header["blocks"]]
    uploaded = [_widest(column.info, blocks) for column in schema_from(header["schema"])]
    columns = _settled_columns(uploaded, [ColumnInfo.from_json(one) for one in header["existing"]])
    columns = [_with_names(column, uploaded, blocks) for column in columns]
    segments = write_segments(staging, columns, pieces(_rows(staging, blocks, uploaded, columns)))
    return {"segments": segments, "columns": [{**one.as_json(), "nulls": _num_nulls(one, segments)} for one in columns]}


def _read(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _num_nulls(column: ColumnInfo, segments: list[Header]) -> int:
    return sum(segment["nulls"][column.number] for segment in segments)


# Columns


def _widest(column: ColumnInfo, blocks: Sequence[Staged]) -> ColumnInfo:
    """The column with the type that holds the values of all blocks."""
    if column.dtype in _FLOATS:
        wide = replace(column, dtype=_FLOATS[column.dtype])
        if any(block.has(column) and block.table.schema.field(column.field).type == wide.arrow_type for block in blocks):
            return wide
    return column


def _settled_columns(uploaded: list[ColumnInfo], existing: list[ColumnInfo]) -> list[ColumnInfo]:
    """All columns of the dataset with these rows. RefusedUpload `type_mismatch`."""
    columns = list(existing)
    by_name = {column.name: column for column in existing}
    for column in uploaded:
        if column.name not in by_name:
            columns.append(replace(column, number=len(columns), names=()))
        elif not _fits(column, by_name[column.name]):
            there = type_name(by_name[column.name])
            text = f"Column {in_quotes(column.name)} of the dataset has {there} by now, which these rows do not fit."
            raise RefusedUpload("type_mismatch", text, column=column.name)
    if len(columns) > MAX_COLUMNS:
        raise RefusedUpload("type_mismatch", f"A dataset has at most {MAX_COLUMNS:,} columns.")
    return columns


def _fits(uploaded: ColumnInfo, there: ColumnInfo) -> bool:
    if _FLOATS.get(uploaded.dtype) == there.dtype:
        return True
    kinds = [(one.dtype, one.dim, one.source, one.model, one.words) for one in (uploaded, there)]
    return kinds[0] == kinds[1]


def _with_names(column: ColumnInfo, uploaded: list[ColumnInfo], blocks: Sequence[Staged]) -> ColumnInfo:
    """A class column with the labels of these rows behind those it had, as they appear. RefusedUpload when they are too many."""
    own = next((one for one in uploaded if one.name == column.name), None)
    if column.dtype != "class" or own is None:
        return column
    names = dict.fromkeys(column.names)
    for block in blocks:
        if not block.has(own):
            continue
        labels = block.table[own.field]
        names |= dict.fromkeys(pc.unique(labels).drop_null().to_pylist())
        if len(names) > MAX_NAMES:
            place = pc.index(labels, list(names)[MAX_NAMES]).as_py()
            line = block.table[LINE_COLUMN][place].as_py()
            text = f"{in_quotes(column.name)} has more than {MAX_NAMES:,} different labels."
            raise RefusedUpload("bad_row", text, line=line, column=column.name)
    return replace(column, names=tuple(names))


# Rows


def _rows(staging: Path, blocks: Sequence[Staged], uploaded: list[ColumnInfo], columns: list[ColumnInfo]) -> Iterator[pa.Table]:
    """The rows of each block, in the types of the columns and with computed vectors."""
    own = {column.name: column for column in uploaded}
    for block in blocks:
        whole = {column.field: _array(staging, block, column, own) for column in columns if column.name in own}
        there = {name: array for name, array in whole.items() if array is not None}
        yield from with_columns(there, block.table.num_rows, columns)


def _array(staging: Path, block: Staged, column: ColumnInfo, uploaded: dict[str, ColumnInfo]) -> pa.ChunkedArray | None:
    """The values of one column, if the block brings it."""
    own = uploaded[column.name]
    if own.source is not None:
        return _computed(staging, block, own, uploaded[own.source])
    if not block.has(own):
        return None
    array = block.table[own.field]
    if column.dtype == "class":
        return pc.index_in(array, value_set=pa.array(column.names, pa.string()), skip_nulls=True).cast(pa.int64())
    # Not safe: an integer beyond 2^53 becomes the nearest float.
    return array.cast(column.arrow_type, safe=False)


def _computed(staging: Path, block: Staged, column: ColumnInfo, source: ColumnInfo) -> pa.ChunkedArray | None:
    """The vectors of the texts of a block, if it has some."""
    if not block.has(source):
        return None
    has_text = pc.is_valid(block.table[source.field]).to_numpy()
    vectors = read_vectors(vectors_path(staging, block.number, column.number), int(has_text.sum()), column.dim)
    return pa.chunked_array([vector_array(vectors, column.dim, has_text)])
