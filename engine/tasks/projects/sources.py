"""Sources: the series of one combination in the Parquet files of a dataset, brought to its Sales periods.

A source is looked up for the country, region and grouping of the combination, then for all groupings, then for all regions; the
first level with rows is used, and levels are never added. Knows no graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.tasks.projects import periods
from engine.tasks.projects.periods import Periods
from engine.tasks.projects.refusals import Refusal

Array = np.ndarray
Source = Mapping[str, Any]

# Types whose values are amounts of a period; those of any other type are levels.
FLOWS = frozenset({"media", "visits", "competitor"})
# Key of a source -> the column that it filters, and what stands in its place where the file has no such column.
FILTERS = {
    "product": ("product",),
    "name": ("name",),
    "metric": ("metric", "name"),
    "channel": ("channel", "name"),
    "campaign": ("subname",),
}
# Columns of keys that are null in types that have no such key.
SOMETIMES_EMPTY = ("product", "name", "subname", "metric")
# Columns of Sales that are weighted by units -> how people write them.
AMOUNTS_OF_ONE = {"priceperunit": "PricePerUnit", "profitperunit": "ProfitPerUnit"}
COARSER = {("monthly", "weekly"), ("monthly", "daily"), ("weekly", "daily")}


class NoRows(LookupError):
    """A source has no rows for the combination; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Series:
    """One source by period.

    values     float64 [periods]
    last       the last day with data
    is_spread  its values were of a coarser frequency
    """

    values: Array
    last: np.datetime64
    is_spread: bool = False


class Dataset:
    """The data of one combination.

    files          type -> path of its Parquet file
    combination    country, region, grouping
    extra_periods  how many periods follow the last data: flows are 0 in them, and levels are carried
    """

    def __init__(self, files: Mapping[str, str], combination: list[str], extra_periods: int = 0) -> None:
        self._files = {name.lower(): path for name, path in files.items()}
        self._titles = {name.lower(): name for name in files}
        self._combination = combination
        self._extra_periods = extra_periods
        self._tables: dict[str, pa.Table] = {}
        if "sales" not in self._files:
            raise Refusal("sales_missing", "The dataset has no Sales.")

    @property
    def types(self) -> list[str]:
        return list(self._files)

    def title(self, name: str) -> str:
        """A type as it was sent."""
        return self._titles[name]

    @cached_property
    def sales(self) -> pa.Table:
        """The rows of Sales for exactly this combination. Refusal if there are none."""
        table = _read(Path(self._files["sales"]))
        rows = table.filter(_is_at(table, self._combination))
        if not rows.num_rows:
            known = sorted(set(zip(*(table[key].to_pylist() for key in ("country", "region", "grouping")), strict=True)))
            details = [{"Code": "unknown_combination", "Message": "Sales has this one.", "Value": list(row)} for row in known]
            raise Refusal("unknown_combination", f"Sales has no rows for {', '.join(self._combination)}.", details)
        return rows

    @cached_property
    def sales_dates(self) -> Array:
        """The days on which Sales has a period, ascending."""
        return np.unique(_dates(self.sales))

    @cached_property
    def frequency(self) -> str:
        found = periods.frequency_of(self.sales_dates)
        if found is None:
            raise Refusal("mixed_frequency", "The dates of Sales are neither daily, nor weekly, nor monthly.")
        return found

    @cached_property
    def periods(self) -> Periods:
        """From the first Sales date to the last date of any source that a model may read, and what was asked for beyond it."""
        last = periods.following(np.array([self.last_day]), self.frequency, self._extra_periods)[0]
        return Periods.between(self.sales_dates[0], last, self.frequency)

    @cached_property
    def last_day(self) -> np.datetime64:
        """The last day that Sales or any source has data of."""
        return max([self.sales_dates[-1], *(self._last(name) for name in self._files if name != "sales")])

    @cached_property
    def is_sold(self) -> Array:
        """bool [periods]: whether Sales has the period."""
        is_sold = np.zeros(len(self.periods), dtype=bool)
        is_sold[self.periods.positions(self.sales_dates)] = True
        return is_sold

    def mask(self, dates: list[str]) -> Array:
        """bool [periods]: the given dates. Refusal `unknown_date` if Sales has no period that starts on one of them."""
        wanted = periods.days(dates)
        unknown = ~np.isin(wanted, self.sales_dates)
        if unknown.any():
            told = [{"Code": "unknown_date", "Message": "Sales has no such date.", "Value": str(day)} for day in wanted[unknown]]
            raise Refusal("unknown_date", f"{unknown.sum()} dates are not in Sales.", told)
        mask = np.zeros(len(self.periods), dtype=bool)
        mask[self.periods.positions(wanted)] = True
        return mask

    def series(self, source: Source) -> Series:
        """A source by period. NoRows."""
        name = str(source.get("dataset_name", "")).lower()
        if name == "sales":
            return self._of_sales(source)
        table = _filtered(self.rows(name), source, ("product", "name", "metric", "channel", "campaign"))
        if name == "events":
            table = _filtered(table, {"event": source.get("event", source.get("name"))}, ("event",))
        if not table.num_rows:
            raise NoRows(f"{source['dataset_name']} has no such rows: {_told(source)}")
        if name == "events":
            starts, ends = _dates(table, "start"), _dates(table, "end")
            return Series(self.periods.covered(starts, ends), self.periods.ends[-1] - periods.DAY)
        return self._by_period(table, is_flow=name in FLOWS)

    def spend(self, source: Source) -> Series | None:
        """What was spent on a source by period; None for one that names no metric of spend and is not Media. NoRows."""
        is_media = str(source.get("dataset_name", "")).lower() == "media"
        metric = source.get("spend_metric") or ("Investment" if is_media else None)
        return None if metric is None else self.series({**source, "metric": metric})

    def rows(self, name: str) -> pa.Table:
        """The rows of a type at the first level that has some. NoRows."""
        name = name.lower()
        if name not in self._files:
            raise NoRows(f"the dataset has no type {name}")
        if name not in self._tables:
            self._tables[name] = self._at_level(_read(Path(self._files[name])))
        return self._tables[name]

    def _at_level(self, table: pa.Table) -> pa.Table:
        country, region, _ = self._combination
        for level in (self._combination, [country, region, "all"], [country, "all", "all"]):
            rows = table.filter(_is_at(table, level))
            if rows.num_rows:
                return rows
        return rows

    def _last(self, name: str) -> np.datetime64:
        """The last day of a type of source; events reach as far as any other, so they do not count."""
        try:
            rows = self.rows(name)
        except NoRows:
            return self.sales_dates[-1]
        return max(_dates(rows)) if name != "events" and rows.num_rows else self.sales_dates[-1]

    def _by_period(self, table: pa.Table, *, is_flow: bool) -> Series:
        table = table.filter(pc.is_valid(table["value"]))
        dates, values = _dates(table), table["value"].cast(pa.float64()).to_numpy()
        if not len(dates):
            raise NoRows("all values are missing")
        if not is_flow:
            return Series(self.periods.levels(dates, values), dates.max())
        own = periods.frequency_of(np.unique(dates)) or self.frequency
        if (own, self.frequency) in COARSER:
            last = periods.following(dates.max()[None], own)[0] - periods.DAY
            return Series(self.periods.spread(dates, values, own), last, is_spread=True)
        return Series(self.periods.sums(dates, values), dates.max())

    def _of_sales(self, source: Source) -> Series:
        """UnitsSold, Revenue, PricePerUnit or ProfitPerUnit by period; NaN where Sales has no period, but prices are carried.

        Revenue is units times the price of the period, which rows without a price share.
        """
        table = _filtered(self.sales, source, ("product",))
        metric = str(source.get("metric", "UnitsSold")).lower().replace("_", "")
        if not table.num_rows or metric not in ("unitssold", "revenue", *AMOUNTS_OF_ONE):
            raise NoRows(f"Sales has no such rows: {_told(source)}")
        if metric in AMOUNTS_OF_ONE:
            return self._mean_of_sales(table, metric)
        amounts = self._sums(table)
        if metric == "revenue":
            amounts = amounts * self._mean_of_sales(table, "priceperunit").values
        return Series(np.where(self.is_sold, amounts, np.nan), self.sales_dates[-1])

    def _sums(self, table: pa.Table, column: str | None = None) -> Array:
        """Units, or units times a column of which no value is missing, summed by period."""
        amounts = table["unitssold"].cast(pa.float64()).to_numpy()
        if column is not None:
            amounts = amounts * table[column].cast(pa.float64()).to_numpy()
        return self.periods.sums(_dates(table), amounts)

    def _mean_of_sales(self, table: pa.Table, column: str) -> Series:
        """A price by period, weighted by units; rows without it are left out, and it is carried over periods without units."""
        if column in table.column_names:
            table = table.filter(pc.is_valid(table[column]))
        if column not in table.column_names or not table.num_rows:
            raise NoRows(f"Sales has no {AMOUNTS_OF_ONE[column]}")
        amounts, units = self._sums(table, column), self._sums(table)
        is_known = units > 0
        if not is_known.any():
            raise NoRows("Sales has no units to weigh prices with")
        means = amounts[is_known] / units[is_known]
        return Series(self.periods.levels(self.periods.starts[is_known], means), self.sales_dates[-1])


