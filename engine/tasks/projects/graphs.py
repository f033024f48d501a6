"""The tasks that look at graphs: `check_graph`, `default_graph` and `check_refit`. None of them needs scipy or onnx."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.frames import Header
from engine.tasks.projects.checking import CALENDAR_KINDS, ID, TAKEN_IDS, Graph, check_high, check_shape
from engine.tasks.projects.expansion import data_fault, expand
from engine.tasks.projects.fitted import Fitted, group_nodes, interacting_groups, kind_of
from engine.tasks.projects.instance import Instance
from engine.tasks.projects.op_checking import check_low
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.refusals import Refusal, warning
from engine.tasks.projects.sources import Dataset, NoRows

Array = np.ndarray
Series = tuple[str, str, Graph]

MIN_TRAIN_DATES = 20
# Shapley's values look at all sets of the groups that interact.
MAX_INTERACTING = 10
# Type of data -> kind of its nodes; every other type gives controls.
KIND_OF_TYPE = {name: name for name in ("media", "distribution", "macro", "brand", "visits", "competitor", "weather", "price")}
FOREIGN = re.compile(r"[^A-Za-z0-9_.:-]")
MAX_ID = 64


def check_graph(header: Header) -> Graph:
    """The answer of the task. Refusal."""
    dataset = Dataset(header["files"], header["combination"])
    is_train = train_mask(dataset, header["train_dates"], header["eval_dates"])
    graph = header["graph"] or suggested(dataset)
    level = check_shape(graph)
    warnings = gaps(dataset)
    if level == "high":
        check_high(graph)
        high, (low, more) = graph, expand(graph, dataset, is_train)
        warnings += more
    else:
        check_low(graph)
        low = graph
    check_shape(low)
    check_low(low)
    instance = Instance.of(low)
    if level == "low":
        high = derived(instance)
    _check_size(instance, header["max_parameters"])
    readings, more = _read(instance, dataset)
    _check_observed(instance, readings, is_train)
    return {"Graph": high, "Instance": instance.as_dict(), "Warnings": warnings + more}


def check_drawing(header: Header) -> Graph:
    """The answer of the task. Refusal."""
    graph: Graph = header["graph"]
    if check_shape(graph) == "low":
        raise Refusal("invalid_graph", "A graph with `op` in its nodes is kept with the model that is built of it, and not alone.")
    check_high(graph)
    return graph


def _read(instance: Instance, dataset: Dataset) -> tuple[Readings, list[dict[str, Any]]]:
    """Readings.of, whose missing source is a fault of the graph here."""
    try:
        return Readings.of(instance, dataset)
    except Refusal as refusal:
        raise Refusal("invalid_graph", refusal.message, [{**one, "Code": "invalid_graph"} for one in refusal.details]) from None


def check_refit(header: Header) -> Graph:
    """The answer of the task. Refusal."""
    fitted = Fitted.read(Path(header["model"]))
    dataset = Dataset(header["files"], fitted.combination)
    is_train = train_mask(dataset, header["train_dates"], header["eval_dates"])
    readings, warnings = Readings.of(fitted.instance, dataset)
    _check_observed(fitted.instance, readings, is_train)
    return {"Warnings": gaps(dataset) + warnings}


def default_graph(header: Header) -> Graph:
    """The answer of the task. Refusal."""
    dataset = Dataset(header["files"], header["combination"])
    dataset.mask([])  # refuses a combination that Sales does not have
    return suggested(dataset)


def train_mask(dataset: Dataset, train_dates: list[str], eval_dates: list[str]) -> Array:
    """bool [periods] of the training dates. Refusal."""
    is_train, is_eval = dataset.mask(train_dates), dataset.mask(eval_dates)
    if both := sorted(set(train_dates) & set(eval_dates)):
        details = [{"Code": "dates_overlap", "Message": "It is in both lists.", "Value": date} for date in both]
        raise Refusal("dates_overlap", f"{(is_train & is_eval).sum()} dates are both for training and for evaluation.", details)
    if is_train.sum() < MIN_TRAIN_DATES:
        raise Refusal("too_few_dates", f"A model needs at least {MIN_TRAIN_DATES} training dates, not {is_train.sum()}.")
    return is_train


def gaps(dataset: Dataset) -> list[dict[str, Any]]:
    """The warning of periods that Sales lacks between its first and its last."""
    last = int(dataset.periods.positions(dataset.sales_dates[-1:])[0])
    missing = dataset.periods.starts[: last + 1][~dataset.is_sold[: last + 1]]
    if not len(missing):
        return []
    return [warning("gap", f"Sales lacks {len(missing)} periods, the first on {missing[0]}.")]


def _check_size(instance: Instance, max_parameters: int) -> None:
    if len(instance.parameters) > max_parameters:
        raise Refusal(
            "graph_too_large", f"The graph has {len(instance.parameters)} parameters; at most {max_parameters} are fitted."
        )
    if len(names := interacting_groups(instance)) > MAX_INTERACTING:
        raise Refusal("graph_too_large", f"{len(names)} groups meet above saturation; at most {MAX_INTERACTING} may.")


def _check_observed(instance: Instance, readings: Readings, is_train: Array) -> None:
    """Refusal if a series that the fit compares with data, or reads, lacks a training date or is too large or too small."""
    for node_id, series in {**readings.observed, **readings.raw}.items():
        if message := data_fault(series, is_train):
            group = instance.by_id[node_id].group
            told = [{"Code": "invalid_graph", "Node": group, "Message": f"It {message}."}]
            raise Refusal("invalid_graph", f"The source of {group} {message}.", told)
    target = readings.observed[instance.target.id][is_train]
    if np.ptp(target) <= 1e-12 * np.abs(target).max(initial=0.0):
        raise Refusal("constant_target", "The target is the same on all training dates.")


# The default graph


def suggested(dataset: Dataset) -> Graph:
    """Everything in the dataset leads to the target: media, every other series, events, seasonality and trend."""
    taken = {name: "" for name in TAKEN_IDS}
    nodes: list[Graph] = [
        {"id": "sales", "name": "Sales", "kind": "target", "source": {"dataset_name": "Sales", "metric": "UnitsSold"}}
    ]
    taken["sales"] = ""
    for name in dataset.types:
        if name != "sales":
            nodes += [_suggested_node(*series, taken) for series in _series(dataset, name)]
    nodes += [{"id": kind, "name": kind.capitalize(), "kind": kind} for kind in sorted(CALENDAR_KINDS)]
    edges = [{"source": node["id"], "target": "sales"} for node in nodes[1:]]
    return {"nodes": nodes, "edges": edges}


def _series(dataset: Dataset, name: str) -> Iterator[Series]:
    """Kind, name and source of each series of a type."""
    try:
        table = dataset.rows(name)
    except NoRows:
        return
    if name == "events":
        for event in sorted(set(table["event"].to_pylist())):
            yield "event", event, {"dataset_name": dataset.title(name), "event": event}
        return
    kind = KIND_OF_TYPE.get(name, "control")
    keys = ["name"] if name == "media" else [key for key in ("name", "metric") if key in table.column_names]
    columns = [[str(value) if value is not None else "" for value in table[key].to_pylist()] for key in keys]
    found = sorted(set(zip(*columns, strict=True))) if columns else []
    if not any(any(values) for values in found):
        keys, found = ["product"], sorted({(str(product),) for product in table["product"].to_pylist()})
    for values in found:
        told = {key: value for key, value in zip(keys, values, strict=True) if value}
        shown = [value for value in told.values() if value != "all"] or ["all"]
        yield kind, " ".join(shown), {"dataset_name": dataset.title(name), **told}


def _suggested_node(kind: str, name: str, source: Graph, taken: dict[str, str]) -> Graph:
    """A node whose id is kind and name, cut and numbered where it is taken."""
    stem = f"{kind}.{FOREIGN.sub('_', name)}"[:MAX_ID]
    node_id, number = stem, 1
    while node_id.lower() in taken or not ID.fullmatch(node_id):
        number += 1
        node_id = f"{stem[: MAX_ID - len(str(number)) - 1]}.{number}"
    taken[node_id.lower()] = node_id
    return {"id": node_id, "name": name, "kind": kind, "source": source}


# The high level of an instance


def derived(instance: Instance) -> Graph:
    """The high-level graph that stands for an instance: its groups, and which of them leads to which equation."""
    nodes: list[Graph] = [{"id": instance.target.group, "kind": "target", "source": instance.target.params["source"]}]
    for group, members in group_nodes(instance).items():
        source = members[0].params.get("source")
        nodes.append({"id": group, "kind": kind_of(instance, members[0])} | ({"source": source} if source else {}))
    edges: dict[tuple[str, str], Graph] = {}
    for group, members in group_nodes(instance).items():
        for member in members:
            for target, shape in _leads_to(instance, member.id):
                edge = edges.setdefault((group, target), {"source": group, "target": target, "shape": "linear"})
                edge["shape"] = "media" if shape == "media" else edge["shape"]
    return {"nodes": nodes, "edges": list(edges.values())}


def _leads_to(instance: Instance, node_id: str) -> Iterator[tuple[str, str]]:
    """The groups of the equations below a node, with the shape of the way there."""
    waiting = [(child, "linear") for child in instance.children[node_id]]
    while waiting:
        name, shape = waiting.pop()
        node = instance.by_id[name]
        if node.op == "observe":
            yield node.group, shape
            continue
        waiting += [(child, "media" if node.op == "hill" else shape) for child in instance.children[name]]
