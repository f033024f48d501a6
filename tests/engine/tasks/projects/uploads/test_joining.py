"""Datasets: rows of several sources in order, of which the later win; and on which dates they have rows."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.engine.tasks.preview import asking as previewing
from tests.engine.tasks.preview.asking import Datasets
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.uploads.asking import (
    EVENTS,
    EXTRA,
    MEDIA,
    SALES,
    Answer,
    Records,
    as_csv,
    dates,
    files_of,
    join,
    joined_files,
    read,
    sales,
)

SWE, NOR = ("SWE", "all", "all"), ("NOR", "all", "all")
FIVE_WEEKS = sets.weeks(5)


class Desk:
    """Makes uploads and datasets, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def upload(self, content: bytes | Records, dataset_name: str = "Sales") -> dict[str, str]:
        return files_of(read(self._new(), content if isinstance(content, bytes) else as_csv(content), dataset_name))

    def join(self, *sources: Mapping[str, str]) -> Answer:
        return join(self._new(), *sources)

    def joined(self, *sources: Mapping[str, str]) -> dict[str, str]:
        return joined_files(self.join(*sources))

    def _new(self) -> Path:
        self._count += 1
        return self._folder / str(self._count)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    """Where preview looks for datasets."""
    (tmp_path / "hub").mkdir()
    return Datasets(tmp_path / "hub")


def units(files: Mapping[str, str]) -> dict[str, float]:
    return {str(row["date"]): row["UnitsSold"] for row in pq.read_table(files["Sales"]).to_pylist()}


def test_the_answer_tells_types_combinations_and_files(desk: Desk) -> None:
    media = desk.upload([MEDIA, ("SWE", "2018-01-09", "shoes", "TV", "Investment", 1)], "Media")
    nps = desk.upload([("Country", "Date", "Name", "Value"), ("SWE", "2018-01-09", "NPS", -3)], "Customer Experience")
    answer = desk.join(desk.upload(sales(FIVE_WEEKS)), nps, media)
    place = {"Country": "SWE", "Region": "all", "Grouping": "all"}
    assert answer.body == {
        "Types": [
            {"DatasetName": "Sales", "Rows": 5, "FirstDate": "2018-01-07", "LastDate": "2018-02-04", "Replaced": 0},
            {"DatasetName": "Media", "Rows": 1, "FirstDate": "2018-01-09", "LastDate": "2018-01-09", "Replaced": 0},
            {"DatasetName": "Customer Experience", "Rows": 1, "FirstDate": "2018-01-09", "LastDate": "2018-01-09", "Replaced": 0},
        ],
        "Frequency": "weekly",
        "Combinations": [{**place, "FirstDate": "2018-01-07", "LastDate": "2018-02-04", "Periods": 5}],
    }
    types = {"Sales": "Sales.parquet", "Media": "Media.parquet", "Customer Experience": "Customer_Experience.parquet"}
    assert answer.part == {"size": answer.part["size"], "warnings": [], "types": types, "rows": 7}
    assert {path.name for path in answer.folder.iterdir()} == {"README.md", *types.values()}


def test_the_later_of_equal_keys_wins_and_the_sources_do_not_change(desk: Desk) -> None:
    old = desk.joined(desk.upload(sales(FIVE_WEEKS)))
    before = {name: Path(path).read_bytes() for name, path in old.items()}
    new = desk.join(old, desk.upload(sales(FIVE_WEEKS[3:], [40, 50])), desk.upload(sales(["2018-02-04", "2018-02-11"], [51, 60])))
    assert units(joined_files(new)) == dict(zip(sets.weeks(6), [1.0, 2.0, 3.0, 40.0, 51.0, 60.0], strict=True))
    assert new.body["Types"][0]["Replaced"] == 3
    assert {name: Path(path).read_bytes() for name, path in old.items()} == before


def test_one_new_week_alone_extends(desk: Desk) -> None:
    old = desk.joined(desk.upload(sales(FIVE_WEEKS)))
    answer = desk.join(old, desk.upload(sales(["2018-02-11"])))
    assert answer.body["Combinations"][0]["LastDate"] == "2018-02-11"
    assert answer.part["warnings"] == []
    assert dates(joined_files(answer), "Sales", SWE).body == [*FIVE_WEEKS, "2018-02-11"]


def test_metric_and_campaign_belong_to_the_key_of_media_and_a_later_gap_wins(desk: Desk) -> None:
    headers = (*MEDIA, "Campaign")
    first = [("SWE", "2018-01-07", "a", "TV", metric, 1, campaign) for metric in ("Investment", "GRP") for campaign in "xy"]
    later = [("SWE", "2018-01-07", "a", "TV", "Investment", 2, "x"), ("SWE", "2018-01-07", "a", "TV", "GRP", "", "x")]
    uploads = [desk.upload([headers, *records], "Media") for records in (first, later)]
    answer = desk.join(desk.upload(sales(FIVE_WEEKS)), *uploads)
    rows = pq.read_table(joined_files(answer)["Media"]).to_pylist()
    assert [(row["metric"], row["subname"], row["value"]) for row in rows] == [
        ("GRP", "x", None),
        ("Investment", "x", 2.0),
        ("GRP", "y", 1.0),
        ("Investment", "y", 1.0),
    ]
    assert answer.body["Types"][1]["Replaced"] == 2


