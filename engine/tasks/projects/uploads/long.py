"""The long layout: the first record has the headers, every other one is a row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.tasks.projects.progress import Stage
from engine.tasks.projects.uploads import rows
from engine.tasks.projects.uploads.checks import CellFault, Cells, checked_texts, days, fault_of, note_at, numbers
from engine.tasks.projects.uploads.files import Asked, DataFile, Record, letter
from engine.tasks.projects.uploads.keys import codes_of, sorting, without_last
from engine.tasks.projects.uploads.problems import MAX_SHOWN, Problems
from engine.tasks.projects.uploads.types import INVESTMENT, NUMBERS, DataType, Form, Header

Array = np.ndarray

HEADER_ROW = 1


@dataclass(frozen=True, slots=True)
class Long:
    """A file in the long layout.

    headers  of its columns; None for one that has no header, which must be empty
    """

    kind: DataType
    file: DataFile
    headers: Sequence[Header | None]

    @classmethod
    def of(cls, kind: DataType, file: DataFile, problems: Problems) -> "Long":
        """What the first record says; what is wrong with it is noted."""
        return cls(kind, file, _headers(kind, file.head[0], problems))

    def read(self, max_rows: int, problems: Problems, *, as_text: bool) -> Stage[pa.Table]:
        """The canonical rows, sorted by key; every problem is noted."""
        written = self.file.head[0]
        labels = [written[place] or letter(place) for place in range(len(written))]
        is_number = [header is not None and header.form in NUMBERS for header in self.headers]
        cells = yield from self.file.columns(Asked(HEADER_ROW, labels, is_number, max_rows, as_text), problems)
        are_all_read = not problems
        table = rows.table_of(self.kind, self._columns(cells, problems), len(cells[0].rows))
        if not table.num_rows and not problems:
            problems.add("empty_file", "The file has no rows below its header.")
        return self._sorted(table, cells[0].rows, problems, are_all_read=are_all_read)

    def _columns(self, cells: list[Cells], problems: Problems) -> dict[str, pa.Array]:
        columns: dict[str, pa.Array] = {}
        by_column: dict[str, Cells] = {}
        for header, own in zip(self.headers, cells, strict=True):
            if header is None:
                fault = CellFault("unknown_column", "This column has no header.")
                note_at(own, own.indices >= 0, fault, problems)
                continue
            by_column[header.column] = own
            columns[header.column] = _canonical(own, header, problems)
        if self.kind.name == "Events":
            _check_ends(by_column["end"], columns, problems)
        if self.kind.name == "Media":
            _check_investments(by_column, columns, problems)
        return columns

    def _sorted(self, table: pa.Table, numbers_of_rows: Array, problems: Problems, *, are_all_read: bool) -> pa.Table:
        """The rows by key; a key that comes again is noted, and a key of Media without an Investment row.

        are_all_read  no row of the file was left out, such as one that has another number of cells
        """
        whole = _whole(table, self.kind)
        if whole is not None:
            table, numbers_of_rows = table.filter(pa.array(whole)), numbers_of_rows[whole]
        codes = codes_of(table, self.kind.sorted_keys)
        if (order := sorting(codes)) is not None:
            codes, table, numbers_of_rows = codes[order], rows.taken(table, order), numbers_of_rows[order]
        again = np.flatnonzero(codes[1:] == codes[:-1]) + 1
        _note_rows(numbers_of_rows[again], "duplicate_key", "An earlier row has the same key: all is equal but values.", problems)
        # What is missing cannot be told from some of the rows.
        if self.kind.name == "Media" and table.num_rows and are_all_read and whole is None:
            _check_spend(without_last(codes, table["metric"]), table, numbers_of_rows, problems)
        return table


def _whole(table: pa.Table, kind: DataType) -> Array | None:
    """bool [rows]: all keys are there; None if they are in all rows."""
    lacking = [table[header.column].is_null() for header in kind.keys if table[header.column].null_count]
    return ~np.logical_or.reduce([column.to_numpy() for column in lacking]) if lacking else None


def _headers(kind: DataType, written: Record, problems: Problems) -> list[Header | None]:
    by_name = {header.name: header for header in kind.headers}
    others = {header.other_name: header for header in kind.headers if header.other_name and header.name not in written}
    found = [None if name is None else by_name.get(name) or others.get(name) for name in written]
    for place, (name, header) in enumerate(zip(written, found, strict=True)):
        if name is not None and header is None:
            allowed = f"{kind.name} has no such column; write {', '.join(by_name)}, with these capitals."
            code, message = fault_of(Form.NAME, name) or CellFault("unknown_column", allowed)
            problems.add(code, message, HEADER_ROW, name[:MAX_SHOWN], name)
        elif header is not None and header in found[:place]:
            problems.add("bad_layout", "Two columns have this header.", HEADER_ROW, name, name)
    for header in kind.headers:
        if header.is_needed and header not in found:
            problems.add("missing_column", f"{kind.name} needs a column {header.name}.", HEADER_ROW, header.name)
    return found


def _canonical(cells: Cells, header: Header, problems: Problems) -> pa.Array:
    if header.form in NUMBERS:
        return rows.values(numbers(cells, header, problems))
    if header.form == Form.DATE:
        return rows.dates(days(cells, problems))
    return checked_texts(cells, header, problems)


def _check_ends(ends: Cells, columns: dict[str, pa.Array], problems: Problems) -> None:
    """An event ends on the day it starts, or later."""
    is_early = pc.fill_null(pc.less(columns["end"], columns["start"]), False).to_numpy(zero_copy_only=False)
    note_at(ends, is_early, CellFault("bad_date", "An event ends on its StartDate or later."), problems)


def _check_investments(cells: dict[str, Cells], columns: dict[str, pa.Array], problems: Problems) -> None:
    """What was invested is a number in every row that says so."""
    is_gap = rows.is_text(columns["metric"], INVESTMENT) & columns["value"].is_null().to_numpy(zero_copy_only=False)
    note_at(
        cells["value"], is_gap, CellFault("missing_value", "An Investment is a number; write 0 where nothing was spent."), problems
    )


def _check_spend(keys: Array, table: pa.Table, numbers_of_rows: Array, problems: Problems) -> None:
    """Note the first row of each key that has no Investment row.

    keys  int64 [rows]: codes of all key columns but Metric, ascending
    """
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    lacks = ~np.logical_or.reduceat(rows.is_text(table["metric"], INVESTMENT), starts)
    firsts = np.sort(np.minimum.reduceat(numbers_of_rows, starts)[lacks])
    _note_rows(firsts, "missing_investment", "Write a row with the Metric Investment for this key, too.", problems, "Metric")


def _note_rows(found: Array, code: str, message: str, problems: Problems, column: str | None = None) -> None:
    problems.add_many(np.sort(found), lambda _: (code, message, column, None))
