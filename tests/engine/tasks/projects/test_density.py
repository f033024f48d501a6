"""The density: its gradient is that of finite differences for every graph that the checks let through."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.projects.checking import check_shape
from engine.tasks.projects.density import Density
from engine.tasks.projects.instance import Instance
from engine.tasks.projects.op_checking import check_low
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import Data

STEP = 1e-5
PRIORS = {
    "adstock_geometric": {"a": ["beta", 2.0, 2.0]},
    "hill": {"k": ["half_normal", 0.15], "s": ["log_normal", 0.2, 0.4], "e": ["log_normal", 0.0, 0.8]},
    "linear": {"b": ["normal", 0.0, 0.5]},
    "observe": {"b0": ["normal", 0.7, 0.5], "sigma": ["half_normal", 0.2]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return sets.plain(tmp_path_factory.mktemp("plain"), count=40)


def low(name: str, op: str, **params: Any) -> dict[str, Any]:
    return {"id": name, "op": op, "params": params, "prior": PRIORS.get(op, {}), "group": name.partition(".")[0]}


def media(name: str) -> dict[str, Any]:
    return {"dataset_name": "Media", "name": name}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Random low-level graphs: chains of ops over data, some of which meet, and a mediator in half of them."""
    nodes, edges = [], []
    sources = {"tv": media("tv"), "radio": media("radio"), "income": {"dataset_name": "Extra", "name": "income"}}
    has_mediator = draw(st.booleans())
    ends = []
    for name in ("tv", "radio") if has_mediator else sources:
        nodes.append(low(name, "input", source=sources[name], scale=900.0, centre=0.0))
        last = name
        for depth, op in enumerate(draw(st.lists(st.sampled_from(["lag", "adstock_geometric", "hill", "linear"]), max_size=4))):
            params = {"lag": {"n": 2}, "adstock_geometric": {"L": 3}, "hill": {"mean": 0.7, "sign": "positive"}}
            nodes.append(low(f"{name}.{depth}", op, **params.get(op, {"sign": "any"})))
            edges.append((last, f"{name}.{depth}"))
            last = f"{name}.{depth}"
        ends.append(last)
    nodes.append(low("season", "fourier", origin="2018-01-07", period_days=365.25, pairs=2))
    nodes.append(low("season.b", "linear", sign="any"))
    edges.append(("season", "season.b"))
    ends.append("season.b")
    if draw(st.booleans()):  # what meets here is saturated together
        nodes += [low("meet", "sum"), low("meet.hill", "hill", mean=0.5, sign="negative")]
        edges += [(ends[0], "meet"), (ends[1], "meet"), ("meet", "meet.hill")]
        ends.append("meet.hill")
    if has_mediator:
        nodes += [low("m.sum", "sum"), low("m", "observe", source=sources["income"], scale=100.0)]
        nodes += [low("m.input", "input", scale=5.0, centre=100.0), low("m.b", "linear", sign="any")]
        edges += [(ends[0], "m.sum"), ("m.sum", "m"), ("m", "m.input"), ("m.input", "m.b")]
        ends.append("m.b")
    nodes += [low("sum", "sum"), low("sales", "observe", source={"dataset_name": "Sales"}, scale=800.0)]
    edges += [(end, "sum") for end in ends] + [("sum", "sales")]
    return {"nodes": nodes, "edges": [{"source": source, "target": target} for source, target in edges]}


def assert_gradient(density: Density, seed: int) -> None:
    random = np.random.default_rng(seed)
    priors = density.priors
    free = priors.means + 0.3 * priors.spreads * random.normal(size=(2, len(priors.means)))
    logs, gradient = density.gradient(free)
    assert np.isfinite(logs).all()
    for column in range(free.shape[1]):
        step = np.zeros(free.shape[1])
        step[column] = STEP
        difference = slope(density, free, step)
        # Hill of an input near zero is steep: where two steps differ, differences know no better than that.
        known = 2 * np.abs(difference - slope(density, free, 2 * step))
        allowed = 1e-5 * np.abs(difference) + 1e-6 * np.abs(gradient).max() + known
        assert (np.abs(gradient[:, column] - difference) <= allowed).all(), (column, gradient[:, column], difference, allowed)


def slope(density: Density, free: "np.ndarray[Any, Any]", step: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The central difference of the log density over `step`, which has one entry that is not zero, of each draw."""
    difference: np.ndarray[Any, Any] = density.gradient(free + step)[0] - density.gradient(free - step)[0]
    return difference / (2 * step.sum())


@given(graph=graphs(), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_the_gradient_of_a_random_graph_is_that_of_finite_differences(data: Data, graph: dict[str, Any], seed: int) -> None:
    check_shape(graph)
    check_low(graph)
    density, _, _ = data.density(Instance.of(graph), slice(3, 35))
    assert_gradient(density, seed)


def test_the_gradient_of_the_default_graph_is_that_of_finite_differences(data: Data) -> None:
    density, _, _ = data.density(Instance.of(data.check()["Instance"]))
    assert_gradient(density, 0)


def test_training_dates_need_not_be_consecutive(data: Data) -> None:
    instance = Instance.of(data.check()["Instance"])
    density, _, _ = data.density(instance, slice(0, 40, 2))
    assert_gradient(density, 0)


def test_a_draw_far_away_has_no_density_and_warns_of_nothing(data: Data) -> None:
    density, _, _ = data.density(Instance.of(data.check()["Instance"]))
    logs, _ = density.gradient(np.full((1, len(density.priors.means)), 1e4))
    assert not np.isfinite(logs[0])


def test_many_draws_at_once_give_what_each_gives_alone(data: Data, tmp_path: Path) -> None:
    density, _, _ = data.density(Instance.of(data.check()["Instance"]))
    free = density.priors.means + 0.1 * np.random.default_rng(0).normal(size=(5, len(density.priors.means)))
    together = density.gradient(free)
    for number in range(5):
        alone = density.gradient(free[number : number + 1])
        assert together[0][number] == pytest.approx(alone[0][0], rel=1e-12)
        assert together[1][number] == pytest.approx(alone[1][0], rel=1e-9, abs=1e-9)
