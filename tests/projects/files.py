"""Files as people send them to a project: one table as long or wide CSV, and as long or wide workbook.

Knows the columns of each type. Knows nothing of servers.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import openpyxl
import pyarrow.parquet as pq

from tests.engine.tasks.projects.sets import Data

Cell = str | int | float | None
XLSX = ".xlsx"
# The columns that hold values; of Sales each is a series of its own.
SALES_VALUES = ("UnitsSold", "PricePerUnit", "ProfitPerUnit")
VALUES = (*SALES_VALUES, "Value")


@dataclass
class Sheet:
    """One table: a header, and rows of as many cells."""

    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def csv(self) -> bytes:
        return _csv([self.header, *self.rows])

    def xlsx(self) -> bytes:
        return workbook([self.header, *self.rows])

    def wide(self) -> list[list[Cell]]:
        """The same series with a column each: rows of keys, then a row for each date. Sales has its kinds of values in `Metric`."""
        keys = [name for name in self.header if name not in ("Date", *VALUES)]
        series: dict[tuple[Cell, ...], dict[Cell, Cell]] = {}
        for row in self.rows:
            cells = dict(zip(self.header, row, strict=True))
            for name in (name for name in self.header if name in VALUES):
                key = tuple(cells[one] for one in keys) + ((name,) if name in SALES_VALUES else ())
                series.setdefault(key, {})[cells["Date"]] = cells[name]
        is_sales = "UnitsSold" in self.header
        names = [*keys, "Metric"] if is_sales else keys
        heads: list[list[Cell]] = [[name, *(key[i] for key in series)] for i, name in enumerate(names)]
        dates = sorted({date for values in series.values() for date in values}, key=str)
        return heads + [[date, *(values.get(date) for values in series.values())] for date in dates]

    def wide_csv(self) -> bytes:
        return _csv(self.wide())

    def wide_xlsx(self) -> bytes:
        return workbook(self.wide())

    def changed(self, row: int, column: str, value: Cell) -> "Sheet":
        """A copy with another value in one cell; the first row below the header is 2."""
        rows = [list(cells) for cells in self.rows]
        rows[row - 2][self.header.index(column)] = value
        return Sheet(list(self.header), rows)

    def only(self, column: str, values: Iterable[Cell]) -> "Sheet":
        """The rows that have one of these values in a column."""
        wanted, place = set(values), self.header.index(column)
        return Sheet(self.header, [row for row in self.rows if row[place] in wanted])


def _csv(rows: Sequence[Sequence[Cell]]) -> bytes:
    """RFC 4180. Numbers are written so that the same number is read again."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def workbook(*sheets: Sequence[Sequence[Any]]) -> bytes:
    """A workbook with these sheets."""
    book = openpyxl.Workbook(write_only=True)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(list(row))
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


# Tables of one country


KEYS = ["SWE", "all", "all"]
KEY_HEADER = ["Country", "Region", "Grouping"]


def sales(
    dates: Sequence[str],
    units: Iterable[float],
    price: Iterable[float] | float = 1.0,
    keys: Sequence[str] = KEYS,
    product: str = "all",
) -> Sheet:
    prices = [price] * len(dates) if isinstance(price, int | float) else list(price)
    header = [*KEY_HEADER, "Date", "Product", "UnitsSold", "PricePerUnit"]
    rows = zip(dates, units, prices, strict=True)
    return Sheet(header, [[*keys, date, product, float(unit), float(one)] for date, unit, one in rows])


def media(dates: Sequence[str], spend: dict[str, Iterable[float]], keys: Sequence[str] = KEYS, metric: str = "Investment") -> Sheet:
    """spend is by the name of the channel."""
    rows: list[list[Cell]] = [
        [*keys, date, "all", name, metric, float(value)]
        for name, values in spend.items()
        for date, value in zip(dates, values, strict=True)
    ]
    return Sheet([*KEY_HEADER, "Date", "Product", "Media", "Metric", "Value"], rows)


def extra(dates: Sequence[str], series: dict[str, Iterable[float]], keys: Sequence[str] = KEYS, header: str = "Name") -> Sheet:
    """Any type whose rows have a name and a value; `header` is what the type calls the name."""
    rows: list[list[Cell]] = [
        [*keys, date, name, float(value)] for name, values in series.items() for date, value in zip(dates, values, strict=True)
    ]
    return Sheet([*KEY_HEADER, "Date", header, "Value"], rows)


def events(named: Iterable[tuple[str, str, str]], keys: Sequence[str] = KEYS) -> Sheet:
    """named has (name, first day, last day)."""
    rows: list[list[Cell]] = [[*keys, first, last, name] for name, first, last in named]
    return Sheet([*KEY_HEADER, "StartDate", "EndDate", "Event"], rows)


def of(data: Data) -> dict[str, Sheet]:
    """The tables of a dataset that tests of the tasks have made, by type, as people would send them."""
    tables = {name: pq.read_table(path).to_pydict() for name, path in data.files.items()}
    found = {"Sales": sales(data.dates, tables["Sales"]["UnitsSold"], tables["Sales"]["PricePerUnit"])}
    if "Media" in tables:
        found["Media"] = media(data.dates, _series(tables["Media"], len(data.dates)))
    if "Extra" in tables:
        found["Extra"] = extra(data.dates, _series(tables["Extra"], len(data.dates)))
    if "Events" in tables:
        columns = (tables["Events"][name] for name in ("event", "start", "end"))
        found["Events"] = events((name, str(first), str(last)) for name, first, last in zip(*columns, strict=True))
    return found


def _series(table: dict[str, list[Any]], count: int) -> dict[str, Iterable[float]]:
    """The values by name; the rows of a name stand together, in the order of the dates."""
    return {table["name"][start]: table["value"][start : start + count] for start in range(0, len(table["name"]), count)}
