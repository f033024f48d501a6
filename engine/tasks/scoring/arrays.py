"""The tensors of a model as a client may name them: what it takes and what it gives, with types and shapes.

A model takes the inputs of its graph as they are. A model with a tokenizer, with dates, or with an input that has no axis for
records takes the fields of its records instead, each as a column; any model may be given those. Knows no protocol and no JSON.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from engine.tasks import codec
from engine.tasks.scoring.inputs import NUMPY_TYPES
from engine.tasks.scoring.outputs import require_count

ANY = -1
STRINGS = np.dtype(object)
# A graph takes of these something that no client has: ids of tokens, or days since a date.
MADE_OF_FIELDS = frozenset({"text", "period_days"})
MAX_SHAPES_TOLD = 10
MAX_INTEGER = 2**63
# What an array of labels that are no strings can hold, by numpy's kind of its dtype.
LABEL_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "f": {int, float}}


class TensorInfo(NamedTuple):
    """One tensor. The records are along its first axis; a length of ANY may be anything. The dtype of strings is object."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


class Formless(NamedTuple):
    """An output of a run that no tensor can hold."""

    reason: str


# The outputs of a run by their names; arrays have the records along the first axis.
Outputs = dict[str, np.ndarray | Formless]


@dataclass(frozen=True, slots=True)
class ModelTensors:
    """What a model takes and gives.

    inputs     the tensors that it lists; those of the graph if `is_direct`, else columns of fields
    fields     every field that may come as a column instead, and whether its value is a list
    is_direct  whether the inputs go into the graph as they are
    """

    inputs: dict[str, TensorInfo]
    fields: dict[str, bool]
    outputs: list[TensorInfo]
    is_direct: bool


def model_tensors(config: dict[str, Any], graph_inputs: Sequence[Any], graph_outputs: Sequence[Any]) -> ModelTensors:
    """The tensors of a model.

    config         its config.json with defaults filled in
    graph_inputs   with `name`, `type` and `shape`, as a session tells them; so are `graph_outputs`
    """
    inputs, outputs = ({node.name: node for node in nodes} for nodes in (graph_inputs, graph_outputs))
    entries: list[dict[str, Any]] = config["inputs"]
    is_direct = not any(entry["kind"] in MADE_OF_FIELDS or not inputs[entry["input"]].shape for entry in entries)
    taken = [_graph_input(inputs[entry["input"]]) for entry in entries] if is_direct else list(_columns(entries, inputs))
    return ModelTensors(
        inputs={info.name: info for info in taken},
        fields={field: is_list for entry in entries for field, is_list in _fields(entry, inputs)},
        outputs=[_output(entry, outputs[entry["output"]]) for entry in config["outputs"]],
        is_direct=is_direct,
    )


def _graph_input(node: Any) -> TensorInfo:
    return TensorInfo(node.name, np.dtype(NUMPY_TYPES[node.type]), (ANY, *_lengths(node.shape)[1:]))


def _lengths(shape: Iterable[Any]) -> tuple[int, ...]:
    """A graph names the lengths that it leaves open, or has None for them."""
    return tuple(length if isinstance(length, int) and length > 0 else ANY for length in shape)


def _fields(entry: dict[str, Any], nodes: dict[str, Any]) -> Iterable[tuple[str, bool]]:
    """The fields of a record that one input is made of, and whether the value of each is a list."""
    yield from ((name, False) for name in entry.get("features") or ())
    if entry.get("field"):
        is_tensor = entry["kind"] == "tensor" and not entry.get("decode") and len(nodes[entry["input"]].shape) > 1
        yield entry["field"], is_tensor or entry["kind"] in ("vector", "matrix")


def _columns(entries: Iterable[dict[str, Any]], nodes: dict[str, Any]) -> Iterable[TensorInfo]:
    """A column for each field: [N], or [N,k] for a list."""
    for entry in entries:
        if entry["kind"] in MADE_OF_FIELDS:
            yield TensorInfo(entry["field"], STRINGS, (ANY,))
            continue
        info = _graph_input(nodes[entry["input"]])
        if entry["kind"] in ("column", "matrix"):
            yield from (TensorInfo(name, info.dtype, (ANY,)) for name in entry.get("features") or [entry["field"]])
        else:
            yield info._replace(name=entry["field"])


# Outputs


def output_name(entry: dict[str, Any]) -> str:
    """The name of an output: its key in a result or, without one, its name in the graph."""
    return str(entry["as"] or entry["output"])


def _output(entry: dict[str, Any], node: Any) -> TensorInfo:
    name = output_name(entry)
    if "map" in node.type:  # a sequence of maps gives [N,k], one of tensors [N,outputs,k]
        return TensorInfo(name, np.dtype(np.float32), (ANY, ANY))
    if node.type.startswith("seq("):
        return TensorInfo(name, np.dtype(NUMPY_TYPES[node.type[len("seq(") : -1]]), (ANY, ANY, ANY))
    dtype = np.dtype(NUMPY_TYPES[node.type])
    lengths = list(_lengths(node.shape))
    del lengths[entry.get("axis", 0) : entry.get("axis", 0) + 1]
    if entry.get("pooling"):
        lengths = lengths[-1:]
    labels = labels_of(entry, dtype)
    if labels and (lengths == [] or (lengths == [1] and entry.get("squeeze", True))):
        return TensorInfo(name, label_dtype(labels), (ANY,))
    return TensorInfo(name, dtype, (ANY, *lengths))


