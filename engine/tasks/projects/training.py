"""What follows from a fit and its training dates: totals of each group, response curves, drift against the parent, metrics.

Arrays are [draws, ...] in units of the target.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from engine.tasks.projects import ops
from engine.tasks.projects.effects import Effects, chunks
from engine.tasks.projects.expansion import price_of, spend_of
from engine.tasks.projects.fitted import Fitted, group_nodes, kind_of, reference_of
from engine.tasks.projects.instance import Instance
from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.scenarios import Scenarios
from engine.tasks.projects.sources import Dataset, NoRows
from engine.tasks.projects.summaries import fit_metrics, interval

Array = np.ndarray

FACTORS = [round(0.1 * number, 1) for number in range(21)]


def fitted_of(instance: Instance, draws: Array, readings: Readings, is_train: Array, told: dict[str, Any]) -> Fitted:
    """The fitted model of these draws: with the means that its shares are told in.

    told  combination, frequency, train_dates
    """
    sources = [node for nodes in group_nodes(instance).values() for node in nodes if node.id in readings.raw]
    references = {node.id: reference_of(instance, node, readings.raw[node.id][is_train]) for node in sources}
    largest = {node.id: float(readings.raw[node.id][is_train].max()) for node in sources}
    ones = {hill.id: np.ones(len(draws)) for hill in instance.hills}
    bare = Fitted(instance, draws=draws, norms=ones, owns={}, references=references, largest=largest, **told)
    normed = replace(bare, norms=norms_of(bare, readings, is_train))
    return replace(normed, owns=own_means(normed, readings, is_train))


def norms_of(fitted: Fitted, readings: Readings, is_train: Array) -> dict[str, Array]:
    """The mean of h over the training dates, for each `hill` node and draw. One below another depends on the one above."""
    norms: dict[str, Array] = dict(fitted.norms)
    for hill in fitted.instance.hills:
        found = []
        for part in chunks(replace(fitted, norms=norms, owns={})):
            x = Scenarios(part, readings).terms(fitted.instance.parents(hill.id)[0])
            _, slope, half = (part.draws[:, fitted.instance.columns[hill.id, key][0]][None] for key in ("k", "s", "e"))
            op = ops.Hill(np.array([[hill.params["mean"]]]), np.ones((1, 1)), is_train.astype(np.float64))
            found.append(op.norm(op.share(x[None], slope, half)[0])[0])
        norms[hill.id] = np.concatenate(found)
    return norms


def own_means(fitted: Fitted, readings: Readings, is_train: Array) -> dict[str, Array]:
    """The mean of each mediator's own part over the training dates, [draws]."""
    parts = [Scenarios(part, readings).owns for part in chunks(fitted)]
    return {
        node.id: np.concatenate([part[node.id][:, is_train].mean(axis=1) for part in parts]) for node in fitted.instance.mediators
    }


def carried(parent: Fitted, readings: Readings, is_train: Array) -> Array:
    """The parent's draws for a refit: `beta = k / mean_old(h)` stays, so k is told in the new mean of h. [draws, P]"""
    new = norms_of(parent, readings, is_train)
    draws = parent.draws.copy()
    for hill in parent.instance.hills:
        [column] = parent.instance.columns[hill.id, "k"]
        draws[:, column] *= new[hill.id] / parent.norms[hill.id]
    return draws


@dataclass(slots=True)
class Training:
    """Totals over the training dates: group -> [draws]; the prediction and the baseline on all dates, [draws, periods]."""

    totals: dict[str, Array]
    prediction: Array
    baseline: Array


def training(fitted: Fitted, readings: Readings, dates: Array) -> Training:
    """What a model says about some dates, bool [periods]."""
    return training_of([Effects(part, readings) for part in chunks(fitted)], dates)


def training_of(parts: list[Effects], dates: Array) -> Training:
    """As `training`, of effects that are there already."""
    totals = {
        group: np.concatenate([np.broadcast_to(e.effect(group), e.prediction.shape)[:, dates].sum(axis=1) for e in parts])
        for group in parts[0].groups
    }
    baselines = [np.broadcast_to(e.baseline, e.prediction.shape) for e in parts]
    return Training(totals, np.concatenate([e.prediction for e in parts]), np.concatenate(baselines))


def response(fitted: Fitted, dataset: Dataset, parts: list[Effects], is_train: Array) -> Stage[list[dict[str, Any]]]:
    """`Response`: for each media group its whole series times 0 to 2, summed over the training dates."""
    try:
        prices = price_of(dataset, fitted.instance.target.params["source"])[is_train]
    except NoRows:
        prices = None
    curves: list[dict[str, Any]] = []
    groups = group_nodes(fitted.instance)
    for group, nodes in groups.items():
        if kind_of(fitted.instance, nodes[0]) == "media":
            yield Progress("export", len(curves), len(groups))
            spend = spend_of(dataset, {"source": nodes[0].params["source"]})
            total = None if spend is None else float(spend[is_train].sum())
            curves.append({"Node": group, "Points": _points(parts, group, total, is_train, prices)})
    return curves


def _points(parts: list[Effects], group: str, spend: float | None, is_train: Array, prices: Array | None) -> list[dict[str, Any]]:
    """The points of a curve; spend: the whole of what was spent on the training dates."""
    effects: list[list[Array]] = [[] for _ in FACTORS]
    revenues: list[list[Array]] = [[] for _ in FACTORS]
    for part in parts:
        for place, effect in enumerate(part.scaled(group, FACTORS)):
            effects[place].append(effect[:, is_train].sum(axis=1))
            if prices is not None:
                revenues[place].append(effect[:, is_train] @ prices)
    return [
        {
            "Factor": factor,
            "Spend": None if spend is None else factor * spend,
            "Effect": interval(np.concatenate(effects[place])),
            "Revenue": None if prices is None else interval(np.concatenate(revenues[place])),
            "Seen": factor <= 1,
        }
        for place, factor in enumerate(FACTORS)
    ]


def drift(fitted: Fitted, parent: Fitted, readings: Readings, common: Array) -> list[dict[str, Any]]:
    """`Drift`: the mean effects of both models on the dates that both were trained on, bool [periods]."""
    now, before = training(fitted, readings, common), training(parent, readings, common)
    rows = []
    for group, draws in now.totals.items():
        old, new = float(before.totals[group].mean()), float(draws.mean())
        rows.append({"Node": group, "ParentMean": old, "Mean": new, "RelativeChange": (new - old) / abs(old) if old else None})
    return rows


def metrics(fitted: Fitted, found: Training, observed: Array, masks: tuple[Array, Array], random: Generator) -> dict[str, Any]:
    """`Metrics`: on training and evaluation dates, from predictions with noise."""
    target = fitted.instance.target
    sigma = fitted.draws[:, fitted.instance.columns[target.id, "sigma"][0]] * target.params["scale"]
    noise = random.standard_normal(found.prediction.shape)
    predictive = found.prediction + sigma[:, None] * noise
    mean = found.prediction.mean(axis=0)
    train, evaluation = (fit_metrics(observed[mask], mean[mask], predictive[:, mask]) for mask in masks)
    return {"Train": train, "Eval": evaluation}
