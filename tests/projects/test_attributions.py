"""Attributions: what their answers say, what is refused, and the dataset that each one is."""

import datetime
from typing import Any

import pytest

from tests.projects.asking import Client, codes, made, refused
from tests.projects.files import Sheet
from tests.projects.house import Full
from tests.serving import Server


def test_an_attribution_says_what_it_was_asked_and_then_what_each_cause_brought(full: Full) -> None:
    first, last = full.dates[10], full.dates[19]
    answer = made(full.client.attribution(full.model["IId"], full.dataset, first, last))
    hub = f"hub://{full.client.team}/{full.client.project}-attribution-{answer['IId']}"
    about = {
        "Model": {"IId": full.model["IId"]},
        "DataSet": {"IId": full.dataset},
        "Country": "SWE",
        "Region": "all",
        "Grouping": "all",
        "StartDate": first,
        "EndDate": last,
        "Samples": 20,
        "Hub": hub,
    }
    assert {name: answer[name] for name in about} == about
    assert [answer[name] for name in ("Observed", "Prediction", "Baseline", "Totals")] == [None] * 4
    done = full.client.waited(f"/attributions/{answer['IId']}")
    assert done["Status"] == "completed"
    assert {name: done[name] for name in about} == about
    assert "few_draws" in codes(done["Warnings"])
    assert done["Prediction"].keys() == {"Mean", "P5", "P50", "P95"}
    assert [entry["Node"] for entry in done["Totals"]] == [entry["Node"] for entry in full.attribution["Totals"]]
    assert list(done["Totals"][0]) == [
        *("Node", "Kind", "Total", "Direct", "Mediated", "Via", "Share", "Revenue", "Profit", "Spend"),
        *("Roi", "RoiProfit", "MRoi", "CarryIn", "CarryOver"),
    ]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"samples": 0}, 422, "bad_parameter"),
        ({"samples": 401}, 422, "bad_parameter"),
        ({"samples": "20"}, 422, "bad_field"),
        ({"start_date": "2018-13-01"}, 422, "bad_field"),
        ({"start_date": "2030-01-06"}, 422, "bad_range"),
        ({"model_id": 99}, 404, "unknown_model"),
        ({"dataset_id": 99}, 404, "unknown_dataset"),
        ({"from": 1}, 422, "unknown_field"),
    ],
)
def test_what_cannot_be_attributed_is_refused(full: Full, change: dict[str, Any], status: int, code: str) -> None:
    body = {"model_id": full.model["IId"], "dataset_id": full.dataset, "start_date": full.dates[0], "end_date": full.dates[-1]}
    refused(full.client.post("/attributions", body | change), status, code)


def test_the_last_date_may_be_any_day_of_the_last_period_and_none_after_it(full: Full) -> None:
    last = datetime.date.fromisoformat(full.dates[-1])
    for days in (7, 8):
        answer = full.client.attribution(full.model["IId"], full.dataset, full.dates[0], str(last + datetime.timedelta(days)))
        refused(answer, 422, "bad_range")
    found = full.client.attributed(full.model["IId"], full.dataset, full.dates[-1], str(last + datetime.timedelta(6)))
    assert (found["StartDate"], found["EndDate"]) == (full.dates[-1], full.dates[-1])


def test_a_dataset_without_the_sources_of_the_model_is_refused(client: Client, plain: dict[str, Sheet]) -> None:
    dataset = client.dataset(plain)
    dates = client.dates(dataset)
    model = client.built(dataset)["IId"]
    sales = client.dataset({"Sales": plain["Sales"]})
    error = refused(client.attribution(model, sales, dates[0], dates[-1]), 422, "source_missing")
    assert error["Details"][0]["Node"]


def test_the_table_of_an_attribution_is_a_dataset_of_its_team(server: Server, full: Full) -> None:
    title = full.attribution["Hub"].removeprefix("hub://")
    folder = server.data_dir / "datasets" / title
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "effects.npz", "effects.parquet"]
    asked = full.client.but(base="").ask(
        "GET", "/rows", params={"dataset": title, "config": "default", "split": "train", "wait": 60}
    )
    rows = made(asked, 200)["rows"]
    assert {row["row"]["Node"] for row in rows} <= {"Baseline", "Prediction", "Observed", "Residual"} | {
        entry["Node"] for entry in full.attribution["Totals"]
    }


def test_dates_of_what_is_not_complete_or_of_no_node_are_refused(client: Client, full: Full) -> None:
    path = f"/attributions/{full.attribution['IId']}/dates"
    refused(full.client.get(path, node="nobody"), 422, "bad_field")
    refused(full.client.get(path, format="xml"), 422, "bad_field")
    assert made(full.client.get(path, node="", format=""), 200) == made(full.client.get(path), 200)
    refused(client.get("/attributions/1/dates"), 404, "unknown_attribution")


def test_an_attribution_is_removed_with_its_dataset_unless_a_set_has_it(
    server: Server, client: Client, plain: dict[str, Sheet]
) -> None:
    dataset = client.dataset(plain)
    dates = client.dates(dataset)
    model = client.built(dataset)["IId"]
    kept, gone = (client.attributed(model, dataset, dates[0], dates[9]) for _ in range(2))
    made_of = client.aligned([kept["IId"]])
    error = refused(client.delete(f"/attributions/{kept['IId']}"), 409, "in_use")
    assert error["Details"][0]["IId"] == made_of["IId"]
    refused(client.delete(f"/models/{model}"), 409, "in_use")
    folder = server.data_dir / "datasets" / gone["Hub"].removeprefix("hub://")
    assert folder.is_dir()
    assert client.delete(f"/attributions/{gone['IId']}").status_code == 204
    assert not folder.exists()
    refused(client.get(f"/attributions/{gone['IId']}"), 404, "unknown_attribution")
    assert [one["IId"] for one in made(client.get("/attributions"), 200)] == [kept["IId"]]
