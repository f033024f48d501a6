"""A stream: what it takes in is answered once, its window bounds it, and every end is told."""

# ruff: noqa: ASYNC110  (a test may look at what has no event)

import asyncio
import itertools
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.disk import Disk
from engine.errors import INTERNAL, NO_INSTANCES, RECORD_CODES, EngineError
from engine.replicas.blocks import Answer, Block, ServedModel, Task, divide
from engine.replicas.lines import LineSpan, TokenLimits
from engine.spill import MEMORY_LIMIT_BYTES, SPILL_AFTER_S, Spill
from engine.streaming.failures import BAD_ENCODING, STALLED, StreamFailure
from engine.streaming.stream import WINDOW_BLOCKS, Stream, StreamState, StreamWork

IRIS = ServedModel("kermit/iris@1", "kermit/iris", "iris", 1, {}, max_batch_size=1000)
TEXTS = ServedModel("kermit/texts@1", "kermit/texts", "texts", 1, {}, max_batch_size=1000, tokens=TokenLimits(record=100, run=100))
SCORE = Task("score", family="scoring", pool="score", time_limit_s=60, max_deaths=2, is_divisible=True)
BIG = 1 << 40


class Bench:
    """A stream, its body, and a replica of sorts: answers each line with `<number>\\n`, blank lines with nothing."""

    def __init__(self, folder: Path, *, model: ServedModel = IRIS, window_bytes: int = 1 << 20, is_ordered: bool = False) -> None:
        self.spill = Spill(folder, Disk(folder, reserve_bytes=0), limit_bytes=BIG, total_limit_bytes=BIG)
        self.spill.clean()
        self.num_wakes = 0
        outbox = self.spill.outbox("bulk")
        work = StreamWork("bulk", SCORE, model, {"times": "go"}, is_ordered)
        self.stream = Stream(work, outbox, window_bytes=window_bytes, wake=self._wake)
        self.next_line = 1

    def _wake(self) -> None:
        self.num_wakes += 1

    def feed(self, *lines: bytes) -> None:
        raw = b"".join(line + b"\n" for line in lines)
        self.stream.feed(LineSpan(raw, 0, len(raw), len(lines), self.next_line))
        self.next_line += len(lines)

    def refuse(self) -> None:
        self.stream.feed(LineSpan(b"", 0, 0, 1, self.next_line, refusal="line_too_long"))
        self.next_line += 1

    async def received(self) -> bytes:
        pieces = []
        while (piece := await self.stream.outbox.get()) is not None:
            pieces.append(bytes(piece))
        return b"".join(pieces)

    async def received_now(self) -> bytes:
        """What is in the outbox while the stream goes on."""
        return bytes(await self.stream.outbox.get() or b"") if self.stream.outbox.waiting_bytes else b""


