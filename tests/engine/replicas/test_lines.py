"""Lines that wait: they are taken once, in order, each with its number, and a block can be halved."""

import itertools
import time
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.replicas.lines import GroupedLineQueue, LineQueue, Lines, LineSpan, TokenLimits, position_after


class Body:
    """Makes spans of one body, numbering its lines as the cutter does."""

    def __init__(self) -> None:
        self.next_line = 1

    def span(self, lines: list[bytes], *, margin: int = 0) -> LineSpan:
        """margin  bytes of other lines around these in the same memory"""
        raw = b"".join(line + b"\n" for line in lines)
        span = LineSpan(b"\n" * margin + raw + b"\n" * margin, margin, margin + len(raw), len(lines), self.next_line)
        self.next_line += len(lines)
        return span

    def refusal(self) -> LineSpan:
        span = LineSpan(b"", 0, 0, 1, self.next_line, refusal="line_too_long")
        self.next_line += 1
        return span


# A body: pieces that are lists of lines, or None for a line that was thrown away.
line = st.binary(max_size=20).map(lambda data: data.replace(b"\n", b""))
bodies = st.lists(st.one_of(st.none(), st.lists(line, min_size=1, max_size=12)), min_size=1, max_size=8)


def fill(queue: LineQueue | GroupedLineQueue, pieces: Iterable[list[bytes] | None]) -> dict[int, bytes | None]:
    """Append the pieces; what each line number holds."""
    body, lines = Body(), {}
    for i, piece in enumerate(pieces):
        first = body.next_line
        queue.append(body.refusal() if piece is None else body.span(piece, margin=i % 3))
        lines.update({first + k: data for k, data in enumerate(piece or [None])})
    return lines


def lines_of(taken: Lines) -> dict[int, bytes | None]:
    numbers = taken.numbers or list(range(taken.first_line, taken.first_line + taken.num_lines))
    if taken.refusal:
        assert b"".join(taken.buffers) == b""
        return {numbers[0]: None}
    lines = b"".join(taken.buffers).split(b"\n")
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
    assert position_after(data, count, start, end, data.count(b"\n", start, end)) == expected


def test_position_after_costs_passes_at_memory_speed() -> None:
    data = b"{}\n" * 2_000_000
    started = time.thread_time()
    assert position_after(data, 1_500_000, 0, len(data), 2_000_000) == 4_500_000
    assert time.thread_time() - started < 0.2