def test_types_are_one_whatever_their_capitals(desk: Desk) -> None:
    names = {"2018-01-07": "Our data", "2018-01-08": "our_DATA"}
    uploads = [desk.upload([EXTRA, ("SWE", day, "x", 1)], name) for day, name in names.items()]
    answer = desk.join(desk.upload(sales(FIVE_WEEKS)), *uploads)
    assert [(one["DatasetName"], one["Rows"]) for one in answer.body["Types"]] == [("Sales", 5), ("Our data", 2)]


def test_events_are_joined_by_all_their_columns(desk: Desk) -> None:
    ends = ("2018-01-08", "2018-01-09", "2018-01-08")
    events = [desk.upload([EVENTS, ("SWE", "all", "2018-01-07", end, "x")], "Events") for end in ends]
    answer = desk.join(desk.upload(sales(FIVE_WEEKS)), *events)
    assert answer.body["Types"][1] == {
        "DatasetName": "Events",
        "Rows": 2,
        "FirstDate": "2018-01-07",
        "LastDate": "2018-01-09",
        "Replaced": 1,
    }


def test_a_dataset_without_sales_is_refused(desk: Desk) -> None:
    answer = desk.join(desk.upload([EXTRA, ("SWE", "2018-01-07", "x", 1)], "Extra"))
    assert answer.refused["code"] == "sales_missing"
    assert list(answer.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("others", "place"),
    [
        (["2018-01-15"], NOR),  # a Monday, where all others are Sundays
        (["2018-01-08", "2018-01-15"], NOR),
        (["2018-01-01", "2018-01-02", "2018-01-03"], NOR),
        (["2018-01-10"], SWE),
    ],
)
def test_sales_have_one_frequency_and_weekly_ones_one_weekday(desk: Desk, others: list[str], place: tuple[str, ...]) -> None:
    answer = desk.join(desk.upload(sales(FIVE_WEEKS)), desk.upload(sales(others, place=(place[0], "all"))))
    if place == SWE:  # a day among weeks leaves no frequency
        assert answer.refused["details"][0]["Message"] == "The dates of SWE, all, all are neither daily, nor weekly, nor monthly."
    assert answer.refused["code"] == "mixed_frequency"
    assert len(answer.refused["details"]) == 1
    assert not (answer.folder / "README.md").exists()


def test_sales_of_one_date_have_no_frequency(desk: Desk) -> None:
    assert desk.join(desk.upload(sales(["2018-01-07"]))).refused["code"] == "mixed_frequency"


def test_a_hole_in_sales_is_told_with_its_dates_and_not_offered(desk: Desk) -> None:
    kept = [*FIVE_WEEKS[:2], FIVE_WEEKS[4], "2018-02-11"]
    answer = desk.join(desk.upload(sales(kept)), desk.upload(sales(FIVE_WEEKS, place=("NOR", "all"))))
    [told] = answer.part["warnings"]
    assert (told["Code"], told["Dates"]) == ("gap", FIVE_WEEKS[2:4])
    assert "SWE, all, all" in told["Message"]
    assert dates(joined_files(answer), "Sales", SWE).body == kept


def test_of_long_holes_the_first_hundred_dates_are_told(desk: Desk) -> None:
    answer = desk.join(desk.upload(sales([*FIVE_WEEKS, "2030-01-06"])))
    assert len(answer.part["warnings"][0]["Dates"]) == 100


