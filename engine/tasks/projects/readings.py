"""Readings: the series that an instance reads from a dataset, period by period, and everything that follows from them alone.

Knows no parameter.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.tasks.projects import ops
from engine.tasks.projects.instance import Instance, Node
from engine.tasks.projects.periods import Periods
from engine.tasks.projects.refusals import Refusal, warning
from engine.tasks.projects.sources import Dataset, NoRows

Array = np.ndarray


@dataclass(slots=True)
class Readings:
    """What an instance reads.

    raw       `input` or `event_window` node with a source -> its series as it is, [periods]
    observed  `observe` node -> what was observed as it is, [periods]; NaN where nothing was
    """

    periods: Periods
    raw: dict[str, Array]
    observed: dict[str, Array]

    @classmethod
    def of(cls, instance: Instance, dataset: Dataset) -> tuple["Readings", list[dict[str, Any]]]:
        """The readings and warnings. Refusal `source_missing`."""
        readings = cls(dataset.periods, {}, {})
        warnings: list[dict[str, Any]] = []
        for node in instance.nodes:
            if "source" not in node.params:
                continue
            try:
                series = dataset.series(node.params["source"])
                if "spend_metric" in node.params["source"]:
                    dataset.spend(node.params["source"])  # a metric that is not there would leave a return on spend out
            except NoRows as error:
                details = [{"Code": "source_missing", "Node": node.group, "Message": str(error)}]
                raise Refusal("source_missing", f"The source of {node.group} is not in the dataset: {error}.", details) from None
            where = readings.observed if node.op == "observe" else readings.raw
            where[node.id] = series.values
            if node.op == "observe" and node.id != instance.target.id:
                where[node.id] = np.where(dataset.periods.starts > series.last, np.nan, series.values)
            if series.is_spread:
                warnings.append(warning("spread", f"{node.group} is of a coarser frequency and was spread by days.", node.group))
            if series.last < dataset.sales_dates[-1]:
                warnings.append(warning("source_ends_early", f"{node.group} ends on {series.last}, before Sales.", node.group))
        return readings, warnings

    def scaled(self, instance: Instance) -> dict[str, Array]:
        """What was observed in units of each equation's scale."""
        return {node.id: self.observed[node.id] / node.params["scale"] for node in instance.equations}

    def constants(self, instance: Instance) -> dict[str, Array]:
        """Every node that depends on data alone -> its columns, [K, periods]. A mediator is what was observed."""
        found: dict[str, Array] = {}
        for node in instance.nodes:
            parents = instance.parents(node.id)
            if node.op == "input" and parents:
                found[node.id] = scaled(node, self.observed[parents[0]])[None]
            elif node.op in ("input", "event_window", "fourier", "trend"):
                found[node.id] = source_columns(node, self.raw.get(node.id), self.periods)
            elif node.op == "lag" and parents[0] in found:
                found[node.id] = ops.Lag(int(node.params["n"])).forward(found[parents[0]])[0]
            elif node.op == "sum" and all(parent in found for parent in parents):
                found[node.id] = np.sum([found[parent] for parent in parents], axis=0)
        return found


def scaled(node: Node, values: Array) -> Array:
    """An `input`: (x - centre) / scale."""
    result: Array = (values - node.params["centre"]) / node.params["scale"]
    return result


def source_columns(node: Node, raw: Array | None, periods: Periods) -> Array:
    """The columns of a node without parents, [K, periods]; raw [periods] or [draws, periods] gives one of that shape."""
    if node.op == "fourier":
        return ops.fourier_columns(periods.days_since(node.params["origin"]), node.params["period_days"], node.params["pairs"])
    if node.op == "trend":
        return ops.trend_columns(periods.days_since(node.params["origin"]), node.params["span"], node.params["knots"])
    if raw is None:
        raise ValueError(f"this is a bug: {node.id} has no series")
    return (raw if node.op == "event_window" else scaled(node, raw))[None]
