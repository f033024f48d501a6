"""Export: a fitted model as an ONNX graph with its config.json, in the form in which any other model is served.

The same fit gives the same bytes: neither a time nor the model's name stands in the graph. Needs onnx.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.random import PCG64, Generator, SeedSequence
from onnx import TensorProto, helper

from engine.tasks import codec
from engine.tasks.projects import periods
from engine.tasks.projects.fitted import Fitted
from engine.tasks.projects.instance import CALENDAR, Instance, Node
from engine.tasks.projects.lowering import Lowering, quantile_nodes
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.scenarios import Change, Scenarios

Array = np.ndarray

OPSET, IR_VERSION = 17, 8
MAX_BATCH_SIZE = 512
# The child of the fit's seed that draws the noise of intervals.
NOISE_CHILD = 7


@dataclass(frozen=True, slots=True)
class Export:
    """What is written: the graph and the example of its config."""

    model: bytes
    config: dict[str, Any]
    window: int


def export(
    fitted: Fitted, readings: Readings, *, num_draws: int, seed: int, told: dict[str, str], title: tuple[str, str]
) -> Export:
    """The graph and its config.

    told   metadata; owner and name of the published model as title, which only the config has
    """
    chosen = fitted.spaced(min(num_draws, len(fitted.draws)))
    graph = _Graph(chosen, seed)
    window = fitted.instance.memory + 1
    model = graph.model(window, told)
    return Export(model, _config(fitted, readings, graph, window, title), window)


def write(exported: Export, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(exported.model)
    (folder / "config.json").write_bytes(codec.dumps(exported.config))


def input_names(instance: Instance) -> dict[str, str]:
    """Node that reads data, or `observe` node of a mediator -> name of its input.

    That is its group, or its own id if the group reads several sources.
    """
    sources: dict[str, list[Any]] = {}
    nodes = [node for node in instance.nodes if "source" in node.params and node.id != instance.target.id]
    for node in nodes:
        known = sources.setdefault(node.group, [])
        if node.params["source"] not in known:
            known.append(node.params["source"])
    return {node.id: node.group if len(sources[node.group]) == 1 else node.id for node in nodes}


def term_nodes(instance: Instance) -> list[Node]:
    """The terms of the target's equation."""
    [parent] = instance.parents(instance.target.id)
    terms = instance.parents(parent) if instance.by_id[parent].op == "sum" else [parent]
    return [instance.by_id[term] for term in terms]


def terms_at_reference(fitted: Fitted) -> dict[str, Array]:
    """Every term of the target with all groups at their reference, [draws]."""
    instance = fitted.instance
    starts = np.array([fitted.train_dates[0]], dtype="datetime64[D]")
    last = periods.following(starts, fitted.frequency, instance.memory)[0]
    grid = periods.Periods.between(starts[0], last, fitted.frequency)
    raw = {name: np.full(len(grid), value) for name, value in fitted.references.items()}
    unseen = {node.id: np.full(len(grid), np.nan) for node in instance.equations}
    scenarios = Scenarios(fitted, Readings(grid, raw, unseen))
    calendar = [node.id for node in instance.nodes if node.op in CALENDAR]
    owns = {
        node.id: fitted.owns[node.id][:, None] * (0.0 if node.params["source"].get("spend_metric") else 1.0)
        for node in instance.mediators
    }
    values = scenarios.changed(Change(calendar_off=calendar, owns=owns))
    found = {}
    for term in term_nodes(instance):
        value = values[term.id] if term.id in values else scenarios.terms(term.id)
        found[term.id] = np.broadcast_to(value, (len(fitted.draws), len(grid)))[:, -1]
    return found


def labels(instance: Instance) -> list[str]:
    """The names of the contributions: the groups of the target's terms in their order, then `baseline`."""
    return [*dict.fromkeys(term.group for term in term_nodes(instance)), "baseline"]