def test_progress_is_told_in_files(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.projects.progress.INTERVAL_S", 0)
    media = desk.upload([MEDIA, ("SWE", "2018-01-09", "shoes", "TV", "Investment", 1)], "Media")
    answer = desk.join(media, desk.upload(sales(FIVE_WEEKS)), desk.upload(sales(FIVE_WEEKS)))
    told = [frame["progress"] for frame in answer.frames]
    assert [(one["Stage"], one["Done"], one["Total"]) for one in told] == [("join", 0, 3), ("join", 2, 3)]


# Dates


def test_several_combinations_have_the_dates_that_all_of_them_have(desk: Desk) -> None:
    files = desk.joined(desk.upload(sales(FIVE_WEEKS)), desk.upload(sales(sets.weeks(5, "2018-01-21"), place=("NOR", "all"))))
    assert dates(files, "Sales", SWE, NOR, SWE).body == FIVE_WEEKS[2:]
    assert dates(files, "sales", SWE).body == FIVE_WEEKS


def test_a_date_comes_once_however_many_products_there_are(desk: Desk) -> None:
    records = [SALES, *(("SWE", "all", day, product, 1, 2) for product in "ab" for day in reversed(FIVE_WEEKS))]
    assert dates(desk.joined(desk.upload(records)), "Sales", SWE).body == FIVE_WEEKS


def test_another_type_has_the_sales_dates_in_whose_periods_it_has_a_row(desk: Desk) -> None:
    kept = [*FIVE_WEEKS[:2], *FIVE_WEEKS[3:]]
    media = [
        ("SWE", day, "a", "TV", "Investment", 1) for day in ("2018-01-06", "2018-01-13", "2018-01-22", "2018-02-10", "2018-02-11")
    ]
    events = [("SWE", "all", "2018-01-13", "2018-01-14", "x"), ("SWE", "all", "2018-01-22", "2018-01-24", "in the hole")]
    files = desk.joined(desk.upload(sales(kept)), desk.upload([MEDIA, *media], "Media"), desk.upload([EVENTS, *events], "Events"))
    assert dates(files, "Media", SWE).body == ["2018-01-07", "2018-02-04"]
    assert dates(files, "Events", SWE).body == ["2018-01-07", "2018-01-14"]
    assert dates(files, "Price", SWE).body == []


def test_rows_of_a_type_are_looked_for_at_the_same_levels_as_a_model_does(desk: Desk) -> None:
    place = ("SWE", "Skåne", "b2b")
    records = [("Country", "Region", "Grouping", *SALES[2:]), *((*place, day, "shoes", 1, 2) for day in FIVE_WEEKS)]
    headers = ("Country", "Region", "Grouping", "Date", "Name", "Value")
    for number, level in enumerate([("SWE", "all", "all"), ("SWE", "Skåne", "all"), place]):
        levels = [("SWE", "all", "all"), ("SWE", "Skåne", "all"), place][: number + 1]
        rows = [(*one, FIVE_WEEKS[i], "x", 1) for i, one in enumerate(levels)]
        files = desk.joined(desk.upload(records), desk.upload([headers, *rows], "Extra"))
        assert dates(files, "Extra", place).body == [FIVE_WEEKS[number]], level


def test_dates_of_months_and_of_single_dates(desk: Desk) -> None:
    months = ["2018-01-01", "2018-02-01", "2018-03-01"]
    files = desk.joined(desk.upload(sales(months)), desk.upload(sales(["2018-02-01"], place=("NOR", "all"))))
    media = desk.upload([MEDIA, ("NOR", "2018-02-28", "a", "TV", "Investment", 1)], "Media")
    assert dates({**files, **media}, "Media", NOR).body == ["2018-02-01"]
    assert dates({**files, **media}, "Media", NOR, SWE).body == []


def test_a_combination_that_sales_lacks_is_refused(desk: Desk) -> None:
    answer = dates(desk.joined(desk.upload(sales(FIVE_WEEKS))), "Sales", SWE, ("SWE", "Skåne", "all"))
    assert answer.refused["code"] == "unknown_combination"
    assert [one["Value"] for one in answer.refused["details"]] == [["SWE", "all", "all"]]


# What others make of a dataset


def test_preview_shows_and_prepares_a_config_for_each_type(desk: Desk, datasets: Datasets) -> None:
    media = desk.upload([MEDIA, ("SWE", "2018-01-09", "shoes", "TV", "Investment", 1.5)], "Media")
    nps = desk.upload([("Country", "Date", "Metric", "Value"), ("SWE", "2018-01-09", "NPS", -3)], "Customer Experience")
    events = desk.upload([EVENTS, ("SWE", "all", "2018-01-13", "2018-01-14", "x")], "Events")
    shutil.copytree(desk.join(desk.upload(sales(FIVE_WEEKS)), media, nps, events).folder, datasets.root / "d")
    assert datasets.listed("d") == {config: ["train"] for config in ("Sales", "Media", "Events", "Customer_Experience")}
    shown = datasets.rows("d", "Sales")
    assert set(shown.types) == {"country", "region", "grouping", "date", "product", "UnitsSold", "PricePerUnit", "ProfitPerUnit"}
    assert (shown.types["product"], shown.types["UnitsSold"]) == ("STRING", "FLOAT")
    assert shown.column("UnitsSold") == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert datasets.rows("d", "Media").column("name") == ["TV"]
    assert datasets.prepare("d", "Customer_Experience").rows()[0]["value"] == -3.0
    assert datasets.prepare("d", "Events").rows()[0]["event"] == "x"


def test_the_card_says_that_a_dataset_is_private_and_what_it_is(desk: Desk, datasets: Datasets) -> None:
    shutil.copytree(desk.join(desk.upload(sales(FIVE_WEEKS))).folder, datasets.root / "d")
    [found] = previewing.run("scan", roots=[str(datasets.root)], name="d")[0]["datasets"]
    assert found["private"] is True
    assert (found["card"]["title"], found["card"]["description"]) == (
        "acme/demo-dataset-9",
        "What a project has joined; each type of data is a config.",
    )
