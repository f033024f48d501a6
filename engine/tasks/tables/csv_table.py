"""Lines of a stream's answer as csv, block by block.

The first line tells what the lines look like. A block whose lines all look like it is cut into cells by one regular expression, in
a third of the time that reading its JSON takes. Any other block is read as JSON.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import IO, Any

from engine.frames import LINE_END
from engine.tasks import codec
from engine.tasks.tables.rows import ID, Table, column_name, in_order, table_of, text_of

# Cells as a line has them. A string has no escapes, so that its text is the cell.
NUMBER = r"(-?[0-9][0-9.eE+-]*)"
STRING = r'"([^"\\\n]*)"'
FLAG = "(true|false)"
NUMBERS = r"(\[[0-9.eE+,-]*\])"


class CsvTable:
    """A table in a file that grows by blocks of lines.

    names  of its columns; without them the table has those of its first block
    """

    def __init__(self, target: IO[bytes], names: Sequence[str] = ()) -> None:
        self.names = [*names]
        self._target = target
        self._rows = CsvRows(target, self.names) if names else None
        self._looks: LineLooks | None = None

    def add(self, block: bytes) -> list[str]:
        """Write whole lines, at least one; returns the names of their columns. The cells of other columns are left out."""
        if self._looks is not None and self._rows is not None and (cells := self._looks.cells(block)) is not None:
            self._rows.write_cells(cells)
            return self.names
        lines = io.BytesIO(block).readlines()
        table = table_of(lines)
        if self._rows is None:
            self.names = in_order([*table])
            self._rows = CsvRows(self._target, self.names)
        self._looks = self._looks or looks_like(lines[0], self.names)
        self._rows.write(table)
        return [*table]

    def names_of(self, block: bytes) -> list[str]:
        """The names of the columns of some lines, which are not written."""
        if self._looks is not None and self._looks.cells(block) is not None:
            return self.names
        return [*table_of(io.BytesIO(block).readlines())]

    def close(self) -> None:
        """Leave the file to others."""
        if self._rows is not None:
            self._rows.detach()


class LineLooks:
    """Lines like one that has been seen.

    pattern  has a group for each cell
    order    the places of the groups in the order of the columns, two or more
    """

    def __init__(self, pattern: str, order: list[int]) -> None:
        self._pattern = re.compile(pattern, re.MULTILINE)
        self._in_order = itemgetter(*order)

    def cells(self, block: bytes) -> Iterator[Any] | None:
        """The cells of each line of a block; None if a line looks otherwise."""
        try:
            found = self._pattern.findall(block.decode())
        except UnicodeDecodeError:
            return None
        return map(self._in_order, found) if len(found) == block.count(LINE_END) else None


def looks_like(line: bytes, names: list[str]) -> LineLooks | None:
    """How a line looks whose columns are all of these; None for an error, and for values that are no plain cells."""
    answer = codec.parse_json(line)
    if "result" not in answer:
        return None
    groups: list[str] = []
    result = _pattern(answer["result"], "", groups)
    yhat_id = _pattern(answer[ID], ID, groups)
    if result is None or yhat_id is None or len(groups) < 2 or sorted(groups) != sorted(names):
        return None
    around = r'"bulk_id":"[^"]*","end_time":"[^"]*"', r'"start_time":"[^"]*","version":[0-9]+', r'"yhat_model":"[^"]*"'
    pattern = rf'^\{{{around[0]},"result":{result},{around[1]},"{ID}":{yhat_id},{around[2]}\}}$'
    return LineLooks(pattern, [groups.index(name) for name in names])


def _pattern(value: Any, name: str, groups: list[str]) -> str | None:
    """What matches values like this one; the names of its columns are added to the groups. None if it is no plain cell."""
    if isinstance(value, dict):
        inner = [_member(key, one, name, groups) for key, one in value.items()]
        return None if name.count(".") or None in inner else r"\{" + ",".join(filter(None, inner)) + r"\}"
    groups.append(name if name == ID else column_name(name or "result"))
    if isinstance(value, bool):
        return FLAG
    if isinstance(value, list):
        return NUMBERS if all(type(one) in (int, float) for one in value) else None
    return {str: STRING, int: NUMBER, float: NUMBER}.get(type(value))


def _member(key: str, value: Any, name: str, groups: list[str]) -> str | None:
    pattern = _pattern(value, f"{name}.{key}" if name else key, groups)
    return None if pattern is None else f"{re.escape(codec.dumps(key).decode())}:{pattern}"


class CsvRows:
    """Writes rows with these columns, under a line with their names."""

    def __init__(self, target: IO[bytes], names: list[str]) -> None:
        self._names = names
        self._text = io.TextIOWrapper(target, "utf-8", errors="backslashreplace", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")
        # Python 3.11 quotes no cell because it has a carriage return, which readers take for the end of a line.
        self._careful = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._writer.writerow(names)

    def write(self, table: Table) -> None:
        num_rows = len(next(iter(table.values())))
        columns = [cells_of(table[name]) if name in table else [""] * num_rows for name in self._names]
        is_plain = not any("\r" in cell for column in columns for cell in column)
        (self._writer if is_plain else self._careful).writerows(zip(*columns, strict=True))

    def write_cells(self, rows: Iterable[Any]) -> None:
        self._writer.writerows(rows)

    def detach(self) -> None:
        self._text.detach()


def cells_of(values: list[Any]) -> list[str]:
    """The text of each value: nothing for null."""
    return ["" if value is None else text_of(value) for value in values]
