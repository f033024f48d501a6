"""Refused files: each code with its row and column, the first hundred of many, and nothing written."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.uploads.asking import EVENTS, EXTRA, MEDIA, SALES, Records, as_csv, as_workbook, read, sales

GOOD = ("SWE", "all", "2018-01-07", "shoes", 1, 2)
SPENT = ("SWE", "2018-01-07", "shoes", "TV", "Investment", 1)
WIDE = [("Country", "SWE", "SWE"), ("Region", "all", "all"), ("Product", "a", "a"), ("Metric", "UnitsSold", "PricePerUnit")]


def with_cell(column: str, value: Any, headers: tuple[str, ...] = SALES, good: tuple[Any, ...] = GOOD) -> Records:
    """A good row, and one in row 3 with another cell, of the next week."""
    later = ["2018-01-14" if cell == "2018-01-07" else cell for cell in good]
    later[headers.index(column)] = value
    return [headers, good, later]


LONG: list[tuple[str, str, Records, tuple[int | None, str | None]]] = [
    ("missing_column", "Sales", [SALES[:-1], GOOD[:-1]], (1, "PricePerUnit")),
    ("unknown_column", "Sales", [(*SALES, "Colour"), (*GOOD, "red")], (1, "Colour")),
    ("unknown_column", "Sales", [("country", *SALES), ("SWE", *GOOD)], (1, "country")),
    ("unknown_column", "Extra", [(*EXTRA, ""), ("SWE", "2018-01-07", "x", 1, "note")], (2, "E")),
    ("bad_date", "Sales", with_cell("Date", "7/1/18"), (3, "Date")),
    ("bad_date", "Sales", with_cell("Date", "2018-02-30"), (3, "Date")),
    ("bad_date", "Sales", with_cell("Date", "٢٠١٨-01-14"), (3, "Date")),
    ("bad_date", "Sales", with_cell("Date", "0018-01-14"), (3, "Date")),
    ("bad_date", "Events", [EVENTS, ("SWE", "all", "2018-01-07", "2018-01-06", "x")], (2, "EndDate")),
    ("bad_number", "Sales", with_cell("UnitsSold", "1,000"), (3, "UnitsSold")),
    ("bad_number", "Sales", with_cell("UnitsSold", "1e400"), (3, "UnitsSold")),
    ("bad_number", "Sales", with_cell("PricePerUnit", "nan"), (3, "PricePerUnit")),
    ("bad_number", "Sales", with_cell("PricePerUnit", "Inf"), (3, "PricePerUnit")),
    ("bad_number", "Sales", with_cell("PricePerUnit", "٣"), (3, "PricePerUnit")),
    ("bad_number", "Sales", with_cell("PricePerUnit", "1_0"), (3, "PricePerUnit")),
    (
        "bad_number",
        "Distribution",
        [("Country", "Region", "Date", "Product", "Channel", "Value"), ("SWE", "all", "2018-01-07", "a", "web", 1.5)],
        (2, "Value"),
    ),
    ("bad_country", "Sales", with_cell("Country", "Swe"), (3, "Country")),
    ("bad_country", "Sales", with_cell("Country", "XXX"), (3, "Country")),
    ("bad_charset", "Sales", with_cell("Region", "a;b"), (3, "Region")),
    ("bad_charset", "Sales", with_cell("Region", "a" * 81), (3, "Region")),
    ("bad_charset", "Sales", with_cell("Product", "a\tb"), (3, "Product")),
    ("bad_charset", "Sales", with_cell("Product", "a\u202eb"), (3, "Product")),
    ("bad_charset", "Sales", with_cell("Product", "a" * 121), (3, "Product")),
    ("bad_metric", "Media", with_cell("Metric", "Spend", MEDIA, SPENT), (3, "Metric")),
    ("missing_value", "Sales", with_cell("Product", ""), (3, "Product")),
    ("missing_value", "Sales", with_cell("UnitsSold", "NaN"), (3, "UnitsSold")),
    ("missing_value", "Sales", with_cell("Country", "null"), (3, "Country")),
    ("missing_value", "Media", with_cell("Value", "", MEDIA, SPENT), (3, "Value")),
    ("missing_investment", "Media", [MEDIA, SPENT, ("SWE", "2018-01-14", "shoes", "TV", "Clicks", 1)], (3, "Metric")),
    ("duplicate_key", "Sales", [SALES, GOOD, (*GOOD[:-1], 3)], (3, None)),
    ("negative_value", "Sales", with_cell("UnitsSold", -1), (3, "UnitsSold")),
    ("negative_value", "Media", with_cell("Value", -1, MEDIA, SPENT), (3, "Value")),
    ("empty_file", "Sales", [], (None, None)),
    ("empty_file", "Sales", [SALES], (None, None)),
    ("mixed_frequency", "Sales", [SALES, GOOD, ("SWE", "all", "2018-01-10", "shoes", 1, 2)], (None, "Date")),
    ("bad_layout", "Sales", [SALES, GOOD, (*GOOD, "and more")], (3, None)),
    ("bad_layout", "Sales", [(), SALES, GOOD], (1, None)),
    ("bad_layout", "Sales", [(*SALES, "Date"), (*GOOD, "2018-01-07")], (1, "Date")),
    ("bad_layout", "Events", [("Country", "SWE"), ("Region", "all"), ("Event", "x")], (None, None)),
    ("too_many_rows", "Sales", [["x"] * 2001], (None, None)),
]
IDS = [f"{code}-{number}" for number, (code, *_) in enumerate(LONG)]


@pytest.mark.parametrize(("code", "dataset_name", "records", "place"), LONG, ids=IDS)
def test_each_code_has_its_row_and_column(
    tmp_path: Path, code: str, dataset_name: str, records: Records, place: tuple[int | None, str | None]
) -> None:
    answer = read(tmp_path, as_csv(records), dataset_name)
    assert answer.faults == [(code, *place)]
    assert (answer.refused["code"], answer.refused["message"]) == ("invalid_file", "1 problem in s.csv.")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("code", "dataset_name", "records", "place"), LONG, ids=IDS)
def test_a_workbook_is_refused_as_the_same_csv_file_is(
    tmp_path: Path, code: str, dataset_name: str, records: Records, place: tuple[int | None, str | None]
) -> None:
    if place == (2, "E"):
        place, code = (2, None), "bad_layout"  # without a header a workbook has no column there
    cells = [[None if cell == "" else cell for cell in record] for record in records]
    assert read(tmp_path, as_workbook(cells), dataset_name).faults == [(code, *place)]


@pytest.mark.parametrize(
    ("code", "records", "place"),
    [
        ("bad_country", [("Country", "SWE", "Swe"), *WIDE[1:], ("2018-01-07", 1, 2)], (1, "C")),
        ("bad_charset", [WIDE[0], ("Region", "a;b", "all"), *WIDE[2:], ("2018-01-07", 1, 2)], (2, "B")),
        ("bad_metric", [*WIDE[:3], ("Metric", "UnitsSold", "Price"), ("2018-01-07", 1, 2)], (4, "C")),
        ("missing_value", [*WIDE[:2], ("Product", "a", ""), WIDE[3], ("2018-01-07", 1, 2)], (3, "C")),
        ("missing_value", [*WIDE, ("2018-01-07", 1, 2), ("2018-01-14", "", 2)], (6, "B")),
        ("missing_value", [*WIDE, ("2018-01-07", 1, 2), ("", 1, 2)], (6, "A")),
        ("missing_column", [*WIDE[:2], WIDE[3], ("2018-01-07", 1, 2)], (None, "Product")),
        ("missing_column", [record[:2] for record in [*WIDE, ("2018-01-07", 1)]], (None, "PricePerUnit")),
        ("unknown_column", [*WIDE, ("Colour", "red", "red"), ("2018-01-07", 1, 2)], (5, "A")),
        ("duplicate_key", [*([*row, row[1]] for row in WIDE), ("2018-01-07", 1, 2, 3)], (None, "D")),
        ("duplicate_key", [*WIDE, ("2018-01-07", 1, 2), ("2018-01-07", 1, 2)], (6, None)),
        ("bad_layout", [*WIDE, WIDE[1], ("2018-01-07", 1, 2)], (5, "A")),
        ("bad_layout", [*([*row, ""] for row in WIDE), ("2018-01-07", 1, 2, 3)], (5, "D")),
        ("bad_layout", [*WIDE, ("2018-01-07", 1)], (5, None)),
        ("bad_date", [*WIDE, ("2018-01-07", 1, 2), ("2018-1-14", 1, 2)], (6, "A")),
        ("bad_number", [*WIDE, ("2018-01-07", 1, "two")], (5, "C")),
        ("negative_value", [*WIDE, ("2018-01-07", 1, -2)], (5, "C")),
        ("mixed_frequency", [*WIDE, ("2018-01-07", 1, 2), ("2018-01-10", 1, 2)], (None, "Date")),
        ("empty_file", WIDE, (None, None)),
        ("empty_file", [("Country",), ("Region",), ("Product",), ("Metric",), ("2018-01-07",)], (None, None)),
    ],
)
def test_a_wide_file_has_letters_for_columns(
    tmp_path: Path, code: str, records: Records, place: tuple[int | None, str | None]
) -> None:
    assert read(tmp_path, as_csv(records)).faults == [(code, *place)]
    if code != "bad_layout":  # the rows of a workbook have no common length
        cells = [[None if cell == "" else cell for cell in record] for record in records]
        assert read(tmp_path, as_workbook(cells)).faults == [(code, *place)]


def test_wide_media_need_a_series_of_investments_for_each_key(tmp_path: Path) -> None:
    head = [
        ("Country", *["SWE"] * 3),
        ("Product", *"aaa"),
        ("Media", "TV", "TV", "Radio"),
        ("Metric", "Clicks", "Investment", "GRP"),
    ]
    assert read(tmp_path, as_csv([*head, ("2018-01-07", "", 2, 3)]), "Media").faults == [("missing_investment", None, "D")]
    assert read(tmp_path, as_csv([row[:3] for row in [*head, ("2018-01-07", 1, "")]]), "Media").faults == [
        ("missing_value", 5, "C")
    ]
    rows = read(tmp_path, as_csv([row[:3] for row in [*head, ("2018-01-07", "", 2)]]), "Media").rows
    assert [(row["metric"], row["value"]) for row in rows] == [("Clicks", None), ("Investment", 2.0)]


def test_a_formula_and_an_error_are_no_values(tmp_path: Path) -> None:
    content = as_workbook([EXTRA, ("SWE", "2018-01-07", "x", "=1+1"), ("SWE", "2018-01-08", "=A1", "#N/A")])
    answer = read(tmp_path, content, "Extra")
    found = [(*place, one["Value"]) for place, one in zip(answer.faults, answer.refused["details"], strict=True)]
    assert found == [
        ("formula_cell", 2, "Value", "=1+1"),
        ("formula_cell", 3, "Name", "=A1"),
        ("formula_cell", 3, "Value", "#N/A"),
    ]


def test_a_formula_among_headers_is_told_as_one_in_both_layouts(tmp_path: Path) -> None:
    long = as_workbook([(*EXTRA[:-1], '="Value"'), ("SWE", "2018-01-07", "x", 1)])
    wide = as_workbook([("Country", "SWE", "SWE"), ("Name", "x", '="y"'), ("2018-01-07", 1, 2)])
    assert read(tmp_path, long, "Extra").faults == [("formula_cell", 1, "D")]
    assert read(tmp_path, wide, "Extra").faults == [("formula_cell", 2, "C")]


def test_a_workbook_has_one_sheet(tmp_path: Path) -> None:
    answer = read(tmp_path, as_workbook([EXTRA, ("SWE", "2018-01-07", "x", 1)], "Notes"), "Extra")
    assert answer.faults == [("extra_sheet", None, None)]
    assert answer.refused["details"][0]["Value"] == "Notes"


def test_bytes_that_are_not_utf_8_are_named_where_they_stand(tmp_path: Path) -> None:
    content = as_csv([SALES, GOOD, ("SWE", "Malmö", "2018-01-14", "shoes", 1, 2)])
    assert read(tmp_path, content.decode().encode("latin-1")).faults == [("bad_charset", 3, "Region")]
    assert read(tmp_path, content.decode().encode("utf-16")).faults == [("bad_charset", None, None)]
    assert read(tmp_path, content + b"\xff\n").faults == [("bad_layout", 4, None)]
    assert read(tmp_path, "Länd,Date\n".encode("latin-1")).faults[0] == ("bad_charset", 1, "L\ufffdnd")


def test_a_file_with_other_separators_is_told_so(tmp_path: Path) -> None:
    answer = read(tmp_path, as_csv([SALES, GOOD]).replace(b",", b";"))
    assert answer.faults == [("bad_layout", 1, None)]


def test_all_problems_of_a_file_are_told_in_its_order(tmp_path: Path) -> None:
    records = [SALES, ("SWE", "all", "7/1/18", "", "x", -1), (), ("XXX", "a/b", "2018-01-07", "shoes", 1, 2), GOOD[:3], GOOD, GOOD]
    assert read(tmp_path, as_csv(records)).faults == [
        ("bad_date", 2, "Date"),
        ("missing_value", 2, "Product"),
        ("bad_number", 2, "UnitsSold"),
        ("negative_value", 2, "PricePerUnit"),
        ("bad_country", 4, "Country"),
        ("bad_charset", 4, "Region"),
        ("bad_layout", 5, None),
        ("duplicate_key", 7, None),
    ]


def test_the_first_hundred_problems_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    records = [SALES, *(("Swe", "all", day, "shoes", "x", 2) for day in sets.weeks(500))]
    answer = read(tmp_path, as_csv(records))
    assert answer.refused["details_total"] == 1000
    assert answer.refused["message"] == "1,000 problems in s.csv."
    assert [place[1] for place in answer.faults] == [row for row in range(2, 52) for _ in range(2)]


def test_a_value_is_shown_as_it_is_written_and_cut(tmp_path: Path) -> None:
    records = [SALES, ("SWE", "all", "2018-01-07", "shoes", "01.50x" + "y" * 200, "-1.50")]
    first, second = read(tmp_path, as_csv(records)).refused["details"]
    assert first["Value"] == ("01.50x" + "y" * 200)[:100]
    assert second["Value"] == "-1.50"


def test_a_file_has_at_most_so_many_rows(tmp_path: Path) -> None:
    content = sales(sets.weeks(11))
    assert read(tmp_path, content, max_rows=11).body["Rows"] == 11
    assert read(tmp_path, content, max_rows=10).faults == [("too_many_rows", None, None)]


def test_a_wide_file_has_at_most_so_many_cells(tmp_path: Path) -> None:
    records = [("Country", *["SWE"] * 5), ("Name", *"abcde"), *((day, *range(5)) for day in sets.weeks(10))]
    assert read(tmp_path, as_csv(records), "Extra", max_rows=50).body["Rows"] == 50
    assert read(tmp_path, as_csv(records), "Extra", max_rows=49).faults == [("too_many_rows", None, None)]


def test_combinations_have_one_weekday_and_one_frequency(tmp_path: Path) -> None:
    records = [SALES, *(("SWE", "all", day, "shoes", 1, 2) for day in sets.weeks(3))]
    other_day = read(tmp_path, as_csv([*records, ("NOR", "all", "2018-01-08", "shoes", 1, 2)]))
    assert other_day.faults == [("mixed_frequency", None, "Date")]
    daily = [("NOR", "all", f"2018-01-0{day}", "shoes", 1, 2) for day in range(1, 5)]
    assert read(tmp_path, as_csv([*records, *daily])).faults == [("mixed_frequency", None, "Date")]
    assert read(tmp_path, as_csv([*records, ("NOR", "all", "2018-02-25", "shoes", 1, 2)])).body["Frequency"] == "weekly"