def _read(path: Path) -> pa.Table:
    """A file with plain names of columns; keys without a value are left out, and those that it lacks come as `all`."""
    table = pq.read_table(path)
    table = table.rename_columns([name.lower().replace("_", "") for name in table.column_names])
    table = table.drop_columns([name for name in SOMETIMES_EMPTY if name in table.column_names and _is_empty(table[name])])
    for key in ("region", "grouping", "product"):
        if key not in table.column_names:
            table = table.append_column(key, pa.array(["all"] * table.num_rows, pa.string()))
    return table


def _is_empty(column: pa.ChunkedArray) -> bool:
    return 0 < column.null_count == len(column)


def _is_at(table: pa.Table, level: list[str]) -> pa.ChunkedArray:
    pairs = zip(("country", "region", "grouping"), level, strict=True)
    first, *others = (pc.equal(pc.fill_null(table[key].cast(pa.string()), "all"), value) for key, value in pairs)
    for other in others:
        first = pc.and_(first, other)
    return first


def _filtered(table: pa.Table, source: Source, keys: tuple[str, ...]) -> pa.Table:
    """The rows that a source names; a key that it leaves out filters nothing."""
    for key in keys:
        wanted = source.get(key)
        column = next((name for name in FILTERS.get(key, (key,)) if name in table.column_names), None)
        if key == "metric" and wanted is None and column == "metric" and "Investment" in table["metric"].unique().to_pylist():
            wanted = "Investment"
        if wanted is None:
            continue
        if column is None:
            raise NoRows(f"the data has no {key}")
        values = [str(value) for value in (wanted if isinstance(wanted, list) else [wanted])]
        table = table.filter(pc.is_in(table[column].cast(pa.string()), pa.array(values, pa.string())))
    return table


def _dates(table: pa.Table, column: str = "date") -> Array:
    values: Array = table[column].cast(pa.date32()).to_numpy().astype("datetime64[D]")
    return values


def _told(source: Source) -> str:
    return ", ".join(f"{key} {value}" for key, value in source.items())
