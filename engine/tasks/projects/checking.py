"""Checks of graphs as people send them: names and edges of both levels, kinds and shapes of the high one.

Every fault names its node or edge. Knows no data; expansion.py says what is wrong with sources, and op_checking.py with ops.
"""

import re
from collections import Counter
from typing import Any

from engine.tasks.projects.refusals import Refusal

Graph = dict[str, Any]

KINDS = frozenset(
    [
        "target",
        "media",
        "mediator",
        "price",
        "distribution",
        "macro",
        "brand",
        "visits",
        "competitor",
        "weather",
        "control",
        "event",
        "seasonality",
        "trend",
    ]
)
CALENDAR_KINDS = frozenset({"seasonality", "trend"})
ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
# What the inputs of the served model and the rows of tables are called.
TAKEN_IDS = frozenset({"date", "day", "yhat_id", "baseline", "prediction", "observed", "residual"})
NODE_KEYS = frozenset({"id", "name", "kind", "source", "reference", "prior"})
SOURCE_KEYS = frozenset({"dataset_name", "product", "name", "metric", "spend_metric", "channel", "campaign", "event"})
EDGE_KEYS = frozenset({"source", "target", "sign", "shape", "lag"})
SIGNS = ("positive", "negative", "any")
SHAPES = ("auto", "linear", "media")
MAX_NODES, MAX_EDGES, MAX_LAG = 200, 1000, 26
# Numbers in graphs are smaller than the first, and numbers that something is divided by are not smaller than the second. The same
# holds for the data that a model reads: the model that is served computes in float32, which ends at 1e-38 and 3e38.
LARGEST, SMALLEST = 1e15, 1e-15


def level_of(graph: Graph) -> str:
    """`high` or `low`. Refusal `mixed_graph`."""
    levels = {"low" if "op" in node else "high" for node in graph["nodes"] if isinstance(node, dict)}
    if len(levels) > 1 or any(isinstance(node, dict) and {"op", "kind"} <= node.keys() for node in graph["nodes"]):
        raise Refusal("mixed_graph", "Nodes have either `kind` or `op`; one graph has one of them.")
    return levels.pop() if levels else "high"


class Faults:
    """The faults of one graph, and the refusal that they become."""

    def __init__(self) -> None:
        self.details: list[dict[str, Any]] = []

    def node(self, node_id: Any, message: str) -> None:
        """node_id: null where no node is meant, or the one that is meant has no id."""
        name = None if node_id is None else str(node_id)[:100]
        self.details.append({"Code": "invalid_graph", "Node": name, "Message": message})

    def edge(self, edge: Any, message: str) -> None:
        name = f"{edge.get('source')}->{edge.get('target')}" if isinstance(edge, dict) else str(edge)
        self.details.append({"Code": "invalid_graph", "Edge": name[:200], "Message": message})

    def refuse(self) -> None:
        """Refusal `invalid_graph`, if there is a fault."""
        if self.details:
            raise Refusal("invalid_graph", f"{self.details[0]['Message']}", self.details)


def check_shape(graph: Any) -> str:
    """The level of a graph whose lists, names and edges are well formed and that has no cycle. Refusal."""
    if not isinstance(graph, dict) or not all(isinstance(graph.get(key), list) for key in ("nodes", "edges")):
        raise Refusal("invalid_graph", "A graph has a list `nodes` and a list `edges`.")
    if len(graph["nodes"]) > MAX_NODES or len(graph["edges"]) > MAX_EDGES:
        raise Refusal("graph_too_large", f"A graph has at most {MAX_NODES} nodes and {MAX_EDGES} edges.")
    level = level_of(graph)
    faults = Faults()
    for node in graph["nodes"]:
        _check_id(node, faults)
    faults.refuse()
    for name, count in Counter(node["id"] for node in graph["nodes"]).items():
        if count > 1:
            faults.node(name, "Two nodes have this id.")
    _check_edges(graph, faults)
    faults.refuse()
    if cycle := _cycle(graph):
        faults.node(cycle[0], f"These nodes form a cycle: {', '.join(cycle[:10])}.")
    faults.refuse()
    return level