def answer(block: Block) -> None:
    """As a replica would."""
    raw = b"".join(bytes(buffer) for buffer in block.lines.buffers)
    lines = raw.split(b"\n")[:-1] or [b"refused"]
    first = block.lines.first_line
    numbers = block.lines.numbers or range(first, first + block.lines.num_lines)
    texts = [b"%d\n" % number if line else b"" for number, line in zip(numbers, lines, strict=True)]
    num_errors = sum(map(bool, texts)) if "refuse" in block.arguments else 0
    header = {"results": sum(map(bool, texts)) - num_errors, "errors": num_errors}
    if block.arguments.get("want_sizes"):
        header["line_sizes"] = list(map(len, texts))
    block.waiter.answered(block, Answer(header, memoryview(b"".join(texts))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spill"


# Answers


async def test_a_stream_ends_after_its_body_and_its_last_answer_and_not_before(folder: Path) -> None:
    bench = Bench(folder)
    bench.feed(b"a", b"b")
    block = bench.stream.take(10)
    bench.feed(b"c")
    bench.stream.body_ended()
    answer(block)
    assert bench.stream.state is StreamState.FINISHING
    assert await bench.received_now() == b"1\n2\n"
    answer(bench.stream.take(10))
    assert await bench.received() == b"3\n"
    assert bench.stream.failure is None
    assert bench.stream.counts.records == 3


async def test_an_empty_body_is_an_empty_answer(folder: Path) -> None:
    bench = Bench(folder)
    bench.stream.body_ended()
    assert await bench.received() == b""
    assert bench.stream.counts.records == 0


async def test_results_leave_as_they_come_when_no_order_is_asked_for(folder: Path) -> None:
    bench = Bench(folder)
    bench.feed(*[b"x"] * 6)
    blocks = [bench.stream.take(2) for _ in range(3)]
    for block in reversed(blocks):
        answer(block)
    bench.stream.body_ended()
    assert await bench.received() == b"5\n6\n3\n4\n1\n2\n"


line = st.one_of(st.just(b""), st.binary(min_size=1, max_size=60).map(lambda data: data.replace(b"\n", b"x")))
bodies = st.lists(st.one_of(st.none(), st.lists(line, min_size=1, max_size=8)), min_size=1, max_size=10)


@pytest.mark.parametrize("model", [IRIS, TEXTS], ids=lambda model: model.name)
@given(pieces=bodies, size=st.integers(1, 9), seed=st.integers(0, 1000))
def test_in_any_order_of_completion_an_ordered_stream_answers_in_the_order_of_the_body(
    tmp_path_factory: pytest.TempPathFactory, model: ServedModel, pieces: list[list[bytes] | None], size: int, seed: int
) -> None:
    asyncio.run(score_in_random_order(tmp_path_factory.getbasetemp() / "spill", model, pieces, size, seed, is_ordered=True))


@pytest.mark.parametrize("model", [IRIS, TEXTS], ids=lambda model: model.name)
@given(pieces=bodies, size=st.integers(1, 9), seed=st.integers(0, 1000))
def test_in_any_order_of_completion_every_line_is_answered_once(
    tmp_path_factory: pytest.TempPathFactory, model: ServedModel, pieces: list[list[bytes] | None], size: int, seed: int
) -> None:
    asyncio.run(score_in_random_order(tmp_path_factory.getbasetemp() / "spill", model, pieces, size, seed, is_ordered=False))


async def score_in_random_order(
    folder: Path, model: ServedModel, pieces: list[list[bytes] | None], size: int, seed: int, *, is_ordered: bool
) -> None:
    """Blocks of the pieces taken, divided now and then, and answered in an order that the seed gives."""
    numbers, bench, blocks, expected = random.Random(seed), Bench(folder, model=model, is_ordered=is_ordered), [], []
    for piece in pieces:
        expected += [bench.next_line + i for i, data in enumerate(piece or [b"refused"]) if data]
        if piece is None:
            bench.refuse()
        else:
            bench.feed(*piece)
        while bench.stream.num_waiting and numbers.random() < 0.7:
            blocks.append(bench.stream.take(size))
        numbers.shuffle(blocks)
        while blocks and numbers.random() < 0.3:
            answer(blocks.pop())
    bench.stream.body_ended()
    while bench.stream.num_waiting or blocks:
        while bench.stream.num_waiting:
            blocks.append(bench.stream.take(size))
        numbers.shuffle(blocks)
        block = blocks.pop()
        if block.lines.num_lines > 1 and numbers.random() < 0.3:
            blocks += divide(block)
        else:
            answer(block)
    received = [int(number) for number in (await asyncio.wait_for(bench.received(), 5)).split()]
    assert (received if is_ordered else sorted(received)) == expected
    assert bench.stream.counts.records == len(expected)
    assert bench.stream.counts.errors == pieces.count(None)
    assert bench.stream.has_room


async def test_a_refused_line_carries_its_code_and_sentence_to_the_replica(folder: Path) -> None:
    bench = Bench(folder)
    bench.refuse()
    block = bench.stream.take(10)
    assert block.arguments["refuse"] == "line_too_long"
    assert block.arguments["reason"] == RECORD_CODES["line_too_long"].text
    assert (block.lines.first_line, block.lines.num_lines, block.lines.num_bytes) == (1, 1, 0)


async def test_a_block_carries_what_its_stream_was_asked_for(folder: Path) -> None:
    bench = Bench(folder)
    bench.feed(b"a")
    block = bench.stream.take(10)
    assert block.arguments == {"times": "go", "bulk_id": "bulk"}
    assert block.model is IRIS


# The window


async def test_a_stream_reads_until_its_window_is_full_of_bytes_and_again_when_they_are_answered(folder: Path) -> None:
    bench = Bench(folder, window_bytes=100)
    assert bench.stream.has_room
    bench.feed(b"x" * 99)
    assert not bench.stream.has_room
    block = bench.stream.take(10)
    assert not bench.stream.has_room
    answer(block)
    assert bench.stream.has_room


async def test_one_block_is_always_admitted_however_large(folder: Path) -> None:
    bench = Bench(folder, window_bytes=10)
    bench.feed(b"x" * 1000)
    assert bench.stream.num_waiting == 1
    answer(bench.stream.take(1))
    assert bench.stream.has_room


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_sixteen_blocks_may_be_unanswered(folder: Path, is_ordered: bool) -> None:
    bench = Bench(folder, is_ordered=is_ordered)
    bench.feed(*[b"x"] * 100)
    blocks = [bench.stream.take(1) for _ in range(WINDOW_BLOCKS)]
    assert bench.stream.num_waiting == 0
    assert not bench.stream.has_room
    answer(blocks[0])
    assert bench.stream.num_waiting == 100 - WINDOW_BLOCKS
    assert bench.stream.has_room


async def test_with_order_a_block_counts_until_its_turn_came(folder: Path) -> None:
    bench = Bench(folder, is_ordered=True)
    bench.feed(*[b"x"] * 100)
    first, *others = [bench.stream.take(1) for _ in range(WINDOW_BLOCKS)]
    for block in others:
        answer(block)
    assert await bench.received_now() == b""
    assert bench.stream.num_waiting == 0
    answer(first)
    assert len((await bench.received_now()).split()) == WINDOW_BLOCKS
    assert bench.stream.num_waiting == 100 - WINDOW_BLOCKS


async def test_with_order_bytes_count_until_their_turn_came(folder: Path) -> None:
    bench = Bench(folder, is_ordered=True, window_bytes=100)
    bench.feed(b"x" * 49, b"y" * 49)
    first, second = bench.stream.take(1), bench.stream.take(1)
    answer(second)
    assert not bench.stream.has_room
    answer(first)
    assert bench.stream.has_room


async def test_results_that_nobody_takes_stop_reading_and_scoring_until_they_are_taken(folder: Path) -> None:
    bench = Bench(folder)
    bench.feed(b"a", b"b")
    bench.stream.take(1)
    bench.stream.outbox.put(bytes(MEMORY_LIMIT_BYTES + 1))
    assert not bench.stream.has_room
    assert bench.stream.num_waiting == 0
    await bench.stream.outbox.get()
    wakes = bench.num_wakes
    bench.stream.taken()
    assert bench.stream.has_room
    assert bench.stream.num_waiting == 1
    assert bench.num_wakes > wakes


async def test_waiting_for_room_ends_when_an_answer_makes_some(folder: Path) -> None:
    bench = Bench(folder, window_bytes=2)
    bench.feed(b"a")
    block = bench.stream.take(1)
    waiting = asyncio.create_task(bench.stream.room(lambda: 0))
    await asyncio.sleep(0)
    assert not waiting.done()
    answer(block)
    await asyncio.wait_for(waiting, 1)


async def test_a_client_that_takes_nothing_makes_the_stream_spill_and_the_upload_goes_on(folder: Path) -> None:
    bench = Bench(folder)
    bench.stream.outbox.put(bytes(MEMORY_LIMIT_BYTES + 1))
    started = time.monotonic()
    await asyncio.wait_for(bench.stream.room(lambda: 7), 5)
    assert time.monotonic() - started >= SPILL_AFTER_S * 0.9
    assert bench.stream.state is StreamState.SPILLING
    assert bench.stream.has_room


async def test_a_client_that_is_only_slow_never_makes_the_stream_spill(folder: Path) -> None:
    bench, taken = Bench(folder), itertools.count()
    bench.stream.outbox.put(bytes(MEMORY_LIMIT_BYTES + 1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.stream.room(lambda: next(taken)), 2.5 * SPILL_AFTER_S)
    assert bench.stream.state is StreamState.RUNNING


async def test_a_stream_whose_spill_is_full_says_so_and_stops(folder: Path) -> None:
    bench = Bench(folder)
    bench.spill.limit_bytes = 10
    bench.feed(b"a")
    bench.stream.outbox.begin_spilling()
    bench.stream.outbox.put(bytes(10))
    while not bench.stream.outbox.spilled_bytes:
        await asyncio.sleep(0)
    assert bench.stream.state is StreamState.FULL
    assert not bench.stream.has_room
    assert bench.stream.num_waiting == 0
    await bench.stream.outbox.discard()


# Ends before the end


async def test_a_body_that_broke_off_is_answered_as_far_as_it_came(folder: Path) -> None:
    bench, failure = Bench(folder), StreamFailure(BAD_ENCODING, "cut short")
    bench.feed(b"a", b"b")
    bench.stream.body_ended(failure)
    answer(bench.stream.take(10))
    assert await bench.received() == b"1\n2\n"
    assert bench.stream.failure is failure
    assert not bench.stream.broken.is_set()


async def test_the_first_reason_of_a_failure_stays(folder: Path) -> None:
    bench = Bench(folder)
    bench.stream.body_ended(StreamFailure(BAD_ENCODING, "first"))
    bench.stream.fail(StreamFailure(STALLED, "second"))
    bench.stream.fail(StreamFailure(INTERNAL, "third"))
    assert bench.stream.failure is not None
    assert bench.stream.failure.code == "bad_encoding"
    assert bench.stream.broken.is_set()


async def test_a_failed_block_fails_the_stream_in_words_of_ours(folder: Path) -> None:
    bench = Bench(folder)
    bench.feed(b"a", b"b")
    block = bench.stream.take(1)
    block.waiter.failed(block, EngineError(INTERNAL, "secret path"))
    assert bench.stream.broken.is_set()
    assert bench.stream.has_left
    assert bench.stream.failure is not None
    assert bench.stream.failure.code == "internal"
    assert "secret" not in bench.stream.failure.message


async def test_a_stream_that_no_replica_will_serve_fails_also_when_nothing_waits(folder: Path) -> None:
    bench = Bench(folder)
    bench.stream.abandon(EngineError(NO_INSTANCES, "no instances of model found"))
    assert bench.stream.broken.is_set()
    assert bench.stream.failure is not None
    assert bench.stream.failure.code == "no_replica"


async def test_a_client_that_left_wants_no_more_blocks_and_no_failure(folder: Path) -> None:
    bench = Bench(folder)
    bench.feed(b"a", b"b")
    block = bench.stream.take(1)
    bench.stream.leave()
    assert block.waiter.has_left
    assert bench.stream.num_waiting == 0
    answer(block)
    bench.stream.fail(StreamFailure(STALLED, "too late"))
    assert bench.stream.failure is None
    assert await bench.received() == b""


async def test_leaving_ends_the_wait_for_room(folder: Path) -> None:
    bench = Bench(folder, window_bytes=1)
    bench.feed(b"aaaa")
    waiting = asyncio.create_task(bench.stream.room(lambda: 0))
    await asyncio.sleep(0)
    bench.stream.leave()
    await asyncio.wait_for(waiting, 1)


async def test_a_stream_waits_since_its_first_line_or_its_last_block(folder: Path) -> None:
    bench = Bench(folder)
    before = time.monotonic()
    bench.feed(b"a", b"b")
    since = bench.stream.waiting_since
    assert since >= before
    bench.feed(b"c")
    assert bench.stream.waiting_since == since
    assert bench.stream.take(1).waiting_since == since
    assert bench.stream.waiting_since >= since


@pytest.mark.parametrize("model", [IRIS, TEXTS])
@pytest.mark.parametrize("is_ordered", [False, True])
async def test_a_block_that_is_too_much_comes_back_as_smaller_ones(folder: Path, model: ServedModel, is_ordered: bool) -> None:
    """Here a replica takes no more than two lines at once; one of the blocks is half of a divided one."""
    bench = Bench(folder, model=model, is_ordered=is_ordered)
    bench.feed(*(b"x" * i for i in range(1, 21)))
    bench.stream.body_ended()
    waiting = list(divide(bench.stream.take(BIG)))
    while waiting or bench.stream.num_waiting:
        block = waiting.pop() if waiting else bench.stream.take(BIG)
        if block.lines.num_lines > 2:
            too_much = {"results": 0, "errors": 0, "is_too_much": True}
            block.waiter.answered(block, Answer(too_much, memoryview(b"")))
        else:
            answer(block)
    async with asyncio.timeout(5):
        lines = (await bench.received()).split(b"\n")[:-1]
    expected = [b"%d" % i for i in range(1, 21)]
    assert (lines if is_ordered else sorted(lines, key=int)) == expected
    assert bench.stream.counts.results == 20