class _Graph:
    """The graph of some draws."""

    def __init__(self, fitted: Fitted, seed: int) -> None:
        self._fitted = fitted
        self._instance = fitted.instance
        self.names = input_names(self._instance)
        self.origin = self._origin()
        self._noise = Generator(PCG64(SeedSequence(seed).spawn(NOISE_CHILD + 1)[NOISE_CHILD]))

    def _origin(self) -> str:
        origins = [node.params["origin"] for node in self._instance.nodes if node.op in CALENDAR]
        return str(min(origins, default=self._fitted.train_dates[0]))

    def _offsets(self) -> dict[str, float]:
        calendar = [node for node in self._instance.nodes if node.op in CALENDAR]
        return {
            node.id: float((np.datetime64(self.origin) - np.datetime64(node.params["origin"])).astype(int)) for node in calendar
        }

    def model(self, window: int, told: dict[str, str]) -> bytes:
        lowering = Lowering(self._instance, self._fitted.draws, self._fitted.norms, self.names, self._offsets())
        values = lowering.run()
        self._outputs(lowering, values)
        build = lowering.build
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", window])
            for name in (*dict.fromkeys(self.names.values()), "day")
        ]
        num_labels = len(labels(self._instance))
        shapes = {"prediction": [], "interval": [2], "contributions": [num_labels], "contribution_interval": [num_labels, 2]}
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]) for name, shape in shapes.items()]
        graph = helper.make_graph(build.nodes, "marketing_mix", inputs, outputs, build.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        helper.set_model_props(model, dict(sorted(told.items())))
        onnx.checker.check_model(model, full_check=True)
        serialised: bytes = model.SerializeToString(deterministic=True)
        return serialised

    def _outputs(self, lowering: Lowering, values: dict[str, str]) -> None:
        """The four outputs in units of the target, from its mean and terms, [B, S, 1]."""
        build, target = lowering.build, self._instance.target
        scale = build.constant(target.params["scale"])
        mean = build.add("Mul", build.add("Squeeze", values[target.id], build.constant([2], np.int64)), scale)
        sigma = self._fitted.draws[:, self._instance.columns[target.id, "sigma"][0]]
        noise = sigma * target.params["scale"] * self._noise.standard_normal(len(sigma))
        build.nodes.append(helper.make_node("ReduceMean", [mean], ["prediction"], axes=[1], keepdims=0))
        band = quantile_nodes(build, build.add("Add", mean, build.constant(noise[None])), len(sigma), (0, 1))
        build.nodes.append(helper.make_node("Identity", [band], ["interval"]))
        parts = build.add("Transpose", build.add("Mul", self._contributions(lowering, values), scale), perm=[0, 2, 1])
        build.nodes.append(helper.make_node("ReduceMean", [parts], ["contributions"], axes=[2], keepdims=0))
        band = quantile_nodes(build, parts, len(sigma), (0, 1, 2))
        build.nodes.append(helper.make_node("Identity", [band], ["contribution_interval"]))

    def _contributions(self, lowering: Lowering, values: dict[str, str]) -> str:
        """What each group adds to its reference, and the baseline at the end, [B, S, N]."""
        build, target = lowering.build, self._instance.target
        at_reference = terms_at_reference(self._fitted)
        baseline = self._fitted.draws[:, self._instance.columns[target.id, "b0"][0]] + sum(at_reference.values())
        shape = build.add("Shape", values[target.id])
        by_group: dict[str, str] = {}
        for term in term_nodes(self._instance):
            value = values[term.id] if lowering.length(term.id) == 1 else build.last(values[term.id], 1)
            less = build.add("Sub", value, build.constant(at_reference[term.id].reshape(1, -1, 1)))
            by_group[term.group] = build.add("Add", by_group[term.group], less) if term.group in by_group else less
        whole = build.add("Expand", build.constant(baseline.reshape(1, -1, 1)), shape)
        return build.add("Concat", *by_group.values(), whole, axis=2)


def _config(fitted: Fitted, readings: Readings, graph: _Graph, window: int, title: tuple[str, str]) -> dict[str, Any]:
    """config.json; the example is the last training window."""
    mediators = {graph.names[node.id] for node in fitted.instance.mediators}
    names = list(dict.fromkeys(graph.names.values()))
    missing = {name: {"missing": "nan"} if name in mediators else {} for name in names}
    vectors = [{"kind": "vector", "input": name, "field": name, **missing[name]} for name in names]
    by_group = {"labels": labels(fitted.instance), "form": "object", "squeeze": False}
    day = {"kind": "period_days", "input": "day", "field": "date", "origin": graph.origin}
    return {
        "owner": title[0],
        "name": title[1],
        "task": "predict",
        "description": f"Marketing-mix model of {', '.join(fitted.combination)}",
        "max_batch_size": MAX_BATCH_SIZE,
        "inputs": [*vectors, {**day, "frequency": fitted.frequency, "window": window}],
        "outputs": [
            {"output": "prediction", "as": "prediction"},
            {"output": "interval", "as": "interval"},
            {"output": "contributions", "as": "contributions", **by_group},
            {"output": "contribution_interval", "as": "contribution_interval"},
        ],
        "example": _example(fitted, readings, graph.names, window),
    }


def _example(fitted: Fitted, readings: Readings, names: dict[str, str], window: int) -> dict[str, Any]:
    """The record of the last training date; what lies before the data is as its first value for a mediator, else 0."""
    last = int(readings.periods.positions(periods.days(fitted.train_dates[-1:]))[0])
    example: dict[str, Any] = {"date": fitted.train_dates[-1]}
    for node_id, name in names.items():
        series = readings.observed[node_id] if node_id in readings.observed else readings.raw[node_id]
        before = series[0] if node_id in readings.observed else 0.0
        padded = np.concatenate([np.full(window, before), series[: last + 1]])
        example[name] = [float(value) for value in padded[-window:]]
    return example
