"""Lowering: the nodes of an instance as nodes of an ONNX graph, with the draws as constants.

A series is [B, 1, n] where all draws have the same, [B, K, n] for the columns of a calendar, and [B, S, n] else; n is how many
periods of it matter, the last one being the period asked for. Everything is float32 in units of the scales. Needs onnx.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from engine.tasks.projects.instance import Instance, Node
from engine.tasks.projects.ops import SMALLEST_INPUT, kernel
from engine.tasks.projects.scenarios import sign_of

Array = np.ndarray

# A slice to here goes to the end of its axis.
END = np.iinfo(np.int64).max


class Builder:
    """A graph that grows: `add` puts a node at its end, `constant` an initialiser; both give the name of the value."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}."
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.initializers)}."
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return name

    def last(self, series: str, count: int, axis: int = 2) -> str:
        """The last `count` entries of an axis."""
        ends = [self.constant([number], np.int64) for number in (-count, END, axis)]
        return self.add("Slice", series, *ends)


class Lowering:
    """The lowering of one instance.

    draws, norms  of the exported draws: [S, P], `hill` node -> [S]
    names         node that reads a source, or `observe` node of a mediator -> name of the input of the graph
    offsets       node of the calendar -> days from its origin to that of `day`
    """

    def __init__(
        self, instance: Instance, draws: Array, norms: Mapping[str, Array], names: Mapping[str, str], offsets: Mapping[str, float]
    ) -> None:
        self.build = Builder()
        self._instance = instance
        self._draws, self._norms, self._names, self._offsets = draws, norms, names, offsets
        self._lengths = self._needed()
        self._values: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Every node -> the name of its value; that of the target is its mean, [B, S, 1] in units of its scale."""
        for node in self._instance.nodes:
            self._values[node.id] = self._lowered(node)
        return self._values

    def length(self, node_id: str) -> int:
        """How many periods the value of a node has."""
        return self._lengths[node_id]

    def _needed(self) -> dict[str, int]:
        """How many of its last periods each node must give."""
        lengths = {node.id: 1 for node in self._instance.nodes}
        for node in reversed(self._instance.nodes):
            reach = (
                int(node.params.get("L", 0)) if node.op == "adstock_geometric" else int(node.params["n"]) if node.op == "lag" else 0
            )
            for parent in self._instance.parents(node.id):
                lengths[parent] = max(lengths[parent], lengths[node.id] + reach)
        return lengths

    def _parent(self, node: Node, place: int = 0, more: int = 0) -> str:
        """The value of a parent over the periods that a node looks at: its own length and `more` before it."""
        parent = self._instance.parents(node.id)[place]
        wanted = self._lengths[node.id] + more
        return self._values[parent] if self._lengths[parent] == wanted else self.build.last(self._values[parent], wanted)

    def _per_draw(self, values: Array) -> str:
        return self.build.constant(np.asarray(values).reshape(1, -1, 1))

    def _numbers(self, node: Node, key: str) -> Array:
        return self._draws[:, self._instance.columns[node.id, key][0]]

    def _lowered(self, node: Node) -> str:
        how = {
            "input": self._input,
            "event_window": lambda n: self._read(self._names[n.id], n),
            "fourier": self._fourier,
            "trend": self._trend,
            "lag": self._lag,
            "adstock_geometric": self._adstock,
            "hill": self._hill,
            "linear": self._linear,
            "sum": self._sum,
            "observe": self._observe,
        }
        return how[node.op](node)

    # One method an op

    def _read(self, name: str, node: Node) -> str:
        """An input of the graph [B, W] as [B, 1, n]."""
        return self.build.add("Unsqueeze", self.build.last(name, self._lengths[node.id], 1), self.build.constant([1], np.int64))

    def _input(self, node: Node) -> str:
        add, constant = self.build.add, self.build.constant
        if self._instance.parents(node.id):
            observed = self._instance.by_id[self._instance.parents(node.id)[0]]
            raw = add("Mul", self._parent(node), constant(observed.params["scale"]))
        else:
            raw = self._read(self._names[node.id], node)
        return add("Div", add("Sub", raw, constant(node.params["centre"])), constant(node.params["scale"]))

    def _day(self, node: Node) -> str:
        return self.build.add("Add", self._read("day", node), self.build.constant(self._offsets[node.id]))

    def _fourier(self, node: Node) -> str:
        add = self.build.add
        multiples = 2 * np.pi * np.arange(1, node.params["pairs"] + 1).reshape(1, -1, 1)
        # The phase is taken first: days of years times 2 pi have too few digits in float32.
        phase = add("Div", self._day(node), self.build.constant(node.params["period_days"]))
        phase = add("Sub", phase, add("Floor", phase))
        angles = add("Mul", phase, self.build.constant(multiples))
        return add("Concat", add("Sin", angles), add("Cos", angles), axis=1)

    def _trend(self, node: Node) -> str:
        add, constant = self.build.add, self.build.constant
        n = add("Div", self._day(node), constant(node.params["span"]))
        knots = [add("Max", add("Sub", n, constant(knot)), constant(0.0)) for knot in node.params["knots"]]
        return add("Concat", add("Sub", n, constant(0.5)), *knots, axis=1)

    def _lag(self, node: Node) -> str:
        whole = self._parent(node, more=int(node.params["n"]))
        ends = [self.build.constant([number], np.int64) for number in (0, self._lengths[node.id], 2)]
        return self.build.add("Slice", whole, *ends)

    def _adstock(self, node: Node) -> str:
        num_lags = int(node.params["L"])
        weights = kernel(self._numbers(node, "a")[None], num_lags)[0, :, None, ::-1]
        is_of_draws = self._is_of_draws(self._instance.parents(node.id)[0])
        attributes = {"group": len(weights)} if is_of_draws else {}
        return self.build.add("Conv", self._parent(node, more=num_lags), self.build.constant(weights), **attributes)

    def _is_of_draws(self, node_id: str) -> bool:
        """Whether the draws of a node differ: it has learnt parameters above it."""
        above = {node_id, *self._instance.above(node_id)}
        return any(self._instance.by_id[name].op in ("adstock_geometric", "hill", "linear", "observe") for name in above)

    def _hill(self, node: Node) -> str:
        add = self.build.add
        k, slope, half = (self._numbers(node, key) for key in ("k", "s", "e"))
        logs = add("Log", add("Max", self._parent(node), self.build.constant(SMALLEST_INPUT)))
        inner = add("Mul", add("Sub", logs, self._per_draw(np.log(half * node.params["mean"]))), self._per_draw(slope))
        return add("Mul", add("Sigmoid", inner), self._per_draw(sign_of(node)[0, 0] * k / self._norms[node.id]))

    def _linear(self, node: Node) -> str:
        weights = self._draws[:, self._instance.columns[node.id, "b"]] * sign_of(node)[0, 0]
        if weights.shape[1] == 1:
            return self.build.add("Mul", self._parent(node), self._per_draw(weights))
        return self.build.add("MatMul", self.build.constant(weights), self._parent(node))

    def _sum(self, node: Node) -> str:
        parts = [self._parent(node, place) for place in range(len(self._instance.parents(node.id)))]
        return self.build.add("Sum", *parts)

    def _observe(self, node: Node) -> str:
        add = self.build.add
        predicted = add("Add", self._parent(node), self._per_draw(self._numbers(node, "b0")))
        if node.id == self._instance.target.id:
            return predicted
        given = add("Div", self._read(self._names[node.id], node), self.build.constant(node.params["scale"]))
        return add("Where", add("IsNaN", given), predicted, given)


def quantile_nodes(build: Builder, values: str, num_draws: int, axes: Sequence[int]) -> str:
    """The 5 % and 95 % quantiles over the last axis, joined there; as numpy's `inverted_cdf` has them."""
    low = int(np.ceil(0.05 * num_draws))
    high = num_draws - int(np.ceil(0.95 * num_draws)) + 1
    ends = []
    for count, is_largest in ((low, 0), (high, 1)):
        name = f"q{len(build.nodes)}."
        build.nodes.append(
            helper.make_node("TopK", [values, build.constant([count], np.int64)], [name, f"{name}i"], axis=-1, largest=is_largest)
        )
        ends.append(build.last(name, 1, axes[-1]))
    return build.add("Concat", *ends, axis=-1)
