"""Attributions and response curves: parts add up, money follows from units, and curves meet the attribution."""

import csv
import io
from collections import defaultdict
from typing import Any

import pytest

from tests.engine.tasks.projects import sets
from tests.projects.asking import Client, made, new_project, refused
from tests.projects.conftest import Full
from tests.projects.files import Sheet
from tests.projects.house import filled
from tests.serving import Server

WHOLE = ("Prediction", "Observed", "Residual")


def total(answer: dict[str, Any], node: str) -> dict[str, Any]:
    [found] = [entry for entry in answer["Totals"] if entry["Node"] == node]
    return found


@pytest.fixture(scope="module")
def bent(server: Server, mediated: dict[str, Sheet]) -> Full:
    """The mediated set, with search acting on sales in the media shape: TV and search meet above a saturation."""
    graph = sets.mediated_graph()
    graph["edges"][2]["shape"] = "media"
    return filled(new_project(server), mediated, graph)


@pytest.fixture(scope="module", params=["full", "full_mediated", "bent"])
def each(request: pytest.FixtureRequest) -> Full:
    found: Full = request.getfixturevalue(request.param)
    return found


def test_baseline_and_effects_are_the_prediction_on_every_date(each: Full) -> None:
    by_date: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in each.client.by_date(each.attribution["IId"]):
        by_date[row["Date"]][row["Node"]] = row
    assert list(by_date) == each.dates
    for rows in by_date.values():
        parts = [row["Mean"] for node, row in rows.items() if node not in WHOLE]
        assert sum(parts) == pytest.approx(rows["Prediction"]["Mean"], rel=1e-9)
        assert rows["Residual"]["Mean"] == pytest.approx(rows["Observed"]["Mean"] - rows["Prediction"]["Mean"], rel=1e-6, abs=1e-6)
        assert all(row["P5"] <= row["P50"] <= row["P95"] for row in rows.values() if row["P5"] is not None)


def test_totals_are_direct_and_mediated_effects_and_add_up_too(each: Full) -> None:
    answer = each.attribution
    for entry in answer["Totals"]:
        assert entry["Total"]["Mean"] == pytest.approx(entry["Direct"]["Mean"] + entry["Mediated"]["Mean"], rel=1e-9, abs=1e-9)
        assert entry["Mediated"]["Mean"] == pytest.approx(sum(via["Mean"] for via in entry["Via"]), rel=1e-6, abs=1e-6)
        assert entry["Share"] == pytest.approx(entry["Total"]["Mean"] / answer["Prediction"]["Mean"], rel=1e-6, abs=1e-9)
    parts = answer["Baseline"]["Mean"] + sum(entry["Total"]["Mean"] for entry in answer["Totals"])
    assert parts == pytest.approx(answer["Prediction"]["Mean"], rel=1e-9)


def test_the_dates_of_one_node_add_up_to_its_total(each: Full) -> None:
    for entry in each.attribution["Totals"]:
        rows = each.client.by_date(each.attribution["IId"], node=entry["Node"])
        assert [row["Date"] for row in rows] == each.dates
        assert sum(row["Mean"] for row in rows) == pytest.approx(entry["Total"]["Mean"], rel=1e-9, abs=1e-9)
        assert sum(row["DirectMean"] for row in rows) == pytest.approx(entry["Direct"]["Mean"], rel=1e-9, abs=1e-9)


def test_the_return_on_spend_is_revenue_by_spend_and_null_without_spend(full: Full) -> None:
    tv = total(full.attribution, "media.tv")
    assert tv["Revenue"]["Mean"] == pytest.approx(tv["Total"]["Mean"])  # the price is 1
    assert tv["Roi"]["Mean"] == pytest.approx(tv["Revenue"]["Mean"] / tv["Spend"], rel=1e-9)
    assert (tv["Profit"], tv["RoiProfit"]) == (None, None)
    silent = next(date for date in full.dates[5:] if not spend(full, date))
    short = full.client.attributed(full.model["IId"], full.dataset, silent, silent, samples=400)
    found = total(short, "media.tv")
    assert found["Spend"] == 0
    assert (found["Roi"], found["RoiProfit"], found["MRoi"]) == (None, None, None)
    assert found["CarryIn"] == pytest.approx(found["Total"]["Mean"], rel=1e-6)
    assert total(full.attribution, "control.income")["Roi"] is None


def spend(full: Full, date: str) -> float:
    [row] = [row for row in full.client.by_date(full.attribution["IId"], node="media.tv") if row["Date"] == date]
    found: float = row["Spend"]
    return found


def test_an_attribution_goes_on_after_the_training_dates(client: Client, plain: dict[str, Sheet]) -> None:
    dataset = client.dataset(plain)
    dates = client.dates(dataset)
    model = client.built(dataset, held_out=20)
    assert model["TrainDates"] == dates[:40]
    answer = client.attributed(model["IId"], dataset, dates[45], dates[-1], samples=100)
    assert answer["Prediction"]["P5"] < answer["Prediction"]["Mean"] < answer["Prediction"]["P95"]
    assert answer["Prediction"]["Mean"] == pytest.approx(answer["Observed"], rel=0.2)
    for first, last in (("2031-01-05", "2031-02-02"), (dates[9], dates[5])):
        refused(client.attribution(model["IId"], dataset, first, last), 422, "bad_range")


def test_response_curves_rise_from_0_and_meet_the_attribution(each: Full) -> None:
    media = [entry["Node"] for entry in each.attribution["Totals"] if entry["Kind"] == "media"]
    for node in media:
        [curve] = made(each.client.get(f"/models/{each.model['IId']}/response", node=node), 200)
        points = curve["Points"]
        assert curve["Node"] == node
        assert [point["Factor"] for point in points] == pytest.approx([i / 10 for i in range(21)])
        means, entry = [point["Effect"]["Mean"] for point in points], total(each.attribution, node)
        assert means[0] == 0
        assert means == sorted(means)
        assert points[10]["Effect"]["Mean"] == pytest.approx(entry["Total"]["Mean"], rel=1e-6)
        assert points[10]["Spend"] == pytest.approx(entry["Spend"])
        assert [point["Seen"] for point in points] == [True] * 11 + [False] * 10


def test_the_table_of_dates_is_also_csv_and_a_dataset(full: Full) -> None:
    answer = full.client.get(f"/attributions/{full.attribution['IId']}/dates", node="media.tv", format="csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    header, *lines = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["Date", "Node", "Mean", "P5", "P50", "P95", "DirectMean", "Revenue", "Profit", "Spend"]
    assert len(lines) == len(full.dates)
    text = f'select sum("Mean") as total from "{full.attribution["Hub"]}" where "Node" = \'media.tv\''
    [row] = made(full.client.query(text), 200)["data"]
    assert row["total"] == pytest.approx(total(full.attribution, "media.tv")["Total"]["Mean"], rel=1e-9)
