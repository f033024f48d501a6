"""A file of comma-separated values: UTF-8, perhaps with a byte order mark, and quotes as in RFC 4180.

pyarrow reads it in one thread, so that rows have numbers. Keys come as dictionaries, so that each distinct text is looked at once.
Numbers are parsed at once; only where that fails, or a problem was found, the file is read again as text.
"""

import csv
import io
import mmap
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.uploads.checks import MISSING, Cells
from engine.tasks.projects.uploads.files import MAX_HEAD_ROWS, Asked, Record
from engine.tasks.projects.uploads.problems import Problems
from engine.tasks.projects.uploads.repairing import RepairedFile

Array = np.ndarray

# A record must fit into one block; 2,000 names of 120 characters do.
BLOCK_BYTES = 4 * 1024 * 1024
HEAD_CHARACTERS = 2 * BLOCK_BYTES
# pyarrow takes 20 us to report a bad row, so that a file of short rows would take minutes. Reading ends at this many.
MAX_BAD_ROWS = 20_000
UNREADABLE = "This row cannot be read: a quote is open, or a cell is far too long."
STRINGS = pa.dictionary(pa.int32(), pa.string())
NO_TEXTS = pa.array([], pa.string()).dictionary_encode()


class CsvFile:
    """As files.DataFile."""

    is_text = False

    def __init__(self, path: Path, problems: Problems) -> None:
        self._path = path
        self._has_quotes = _contains(path, b'"')
        self.head = self._read_head(problems)

    def _read_head(self, problems: Problems) -> list[Record]:
        head: list[Record] = []
        with open(self._path, encoding="utf-8-sig", errors="replace", newline="") as file:
            try:
                for record in islice(csv.reader(_first_lines(file)), MAX_HEAD_ROWS):
                    head.append([None if cell in MISSING else cell for cell in record])
            except csv.Error:
                problems.add("bad_layout", UNREADABLE, len(head) + 1)
        return head

    def close(self) -> None:
        """The file is open only while it is read."""

    def check_head(self, num_rows: int, problems: Problems) -> None:
        """A file of texts has no formulas."""

    def columns(self, asked: Asked, problems: Problems) -> Stage[list[Cells]]:
        reading = _Reading(self._path, asked, has_quotes=self._has_quotes)
        if len(self.head) <= asked.skip:
            return reading.cells([])
        try:
            batches = yield from reading.batches(as_text=asked.as_text)
        except pa.ArrowInvalid:
            # A cell is not a number, a text is not UTF-8, or a row has another length. Read as repaired text, each can be reported.
            reading = _Reading(self._path, asked, has_quotes=self._has_quotes)
            batches = yield from self._as_text(reading, problems)
        reading.note(problems)
        return reading.cells(batches)

    def _as_text(self, reading: "_Reading", problems: Problems) -> Stage[list[pa.RecordBatch]]:
        try:
            return (yield from reading.batches(as_text=True))
        except pa.ArrowInvalid:
            if len(reading.bad) < MAX_BAD_ROWS:
                problems.add("bad_layout", UNREADABLE, self._unreadable_row())
            return []

    def _unreadable_row(self) -> int | None:
        """The record that no block holds: its quote is open, or it is longer than any record may be."""
        row, size = 0, 0

        def lines(file: TextIO) -> Iterator[str]:
            nonlocal size
            while line := file.readline(BLOCK_BYTES):
                size += len(line)
                if size >= BLOCK_BYTES:  # csv has a limit of its own, but other readers of the process may have raised it
                    raise csv.Error
                yield line

        with open(self._path, encoding="utf-8-sig", errors="replace", newline="") as file:
            try:
                for _ in csv.reader(lines(file), strict=True):
                    row, size = row + 1, 0
            except csv.Error:
                return row + 1
        return None


