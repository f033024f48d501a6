"""Attribution: what each group brought between two dates, with intervals, in the target's units, in revenue and per unit of spend.

An effect belongs to the date on which it arrives. Carry-in is the part that spend before the first date caused; carry-over what
spend between the dates causes after the last one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.tasks.projects.effects import Effects, chunks
from engine.tasks.projects.expansion import price_of, spend_of
from engine.tasks.projects.fitted import Fitted, kind_of
from engine.tasks.projects.instance import Node
from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.sources import Dataset, NoRows
from engine.tasks.projects.summaries import interval

Array = np.ndarray

# How much more spend `MRoi` looks at.
MARGIN = 0.01


@dataclass(slots=True)
class GroupEffect:
    """The effect of one group on the dates that are asked for; in units of the target.

    total, direct  [draws, dates]
    via            mediator -> [draws, dates], which add up to total - direct
    spend          [dates], None without spend
    margin         revenue of MARGIN more of its inputs, [draws]; None without prices
    carry_in, carry_over  means over draws; these three are None in a set, whose dates are others
    """

    kind: str
    total: Array
    direct: Array
    via: dict[str, Array]
    spend: Array | None
    margin: Array | None
    carry_in: float | None
    carry_over: float | None


@dataclass(slots=True)
class Attributed:
    """An attribution by draw; `prices` and `profits` are for one unit of the target, [dates]."""

    dates: Array
    baseline: Array
    prediction: Array
    observed: Array
    prices: Array | None
    profits: Array | None
    groups: dict[str, GroupEffect]


def attribute(fitted: Fitted, dataset: Dataset, readings: Readings, window: Array) -> Stage[Attributed]:
    """The attribution of the periods that `window`, bool [periods], names."""
    parts: list[tuple[Array, Array, dict[str, GroupEffect]]] = []
    groups = list(fitted.group_nodes())
    total = len(groups) * -(-len(fitted.draws) // len(next(chunks(fitted)).draws))
    done = 0
    prices, profits = (_prices(dataset, fitted, column) for column in ("PricePerUnit", "ProfitPerUnit"))
    for part in chunks(fitted):
        effects = Effects(part, readings)
        found = {}
        for group in groups:
            yield Progress("attribute", done, total)
            done += 1
            found[group] = _group_effect(effects, dataset, group, window, prices)
        parts.append((effects.baseline[:, window], effects.prediction[:, window], found))
    return Attributed(
        readings.periods.starts[window],
        np.concatenate([np.broadcast_to(baseline, prediction.shape) for baseline, prediction, _ in parts]),
        np.concatenate([prediction for _, prediction, _ in parts]),
        readings.observed[fitted.instance.target.id][window],
        None if prices is None else prices[window],
        None if profits is None else profits[window],
        {group: _joined([found[group] for _, _, found in parts]) for group in groups},
    )


def _prices(dataset: Dataset, fitted: Fitted, column: str) -> Array | None:
    if column == "ProfitPerUnit" and fitted.target_metric.lower() == "revenue":
        return None
    try:
        return price_of(dataset, fitted.instance.target.params["source"], column)
    except NoRows:
        return None


def _group_effect(effects: Effects, dataset: Dataset, group: str, window: Array, prices: Array | None) -> GroupEffect:
    nodes = effects.fitted.group_nodes()[group]
    rungs = [np.broadcast_to(rung, effects.prediction.shape)[:, window] for rung in effects.ladder(group)]
    via = {mediator: after - before for mediator, before, after in zip(effects.mediators, rungs, rungs[1:], strict=False)}
    kind = kind_of(effects.fitted.instance, nodes[0])
    spend = spend_of(dataset, {"source": nodes[0].params["source"]}) if "source" in nodes[0].params else None
    margin = None if prices is None else np.zeros(len(rungs[-1]))
    carry_in = carry_over = 0.0
    readers = [node for node in nodes if node.id in effects.readings.raw]
    if readers and kind == "media":
        raw = {node.id: effects.readings.raw[node.id] for node in readers}
        more = {name: np.where(window, values * (1 + MARGIN), values) for name, values in raw.items()}
        margin = None if prices is None else -effects.change(more) @ prices
        carry_in, carry_over = _carried(effects, readers, window)
    return GroupEffect(kind, rungs[-1], rungs[0], via, None if spend is None else spend[window], margin, carry_in, carry_over)


def _carried(effects: Effects, readers: list[Node], window: Array) -> tuple[float, float]:
    """Carry-in and carry-over, means over draws."""
    places = np.flatnonzero(window)
    period = np.arange(len(window))
    raw = {node.id: effects.readings.raw[node.id] for node in readers}
    references = {name: effects.reference(name) for name in raw}
    without_before = {name: np.where(period < places[0], references[name], raw[name]) for name in raw}
    carry_in = effects.change(without_before)[:, window].sum(axis=1).mean()
    until_end = {name: np.where(period > places[-1], references[name], raw[name]) for name in raw}
    until_start = {name: np.where(period >= places[0], references[name], raw[name]) for name in raw}
    after = period > places[-1]
    with_window, without_window = effects.change(until_end), effects.change(until_start)
    return float(carry_in), float((without_window - with_window)[:, after].sum(axis=1).mean())


def _joined(parts: list[GroupEffect]) -> GroupEffect:
    """The effect of a group over all chunks of draws."""
    first, shares = parts[0], [len(part.total) for part in parts]
    return GroupEffect(
        first.kind,
        np.concatenate([part.total for part in parts]),
        np.concatenate([part.direct for part in parts]),
        {name: np.concatenate([part.via[name] for part in parts]) for name in first.via},
        first.spend,
        None if first.margin is None else np.concatenate([part.margin for part in parts if part.margin is not None]),
        _mean([part.carry_in for part in parts], shares),
        _mean([part.carry_over for part in parts], shares),
    )


def _mean(values: list[float | None], weights: list[int]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.average(known, weights=weights)) if len(known) == len(values) else None


# As users see it


def totals(found: Attributed) -> list[dict[str, Any]]:
    """`Totals`: an entry for each group."""
    return [_total(name, effect, found) for name, effect in found.groups.items()]


def _total(name: str, effect: GroupEffect, found: Attributed) -> dict[str, Any]:
    total, direct = effect.total.sum(axis=1), effect.direct.sum(axis=1)
    via = [{"Mediator": mediator, **interval(draws.sum(axis=1))} for mediator, draws in effect.via.items()]
    spend = None if effect.spend is None else float(effect.spend.sum())
    revenue, profit = (None if each is None else effect.total @ each for each in (found.prices, found.profits))
    prediction = float(found.prediction.sum(axis=1).mean())
    return {
        "Node": name,
        "Kind": effect.kind,
        "Total": interval(total),
        "Direct": interval(direct),
        "Mediated": interval(total - direct),
        "Via": via,
        "Share": float(total.mean()) / prediction if prediction else None,
        "Revenue": None if revenue is None else interval(revenue),
        "Profit": None if profit is None else interval(profit),
        "Spend": spend,
        "Roi": _ratio(revenue, spend),
        "RoiProfit": _ratio(profit, spend),
        "MRoi": _ratio(effect.margin, MARGIN * spend if spend else None),
        "CarryIn": effect.carry_in,
        "CarryOver": effect.carry_over,
    }


def _ratio(draws: Array | None, spend: float | None) -> dict[str, float | None] | None:
    """The interval of the draws' ratios; None without spend."""
    return interval(draws / spend) if draws is not None and spend else None
