"""Labels: whether those of a config are as many as an output has classes, columns or tensors.

A label too few would be served as a bare number among names, and one that names nothing is a sign of another order.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.tasks.publishing.deriving import Config

BOOLEANS = [0, 1]


def label_faults(entry: Config, graph_type: str, shape: Sequence[int | None] | None, classes: list[int] | None) -> Iterator[str]:
    """Why the labels of an output do not fit it; nothing for an output without labels.

    shape    of the output, None for lengths that are not known, or as a whole
    classes  the integers that the output can give, as far as they are known
    """
    labels, name = entry.get("labels"), entry["output"]
    if labels is None:
        return
    if graph_type.startswith("seq(map"):
        yield f"output '{name}' has the names of its classes as keys: leave its labels out"
    elif graph_type.startswith("seq("):
        return  # how many tensors it has is known after a run
    elif shape is None:
        return
    elif len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 and not _is_object(entry) and entry.get("squeeze", True)):
        yield from _class_faults(entry, graph_type, classes)
    elif len(shape) == 2 and shape[1] is not None:
        yield from _count_faults(labels, shape[1], f"output '{name}' has {shape[1]} columns")
    elif len(shape) > 2 and _is_object(entry):
        yield f"output '{name}' has {len(shape)} axes: the form 'object' is for rows, [N,k]"


def faults_of_values(entry: Config, graph_type: str, value: Any, classes: list[int] | None) -> Iterator[str]:
    """The same, for what a run gave for one record."""
    labels, name = entry.get("labels"), entry["output"]
    if labels is None:
        return
    if isinstance(value, np.ndarray):
        axis = min(entry.get("axis", 0), max(value.ndim - 1, 0))
        shape = list(np.moveaxis(value, axis, 0).shape) if value.ndim else [1]
        yield from label_faults(entry, graph_type, shape, classes)
        if len(shape) == 1 and classes is None and value.dtype.kind in "iu":
            yield from _class_faults(entry, graph_type, [*map(int, value.ravel())], is_whole=False)
    elif value and isinstance(value[0], np.ndarray):
        yield from _count_faults(labels, len(value), f"output '{name}' is a sequence of {len(value)} tensors")


def _is_object(entry: Config) -> bool:
    return entry.get("form") == "object"


def _class_faults(entry: Config, graph_type: str, classes: list[int] | None, *, is_whole: bool = True) -> Iterator[str]:
    """Labels of single values.

    is_whole  the classes are all that there are
    """
    labels, name = entry["labels"], entry["output"]
    is_list = isinstance(labels, list)
    if is_list and graph_type in ("tensor(string)", "tensor(float)", "tensor(double)", "tensor(float16)"):
        yield f"output '{name}' is a {graph_type}, and a list of labels names integers"
        return
    if not classes:
        classes = BOOLEANS if graph_type == "tensor(bool)" and is_list else []
    unnamed = [number for number in classes if not _has_label(labels, number)]
    if is_whole and is_list and sorted(classes) == [*range(len(classes))] and classes and len(labels) != len(classes):
        yield f"output '{name}' has {len(classes)} classes, config gives it {len(labels)} labels"
    elif unnamed:
        yield f"output '{name}' gives the class {unnamed[0]}, for which config has no label"


def _has_label(labels: Any, number: int) -> bool:
    return str(number) in labels if isinstance(labels, dict) else 0 <= number < len(labels)


def _count_faults(labels: Any, count: int, has: str) -> Iterator[str]:
    """Labels of columns or tensors."""
    if isinstance(labels, list) and len(labels) != count:
        yield f"{has}, config gives it {len(labels)} labels"
    elif isinstance(labels, dict) and labels.keys() != {str(i) for i in range(count)}:
        yield f"{has}, config labels {', '.join(list(labels)[:10])}: they are counted from 0"
