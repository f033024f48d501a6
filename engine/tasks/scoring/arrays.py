"""The tensors of a model as a client may name them: what it takes and what it gives, with types and shapes.

A model takes the inputs of its graph as they are. A model with a tokenizer, with dates, or with an input that has no axis for
records takes the fields of its records instead, each as a column; any model may be given those. Knows no protocol and no JSON.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from engine.tasks import codec
from engine.tasks.scoring.inputs import NUMPY_TYPES
from engine.tasks.scoring.outputs import WrongCount

ANY = -1
STRINGS = np.dtype(object)
# A graph takes of these something that no client has: ids of tokens, or days since a date.
MADE_OF_FIELDS = frozenset({"text", "period_days"})


class TensorInfo(NamedTuple):
    """One tensor. The records are along its first axis; a length of ANY may be anything. The dtype of strings is object."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelTensors:
    """What a model takes and gives.

    inputs     the tensors that it lists; those of the graph if `is_direct`, else columns of fields
    fields     every field that may come as a column instead
    is_direct  whether the inputs go into the graph as they are
    """

    inputs: dict[str, TensorInfo]
    fields: frozenset[str]
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
        fields=frozenset(field for entry in entries for field in _fields(entry)),
        outputs=[_output(entry, outputs[entry["output"]]) for entry in config["outputs"]],
        is_direct=is_direct,
    )


def _graph_input(node: Any) -> TensorInfo:
    return TensorInfo(node.name, np.dtype(NUMPY_TYPES[node.type]), (ANY, *_lengths(node.shape)[1:]))


def _lengths(shape: Iterable[Any]) -> tuple[int, ...]:
    """A graph names the lengths that it leaves open, or has None for them."""
    return tuple(length if isinstance(length, int) and length > 0 else ANY for length in shape)


def _fields(entry: dict[str, Any]) -> list[str]:
    """The fields of a record that one input is made of."""
    return [*entry.get("features", ()), *([entry["field"]] if entry.get("field") else [])]


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
    if node.type not in NUMPY_TYPES:  # a sequence of maps gives [N,k], one of tensors [N,outputs,k]
        return TensorInfo(name, np.dtype(np.float32), (ANY, ANY) if "map" in node.type else (ANY, ANY, ANY))
    dtype = np.dtype(NUMPY_TYPES[node.type])
    lengths = list(_lengths(node.shape))
    del lengths[entry.get("axis", 0) : entry.get("axis", 0) + 1]
    if entry.get("pooling"):
        lengths = lengths[-1:]
    if is_labelled(entry, dtype) and lengths in ([], [1]):
        return TensorInfo(name, label_dtype(labels_of(entry)), (ANY,))
    return TensorInfo(name, dtype, (ANY, *lengths))


def as_array(entry: dict[str, Any], value: Any, num_records: int, *, with_labels: bool = True) -> np.ndarray:
    """An output of a run as one array [N, ...]; integers that have labels become them, if wanted. WrongCount.

    value  what the session returned: an array with the batch on `axis`, a list of maps, or a list of arrays
    """
    if isinstance(value, list):
        value = _of_sequence(value)
    if value.ndim == 0 and num_records == 1:  # a graph without an axis for records, which runs one at a time
        value = value.reshape(1)
    array: np.ndarray = np.moveaxis(value, entry["axis"], 0) if entry.get("axis") else value
    count = array.shape[0] if array.ndim else 0
    if count != num_records:
        raise WrongCount(f"the model gave {count} results for {num_records} records")
    if with_labels and is_labelled(entry, array.dtype) and array.size == num_records:
        return _labelled(labels_of(entry), array.reshape(-1))
    return array


def _of_sequence(values: list[Any]) -> np.ndarray:
    """Maps of one record each as [N,k]; arrays [N,k] of one output each as [N,outputs,k]. WrongCount where they differ."""
    if values and isinstance(values[0], dict):
        keys = values[0].keys()
        if any(one.keys() != keys for one in values):
            raise WrongCount("the model gave other labels for some records")
        return np.array([[one[key] for key in keys] for one in values], np.float32)
    if len({np.shape(one) for one in values}) != 1:
        raise WrongCount("the outputs of the model differ in their shapes, and one tensor cannot hold them")
    return np.stack(values, axis=1)


def is_labelled(entry: dict[str, Any], dtype: np.dtype) -> bool:
    """Whether the integers of an output stand for labels."""
    return bool(entry.get("labels")) and entry.get("form") != "object" and dtype.kind in "iu" and bool(labels_of(entry))


def labels_of(entry: dict[str, Any]) -> dict[int, Any]:
    """The label of each integer."""
    labels = entry["labels"]
    pairs = labels.items() if isinstance(labels, dict) else enumerate(labels)
    return {int(index): label for index, label in pairs if str(index).lstrip("-").isdigit()}


def label_dtype(labels: dict[int, Any]) -> np.dtype:
    """The type that holds every label: that of the labels if they are alike, else strings."""
    types = set(map(type, labels.values()))
    if types == {bool}:
        return np.dtype(np.bool_)
    if types <= {int, float}:
        return np.dtype(np.int64 if types == {int} else np.float64)
    return STRINGS


def _labelled(labels: dict[int, Any], values: np.ndarray) -> np.ndarray:
    """The label of each value [N]; a value without a label stays as it is."""
    found = [labels.get(value, value) for value in values.tolist()]
    dtype = label_dtype(labels)
    if dtype == STRINGS:
        found = [one if isinstance(one, str) else codec.dumps(one).decode() for one in found]
    return np.array(found, dtype)
