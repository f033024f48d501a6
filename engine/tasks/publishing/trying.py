"""Trying a model out: its example alone and in batches, as the replicas will run it.

Finds graphs that fail, that answer records of a batch differently than alone, and how fast they are both ways. A foreign graph may
fail in any way: each way is one sentence for the person who sent it.
"""

import math
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.tasks.codec import MAX_REASON_CHARACTERS, Record
from engine.tasks.publishing.deriving import Config, Graph
from engine.tasks.publishing.labels import faults_of_values
from engine.tasks.publishing.onnx_file import Unfit
from engine.tasks.scoring.model import LoadedModel
from engine.tasks.scoring.outputs import Form
from engine.tasks.scoring.tensors import Tensor
from engine.tasks.stages import Stages

Feeds = dict[str, np.ndarray]

MAX_DIFFERENCE = 1e-4
LARGEST_BATCH = 3
# What a graph that mixes its records is measured with: that many records at once, or as many as take a second alone.
MEASURED_BATCH = 64
MEASURED_S = 1.0
BATCH_FAILS = 'a batch of {} records fails (a config with "max_batch_size": 1 runs them one at a time)'


class BatchEffect(NamedTuple):
    """What a batch changes.

    difference      the largest of a number, infinite if results have other shapes
    num_flipped     records that get another class or word, of `size`
    alone_per_s     records a second of one replica that runs them alone
    together_per_s  the same in batches of `size`
    """

    difference: float
    num_flipped: int
    size: int
    alone_per_s: float
    together_per_s: float


