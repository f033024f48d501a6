"""Expansion: a high-level graph becomes an instance, whose scales, means and priors are numbers taken from the training dates.

Also the way back: the high-level graph that stands for an instance. Columns that do not change on the training dates are left out.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.tasks.projects.checking import CALENDAR_KINDS, LARGEST, SMALLEST, Faults, Graph
from engine.tasks.projects.op_checking import prior_fault
from engine.tasks.projects.priors import log_normal_of_moments
from engine.tasks.projects.refusals import Refusal, warning
from engine.tasks.projects.sources import Dataset, NoRows

Array = np.ndarray

DEFAULT_LAGS = {"weekly": 12, "daily": 60, "monthly": 4}
YEAR_DAYS, WEEK_DAYS = 365.25, 7.0
# Frequency -> (period in days, pairs of sine and cosine).
SEASONS = {"weekly": [(YEAR_DAYS, 2)], "monthly": [(YEAR_DAYS, 2)], "daily": [(YEAR_DAYS, 3), (WEEK_DAYS, 3)]}
PRIOR_A, PRIOR_S, PRIOR_E = ["beta", 2.0, 2.0], ["log_normal", 0.2, 0.4], ["log_normal", 0.0, 0.8]
PRIOR_B0, PRIOR_SIGMA = ["normal", 0.7, 0.5], ["half_normal", 0.2]
SPREAD_OF_B = {"event": 1.0, "seasonality": 0.1, "trend": 0.2}
PRIOR_KEYS = frozenset({"k", "a", "s", "e", "b", "b0", "sigma", "roi"})


@dataclass(frozen=True, slots=True)
class Training:
    """What an expansion knows of the data.

    is_train  bool [periods]
    """

    dataset: Dataset
    is_train: Array

    def values(self, node: Graph) -> Array:
        """The series of a node. NoRows."""
        return self.dataset.series(node["source"]).values


def expand(graph: Graph, dataset: Dataset, is_train: Array) -> tuple[Graph, list[dict[str, Any]]]:
    """The instance of a high-level graph of which checking.py approves, and warnings. Refusal."""
    return _Expansion(graph, Training(dataset, is_train)).run()


class _Expansion:
    """One expansion: nodes and edges as they grow."""

    def __init__(self, graph: Graph, training: Training) -> None:
        self._graph = graph
        self._training = training
        self._kinds = {node["id"]: node["kind"] for node in graph["nodes"]}
        self._nodes: list[Graph] = []
        self._edges: list[Graph] = []
        self._faults = Faults()
        self._warnings: list[dict[str, Any]] = []
        self._values: dict[str, Array] = {}
        self._scales: dict[str, float] = {}
        self._used_priors: dict[str, set[str]] = {node["id"]: set() for node in graph["nodes"]}
        starts = training.dataset.periods.starts[is_train_or_fail(training)]
        self._origin = str(starts[0])
        self._span = float((starts[-1] - starts[0]).astype(np.int64))

    def run(self) -> tuple[Graph, list[dict[str, Any]]]:
        for node in self._graph["nodes"]:
            self._read(node)
        self._faults.refuse()
        left_out = {node["id"] for node in self._graph["nodes"] if self._is_constant(node)}
        # Mediators first, because the inputs that read them follow their equations.
        for node in self._graph["nodes"]:
            if node["kind"] in ("mediator", "target"):
                self._equation(node)
        for number, edge in enumerate(self._graph["edges"]):
            if not {edge["source"], edge["target"]} & left_out:
                self._edge(number, edge)
        self._drop_childless()
        self._check_priors(left_out)
        self._faults.refuse()
        return {"nodes": self._nodes, "edges": self._edges}, self._warnings

    # Reading

    def _read(self, node: Graph) -> None:
        """The series of a node, and its fault if it has none."""
        if node["kind"] in CALENDAR_KINDS:
            return None
        if node["kind"] == "target":
            node.setdefault("source", {"dataset_name": "Sales", "metric": "UnitsSold"})
        if unknown := node.get("prior", {}).keys() - PRIOR_KEYS:
            return self._faults.node(node["id"], f"A prior has no `{min(unknown)}`.")
        try:
            values = self._training.values(node)
        except NoRows as error:
            return self._faults.node(node["id"], f"The source of {node['id']} is not in the dataset: {error}.")
        if message := data_fault(values, self._training.is_train):
            return self._faults.node(node["id"], f"The source of {node['id']} {message}.")
        self._values[node["id"]] = values
        return None

    def _is_constant(self, node: Graph) -> bool:
        if node["kind"] in CALENDAR_KINDS:
            return False
        values = self._values[node["id"]][self._training.is_train]
        if np.ptp(values) > 1e-12 * np.abs(values).max(initial=0.0):
            return False
        if node["kind"] == "target":
            raise Refusal("constant_target", "The target is the same on all training dates.")
        self._warnings.append(
            warning("constant_in_training", f"{node['id']} is the same on all training dates and left out.", node["id"])
        )
        return True

    # Nodes

    def _equation(self, node: Graph) -> None:
        """`sum` and `observe` of the target or of a mediator."""
        scale = float(np.abs(self._values[node["id"]][self._training.is_train]).mean())
        self._scales[node["id"]] = scale
        priors = {"b0": self._prior(node, "b0", PRIOR_B0), "sigma": self._prior(node, "sigma", PRIOR_SIGMA)}
        self._nodes.append(_node(f"{node['id']}:sum"[-64:], "sum", {}, {}, node["id"]))
        params: Graph = {"source": node["source"], "scale": scale}
        if "reference" in node:
            params["reference"] = node["reference"]
        self._nodes.append(_node(node["id"], "observe", params, priors, node["id"]))
        self._join(f"{node['id']}:sum"[-64:], node["id"])

    def _edge(self, number: int, edge: Graph) -> None:
        """The ops of one edge, from the series of its source into the sum of its target."""
        source = next(node for node in self._graph["nodes"] if node["id"] == edge["source"])
        kind = source["kind"]
        shape = edge.get("shape", "auto")
        is_media = shape == "media" or (shape == "auto" and kind == "media")
        sign = edge.get("sign", {"media": "positive", "mediator": "positive", "price": "negative"}.get(kind, "any"))
        for column, start in enumerate(self._series(source, is_media=is_media)):
            stem = f"{edge['source']}:{edge['target']}" + (f".{column}" if column else "")
            if len(stem) > 50:
                stem = f"edge{number}" + (f".{column}" if column else "")
            if edge.get("lag"):
                self._nodes.append(_node(f"{stem}:lag", "lag", {"n": edge["lag"]}, {}, source["id"]))
                self._join(start, f"{stem}:lag")
                start = f"{stem}:lag"
            end = self._media(stem, start, source, edge, sign) if is_media else self._linear(stem, start, source, sign)
            self._join(end, f"{edge['target']}:sum"[-64:])

    def _series(self, node: Graph, *, is_media: bool) -> list[str]:
        """The ids of the nodes that give the series of a high-level node; made when first needed."""
        kind = node["kind"]
        if kind == "seasonality":
            return [self._calendar(node, number, season) for number, season in enumerate(SEASONS[self._training.dataset.frequency])]
        if kind == "trend":
            params = {"origin": self._origin, "span": self._span, "knots": []}
            return [self._once(node["id"], "trend", params, node)]
        if kind == "event" and not is_media:
            return [self._once(node["id"], "event_window", {"source": node["source"]}, node)]
        values = self._values[node["id"]][self._training.is_train]
        if is_media and values.min() < 0:
            self._faults.node(node["id"], "The media shape needs values that are not below 0.")
        scale, centre = (float(values.max()), 0.0) if is_media else (float(values.std()), float(values.mean()))
        params = {"scale": scale, "centre": centre}
        if kind == "mediator":
            name = self._once(f"{node['id']}:{'media' if is_media else 'input'}"[-64:], "input", params, node)
            self._join(node["id"], name)
            return [name]
        name = (
            node["id"]
            if not self._has_other_scale(node["id"], params)
            else f"{node['id']}:{'media' if is_media else 'input'}"[-64:]
        )
        return [self._once(name, "input", {"source": node["source"], **params}, node)]

    def _has_other_scale(self, name: str, params: Graph) -> bool:
        known = next((node for node in self._nodes if node["id"] == name), None)
        return known is not None and known["params"].get("scale") != params["scale"]

    def _calendar(self, node: Graph, number: int, season: tuple[float, int]) -> str:
        name = node["id"] if not number else f"{node['id']}.{number}"
        return self._once(name, "fourier", {"origin": self._origin, "period_days": season[0], "pairs": season[1]}, node)

    def _once(self, name: str, op: str, params: Graph, node: Graph) -> str:
        if not any(known["id"] == name for known in self._nodes):
            self._nodes.append(_node(name, op, {**params, "kind": node["kind"], **_reference(node)}, {}, node["id"]))
        return name

    def _media(self, stem: str, start: str, source: Graph, edge: Graph, sign: str) -> str:
        values = self._values[source["id"]][self._training.is_train]
        num_lags = DEFAULT_LAGS[self._training.dataset.frequency]
        self._nodes.append(
            _node(f"{stem}:adstock", "adstock_geometric", {"L": num_lags}, {"a": self._prior(source, "a", PRIOR_A)}, source["id"])
        )
        self._join(start, f"{stem}:adstock")
        spread = 0.15 if self._kinds[edge["target"]] == "target" else 0.3
        default = ["normal", 0.0, 0.15] if sign == "any" else ["half_normal", spread]
        k = self._roi_prior(source, edge, sign) or self._prior(source, "k", default)
        priors = {"k": k, "s": self._prior(source, "s", PRIOR_S), "e": self._prior(source, "e", PRIOR_E)}
        self._nodes.append(
            _node(f"{stem}:hill", "hill", {"mean": float(values.mean() / values.max()), "sign": sign}, priors, source["id"])
        )
        self._join(f"{stem}:adstock", f"{stem}:hill")
        return f"{stem}:hill"

    def _linear(self, stem: str, start: str, source: Graph, sign: str) -> str:
        spread = SPREAD_OF_B.get(source["kind"], 0.5)
        default = ["normal", 0.0, spread] if sign == "any" else ["half_normal", spread]
        prior = self._prior(source, "b", default)
        self._nodes.append(_node(f"{stem}:linear", "linear", {"sign": sign}, {"b": prior}, source["id"]))
        self._join(start, f"{stem}:linear")
        return f"{stem}:linear"

    # Priors

    def _prior(self, node: Graph, key: str, default: list[Any]) -> list[Any]:
        """The default with the numbers that the node gives; one number alone is the spread."""
        self._used_priors[node["id"]].add(key)
        given = node.get("prior", {}).get(key)
        if given is None:
            return default
        numbers = given if isinstance(given, list) else [given]
        written = [default[0], *(default[1:-1] if len(numbers) == 1 else []), *numbers]
        if message := prior_fault(key, written, "any" if default[0] == "normal" else "positive"):
            self._faults.node(node["id"], message)
            return default
        return written

    def _roi_prior(self, node: Graph, edge: Graph, sign: str) -> list[Any] | None:
        """The prior of k that a prior of the return on spend means: roi = k * s_y * n_train * mean price / training spend."""
        roi = node.get("prior", {}).get("roi")
        if roi is None or self._kinds[edge["target"]] != "target":
            return None
        self._used_priors[node["id"]].add("roi")
        if not isinstance(roi, list) or len(roi) != 2 or not all(type(n) in (int, float) and n > 0 for n in roi) or sign == "any":
            self._faults.node(node["id"], "A prior `roi` is [mean, standard deviation], both above 0, of an edge with a sign.")
            return None
        spend = spend_of(self._training.dataset, node)
        total = 0.0 if spend is None else float(spend[self._training.is_train].sum())
        if total <= 0:
            self._faults.node(node["id"], "A prior `roi` needs spend on the training dates.")
            return None
        centre, spread = log_normal_of_moments(*roi)
        revenue = self._scales[edge["target"]] * float(self._training.is_train.sum()) * self._mean_price()
        return ["log_normal", centre + float(np.log(total / revenue)), spread]

    def _mean_price(self) -> float:
        target = next(node for node in self._graph["nodes"] if node["kind"] == "target")
        prices = price_of(self._training.dataset, target["source"])
        return float(prices[self._training.is_train].mean())

    def _check_priors(self, left_out: Collection[str]) -> None:
        """A prior that nothing learns by would be dropped without a word."""
        for node in self._graph["nodes"]:
            unused = node.get("prior", {}).keys() - self._used_priors[node["id"]]
            if unused and node["id"] not in left_out:
                self._faults.node(node["id"], f"The prior `{min(unused)}` is that of no edge out of {node['id']}.")

    # Edges

    def _join(self, source: str, target: str) -> None:
        edge = {"source": source, "target": target}
        if edge not in self._edges:
            self._edges.append(edge)

    def _drop_childless(self) -> None:
        """Mediators that lead nowhere any more, because what stood below them was left out; and sums that add nothing."""
        targets = {edge["target"] for edge in self._edges}
        for node in [node for node in self._nodes if node["op"] == "sum" and node["id"] not in targets]:
            self._faults.node(node["group"], "Nothing that changes on the training dates leads to this node.")


def data_fault(values: Array, is_train: Array) -> str | None:
    """Why a model cannot read a series, [periods], as what follows its name; None if it can. All zeros are allowed."""
    in_training = np.abs(values[is_train])
    if np.isnan(in_training).any():
        return "has no data on some training dates"
    largest = np.nanmax(np.abs(values))
    if largest >= LARGEST or 0 < in_training.max(initial=0.0) < SMALLEST:
        return f"has values of {largest:.0e}; write them in other units, whose largest is between {SMALLEST:g} and {LARGEST:g}"
    return None


def is_train_or_fail(training: Training) -> Array:
    if not training.is_train.any():
        raise Refusal("too_few_dates", "There are no training dates.")
    return training.is_train


def spend_of(dataset: Dataset, node: Graph) -> Array | None:
    """What was spent by period; None for a node without spend."""
    try:
        spend = dataset.spend(node["source"])
    except NoRows:
        return None
    return None if spend is None else spend.values


def price_of(dataset: Dataset, target_source: Graph, column: str = "PricePerUnit") -> Array:
    """Revenue (or profit) of one unit of the target by period, carried where Sales has no period. NoRows.

    One unit of the target Revenue is 1 of revenue.
    """
    if str(target_source.get("metric", "UnitsSold")).lower() == "revenue" and column == "PricePerUnit":
        return np.ones(len(dataset.periods))
    return dataset.series({**target_source, "metric": column}).values


def _reference(node: Graph) -> Graph:
    return {"reference": node["reference"]} if "reference" in node else {}


def _node(name: str, op: str, params: Graph, prior: Graph, group: str) -> Graph:
    return {"id": name, "op": op, "params": params, "prior": prior, "group": group}
