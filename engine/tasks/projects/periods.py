"""Periods: the even grid of days, weeks or months that a model sees, and how dates of other data fall into it.

A period runs from its first day to the day before the next one. Dates are numpy days (datetime64[D]). Knows no file.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray

WEEK_DAYS = 7
DAY = np.timedelta64(1, "D")


def frequency_of(dates: Array) -> str | None:
    """`monthly`, `weekly` or `daily` for sorted distinct dates; None if they fit none of them, or are fewer than two."""
    if len(dates) < 2:
        return None
    gaps = np.diff(dates).astype(np.int64)
    if (dates.astype("datetime64[M]").astype("datetime64[D]") == dates).all():
        return "monthly"
    if (gaps % WEEK_DAYS == 0).all() and (gaps == WEEK_DAYS).any():
        return "weekly"
    return "daily" if (gaps == 1).mean() > 0.5 else None


def spacing(frequency: str) -> float:
    """The mean length of a period in days."""
    return {"monthly": 365.25 / 12, "weekly": 7.0, "daily": 1.0}[frequency]


def following(dates: Array, frequency: str, steps: int = 1) -> Array:
    """The first days of the periods that begin `steps` periods later."""
    if frequency == "monthly":
        return (dates.astype("datetime64[M]") + steps).astype("datetime64[D]")
    return dates + steps * (WEEK_DAYS if frequency == "weekly" else 1) * DAY


@dataclass(frozen=True)
class Periods:
    """Consecutive periods; `starts` are their first days, ascending."""

    starts: Array
    frequency: str

    @classmethod
    def between(cls, first: Any, last: Any, frequency: str) -> "Periods":
        """All periods from one that starts on `first` to the one that holds `last`."""
        first, last = np.datetime64(first, "D"), np.datetime64(last, "D")
        if frequency == "monthly":
            months = np.arange(first.astype("datetime64[M]"), last.astype("datetime64[M]") + 1)
            return cls(months.astype("datetime64[D]"), frequency)
        return cls(np.arange(first, last + DAY, (WEEK_DAYS if frequency == "weekly" else 1) * DAY), frequency)

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def ends(self) -> Array:
        """The first day after each period."""
        return following(self.starts, self.frequency)

    @cached_property
    def lengths(self) -> Array:
        """Days of each period."""
        return (self.ends - self.starts).astype(np.int64)

    def index(self, dates: Array) -> Array:
        """The number of the period that holds each date; -1 before the first, and after the last one."""
        index = np.searchsorted(self.starts, dates, side="right") - 1
        index[dates >= self.ends[-1]] = -1
        return index

    def positions(self, dates: Array) -> Array:
        """The numbers of the periods that start on these dates; -1 where none does."""
        index = self.index(dates)
        return np.where((index >= 0) & (self.starts[index] == dates), index, -1)

    def days_since(self, origin: Any) -> Array:
        """Days from the origin to the start of each period, float64."""
        return (self.starts - np.datetime64(origin, "D")).astype(np.float64)

    def sums(self, dates: Array, values: Array) -> Array:
        """Flows by period: what falls into a period is summed; nothing is 0."""
        index = self.index(dates)
        return np.bincount(index[index >= 0], weights=values[index >= 0], minlength=len(self))

    def spread(self, dates: Array, values: Array, frequency: str) -> Array:
        """Flows of a coarser frequency by period: each is spread evenly over its days."""
        totals = np.zeros(len(self))
        ends = following(dates, frequency)
        for start, end, value in zip(dates, ends, values, strict=True):
            overlap = np.minimum(self.ends, end) - np.maximum(self.starts, start)
            totals += value * np.maximum(overlap.astype(np.int64), 0) / (end - start).astype(np.int64)
        return totals

    def levels(self, dates: Array, values: Array) -> Array:
        """Stocks by period: the mean within it, carried into later ones. Before the first value, the first value."""
        index = np.searchsorted(self.starts, dates, side="right") - 1
        is_before = index < 0
        index[dates >= self.ends[-1]] = -1
        known = index >= 0
        counts = np.bincount(index[known], minlength=len(self))
        sums = np.bincount(index[known], weights=values[known], minlength=len(self))
        levels = np.divide(sums, counts, out=np.full(len(self), np.nan), where=counts > 0)
        if np.isnan(levels[0]):
            earlier = values[is_before][np.argmax(dates[is_before])] if is_before.any() else np.nan
            levels[0] = earlier if np.isfinite(earlier) else levels[~np.isnan(levels)][0] if counts.any() else np.nan
        latest = np.maximum.accumulate(np.where(np.isnan(levels), 0, np.arange(len(self))))
        return levels[latest]

    def covered(self, starts: Array, ends: Array) -> Array:
        """The share of each period's days that some event covers, first and last day included."""
        first = self.starts[0]
        num_days = int((self.ends[-1] - first).astype(np.int64))
        marks = np.zeros(num_days + 1, dtype=np.int64)
        lows = np.clip((starts - first).astype(np.int64), 0, num_days)
        highs = np.clip((ends - first).astype(np.int64) + 1, 0, num_days)
        np.add.at(marks, lows, 1)
        np.add.at(marks, np.maximum(lows, highs), -1)
        is_covered = (np.cumsum(marks)[:num_days] > 0).astype(np.float64)
        return np.add.reduceat(is_covered, (self.starts - first).astype(np.int64)) / self.lengths


def days(texts: Any) -> Array:
    """Dates as written, `2018-01-07`, as numpy days."""
    return np.array(list(texts), dtype="datetime64[D]")


def written(dates: Array) -> list[str]:
    return [str(date) for date in dates]
