"""Sources: how the rows of a dataset become series of its Sales periods."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.tasks.projects.periods import Periods, days, frequency_of
from engine.tasks.projects.sources import Dataset, NoRows
from tests.engine.tasks.projects import sets


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2018-01-01", "2018-02-01", "2018-04-01"], "monthly"),
        (["2018-01-07", "2018-01-14", "2018-02-04"], "weekly"),
        (["2018-01-01", "2018-01-02", "2018-01-03", "2018-01-06"], "daily"),
        (["2018-01-01", "2018-01-03", "2018-01-05"], None),
        (["2018-01-01"], None),
    ],
)
def test_the_frequency_is_told_by_the_dates(dates: list[str], expected: str | None) -> None:
    assert frequency_of(days(dates)) == expected


def test_flows_are_summed_and_coarser_ones_spread_by_days() -> None:
    grid = Periods.between("2018-01-07", "2018-02-04", "weekly")
    flows = grid.sums(days(["2018-01-06", "2018-01-07", "2018-01-13", "2018-01-21"]), np.array([9.0, 1.0, 2.0, 4.0]))
    assert flows.tolist() == [3.0, 0.0, 4.0, 0.0, 0.0]
    spread = grid.spread(days(["2018-01-01"]), np.array([31.0]), "monthly")
    assert spread == pytest.approx([7.0, 7.0, 7.0, 4.0, 0.0])


def test_levels_are_averaged_and_carried_into_later_periods() -> None:
    grid = Periods.between("2018-01-07", "2018-02-04", "weekly")
    levels = grid.levels(days(["2018-01-14", "2018-01-16", "2018-01-28"]), np.array([1.0, 3.0, 5.0]))
    assert levels.tolist() == [2.0, 2.0, 2.0, 5.0, 5.0]
    assert grid.levels(days(["2017-12-01", "2018-01-28"]), np.array([7.0, 5.0])).tolist() == [7.0, 7.0, 7.0, 5.0, 5.0]


def test_an_event_is_the_share_of_days_that_it_covers_and_overlapping_ones_count_once() -> None:
    grid = Periods.between("2018-01-07", "2018-01-21", "weekly")
    covered = grid.covered(days(["2018-01-13", "2018-01-14"]), days(["2018-01-14", "2018-01-15"]))
    assert covered == pytest.approx([1 / 7, 2 / 7, 0.0])


def test_months_have_their_own_lengths() -> None:
    grid = Periods.between("2018-01-01", "2018-03-01", "monthly")
    assert grid.lengths.tolist() == [31, 28, 31]


def dataset(folder: Path, **columns: list[Any]) -> Dataset:
    """Four weeks of Sales, and rows of Macro with these columns."""
    data = sets.written(folder, sets.weeks(4), np.array([1.0, 2.0, 3.0, 4.0]), price=np.array([2.0, 2.0, 4.0, 4.0]))
    table = {"country": ["SWE"] * len(columns["value"]), "name": ["cpi"] * len(columns["value"]), **columns}
    table["date"] = pa.array(table["date"]).cast(pa.date32())
    pq.write_table(pa.table(table), folder / "Macro.parquet")
    return Dataset({**data.files, "Macro": str(folder / "Macro.parquet")}, ["SWE", "North", "all"])


def test_a_source_is_looked_up_from_the_narrowest_level_and_levels_are_never_added(tmp_path: Path) -> None:
    data = sets.written(tmp_path, sets.weeks(4), np.ones(4))
    table = pq.read_table(data.files["Sales"]).to_pydict() | {"region": ["North"] * 4}
    pq.write_table(pa.table(table), data.files["Sales"])
    source = {"dataset_name": "Macro", "name": "cpi"}
    both = dataset(tmp_path / "both", date=["2018-01-07"] * 2, value=[1.0, 5.0], region=["all", "North"])
    both._files["sales"] = data.files["Sales"]
    assert both.series(source).values.tolist() == [5.0] * 4
    wide = dataset(tmp_path / "wide", date=["2018-01-07"] * 2, value=[1.0, 5.0], region=["all", "South"])
    wide._files["sales"] = data.files["Sales"]
    assert wide.series(source).values.tolist() == [1.0] * 4
    with pytest.raises(NoRows):
        wide.series({"dataset_name": "Macro", "name": "gdp"})


def test_revenue_and_price_are_weighted_by_units_and_holes_of_sales_have_none(tmp_path: Path) -> None:
    dates = [*sets.weeks(3), *sets.weeks(5)[4:]]
    data = sets.written(tmp_path, dates, np.array([1.0, 2.0, 3.0, 4.0]), price=np.array([2.0, 2.0, 4.0, 4.0]))
    found = Dataset(data.files, sets.COMBINATION)
    revenue = found.series({"dataset_name": "Sales", "metric": "Revenue"}).values
    assert revenue.tolist()[:3] == [2.0, 4.0, 12.0]
    assert np.isnan(revenue[3])
    assert found.series({"dataset_name": "Sales", "metric": "PricePerUnit"}).values.tolist() == [2.0, 2.0, 4.0, 4.0, 4.0]


def test_rows_without_a_price_share_that_of_their_period_and_revenue_needs_some_price(tmp_path: Path) -> None:
    data = sets.written(tmp_path, sets.weeks(3), np.array([1.0, 2.0, 3.0]), price=np.array([2.0, 4.0, 5.0]))
    table = pq.read_table(data.files["Sales"]).to_pydict()
    extra = {**table, "product": ["other"] * 3, "PricePerUnit": [None, 6.0, None]}
    rows = pa.table({name: [*table[name], *extra[name]] for name in table})
    pq.write_table(rows.set_column(rows.column_names.index("date"), "date", rows["date"].cast(pa.date32())), data.files["Sales"])
    found = Dataset(data.files, sets.COMBINATION)
    assert found.series({"dataset_name": "Sales", "metric": "Revenue"}).values.tolist() == [2 * 2.0, 4 * 5.0, 6 * 5.0]
    only = {"dataset_name": "Sales", "metric": "Revenue", "product": "other"}
    assert found.series(only).values.tolist() == [6.0, 12.0, 18.0]
    free = rows.set_column(rows.column_names.index("PricePerUnit"), "PricePerUnit", pa.nulls(6, pa.float64()))
    pq.write_table(free, data.files["Sales"])
    with pytest.raises(NoRows):
        Dataset(data.files, sets.COMBINATION).series({"dataset_name": "Sales", "metric": "Revenue"})
