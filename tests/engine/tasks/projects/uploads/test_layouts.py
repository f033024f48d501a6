"""The same data is the same rows, as long and as wide, as CSV and as a workbook."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.tasks.projects.uploads.checks import MISSING, PLACE, number_of
from engine.tasks.projects.uploads.csv_file import CsvFile
from engine.tasks.projects.uploads.files import Asked
from engine.tasks.projects.uploads.problems import Problems
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import finished
from tests.engine.tasks.projects.uploads.asking import Records, as_csv, as_workbook, read

COUNTRIES = st.sampled_from(["SWE", "NOR", "DNK"])
PLACES = st.text(st.sampled_from("abzåß ÄÖ09()_+-"), min_size=1, max_size=8).filter(str.strip)
# A text that begins so is a formula or an error to the library that writes workbooks here.
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), min_size=1, max_size=8).filter(
    lambda text: text.isprintable() and text.strip() and text not in MISSING and text[0] not in "=#"
)
# Workbooks of that library keep 16 digits.
AMOUNTS = st.integers(0, 10**12).map(lambda number: number / 1000)


@dataclass(frozen=True, slots=True)
class Kind:
    """Headers of keys with what may stand there; `Metric` is a row of a wide file."""

    name: str
    keys: dict[str, st.SearchStrategy[str]]
    may_have_gaps: bool = True
    values: tuple[str, ...] = ("Value",)


SALES_KEYS = {"Country": COUNTRIES, "Region": PLACES, "Product": NAMES}
MEDIA_KEYS = {"Country": COUNTRIES, "Product": NAMES, "Media": NAMES, "Metric": st.just("Investment")}
KINDS = st.sampled_from(
    [
        Kind("Sales", SALES_KEYS, may_have_gaps=False, values=("UnitsSold", "PricePerUnit")),
        Kind("Media", MEDIA_KEYS, may_have_gaps=False),
        Kind("Extra", {"Country": COUNTRIES, "Region": PLACES, "Grouping": PLACES, "Product": NAMES, "Name": NAMES}),
        Kind("Visits", {"Country": COUNTRIES, "Source": NAMES, "Metric": NAMES}),
        Kind("Price", {"Product": NAMES, "Country": COUNTRIES}),
    ]
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One set of series. amounts: by series, date and value."""

    kind: Kind
    series: list[tuple[str, ...]]
    dates: list[str]
    amounts: list[list[list[float | None]]]

    def long(self, order: Sequence[int]) -> Records:
        records = [
            [*key, date, *amounts]
            for key, by_date in zip(self.series, self.amounts, strict=True)
            for date, amounts in zip(self.dates, by_date, strict=True)
        ]
        return [[*self.kind.keys, "Date", *self.kind.values], *(records[place] for place in order)]

    def wide(self) -> Records:
        num_values = len(self.kind.values)
        head: list[list[Any]] = [
            [header, *(key[place] for key in self.series for _ in range(num_values))] for place, header in enumerate(self.kind.keys)
        ]
        if num_values > 1:
            head.append(["Metric", *self.kind.values * len(self.series)])
        rows = [
            [date, *(amount for by_date in self.amounts for amount in by_date[number])] for number, date in enumerate(self.dates)
        ]
        return [*head, *rows]


@st.composite
def sheets(draw: st.DrawFn) -> tuple[Sheet, list[int]]:
    kind = draw(KINDS)
    series = draw(st.lists(st.tuples(*kind.keys.values()), min_size=1, max_size=4, unique=True))
    dates = draw(st.permutations(sets.weeks(draw(st.integers(1, 4)))))
    amount = st.one_of(st.none(), AMOUNTS) if kind.may_have_gaps else AMOUNTS
    of_date = st.lists(amount, min_size=len(kind.values), max_size=len(kind.values))
    of_series = st.lists(of_date, min_size=len(dates), max_size=len(dates))
    amounts = draw(st.lists(of_series, min_size=len(series), max_size=len(series)))
    return Sheet(kind, series, list(dates), amounts), draw(st.permutations(range(len(series) * len(dates))))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sheets())
def test_the_same_data_is_the_same_rows_in_every_layout_and_kind_of_file(drawn: tuple[Sheet, list[int]]) -> None:
    sheet, order = drawn
    with tempfile.TemporaryDirectory() as folder:
        contents = {
            "long.csv": as_csv(sheet.long(order)),
            "wide.csv": as_csv(sheet.wide(), "\n"),
            "long.xlsx": as_workbook(sheet.long(order)),
            "wide.xlsx": as_workbook(sheet.wide()),
        }
        answers = {name: read(Path(folder) / name, content, sheet.kind.name) for name, content in contents.items()}
        first, *others = answers.values()
        assert first.table.num_rows == len(order)
        for other in others:
            assert other.table.equals(first.table)
            assert {**other.body, "Layout": ""} == {**first.body, "Layout": ""}
        assert [answer.body["Layout"] for answer in answers.values()] == ["long", "wide", "long", "wide"]


def test_places_are_as_the_names_of_regions_may_be() -> None:
    assert PLACE.fullmatch("Åre (fjäll) ßø_æ+Ü-ẞ 12")
    assert not any(PLACE.fullmatch(character) for character in ".;,/&'é١\t")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text("0123456789.eE+-naNif_x \t", max_size=12), st.floats().map(repr), st.text(max_size=3)))
def test_a_number_is_the_same_whether_it_is_parsed_at_once_or_as_text(text: str) -> None:
    """The quick way takes what the careful way takes, and nothing else: a fault elsewhere in the file decides which is used."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(as_csv([("Name", "Value"), ("x", text)]))
        problems = Problems()
        [_, cells] = finished(
            CsvFile(path, problems).columns(Asked(1, ["Name", "Value"], [False, True], 9, as_text=False), problems)
        )
    value = cells.texts[0].as_py() if len(cells.texts) else None
    if isinstance(value, float) and abs(value) < 1e15:
        assert number_of(text) == value
    elif isinstance(value, str):
        assert not isinstance(number_of(text), float) or text in MISSING
