"""Blocks: lines wait, are taken, divided and joined, and none is lost, doubled or out of its number."""

import asyncio
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blocks import (
    Answer,
    Batch,
    Block,
    Call,
    Lane,
    ServedModel,
    divide,
)
from engine.queues import Cut, GroupedLineQueue, LineQueue, Segment, TokenLimits, position_after

MODEL = ServedModel("kermit/iris@1", "kermit/iris", "iris", 1, {}, max_batch_size=100)


class Listener:
    """A client that keeps what it is told."""

    def __init__(self) -> None:
        self.departed = False
        self.answers: list[tuple[Block, Answer]] = []
        self.failures: list[tuple[Block, Exception]] = []

    def answered(self, block: Block, answer: Answer) -> None:
        self.answers.append((block, answer))

    def failed(self, block: Block, error: Exception) -> None:
        self.failures.append((block, error))


class Body:
    """Makes segments of one body, numbering its lines as the cutter does."""

    def __init__(self) -> None:
        self.next_line = 1

    def segment(self, lines: list[bytes], *, margin: int = 0) -> Segment:
        """margin  bytes of other lines around these in the same memory"""
        raw = b"".join(line + b"\n" for line in lines)
        segment = Segment(b"\n" * margin + raw + b"\n" * margin, margin, margin + len(raw), len(lines), self.next_line)
        self.next_line += len(lines)
        return segment

    def refusal(self) -> Segment:
        segment = Segment(b"", 0, 0, 1, self.next_line, refusal="line_too_long")
        self.next_line += 1
        return segment


# A body: pieces that are lists of lines, or None for a line that was thrown away.
line = st.binary(max_size=20).map(lambda data: data.replace(b"\n", b""))
bodies = st.lists(st.one_of(st.none(), st.lists(line, min_size=1, max_size=12)), min_size=1, max_size=8)


def fill(queue: LineQueue | GroupedLineQueue, pieces: Iterable[list[bytes] | None]) -> dict[int, bytes | None]:
    """Append the pieces; what each line number holds."""
    body, lines = Body(), {}
    for i, piece in enumerate(pieces):
        first = body.next_line
        queue.append(body.refusal() if piece is None else body.segment(piece, margin=i % 3))
        lines.update({first + k: data for k, data in enumerate(piece or [None])})
    return lines


def lines_of(cut: Cut) -> dict[int, bytes | None]:
    numbers = cut.lines or list(range(cut.first_line, cut.first_line + cut.num_records))
    if cut.refusal:
        assert b"".join(cut.buffers) == b""
        return {numbers[0]: None}
    lines = b"".join(cut.buffers).split(b"\n")
    assert lines.pop() == b""
    return dict(zip(numbers, lines, strict=True))


# Positions


@given(st.binary(max_size=40).map(lambda data: data.replace(b"x", b"\n")), st.data())
def test_position_after_finds_the_newline_that_a_plain_search_finds(data: bytes, draw: st.DataObject) -> None:
    data = data * 60
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    count = draw.draw(st.integers(0, data.count(b"\n", start, end)))
    expected = start
    for _ in range(count):
        expected = data.index(b"\n", expected) + 1
    assert position_after(data, count, start, end) == expected


def test_position_after_costs_passes_at_memory_speed() -> None:
    data = b"{}\n" * 2_000_000
    started = time.perf_counter()
    assert position_after(data, 1_500_000, 0, len(data)) == 4_500_000
    assert time.perf_counter() - started < 0.2


# Lines in order