def unfit(what: str, error: Exception) -> Unfit:
    """A refusal with onnxruntime's reason, in one line, without its prefix and without paths."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:", "", text)
    words = " ".join(word for word in text.split() if "/" not in word and "\\" not in word)
    return Unfit(f"{what}: {words[:MAX_REASON_CHARACTERS] or type(error).__name__}")


def first_that_runs(model: LoadedModel, config: Config, records: Iterable[Record]) -> Record:
    """The first of some derived examples that the model answers. Unfit with the reason of the last one."""
    failure = Unfit("the example of its inputs would be too large: send a config with an example, or with decode: image")
    for record in records:
        try:
            _rows(model, config, _feeds(model, [record]), 1)
        except Unfit as unfit:
            failure = Unfit(f"{unfit}; a config may give another example")
        else:
            return record
    raise failure


def labels_fit(model: LoadedModel, config: Config, graph: Graph) -> list[str]:
    """Why the labels of the config do not fit what the example gives. Unfit if it cannot be run."""
    if not any(entry.get("labels") for entry in config["outputs"]):
        return []
    values = _values(model, _feeds(model, [config["example"]]), 1)
    types = {node.name: node.type for node in graph.outputs}
    return [
        fault
        for entry, value in zip(config["outputs"], values, strict=True)
        for fault in faults_of_values(entry, types[entry["output"]], value, graph.classes.get(entry["output"]))
    ]


def batch_effect(model: LoadedModel, config: Config) -> BatchEffect | None:
    """What a batch changes, None if that is no more than rounding. Unfit if a run fails."""
    count = min(LARGEST_BATCH, config["max_batch_size"])
    pairs = _pairs(model, config, count, range(2, count + 1))
    if count > 1:
        pairs += _padded_pairs(model, config)
    if max((difference(*pair) for pair in pairs), default=0.0) <= MAX_DIFFERENCE:
        return None
    return _measured(model, config, max(difference(*pair, flip=0.0) for pair in pairs))


def warm_up(model: LoadedModel, config: Config) -> None:
    """Do what every replica will do with the model: what fails there must fail here. Unfit."""
    try:
        model.warm_up(config["example"])
    except Exception as error:  # a result that cannot be encoded, or a graph that fails for many records
        raise unfit("the example has no result", error) from None


def _feeds(model: LoadedModel, records: list[Record]) -> Feeds:
    feeds, faults = model.tensors(records)
    if faults:
        raise Unfit(f"the example is refused: {faults[0].reason}")
    return feeds


def _pairs(model: LoadedModel, config: Config, count: int, sizes: Iterable[int]) -> list[tuple[Any, Any]]:
    """The results of records in batches of these sizes, each with its own alone. Unfit if a run fails.

    count  how many records there are. They differ, or they are equal if the graph fails on such records
    """
    feeds, alone = _run_alone(model, config, _feeds(model, [config["example"]] * count), count)
    rows = [_rows(model, config, _part(feeds, 0, size), size) for size in sizes]
    return [pair for batch in rows for pair in zip(batch, alone, strict=False)]


def _run_alone(model: LoadedModel, config: Config, feeds: Feeds, count: int) -> tuple[Feeds, list[list[Any]]]:
    """The feeds, of records that differ or of equal ones if the graph fails on those; and the results of each record alone."""
    for trial in (_varied(feeds), feeds):
        try:
            return trial, [_rows(model, config, _part(trial, i, i + 1), 1)[0] for i in range(count)]
        except Unfit:
            if trial is feeds:
                raise
    raise AssertionError("this is a bug: the loop returns or raises")


def _varied(feeds: Feeds) -> Feeds:
    """Copies of the example with different numbers in each: equal records do not show that a graph mixes those of a batch."""
    return {name: _shifted(array) if array.dtype.kind == "f" and array.ndim else array for name, array in feeds.items()}


def _shifted(array: np.ndarray) -> np.ndarray:
    steps = np.arange(len(array), dtype=array.dtype).reshape(-1, *[1] * (array.ndim - 1))
    shifted: np.ndarray = array + steps / 4
    return shifted.astype(array.dtype)


def _part(feeds: Feeds, start: int, end: int) -> Feeds:
    return {name: array[start:end] if array.ndim else array for name, array in feeds.items()}


def _padded_pairs(model: LoadedModel, config: Config) -> list[tuple[Any, Any]]:
    """The result of a record whose lists are padded because of a longer one, with its own alone; none if no list is padded.

    A graph that does not take the shorter record alone tells nothing.
    """
    longer: Record = config["example"]
    shorter = dict(longer)
    for entry in model.inputs:
        if isinstance(entry, Tensor) and entry.is_padded and entry.field in longer:
            shorter[entry.field] = _shortened(longer[entry.field], entry.dims)
    if shorter == longer:
        return []
    try:
        [alone] = _rows(model, config, _feeds(model, [shorter]), 1)
        return [(_rows(model, config, _feeds(model, [shorter, longer]), 2)[0], alone)]
    except Unfit:
        return []


def _shortened(value: Any, dims: Sequence[int | None]) -> Any:
    """Lists in lists, those of open axes without their last element if they have more than one."""
    if not dims or not isinstance(value, list):
        return value
    kept = value[:-1] if dims[0] is None and len(value) > 1 else value
    return [_shortened(inner, dims[1:]) for inner in kept]


def _measured(model: LoadedModel, config: Config, worst: float) -> BatchEffect:
    """The effect of a batch of many records that differ, at least `worst`; and both speeds."""
    alone_s = _seconds(model, [config["example"]])
    size = min(MEASURED_BATCH, config["max_batch_size"], max(2, int(MEASURED_S / alone_s)))
    pairs = _pairs(model, config, size, [size])
    worst = max([worst, *(difference(*pair, flip=0.0) for pair in pairs)])
    num_flipped = sum(difference(*pair) == math.inf for pair in pairs)
    return BatchEffect(worst, num_flipped, size, 1 / alone_s, size / _seconds(model, [config["example"]] * size))


def _seconds(model: LoadedModel, records: list[Record]) -> float:
    """What a replica needs for one run of these records, without reading and writing their lines: the shortest of three. Unfit."""
    times = []
    try:
        for _ in range(3):
            started = time.perf_counter()
            feeds, _ = model.tensors(records)
            model.run(feeds, len(records), Form(), Stages())
            times.append(time.perf_counter() - started)
    except Exception as error:  # a result that cannot be encoded
        raise unfit("the example has no result", error) from None
    return max(min(times), 1e-7)


def _rows(model: LoadedModel, config: Config, feeds: Feeds, size: int) -> list[list[Any]]:
    """The results of a batch: for each record a list with its value of each output. Unfit."""
    values = _values(model, feeds, size)
    columns = [_by_record(output, value, size) for output, value in zip(config["outputs"], values, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _values(model: LoadedModel, feeds: Feeds, size: int) -> list[Any]:
    """What the outputs of the config give for a batch. Unfit."""
    try:
        return model.values(feeds)
    except Exception as error:  # a foreign graph may fail in any way
        raise unfit("the example fails" if size == 1 else BATCH_FAILS.format(size), error) from None


def _by_record(output: Config, value: Any, size: int) -> list[Any]:
    """The values of one output, one for each record. Unfit if they are not."""
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [*zip(*(_by_record(output, part, size) for part in value), strict=True)]
    name, axis = output["output"], output.get("axis", 0)
    if isinstance(value, np.ndarray) and value.ndim > axis:
        value = np.moveaxis(value, axis, 0)
    elif isinstance(value, np.ndarray) and value.ndim == 0 and size == 1:
        value = value.reshape(1)
    elif not isinstance(value, list):
        raise Unfit(f"output '{name}' has no batch axis {axis}")
    if len(value) != size:
        raise Unfit(f"output '{name}' has {len(value)} results for {size} records: its batch axis does not follow")
    return list(value)


def difference(one: Any, other: Any, *, flip: float = math.inf) -> float:
    """The largest difference between two results, relative for values over 1; infinite if they cannot be compared.

    flip  what another class, word or truth value counts
    """
    if isinstance(one, list | tuple):
        return max((difference(*pair, flip=flip) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return math.inf
        return max((difference(one[key], other[key], flip=flip) for key in one), default=0.0)
    left, right = np.asarray(one), np.asarray(other)
    if left.shape != right.shape:
        return math.inf
    if left.dtype.kind != "f":
        return 0.0 if bool((left == right).all()) else flip
    return _float_difference(left.astype(np.float64), right.astype(np.float64))


def _float_difference(left: np.ndarray, right: np.ndarray) -> float:
    is_same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        differences = np.where(is_same, 0.0, np.abs(left - right) / np.maximum(1.0, np.abs(right)))
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0.0))
