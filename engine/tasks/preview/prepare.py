"""The task `prepare`: all rows of a split become segments, in one pass, or in three when later rows make columns wider."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from engine.frames import Header
from engine.tasks.ingestion.segment_files import write_segments
from engine.tasks.preview import arrays
from engine.tasks.preview.batches import batches
from engine.tasks.preview.columns import CLASS, JSON, NUMBER, WHOLE, Column, Seen, columns, of_values
from engine.tasks.preview.failures import ParserError, failing_as
from engine.tasks.preview.features import dtype_of
from engine.tasks.preview.reading import SplitReader, opened_split, widened_columns
from engine.tasks.query.segments import PAYLOAD_ROWS, ROWS, ColumnInfo

LEAST_FREE_BYTES = 1024 * 1024 * 1024
# Of a piece, which is a row group of rows.parquet: a page of `/v2/rows` reads whole groups.
PIECE_BYTES = 16 * 1024 * 1024


class TooLargeToPrepare(ValueError):
    """The files of the split are larger than a setting allows."""


class NewColumn(Exception):
    """A row has a field that no row of the sample had."""


def prepare(header: Header) -> Header:
    """The docstring of the family has header and answer. Failed."""
    staging = Path(header["staging"])
    if shutil.disk_usage(staging).free < LEAST_FREE_BYTES:
        return {"full": True}
    with opened_split(header) as reader, failing_as("RowsError"):
        _check_size(reader)
        asked = widened_columns(header)
        first = reader.columns(asked)
        work = Work(reader, staging)
        try:
            found = first
            work.write(found, None)
        except (arrays.RowMisfit, NewColumn):
            found = widest(reader, first)
            work = Work(reader, staging)
            work.write(found, ParserError)
        return _told(work, found, _wider_than(first, found, asked))


def _check_size(reader: SplitReader) -> None:
    limit = reader.limits.prepare_bytes
    if limit == 0:
        raise TooLargeToPrepare("preparing is switched off")
    if reader.num_bytes > limit:
        raise TooLargeToPrepare(f"the split has {reader.num_bytes:,} bytes, and at most {limit:,} are prepared")


@dataclass(slots=True)
class Work:
    """One pass over the split.

    stored  the columns as segments have them
    """

    reader: SplitReader
    staging: Path
    stored: list[ColumnInfo] = field(default_factory=list)
    segments: list[Header] = field(default_factory=list)
    memory_bytes: int = 0

    def write(self, found: Sequence[Column], on_misfit: type[ParserError] | None) -> None:
        """RowMisfit and NewColumn; ParserError with the line in their place if that is asked for."""
        shutil.rmtree(self.staging / "segments", ignore_errors=True)
        self.stored = [_stored(number, column) for number, column in enumerate(found)]
        self.segments = write_segments(self.staging, self.stored, self._pieces(found, on_misfit))

    def _pieces(self, found: Sequence[Column], on_misfit: type[ParserError] | None) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for table in self._tables(found, on_misfit):
            waiting.append(table)
            if sum(one.num_rows for one in waiting) >= PAYLOAD_ROWS or sum(one.nbytes for one in waiting) >= PIECE_BYTES:
                *full, rest = self._cut(pa.concat_tables(waiting))
                yield from full
                waiting = [rest]
        if waiting:
            yield from self._cut(pa.concat_tables(waiting))

    def _cut(self, table: pa.Table) -> Iterator[pa.Table]:
        """Equal pieces, but for the last, which may be empty."""
        size = max(1, min(PAYLOAD_ROWS, table.num_rows * PIECE_BYTES // max(1, table.nbytes)))
        for start in range(0, table.num_rows + 1 if table.num_rows % size == 0 else table.num_rows, size):
            yield table.slice(start, size).combine_chunks()

    def _tables(self, found: Sequence[Column], on_misfit: type[ParserError] | None) -> Iterator[pa.Table]:
        storing = self.reader.storing()
        schema = pa.schema([(info.field, info.arrow_type) for info in self.stored])
        known = {column.name for column in found}
        for batch in batches(self.reader):
            if strange := [name for name in batch.columns if name not in known]:
                raise on_misfit(f"the column {strange[0][:100]!r} comes too late") if on_misfit else NewColumn
            try:
                made = [batch.array(column, storing) for column in found]
            except arrays.RowMisfit as misfit:
                if on_misfit is None:
                    raise
                where = batch.where(misfit.row)
                raise on_misfit(f"{where}: the value of {misfit.column[:100]!r} does not fit the rows before") from None
            # A table without columns has no rows, however many objects without fields there are.
            if made:
                table = pa.table(made, schema=schema)
                self.memory_bytes += table.nbytes
                yield table


def _stored(number: int, column: Column) -> ColumnInfo:
    return ColumnInfo(number, column.name, column.dtype, names=column.labels if column.dtype == "class" else ())


# Wider columns


def widest(reader: SplitReader, first: Sequence[Column]) -> list[Column]:
    """The columns that hold all rows of the split, where there are such."""
    seen: dict[str, Seen] = {}
    storing = reader.storing()
    by_name = {column.name: column for column in first}
    bad: set[str] = set()
    for batch in batches(reader):
        for name in batch.columns:
            if name not in by_name or not by_name[name].is_media:
                batch.see(name, seen.setdefault(name, Seen()))
        for column in first:
            if column.name not in bad and not column.is_media and not batch.fits(column, storing):
                bad.add(column.name)
    wider = {name: _wider(by_name[name], seen[name], reader.is_text) if name in bad else by_name[name] for name in by_name}
    return columns(reader.names, seen, {}, wider, is_text=reader.is_text, is_typed=False)


def _wider(column: Column, seen: Seen, is_text: bool) -> Column:
    """The column with a type that takes all values, if it may have that; else as it is, so that the next pass finds the line."""
    if column.type == CLASS:
        return replace(column, dtype="int64")
    found = replace(of_values(column.name, seen, is_text=is_text), is_declared=column.is_declared)
    is_empty = column.type == JSON and dtype_of(column.feature) == "null"
    if is_text or is_empty or (column.type, found.type) == (WHOLE, NUMBER):
        return found
    if column.type == JSON:
        # Shown as before; only stored as its text from now on.
        return replace(column, dtype=found.dtype if found.type == JSON and found.dtype.startswith("list<") else "json")
    if column.type == WHOLE and found.type == WHOLE:
        return replace(column, dtype="json")
    return column


def _wider_than(first: Sequence[Column], found: Sequence[Column], asked: Mapping[str, Column]) -> dict[str, Header]:
    """What `rows` must be asked with to have the same columns."""
    before = {column.name: column for column in first}
    changed = {column.name: column for column in found if before.get(column.name) != column}
    return {name: column.header() for name, column in {**asked, **changed}.items()}


# The answer


def _told(work: Work, found: Sequence[Column], widened: Mapping[str, Header]) -> Header:
    folder = work.staging / "segments"
    parquet_bytes = sum(os.stat(folder / one["id"] / ROWS).st_size for one in work.segments)
    numbers = {
        "num_bytes": work.reader.num_bytes,
        "num_examples": sum(one["rows"] for one in work.segments),
        "num_columns": len(found),
        "parquet_bytes": parquet_bytes,
        "memory_bytes": work.memory_bytes,
    }
    infos = [{**info.as_json(), "nulls": sum(one["nulls"][info.number] for one in work.segments)} for info in work.stored]
    return {
        "segments": work.segments,
        "columns": [column.header() for column in found],
        "segment_columns": infos,
        "numbers": numbers,
        "widened": dict(widened),
    }
