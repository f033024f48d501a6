"""Effects: what each group of inputs brings to the target, draw by draw, so that baseline and effects add up to the prediction.

The effect of a group is the prediction less the one with the group at its reference. Groups that meet above a nonlinear op share
what they do together by Shapley's values, which are exact: all sets of these groups are looked at.
Source: Shapley 1953. Arrays are [draws, periods] in units of the target.
"""

from collections.abc import Iterator
from math import factorial

import numpy as np

from engine.tasks.projects.fitted import Fitted, interacting_groups
from engine.tasks.projects.instance import CALENDAR
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.scenarios import Scenarios

Array = np.ndarray

# Draws are looked at in chunks of this many, so that daily data of years needs no more memory than weekly data.
CHUNK_DRAWS = 100


def chunks(fitted: Fitted) -> Iterator[Fitted]:
    """The model with a part of its draws at a time, in order."""
    for first in range(0, len(fitted.draws), CHUNK_DRAWS):
        yield fitted.part(slice(first, first + CHUNK_DRAWS))


class Effects:
    """The effects of one model on one dataset."""

    def __init__(self, fitted: Fitted, readings: Readings) -> None:
        self.fitted = fitted
        self.readings = readings
        self.scenarios = Scenarios(fitted, readings)
        self.groups = list(fitted.group_nodes())
        self.mediators = [node.id for node in fitted.instance.mediators]
        self._nodes = fitted.group_nodes()
        self._scale: float = fitted.instance.target.params["scale"]
        self._interacting = interacting_groups(fitted.instance)
        self._known_shares: dict[tuple[str, ...], dict[str, Array]] = {}

    @property
    def prediction(self) -> Array:
        return self.scenarios.prediction * self._scale

    @property
    def baseline(self) -> Array:
        """The prediction with every group at its reference."""
        return self._target(self.groups)

    def effect(self, group: str, *, held: tuple[str, ...] = (), raw: dict[str, Array] | None = None) -> Array:
        """What one group brings.

        held  mediators that stay as they were observed; what the own part of one of them brings is never held back
        raw   series of the group in place of those in the data
        """
        held = tuple(mediator for mediator in held if mediator not in [node.id for node in self._nodes[group]])
        if group not in self._interacting:
            return self._target([], held, raw) - self._target([group], held, raw)
        if raw:
            return self._shared(held, raw)[group]
        if held not in self._known_shares:
            self._known_shares[held] = self._shared(held, {})
        return self._known_shares[held][group]

    def ladder(self, group: str) -> list[Array]:
        """The effect with all mediators held, then with one more released at a time in topological order; last comes the total."""
        return [self.effect(group, held=tuple(self.mediators[number:])) for number in range(len(self.mediators) + 1)]

    def change(self, raw: dict[str, Array]) -> Array:
        """The prediction less the one with other series."""
        return self.prediction - self.scenarios.target(raw) * self._scale

    def _shared(self, held: tuple[str, ...], raw: dict[str, Array]) -> dict[str, Array]:
        """Shapley's values of the groups that interact: one prediction for each set of them that is on."""
        groups, count = self._interacting, len(self._interacting)
        totals = {group: np.zeros_like(self.prediction) for group in groups}
        for number in range(1 << count):
            off = [name for place, name in enumerate(groups) if not number >> place & 1]
            num_on = count - len(off)
            target = self._target(off, held, raw)
            for group in groups:
                before = num_on if group in off else num_on - 1
                weight = factorial(before) * factorial(count - before - 1) / factorial(count)
                totals[group] += -weight * target if group in off else weight * target
        return totals

    def _target(self, off: list[str], held: tuple[str, ...] = (), raw: dict[str, Array] | None = None) -> Array:
        """The target with some groups at their reference."""
        series, calendar, owns = dict(raw or {}), [], {}
        for node in (node for group in off for node in self._nodes[group]):
            if node.op in CALENDAR:
                calendar.append(node.id)
            elif node.op == "observe":
                owns[node.id] = self._own_reference(node.id)
            else:
                series[node.id] = self.reference(node.id)
        if not (series or calendar or owns):
            return self.prediction
        return self.scenarios.target(series, calendar_off=calendar, owns=owns, held=held) * self._scale

    def reference(self, node_id: str) -> Array:
        """A source at its reference, [periods]."""
        return np.full(len(self.readings.periods), self.fitted.references[node_id])

    def _own_reference(self, mediator: str) -> Array:
        node = self.fitted.instance.by_id[mediator]
        own = self.fitted.owns[mediator][:, None]
        return np.zeros_like(own) if node.params["source"].get("spend_metric") else own
