"""What a config leaves out, derived from the graph: inputs, outputs and an example record.

A column of the graph becomes a field, several columns become the fields x0, x1, ..., and what has more axes, or open ones, becomes
one field with lists. Whether what was derived fits is known elsewhere.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from engine.tasks.codec import Record
from engine.tasks.runtime import onnxruntime
from engine.tasks.scoring.inputs import NUMPY_TYPES
from engine.tasks.scoring.tensors import open_dims

Config = dict[str, Any]
Node: TypeAlias = onnxruntime.NodeArg

DEFAULT_BATCH_SIZE = 1024
# How long the open axes of an example may be: networks for pictures and sound give nothing for a few values.
OPEN_LENGTHS = (8, 64, 224)
# The example stands in config.json, and every replica and each look at the model reads it.
MAX_EXAMPLE_VALUES = 200_000
# Nobody writes a record with more fields than this; a row of more columns is a list.
MAX_FEATURES = 10_000
# A grey PNG of one pixel, in base64.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
EXAMPLE_TEXT = "Hello"
# The inputs that a tokenizer fills beside the token ids.
TOKENISED_INPUTS = frozenset({"attention_mask", "token_type_ids"})


class Graph(NamedTuple):
    """What is known of a graph without running it.

    categories  (input, column) -> a value that the column's one-hot encoder knows
    classes     output -> the integers that its classifier can give
    """

    inputs: list[Node]
    outputs: list[Node]
    categories: dict[tuple[str, int], Any]
    classes: dict[str, list[int]]


def completed(sent: Config, graph: Graph) -> Config:
    """The sent config with its inputs, outputs and size of a batch; what it says stays as it is."""
    inputs = _completed_inputs(sent.get("inputs") or [], graph.inputs)
    outputs = sent.get("outputs") or [{"output": node.name, "as": node.name} for node in graph.outputs]
    has_batches = any(node.shape for node in graph.inputs)
    size = (sent.get("max_batch_size") or DEFAULT_BATCH_SIZE) if has_batches else 1
    return {"task": "predict", **sent, "inputs": inputs, "outputs": outputs, "max_batch_size": size}


def _completed_inputs(sent: list[Config], nodes: list[Node]) -> list[Config]:
    """The sent entries, those without a kind as the graph has them, and then one for each input that no entry names."""
    by_name = {node.name: node for node in nodes}
    entries = [entry if entry.get("kind") else _with_kind(entry, by_name.get(entry["input"])) for entry in sent]
    given = {entry["input"] for entry in entries}
    if any(entry["kind"] == "text" for entry in entries):
        given |= TOKENISED_INPUTS
    rest = [_derived(node) for node in nodes if node.name not in given]
    return entries + (rest if _are_distinct(entries, rest) else [_as_one_field(entry) for entry in rest])


def _with_kind(entry: Config, node: Node | None) -> Config:
    """An entry without a kind, with that of the graph's input. If the graph has none of this name, that is said elsewhere."""
    said = {key: value for key, value in entry.items() if value is not None}
    if "features" in said:
        return {"kind": "matrix", **said}
    derived = _derived(node) if node is not None else {"kind": "column", "field": entry["input"]}
    if "pad" in said:
        derived = {"kind": "tensor", "field": entry["input"]}
    elif "field" in said:
        derived = _as_one_field(derived)
    return derived | said


def _derived(node: Node) -> Config:
    """The entry of an input of which the config says nothing."""
    dims = open_dims(node.shape[1:])
    if len(node.shape) < 2 or dims == [1]:
        return {"kind": "column", "input": node.name, "field": node.name}
    if len(dims) > 1 or not dims[0] or dims[0] > MAX_FEATURES:
        return {"kind": "tensor", "input": node.name, "field": node.name}
    return {"kind": "matrix", "input": node.name, "features": [f"x{i}" for i in range(dims[0])], "field": node.name}


def _are_distinct(entries: list[Config], rest: list[Config]) -> bool:
    """Whether each derived field fills one input."""
    fields = [name for entry in rest for name in _fields(entry)]
    named = {name for entry in entries for name in _fields(entry)}
    return len(set(fields)) == len(fields) and not named & set(fields)


def _as_one_field(entry: Config) -> Config:
    """The same input with its row as one list, so that x0 is not a field of two inputs."""
    if entry["kind"] != "matrix":
        return entry
    return {"kind": "vector", "input": entry["input"], "field": entry["field"]}


def _fields(entry: Config) -> list[str]:
    features: list[str] = entry.get("features") or [entry["field"]]
    return features


# Examples


def examples(config: Config, graph: Graph) -> Iterator[Record]:
    """Records that the model may answer: first with short lists where the graph leaves the length open, then with longer ones."""
    nodes = {node.name: node for node in graph.inputs}
    is_open = any(entry["kind"] == "tensor" and None in _dims_of(entry, nodes) for entry in config["inputs"])
    for length in OPEN_LENGTHS if is_open else OPEN_LENGTHS[:1]:
        record: Record = {}
        num_values = 0
        for entry in config["inputs"]:
            dims = [length if dim is None else dim for dim in _dims_of(entry, nodes)]
            num_values += math.prod(dims)
            if num_values > MAX_EXAMPLE_VALUES:
                return
            record |= _example_of(entry, nodes[entry["input"]], dims, graph.categories)
        yield record


def _dims_of(entry: Config, nodes: dict[str, Node]) -> Sequence[int | None]:
    """The axes of one record's lists for an input that takes lists; none for any other."""
    takes_lists = entry["kind"] in ("vector", "tensor") and not entry.get("decode")
    return open_dims(nodes[entry["input"]].shape[1:]) if takes_lists else []


def _example_of(entry: Config, node: Node, dims: list[int], categories: dict[tuple[str, int], Any]) -> Record:
    """The fields of one input: zeros, or values that its encoders know."""
    if entry["kind"] == "text":
        return {entry["field"]: EXAMPLE_TEXT}
    if entry["kind"] == "period_days":
        return {entry["field"]: entry["origin"]}
    if entry.get("decode"):
        return {entry["field"]: PICTURE}
    if not dims:
        return {name: categories.get((node.name, i), _plain_value(node)) for i, name in enumerate(_fields(entry))}
    value: Any = 0 if np.dtype(NUMPY_TYPES[node.type]).kind == "f" else _plain_value(node)
    for dim in reversed(dims):
        value = [value] * dim
    return {entry["field"]: value}


def _plain_value(node: Node) -> Any:
    return {"f": 0.0, "i": 0, "u": 0, "b": False, "O": "a"}[np.dtype(NUMPY_TYPES[node.type]).kind]
