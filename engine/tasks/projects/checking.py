"""Checks of graphs as people send them, of both levels: names, kinds, edges and shapes. Every fault names its node or edge.

Knows no data; expansion.py says what is wrong with sources.
"""

import re
from collections import Counter
from typing import Any

from engine.tasks.projects.instance import CALENDAR, PARAMETERS, SOURCES
from engine.tasks.projects.priors import FAMILIES
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
OPS = SOURCES | {"lag", "adstock_geometric", "hill", "linear", "sum", "observe"}
ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
# What the inputs of the served model and the rows of tables are called.
TAKEN_IDS = frozenset({"date", "day", "yhat_id", "baseline", "prediction", "observed", "residual"})
NODE_KEYS = frozenset({"id", "name", "kind", "source", "reference", "prior"})
LOW_NODE_KEYS = frozenset({"id", "op", "params", "prior", "group"})
EDGE_KEYS = frozenset({"source", "target", "sign", "shape", "lag"})
SIGNS = ("positive", "negative", "any")
SHAPES = ("auto", "linear", "media")
MAX_NODES, MAX_EDGES, MAX_LAG, MAX_ADSTOCK = 200, 1000, 26, 120
# Op -> the params that it needs, each with the types that it may have.
NEEDED: dict[str, dict[str, tuple[type, ...]]] = {
    "input": {"scale": (int, float), "centre": (int, float)},
    "fourier": {"origin": (str,), "period_days": (int, float), "pairs": (int,)},
    "trend": {"origin": (str,), "span": (int, float), "knots": (list,)},
    "event_window": {"source": (dict,)},
    "lag": {"n": (int,)},
    "adstock_geometric": {"L": (int,)},
    "hill": {"mean": (int, float), "sign": (str,)},
    "linear": {"sign": (str,)},
    "sum": {},
    "observe": {"source": (dict,), "scale": (int, float)},
}
PRIOR_FAMILIES = {
    "a": ("beta",),
    "s": ("log_normal",),
    "e": ("log_normal",),
    "b0": ("normal",),
    "sigma": ("half_normal", "log_normal"),
}
SIGNED_FAMILIES = ("half_normal", "log_normal")


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
        self.details.append({"Code": "invalid_graph", "Node": str(node_id)[:100], "Message": message})

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
    seen: set[tuple[str, str]] = set()
    for edge in graph["edges"]:
        ends = (edge.get("source"), edge.get("target")) if isinstance(edge, dict) else (None, None)
        if not all(isinstance(end, str) and end in ids for end in ends):
            faults.edge(edge, "An edge has the ids of two nodes as `source` and `target`.")
        elif ends in seen:
            faults.edge(edge, "Two edges have these ends.")
        seen.add(ends)  # type: ignore[arg-type]


def _cycle(graph: Graph) -> list[str]:
    """The nodes that are left when nodes without parents are taken away again and again."""
    left = [node["id"] for node in graph["nodes"]]
    while left:
        targets = {edge["target"] for edge in graph["edges"] if edge["source"] in left and edge["target"] in left}
        kept = [name for name in left if name in targets]
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
    for name in set(kinds) - reaching(graph, targets[0]):
        faults.node(name, "No path leads from this node to the target.")
    faults.refuse()


def _check_high_node(node: Graph, faults: Faults) -> None:
    if node.get("kind") not in KINDS:
        faults.node(node["id"], f"A kind is one of {', '.join(sorted(KINDS))}.")
    elif unknown := node.keys() - NODE_KEYS:
        faults.node(node["id"], f"A node has no `{min(unknown)}`.")
    elif node["kind"] not in CALENDAR_KINDS and not isinstance(node.get("source", {}), dict):
        faults.node(node["id"], "A source is an object.")
    elif node["kind"] not in CALENDAR_KINDS | {"target"} and "source" not in node:
        faults.node(node["id"], "This node needs a `source`.")
    elif not isinstance(node.get("prior", {}), dict):
        faults.node(node["id"], "A prior is an object.")


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


# The low level


