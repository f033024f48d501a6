"""The checks of graphs: what is wrong is told with its node or edge, and what is right becomes an instance of numbers."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.projects.instance import Instance
from engine.tasks.projects.op_checking import check_low
from engine.tasks.projects.refusals import Refusal
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import SALES, SEASONALITY, TREND, Data, node, star
from tests.serving import ROOT


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return sets.plain(tmp_path_factory.mktemp("plain"))


def edge(source: str, target: str, **more: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **more}


TV = node("tv", "media")
INCOME = node("income", "control", "Extra")
CASES: dict[str, tuple[Any, str, str | None]] = {
    "no lists": ({"nodes": []}, "invalid_graph", None),
    "both levels": ({"nodes": [SALES, {"id": "x", "op": "sum"}], "edges": []}, "mixed_graph", None),
    "two of one id": ({"nodes": [SALES, TV, TV], "edges": [edge("tv", "sales")]}, "invalid_graph", "tv"),
    "a taken id": (star({**TV, "id": "Baseline"}), "invalid_graph", "Baseline"),
    "a foreign character": (star({**TV, "id": "t v"}), "invalid_graph", "t v"),
    "an unknown kind": (star({**TV, "kind": "banner"}), "invalid_graph", "tv"),
    "an unknown key": (star({**TV, "colour": "red"}), "invalid_graph", "tv"),
    "two targets": (star({**SALES, "id": "other"}), "invalid_graph", "sales"),
    "no way to the target": ({"nodes": [SALES, TV, INCOME], "edges": [edge("tv", "sales")]}, "invalid_graph", "income"),
    "an edge to nowhere": ({"nodes": [SALES, TV], "edges": [edge("tv", "nowhere")]}, "invalid_graph", "tv->nowhere"),
    "an edge into media": (
        {"nodes": [SALES, TV, INCOME], "edges": [edge("tv", "sales"), edge("income", "tv")]},
        "invalid_graph",
        "income->tv",
    ),
    "a sign of the season": (
        {"nodes": [SALES, SEASONALITY], "edges": [edge("seasonality", "sales", sign="positive")]},
        "invalid_graph",
        "seasonality->sales",
    ),
    "a lag too long": ({"nodes": [SALES, TV], "edges": [edge("tv", "sales", lag=27)]}, "invalid_graph", "tv->sales"),
    "an unknown source": (star(node("cinema", "media")), "invalid_graph", "cinema"),
    "a spend that is not there": (
        star({**TV, "source": {**TV["source"], "spend_metric": "Invesment"}}),
        "invalid_graph",
        "tv",
    ),
    "a mediator without data": (star(node("searches", "mediator")), "invalid_graph", "searches"),
    "a prior without spread": (star({**TV, "prior": {"k": 0}}), "invalid_graph", "tv"),
    "an unknown prior": (star({**TV, "prior": {"z": 1}}), "invalid_graph", "tv"),
    "a return without spend": (star({**INCOME, "prior": {"roi": [1, 1]}}), "invalid_graph", "income"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told_with_its_node_or_edge(data: Data, name: str) -> None:
    graph, code, where = CASES[name]
    if name == "a return without spend":
        graph["edges"][0] |= {"shape": "media", "sign": "positive"}
    with pytest.raises(Refusal) as caught:
        data.check(graph)
    assert caught.value.code == code
    if where is not None:
        assert where in [detail.get("Node", detail.get("Edge")) for detail in caught.value.details]


def test_a_cycle_of_mediators_is_told_without_what_only_hangs_on_it(data: Data) -> None:
    one, two = node("tv", "mediator"), node("radio", "mediator")
    edges = [edge("income", "tv"), edge("tv", "radio"), edge("radio", "tv"), edge("radio", "sales")]
    with pytest.raises(Refusal, match="cycle: tv, radio") as caught:
        data.check({"nodes": [SALES, INCOME, one, two], "edges": edges})
    assert [detail["Node"] for detail in caught.value.details] == ["tv"]


@pytest.mark.parametrize("nodes", [[], [{"kind": "media"}], [{"id": "x", "op": "sum"}]], ids=["no target", "no id", "low level"])
def test_a_fault_of_no_node_that_has_an_id_names_none(data: Data, nodes: list[dict[str, Any]]) -> None:
    with pytest.raises(Refusal) as caught:
        data.check({"nodes": nodes, "edges": []})
    assert None in [detail["Node"] for detail in caught.value.details]


def test_all_nodes_without_a_way_to_the_target_are_told_in_their_order(data: Data) -> None:
    strays = [{**TV, "id": f"tv{number}"} for number in range(9)]
    with pytest.raises(Refusal) as caught:
        data.check({"nodes": [*strays, SALES, TV], "edges": [edge("tv", "sales")]})
    assert [detail["Node"] for detail in caught.value.details] == [stray["id"] for stray in strays]


def test_the_default_graph_has_everything_and_no_mediator(data: Data) -> None:
    graph = data.check()["Graph"]
    kinds = {n["id"]: n["kind"] for n in graph["nodes"]}
    assert kinds == {
        "sales": "target",
        "media.tv": "media",
        "media.radio": "media",
        "control.income": "control",
        "event.Fair": "event",
        "event.Strike": "event",
        "seasonality": "seasonality",
        "trend": "trend",
    }


def test_an_instance_is_accepted_as_it_was_given(data: Data) -> None:
    given = data.check(star(TV, INCOME, SEASONALITY, TREND))
    again = data.check(given["Instance"])
    assert again["Instance"] == given["Instance"]
    assert {n["id"]: n["kind"] for n in again["Graph"]["nodes"]} == {n["id"]: n["kind"] for n in given["Graph"]["nodes"]}
    derived = data.check(again["Graph"])
    assert {n["id"] for n in derived["Instance"]["nodes"]} == {n["id"] for n in given["Instance"]["nodes"]}


def test_priors_of_a_node_reach_its_ops(data: Data) -> None:
    [hill] = [n for n in data.check(star({**TV, "prior": {"k": 0.3, "a": [3, 4]}}))["Instance"]["nodes"] if n["op"] == "hill"]
    assert hill["prior"]["k"] == ["half_normal", 0.3]
    nodes = data.check(star({**TV, "prior": {"roi": [1.5, 0.5]}}))["Instance"]["nodes"]
    assert next(n for n in nodes if n["op"] == "hill")["prior"]["k"][0] == "log_normal"


def test_a_channel_that_never_changes_is_left_out(tmp_path: Path) -> None:
    plain = sets.plain(tmp_path / "plain")
    sales = 700 + np.random.default_rng(0).normal(0, 10, 60)
    series = np.random.default_rng(1).gamma(2, 10, 60)
    data = sets.written(tmp_path / "data", plain.dates, sales, media={"tv": series, "cinema": np.zeros(60)})
    answer = data.check()
    assert [(w["Code"], w["Node"]) for w in answer["Warnings"]] == [("constant_in_training", "media.cinema")]
    assert "media.cinema" not in {n["group"] for n in answer["Instance"]["nodes"]}
    with pytest.raises(Refusal) as caught:
        sets.written(tmp_path / "flat", plain.dates, np.full(60, 5.0), media={"tv": series}).check()
    assert caught.value.code == "constant_target"


def test_dates_are_those_of_sales_enough_of_them_and_in_one_list(data: Data) -> None:
    for train, held_out, code in (
        (["2018-01-08"], [], "unknown_date"),
        (data.dates[:19], [], "too_few_dates"),
        (data.dates[:30], data.dates[29:31], "dates_overlap"),
    ):
        asked = {"files": data.files, "combination": sets.COMBINATION, "graph": None, "max_parameters": 400}
        part, _, _ = sets.task("check_graph", {**asked, "train_dates": train, "eval_dates": held_out})
        assert part["refused"]["code"] == code
    asked = {"files": data.files, "combination": ["NOR", "all", "all"], "graph": None, "max_parameters": 400}
    part, _, _ = sets.task("check_graph", {**asked, "train_dates": data.dates, "eval_dates": []})
    assert part["refused"]["code"] == "unknown_combination"
    assert part["refused"]["details"][0]["Value"] == sets.COMBINATION


def test_a_graph_with_too_many_parameters_is_refused(data: Data) -> None:
    asked = {"files": data.files, "combination": sets.COMBINATION, "train_dates": data.dates, "eval_dates": []}
    part, _, _ = sets.task("check_graph", {**asked, "graph": None, "max_parameters": 10})
    assert part["refused"]["code"] == "graph_too_large"


def test_low_level_nodes_need_their_params_parents_and_priors() -> None:
    nodes = [
        {"id": "x", "op": "input", "params": {"source": {}, "scale": 1.0, "centre": 0.0}},
        {"id": "h", "op": "hill", "params": {"mean": 1.0, "sign": "any"}, "prior": {}},
        {"id": "y", "op": "observe", "params": {"source": {}, "scale": -1.0}, "prior": {}},
    ]
    with pytest.raises(Refusal) as caught:
        check_low({"nodes": nodes, "edges": [edge("x", "h"), edge("h", "y")]})
    assert {detail["Node"] for detail in caught.value.details} == {"h", "y"}


@pytest.mark.parametrize("place", ["params", "prior"])
def test_what_an_op_does_not_have_is_refused_and_named(data: Data, place: str) -> None:
    instance = data.check(star(TV, INCOME, SEASONALITY, TREND))["Instance"]
    for number, node_of in enumerate(instance["nodes"]):
        broken = copy.deepcopy(instance)
        broken["nodes"][number][place]["colour"] = 1
        with pytest.raises(Refusal, match=f"The op {node_of['op']} has no `colour` in its {place}.") as caught:
            data.check(broken)
        assert [detail["Node"] for detail in caught.value.details] == [node_of["id"]]


def test_a_prior_of_what_no_edge_has_is_refused(data: Data) -> None:
    for one in ({**INCOME, "prior": {"k": 0.3}}, {**TV, "prior": {"b": 0.3}}, {**TV, "prior": {"roi": [1.5, 0.5], "k": 0.3}}):
        with pytest.raises(Refusal, match="no edge out of") as caught:
            data.check(star(one))
        assert [detail["Node"] for detail in caught.value.details] == [one["id"]]


@pytest.mark.parametrize("size", [1e-300, 1e-20, 5e14])
def test_values_that_the_served_model_cannot_compute_with_are_refused_with_their_node(tmp_path: Path, size: float) -> None:
    random = np.random.default_rng(0)
    values, dates = random.gamma(3, 1, 60), sets.weeks(60)
    for name in ("tv", "sales"):
        sales, tv = (values * (size if name == one else 1.0) for one in ("sales", "tv"))
        data = sets.written(tmp_path / name, dates, sales, media={"tv": tv})
        with pytest.raises(Refusal, match="other units") as caught:
            data.check(star(TV))
        assert [detail["Node"] for detail in caught.value.details] == [name]
    fitted = sets.written(tmp_path / "plain", dates, values, media={"tv": values})
    sets.task("fit", sets.fit_header(fitted, fitted.check(star(TV))["Instance"], tmp_path / "model"))
    asked = {"model": str(tmp_path / "model"), "train_dates": dates, "eval_dates": [], "files": data.files}
    assert sets.task("check_refit", asked)[0]["refused"]["details"][0]["Node"] == "sales"


def test_a_refit_needs_the_sources_of_its_model(data: Data, tmp_path: Path) -> None:
    sets.task("fit", sets.fit_header(data, data.check(star(TV))["Instance"], tmp_path / "model"))
    asked = {"model": str(tmp_path / "model"), "train_dates": data.dates, "eval_dates": []}
    assert sets.task("check_refit", {**asked, "files": data.files})[0]["warnings"] == []
    part, _, _ = sets.task("check_refit", {**asked, "files": {"Sales": data.files["Sales"]}})
    assert part["refused"]["code"] == "source_missing"


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 200), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just(["beta", 2])
)


def changed(graph: Any, draw: st.DrawFn) -> Any:
    """The graph with one of its values, at any depth, replaced, or taken away."""
    if isinstance(graph, dict) and graph:
        key = draw(st.sampled_from(sorted(graph)))
        if draw(st.booleans()) and not isinstance(graph[key], dict | list):
            return {name: value for name, value in graph.items() if name != key}
        return {**graph, key: changed(graph[key], draw)}
    if isinstance(graph, list) and graph:
        place = draw(st.integers(0, len(graph) - 1))
        return [changed(value, draw) if i == place else value for i, value in enumerate(graph)]
    return draw(VALUES)


@given(choices=st.data(), is_high=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_graph_with_a_wrong_value_somewhere_is_refused_or_becomes_an_instance(
    data: Data, choices: st.DataObject, is_high: bool
) -> None:
    graph = star({**TV, "prior": {"k": 0.3, "a": [2, 2]}, "reference": 5}, INCOME, SEASONALITY, TREND)
    given_graph = graph if is_high else data.check(graph)["Instance"]
    broken = choices.draw(st.composite(lambda draw: changed(given_graph, draw))())
    try:
        answer = data.check(copy.deepcopy(broken))
    except Refusal:
        return
    density, _, _ = data.density(Instance.of(answer["Instance"]))
    density.gradient(density.priors.means[None])


def test_what_a_request_waits_for_loads_neither_scipy_nor_onnx(data: Data, tmp_path: Path) -> None:
    model = tmp_path / "model"
    sets.task("fit", sets.fit_header(data, data.check()["Instance"], model))
    dates = {"train_dates": data.dates, "eval_dates": []}
    span = {"start_date": data.dates[0], "end_date": data.dates[-1]}
    asked = {"files": data.files, "combination": sets.COMBINATION, "model": str(model), "graph": None, "max_parameters": 400}
    folder = {"folder": str(tmp_path), "title": "a"}
    sets.task("attribute", {**asked, **span, **folder, "samples": 20})
    look = {"width": 300, "height": 300, "title": "Demo", "graph_bytes": 12, "attribution": str(tmp_path)}
    asked |= dates | span | look | {"node": None, "format": "csv"}
    questions = [("check_graph", {}), ("check_refit", {}), ("check_attribution", {}), ("default_graph", {}), ("effects", {})]
    questions += [("plot", {"kind": kind}) for kind in ("fit", "contributions", "waterfall")]
    program = f"""if True:
        import sys
        from engine.tasks.families import Families
        for name, more in {questions!r}:
            header, _ = Families().task("projects", name)({asked!r} | more, memoryview(b'{{"nodes":[]}}'))
            assert "refused" not in header["parts"][0], header
        print(*sorted({{"scipy", "onnx", "onnxruntime", "duckdb"}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
