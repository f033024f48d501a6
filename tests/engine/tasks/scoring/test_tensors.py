"""Lists in lists to tensors: the fast and the careful way agree, and records that are alike always share a run."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.tasks.scoring.inputs import Irregular, Refused
from engine.tasks.scoring.tensors import Mixed, Tensor, require_alike

LEAVES = st.sampled_from([0, 1, 2.5, -3, None, "a", True, 1e300, float("nan")])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=9)
NUMBERS = st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, max_size=3), max_leaves=9)
SHAPES = st.lists(st.sampled_from([0, 1, 2, "L"]), max_size=3).map(lambda dims: ["N", *dims])
PADS = st.sampled_from([{}, {"pad": 7}, {"pad": "nan"}])


def tensor(shape: list[Any], options: dict[str, Any]) -> Tensor:
    return Tensor({"input": "X", "field": "x", **options}, np.float32, shape)


def careful(entry: Tensor, record: dict[str, Any]) -> Any:
    """The tensor of one record, or the code with which it is refused."""
    try:
        return entry.stack([entry.check(record)])["X"]
    except Refused as refused:
        return refused.fault.code


@given(value=VALUES | NUMBERS, shape=SHAPES, options=PADS)
def test_both_ways_agree_on_a_record(value: Any, shape: list[Any], options: dict[str, Any]) -> None:
    entry = tensor(shape, options)
    expected = careful(entry, {"x": value})
    try:
        fast = entry.bulk([{"x": value}])["X"]
    except Irregular:
        return
    assert repr(fast) == repr(expected)
    assert fast.ndim == len(shape)
    assert all(have == want for have, want in zip(fast.shape, shape, strict=True) if isinstance(want, int))


@given(values=st.lists(NUMBERS, min_size=1, max_size=6), shape=SHAPES, options=PADS)
def test_what_is_alike_and_not_refused_shares_a_run(values: list[Any], shape: list[Any], options: dict[str, Any]) -> None:
    """Every record is in one group; in a run with its group, a record without padding has the values that it has alone."""
    entry = tensor(shape, options)
    records = [{"x": value} for value in values]
    groups = [list(range(len(records)))]
    if entry.is_mixed:
        try:
            require_alike([entry], records)
        except Mixed as mixed:
            groups = mixed.groups
    assert sorted(i for group in groups for i in group) == list(range(len(records)))
    for group in groups:
        good = [i for i in group if not isinstance(careful(entry, records[i]), str)]
        if good:
            together = entry.stack([entry.check(records[i]) for i in good])["X"]
            for row, i in zip(together, good, strict=True):
                alone = careful(entry, records[i])[0]
                assert np.array_equal(row[tuple(map(slice, alone.shape))], alone, equal_nan=True)
                assert options or row.shape == alone.shape
