"""What uploads and joins write, models read: the public sets go the whole way from CSV files to a fit."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from engine.tasks.projects.sources import Dataset, NoRows
from tests import corpora
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import COMBINATION, Data
from tests.engine.tasks.projects.uploads.asking import (
    EVENTS,
    EXTRA,
    MEDIA,
    SALES,
    Records,
    as_csv,
    as_workbook,
    files_of,
    join,
    joined_files,
    read,
)

Table = list[dict[str, str]]
NO_EVENT = ("", "na", "0", "0.0")


def example() -> tuple[Table, str, str]:
    """Rows, and the columns of date and sales."""
    return list(csv.DictReader(io.StringIO(corpora.marketing("mmm_example.csv")))), "date_week", "y"


def robyn() -> tuple[Table, str, str]:
    return list(csv.DictReader(io.StringIO(corpora.weekly_sales()))), "DATE", "revenue"


def sent(rows: Table, date: str, target: str, series: Mapping[str, list[str]], events: list[str]) -> dict[str, Records]:
    """Type -> the file that a person would make of a public set: Sales is wide, the others are long."""
    head = [("Country", "SWE", "SWE"), ("Region", "all", "all"), ("Product", "all", "all"), ("Metric", "UnitsSold", "PricePerUnit")]
    days = [row[date][:10] for row in rows]
    happened = [
        ("SWE", "all", day, str(np.datetime64(day) + 6), name if row[name][0].isdigit() else row[name])
        for day, row in zip(days, rows, strict=True)
        for name in events
        if row[name] not in NO_EVENT
    ]
    weeks = list(zip(days, rows, strict=True))
    return {
        "Sales": [*head, *((day, row[target], 1) for day, row in weeks)],
        "Media": [MEDIA, *(("SWE", day, "all", name, "Investment", row[name]) for name in series["Media"] for day, row in weeks)],
        "Extra": [EXTRA, *(("SWE", day, name, row[name]) for name in series["Extra"] for day, row in weeks)],
        "Events": [EVENTS, *happened],
    }


@pytest.mark.parametrize(
    ("public", "reference", "series", "events"),
    [
        pytest.param(
            example,
            sets.example,
            {"Media": ["x1", "x2"], "Extra": []},
            ["event_1", "event_2"],
            marks=corpora.needs(corpora.PYMC_MARKETING),
        ),
        pytest.param(
            robyn,
            sets.robyn,
            {"Media": list(sets.ROBYN_MEDIA), "Extra": ["competitor_sales_B", "newsletter"]},
            ["events"],
            marks=corpora.needs(corpora.ROBYNPY),
        ),
    ],
)
def test_a_public_set_goes_from_files_to_a_fit(
    tmp_path: Path,
    public: Callable[[], tuple[Table, str, str]],
    reference: Callable[[Path], Data],
    series: dict[str, list[str]],
    events: list[str],
) -> None:
    files = {name: records for name, records in sent(*public(), series, events).items() if len(records) > 1}
    contents = {name: as_workbook(records) if name == "Sales" else as_csv(records) for name, records in files.items()}
    uploads = [files_of(read(tmp_path / name, content, name)) for name, content in contents.items()]
    expected = reference(tmp_path / "reference")
    data = Data(joined_files(join(tmp_path / "joined", *uploads)), expected.dates)

    found, wanted = (Dataset(one.files, COMBINATION) for one in (data, expected))
    sources = [{"dataset_name": "Sales"}]
    sources += [{"dataset_name": kind, "name": name} for kind, names in series.items() for name in names]
    sources += [{"dataset_name": "Events", "event": name} for name in sorted(set(wanted.rows("Events")["event"].to_pylist()))]
    for source in sources:
        assert found.series(source).values == pytest.approx(wanted.series(source).values), source

    train, held_out = slice(0, -26), slice(-26, None)
    checked = data.check(None, train, held_out)
    dates = {"train_dates": data.dates[train], "eval_dates": data.dates[held_out]}
    part, payload, _ = sets.task("fit", sets.fit_header(data, checked["Instance"], tmp_path / "model", **dates))
    assert "refused" not in part
    answer = next(value for value in sets.values(part, payload).values() if "Metrics" in value)
    assert answer["Metrics"]["Train"]["R2"] > 0.5


def test_a_series_is_found_by_the_word_that_named_it(tmp_path: Path) -> None:
    weeks = sets.weeks(30)
    numbered = list(enumerate(weeks, 1))
    files: dict[str, Records] = {
        "Sales": [SALES, *(("SWE", "all", day, "shoes", number, 2) for number, day in numbered)],
        "Brand": [("Country", "Date", "Metric", "Value"), *(("SWE", day, "Awareness", number) for number, day in numbered)],
        "Visits": [("Country", "Date", "Source", "Value"), *(("SWE", day, "Google", number) for number, day in numbered)],
        "Price": [("Country", "Date", "Product", "Value"), *(("SWE", day, "shoes", number) for number, day in numbered)],
    }
    uploads = [files_of(read(tmp_path / name, as_csv(records), name)) for name, records in files.items()]
    data = Data(joined_files(join(tmp_path / "joined", *uploads)), weeks)
    for key in ("metric", "name"):
        assert Dataset(data.files, COMBINATION).series({"dataset_name": "Brand", key: "Awareness"}).values[-1] == 30.0
    names = {node["id"] for node in data.check()["Graph"]["nodes"]}
    assert names == {"sales", "brand.Awareness", "visits.Google", "price.shoes", "seasonality", "trend"}


def test_a_price_that_is_missing_for_a_while_is_carried(tmp_path: Path) -> None:
    weeks = sets.weeks(4)
    prices = [(2, 4), ("", 4), ("", ""), (6, "")]
    both = list(zip(weeks, prices, strict=True))
    rows = [("SWE", "all", day, name, 1, price) for day, pair in both for name, price in zip("ab", pair, strict=True)]
    upload = files_of(read(tmp_path / "sales", as_csv([SALES, *rows])))
    dataset = Dataset(joined_files(join(tmp_path / "joined", upload)), COMBINATION)
    assert dataset.series({"dataset_name": "Sales", "metric": "PricePerUnit"}).values.tolist() == [3.0, 4.0, 4.0, 6.0]
    assert dataset.series({"dataset_name": "Sales"}).values.tolist() == [2.0] * 4
    assert dataset.series({"dataset_name": "Sales", "metric": "Revenue"}).values.tolist() == [6.0, 8.0, 8.0, 12.0]
    with pytest.raises(NoRows):
        dataset.series({"dataset_name": "Sales", "metric": "ProfitPerUnit"})
