"""Effects: what each group of inputs brings to the target, draw by draw, so that baseline and effects add up to the prediction.

The effect of a group is the prediction less the one with the group at its reference. Groups that meet above a nonlinear op share
what they do together by Shapley's values, which are exact: all sets of these groups are looked at.
Source: Shapley 1953. Arrays are [draws, periods] in units of the target.
"""

from collections.abc import Iterable, Iterator
from math import factorial

import numpy as np

from engine.tasks.projects.fitted import Fitted, interacting_groups
from engine.tasks.projects.instance import CALENDAR
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.scenarios import Change, Scenarios

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
        self._owner = {node.id: group for group, nodes in self._nodes.items() for node in nodes}
        self._known_alone: dict[str, dict[str, Array]] = {}
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
        raw   series of the group in place of those in the data; only of a group that meets no other
        """
        held = tuple(mediator for mediator in held if mediator not in [node.id for node in self._nodes[group]])
        if group not in self._interacting:
            return self._target([], held, raw) - self._target([group], held, raw)
        if held not in self._known_shares:
            self._known_shares[held] = self._shared(held)
        return self._known_shares[held][group]

    def ladder(self, group: str) -> list[Array]:
        """The effect with all mediators held, then with one more released at a time in topological order; last comes the total."""
        return [self.effect(group, held=tuple(self.mediators[number:])) for number in range(len(self.mediators) + 1)]

    def change(self, raw: dict[str, Array]) -> Array:
        """The prediction less the one with other series."""
        return self.prediction - self.scenarios.target(Change(raw=raw)) * self._scale

    def is_shared(self, group: str) -> bool:
        """Whether the group meets others above a nonlinear op."""
        return group in self._interacting

    def scaled(self, group: str, factors: Iterable[float]) -> Iterator[Array]:
        """What a group would bring if its series were as many times as they are, for each of these factors.

        A group that meets others keeps its share at factor 1: Shapley's values at every factor would take minutes. What it brings
        grows with the prediction, all others being as they were.
        """
        without = self._target([group])
        whole = (self.prediction - without).sum(axis=1, keepdims=True)
        for factor in factors:
            raw = {node.id: factor * self.readings.raw[node.id] for node in self._nodes[group]}
            gained = self._target([], (), raw) - without
            if self.is_shared(group):
                gain = gained.sum(axis=1, keepdims=True)
                gained = self.effect(group) * np.divide(gain, whole, out=np.zeros_like(gain), where=whole != 0)
            yield np.broadcast_to(gained, self.prediction.shape)

    def _shared(self, held: tuple[str, ...]) -> dict[str, Array]:
        """Shapley's values of the groups that interact: one prediction for each set of them that is on."""
        groups, count = self._interacting, len(self._interacting)
        totals = {group: np.zeros_like(self.prediction) for group in groups}
        for number in range(1 << count):
            off = [name for place, name in enumerate(groups) if not number >> place & 1]
            num_on = count - len(off)
            target = self._target(off, held)
            for group in groups:
                before = num_on if group in off else num_on - 1
                weight = factorial(before) * factorial(count - before - 1) / factorial(count)
                totals[group] += -weight * target if group in off else weight * target
        return totals

    def _target(self, off: list[str], held: tuple[str, ...] = (), raw: dict[str, Array] | None = None) -> Array:
        """The target with some groups at their reference."""
        if not off and not raw:
            return self.prediction
        known: dict[str, Array] = {}
        owns: dict[str, Array] = {}
        for group in off:
            known |= self._alone(group)
            owns |= {node.id: self._own_reference(node.id) for node in self._nodes[group] if node.op == "observe"}
        return self.scenarios.target(Change(raw=raw or {}, owns=owns, held=held, known=known)) * self._scale

    def _alone(self, group: str) -> dict[str, Array]:
        """The nodes that depend on this group and on no other, with the group at its reference."""
        if group not in self._known_alone:
            sources = [node for node in self._nodes[group] if node.op != "observe"]
            calendar = [node.id for node in sources if node.op in CALENDAR]
            raw = {node.id: self.reference(node.id) for node in sources if node.op not in CALENDAR}
            values = self.scenarios.changed(Change(raw=raw, calendar_off=calendar))
            self._known_alone[group] = {name: value for name, value in values.items() if self._groups_above(name) == {group}}
        return self._known_alone[group]

    def _groups_above(self, node_id: str) -> set[str]:
        """The groups that a node depends on, an `observe` node's own among them."""
        above = {node_id, *self.fitted.instance.above(node_id)}
        found = {self._owner[name] for name in above if name in self._owner}
        return found if self.fitted.instance.by_id[node_id].op != "observe" else found | {node_id}

    def reference(self, node_id: str) -> Array:
        """A source at its reference, [periods]."""
        return np.full(len(self.readings.periods), self.fitted.references[node_id])

    def _own_reference(self, mediator: str) -> Array:
        node = self.fitted.instance.by_id[mediator]
        own = self.fitted.owns[mediator][:, None]
        return np.zeros_like(own) if node.params["source"].get("spend_metric") else own
