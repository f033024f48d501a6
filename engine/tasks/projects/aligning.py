"""The task `align`: the attributions of a set on common dates, with totals recomputed from their draws.

Inside one combination the dates are the union, and on a shared date the attribution named first counts. Across combinations only
the dates that all of them have are kept.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.families import Reply
from engine.tasks.projects.attribution import Attributed, GroupEffect, totals
from engine.tasks.projects.progress import Progress, Stage
from engine.tasks.projects.refusals import Refusal

Array = np.ndarray

COMBINATION_COLUMNS = ("Country", "Region", "Grouping")


def run(header: Header) -> Stage[Reply]:
    """The answer of the task. Refusal `mixed_target`, `no_common_dates`."""
    asked = header["attributions"]
    if len({(one["target_metric"], one["frequency"]) for one in asked}) > 1:
        raise Refusal("mixed_target", "All attributions of a set have one frequency and one target metric.")
    by_combination: dict[tuple[str, ...], Attributed] = {}
    for number, one in enumerate(asked):
        yield Progress("align", number, len(asked))
        key, found = tuple(one["combination"]), read(Path(one["folder"]))
        by_combination[key] = joined(by_combination[key], found) if key in by_combination else found
    common = sorted(set.intersection(*(set(found.dates.tolist()) for found in by_combination.values())))
    if not common:
        raise Refusal("no_common_dates", "No date is in all combinations.")
    dates = np.array(common, dtype="datetime64[D]")
    aligned = {key: _part(found, np.searchsorted(found.dates, dates)) for key, found in by_combination.items()}
    combinations = [
        {**dict(zip(COMBINATION_COLUMNS, key, strict=True)), "Periods": len(dates), "Totals": totals(found)}
        for key, found in aligned.items()
    ]
    body = codec.dumps({"FirstDate": str(dates[0]), "LastDate": str(dates[-1]), "Combinations": combinations})
    return {"parts": [{"size": len(body)}]}, [body]


def read(folder: Path) -> Attributed:
    """The draws that `attribute` wrote. Carried amounts and margins belong to its own dates, so they are not there."""
    kept = np.load(folder / "effects.npz", allow_pickle=False)
    groups = {}
    for i, name in enumerate(kept["nodes"].tolist()):
        spend = kept["spends"][i]
        via = {str(mediator): kept[f"via{i}.{j}"] for j, mediator in enumerate(kept["mediators"].tolist())}
        groups[name] = GroupEffect(
            str(kept["kinds"][i]),
            kept[f"effect{i}"],
            kept[f"direct{i}"],
            via,
            None if np.isnan(spend).all() else spend,
            None,
            None,
            None,
        )
    prices = [None if np.isnan(each).all() else each for each in kept["prices"]]
    dates = kept["dates"].astype("datetime64[D]")
    return Attributed(dates, kept["baseline"], kept["prediction"], kept["observed"], prices[0], prices[1], groups)


class _Joining:
    """Puts arrays of two attributions behind each other, by date; draws are cut to the smaller number."""

    def __init__(self, first: Attributed, second: Attributed) -> None:
        self._is_new = ~np.isin(second.dates, first.dates)
        dates = np.concatenate([first.dates, second.dates[self._is_new]])
        self._order = np.argsort(dates)
        self._count = min(len(first.baseline), len(second.baseline))
        self.dates = dates[self._order]

    def both(self, one: Array, other: Array) -> Array:
        """[dates] or [draws, dates]."""
        parts = [one, other] if one.ndim == 1 else [_spaced(one, self._count), _spaced(other, self._count)]
        joined: Array = np.concatenate([parts[0], parts[1][..., self._is_new]], axis=-1)[..., self._order]
        return joined

    def if_both(self, one: Array | None, other: Array | None) -> Array | None:
        return None if one is None or other is None else self.both(one, other)

    def effect(self, one: GroupEffect, other: GroupEffect) -> GroupEffect:
        via = {name: self.both(draws, other.via[name]) for name, draws in one.via.items() if name in other.via}
        spend = self.if_both(one.spend, other.spend)
        return replace(
            one, total=self.both(one.total, other.total), direct=self.both(one.direct, other.direct), via=via, spend=spend
        )


def joined(first: Attributed, second: Attributed) -> Attributed:
    """Both, with the dates of the first where they share some; the smaller number of draws, and the groups that both have."""
    join = _Joining(first, second)
    return Attributed(
        join.dates,
        join.both(first.baseline, second.baseline),
        join.both(first.prediction, second.prediction),
        join.both(first.observed, second.observed),
        join.if_both(first.prices, second.prices),
        join.if_both(first.profits, second.profits),
        {name: join.effect(effect, second.groups[name]) for name, effect in first.groups.items() if name in second.groups},
    )


def _spaced(draws: Array, count: int) -> Array:
    return draws[np.arange(count) * len(draws) // count]


def _part(found: Attributed, places: Array) -> Attributed:
    """Some dates of an attribution."""
    groups = {
        name: replace(
            effect,
            total=effect.total[:, places],
            direct=effect.direct[:, places],
            via={mediator: draws[:, places] for mediator, draws in effect.via.items()},
            spend=None if effect.spend is None else effect.spend[places],
        )
        for name, effect in found.groups.items()
    }
    return replace(
        found,
        dates=found.dates[places],
        baseline=found.baseline[:, places],
        prediction=found.prediction[:, places],
        observed=found.observed[places],
        prices=None if found.prices is None else found.prices[places],
        profits=None if found.profits is None else found.profits[places],
        groups=groups,
    )