def _check_id(node: Any, faults: Faults) -> None:
    name = node.get("id") if isinstance(node, dict) else None
    if not isinstance(name, str) or not ID.fullmatch(name):
        faults.node(name, "An id has 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
    elif name.lower() in TAKEN_IDS:
        faults.node(name, f"The id {name} is taken by records and tables.")


def _check_edges(graph: Graph, faults: Faults) -> None:
    ids = {node["id"] for node in graph["nodes"]}
    seen: set[tuple[Any, Any]] = set()
    for edge in graph["edges"]:
        ends = (edge.get("source"), edge.get("target")) if isinstance(edge, dict) else (None, None)
        if not all(isinstance(end, str) and end in ids for end in ends):
            faults.edge(edge, "An edge has the ids of two nodes as `source` and `target`.")
            continue
        if ends in seen:
            faults.edge(edge, "Two edges have these ends.")
        seen.add(ends)


def _cycle(graph: Graph) -> list[str]:
    """The nodes that are left when nodes without parents, or without children, are taken away again and again."""
    left = [node["id"] for node in graph["nodes"]]
    while left:
        edges = [edge for edge in graph["edges"] if edge["source"] in left and edge["target"] in left]
        ends = {edge["source"] for edge in edges} & {edge["target"] for edge in edges}
        kept = [name for name in left if name in ends]
        if kept == left:
            return left
        left = kept
    return []


def reaching(graph: Graph, target: str) -> set[str]:
    """The ids of the nodes from which the target is reached, with the target."""
    found, waiting = {target}, [target]
    while waiting:
        name = waiting.pop()
        above = {edge["source"] for edge in graph["edges"] if edge["target"] == name} - found
        found |= above
        waiting += above
    return found


# The high level


def check_high(graph: Graph) -> None:
    """A high-level graph of which check_shape approves: kinds, the target, signs and shapes. Refusal."""
    faults = Faults()
    kinds = {node["id"]: node.get("kind") for node in graph["nodes"]}
    for node in graph["nodes"]:
        _check_high_node(node, faults)
    targets = [name for name, kind in kinds.items() if kind == "target"]
    if len(targets) != 1:
        faults.node(targets[0] if targets else None, f"A graph has exactly one target, not {len(targets)}.")
    faults.refuse()
    for edge in graph["edges"]:
        _check_high_edge(edge, kinds, faults)
    reached = reaching(graph, targets[0])
    for name in kinds:
        if name not in reached:
            faults.node(name, "No path leads from this node to the target.")
    faults.refuse()


def _check_high_node(node: Graph, faults: Faults) -> None:
    if not isinstance(node.get("kind"), str) or node["kind"] not in KINDS:
        faults.node(node["id"], f"A kind is one of {', '.join(sorted(KINDS))}.")
    elif unknown := node.keys() - NODE_KEYS:
        faults.node(node["id"], f"A node has no `{min(unknown)}`.")
    elif node["kind"] not in CALENDAR_KINDS and (message := source_fault(node.get("source", {}))):
        faults.node(node["id"], message)
    elif node["kind"] not in CALENDAR_KINDS | {"target"} and "source" not in node:
        faults.node(node["id"], "This node needs a `source`.")
    elif not isinstance(node.get("prior", {}), dict):
        faults.node(node["id"], "A prior is an object.")
    elif not is_number(node.get("reference", 0)):
        faults.node(node["id"], "A reference is a number.")


def source_fault(source: Any) -> str | None:
    """What is wrong with a source, whatever the data; None if nothing is."""
    if not isinstance(source, dict):
        return "A source is an object."
    unknown = source.keys() - SOURCE_KEYS
    return f"A source has no `{min(unknown)}`." if unknown else None


def _check_high_edge(edge: Graph, kinds: dict[str, str], faults: Faults) -> None:
    source, target = kinds[edge["source"]], kinds[edge["target"]]
    lag = edge.get("lag", 0)
    if unknown := edge.keys() - EDGE_KEYS:
        faults.edge(edge, f"An edge has no `{min(unknown)}`.")
    elif source == "target":
        faults.edge(edge, "No edge leads out of the target.")
    elif target not in ("target", "mediator"):
        faults.edge(edge, "An edge ends at the target or at a mediator.")
    elif edge.get("sign", "any") not in SIGNS or edge.get("shape", "auto") not in SHAPES:
        faults.edge(edge, "A sign is positive, negative or any; a shape is auto, linear or media.")
    elif not isinstance(lag, int) or isinstance(lag, bool) or not 0 <= lag <= MAX_LAG:
        faults.edge(edge, f"A lag is 0 to {MAX_LAG} periods.")
    elif source in CALENDAR_KINDS and (edge.get("sign", "any") != "any" or edge.get("shape") == "media"):
        faults.edge(edge, f"The {source} has several columns: its sign is any and its shape linear.")


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that a model may have."""
    return type(value) in (int, float) and abs(value) < LARGEST