@given(bodies, st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_a_line_queue_gives_every_line_once_in_order_with_its_number(pieces: list[list[bytes] | None], sizes: list[int]) -> None:
    queue = LineQueue()
    expected = fill(queue, pieces)
    assert queue.num_lines == len(expected)
    taken: dict[int, bytes | None] = {}
    while queue.num_lines:
        size = sizes[len(taken) % len(sizes)]
        cut = queue.take(size)
        assert 1 <= cut.num_records <= size
        assert cut.num_bytes == len(b"".join(cut.buffers))
        lines = lines_of(cut)
        assert min(lines) == len(taken) + 1
        taken |= lines
    assert taken == expected
    assert queue.num_bytes == 0


@given(st.lists(st.one_of(st.integers(1, 9), st.none(), st.just(0)), max_size=60))
def test_a_line_queue_may_be_filled_while_it_is_emptied(steps: list[int | None]) -> None:
    """A number takes so many lines, None appends two lines, 0 a refusal."""
    queue, body, taken = LineQueue(), Body(), []
    for step in steps:
        if step is None:
            queue.append(body.segment([b"a", b"b"]))
        elif step == 0:
            queue.append(body.refusal())
        elif queue.num_lines:
            taken += lines_of(queue.take(step))
    while queue.num_lines:
        taken += lines_of(queue.take(7))
    assert taken == list(range(1, body.next_line))


def test_segments_that_follow_each_other_make_one_block_without_copying() -> None:
    queue, body = LineQueue(), Body()
    for _ in range(3):
        queue.append(body.segment([b"a", b"b"]))
    cut = queue.take(5)
    assert (cut.first_line, cut.num_records, cut.num_bytes) == (1, 5, 10)
    assert [type(buffer) for buffer in cut.buffers] == [memoryview] * 3
    assert lines_of(queue.take(5)) == {6: b"b"}


def test_a_refused_line_is_a_block_of_its_own() -> None:
    queue, body = LineQueue(), Body()
    for segment in (body.segment([b"a"]), body.refusal(), body.refusal(), body.segment([b"b"])):
        queue.append(segment)
    cuts = [queue.take(10) for _ in range(4)]
    assert [(cut.first_line, cut.num_records, cut.refusal) for cut in cuts] == [
        (1, 1, None),
        (2, 1, "line_too_long"),
        (3, 1, "line_too_long"),
        (4, 1, None),
    ]


# Lines by length

LIMITS = TokenLimits(record=10, run=30)
ALL = 10**9


def grouped(max_lines: int = ALL) -> GroupedLineQueue:
    return GroupedLineQueue(LIMITS, max_lines)


@given(bodies, st.integers(1, 20))
def test_a_grouped_queue_gives_every_line_once_with_its_number(pieces: list[list[bytes] | None], size: int) -> None:
    queue = grouped(size)
    expected = fill(queue, pieces)
    taken: dict[int, bytes | None] = {}
    while queue.num_lines:
        cut = queue.take(ALL)
        lines = lines_of(cut)
        assert 1 <= cut.num_records == len(lines) <= size
        assert cut.num_bytes == len(b"".join(cut.buffers))
        assert not taken.keys() & lines.keys()
        taken |= lines
    assert taken == expected
    assert queue.num_bytes == 0


@given(st.lists(line, min_size=1, max_size=60), st.integers(1, 20))
def test_a_grouped_block_holds_the_oldest_line_and_its_neighbours_by_length(lines: list[bytes], size: int) -> None:
    queue = grouped(size)
    waiting = fill(queue, [lines])
    while queue.num_lines:
        taken = lines_of(queue.take(ALL))
        assert min(waiting) in taken
        lengths = sorted(len(data) for data in taken.values())
        left = [len(data) for number, data in waiting.items() if number not in taken]
        assert not any(lengths[0] < length < lengths[-1] for length in left)
        for number in taken:
            del waiting[number]


@given(st.lists(st.binary(max_size=120).map(lambda data: data.replace(b"\n", b"")), min_size=1, max_size=60), st.integers(1, 40))
def test_a_block_with_its_padding_stays_under_what_was_asked_and_one_line_always_fits(lines: list[bytes], size: int) -> None:
    queue = grouped()
    fill(queue, [lines])
    while queue.num_lines:
        cut = queue.take(size)
        longest = min(LIMITS.record_bytes, max(map(len, cut.buffers)))
        assert cut.num_records == 1 or longest * cut.num_records <= min(size, LIMITS.run_bytes)


def test_a_block_of_equal_lines_is_as_large_as_the_run_allows() -> None:
    queue = grouped()
    fill(queue, [[b"x" * 8] * 50])
    assert queue.take(ALL).num_records == LIMITS.run_bytes // 9


def test_a_line_that_the_model_will_cut_counts_as_what_is_left_of_it() -> None:
    queue = GroupedLineQueue(TokenLimits(record=1, run=10), 100)
    fill(queue, [[b"x" * 1000] * 50])
    assert queue.take(ALL).num_records == 5


def test_lines_that_come_later_are_grouped_with_those_that_wait() -> None:
    queue, body = GroupedLineQueue(TokenLimits(record=1000, run=1000), 2), Body()
    queue.append(body.segment([b"short", b"x" * 100]))
    queue.append(body.segment([b"y" * 99, b"brief"]))
    assert lines_of(queue.take(ALL)) == {1: b"short", 4: b"brief"}
    assert lines_of(queue.take(ALL)) == {2: b"x" * 100, 3: b"y" * 99}


# Division


@given(st.lists(line, min_size=2, max_size=40), st.booleans())
def test_halves_hold_every_line_once_in_order_with_its_number(lines: list[bytes], is_grouped: bool) -> None:
    client, raw = Listener(), b"".join(data + b"\n" for data in lines)
    numbers = [7 * i for i in range(len(lines))]
    block = Block(
        "score",
        Lane.BULK,
        client,
        MODEL,
        {"bulk_id": "b"},
        [raw[:5], memoryview(raw)[5:]],
        num_records=len(lines),
        num_bytes=len(raw),
        first_line=0 if is_grouped else 10,
        lines=numbers if is_grouped else None,
        deaths=2,
    )
    halves = divide(block)
    assert b"".join(buffer for half in halves for buffer in half.buffers) == raw
    assert [half.num_bytes for half in halves] == [len(b"".join(half.buffers)) for half in halves]
    assert [b"".join(half.buffers).count(b"\n") for half in halves] == [half.num_records for half in halves]
    assert min(half.num_records for half in halves) >= len(lines) // 2
    assert all(half.is_suspect and half.deaths == 0 and half.header == {"bulk_id": "b"} for half in halves)
    if is_grouped:
        assert [number for half in halves for number in half.lines or []] == numbers
        assert [half.first_line for half in halves] == [0, 0]
    else:
        assert [half.first_line for half in halves] == [10, 10 + halves[0].num_records]


def two_halves() -> tuple[Listener, Block, Block, Block]:
    client = Listener()
    block = Block("score", Lane.BULK, client, MODEL, {}, [b"a\nb\nc\n"], num_records=3, num_bytes=6, first_line=1)
    return client, block, *divide(block)


def answer(data: bytes, sizes: list[int], *, errors: int = 0) -> Answer:
    return Answer({"results": len(sizes) - errors, "errors": errors, "line_sizes": sizes}, memoryview(data))


@pytest.mark.parametrize("is_second_first", [False, True])
def test_two_answers_of_halves_are_one_answer_of_the_whole_in_the_order_of_its_lines(is_second_first: bool) -> None:
    client, block, first, second = two_halves()
    answers = [(first, answer(b"A\n", [2])), (second, answer(b"BB\nCC\n", [3, 3], errors=1))]
    for half, its_answer in reversed(answers) if is_second_first else answers:
        assert client.answers == []
        half.client.answered(half, its_answer)
    [(whole, joined)] = client.answers
    assert whole is block
    assert bytes(joined.payload) == b"A\nBB\nCC\n"
    assert joined.header == {"results": 2, "errors": 1, "line_sizes": [2, 3, 3]}


def test_a_quarter_answers_for_its_half_and_the_half_for_the_whole() -> None:
    client, block, first, second = two_halves()
    for quarter, data in zip(divide(second), (b"B\n", b"C\n"), strict=True):
        quarter.client.answered(quarter, answer(data, [2]))
    assert client.answers == []
    first.client.answered(first, answer(b"A\n", [2]))
    [(whole, joined)] = client.answers
    assert whole is block
    assert bytes(joined.payload) == b"A\nB\nC\n"


def test_a_failed_half_fails_the_whole_once_and_the_other_half_is_not_wanted() -> None:
    client, block, first, second = two_halves()
    error = RuntimeError()
    first.client.failed(first, error)
    assert client.failures == [(block, error)]
    assert second.client.departed
    second.client.failed(second, RuntimeError())
    second.client.answered(second, answer(b"B\nC\n", [2, 2]))
    assert len(client.failures) == 1
    assert client.answers == []


def test_halves_depart_with_the_client_of_the_whole() -> None:
    client, _, first, second = two_halves()
    assert not first.client.departed
    client.departed = True
    assert first.client.departed
    assert second.client.departed


# Frames of batches and callers


def test_a_frame_names_the_model_the_sizes_and_where_the_lines_stand() -> None:
    block = Block(
        "score", Lane.BULK, Listener(), MODEL, {"bulk_id": "b"}, [b"a\n", b"b\n"], num_records=2, num_bytes=4, first_line=9
    )
    header, buffers = Batch([block]).frame()
    assert buffers == [b"a\n", b"b\n"]
    expected = {"task": "score", "model": "kermit/iris@1", "bulk_id": "b", "sizes": [4], "line": 9, "num_lines": 2}
    assert header == expected
    block.lines = [4, 8]
    header, _ = Batch([block]).frame()
    assert header["lines"] == [4, 8]
    assert "line" not in header


def test_single_records_of_one_frame_keep_their_own_sizes() -> None:
    blocks = [Block("score", Lane.INTERACTIVE, Listener(), MODEL, {}, [data], num_bytes=len(data)) for data in (b"{}", b'{"a":1}')]
    header, buffers = Batch(blocks).frame()
    assert header["sizes"] == [2, 7]
    assert buffers == [b"{}", b'{"a":1}']
    assert Batch(blocks).num_records == 2


async def test_a_caller_is_told_once_and_one_that_gave_up_is_not_told() -> None:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    call = Call(future)
    block = Block("score", Lane.INTERACTIVE, call)
    assert not call.departed
    call.answered(block, answer(b"A", [1]))
    call.failed(block, RuntimeError())
    call.answered(block, answer(b"B", [1]))
    assert bytes((await future).payload) == b"A"
    assert call.departed
    given_up = Call(asyncio.get_running_loop().create_future())
    given_up.future.cancel()
    given_up.answered(block, answer(b"A", [1]))
    given_up.failed(block, RuntimeError())
    assert given_up.departed
