"""A config and its graph: every sentence that says where they do not fit. Nothing is run here."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.tasks.publishing.deriving import TOKENISED_INPUTS, Config, Graph, Node
from engine.tasks.publishing.labels import label_faults
from engine.tasks.scoring.inputs import NUMPY_TYPES, Refused, Scalars
from engine.tasks.scoring.model import build_input
from engine.tasks.scoring.tensors import open_dims

# What a person reads of the faults of one config.
MAX_FAULTS = 20
MAX_FAULT_CHARACTERS = 500


def faults_of(config: Config, graph: Graph, folder: Path) -> list[str]:
    """Why the inputs and outputs of a whole config are not those of the graph; empty if they are."""
    nodes = {node.name: node for node in graph.inputs}
    outputs = {node.name: node for node in graph.outputs}
    faults = [*_input_faults(config, nodes, folder), *_tokenizer_faults(config, folder)]
    if not faults and config.get("example") is not None:
        faults += _example_faults(config, nodes)
    return [*faults, *_output_faults(config, outputs, graph)]


def joined(faults: list[str]) -> str:
    """Several sentences as one text, numbered; of very many, or very long ones, only the beginning."""
    told = [fault[:MAX_FAULT_CHARACTERS] for fault in faults[:MAX_FAULTS]]
    if len(faults) == 1:
        return told[0]
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return "; ".join([*(f"({i}) {fault}" for i, fault in enumerate(told, 1)), *more])


def _input_faults(config: Config, nodes: dict[str, Node], folder: Path) -> Iterator[str]:
    given: list[str] = []
    for entry in config["inputs"]:
        node = nodes.get(entry["input"])
        if node is None:
            yield f"the graph has no input '{entry['input']}'; it has {_listed(nodes)}"
            continue
        given.append(node.name)
        if entry["kind"] == "text":
            given += TOKENISED_INPUTS & nodes.keys()
        yield from _faults_of_input(entry, node, config["max_batch_size"], folder)
    if len(set(given)) < len(given):
        yield "config gives the same input twice"
    if absent := nodes.keys() - set(given):
        yield f"config does not give the input {_listed(sorted(absent))}"


def _faults_of_input(entry: Config, node: Node, max_batch_size: int, folder: Path) -> Iterator[str]:
    if node.type not in NUMPY_TYPES:
        yield f"input '{node.name}' is a {node.type}, which no record can give"
        return
    yield from _batch_faults(node, max_batch_size)
    if entry["kind"] == "text":
        yield from _text_faults(entry, node, folder)
        return
    shape_faults = [*_shape_faults(entry, node)]
    yield from shape_faults
    if not shape_faults:
        yield from _value_faults(entry, node)


def _batch_faults(node: Node, max_batch_size: int) -> Iterator[str]:
    first = node.shape[0] if node.shape else None
    if isinstance(first, int) and not first == max_batch_size == 1:
        hint = ', or send a config with "max_batch_size": 1' if first == 1 else ""
        yield f"input '{node.name}' takes batches of {first} only: export the graph with an open first axis{hint}"


def _shape_faults(entry: Config, node: Node) -> Iterator[str]:
    """Where the entry gives another shape than the input has."""
    name, kind, rank = node.name, entry["kind"], len(node.shape)
    if kind == "tensor":
        yield from _tensor_faults(entry, node)
    elif rank > 2:
        yield f"input '{name}' has {rank} axes, config gives it a {kind}: the kind 'tensor' takes lists in lists"
    elif kind == "column":
        if rank == 2 and isinstance(node.shape[1], int) and node.shape[1] != 1:
            yield f"input '{name}' has {node.shape[1]} columns, config gives it one field"
    elif rank != 2:
        yield f"input '{name}' takes one value for each record, config gives it a {kind}"
    else:
        yield from _width_faults(entry, node)


def _width_faults(entry: Config, node: Node) -> Iterator[str]:
    """Where a row of [N,k] has another length, or an open one that the kind cannot fill."""
    name, kind = node.name, entry["kind"]
    width = node.shape[1] if isinstance(node.shape[1], int) else None
    if kind == "vector" and width is None:
        yield f"input '{name}' has no fixed number of columns: the kind 'tensor' takes lists of any length"
    if kind == "period_days" and width != entry["window"]:
        yield f"input '{name}' has {width} columns, config gives it {entry['window']} periods"
    if kind == "period_days" and np.dtype(NUMPY_TYPES[node.type]).kind != "f":
        yield f"input '{name}' is a {node.type}, config gives it days, which are floats"
    if kind == "matrix" and width not in (len(entry["features"]), None):
        yield f"input '{name}' has {width} columns, config names {len(entry['features'])} features"


def _tensor_faults(entry: Config, node: Node) -> Iterator[str]:
    if not node.shape:
        yield f"input '{node.name}' has no axis for records: the kind 'column' gives it one value"
        return
    if entry.get("missing") is not None and (isinstance(entry["missing"], list) or None in open_dims(node.shape[1:])):
        yield f"input '{node.name}': 'missing' of a tensor is one value, and needs axes of fixed lengths"
        return
    try:
        build_input(entry, node.type, node.shape)
    except ValueError as error:
        yield f"input '{node.name}': {error}"


def _value_faults(entry: Config, node: Node) -> Iterator[str]:
    """Values that the input does not take: scoring uses what stands for absent values without checking it."""
    scalars = Scalars(NUMPY_TYPES[node.type], coerce=False)
    for key in ("missing", "pad"):
        default = entry.get(key)
        if default is None or (default == "nan" and scalars.dtype.kind == "f"):
            continue
        values = default if entry["kind"] == "vector" and isinstance(default, list) else [default]
        if entry["kind"] == "vector" and isinstance(default, list) and len(default) != node.shape[1]:
            yield f"input '{node.name}': 'missing' has {len(default)} values, the input {node.shape[1]} columns"
        else:
            yield from _misfits(values, scalars, key, node.name)


def _misfits(values: Iterable[Any], scalars: Scalars, key: str, name: str) -> Iterator[str]:
    try:
        for value in values:
            scalars.check(value, key)
    except Refused as refused:
        yield f"input '{name}': {refused.fault.reason}"


def _text_faults(entry: Config, node: Node, folder: Path) -> Iterator[str]:
    if node.type != "tensor(int64)" or len(node.shape) != 2:
        yield f"input '{node.name}' takes no tokens: they are int64 [N, tokens]"
    if not (folder / entry["tokenizer"]).is_file():
        yield f"input '{node.name}' needs {entry['tokenizer']}: send it as the part 'tokenizer'"


def _tokenizer_faults(config: Config, folder: Path) -> Iterator[str]:
    if (folder / "tokenizer.json").is_file() and not any(entry["kind"] == "text" for entry in config["inputs"]):
        yield "a tokenizer needs a config with an input of kind 'text'"


def _example_faults(config: Config, nodes: dict[str, Node]) -> Iterator[str]:
    """Why inputs that fit the graph refuse the example; texts refuse none."""
    for entry in config["inputs"]:
        node = nodes[entry["input"]]
        try:
            if entry["kind"] != "text":
                build_input(entry, node.type, node.shape).check(config["example"])
        except Refused as refused:
            yield f"the example is refused: {refused.fault.reason}"


def _output_faults(config: Config, nodes: dict[str, Node], graph: Graph) -> Iterator[str]:
    for entry in config["outputs"]:
        node = nodes.get(entry["output"])
        if node is None:
            yield f"the graph has no output '{entry['output']}'; it has {_listed(nodes)}"
        else:
            shape = open_dims(node.shape) if node.shape and not entry.get("axis") else None
            yield from label_faults(entry, node.type, shape, graph.classes.get(node.name))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
