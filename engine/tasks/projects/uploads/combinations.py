"""Combinations: the countries, regions and groupings of canonical rows, on which dates each has rows, and at which frequency."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.tasks.projects import periods
from engine.tasks.projects.uploads.keys import codes_of
from engine.tasks.projects.uploads.types import DataType

Array = np.ndarray

# Country, region, grouping.
Place = tuple[str, str, str]
PLACE_COLUMNS = ("country", "region", "grouping")
# The answers of an upload and a dataset list at most this many, in at most 1.3 MB of JSON.
MAX_COMBINATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Combination:
    """dates: datetime64[D], ascending, each once."""

    place: Place
    dates: Array

    @property
    def label(self) -> str:
        return ", ".join(self.place)

    def told(self) -> dict[str, Any]:
        country, region, grouping = self.place
        span = {"FirstDate": str(self.dates[0]), "LastDate": str(self.dates[-1]), "Periods": len(self.dates)}
        return {"Country": country, "Region": region, "Grouping": grouping, **span}


class TooManyCombinations(Exception):
    """More than MAX_COMBINATIONS; the message is for people."""

    def __init__(self, number: int) -> None:
        super().__init__(f"There are {number:,} combinations of Country, Region and Grouping; at most {MAX_COMBINATIONS:,} may be.")


def parts(table: pa.Table, limit: int | None = None) -> dict[Place, slice]:
    """Where the rows of each place are; the rows are sorted by key. Places come in order. TooManyCombinations beyond a limit."""
    codes = codes_of(table, PLACE_COLUMNS)
    is_first = np.ones(len(codes), dtype=bool)
    is_first[1:] = codes[1:] != codes[:-1]
    starts = np.flatnonzero(is_first)
    if limit is not None and len(starts) > limit:
        raise TooManyCombinations(len(starts))
    firsts = table.select(PLACE_COLUMNS).take(pa.array(starts))
    places = zip(*(firsts[name].to_pylist() for name in PLACE_COLUMNS), strict=True)
    ends = [*starts[1:].tolist(), len(codes)]
    return {place: slice(start, end) for place, start, end in zip(places, starts.tolist(), ends, strict=True)}


def of(table: pa.Table, date_column: str) -> list[Combination]:
    """The combinations of rows that are sorted by key, in order. TooManyCombinations."""
    found = parts(table, MAX_COMBINATIONS)
    days = table[date_column].cast(pa.int32()).to_numpy().astype("datetime64[D]")
    return [Combination(place, _distinct(days[part])) for place, part in found.items()]


def _distinct(days: Array) -> Array:
    """Each of sorted days once."""
    is_new = np.ones(len(days), dtype=bool)
    is_new[1:] = days[1:] != days[:-1]
    return days[is_new]


def frequency_of(combinations: Sequence[Combination]) -> str | None:
    """The frequency that all combinations of more than one date have; None if they differ, or if there is no such combination."""
    found = {periods.frequency_of(one.dates) for one in combinations if len(one.dates) > 1}
    return found.pop() if len(found) == 1 else None


def first_day(table: pa.Table, kind: DataType) -> datetime.date:
    return min(pc.min(table[name]).as_py() for name in kind.date_columns)


def last_day(table: pa.Table, kind: DataType) -> datetime.date:
    return max(pc.max(table[name]).as_py() for name in kind.date_columns)


def misfits(combinations: Sequence[Combination]) -> Iterator[tuple[Combination, str]]:
    """The combinations of Sales that have no frequency, or do not fit the first one that has, with a sentence about each."""
    known = next((one for one in combinations if periods.frequency_of(one.dates)), None)
    for one in combinations:
        own = periods.frequency_of(one.dates)
        if own is None and len(one.dates) > 1:
            yield one, f"The dates of {one.label} are neither daily, nor weekly, nor monthly."
        elif known is not None and not _fits(one.dates, known.dates):
            yield one, f"The periods of {one.label} do not begin on the same days as those of {known.label}."


def _fits(dates: Array, known: Array) -> bool:
    """Whether dates have the frequency of others, and the same weekday; one date alone has no frequency."""
    frequency = str(periods.frequency_of(known))
    if len(dates) > 1 and periods.frequency_of(dates) != frequency:
        return False
    if frequency == "monthly":
        return bool((dates.astype("datetime64[M]").astype("datetime64[D]") == dates).all())
    step = periods.WEEK_DAYS if frequency == "weekly" else 1
    return bool(((dates - known[0]).astype(np.int64) % step == 0).all())


def missing(combination: Combination, frequency: str) -> Array:
    """datetime64[D]: the periods between the first and the last date that have no rows."""
    grid = periods.Periods.between(combination.dates[0], combination.dates[-1], frequency).starts
    return grid[~np.isin(grid, combination.dates)]
