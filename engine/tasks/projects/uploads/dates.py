"""The task `dates`: on which dates of Sales a dataset has rows of a type. It reads places and dates alone."""

from collections.abc import Mapping
from functools import reduce

import numpy as np
import pyarrow as pa

from engine.frames import Header
from engine.tasks.projects import periods
from engine.tasks.projects.periods import Periods
from engine.tasks.projects.refusals import Refusal
from engine.tasks.projects.uploads import combinations, rows
from engine.tasks.projects.uploads.combinations import Place
from engine.tasks.projects.uploads.types import ALL, type_of, word_of

Array = np.ndarray

SALES = "Sales"


def dates(header: Header) -> list[str]:
    """The answer of the task. Refusal `unknown_combination`."""
    files = {word_of(name): path for name, path in header["files"].items()}
    sales = _Spans.of(files, SALES)
    asked: list[Place] = list(dict.fromkeys(tuple(one) for one in header["combinations"]))
    if unknown := [place for place in asked if place not in sales.parts]:
        details = [{"Code": "unknown_combination", "Message": "Sales has this one.", "Value": list(one)} for one in sales.parts]
        raise Refusal("unknown_combination", f"Sales has no rows for {', '.join(unknown[0])}.", details)
    found = [np.unique(sales.starts[sales.parts[place]]) for place in asked]
    if word_of(header["dataset_name"]) != word_of(SALES):
        others, frequency = _Spans.of(files, header["dataset_name"]), sales.frequency
        found = [others.within(place, own, frequency) for place, own in zip(asked, found, strict=True)]
    return periods.written(reduce(lambda one, other: np.intersect1d(one, other, assume_unique=True), found))


class _Spans:
    """The days of the rows of one type.

    starts, ends   datetime64[D] [rows]: first and last day, which are the same but for Events
    parts          country, region and grouping -> where their rows are
    """

    def __init__(self, starts: Array, ends: Array, parts: Mapping[Place, slice]) -> None:
        self.starts = starts
        self.ends = ends
        self.parts = parts

    @classmethod
    def of(cls, files: Mapping[str, str], name: str) -> "_Spans":
        """Of a type that has no file: no rows."""
        kind = type_of(name)
        if word_of(name) not in files:
            return cls(np.array([], "datetime64[D]"), np.array([], "datetime64[D]"), {})
        table = rows.read(files[word_of(name)], kind, [*combinations.PLACE_COLUMNS, *kind.date_columns])
        days = [_days(table[column]) for column in kind.date_columns]
        return cls(days[0], days[-1], combinations.parts(table))

    @property
    def frequency(self) -> str:
        """Of Sales, which the join has checked."""
        found = (periods.frequency_of(np.unique(self.starts[part])) for part in self.parts.values())
        return next(frequency for frequency in found if frequency)

    def within(self, place: Place, sales: Array, frequency: str) -> Array:
        """Those dates of Sales in whose periods there is a row, for the first level of places that has some."""
        country, region, _ = place
        levels = (place, (country, region, ALL), (country, ALL, ALL))
        part = next((self.parts[level] for level in levels if level in self.parts), slice(0, 0))
        grid = Periods.between(sales[0], sales[-1], frequency)
        is_covered = grid.covered(self.starts[part], self.ends[part]) > 0
        return sales[is_covered[grid.positions(sales)]]


def _days(column: pa.ChunkedArray) -> Array:
    return column.cast(pa.int32()).to_numpy().astype("datetime64[D]")
