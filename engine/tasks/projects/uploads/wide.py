"""The wide layout: the first rows have a key each, with its header in the first cell; below them is one row for each date.

Every column but the first is a series.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from engine.tasks.projects.progress import Stage
from engine.tasks.projects.uploads import rows
from engine.tasks.projects.uploads.checks import CellFault, Cells, days, fault_of, note_at, numbers
from engine.tasks.projects.uploads.files import Asked, DataFile, Record, letter
from engine.tasks.projects.uploads.keys import codes_of, sorting
from engine.tasks.projects.uploads.problems import Problems
from engine.tasks.projects.uploads.types import INVESTMENT, DataType, Form, Header

Array = np.ndarray
Key = tuple[str, ...]

# In a wide file the values of Sales are told apart by a row of their own.
SALES_METRIC = Header("Metric", "metric", Form.SALES_METRIC)


def head_headers(kind: DataType) -> tuple[Header, ...]:
    """What may stand in the first cells of the first rows."""
    return tuple(header for header in kind.keys if header.form != Form.DATE) + ((SALES_METRIC,) if kind.name == "Sales" else ())


def is_wide(kind: DataType, head: Sequence[Record]) -> bool:
    """Whether the first cells of the first two rows are both headers of keys."""
    names = {name for header in head_headers(kind) for name in (header.name, header.other_name) if name}
    return len(head) > 1 and all(record and record[0] in names for record in head[:2])


@dataclass(frozen=True, slots=True)
class Wide:
    """A file in the wide layout.

    keys     header -> the key of each series
    columns  where each series stands in the file, counted from 0
    """

    kind: DataType
    file: DataFile
    keys: dict[Header, list[str]]
    columns: list[int]
    num_head_rows: int

    @classmethod
    def of(cls, kind: DataType, file: DataFile, problems: Problems) -> "Wide":
        """What the first rows say; what is wrong with them is noted."""
        num_rows = num_head_rows(file.head)
        head = file.head[:num_rows]
        width = max(map(len, head))
        columns = [place for place in range(1, width) if any(len(record) > place and record[place] is not None for record in head)]
        keys: dict[Header, list[str]] = {}
        for number, record in enumerate(head, 1):
            header = _header_in(kind, record[0], number, keys, problems)
            if header is not None:
                padded = record + [None] * (width - len(record))
                keys[header] = [_key(header, padded[place], number, place, problems) for place in columns]
        _check_complete(kind, keys, problems)
        made = cls(kind, file, keys, columns, num_rows)
        if not columns:
            problems.add("empty_file", "The file has no series beside its headers.")
        elif not problems:
            made.check(problems)
        return made

    @property
    def series(self) -> list[Key]:
        """The key of each series; for Sales without Metric."""
        return list(zip(*(keys for header, keys in self.keys.items() if header != SALES_METRIC), strict=True))

    def check(self, problems: Problems) -> None:
        """Note series that come twice, and those that lack another one beside them."""
        seen: set[tuple[Key, str]] = set()
        for place, one in zip(self.columns, zip(self.series, self._metrics, strict=True), strict=True):
            if one in seen:
                problems.add("duplicate_key", "An earlier column has the same key.", None, letter(place))
            seen.add(one)
        if self.kind.name == "Sales":
            _check_sales(dict.fromkeys(self.series), seen, problems)
        if self.kind.name == "Media":
            self._check_spend(problems)

    def _check_spend(self, problems: Problems) -> None:
        """Note the first series of each key, which is everything but Metric here, that has no Investment series."""
        others = list(zip(*(keys for header, keys in self.keys.items() if header.column != "metric"), strict=True))
        spent = {key for key, metric in zip(others, self._metrics, strict=True) if metric == INVESTMENT}
        for place, key in zip(self.columns, others, strict=True):
            if key not in spent:
                spent.add(key)
                message = "Write a column with the Metric Investment for this key, too."
                problems.add("missing_investment", message, None, letter(place))

    @property
    def _metrics(self) -> list[str]:
        """The Metric of each series; empty where the type has none."""
        return next((keys for header, keys in self.keys.items() if header.column == "metric"), [""] * len(self.columns))

    def read(self, max_rows: int, problems: Problems, *, as_text: bool) -> Stage[pa.Table]:
        """The canonical rows, sorted by key; every problem is noted."""
        width = max(map(len, self.file.head[: self.num_head_rows]))
        is_number = [place in set(self.columns) for place in range(width)]
        labels = [letter(place) for place in range(width)]
        asked = Asked(self.num_head_rows, labels, is_number, max_rows // len(self.columns), as_text)
        cells = yield from self.file.columns(asked, problems)
        if not len(cells[0].rows) and not problems:
            problems.add("empty_file", "The file has no dates below its keys.")
        found = days(cells[0], problems)
        self._check_records(cells, found, problems)
        table = self._melted(found, [cells[place] for place in self.columns], problems)
        if problems:
            return table
        order = sorting(codes_of(table, self.kind.sorted_keys))
        return table if order is None else rows.taken(table, order)

    def _check_records(self, cells: list[Cells], found: Array, problems: Problems) -> None:
        """Note dates that come twice, and cells in columns that have no key."""
        again = np.ones(len(found), dtype=bool)
        again[np.unique(found, return_index=True)[1]] = False
        again &= found != rows.NO_DAY
        problems.add_many(cells[0].rows[again], lambda _: ("duplicate_key", "An earlier row has the same date.", None, None))
        for place in set(range(1, len(cells))) - set(self.columns):
            note_at(cells[place], cells[place].indices >= 0, CellFault("bad_layout", "This column has no keys."), problems)

    def _melted(self, found: Array, cells: list[Cells], problems: Problems) -> pa.Table:
        """A row for each series and date; a series of Sales has up to three columns."""
        series = list(dict.fromkeys(self.series))
        places = {key: place for place, key in enumerate(series)}
        amounts = {header.name: np.full((len(series), len(found)), np.nan) for header in self.kind.values}
        for own, key, metric in zip(cells, self.series, self._metrics, strict=True):
            header = self._value_header(metric)
            amounts[header.name][places[key]] = numbers(own, header, problems)
        columns: dict[str, pa.Array] = {"date": rows.dates(np.tile(found, len(series)))}
        for header, texts in zip([one for one in self.keys if one != SALES_METRIC], zip(*series, strict=True), strict=True):
            encoded = pa.array(texts, pa.string()).dictionary_encode()
            columns[header.column] = encoded.take(pa.array(np.repeat(np.arange(len(series)), len(found))))
        columns |= {header.column: rows.values(amounts[header.name].ravel()) for header in self.kind.values}
        return rows.table_of(self.kind, columns, len(series) * len(found))

    def _value_header(self, metric: str) -> Header:
        """What the cells of a series are."""
        if self.kind.name == "Sales":
            return next(header for header in self.kind.values if header.name == metric)
        [header] = self.kind.values
        return replace(header, has_no_gaps=True) if self.kind.name == "Media" and metric == INVESTMENT else header


# The head


def num_head_rows(head: Sequence[Record]) -> int:
    """How many of the first records of a wide file have keys."""
    return next((number for number, record in enumerate(head) if not _is_head(record)), len(head))


def _is_head(record: Record) -> bool:
    """Whether a record has a header in its first cell; a date begins with a digit."""
    return bool(record) and record[0] is not None and record[0][:1].isalpha()


def _header_in(kind: DataType, name: str | None, number: int, known: Iterable[Header], problems: Problems) -> Header | None:
    """The header in the first cell of a record, if it may stand there."""
    headers = head_headers(kind)
    header = next((one for one in headers if name in (one.name, one.other_name)), None)
    if header is None:
        allowed = ", ".join(one.name for one in headers)
        problems.add("unknown_column", f"A row of keys begins with one of {allowed}.", number, letter(0), name)
    elif header in known:
        problems.add("bad_layout", "Two rows have the keys of this header.", number, letter(0), name)
        return None
    return header


def _key(header: Header, text: str | None, number: int, place: int, problems: Problems) -> str:
    fault = fault_of(header.form, text or "")
    if fault is not None:
        problems.add(fault.code, fault.message, number, letter(place), text)
    return text or ""


def _check_complete(kind: DataType, keys: Iterable[Header], problems: Problems) -> None:
    for header in head_headers(kind):
        if header.is_needed and header not in keys:
            problems.add("missing_column", f"{kind.name} needs a row of keys that begins with {header.name}.", None, header.name)


def _check_sales(series: Iterable[Key], seen: set[tuple[Key, str]], problems: Problems) -> None:
    """Note the values that a series of Sales needs and does not have."""
    for key in series:
        for name in ("UnitsSold", "PricePerUnit"):
            if (key, name) not in seen:
                problems.add("missing_column", f"{', '.join(key)} has no column with the Metric {name}.", None, name)