def test_position_after_costs_a_few_passes_where_lines_are_most_unequal() -> None:
    data = b"\n" * 1_000_000 + (b"x" * 1000 + b"\n") * 3000
    for count in (999_999, 1_000_000, 1_000_001, 1_001_500, 1_003_000):
        started = time.thread_time()
        expected = count if count <= 1_000_000 else 1_000_000 + (count - 1_000_000) * 1001
        assert position_after(data, count, 0, len(data), 1_003_000) == expected
        assert time.thread_time() - started < 0.2


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0, 80, 9_000, 40_000]), min_size=1, max_size=6), st.lists(st.integers(1, 9), min_size=1))
def test_a_span_that_was_counted_in_steps_is_cut_where_its_lines_end(sizes: list[int], shares: list[int]) -> None:
    """Again and again, as blocks of different sizes take its lines; each share is a tenth of all."""
    pieces = [b"x" * size + b"\n" for size in sizes for _ in range(40_000 // (size + 40))]
    queue, data, number = LineQueue(), b"".join(pieces), 7
    queue.append(LineSpan.counted(b"\n" + data + b"y", 1, 1 + len(data), number))
    assert queue.num_lines == len(pieces)
    for share in itertools.cycle(shares):
        if not queue.num_lines:
            break
        taken = queue.take(1 + share * len(pieces) // 10)
        expected = pieces[number - 7 : number - 7 + taken.num_lines]
        assert (taken.first_line, b"".join(taken.buffers)) == (number, b"".join(expected))
        number += taken.num_lines
    assert number == 7 + len(pieces)


# Lines in order


@given(bodies, st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_a_line_queue_gives_every_line_once_in_order_with_its_number(pieces: list[list[bytes] | None], sizes: list[int]) -> None:
    queue = LineQueue()
    expected = fill(queue, pieces)
    assert queue.num_lines == len(expected)
    taken: dict[int, bytes | None] = {}
    while queue.num_lines:
        size = sizes[len(taken) % len(sizes)]
        block = queue.take(size)
        assert 1 <= block.num_lines <= size
        assert block.num_bytes == len(b"".join(block.buffers))
        lines = lines_of(block)
        assert min(lines) == len(taken) + 1
        taken |= lines
    assert taken == expected
    assert queue.num_bytes == 0


@given(st.lists(st.one_of(st.integers(1, 9), st.none(), st.just(0)), max_size=60))
def test_a_line_queue_may_be_filled_while_it_is_emptied(steps: list[int | None]) -> None:
    """A number takes that many lines, None appends two lines, 0 appends a refusal."""
    queue, body, taken = LineQueue(), Body(), []
    for step in steps:
        if step is None:
            queue.append(body.span([b"a", b"b"]))
        elif step == 0:
            queue.append(body.refusal())
        elif queue.num_lines:
            taken += lines_of(queue.take(step))
    while queue.num_lines:
        taken += lines_of(queue.take(7))
    assert taken == list(range(1, body.next_line))


def test_spans_that_follow_each_other_make_one_block_without_copying() -> None:
    queue, body = LineQueue(), Body()
    for _ in range(3):
        queue.append(body.span([b"a", b"b"]))
    block = queue.take(5)
    assert (block.first_line, block.num_lines, block.num_bytes) == (1, 5, 10)
    assert [type(buffer) for buffer in block.buffers] == [memoryview] * 3
    assert lines_of(queue.take(5)) == {6: b"b"}


def test_a_refused_line_is_a_block_of_its_own() -> None:
    queue, body = LineQueue(), Body()
    for span in (body.span([b"a"]), body.refusal(), body.refusal(), body.span([b"b"])):
        queue.append(span)
    blocks = [queue.take(10) for _ in range(4)]
    assert [(block.first_line, block.num_lines, block.refusal) for block in blocks] == [
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
        block = queue.take(ALL)
        lines = lines_of(block)
        assert 1 <= block.num_lines == len(lines) <= size
        assert block.num_bytes == len(b"".join(block.buffers))
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
        block = queue.take(size)
        longest = min(LIMITS.record_bytes, max(map(len, block.buffers)))
        assert block.num_lines == 1 or longest * block.num_lines <= min(size, LIMITS.run_bytes)


def test_a_block_of_equal_lines_is_as_large_as_the_run_allows() -> None:
    queue = grouped()
    fill(queue, [[b"x" * 8] * 50])
    assert queue.take(ALL).num_lines == LIMITS.run_bytes // 9


def test_a_line_that_the_model_will_cut_counts_as_what_is_left_of_it() -> None:
    queue = GroupedLineQueue(TokenLimits(record=1, run=10), 100)
    fill(queue, [[b"x" * 1000] * 50])
    assert queue.take(ALL).num_lines == 5


def test_lines_that_come_later_are_grouped_with_those_that_wait() -> None:
    queue, body = GroupedLineQueue(TokenLimits(record=1000, run=1000), 2), Body()
    queue.append(body.span([b"short", b"x" * 100]))
    queue.append(body.span([b"y" * 99, b"brief"]))
    assert lines_of(queue.take(ALL)) == {1: b"short", 4: b"brief"}
    assert lines_of(queue.take(ALL)) == {2: b"x" * 100, 3: b"y" * 99}


# Halves


@given(st.lists(line, min_size=2, max_size=40), st.booleans())
def test_halves_hold_every_line_once_in_order_with_its_number(lines: list[bytes], is_grouped: bool) -> None:
    raw = b"".join(data + b"\n" for data in lines)
    numbers = [7 * i for i in range(len(lines))] if is_grouped else None
    whole = Lines([raw[:5], memoryview(raw)[5:]], len(lines), len(raw), first_line=0 if is_grouped else 10, numbers=numbers)
    first, second = whole.halved()
    assert b"".join([*first.buffers, *second.buffers]) == raw
    assert [half.num_bytes for half in (first, second)] == [len(b"".join(half.buffers)) for half in (first, second)]
    assert [b"".join(half.buffers).count(b"\n") for half in (first, second)] == [first.num_lines, second.num_lines]
    assert min(first.num_lines, second.num_lines) >= len(lines) // 2
    if is_grouped:
        assert [*(first.numbers or []), *(second.numbers or [])] == numbers
    else:
        assert [first.first_line, second.first_line] == [10, 10 + first.num_lines]