class _Reading:
    """One pass over the file.

    bad          rows with another number of cells than there are columns
    is_too_long  there are more rows than are allowed
    """

    def __init__(self, path: Path, asked: Asked, *, has_quotes: bool) -> None:
        self._path = path
        self._asked = asked
        self._has_quotes = has_quotes
        self._names = [str(number) for number in range(len(asked.labels))]
        self.bad: list[tuple[int, int]] = []
        self.is_too_long = False

    def batches(self, *, as_text: bool) -> Stage[list[pa.RecordBatch]]:
        """ArrowInvalid: a cell is not what its column should hold, or a record is not to be read at all."""
        # Buffered, since a block is what one read gives.
        with io.BufferedReader(RepairedFile(self._path)) if as_text else pa.OSFile(str(self._path)) as source:
            found = yield from self._read(source, as_text=as_text)
        return found

    def _read(self, source: Any, *, as_text: bool) -> Stage[list[pa.RecordBatch]]:
        found: list[pa.RecordBatch] = []
        size, num_rows = self._path.stat().st_size, 0
        for batch in self._opened(source, as_text=as_text):
            num_rows += batch.num_rows
            if num_rows + len(self.bad) > self._asked.max_rows:
                self.is_too_long = True
                return []
            if not as_text:
                self._refuse_nan(batch)
            found.append(batch)
            yield Progress("read", source.raw.position() if as_text else source.tell(), size)
        return found

    def _opened(self, source: Any, *, as_text: bool) -> arrow_csv.CSVStreamingReader:
        types = [pa.float64() if is_number and not as_text else STRINGS for is_number in self._asked.is_number]
        read = arrow_csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=self._names, skip_rows=self._asked.skip
        )
        parse = arrow_csv.ParseOptions(
            newlines_in_values=self._has_quotes,
            ignore_empty_lines=False,
            # pyarrow decodes a row before it tells of it, which only repaired text survives.
            invalid_row_handler=self._handle_bad if as_text else None,
        )
        convert = arrow_csv.ConvertOptions(
            column_types=dict(zip(self._names, types, strict=True)),
            null_values=sorted(MISSING),
            strings_can_be_null=True,
        )
        return arrow_csv.open_csv(source, read_options=read, parse_options=parse, convert_options=convert)

    def _handle_bad(self, row: arrow_csv.InvalidRow) -> str:
        if len(self.bad) == MAX_BAD_ROWS:
            return "error"
        self.bad.append((row.number, row.actual_columns))
        return "skip"

    def _refuse_nan(self, batch: pa.RecordBatch) -> None:
        """`nan`, unlike `NaN`, is a word that stands for no number and for no gap. ArrowInvalid."""
        for column, is_number in zip(batch.columns, self._asked.is_number, strict=True):
            if is_number and pc.any(pc.is_nan(column)).as_py():
                raise pa.ArrowInvalid("nan")

    def note(self, problems: Problems) -> None:
        if self.is_too_long:
            problems.add("too_many_rows", f"A file has at most {self._asked.max_rows:,} rows.")
            return
        wanted = len(self._names)
        message = "This row has {} cells, but there are {} columns."
        rows = [row for row, _ in self.bad]
        problems.add_many(rows, lambda place: ("bad_layout", message.format(self.bad[place][1], wanted), None, None))

    def cells(self, batches: list[pa.RecordBatch]) -> list[Cells]:
        """The columns without empty records."""
        table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks() if batches else None
        if table is None or not table.num_rows:
            return [Cells(NO_TEXTS, np.array([], dtype=np.int64), label) for label in self._asked.labels]
        rows = self._rows(table.num_rows)
        if (is_empty := _is_empty(table)) is not None:
            table, rows = table.filter(pa.array(~is_empty)).combine_chunks(), rows[~is_empty]
        columns = zip(table.columns, self._asked.labels, strict=True)
        return [Cells(column.combine_chunks(), rows, label) for column, label in columns]

    def _rows(self, num_rows: int) -> Array:
        """int64 [records that were read]: where they stand in the file, whose bad rows are not among them."""
        first = self._asked.skip + 1
        numbers = np.arange(first, first + num_rows + len(self.bad))
        return numbers[~np.isin(numbers, [row for row, _ in self.bad])] if self.bad else numbers


def _first_lines(file: TextIO) -> Iterator[str]:
    """Lines of up to HEAD_CHARACTERS together: one record could be as long as the file."""
    left = HEAD_CHARACTERS
    while left > 0 and (line := file.readline(left)):
        left -= len(line)
        yield line


def _contains(path: Path, text: bytes) -> bool:
    if not path.stat().st_size:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(text) >= 0


def _is_empty(table: pa.Table) -> Array | None:
    """bool [records]: all cells are missing; None if no record is so."""
    is_empty = pc.is_null(table.column(0))
    for column in table.columns[1:]:
        if not pc.any(is_empty).as_py():
            return None
        is_empty = pc.and_(is_empty, pc.is_null(column))
    found: Array = is_empty.to_numpy()
    return found if found.any() else None
