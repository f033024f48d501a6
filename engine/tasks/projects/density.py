"""The log density of an instance and its gradient, for many draws at once.

Nodes of one op at one depth are one bundle, so that a gradient costs few calls of numpy however many channels there are. All that
depends on data alone is computed once. Mediators act through what was observed, so every equation has data above it. Knows no
calendar and no fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from engine.tasks.projects.instance import Instance, Node
from engine.tasks.projects.ops import Adstock, AdstockOfData, Hill, Lag, Linear, LinearOfData, Op, lagged
from engine.tasks.projects.priors import Priors

Array = np.ndarray
# Where a node's value is: a bundle, and its place in it.
Place = tuple[int, int]


@dataclass(slots=True)
class _Bundle:
    """Nodes of one op that are computed together.

    columns   for each parameter of the op, the columns of the draws, [G]
    inputs    where the input of each member is; none if it is data
    sums      for a bundle of one `sum`: bundle -> its places, None for all of them; `constant` is its part that is data
    """

    op: Op | None
    columns: list[Array]
    inputs: list[Place] = field(default_factory=list)
    sums: list[tuple[int, Array | None]] = field(default_factory=list)
    constant: Array | None = None
    size: int = 1


@dataclass(slots=True)
class _Equation:
    """One `observe` node: y is in units of its scale, [rows]; is_seen is 1 where it counts."""

    y: Array
    is_seen: Array
    mean: Place | None
    constant: Array | None
    level: int
    deviation: int

    @property
    def num_seen(self) -> float:
        return float(self.is_seen.sum())


class Density:
    """log p(parameters | data), up to a constant, of free parameters [draws, P].

    data      node id -> its columns [K, periods]: of every node that depends on data alone
    observed  id of an `observe` node -> what was observed, in units of its scale, [periods]; NaN only where is_train is False
    is_train  bool [periods]
    """

    def __init__(self, instance: Instance, data: Mapping[str, Array], observed: Mapping[str, Array], is_train: Array) -> None:
        self.instance = instance
        self.priors = Priors([parameter.prior for parameter in instance.parameters])
        self.num_gradients = 0
        self._data = data
        self._is_train = is_train
        self._is_whole = self._needs_all_periods()
        self._mask = is_train.astype(np.float64) if self._is_whole else None
        self._bundles: list[_Bundle] = []
        self._places: dict[str, Place] = {}
        for members in self._plan():
            self._add(members)
        self._equations = [self._equation(node, observed[node.id]) for node in instance.equations]

    def gradient(self, free: Array) -> tuple[Array, Array]:
        """The log density [draws] and its gradient [draws, P]. A wild draw gives -inf or NaN, and no warning."""
        self.num_gradients += 1
        with np.errstate(all="ignore"):
            natural = self.priors.natural(free)
            logs, slopes = self.priors.density(free, natural)
            values, saved = self._forward(natural)
            by_natural = np.zeros_like(natural)
            pulls: list[Array | None] = [None] * len(values)
            for equation in self._equations:
                logs += self._observe(equation, natural, values, by_natural, pulls)
            self._backward(values, saved, pulls, by_natural)
            return logs, slopes + by_natural * self.priors.slopes(natural)

    def forward(self, natural: Array) -> Array:
        """The mean of the target in units of its scale, [draws, rows], as the density uses it."""
        values, _ = self._forward(natural)
        return self._mean(self._equations[-1], natural, values)

    # What depends on what

    def _needs_all_periods(self) -> bool:
        """Whether an op that looks back in time has an input that is not data, so that the rows in between are needed."""
        temporal = [node for node in self.instance.nodes if node.op in ("adstock_geometric", "lag") and node.id not in self._data]
        return any(self.instance.parents(node.id)[0] not in self._data for node in temporal)

    def _rows(self, series: Array) -> Array:
        """The periods that the density looks at: the training dates, unless all are needed."""
        return series if self._is_whole else series[..., self._is_train]

    def _plan(self) -> list[list[Node]]:
        """The bundles in the order of their computation, each with its nodes."""
        depths: dict[str, int] = {}
        bundles: dict[tuple[object, ...], list[Node]] = {}
        for node in self.instance.nodes:
            if node.id in self._data or node.op == "observe":
                continue
            parents = [parent for parent in self.instance.parents(node.id) if parent in depths]
            depths[node.id] = depth = 1 + max((depths[parent] for parent in parents), default=0)
            bundles.setdefault((depth, *self._kind(node)), []).append(node)
        return [members for _, members in sorted(bundles.items(), key=lambda item: item[0][0])]  # type: ignore[arg-type,return-value]

    def _kind(self, node: Node) -> tuple[object, ...]:
        """What nodes of one bundle have in common. Linear terms of data are one product if all feed the same node alone."""
        is_of_data = self.instance.parents(node.id)[0] in self._data
        if node.op == "linear" and is_of_data:
            children = self.instance.children[node.id]
            return node.op, True, children[0] if len(children) == 1 else node.id
        if node.op == "sum":
            return node.op, node.id
        return node.op, is_of_data, node.params.get("L"), node.params.get("n")

    def _add(self, members: list[Node]) -> None:
        first = members[0]
        is_of_data = self.instance.parents(first.id)[0] in self._data
        if first.op == "sum":
            bundle = self._sum(first)
        elif first.op == "linear" and is_of_data:
            bundle = self._linear_of_data(members)
        else:
            bundle = self._bundle(members, is_of_data)
        is_joint = first.op == "linear" and is_of_data
        for place, node in enumerate(members):
            self._places[node.id] = (len(self._bundles), 0 if is_joint else place)
        self._bundles.append(bundle)

    def _bundle(self, members: list[Node], is_of_data: bool) -> _Bundle:
        keys = {"adstock_geometric": ("a",), "hill": ("k", "s", "e"), "linear": ("b",)}.get(members[0].op, ())
        columns = [np.array([self.instance.columns[node.id, key][0] for node in members]) for key in keys]
        bundle = _Bundle(self._op(members, is_of_data), columns, size=len(members))
        if is_of_data and members[0].op == "hill":
            bundle.constant = np.stack([self._rows(self._data[self.instance.parents(node.id)[0]]) for node in members])
        elif not is_of_data:
            bundle.inputs = [self._places[self.instance.parents(node.id)[0]] for node in members]
        return bundle

    def _op(self, members: list[Node], is_of_data: bool) -> Op:
        first = members[0]
        if first.op == "adstock_geometric":
            num_lags = int(first.params["L"])
            if not is_of_data:
                return Adstock(num_lags)
            series = [lagged(self._data[self.instance.parents(node.id)[0]][0], num_lags) for node in members]
            return AdstockOfData(np.stack([self._rows(rows) for rows in series]))
        if first.op == "hill":
            means = np.array([[node.params["mean"]] for node in members])
            return Hill(means, _signs(members), self._mask)
        if first.op == "lag":
            return Lag(int(first.params["n"]))
        return Linear(_signs(members))

    def _linear_of_data(self, members: list[Node]) -> _Bundle:
        series = [self._rows(self._data[self.instance.parents(node.id)[0]]) for node in members]
        signed = [sign * columns for sign, columns in zip(_signs(members)[:, 0], series, strict=True)]
        columns = [column for node in members for column in self.instance.columns[node.id, "b"]]
        return _Bundle(LinearOfData(np.concatenate(signed)), [np.array(columns)])

    def _sum(self, node: Node) -> _Bundle:
        places: dict[int, set[int]] = {}
        bundle = _Bundle(None, [])
        for parent in self.instance.parents(node.id):
            if parent in self._data:
                constant = self._rows(self._data[parent][0])
                bundle.constant = constant if bundle.constant is None else bundle.constant + constant
            else:
                places.setdefault(self._places[parent][0], set()).add(self._places[parent][1])
        for number, members in places.items():
            is_all = len(members) == self._bundles[number].size
            bundle.sums.append((number, None if is_all else np.array(sorted(members))))
        return bundle

    def _equation(self, node: Node, observed: Array) -> _Equation:
        parent = self.instance.parents(node.id)[0]
        constant = self._rows(self._data[parent][0]) if parent in self._data else None
        is_seen = self._rows(self._is_train.astype(np.float64))
        y = np.where(is_seen > 0, self._rows(observed), 0.0)
        level, deviation = (self.instance.columns[node.id, key][0] for key in ("b0", "sigma"))
        return _Equation(y, is_seen, self._places.get(parent), constant, level, deviation)

    # Forward and back

    def _forward(self, natural: Array) -> tuple[list[Array], list[tuple[Array, ...]]]:
        values: list[Array] = []
        saved: list[tuple[Array, ...]] = []
        for bundle in self._bundles:
            if bundle.op is None:
                values.append(self._total(bundle, values))
                saved.append(())
                continue
            x = bundle.constant if bundle.constant is not None else self._input(bundle, values)
            value, kept = bundle.op.forward(x, *(natural[:, columns].T for columns in bundle.columns))
            values.append(value)
            saved.append(kept)
        return values, saved

    @staticmethod
    def _input(bundle: _Bundle, values: list[Array]) -> Array:
        if not bundle.inputs:
            return np.empty(0)
        number = bundle.inputs[0][0]
        if bundle.inputs == [(number, place) for place in range(len(values[number]))]:
            return values[number]
        return np.stack([values[number][place] for number, place in bundle.inputs])

    @staticmethod
    def _total(bundle: _Bundle, values: list[Array]) -> Array:
        parts = [values[number] if places is None else values[number][places] for number, places in bundle.sums]
        total = parts[0].sum(axis=0, keepdims=True)
        for part in parts[1:]:
            total = total + part.sum(axis=0, keepdims=True)
        return total if bundle.constant is None else total + bundle.constant

    def _mean(self, equation: _Equation, natural: Array, values: list[Array]) -> Array:
        level: Array = natural[:, equation.level, None]
        if equation.mean is not None:
            return values[equation.mean[0]][equation.mean[1]] + level
        return level + (0.0 if equation.constant is None else equation.constant)

    def _observe(
        self, equation: _Equation, natural: Array, values: list[Array], by_natural: Array, pulls: list[Array | None]
    ) -> Array:
        """The log likelihood of one equation, [draws]; its gradients are added to those of parameters and of its mean."""
        deviation = natural[:, equation.deviation]
        error = (equation.y - self._mean(equation, natural, values)) * equation.is_seen
        squares = np.einsum("dt,dt->d", error, error) / deviation**2
        pull = error / (deviation**2)[:, None]
        by_natural[:, equation.level] += pull.sum(axis=1)
        by_natural[:, equation.deviation] += (squares - equation.num_seen) / deviation
        if equation.mean is not None:
            _add(pulls, equation.mean[0], np.array([equation.mean[1]]), pull[None], values)
        logs: Array = -equation.num_seen * np.log(deviation) - 0.5 * squares
        return logs

    def _backward(self, values: list[Array], saved: list[tuple[Array, ...]], pulls: list[Array | None], by_natural: Array) -> None:
        for number in reversed(range(len(self._bundles))):
            bundle, pull = self._bundles[number], pulls[number]
            if pull is None:
                continue
            if bundle.op is None:
                for source, places in bundle.sums:
                    _add(pulls, source, places, pull, values)
                continue
            of_input, of_parameters = bundle.op.backward(pull, saved[number])
            for columns, slope in zip(bundle.columns, of_parameters, strict=True):
                by_natural[:, columns] += slope.T
            if of_input is not None and bundle.inputs:
                self._hand_back(bundle, of_input, pulls, values)

    @staticmethod
    def _hand_back(bundle: _Bundle, of_input: Array, pulls: list[Array | None], values: list[Array]) -> None:
        number = bundle.inputs[0][0]
        if bundle.inputs == [(number, place) for place in range(len(values[number]))]:
            _add(pulls, number, None, of_input, values)
            return
        for (source, place), part in zip(bundle.inputs, of_input, strict=True):
            _add(pulls, source, np.array([place]), part[None], values)


def _signs(members: list[Node]) -> Array:
    return np.array([[-1.0 if node.params.get("sign") == "negative" else 1.0] for node in members])


def _add(pulls: list[Array | None], number: int, places: Array | None, pull: Array, values: list[Array]) -> None:
    """Add a gradient to that of some places of a bundle, or of all. `pull` may have one member that stands for all of them."""
    known = pulls[number]
    if places is None and known is None:
        pulls[number] = np.broadcast_to(pull, values[number].shape)
        return
    whole = np.zeros(values[number].shape) if known is None else np.array(known)
    if places is None:
        whole += pull
    else:
        whole[places] += pull
    pulls[number] = whole
