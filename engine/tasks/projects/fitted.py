"""A fitted model in its folder: the instance, what it was trained on, and the draws of its posterior.

Beside each draw of the parameters stand the numbers that follow from it and the training data: for each `hill` node the mean of h
that its share is told in, and for each mediator the mean of its own part. Later data does not change them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.tasks import codec
from engine.tasks.projects.instance import CALENDAR, Instance, Node

Array = np.ndarray

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """One fitted model.

    draws       natural parameters, [draws, P]
    norms       `hill` node -> the mean of h over the training dates, [draws]
    owns        mediator -> the mean of its own part over the training dates, in units of its scale, [draws]
    references  node that reads a source -> the value that it has where its group is switched off
    largest     node that reads a source -> its largest value in training
    """

    instance: Instance
    combination: list[str]
    frequency: str
    train_dates: list[str]
    draws: Array
    norms: dict[str, Array]
    owns: dict[str, Array]
    references: dict[str, float]
    largest: dict[str, float]

    def write(self, folder: Path) -> None:
        """fitted.json and draws.npy."""
        told = {
            "format": FORMAT,
            "instance": self.instance.as_dict(),
            "combination": self.combination,
            "frequency": self.frequency,
            "train_dates": self.train_dates,
            "parameters": [parameter.name for parameter in self.instance.parameters],
            "norms": list(self.norms),
            "owns": list(self.owns),
            "references": self.references,
            "largest": self.largest,
        }
        (folder / "fitted.json").write_bytes(codec.dumps(told))
        columns = [self.draws, *(array[:, None] for array in (*self.norms.values(), *self.owns.values()))]
        np.save(folder / "draws.npy", np.concatenate(columns, axis=1))

    @classmethod
    def read(cls, folder: Path) -> "Fitted":
        told = codec.parse_json((folder / "fitted.json").read_bytes())
        columns = np.load(folder / "draws.npy", allow_pickle=False)
        instance = Instance.of(told["instance"])
        count = len(instance.parameters)
        after = count + len(told["norms"])
        norms = {name: columns[:, count + i] for i, name in enumerate(told["norms"])}
        owns = {name: columns[:, after + i] for i, name in enumerate(told["owns"])}
        kept = {key: told[key] for key in ("combination", "frequency", "train_dates", "references", "largest")}
        return cls(instance, draws=columns[:, :count], norms=norms, owns=owns, **kept)

    def spaced(self, count: int) -> "Fitted":
        """The model with `count` of its draws, evenly spaced."""
        return self.part(np.arange(count) * len(self.draws) // count)

    def part(self, chosen: Array | slice) -> "Fitted":
        """The model with some of its draws."""
        norms = {name: array[chosen] for name, array in self.norms.items()}
        owns = {name: array[chosen] for name, array in self.owns.items()}
        return replace(self, draws=self.draws[chosen], norms=norms, owns=owns)

    @property
    def target_metric(self) -> str:
        return str(self.instance.target.params["source"].get("metric", "UnitsSold"))

    def group_nodes(self) -> dict[str, list[Node]]:
        """Group -> the nodes that read its data, or the `observe` node of a mediator; in the order of the instance."""
        return group_nodes(self.instance)


def group_nodes(instance: Instance) -> dict[str, list[Node]]:
    """As Fitted.group_nodes."""
    groups: dict[str, list[Node]] = {}
    for node in instance.nodes:
        if (node.op in CALENDAR or "source" in node.params) and node.id != instance.target.id:
            groups.setdefault(node.group, []).append(node)
    return groups


def kind_of(instance: Instance, node: Node) -> str:
    """The kind of a node that reads data: as it is told in its params, or as its op and its children suggest."""
    told = {"observe": "mediator", "fourier": "seasonality", "trend": "trend", "event_window": "event"}.get(node.op)
    below = [instance.by_id[child].op for child in instance.children[node.id]]
    return told or str(node.params.get("kind") or ("media" if "adstock_geometric" in below or "hill" in below else "control"))


def interacting_groups(instance: Instance) -> list[str]:
    """The groups that meet another one above a nonlinear op, so that their effects must share what they do together."""
    owner = {node.id: group for group, nodes in group_nodes(instance).items() for node in nodes}
    meeting: set[str] = set()
    for hill in instance.hills:
        above = {owner[node] for node in instance.above(hill.id) if node in owner}
        meeting |= above if len(above) > 1 else set()
    return [group for group in group_nodes(instance) if group in meeting]


def reference_of(instance: Instance, node: Node, train_values: Array) -> float:
    """The value of a source where its group is switched off: 0 for media and events, the training mean for others."""
    if "reference" in node.params:
        return float(node.params["reference"])
    return 0.0 if kind_of(instance, node) in ("media", "event") else float(train_values.mean())
