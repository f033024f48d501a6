"""Attribution sets: which attribution counts on which date, which dates are left, and which set is active."""

from typing import Any

import pytest

from tests.projects.asking import Client, made, refused
from tests.projects.files import Sheet
from tests.projects.house import Full


@pytest.fixture(scope="module")
def parts(full: Full) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Attributions of the first 30 dates, of 20 that overlap these, and of the last 10; all by other draws."""
    dates = full.dates
    spans = ((dates[0], dates[29], 100), (dates[20], dates[39], 40), (dates[50], dates[59], 40))
    first, second, third = (full.client.attributed(full.model["IId"], full.dataset, *span) for span in spans)
    return first, second, third


def total(entry: dict[str, Any], node: str) -> float:
    [found] = [one for one in entry["Totals"] if one["Node"] == node]
    mean: float = found["Total"]["Mean"]
    return mean


def by_date(full: Full, attribution: dict[str, Any], node: str) -> dict[str, float]:
    return {row["Date"]: row["Mean"] for row in full.client.by_date(attribution["IId"], node=node)}


def test_on_a_shared_date_the_attribution_named_first_counts(full: Full, parts: tuple[dict[str, Any], ...]) -> None:
    first, second, _ = parts
    answer = full.client.aligned([second["IId"], first["IId"], second["IId"]])
    assert answer["Attributions"] == [{"IId": second["IId"]}, {"IId": first["IId"]}]
    assert (answer["FirstDate"], answer["LastDate"]) == (full.dates[0], full.dates[39])
    [entry] = answer["Combinations"]
    assert (entry["Country"], entry["Region"], entry["Grouping"], entry["Periods"]) == ("SWE", "all", "all", 40)
    mixed = by_date(full, first, "media.tv") | by_date(full, second, "media.tv")
    # The dates of the first attribution are told by fewer of its draws here.
    assert total(entry, "media.tv") == pytest.approx(sum(mixed.values()), rel=0.02)
    alone = full.client.aligned([second["IId"]])["Combinations"][0]
    assert total(alone, "media.tv") == pytest.approx(sum(by_date(full, second, "media.tv").values()), rel=1e-9)


def test_dates_apart_are_all_kept_inside_a_combination(full: Full, parts: tuple[dict[str, Any], ...]) -> None:
    answer = full.client.aligned([parts[0]["IId"], parts[2]["IId"]])
    assert answer["Combinations"][0]["Periods"] == 40
    assert answer["LastDate"] == full.dates[59]


def test_across_combinations_common_dates_are_kept_and_none_is_a_failure(client: Client, plain: dict[str, Sheet]) -> None:
    sales = plain["Sales"]
    place = sales.header.index("Country")
    both = {
        name: Sheet(sheet.header, [*sheet.rows, *([*row[:place], "NOR", *row[place + 1 :]] for row in sheet.rows)])
        for name, sheet in plain.items()
    }
    dataset = client.dataset(both)
    dates = client.dates(dataset)
    norway = {"modelling_combination": {"country_code": "NOR"}}
    swe, nor = client.built(dataset)["IId"], client.built(dataset, detail=norway)["IId"]
    early = client.attributed(swe, dataset, dates[0], dates[29])["IId"]
    late = client.attributed(nor, dataset, dates[20], dates[39])["IId"]
    later = client.attributed(nor, dataset, dates[40], dates[49])["IId"]
    answer = client.aligned([early, late])
    assert (answer["FirstDate"], answer["LastDate"]) == (dates[20], dates[29])
    assert [entry["Country"] for entry in answer["Combinations"]] == ["SWE", "NOR"]
    client.failed(
        "attributionset", client.post("/attributionset_align_dates", {"attributionjob_ids": [early, later]}), "no_common_dates"
    )


def test_another_target_metric_is_refused(full: Full, parts: tuple[dict[str, Any], ...]) -> None:
    graph = made(full.client.get(f"/build/graphs/{full.model['GraphInstance']['Graph']['Id']}"), 200)
    for node in graph["nodes"]:
        if node["kind"] == "target":
            node["source"] = {"dataset_name": "Sales", "metric": "Revenue"}
    revenue = full.client.built(full.dataset, graph)["IId"]
    other = full.client.attributed(revenue, full.dataset, full.dates[0], full.dates[9])
    body = {"attributionjob_ids": [parts[0]["IId"], other["IId"]]}
    error = refused(full.client.post("/attributionset_align_dates", body), 422, "mixed_target")
    assert [detail["IId"] for detail in error["Details"]] == body["attributionjob_ids"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"attributionjob_ids": []}, 422, "empty_request"),
        ({"attributionjob_ids": [9999]}, 404, "unknown_attribution"),
        ({"attributionjob_ids": ["1"]}, 422, "bad_field"),
        ({"attributionjob_ids": [1], "activate": True}, 422, "unknown_field"),
        ({}, 422, "bad_field"),
    ],
)
def test_a_set_of_nothing_that_is_there_is_refused(full: Full, body: dict[str, Any], status: int, code: str) -> None:
    refused(full.client.post("/attributionset_align_dates", body), status, code)


def test_the_active_set_is_extended_from_nothing_on(client: Client, plain: dict[str, Sheet]) -> None:
    assert made(client.get("/attributionset/active"), 200) == {"IId": None, "Status": None, "Attributions": []}
    dataset = client.dataset(plain)
    dates = client.dates(dataset)
    model = client.built(dataset)["IId"]
    known: list[int] = []
    for span in ((dates[0], dates[9]), (dates[10], dates[19])):
        new = client.attributed(model, dataset, *span)["IId"]
        before = [one["IId"] for one in made(client.get("/attributionset/active"), 200)["Attributions"]]
        assert before == known
        answer = client.aligned([new, *before], active=False)
        assert not answer["Active"]
        assert made(client.patch(f"/attributionset/{answer['IId']}/activate"), 200)["Active"]
        known = [new, *before]
    active = made(client.get("/attributionset/active"), 200)
    assert (active["IId"], active["FirstDate"], active["LastDate"]) == (2, dates[0], dates[19])
    assert made(client.get(), 200)["ActiveAttributionSet"] == 2
    at_once = client.aligned(known, active=True)
    assert at_once["Active"]
    assert [one["Active"] for one in made(client.get("/attributionset"), 200)] == [True, False, False]
    refused(client.delete(f"/attributionset/{at_once['IId']}"), 409, "in_use")
    assert client.delete("/attributionset/1").status_code == 204
    refused(client.get("/attributionset/1"), 404, "unknown_set")
