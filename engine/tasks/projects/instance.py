"""An instance: the graph of the low level, as the fit runs it. Nodes with ops, and which feeds which.

An instance is trusted: checking.py looks at what people send before it becomes one. Knows no data.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from engine.tasks.projects.priors import Prior

# Ops without parents, which read data or the calendar.
SOURCES = frozenset({"input", "fourier", "trend", "event_window"})
CALENDAR = frozenset({"fourier", "trend"})
# Op -> its learnt parameters, in the order in which the op takes them.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "adstock_geometric": ("a",),
    "hill": ("k", "s", "e"),
    "linear": ("b",),
    "observe": ("b0", "sigma"),
}


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `prior` has, for each learnt parameter, a list of the family and its numbers."""

    id: str
    op: str
    params: dict[str, Any]
    prior: dict[str, list[Any]]
    group: str

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, "op": self.op, "params": self.params, "prior": self.prior, "group": self.group}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that is learnt: the column of draws that it has.

    name   as users see it: `tv->sales.a`
    index  among the columns of a basis, for b; else 0
    """

    name: str
    node: str
    key: str
    index: int
    prior: Prior


@dataclass(frozen=True)
class Instance:
    """Nodes in topological order, and edges from source to target."""

    nodes: list[Node]
    edges: list[tuple[str, str]]
    _parents: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, written: dict[str, Any]) -> "Instance":
        """The instance of a checked graph."""
        nodes = [Node(n["id"], n["op"], n.get("params", {}), n.get("prior", {}), n.get("group", n["id"])) for n in written["nodes"]]
        edges = [(edge["source"], edge["target"]) for edge in written["edges"]]
        parents: dict[str, list[str]] = {node.id: [] for node in nodes}
        for source, target in edges:
            parents[target].append(source)
        return cls(_sorted(nodes, parents), edges, parents)

    def as_dict(self) -> dict[str, Any]:
        nodes = [node.as_dict() for node in self.nodes]
        return {"nodes": nodes, "edges": [{"source": source, "target": target} for source, target in self.edges]}

    def parents(self, node_id: str) -> list[str]:
        return self._parents[node_id]

    @cached_property
    def by_id(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {node.id: [] for node in self.nodes}
        for source, target in self.edges:
            children[source].append(target)
        return children

    @cached_property
    def equations(self) -> list[Node]:
        """The `observe` nodes: those of mediators in topological order, then that of the target, which has no children."""
        return sorted((node for node in self.nodes if node.op == "observe"), key=lambda node: not self.children[node.id])

    @property
    def target(self) -> Node:
        return self.equations[-1]

    @cached_property
    def mediators(self) -> list[Node]:
        return self.equations[:-1]

    @cached_property
    def hills(self) -> list[Node]:
        return [node for node in self.nodes if node.op == "hill"]

    @cached_property
    def parameters(self) -> list[Parameter]:
        """All learnt numbers, equation by equation in topological order."""
        found = [parameter for node in self.nodes for parameter in self._parameters_of(node)]
        names = [parameter.name for parameter in found]
        return [p if names.count(p.name) == 1 else Parameter(f"{p.name}@{p.node}", p.node, p.key, p.index, p.prior) for p in found]

    @cached_property
    def columns(self) -> dict[tuple[str, str], list[int]]:
        """(node, key) -> the columns of its numbers."""
        columns: dict[tuple[str, str], list[int]] = {}
        for i, parameter in enumerate(self.parameters):
            columns.setdefault((parameter.node, parameter.key), []).append(i)
        return columns

    def _parameters_of(self, node: Node) -> Iterator[Parameter]:
        stem = node.group if node.op == "observe" else f"{node.group}->{self.equation_of(node.id).group}"
        for key in PARAMETERS.get(node.op, ()):
            width = self.width(self._parents[node.id][0]) if key == "b" else 1
            for index in range(width):
                name = f"{stem}.{key}{index + 1 if width > 1 else ''}"
                yield Parameter(name, node.id, key, index, Prior.of(node.prior[key]))

    def equation_of(self, node_id: str) -> Node:
        """The first equation below a node."""
        node = self.by_id[node_id]
        while node.op != "observe":
            node = self.by_id[self.children[node.id][0]]
        return node

    def width(self, node_id: str) -> int:
        """How many columns a node gives: more than one for the calendar alone, also behind a lag."""
        node = self.by_id[node_id]
        if node.op == "fourier":
            return 2 * int(node.params["pairs"])
        if node.op == "trend":
            return 1 + len(node.params.get("knots", []))
        return self.width(self._parents[node_id][0]) if node.op == "lag" else 1

    @cached_property
    def memory(self) -> int:
        """How many periods before a date matter for its prediction."""
        reach: dict[str, int] = {}
        for node in self.nodes:
            own = (
                int(node.params.get("L", 0)) if node.op == "adstock_geometric" else int(node.params["n"]) if node.op == "lag" else 0
            )
            reach[node.id] = own + max((reach[parent] for parent in self._parents[node.id]), default=0)
        return reach[self.target.id]

    def above(self, node_id: str) -> set[str]:
        """The ids of all nodes that a node depends on."""
        found: set[str] = set()
        waiting = list(self._parents[node_id])
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += self._parents[node]
        return found


def _sorted(nodes: list[Node], parents: dict[str, list[str]]) -> list[Node]:
    """Parents before children; otherwise in the order given. The graph has no cycle."""
    done: dict[str, Node] = {}
    waiting = list(nodes)
    while waiting:
        ready = [node for node in waiting if all(parent in done for parent in parents[node.id])]
        done |= {node.id: node for node in ready}
        waiting = [node for node in waiting if node.id not in done]
        if not ready:
            raise ValueError("this is a bug: the graph has a cycle")
    return list(done.values())
