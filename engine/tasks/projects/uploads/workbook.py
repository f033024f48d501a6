"""A workbook of one sheet with values only, as spreadsheets write it; openpyxl reads its cells row by row.

Cells become texts as a CSV file would have them, so that both are checked by the same words.
"""

import datetime
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa

from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.uploads.archive import MAX_SHEET_ROWS
from engine.tasks.projects.uploads.checks import MISSING, Cells
from engine.tasks.projects.uploads.files import MAX_COLUMNS, MAX_HEAD_ROWS, Asked, Record, letter
from engine.tasks.projects.uploads.problems import Problems

# Rows that are kept as lists of Python before they become arrays.
CHUNK_ROWS = 10_000
PROGRESS_ROWS = 1_000
# A longer text is refused in any column; a thousand rows could have the longest one that a workbook has.
MAX_CELL_CHARACTERS, CUT = 1_000, "…"
FORMULA, ERROR = "f", "e"
MIDNIGHT = datetime.time()


class _NotOneSheet(Exception):
    """A workbook has several sheets, or none."""


class WorkbookFile:
    """As files.DataFile. The archive was checked."""

    is_text = True

    def __init__(self, path: Path, problems: Problems) -> None:
        self.head: list[Record] = []
        self._size = path.stat().st_size
        self._file = open(path, "rb")  # noqa: SIM115
        self._sheet: Any = None
        self._first_rows: list[Sequence[Any]] = []
        with _guarded(problems):
            book = openpyxl.load_workbook(self._file, read_only=True, data_only=False, keep_links=False)
            self._sheet = _only_sheet(book, problems)
            # What a sheet says of its own size is not believed.
            self._sheet.reset_dimensions()
            self._first_rows = list(islice(self._sheet.iter_rows(), MAX_HEAD_ROWS))
            self.head = [_texts(row) for row in self._first_rows]

    def close(self) -> None:
        self._file.close()

    def check_head(self, num_rows: int, problems: Problems) -> None:
        for number, row in enumerate(self._first_rows[:num_rows], 1):
            _has_formulas(number, row, (), problems)

    def columns(self, asked: Asked, problems: Problems) -> Stage[list[Cells]]:
        collected = _Collected(asked)
        for number, row in enumerate(self._rows(problems), 1):
            if number % PROGRESS_ROWS == 0:
                yield Progress("read", self._file.tell(), self._size)
            if _has_formulas(number, row, asked.labels, problems) or number <= asked.skip:
                continue
            if number > MAX_SHEET_ROWS or collected.num_rows == asked.max_rows or len(row) > MAX_COLUMNS:
                limits = f"{asked.max_rows:,} rows and {MAX_COLUMNS:,} columns, and a sheet {MAX_SHEET_ROWS:,} rows"
                problems.add("too_many_rows", f"A file has at most {limits}.")
                break
            collected.add(number, _texts(row), problems)
        return collected.cells()

    def _rows(self, problems: Problems) -> Iterator[Sequence[Any]]:
        """All rows, also empty ones; one more than a sheet has, so that a cell beyond them shows."""
        with _guarded(problems):
            yield from self._sheet.iter_rows(max_row=MAX_SHEET_ROWS + 1)


@contextmanager
def _guarded(problems: Problems) -> Iterator[None]:
    """openpyxl raises whatever its code meets in a file that is not as it should be, and warns of what it leaves out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote from the file
        try:
            yield
        except _NotOneSheet:
            pass
        except MemoryError:
            raise
        except Exception:  # openpyxl has no class for what it raises
            problems.add("bad_layout", "The workbook cannot be read. Save its values in a new workbook, or as CSV.")


def _only_sheet(book: Any, problems: Problems) -> Any:
    """_NotOneSheet, which is noted."""
    names, sheets = book.sheetnames, book.worksheets
    if len(names) > 1:
        problems.add("extra_sheet", f"A workbook has one sheet, not {len(names)}; hidden ones count.", value=names[1])
    elif not sheets:
        problems.add("bad_layout", "The workbook has no sheet with cells.")
    if problems:
        raise _NotOneSheet
    return sheets[0]


def _texts(row: Sequence[Any]) -> Record:
    """The cells of a row without the empty ones at its end; of a formula, the formula."""
    texts: Record = []
    for cell in row:
        value = cell.value
        text = value if type(value) is str else _text(value)
        if len(text) > MAX_CELL_CHARACTERS:
            text = text[:MAX_CELL_CHARACTERS] + CUT
        texts.append(None if text in MISSING else text)
    while texts and texts[-1] is None:
        texts.pop()
    return texts


def _has_formulas(number: int, row: Sequence[Any], labels: Sequence[str], problems: Problems) -> bool:
    """Whether cells of a row hold formulas or errors in place of values; these are noted, and the row is not looked at again."""
    found = [place for place, cell in enumerate(row) if cell.data_type in (FORMULA, ERROR)]
    for place in found:
        label = labels[place] if place < len(labels) else letter(place)
        problems.add("formula_cell", "Write values only, no formulas and no errors.", number, label, _text(row[place].value))
    return bool(found)


def _text(value: Any) -> str:
    """A value as a CSV file has it: nothing for None, dates without a time as 2018-01-07, numbers so that no digit is lost."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime) and value.time() == MIDNIGHT:
        return value.date().isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    # An array formula is an object with its text.
    return repr(value) if isinstance(value, float) else str(getattr(value, "text", value))


class _Collected:
    """The columns as they grow."""

    def __init__(self, asked: Asked) -> None:
        self.labels = asked.labels
        self.num_rows = 0
        self._rows: list[int] = []
        self._waiting: list[Record] = []
        self._chunks: list[list[pa.Array]] = [[] for _ in asked.labels]

    def add(self, number: int, texts: Record, problems: Problems) -> None:
        if not texts:
            return
        width = len(self.labels)
        if len(texts) > width:
            problems.add("bad_layout", f"This row has {len(texts)} cells, but there are {width} columns.", number)
            return
        self.num_rows += 1
        self._rows.append(number)
        self._waiting.append(texts + [None] * (width - len(texts)))
        if len(self._waiting) * width >= CHUNK_ROWS * 10:
            self._flush()

    def _flush(self) -> None:
        for chunks, column in zip(self._chunks, zip(*self._waiting, strict=True), strict=False):
            chunks.append(pa.array(column, pa.string()).dictionary_encode())
        self._waiting = []

    def cells(self) -> list[Cells]:
        self._flush()
        rows = np.array(self._rows, dtype=np.int64)
        whole: Callable[[list[pa.Array]], pa.Array] = lambda chunks: pa.chunked_array(chunks, EMPTY.type).unify_dictionaries()  # noqa: E731
        columns = [whole(chunks).combine_chunks() if chunks else EMPTY for chunks in self._chunks]
        return [Cells(column, rows, label) for column, label in zip(columns, self.labels, strict=True)]


EMPTY = pa.array([], pa.string()).dictionary_encode()
