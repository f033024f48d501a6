"""One request through one model: its tensors become what the model takes, and its outputs come back as arrays."""

from typing import Any

import numpy as np

from engine.errors import SEVERAL_SHAPES
from engine.tasks.codec import Record
from engine.tasks.scoring.arrays import ANY, STRINGS, Formless, ModelTensors, Outputs, TensorInfo
from engine.tasks.scoring.model import Scorer
from engine.tasks.scoring.tensors import Mixed, TooWide
from engine.tasks.stages import Stages
from engine.tasks.tensors.datatypes import datatype_of
from engine.tasks.tensors.request import InferRequest, Rejected, Wanted

Feeds = dict[str, np.ndarray]


def outputs_of(request: InferRequest, model: Scorer) -> list[Wanted]:
    """The outputs of the answer, in their order. Rejected for one that the model does not give."""
    names = [info.name for info in model.as_tensors.outputs]
    if request.outputs is None:
        return [Wanted(name, request.is_binary) for name in names]
    for wanted in request.outputs:
        if wanted.name not in names:
            raise Rejected("invalid_parameter", f"there is no output '{wanted.name}': the model gives {', '.join(names)}")
    return request.outputs


def run(model: Scorer, request: InferRequest, stages: Stages) -> Outputs:
    """The outputs of all rows. Rejected for tensors that the model does not take; else whatever a run raises."""
    taken = model.as_tensors
    _refuse_unknown(request, taken)
    if _is_direct(request, taken):
        feeds = {name: _fitted(taken.inputs[name], array) for name, array in request.tensors.items()}
        stages.ended("parse")
        parts = [_run_feeds(model, feeds, start, stages) for start in range(0, request.num_rows, model.max_batch_size)]
    else:
        records = _records(request, taken.fields)
        stages.ended("parse")
        size = model.max_batch_size
        parts = [_run_records(model, records[start : start + size], start, stages) for start in range(0, len(records), size)]
    return _put_together(parts)


def _run_feeds(model: Scorer, feeds: Feeds, start: int, stages: Stages) -> Outputs:
    rows = {name: array[start : start + model.max_batch_size] for name, array in feeds.items()}
    outputs = model.arrays(rows, len(next(iter(rows.values()))))
    stages.ended("infer")
    return outputs


def _run_records(model: Scorer, records: list[Record], start: int, stages: Stages) -> Outputs:
    try:
        prepared, faults = model.tensors(records)
    except Mixed as mixed:
        return _run_groups(model, records, mixed.groups, start, stages)
    except TooWide:  # padded to the longest of fewer records they may fit; one record alone is refused by its fault
        middle = len(records) // 2
        return _run_groups(model, records, [list(range(middle)), list(range(middle, len(records)))], start, stages)
    stages.ended("tokenise" if model.is_tokenised else "parse")
    if faults:
        place = min(faults)
        raise Rejected("invalid_parameter", f"row {start + place}: {faults[place].reason}")
    outputs = model.arrays(prepared, len(records))
    stages.ended("infer")
    return outputs


def _run_groups(model: Scorer, records: list[Record], groups: list[list[int]], start: int, stages: Stages) -> Outputs:
    """The outputs of records that cannot share one run, in their order."""
    parts = [_run_records(model, [records[i] for i in group], start, stages) for group in groups]
    order = np.argsort([i for group in groups for i in group])
    return {name: one if isinstance(one, Formless) else one[order] for name, one in _put_together(parts).items()}


def _put_together(parts: list[Outputs]) -> Outputs:
    """The outputs of several runs, one after the other."""
    return parts[0] if len(parts) == 1 else {name: _concatenated([part[name] for part in parts]) for name in parts[0]}


def _concatenated(pieces: list[np.ndarray | Formless]) -> np.ndarray | Formless:
    arrays = [piece for piece in pieces if not isinstance(piece, Formless)]
    if len(arrays) < len(pieces):
        return next(piece for piece in pieces if isinstance(piece, Formless))
    if len({(array.dtype, array.shape[1:]) for array in arrays}) > 1:
        return Formless(SEVERAL_SHAPES)
    return np.concatenate(arrays)


