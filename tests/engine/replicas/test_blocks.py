"""Blocks: they are divided and joined, and each waiter is told once; and the frames that they make."""

import asyncio

import pytest

from engine.errors import INTERNAL, EngineError
from engine.replicas.blocks import Answer, Batch, Block, Call, Lane, ServedModel, Task, divide
from engine.replicas.lines import Lines

MODEL = ServedModel("kermit/iris@1", "kermit/iris", "iris", 1, {}, max_batch_size=100)
SCORE = Task("score", family="scoring", pool="score", time_limit_s=60, max_deaths=2, is_divisible=True)
FAULT = EngineError(INTERNAL, "the server failed on this request")


class Listener:
    """A waiter that keeps what it is told."""

    def __init__(self) -> None:
        self.has_left = False
        self.answers: list[tuple[Block, Answer]] = []
        self.failures: list[tuple[Block, EngineError]] = []

    def answered(self, block: Block, answer: Answer) -> None:
        self.answers.append((block, answer))

    def failed(self, block: Block, error: EngineError) -> None:
        self.failures.append((block, error))


# Division


def two_halves() -> tuple[Listener, Block, Block, Block]:
    waiter = Listener()
    block = Block(SCORE, Lane.BULK, waiter, {}, Lines([b"a\nb\nc\n"], 3, 6, first_line=1), MODEL, deaths=2)
    return waiter, block, *divide(block)


def answer(data: bytes, sizes: list[int], *, errors: int = 0) -> Answer:
    return Answer({"results": len(sizes) - errors, "errors": errors, "line_sizes": sizes}, memoryview(data))


@pytest.mark.parametrize("is_second_first", [False, True])
def test_two_answers_of_halves_are_one_answer_of_the_whole_in_the_order_of_its_lines(is_second_first: bool) -> None:
    waiter, block, first, second = two_halves()
    answers = [(first, answer(b"A\n", [2])), (second, answer(b"BB\nCC\n", [3, 3], errors=1))]
    for half, its_answer in reversed(answers) if is_second_first else answers:
        assert waiter.answers == []
        half.waiter.answered(half, its_answer)
    [(whole, joined)] = waiter.answers
    assert whole is block
    assert bytes(joined.payload) == b"A\nBB\nCC\n"
    assert joined.header == {"results": 2, "errors": 1, "line_sizes": [2, 3, 3]}


def test_a_quarter_answers_for_its_half_and_the_half_for_the_whole() -> None:
    waiter, block, first, second = two_halves()
    for quarter, data in zip(divide(second), (b"B\n", b"C\n"), strict=True):
        quarter.waiter.answered(quarter, answer(data, [2]))
    assert waiter.answers == []
    first.waiter.answered(first, answer(b"A\n", [2]))
    [(whole, joined)] = waiter.answers
    assert whole is block
    assert bytes(joined.payload) == b"A\nB\nC\n"


def test_a_failed_half_fails_the_whole_once_and_the_other_half_is_not_wanted() -> None:
    waiter, block, first, second = two_halves()
    first.waiter.failed(first, FAULT)
    assert waiter.failures == [(block, FAULT)]
    assert second.waiter.has_left
    second.waiter.failed(second, FAULT)
    second.waiter.answered(second, answer(b"B\nC\n", [2, 2]))
    assert len(waiter.failures) == 1
    assert waiter.answers == []


def test_halves_are_not_wanted_when_the_waiter_of_the_whole_has_left() -> None:
    waiter, _, first, second = two_halves()
    assert not first.waiter.has_left
    waiter.has_left = True
    assert first.waiter.has_left
    assert second.waiter.has_left


def test_halves_are_suspect_and_begin_without_deaths() -> None:
    _, block, first, second = two_halves()
    assert all(half.is_suspect and half.deaths == 0 for half in (first, second))
    assert all(half.task is block.task and half.arguments is block.arguments and half.model is MODEL for half in (first, second))
    assert [bytes(half.lines.buffers[0]) for half in (first, second)] == [b"a\n", b"b\nc\n"]


# Frames and calls


def test_a_frame_names_the_task_the_model_the_sizes_and_where_the_lines_stand() -> None:
    block = Block(SCORE, Lane.BULK, Listener(), {"bulk_id": "b"}, Lines([b"a\n", b"b\n"], 2, 4, first_line=9), MODEL)
    header, buffers = Batch([block]).frame()
    assert buffers == [b"a\n", b"b\n"]
    expected = {"family": "scoring", "task": "score", "model": "kermit/iris@1", "bulk_id": "b"}
    assert header == expected | {"sizes": [4], "line": 9, "num_lines": 2}
    block.lines = Lines([b"a\n", b"b\n"], 2, 4, numbers=[4, 8])
    header, _ = Batch([block]).frame()
    assert header["lines"] == [4, 8]
    assert "line" not in header


def test_single_records_of_one_frame_keep_their_own_sizes() -> None:
    blocks = [Block(SCORE, Lane.INTERACTIVE, Listener(), {}, Lines.of_body(data), MODEL) for data in (b"{}", b'{"a":1}')]
    header, buffers = Batch(blocks).frame()
    assert header["sizes"] == [2, 7]
    assert buffers == [b"{}", b'{"a":1}']
    assert Batch(blocks).num_records == 2


async def test_a_call_is_told_once_and_one_that_gave_up_is_not_told() -> None:
    call = Call()
    block = Block(SCORE, Lane.INTERACTIVE, call)
    assert not call.has_left
    call.answered(block, answer(b"A", [1]))
    call.failed(block, FAULT)
    call.answered(block, answer(b"B", [1]))
    assert bytes((await call.future).payload) == b"A"
    assert call.has_left
    given_up = Call()
    given_up.future.cancel()
    given_up.answered(block, answer(b"A", [1]))
    given_up.failed(block, FAULT)
    assert given_up.has_left


async def test_a_call_that_fails_raises_the_reason() -> None:
    call = Call()
    call.failed(Block(SCORE, Lane.INTERACTIVE, call), FAULT)
    with pytest.raises(EngineError) as caught:
        await asyncio.wait_for(call.future, 1)
    assert caught.value is FAULT
