"""Rows that are taken out of a column of several chunks are those that were asked for, in that order."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from engine.tasks.query.taking import FEW_ROWS, Rows, take_rows

CHUNK, NUM_CHUNKS = 50, 3
VALUES: dict[str, Callable[[int], object]] = {
    "string": lambda i: f"text {i}",
    "bool": lambda i: i % 3 == 0,
    "list": lambda i: list(range(i % 4)),
    "null": lambda i: None if i % 2 else i,
}


@pytest.mark.parametrize("count", [1, 5, FEW_ROWS, FEW_ROWS + 1, 140])
@pytest.mark.parametrize("kind", VALUES)
def test_rows_come_in_the_order_that_was_asked_for(kind: str, count: int) -> None:
    values = [VALUES[kind](i) for i in range(CHUNK * NUM_CHUNKS)]
    column = pa.chunked_array([values[start : start + CHUNK] for start in range(0, len(values), CHUNK)])
    rows: Rows = np.random.default_rng(count).integers(0, len(values), count)
    taken = take_rows(column, rows)
    assert taken.type == column.type
    assert taken.to_pylist() == [values[row] for row in rows]


def test_no_row_is_an_empty_column_of_the_same_type() -> None:
    column = pa.chunked_array([["a"], ["b"]])
    assert take_rows(column, np.array([], dtype=np.int64)).type == pa.string()
