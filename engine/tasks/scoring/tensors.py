"""Records to tensors of any rank: lists in lists become one array, with a value in the gaps if the config has one.

Records whose tensors have different shapes cannot share a run; Mixed then says which can.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from engine.tasks.codec import Record
from engine.tasks.scoring.inputs import MISSING, Column, Irregular, Refused, Scalars, absent, default_of, json_type

# A padded tensor has at most this many values: one long list would pad those of a whole block to its length.
MAX_PADDED_VALUES = 4 * 1024 * 1024


class TooWide(Exception):
    """Padded to the longest of them, the records of a run would have too many values; fewer records may do."""


class Mixed(Exception):
    """The records cannot share one run.

    groups  the indices of those that can, in lists
    """

    def __init__(self, groups: list[list[int]]) -> None:
        super().__init__()
        self.groups = groups


def require_alike(inputs: Sequence["Column | Tensor"], records: Sequence[Record]) -> None:
    """Mixed, unless the records agree on what these inputs need in common."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, record in enumerate(records):
        groups.setdefault(tuple(entry.likeness(record) for entry in inputs), []).append(i)
    if len(groups) > 1:
        raise Mixed(list(groups.values()))


class Tensor:
    """One field with lists in lists -> [N, *dims].

    shape     of the graph's input, the axis of the batch included; what is no integer is open
    dims      the lengths of its other axes, None for an open one
    is_padded shorter lists are filled
    is_mixed  the records of a run must agree on the lengths of their lists (`likeness`)
    raises    ValueError if the pad of a fixed axis would fill too much
    """

    def __init__(self, entry: dict[str, Any], dtype: Any, shape: Sequence[Any]) -> None:
        self.name: str = entry["input"]
        self.field: str = entry["field"]
        self.dims = open_dims(shape[1:])
        self._scalars = Scalars(dtype, coerce=entry.get("coerce", False))
        self._pad = default_of({"missing": entry.get("pad")}, self._scalars)
        self._fillers = self._made_fillers()
        default = default_of(entry, self._scalars)
        self._default = default if default is MISSING else filled(default, self.dims)
        self.is_padded = self._pad is not MISSING
        self.is_mixed = None in self.dims and not self.is_padded

    def _made_fillers(self) -> list[Any]:
        """For each level of lists what lengthens a list there: MISSING if there is no pad."""
        if self._pad is MISSING:
            return [MISSING] * len(self.dims)
        return [filled(self._pad, self.dims[level + 1 :]) for level in range(len(self.dims))]

    def likeness(self, record: Record) -> Any:
        """The lengths of a record's lists, as far as the first of each level tell."""
        lengths: list[int] = []
        value = record.get(self.field)
        while type(value) is list and len(lengths) < len(self.dims):
            lengths.append(len(value))
            value = value[0] if value else None
        return tuple(lengths)

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        rows = [record.get(self.field) for record in records]
        if self._default is not MISSING:
            rows = [self._default if row is None else row for row in rows]
        try:
            values, shape = self._flat(rows)
        except TooWide:
            if len(records) == 1:
                raise Irregular from None
            raise
        return {self.name: self._scalars.bulk(values).reshape(shape)}

    def check(self, record: Record) -> Any:
        value = record.get(self.field)
        if value is None and self._default is not MISSING:
            return self._default
        if value is None:
            raise absent(record, self.field, "a list" if self.dims else "a value")
        checked = self._checked(value, self.field, 0)
        try:
            self._flat([checked])
        except Irregular:
            raise Refused("wrong_length", f"field '{self.field}' has lists of different lengths") from None
        except TooWide:
            limit = f"{MAX_PADDED_VALUES:,}"
            raise Refused("wrong_length", f"field '{self.field}' has more than {limit} values when it is padded") from None
        return checked

    def stack(self, values: list[Any]) -> dict[str, np.ndarray]:
        flat, shape = self._flat(values)
        return {self.name: self._scalars.array(flat).reshape(shape)}

    def _flat(self, rows: list[Any]) -> tuple[list[Any], list[int]]:
        """All values of some records, and the shape of their tensor. Irregular, TooWide."""
        values, shape = rows, [len(rows)]
        for level, dim in enumerate(self.dims):
            filler = self._fillers[level]
            if not set(map(type, values)) <= {list}:
                raise Irregular
            lengths = set(map(len, values))
            longest = max(lengths, default=0) if dim is None else dim
            if lengths - {longest}:
                if dim is not None or filler is MISSING:
                    raise Irregular
                if len(values) * longest * _num_values(self.dims[level + 1 :]) > MAX_PADDED_VALUES:
                    raise TooWide
                values = [value + [filler] * (longest - len(value)) for value in values]
            shape.append(longest)
            values = list(chain.from_iterable(values))
        return values, shape

    def _checked(self, value: Any, name: str, level: int) -> Any:
        """A value in lists, each as the model takes it. Refused says what is wrong, and where."""
        if level == len(self.dims):
            return self._scalars.check(value, name)
        if value is None:
            raise Refused("missing_field", f"field '{name}' is null, and the model needs a list")
        if type(value) is not list:
            raise Refused("wrong_type", f"field '{name}' must be a list, not {json_type(value)}")
        dim = self.dims[level]
        if dim is not None and len(value) != dim:
            raise Refused("wrong_length", f"field '{name}' has {len(value)} values, the model takes {dim}")
        return [self._checked(inner, f"{name}[{i}]", level + 1) for i, inner in enumerate(value)]


def open_dims(shape: Iterable[Any]) -> list[int | None]:
    """The lengths of axes as a graph names them: None for what it leaves open."""
    return [dim if isinstance(dim, int) else None for dim in shape]


def filled(value: Any, dims: Sequence[int | None]) -> Any:
    """Lists in lists with the same value everywhere; a list of an open axis is empty. ValueError for too many values."""
    if _num_values(dims) > MAX_PADDED_VALUES:
        raise ValueError(f"more than {MAX_PADDED_VALUES:,} values would be filled")
    for dim in reversed(dims):
        value = [value] * (dim or 0)
    return value


def _num_values(dims: Sequence[int | None]) -> int:
    """How many values these axes have together at least; open ones are not counted."""
    return math.prod(dim for dim in dims if dim is not None)
