"""Checks of the low level: ops with their params, priors and parents. Every fault names its node.

Knows no data.
"""

import datetime
from typing import Any

from engine.tasks.projects.checking import (
    ID,
    KINDS,
    MAX_LAG,
    SIGNS,
    SMALLEST,
    TAKEN_IDS,
    Faults,
    Graph,
    is_number,
    reaching,
    source_fault,
)
from engine.tasks.projects.instance import CALENDAR, PARAMETERS, SOURCES
from engine.tasks.projects.priors import FAMILIES

OPS = SOURCES | {"lag", "adstock_geometric", "hill", "linear", "sum", "observe"}
NODE_KEYS = frozenset({"id", "op", "params", "prior", "group"})
MAX_ADSTOCK = 120
KINDS_OF_DATA = tuple(sorted(KINDS - {"target"}))
POSITIVE = frozenset({"scale", "mean", "span", "period_days"})
RANGES = {"L": (0, MAX_ADSTOCK), "n": (0, MAX_LAG), "pairs": (1, 10)}
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
# Op -> the params that it may have beside.
OPTIONAL: dict[str, frozenset[str]] = {
    "input": frozenset({"source", "kind", "reference"}),
    "fourier": frozenset({"kind", "reference"}),
    "trend": frozenset({"kind", "reference"}),
    "event_window": frozenset({"kind", "reference"}),
    "observe": frozenset({"reference"}),
}
PRIOR_FAMILIES = {
    "a": ("beta",),
    "s": ("log_normal",),
    "e": ("log_normal",),
    "b0": ("normal",),
    "sigma": ("half_normal", "log_normal"),
}
SIGNED_FAMILIES = ("half_normal", "log_normal")


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
    with_source = {node["id"] for node in graph["nodes"] if "source" in node.get("params", {})}
    targets = [name for name, op in ops.items() if op == "observe" and not children[name]]
    if len(targets) != 1:
        faults.node(targets[0] if targets else None, f"A graph has exactly one target, not {len(targets)}.")
        faults.refuse()
    for name, op in ops.items():
        _check_parents(name, op, [ops[parent] for parent in parents[name]], faults, has_source=name in with_source)
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
    if not isinstance(op, str) or op not in OPS:
        return faults.node(name, f"An op is one of {', '.join(sorted(OPS))}.")
    if unknown := node.keys() - NODE_KEYS:
        return faults.node(name, f"A node has no `{min(unknown)}`.")
    group = node.get("group", name)
    if not isinstance(group, str) or not ID.fullmatch(group) or group.lower() in TAKEN_IDS:
        return faults.node(name, "A group is named like a node of the high level.")
    if not isinstance(params, dict) or not isinstance(node.get("prior", {}), dict):
        return faults.node(name, "`params` and `prior` are objects.")
    if message := _unknown_fault(op, params, node.get("prior", {})) or _param_fault(op, params):
        return faults.node(name, message)
    for key in PARAMETERS.get(op, ()):
        if message := prior_fault(key, node.get("prior", {}).get(key), params["sign"] if "sign" in NEEDED[op] else "any"):
            faults.node(name, message)
    return None


def _unknown_fault(op: str, params: Graph, prior: Graph) -> str | None:
    """What an op is given and does not have; None if nothing is."""
    if unknown := params.keys() - NEEDED[op].keys() - OPTIONAL.get(op, frozenset()):
        return f"The op {op} has no `{min(unknown)[:100]}` in its params."
    if unknown := prior.keys() - set(PARAMETERS.get(op, ())):
        return f"The op {op} has no `{min(unknown)[:100]}` in its prior."
    return None


def _param_fault(op: str, params: Graph) -> str | None:
    """What is wrong with the params that an op has; None if nothing is."""
    for key, types in NEEDED[op].items():
        value: Any = params.get(key)
        if type(value) not in types or (type(value) in (int, float) and not is_number(value)):
            return f"The op {op} needs `{key}` in its params."
        if key in POSITIVE and value < SMALLEST:
            return f"`{key}` is at least {SMALLEST}."
        if key in RANGES and not RANGES[key][0] <= value <= RANGES[key][1]:
            return f"`{key}` is {RANGES[key][0]} to {RANGES[key][1]}."
    if "sign" in NEEDED[op] and params["sign"] not in SIGNS:
        return "A sign is positive, negative or any."
    if "origin" in NEEDED[op] and not _is_date(params["origin"]):
        return "An origin is a date such as 2018-01-07."
    if op == "trend" and not all(map(is_number, params["knots"])):
        return "Knots are numbers."
    if not is_number(params.get("reference", 0)):
        return "A reference is a number."
    if params.get("kind", "control") not in KINDS_OF_DATA:
        return f"A kind is one of {', '.join(KINDS_OF_DATA)}."
    return source_fault(params.get("source", {}))


def _is_date(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text)) and len(text) == len("2018-01-07")
    except ValueError:
        return False


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


def _check_parents(name: str, op: str, parents: list[str], faults: Faults, *, has_source: bool) -> None:
    """The parents, given as their ops, are those that the op takes."""
    if op == "input":
        if parents != ([] if has_source else ["observe"]):
            faults.node(name, "An `input` reads a source, or one mediator that is observed.")
    elif op in SOURCES:
        if parents:
            faults.node(name, f"The op {op} has no parents.")
    elif op == "sum":
        if not parents:
            faults.node(name, "A `sum` needs a parent.")
    elif len(parents) != 1:
        faults.node(name, f"The op {op} has exactly one parent, not {len(parents)}.")
