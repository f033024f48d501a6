"""Scenarios: what a fitted model says, draw by draw, when some of its inputs are changed.

The mean of every node is computed once with all inputs as they were; a scenario computes anew only what lies below a change. A
mediator is its own part (what was observed less the terms of its parents) plus these terms, unless it is held as observed. Arrays
are [draws, periods] in units of the scales.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from engine.tasks.projects import ops
from engine.tasks.projects.fitted import Fitted
from engine.tasks.projects.instance import CALENDAR, PARAMETERS, Node
from engine.tasks.projects.readings import Readings, scaled, source_columns

Array = np.ndarray
Values = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Change:
    """What is other than it was.

    raw           node that reads a source -> its series in its place, [periods]
    calendar_off  nodes of the calendar whose columns are 0
    owns          mediator -> its own part in its place, [draws, periods] or [draws, 1]
    held          mediators that stay as they were observed
    known         node -> its value, where that is known already
    """

    raw: Mapping[str, Array] = field(default_factory=dict)
    calendar_off: Collection[str] = ()
    owns: Mapping[str, Array] = field(default_factory=dict)
    held: Collection[str] = ()
    known: Mapping[str, Array] = field(default_factory=dict)


class Scenarios:
    """The scenarios of a fitted model on the readings of a dataset."""

    def __init__(self, fitted: Fitted, readings: Readings) -> None:
        self._fitted = fitted
        self._instance = fitted.instance
        self._readings = readings
        self._observed = readings.scaled(self._instance)
        self._below = self._descendants()
        self.owns: Values = {}
        self.as_observed: Values = {}
        self._values: Values = {}
        for node in self._instance.nodes:
            self._values[node.id] = self._first(node)

    @property
    def prediction(self) -> Array:
        """The mean of the target with all inputs as they were, in units of its scale."""
        return self._values[self._instance.target.id]

    def terms(self, node_id: str) -> Array:
        """The value of any node with all inputs as they were."""
        return self._values[node_id]

    def target(self, change: "Change") -> Array:
        """The mean of the target in units of its scale, [draws, periods]."""
        return self._at(self._instance.target.id, self.changed(change))

    def changed(self, change: "Change") -> Values:
        """The value of every node that a change reaches."""
        begins = {*change.raw, *change.calendar_off, *change.owns, *change.known}
        affected = begins.union(*(self._below[name] for name in begins))
        values: Values = {}
        for node in self._instance.nodes:
            if node.id not in affected or node.id in change.held:
                continue
            if node.id in change.known:
                values[node.id] = change.known[node.id]
            elif node.id in change.raw:
                values[node.id] = source_columns(node, change.raw[node.id], self._readings.periods)
            elif node.id in change.calendar_off:
                values[node.id] = np.zeros_like(self._values[node.id])
            else:
                values[node.id] = self._below_change(node, values, change.owns.get(node.id))
        return values

    def _below_change(self, node: Node, values: Values, own: Array | None) -> Array:
        if node.op == "observe":
            return self._equation(node, values, own)
        return self._value(node, [self._at(parent, values) for parent in self._instance.parents(node.id)])

    def _at(self, node_id: str, values: Values) -> Array:
        return values[node_id] if node_id in values else self._values[node_id]

    def _descendants(self) -> dict[str, set[str]]:
        below: dict[str, set[str]] = {}
        for node in reversed(self._instance.nodes):
            children = self._instance.children[node.id]
            below[node.id] = set(children).union(*(below[child] for child in children))
        return below

    def _first(self, node: Node) -> Array:
        """The value with all inputs as they were; of a mediator what was observed, and where nothing was, what is predicted."""
        parents = [self._values[parent] for parent in self._instance.parents(node.id)]
        if node.op in CALENDAR or ("source" in node.params and node.op != "observe"):
            return source_columns(node, self._readings.raw.get(node.id), self._readings.periods)
        if node.op != "observe":
            return self._value(node, parents)
        level = self._numbers(node, "b0")[:, None]
        predicted = level + parents[0]
        if node.id == self._instance.target.id:
            return predicted
        seen = np.where(np.isnan(self._observed[node.id]), predicted, self._observed[node.id])
        self.owns[node.id] = seen - parents[0]
        return seen

    def _equation(self, node: Node, values: Values, own: Array | None) -> Array:
        terms = self._at(self._instance.parents(node.id)[0], values)
        if node.id == self._instance.target.id:
            return self._numbers(node, "b0")[:, None] + terms
        return terms + (self.owns[node.id] if own is None else own)

    def _value(self, node: Node, parents: list[Array]) -> Array:
        """The value of one node, [draws or 1, periods], or the columns of a calendar."""
        if node.op == "sum":
            return sum(parents[1:], parents[0])
        if node.op == "input":
            [parent] = self._instance.parents(node.id)
            return scaled(node, parents[0] * self._instance.by_id[parent].params["scale"])
        if node.op == "linear":
            return self._linear(node, parents[0])
        parameters = [self._numbers(node, key)[None] for key in PARAMETERS.get(node.op, ())]
        op: ops.Op
        if node.op == "lag":
            op = ops.Lag(int(node.params["n"]))
        elif node.op == "adstock_geometric":
            num_lags = int(node.params["L"])
            op = ops.AdstockOfData(ops.lagged(parents[0], num_lags)) if len(parents[0]) == 1 else ops.Adstock(num_lags)
        else:
            op = ops.Hill(np.array([[node.params["mean"]]]), sign_of(node), norms=self._fitted.norms[node.id][None])
        value: Array = op.forward(parents[0][None], *parameters)[0][0]
        return value

    def _linear(self, node: Node, columns: Array) -> Array:
        weights = self._fitted.draws[:, self._instance.columns[node.id, "b"]] * sign_of(node)[0, 0]
        product: Array = weights * columns if weights.shape[1] == 1 else weights @ columns
        return product

    def _numbers(self, node: Node, key: str) -> Array:
        numbers: Array = self._fitted.draws[:, self._instance.columns[node.id, key][0]]
        return numbers


def sign_of(node: Node) -> Array:
    """The sign of a term, [1, 1]."""
    return np.array([[-1.0 if node.params.get("sign") == "negative" else 1.0]])