def check_low(graph: Graph) -> None:
    """A low-level graph of which check_shape approves: ops, params, priors, parents. Refusal."""
    faults = Faults()
    parents: dict[str, list[str]] = {node["id"]: [] for node in graph["nodes"]}
    children: dict[str, list[str]] = {node["id"]: [] for node in graph["nodes"]}
    for edge in graph["edges"]:
        parents[edge["target"]].append(edge["source"])
        children[edge["source"]].append(edge["target"])
    for node in graph["nodes"]:
        _check_low_node(node, faults)
    faults.refuse()
    ops = {node["id"]: node["op"] for node in graph["nodes"]}
    targets = [name for name, op in ops.items() if op == "observe" and not children[name]]
    if len(targets) != 1:
        faults.node(targets[0] if targets else None, f"A graph has exactly one target, not {len(targets)}.")
        faults.refuse()
    for name, op in ops.items():
        _check_parents(name, op, [ops[parent] for parent in parents[name]], faults)
        is_wide = op in CALENDAR or (op == "lag" and any(ops[parent] in CALENDAR for parent in parents[name]))
        if is_wide and any(ops[child] not in ("linear", "lag") for child in children[name]):
            faults.node(name, "A node with several columns leads to `linear` or `lag` only.")
        if op == "observe" and any(ops[child] != "input" for child in children[name]):
            faults.node(name, "What a mediator is observed as leads to `input` only, which scales it.")
    for name in ops.keys() - reaching(graph, targets[0]):
        faults.node(name, "No path leads from this node to the target.")
    faults.refuse()


def _check_low_node(node: Graph, faults: Faults) -> None:
    name, op, params = node["id"], node.get("op"), node.get("params", {})
    if op not in OPS:
        return faults.node(name, f"An op is one of {', '.join(sorted(OPS))}.")
    if unknown := node.keys() - LOW_NODE_KEYS:
        return faults.node(name, f"A node has no `{min(unknown)}`.")
    if not isinstance(params, dict) or not isinstance(node.get("prior", {}), dict):
        return faults.node(name, "`params` and `prior` are objects.")
    for key, types in NEEDED[op].items():
        if not isinstance(params.get(key), types) or isinstance(params.get(key), bool):
            return faults.node(name, f"The op {op} needs `{key}` in its params.")
    if params.get("scale", 1) <= 0 or params.get("mean", 1) <= 0 or params.get("span", 1) <= 0 or params.get("period_days", 1) <= 0:
        return faults.node(name, "scale, mean, span and period_days are above 0.")
    if (
        not 0 <= params.get("L", 0) <= MAX_ADSTOCK
        or not 0 <= params.get("n", 0) <= MAX_LAG
        or not 1 <= params.get("pairs", 1) <= 10
    ):
        return faults.node(name, f"L is 0 to {MAX_ADSTOCK}, n is 0 to {MAX_LAG}, pairs is 1 to 10.")
    if params.get("sign", "any") not in SIGNS:
        return faults.node(name, "A sign is positive, negative or any.")
    for key in PARAMETERS.get(op, ()):
        if message := prior_fault(key, node.get("prior", {}).get(key), params.get("sign", "any")):
            faults.node(name, message)
    return None


def prior_fault(key: str, prior: Any, sign: str) -> str | None:
    """What is wrong with a prior as an instance has it; None if nothing is."""
    allowed = PRIOR_FAMILIES.get(key) or (("normal",) if sign == "any" else SIGNED_FAMILIES)
    if not isinstance(prior, list) or not prior or prior[0] not in allowed:
        return f"The prior of {key} is a list that begins with {' or '.join(allowed)}."
    numbers = prior[1:]
    if len(numbers) != FAMILIES[prior[0]] or not all(type(number) in (int, float) and abs(number) < 1e6 for number in numbers):
        return f"The prior {prior[0]} of {key} has {FAMILIES[prior[0]]} numbers."
    if numbers[-1] <= 1e-6 or (prior[0] == "beta" and numbers[0] <= 1e-6):
        return f"The spread of the prior of {key} is above 0."
    return None


def _check_parents(name: str, op: str, parents: list[str], faults: Faults) -> None:
    if op == "input":
        if len(parents) > 1 or any(parent != "observe" for parent in parents):
            faults.node(name, "An `input` reads a source, or one mediator that is observed.")
    elif op in SOURCES:
        if parents:
            faults.node(name, f"The op {op} has no parents.")
    elif op == "sum":
        if not parents:
            faults.node(name, "A `sum` needs a parent.")
    elif len(parents) != 1:
        faults.node(name, f"The op {op} has exactly one parent, not {len(parents)}.")