def as_array(entry: dict[str, Any], value: Any, num_records: int, *, with_labels: bool = True) -> np.ndarray | Formless:
    """An output of a run as one array [N, ...]; values that have labels become them, if wanted. WrongCount.

    value  what the session returned: an array with the batch on `axis`, a list of maps, or a list of arrays
    """
    if isinstance(value, list):
        return _of_sequence(entry, value, num_records)
    if value.ndim == 0 and num_records == 1:  # a graph without an axis for records, which runs one at a time
        value = value.reshape(1)
    array = _records_first(entry, value, num_records)
    labels = labels_of(entry, array.dtype) if with_labels else {}
    is_single = array.ndim == 1 or (array.shape[1:] == (1,) and entry.get("squeeze", True))
    return _labelled(labels, array.reshape(-1)) if labels and is_single else array


def _records_first(entry: dict[str, Any], value: np.ndarray, num_records: int) -> np.ndarray:
    """The same values with the batch on the first axis. WrongCount."""
    array: np.ndarray = np.moveaxis(value, entry["axis"], 0) if entry.get("axis") else value
    count = array.shape[0] if array.ndim else 0
    require_count(count, num_records)
    return array


def _of_sequence(entry: dict[str, Any], values: list[Any], num_records: int) -> np.ndarray | Formless:
    """Maps of one record each as [N,k]; arrays [N,k] of one target each as [N,targets,k]. WrongCount."""
    if values and isinstance(values[0], dict):
        require_count(len(values), num_records)
        return _of_maps(values)
    arrays = [_records_first(entry, one, num_records) for one in values]
    shapes = [list(one.shape[1:]) for one in arrays]
    if not shapes:
        return Formless("the model gives an empty list for it")
    if any(shape != shapes[0] for shape in shapes):
        told = ", ".join(map(str, shapes[:MAX_SHAPES_TOLD]))
        return Formless(f"the model gives {len(shapes)} arrays for each record, whose shapes differ: {told}")
    return np.stack(arrays, axis=1)


def _of_maps(maps: list[dict[Any, float]]) -> np.ndarray | Formless:
    keys = maps[0].keys()
    if any(one.keys() != keys for one in maps):
        return Formless("the model gives other classes for some records than for others")
    return np.array([[one[key] for key in keys] for one in maps], np.float32)


def labels_of(entry: dict[str, Any], dtype: np.dtype) -> dict[Any, Any]:
    """The label of each value that has one, as results in JSON show them (outputs.py)."""
    labels = entry.get("labels")
    if not labels or entry.get("form") == "object":
        return {}
    if isinstance(labels, list):
        keys: Iterable[Any] = {"b": (False, True), "i": range(len(labels)), "u": range(len(labels))}.get(dtype.kind, ())
        return dict(zip(keys, labels, strict=False))
    if dtype.kind in "iu":
        return {int(value): label for value, label in labels.items() if value.lstrip("-").isdigit()}
    if dtype.kind == "b":
        return {value: labels[str(value)] for value in (False, True) if str(value) in labels}
    return labels if dtype == STRINGS else _float_labels_of(labels)


def _float_labels_of(labels: dict[str, Any]) -> dict[Any, Any]:
    """Results in JSON look the text of a number up, as Python writes it."""
    found: dict[Any, Any] = {}
    for text, label in labels.items():
        with contextlib.suppress(ValueError):
            found |= {float(text): label} if str(float(text)) == text else {}
    return found


def label_dtype(labels: dict[Any, Any]) -> np.dtype:
    """The type that holds every label: that of the labels if they are alike, else strings."""
    types = set(map(type, labels.values()))
    if types == {bool}:
        return np.dtype(np.bool_)
    if types <= {int, float} and all(-MAX_INTEGER <= label < MAX_INTEGER for label in labels.values() if type(label) is int):
        return np.dtype(np.int64 if types == {int} else np.float64)
    return STRINGS


def _labelled(labels: dict[Any, Any], values: np.ndarray) -> np.ndarray | Formless:
    """The label of each value [N]; a value without a label stays as it is, if the type of the labels can hold it."""
    found = [labels.get(value, value) for value in values.tolist()]
    dtype = label_dtype(labels)
    if dtype == STRINGS:
        return np.array([one if isinstance(one, str) else codec.dumps(one).decode() for one in found], dtype)
    types = LABEL_TYPES[dtype.kind]
    for value in found:
        if type(value) not in types or (type(value) is int and not -MAX_INTEGER <= value < MAX_INTEGER):
            return Formless(f"the model gives the class {value!r}, for which the config has no label")
    return np.array(found, dtype)
