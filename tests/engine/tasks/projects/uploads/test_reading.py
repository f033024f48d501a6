"""Uploads: every type of data, both layouts and both kinds of files become canonical rows."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.uploads.asking import EVENTS, EXTRA, MEDIA, SALES, as_csv, as_workbook, read, sales

DAY = datetime.date(2018, 1, 7)
LONG_COLUMNS = ["country", "region", "grouping", "date", "product", "name", "subname", "metric", "value"]
ANYWHERE = {"country": "SWE", "region": "all", "grouping": "all"}
NOTHING = {"product": "all", "subname": None, "metric": None}


def test_the_answer_tells_what_the_file_holds(tmp_path: Path) -> None:
    answer = read(tmp_path, sales(sets.weeks(3)) + sales(sets.weeks(2, "2018-01-14"), place=("NOR", "Oslo")).split(b"\r\n", 1)[1])
    swe = {"Country": "SWE", "Region": "all", "Grouping": "all", "FirstDate": "2018-01-07", "LastDate": "2018-01-21", "Periods": 3}
    nor = {"Country": "NOR", "Region": "Oslo", "Grouping": "all", "FirstDate": "2018-01-14", "LastDate": "2018-01-21", "Periods": 2}
    told = {"DatasetName": "Sales", "Layout": "long", "Rows": 5, "Frequency": "weekly", "Combinations": [nor, swe]}
    assert answer.body == {**told, "FirstDate": "2018-01-07", "LastDate": "2018-01-21"}
    assert answer.part["rows"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "rows.parquet"]


def test_sales_keep_their_own_columns(tmp_path: Path) -> None:
    answer = read(tmp_path, as_csv([SALES, ("SWE", "all", DAY, "shoes", 3, "")]))
    amounts = {"UnitsSold": 3.0, "PricePerUnit": None, "ProfitPerUnit": None}
    assert answer.rows == [{**ANYWHERE, "date": DAY, "product": "shoes", **amounts}]
    assert answer.body["Frequency"] is None


def test_events_have_a_first_and_a_last_day(tmp_path: Path) -> None:
    answer = read(tmp_path, as_csv([EVENTS, ("SWE", "all", DAY, "2018-02-01", 'Black "Friday", really')]), "Events")
    last = datetime.date(2018, 2, 1)
    assert answer.rows == [{**ANYWHERE, "start": DAY, "end": last, "event": 'Black "Friday", really'}]
    assert (answer.body["FirstDate"], answer.body["LastDate"]) == ("2018-01-07", "2018-02-01")


def test_media_have_all_their_optional_columns(tmp_path: Path) -> None:
    records = [(*MEDIA, "TargetGroup"), ("SWE", DAY, "shoes", "TV", "Investment", 5, "18-25")]
    [row] = read(tmp_path, as_csv(records), "Media").rows
    assert list(row) == [*LONG_COLUMNS, "channel", "format", "device", "targetgroup", "creative", "category"]
    assert (row["name"], row["subname"], row["metric"], row["channel"], row["targetgroup"]) == (
        "TV",
        "all",
        "Investment",
        "all",
        "18-25",
    )


@pytest.mark.parametrize(
    ("dataset_name", "columns", "cells", "expected"),
    [
        ("Distribution", ("Region", "Product", "Channel"), ("all", "shoes", "web"), {"product": "shoes", "name": "web"}),
        ("Visits", ("Source",), ("Google",), {"name": "Google", "metric": "all"}),
        ("Competitor", ("Competitor", "Metric"), ("Other Ltd", "Sales"), {"name": "Other Ltd", "metric": "Sales"}),
        ("Brand", ("Metric",), ("Awareness",), {"name": "Awareness"}),
        ("Customer Experience", ("Metric", "Product"), ("NPS", "shoes"), {"name": "NPS", "product": "shoes"}),
        ("Weather", ("Name",), ("Rain",), {"name": "Rain"}),
        ("Price", ("Product",), ("shoes",), {"product": "shoes", "name": None}),
        ("Macro", ("Indicator", "Grouping"), ("CPI", "b2b"), {"name": "CPI", "grouping": "b2b", "product": None}),
        ("Extra", ("Name",), ("Income",), {"name": "Income"}),
        ("Our own_data-2", ("Name",), ("Income",), {"name": "Income"}),
    ],
)
def test_every_other_type_has_the_long_columns(
    tmp_path: Path, dataset_name: str, columns: tuple[str, ...], cells: tuple[str, ...], expected: dict[str, Any]
) -> None:
    answer = read(tmp_path, as_csv([("Country", "Date", "Value", *columns), ("SWE", DAY, 4, *cells)]), dataset_name)
    assert answer.table.column_names == LONG_COLUMNS
    assert answer.rows == [{**ANYWHERE, **NOTHING, "date": DAY, "value": 4.0, **expected}]
    assert answer.body["DatasetName"] == dataset_name


def test_a_known_type_may_be_named_in_any_case(tmp_path: Path) -> None:
    assert read(tmp_path, sales(sets.weeks(2)), "sALES").body["DatasetName"] == "Sales"
    records = [("Country", "Date", "Metric", "Value"), ("SWE", DAY, "NPS", 1)]
    assert read(tmp_path, as_csv(records), "customer_experience").body["DatasetName"] == "Customer Experience"


def test_other_readers_see_plain_strings_days_and_numbers(tmp_path: Path) -> None:
    schema = pq.read_schema(read(tmp_path, as_csv([EXTRA, ("SWE", DAY, "x", 1)]), "Extra").folder / "rows.parquet")
    types = {str(field.type) for field in schema}
    assert types == {"string", "date32[day]", "double"}


def test_empty_nan_and_null_are_gaps_in_values(tmp_path: Path) -> None:
    days = ["2018-01-07", "2018-01-14", "2018-01-21", "2018-01-28"]
    records = [EXTRA, *(("SWE", day, "x", value) for day, value in zip(days, ["", "NaN", "null", "-2.5e-3"], strict=True))]
    for content in (as_csv(records), as_workbook(records)):
        assert read(tmp_path, content, "Extra").table["value"].to_pylist() == [None, None, None, -0.0025]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_a_byte_order_mark_and_blank_lines_do_not_matter(tmp_path: Path, line_end: str) -> None:
    content = as_csv([EXTRA, (), ("SWE", DAY, "x", 1), ("", "", "", ""), ("SWE", "2018-01-08", "x", 2), ()], line_end)
    answer = read(tmp_path, b"\xef\xbb\xbf" + content, "Extra")
    assert answer.table["value"].to_pylist() == [1.0, 2.0]


def test_columns_without_header_and_cells_are_not_there(tmp_path: Path) -> None:
    for content in (as_csv([(*EXTRA, ""), ("SWE", DAY, "x", 1, "")]), as_workbook([(*EXTRA, None), ("SWE", DAY, "x", 1, None)])):
        assert read(tmp_path, content, "Extra").table["value"].to_pylist() == [1.0]


def test_a_workbook_may_have_dates_numbers_and_texts_of_both(tmp_path: Path) -> None:
    noon = datetime.datetime(2018, 1, 14, 12)
    later = datetime.datetime(2018, 1, 21)
    good = as_workbook([EXTRA, ("SWE", DAY, 2018, 1.5), ("SWE", "2018-01-14", True, " 2 "), ("SWE", later, 1.5, 3)])
    rows = read(tmp_path, good, "Extra").rows
    assert [(str(row["date"]), row["name"], row["value"]) for row in rows] == [
        ("2018-01-07", "2018", 1.5),
        ("2018-01-14", "TRUE", 2.0),
        ("2018-01-21", "1.5", 3.0),
    ]
    bad = as_workbook([EXTRA, ("SWE", noon, "x", 1), ("SWE", 43107, "x", 1)])
    assert read(tmp_path, bad, "Extra").faults == [("bad_date", 2, "Date"), ("bad_date", 3, "Date")]


def test_the_kind_of_a_file_is_told_by_its_content(tmp_path: Path) -> None:
    records = [EXTRA, ("SWE", DAY, "x", 1)]
    assert read(tmp_path, as_workbook(records), "Extra").body == read(tmp_path, as_csv(records), "Extra").body


def test_wide_sales_have_a_row_of_metrics(tmp_path: Path) -> None:
    records = [
        ("Product", "shoes", "shoes", "hats", "hats", "hats"),
        ("Metric", "UnitsSold", "PricePerUnit", "PricePerUnit", "ProfitPerUnit", "UnitsSold"),
        ("Country", *["SWE"] * 5),
        ("Region", *["Malmö (syd)"] * 5),
        ("2018-01-14", 1, 2, 3, -4, 5),
        ("2018-01-07", 6, 7, "", "", 8),
    ]
    answer = read(tmp_path, as_csv(records))
    assert (answer.body["Layout"], answer.body["Rows"], answer.body["Frequency"]) == ("wide", 4, "weekly")
    found = [(str(row["date"]), row["product"], *list(row.values())[5:]) for row in answer.rows]
    assert found == [
        ("2018-01-07", "hats", 8.0, None, None),
        ("2018-01-07", "shoes", 6.0, 7.0, None),
        ("2018-01-14", "hats", 5.0, 3.0, -4.0),
        ("2018-01-14", "shoes", 1.0, 2.0, None),
    ]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2018-01-01", "2018-02-01", "2018-04-01"], "monthly"),
        (["2018-01-01", "2018-01-02", "2018-01-03", "2018-01-06"], "daily"),
        (["2018-01-01"], None),
    ],
)
def test_the_frequency_follows_from_the_dates(tmp_path: Path, dates: list[str], expected: str | None) -> None:
    assert read(tmp_path, sales(dates)).body["Frequency"] == expected


def test_other_types_may_have_any_dates(tmp_path: Path) -> None:
    records = [EXTRA, *(("SWE", day, "x", 1) for day in ("2018-01-01", "2018-01-03", "2018-01-07"))]
    assert read(tmp_path, as_csv(records), "Extra").body["Frequency"] is None


def test_progress_is_told_in_bytes_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.projects.progress.INTERVAL_S", 0)
    answer = read(tmp_path, sales(sets.weeks(50)))
    [frame] = [frame["progress"] for frame in answer.frames]
    size = (tmp_path / "file").stat().st_size
    assert (frame["Stage"], frame["Done"], frame["Total"]) == ("read", size, size)


def test_a_second_attempt_replaces_what_the_first_has_left(tmp_path: Path) -> None:
    (tmp_path / ".rows.parquet.new").write_bytes(b"half a fi")
    (tmp_path / "rows.parquet").write_bytes(b"old")
    assert len(read(tmp_path, sales(sets.weeks(2))).rows) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "rows.parquet"]
