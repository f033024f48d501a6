"""Graphs: what is refused and why, what is kept, and that a model can be built again from the graphs of another."""

from typing import Any

import pytest

from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import SALES, SEASONALITY, TREND, node, star
from tests.projects.asking import SWE, Client, made, refused
from tests.projects.files import Sheet
from tests.projects.house import Full

TV, INCOME = node("tv", "media"), node("income", "control", "Extra")
TO_SALES = {"source": "tv", "target": "sales"}


def graph_of(full: Full, model: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made(full.client.get(f"/build/graphs/{model['GraphInstance']['Graph']['Id']}"), 200)
    return found


def instance_of(full: Full, model: dict[str, Any]) -> dict[str, Any]:
    answer = full.client.ask("GET", f"/graph_instances/{full.client.team}/{model['GraphInstance']['Id']}")
    found: dict[str, Any] = made(answer, 200)
    return found


# Refused


@pytest.mark.parametrize(
    ("graph", "code", "place"),
    [
        ({"nodes": [SALES, TV, {"id": "x", "op": "sum"}], "edges": [TO_SALES]}, "mixed_graph", None),
        (
            {"nodes": [SALES, TV, node("a", "mediator"), node("b", "mediator")], "edges": [
                TO_SALES, {"source": "a", "target": "b"}, {"source": "b", "target": "a"}]},
            "invalid_graph",
            {"Node": "a"},
        ),
        ({"nodes": [SALES, {**SALES, "id": "more"}, TV], "edges": [TO_SALES]}, "invalid_graph", {"Node": "sales"}),
        (
            {"nodes": [SALES, TV, INCOME], "edges": [TO_SALES, {"source": "sales", "target": "income"}]},
            "invalid_graph",
            {"Edge": "sales->income"},
        ),
        ({"nodes": [SALES, TV, INCOME], "edges": [TO_SALES]}, "invalid_graph", {"Node": "income"}),
        (star(node("cinema", "media")), "invalid_graph", {"Node": "cinema"}),
        (star(TV, {**TV, "id": "date"}), "invalid_graph", {"Node": "date"}),
        (star(TV, TV), "invalid_graph", {"Node": "tv"}),
    ],
    ids=["levels", "cycle", "two targets", "out of the target", "leads nowhere", "no source", "a taken id", "twice"],
)  # fmt: skip
def test_a_graph_that_cannot_be_fitted_is_refused_and_its_place_is_told(
    full: Full, graph: Any, code: str, place: dict[str, str] | None
) -> None:
    error = refused(full.client.build(full.dataset, graph), 422, code)
    if place is not None:
        [(key, value)] = place.items()
        assert value in [detail.get(key) for detail in error["Details"]]


def test_a_mediator_without_data_on_a_training_date_is_refused(client: Client, plain: dict[str, Sheet]) -> None:
    extra = plain["Extra"]
    weeks = sorted({row[extra.header.index("Date")] for row in extra.rows}, key=str)
    dataset = client.dataset({**plain, "Extra": extra.only("Date", weeks[:30])})
    edges = [TO_SALES, {"source": "tv", "target": "income"}, {"source": "income", "target": "sales"}]
    graph = {"nodes": [SALES, TV, {**INCOME, "kind": "mediator"}], "edges": edges}
    error = refused(client.build(dataset, graph), 422, "invalid_graph")
    assert "income" in [detail["Node"] for detail in error["Details"]]
    made(client.build(dataset, graph, detail={"train_dates": weeks[:30]}))


def test_graphs_that_are_too_large_are_refused(full: Full) -> None:
    many = star(*(node("tv", "media") | {"id": f"tv{number}"} for number in range(201)))
    refused(full.client.build(full.dataset, many), 422, "graph_too_large")
    wide = star(*(node("tv", "media") | {"id": f"tv{number}"} for number in range(150)))
    refused(full.client.build(full.dataset, wide), 422, "graph_too_large")


@pytest.mark.parametrize(
    ("detail", "code"),
    [
        ({"train_dates": ["2018-01-08"]}, "unknown_date"),
        ({"eval_dates": ["2018-01-07"]}, "dates_overlap"),
        ({"train_dates": []}, "too_few_dates"),
    ],
)
def test_dates_that_cannot_be_used_are_refused(full: Full, detail: dict[str, Any], code: str) -> None:
    refused(full.client.build(full.dataset, detail=detail), 422, code)


def test_of_many_unknown_dates_ten_are_told(full: Full) -> None:
    dates = [f"2031-01-{day:02}" for day in range(1, 32)]
    error = refused(full.client.build(full.dataset, detail={"train_dates": dates}), 422, "unknown_date")
    assert ([detail["Value"] for detail in error["Details"]], error["DetailsTotal"]) == (dates[:10], 31)


def test_a_combination_without_sales_is_not_found(full: Full) -> None:
    error = refused(
        full.client.build(full.dataset, detail={"modelling_combination": SWE | {"country_code": "NOR"}}), 404, "unknown_combination"
    )
    assert error["Message"]


# Kept


def test_a_saved_graph_is_found_in_its_project_and_listed(client: Client) -> None:
    first, second = (made(client.post("/build/graphs", star(*nodes))) for nodes in ((TREND,), (TV, TREND)))
    assert [row["Id"] for row in made(client.get("/build/graphs"), 200)] == [second["Id"], first["Id"]]
    assert [row["Id"] for row in made(client.get("/build/graphs", limit=1, before=second["Id"]), 200)] == [first["Id"]]
    assert made(client.get(f"/build/graphs/{second['Id']}"), 200) == {"Id": second["Id"], **star(TV, TREND)}
    for wrong in ("0", "x", str(second["Id"] + 1000), "9" * 30):
        refused(client.get(f"/build/graphs/{wrong}"), 404, "unknown_graph")


def test_what_is_no_graph_is_not_saved(client: Client, full: Full) -> None:
    refused(client.post("/build/graphs", {"nodes": [SALES], "edges": [{"source": "sales", "target": "x"}]}), 422, "invalid_graph")
    refused(client.post("/build/graphs", {"nodes": [1], "edges": []}), 422, "bad_field")
    refused(client.post("/build/graphs", {**star(TV), "Id": 7}), 422, "unknown_field")
    instance = instance_of(full, full.model)
    refused(client.post("/build/graphs", {key: instance[key] for key in ("nodes", "edges")}), 422, "invalid_graph")
    assert made(client.get("/build/graphs"), 200) == []


def test_a_saved_graph_is_removed_and_that_of_a_model_goes_with_the_model(full: Full) -> None:
    saved = made(full.client.post("/build/graphs", star(TV)))["Id"]
    assert full.client.delete(f"/build/graphs/{saved}").status_code == 204
    for answer in (full.client.get(f"/build/graphs/{saved}"), full.client.delete(f"/build/graphs/{saved}")):
        refused(answer, 404, "unknown_graph")
    error = refused(full.client.delete(f"/build/graphs/{full.model['GraphInstance']['Graph']['Id']}"), 409, "in_use")
    assert error["Details"][0]["IId"] == full.model["IId"]
    assert graph_of(full, full.model)["nodes"]


def test_the_graph_of_another_project_is_not_found(client: Client, full: Full) -> None:
    assert client.project != full.client.project
    refused(client.get(f"/build/graphs/{full.model['GraphInstance']['Graph']['Id']}"), 404, "unknown_graph")


def test_the_default_graph_has_everything_and_is_not_kept(full: Full) -> None:
    asked = {"dataset_id": full.dataset, **SWE}
    graph = made(full.client.get("/build/graphs/default", **asked), 200)
    assert list(graph) == ["nodes", "edges"]
    kinds = {one["id"]: one["kind"] for one in graph["nodes"]}
    assert kinds == {
        "sales": "target",
        "media.radio": "media",
        "media.tv": "media",
        "control.income": "control",
        "event.Fair": "event",
        "event.Strike": "event",
        "seasonality": "seasonality",
        "trend": "trend",
    }
    assert {edge["target"] for edge in graph["edges"]} == {"sales"}
    refused(full.client.get("/build/graphs/default", dataset_id=full.dataset), 422, "bad_field")
    refused(full.client.get("/build/graphs/default", **asked | {"dataset_id": 99}), 404, "unknown_dataset")
    refused(full.client.get("/build/graphs/default", **asked | {"country_code": "NOR"}), 404, "unknown_combination")


# From one model to the next


def test_a_model_is_built_again_from_its_graph_and_from_its_instance(full: Full) -> None:
    high, low = graph_of(full, full.model), instance_of(full, full.model)
    assert low["Graph"] == {"Id": high["Id"]}
    by_high, by_low = (full.client.built(full.dataset, graph) for graph in (high, low))
    for model in (by_high, by_low):
        assert model["GraphInstance"]["Id"] != full.model["GraphInstance"]["Id"]
        assert model["Scales"] == pytest.approx(full.model["Scales"])
    assert {one["id"] for one in graph_of(full, by_low)["nodes"]} == {one["id"] for one in high["nodes"]}
    asked = (full.dataset, full.dates[0], full.dates[-1], 400)
    found = [full.client.attributed(model["IId"], *asked) for model in (by_high, by_low)]
    for answer in found:
        assert answer["Prediction"]["Mean"] == pytest.approx(full.attribution["Prediction"]["Mean"], rel=1e-6)
    # The graph that stands for an instance is one that a model can be built of, as the remodel script does.
    again = full.client.built(full.dataset, graph_of(full, by_low))
    assert again["Metrics"]["Train"]["R2"] == pytest.approx(full.model["Metrics"]["Train"]["R2"], abs=0.05)


def test_an_instance_is_found_by_its_team_alone(full: Full) -> None:
    instance = full.model["GraphInstance"]["Id"]
    for wrong in ("0", "x", str(instance + 1000)):
        refused(full.client.ask("GET", f"/graph_instances/{full.client.team}/{wrong}"), 404, "unknown_graph")
    refused(full.client.ask("GET", f"/graph_instances/nobody/{instance}"), 404, "unknown_team")


def test_the_edges_of_an_instance_join_nodes_with_ops(full: Full) -> None:
    found = instance_of(full, full.model)
    ids = {one["id"] for one in found["nodes"]}
    assert all({edge["source"], edge["target"]} <= ids for edge in found["edges"])
    assert {"input", "adstock_geometric", "hill", "fourier", "trend", "event_window", "linear", "sum", "observe"} == {
        one["op"] for one in found["nodes"]
    }
    assert SEASONALITY["id"] in {one["group"] for one in found["nodes"]}
    assert sets.TREND["id"] in {one["group"] for one in found["nodes"]}
