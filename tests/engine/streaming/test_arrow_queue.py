"""Rows of record batches that wait: every row leaves once, in its place, however blocks are cut, divided and returned."""

from hypothesis import given
from hypothesis import strategies as st

from engine.streaming.arrow_queue import SHARED_BYTES, ArrowQueue, ArrowRows, Prelude, RecordBatch

SCHEMA = Prelude(b"schema")


def batch(first_row: int, num_rows: int, num_bytes: int, prelude: Prelude = SCHEMA) -> RecordBatch:
    return RecordBatch(prelude, (b"rows %d" % first_row,), num_bytes, num_rows, first_row)


@given(sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5000)), max_size=12), data=st.data())
def test_every_row_leaves_once_and_its_bytes_are_counted_once(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    queue, first = ArrowQueue(), 1
    for num_rows, num_bytes in sizes:
        queue.append(batch(first, num_rows, num_bytes))
        first += num_rows
    taken: list[ArrowRows] = []
    while queue.num_lines:
        rows = queue.take(data.draw(st.integers(1, 60)))
        assert rows.buffers[0] == b"schema"
        assert rows.origin <= rows.first_line
        taken += rows.halved() if rows.num_lines > 1 and data.draw(st.booleans()) else [rows]
    assert [number for rows in taken for number in range(rows.first_line, rows.first_line + rows.num_lines)] == list(
        range(1, first)
    )
    assert sum(rows.num_bytes for rows in taken) == sum(num_bytes for _, num_bytes in sizes)
    assert queue.num_bytes == 0


def test_batches_that_follow_another_dictionary_do_not_travel_together() -> None:
    queue, other = ArrowQueue(), Prelude(b"schema", (b"dictionary",))
    for first_row, prelude in ((1, SCHEMA), (11, SCHEMA), (21, other)):
        queue.append(batch(first_row, 10, 100, prelude))
    assert list(queue.take(100).buffers) == [b"schema", b"rows 1", b"rows 11"]
    assert list(queue.take(100).buffers) == [b"schema", b"dictionary", b"rows 21"]


def test_the_pieces_of_a_batch_wait_in_its_place() -> None:
    queue = ArrowQueue()
    queue.append(batch(1, 100, 2 * SHARED_BYTES))
    queue.append(batch(101, 100, 2 * SHARED_BYTES))
    assert queue.must_be_cut(99)
    assert not queue.must_be_cut(100)
    first, second = queue.take_out(), queue.take_out()
    assert (first.first_row, second.first_row, queue.first_row) == (1, 101, 0)
    queue.put_back([batch(101, 50, 10), batch(151, 50, 10)])
    queue.put_back([batch(1, 100, 10)])
    assert queue.first_row == 1
    assert queue.take(1000).num_lines == 200


def test_what_is_left_of_a_batch_waits_behind_its_pieces() -> None:
    queue, rest = ArrowQueue(), batch(1, 100, 2 * SHARED_BYTES)
    rest.num_taken = 20
    queue.put_back([batch(1, 10, 10), batch(11, 10, 10), rest])
    assert [queue.take(10).first_line for _ in range(3)] == [1, 11, 21]


def test_dictionaries_are_counted_once_while_they_wait_and_with_each_block() -> None:
    queue, other = ArrowQueue(), Prelude(b"schema", (b"d" * 1000,))
    for first_row in (1, 11):
        queue.append(batch(first_row, 10, 100, other))
    assert queue.num_bytes == 200 + other.num_bytes
    assert queue.take(10).num_bytes == 100 + other.num_bytes
    assert queue.num_bytes == 100 + other.num_bytes
    assert queue.take(5).num_bytes == 50 + other.num_bytes
    queue.put_back([queue.take_out()])
    assert queue.take(5).num_bytes == 50 + other.num_bytes
    assert (queue.num_bytes, queue.num_lines) == (0, 0)


def test_a_batch_behind_a_large_dictionary_must_be_cut() -> None:
    queue = ArrowQueue()
    queue.append(batch(1, 100, 10, Prelude(b"schema", (b"d" * SHARED_BYTES,))))
    assert queue.must_be_cut(99)


def test_a_row_that_is_refused_keeps_its_schema_alone() -> None:
    queue = ArrowQueue()
    queue.append(batch(1, 1, 10))
    rows = queue.take(1).without_bytes()
    assert (list(rows.buffers), rows.num_lines, rows.num_bytes, rows.first_line) == ([b"schema"], 1, 0, 1)
