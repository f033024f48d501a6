"""Results as the columns of a table: which columns a model gives, and arrays that fit them. Knows no format of tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.tasks import codec
from engine.tasks.scoring.arrays import ANY, STRINGS, Formless, TensorInfo, as_array, labels_of, output_name
from engine.tasks.scoring.outputs import Form, label_of_each

INTEGERS = np.dtype(np.int64)
# The name of the only result of a model whose results have no names.
BARE = "result"


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of results.

    shape   of its array; the records are along the first axis, and a length of ANY may be anything
    labels  if its array has integers, each of them stands for one of these strings
    keys    the columns of [N, k] have names
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    labels: dict[int, str] | None = None
    keys: tuple[str, ...] = ()


def result_columns(entries: Sequence[dict[str, Any]], outputs: Sequence[TensorInfo], form: Form) -> list[ResultColumn]:
    """The columns of a model, from its entries in config.json and what it says of each."""
    is_bare = len(entries) == 1 and entries[0]["as"] is None
    names = [BARE if is_bare else output_name(entry) for entry in entries]
    return [_column(*one, form) for one in zip(names, entries, outputs, strict=True)]


def _column(name: str, entry: dict[str, Any], info: TensorInfo, form: Form) -> ResultColumn:
    is_one = info.shape == (ANY, 1) and (entry.get("squeeze", True) or form.unwrap)
    shape = (ANY,) if is_one else info.shape
    if info.dtype == STRINGS and (labels := labels_of(entry, INTEGERS)):
        texts = {index: one if isinstance(one, str) else codec.dumps(one).decode() for index, one in labels.items()}
        return ResultColumn(name, info.dtype, shape, labels=texts)
    if entry.get("form") == "object" and len(shape) == 2 and (count := _num_keys(entry, shape)):
        keys = tuple(label_of_each(entry.get("labels") or (), count))
        if len(set(keys)) == count:
            return ResultColumn(name, info.dtype, (ANY, count), keys=keys)
    return ResultColumn(name, info.dtype, shape)


def _num_keys(entry: dict[str, Any], shape: tuple[int, ...]) -> int:
    return len(entry.get("labels") or ()) if shape[1] == ANY else shape[1]


def result_arrays(
    entries: Sequence[dict[str, Any]], values: Sequence[Any], num_records: int, columns: Sequence[ResultColumn]
) -> list[np.ndarray]:
    """An array for each of the columns. WrongCount; ValueError if an output has another shape than the model said."""
    return [_array(*one, num_records) for one in zip(entries, values, columns, strict=True)]


def _array(entry: dict[str, Any], value: Any, column: ResultColumn, num_records: int) -> np.ndarray:
    is_indexed = column.labels is not None and isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    array = as_array(entry, value, num_records, with_labels=not is_indexed)
    if isinstance(array, Formless):
        raise ValueError(array.reason)
    if column.shape == (ANY,) and array.shape == (num_records, 1):
        array = array[:, 0]
    if array.ndim != len(column.shape) or any(want not in (ANY, has) for want, has in zip(column.shape, array.shape, strict=True)):
        raise ValueError(f"the model gave an output of shape {list(array.shape)}, and its graph says {list(column.shape)}")
    return array