# From the tensors of a request to what a model takes


def _refuse_unknown(request: InferRequest, taken: ModelTensors) -> None:
    """Rejected for an input that the model has no use for, and for tensors of the graph beside fields."""
    known = taken.fields.keys() | taken.inputs.keys()
    unknown = [name for name in request.tensors if name not in known]
    given = request.tensors.keys()
    is_mixed = taken.is_direct and not given <= taken.fields.keys() and given != taken.inputs.keys()
    if not unknown and not is_mixed:
        return
    told = ", ".join(f"{info.name} ({_told(info.dtype, info.shape)})" for info in taken.inputs.values())
    fields = f"; or fields of its records, each as an input of its own: {', '.join(sorted(taken.fields))}" if taken.fields else ""
    what = f"there is no input '{unknown[0]}'" if unknown else "inputs are missing"
    raise Rejected("invalid_parameter", f"{what}: the model takes {told}{fields}")


def _is_direct(request: InferRequest, taken: ModelTensors) -> bool:
    """Whether the tensors go into the graph as they are. Texts for a graph of numbers are pictures in a field."""
    if not taken.is_direct or request.tensors.keys() != taken.inputs.keys():
        return False
    texts = {name for name, array in request.tensors.items() if array.dtype == STRINGS and taken.inputs[name].dtype != STRINGS}
    return not texts & taken.fields.keys()


def _told(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    return f"{datatype_of(dtype)} {list(shape)}"


def _records(request: InferRequest, fields: dict[str, bool]) -> list[Record]:
    """The rows as records: a tensor [N], or [N,1] for a field that takes no list, gives each its value, any other one a list."""
    columns = [_values(array, takes_list=fields.get(name, False)) for name, array in request.tensors.items()]
    return [dict(zip(request.tensors, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(array: np.ndarray, *, takes_list: bool) -> list[Any]:
    values: list[Any] = (array.reshape(-1) if array.shape[1:] == (1,) and not takes_list else array).tolist()
    return values


def _fitted(info: TensorInfo, array: np.ndarray) -> np.ndarray:
    """A tensor in the shape and type of the graph. Rejected."""
    shaped = array
    if array.ndim == len(info.shape) + 1 and array.shape[-1] == 1:
        shaped = array[..., 0]
    elif array.ndim + 1 == len(info.shape) and info.shape[-1] in (1, ANY):
        shaped = array[..., None]
    is_fit = shaped.ndim == len(info.shape) and all(want in (ANY, has) for want, has in zip(info.shape, shaped.shape, strict=True))
    if not is_fit:
        text = f"input '{info.name}' has the shape {list(array.shape)}, and the model takes {list(info.shape)}"
        raise Rejected("invalid_parameter", f"{text}, where {ANY} is any number and the first counts the rows")
    return np.ascontiguousarray(_converted(info, shaped))


def _converted(info: TensorInfo, array: np.ndarray) -> np.ndarray:
    """Numbers as the type that the graph takes, as JSON's numbers are taken: integers for floats, but no float for an integer."""
    if array.dtype == info.dtype:
        return array
    given, wanted = array.dtype.kind, info.dtype.kind
    is_number = array.dtype != STRINGS and info.dtype != STRINGS and "b" not in (given, wanted)
    if not is_number or (given == "f" and wanted != "f"):
        text = f"input '{info.name}' is {datatype_of(array.dtype)}, and the model takes {datatype_of(info.dtype)}"
        raise Rejected("invalid_parameter", text)
    with np.errstate(over="ignore"):
        converted = array.astype(info.dtype)
    is_lost = np.isinf(converted) & ~np.isinf(array) if wanted == "f" else _is_outside(array, info.dtype)
    if is_lost.any():
        raise Rejected("invalid_parameter", f"input '{info.name}' has a value that does not fit {datatype_of(info.dtype)}")
    return converted


def _is_outside(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    limits = np.iinfo(dtype)
    outside: np.ndarray = (array < limits.min) | (array > limits.max)
    return outside
