"""Files of csv and tsv, read record by record: every cell is a text, or null.

Knows no types of columns. prepare.py reads most files with pyarrow, which is faster; this reader decides what is right.
"""

import csv
import io
import itertools
from collections.abc import Callable, Iterator
from typing import BinaryIO

from engine.tasks.preview.failures import Failed, ParserError, too_big
from engine.tasks.preview.limits import MAX_COLUMNS
from engine.tasks.preview.lines import clean, too_large
from engine.tasks.preview.values import NULLS

# A record: the number of its first line, its bytes, and its values by name.
Records = Iterator[tuple[int, int, dict[str, object]]]
_OTHER_DELIMITERS = (";", "\t", "|")


class _CountedLines:
    """The lines of a text with their ends, for csv; counts what has been read since a record began. RecordTooLarge."""

    def __init__(self, text: io.TextIOWrapper, max_bytes: int) -> None:
        self._text = text
        self._max = max_bytes
        self.number = 0
        self.start = 1
        self.size = 0

    def begin(self) -> None:
        self.start = self.number + 1
        self.size = 0

    def __iter__(self) -> "_CountedLines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._max + 3)
        if not line:
            raise StopIteration
        self.number += 1
        self.size += len(line)
        if self.size > self._max:
            raise too_large("line", self.start, self._max)
        # The module csv takes NUL since Python 3.11, and pyarrow does, too.
        return line


def records(
    opened: Callable[[], BinaryIO], delimiter: str | None, encoding: str | None, max_bytes: int, names: dict[str, None]
) -> Records:
    """The rows of one file; its first record names the columns, which come into `names`. ParserError, RecordTooLarge, Failed.

    delimiter  None to find it in the first line
    """
    with opened() as file:
        text = io.TextIOWrapper(clean(file, encoding), "utf-8", errors="replace", newline="")
        first = _first_line(text, max_bytes)
        lines = _CountedLines(text, max_bytes)
        csv.field_size_limit(2**31 - 1)
        reader = csv.reader(_with_first(first, lines), delimiter=delimiter or found_delimiter(first))
        own: list[str] | None = None
        while True:
            lines.begin()
            cells = _next(reader, lines)
            if cells is None:
                return
            if not cells:
                continue
            if own is None:
                if len(cells) > MAX_COLUMNS:
                    raise Failed("TooBigContent", too_big(len(cells), "columns", MAX_COLUMNS))
                own = unique_names(cells)
                names.update(dict.fromkeys(own))
                continue
            yield lines.start, lines.size, _row(own, cells, lines.start)


def _first_line(text: io.TextIOWrapper, max_bytes: int) -> str:
    """The first line that is not blank, with its end, after those that are."""
    blank = 0
    while line := text.readline(max_bytes + 3):
        if len(line) > max_bytes:
            raise too_large("line", 1 + blank, max_bytes)
        if line.strip("\r\n"):
            return "\n" * blank + line
        blank += 1
    return ""


def _with_first(first: str, lines: _CountedLines) -> Iterator[str]:
    blank = len(first) - len(first.lstrip("\n"))
    lines.number = blank
    if first:
        lines.number += 1
        lines.start = lines.number
        yield first[blank:]
    yield from lines


def delimiter_in(opened: Callable[[], BinaryIO], encoding: str | None, max_bytes: int) -> str:
    """The delimiter of a file that declares none. RecordTooLarge."""
    with opened() as file:
        text = io.TextIOWrapper(clean(file, encoding), "utf-8", errors="replace", newline="")
        return found_delimiter(_first_line(text, max_bytes))


def found_delimiter(first: str) -> str:
    """A comma, unless the first line has none and another common one."""
    return "," if "," in first else next((one for one in _OTHER_DELIMITERS if one in first), ",")


def _next(reader: Iterator[list[str]], lines: _CountedLines) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise ParserError(f"line {lines.start}: {error}") from error


def _row(names: list[str], cells: list[str], line: int) -> dict[str, object]:
    if len(cells) > len(names):
        raise ParserError(f"line {line}: expected {len(names)} fields, saw {len(cells)}")
    values = (None if cell in NULLS else cell for cell in cells)
    return dict(itertools.zip_longest(names, values))


def unique_names(cells: list[str]) -> list[str]:
    """The names of the columns, all different, with `Unnamed: i` for an empty one."""
    return distinct([cell or f"Unnamed: {i}" for i, cell in enumerate(cells)])


def distinct(names: list[str]) -> list[str]:
    """The same names, with `.1` and so on behind one that is there already."""
    taken: dict[str, None] = {}
    for wanted in names:
        name, count = wanted, 0
        while name in taken:
            count += 1
            name = f"{wanted}.{count}"
        taken[name] = None
    return list(taken)
