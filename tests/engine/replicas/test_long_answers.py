"""Answers of several frames, work that is stopped, and what a pool knows of its replicas. Real child processes."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.disk import Disk
from engine.errors import EngineError, TaskFailed
from engine.replicas.blocks import Answer, Block, Call, Feed, Lane, WatchedCall
from engine.replicas.flow import Flow
from engine.replicas.pool import Pool
from engine.spill import MEMORY_LIMIT_BYTES, Spill
from tests.engine.replicas.families import options, task
from tests.engine.replicas.test_pool import until

MIB = 1024 * 1024


@asynccontextmanager
async def running(folder: Path, size: int = 1) -> AsyncIterator[Pool]:
    pool = Pool("test", size, options(folder), silence_limit_s=30)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


class Parts:
    """A waiter that keeps every frame, and pauses its replica while it is told to."""

    def __init__(self) -> None:
        self.has_left = False
        self.parts: list[Answer] = []
        self.feed: Feed | None = None
        self.has_room = True
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def continued(self, block: Block, part: Answer, feed: Feed) -> None:
        self.parts.append(part)
        self.feed = feed
        if not self.has_room:
            feed.pause()

    def answered(self, block: Block, answer: Answer) -> None:
        self.done.set_result(answer)

    def failed(self, block: Block, error: EngineError) -> None:
        self.done.set_exception(error)


def block_for(waiter: Any, name: str, *, max_deaths: int = 1, time_limit_s: float = 30, **arguments: object) -> Block:
    return Block(task(name, max_deaths=max_deaths, time_limit_s=time_limit_s), Lane.INTERACTIVE, waiter, arguments)


async def counted(pool: Pool, **arguments: object) -> Parts:
    """The frames of one long answer."""
    waiter = Parts()
    pool.submit(block_for(waiter, "count", **{"part_bytes": 10, **arguments}))
    async with asyncio.timeout(30):
        await waiter.done
    return waiter


def spill(folder: Path) -> Spill:
    made = Spill(folder / "spill", Disk(folder, reserve_bytes=0), limit_bytes=1 << 30, total_limit_bytes=1 << 30)
    made.clean()
    return made


# Several frames


async def test_a_task_that_yields_answers_in_several_frames_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        waiter = await counted(pool, parts=3)
        assert [part.header["number"] for part in waiter.parts] == [0, 1, 2]
        assert [len(part.payload) for part in waiter.parts] == [10, 10, 10]
        last = waiter.done.result()
        assert (last.header["count"], bytes(last.payload)) == (3, b"last\n")
        assert (await counted(pool, parts=0)).parts == [], "one frame is an answer, too"


async def test_a_replica_that_waits_for_its_reader_is_not_over_its_time_limit(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        waiter = Parts()
        waiter.has_room = False
        block = block_for(waiter, "count", parts=40, part_bytes=MIB, time_limit_s=0.3)
        pool.submit(block)
        await until(lambda: bool(waiter.parts))
        [replica] = pool.replicas
        pool._look(time.monotonic() + 100)
        assert not waiter.done.done()
        assert len(waiter.parts) < 40, "a replica that is not read waits"
        assert waiter.feed
        waiter.has_room = True
        waiter.feed.resume()
        await asyncio.wait_for(waiter.done, 30)
        assert pool.replicas == [replica]


@pytest.mark.parametrize("end", ["raise", "die"])
async def test_an_answer_that_has_begun_is_never_begun_again(tmp_path: Path, end: str) -> None:
    async with running(tmp_path) as pool:
        waiter = Parts()
        pool.submit(block_for(waiter, "count", parts=2, part_bytes=10, end=end, max_deaths=5))
        with pytest.raises(TaskFailed) as caught:
            await asyncio.wait_for(waiter.done, 30)
        assert len(waiter.parts) == 2
        assert caught.value.is_lost is (end == "die")


async def test_a_waiter_for_one_frame_hears_of_a_bug_and_not_of_half_an_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        call = Call()
        pool.submit(block_for(call, "count", parts=2, part_bytes=10))
        with pytest.raises(TaskFailed):
            await asyncio.wait_for(call.future, 30)


# Progress


async def progress_of(pool: Pool, waiter: Any, **arguments: object) -> Block:
    block = block_for(waiter, "tell", **{"max_deaths": 1, **arguments})
    pool.submit(block)
    return block


async def test_progress_is_no_part_of_the_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        seen: list[int] = []
        call = WatchedCall(lambda header: seen.append(header["progress"]["Done"]))
        await progress_of(pool, call, steps=3)
        assert (await asyncio.wait_for(call.future, 30)).header["text"] == "told"
        assert seen == [0, 1, 2]
        call = Call()
        await progress_of(pool, call, steps=3)
        assert (await asyncio.wait_for(call.future, 30)).header["text"] == "told", "one who does not ask for it hears nothing"


async def test_work_that_has_told_its_progress_may_begin_again_after_a_death(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        seen: list[int] = []
        call = WatchedCall(lambda header: seen.append(header["progress"]["Done"]))
        await progress_of(pool, call, steps=2, end="die", mark=str(tmp_path / "mark"), max_deaths=2)
        await asyncio.wait_for(call.future, 30)
        assert seen == [0, 1, 0, 1]


async def test_progress_that_cannot_be_taken_costs_neither_the_replica_nor_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as pool:
        call = WatchedCall(lambda header: header["missing"])
        await progress_of(pool, call, steps=2)
        assert (await asyncio.wait_for(call.future, 30)).header["text"] == "told"
        assert "progress not taken task=tell" in caplog.text


async def test_progress_is_a_sign_of_life_and_does_not_lengthen_the_time_limit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    async with running(tmp_path) as pool:
        seen: list[int] = []
        call = WatchedCall(lambda header: seen.append(header["progress"]["Done"]))
        began = time.monotonic()
        await progress_of(pool, call, steps=1, gate=str(tmp_path / "gate"), time_limit_s=3600)
        await until(lambda: bool(seen))
        [replica] = pool.replicas
        batch = replica.working_on
        assert batch is not None
        assert replica.heard_at > batch.sent_at >= began
        pool._look(batch.sent_at + 3601)
        with pytest.raises(TaskFailed) as caught:
            await asyncio.wait_for(call.future, 30)
        assert caught.value.is_timeout


# A reader who is slow


async def test_a_reader_gets_what_a_replica_sends_and_no_more_is_in_memory_than_it_should(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        outbox = spill(tmp_path).outbox("one")
        flow = Flow(outbox)
        pool.submit(block_for(flow, "count", parts=30, part_bytes=MIB))
        taken, most = 0, 0
        regulator = asyncio.create_task(flow.regulate(lambda: taken))
        try:
            async with asyncio.timeout(30):
                assert (await flow.begun)["number"] == 0
                while (piece := await flow.get()) is not None:
                    most = max(most, outbox.waiting_bytes)
                    taken += len(piece)
        finally:
            regulator.cancel()
        assert taken == 30 * MIB + len(b"last\n")
        assert most <= MEMORY_LIMIT_BYTES + 2 * MIB
        assert not outbox.is_spilling
        assert (flow.last or {})["count"] == 30


async def test_a_reader_who_takes_nothing_holds_no_replica(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        outbox = spill(tmp_path).outbox("one")
        flow = Flow(outbox)
        pool.submit(block_for(flow, "count", parts=30, part_bytes=MIB))
        regulator = asyncio.create_task(flow.regulate(lambda: 0))
        try:
            async with asyncio.timeout(30):
                await counted(pool, parts=1)  # after the long answer, by the only replica
            assert outbox.spilled_bytes > 20 * MIB
            assert outbox.waiting_bytes <= 4 * MIB
            read = 0
            while (piece := await flow.get()) is not None:
                read += len(piece)
            assert read == 30 * MIB + len(b"last\n")
        finally:
            regulator.cancel()
            await flow.discard()
        assert list((tmp_path / "spill").iterdir()) == []


async def test_a_reader_who_leaves_lets_the_replica_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        flow = Flow(spill(tmp_path).outbox("one"))
        block = block_for(flow, "count", parts=1000, part_bytes=MIB)
        pool.submit(block)
        await until(lambda: any(replica.is_paused for replica in pool.replicas))
        [replica] = pool.replicas
        await flow.discard()
        pool.stop_work(block)
        async with asyncio.timeout(30):
            await counted(pool, parts=1)
        assert not replica.is_paused


async def test_a_flow_whose_task_fails_before_its_first_frame_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        flow = Flow(spill(tmp_path).outbox("one"))
        pool.submit(block_for(flow, "fail"))
        with pytest.raises(TaskFailed):
            await asyncio.wait_for(flow.begun, 30)


# Stopping


async def begun(pool: Pool, mark: Path, *, hears: bool = True, name: str = "wait") -> tuple[Block, Call]:
    """Work that never ends, in a replica."""
    call = Call()
    block = block_for(call, name, mark=str(mark), hears=hears)
    pool.submit(block)
    await until(mark.exists)
    return block, call


@pytest.mark.parametrize("name", ["wait", "deaf", "raising"])
async def test_work_that_nobody_wants_is_stopped_and_the_replica_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("engine.replicas.pool.STOP_GRACE_S", 30.0)  # a replica that was not asked to stop would work for ever
    async with running(tmp_path) as pool:
        block, call = await begun(pool, tmp_path / "mark", name=name)
        [replica] = pool.replicas
        call.future.cancel()
        pool.stop_work(block)
        async with asyncio.timeout(20):
            await pool.run(task("swap"), {})
        assert pool.replicas == [replica]


async def test_work_that_does_not_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        block, call = await begun(pool, tmp_path / "mark", hears=False)
        [replica] = pool.replicas
        call.future.cancel()
        pool.stop_work(block)
        await asyncio.wait_for(replica.gone(), 30)
        async with asyncio.timeout(30):
            await pool.run(task("swap"), {})
        assert pool.replicas != [replica]


async def test_a_block_that_waits_is_dropped_and_the_work_before_it_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        working, working_call = await begun(pool, tmp_path / "mark")
        call = Call()
        waiting = block_for(call, "wait", mark=str(tmp_path / "other"), hears=True)
        pool.submit(waiting)
        call.future.cancel()
        pool.stop_work(waiting)
        await asyncio.sleep(0.1)
        [replica] = pool.replicas
        assert replica.working_on is not None
        assert replica.working_on.blocks == [working]
        working_call.future.cancel()
        pool.stop_work(working)
        async with asyncio.timeout(30):
            await pool.run(task("swap"), {})
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["once", "early"])
async def test_work_that_a_late_signal_stopped_is_done_again(tmp_path: Path, name: str) -> None:
    async with running(tmp_path) as pool:
        async with asyncio.timeout(30):
            await pool.run(task(name), {"mark": str(tmp_path / "mark")})
        [replica] = pool.replicas
        assert replica.answers_given == 2


# What a pool knows


async def test_a_task_takes_buffers_and_gives_bytes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, asyncio.timeout(30):
        answer = await pool.run(task("swap"), {}, [b"ab", bytearray(b"c"), memoryview(b"def")])
    assert bytes(answer.payload) == b"defabc"


async def test_replicas_have_the_environment_and_the_niceness_of_their_pool(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, asyncio.timeout(30):
        answer = await pool.run(task("look"), {"names": ["KNOWN_ONLY_HERE"]})
    assert answer.header["environment"] == {"KNOWN_ONLY_HERE": "yes"}
    assert answer.header["niceness"] >= 3


@pytest.mark.parametrize(("name", "is_lost"), [("die", True), ("fail", False)])
async def test_who_waits_can_tell_a_death_from_a_failure(tmp_path: Path, name: str, *, is_lost: bool) -> None:
    async with running(tmp_path) as pool:
        with pytest.raises(TaskFailed) as caught:
            await asyncio.wait_for(pool.run(task(name), {}), 30)
    assert (caught.value.is_lost, caught.value.is_timeout) == (is_lost, False)


async def test_a_lazy_pool_starts_all_its_replicas_when_it_is_told_to_fill_up(tmp_path: Path) -> None:
    pool = Pool("test", 2, replace(options(tmp_path), is_lazy=True), silence_limit_s=30)
    await pool.start()
    try:
        assert pool.num_started == 0
        pool.fill()
        pool.fill()
        await until(lambda: len(pool.replicas) == 2)
        assert pool.num_started == 2
    finally:
        await pool.stop()


async def test_the_work_of_one_user_leaves_a_replica_for_others(tmp_path: Path) -> None:
    """Three blocks of ann's that never end take two replicas, and the third replica starts for bob."""
    pool = Pool("test", 3, replace(options(tmp_path), is_lazy=True, max_per_user=2), silence_limit_s=30)
    await pool.start()
    mark = tmp_path / "mark"
    arguments = {"mark": str(mark), "hears": False}
    anns = [asyncio.create_task(pool.run(task("wait"), arguments, user="ann")) for _ in range(3)]
    try:
        await until(lambda: mark.exists() and mark.read_text() == "begun\n" * 2)
        assert pool.num_started == 2
        async with asyncio.timeout(30):
            await pool.run(task("swap"), {}, user="bob")
        assert pool.num_started == 3
        assert mark.read_text() == "begun\n" * 2, "the third of ann's still waits"
        for _ in range(3):
            for replica in [one for one in pool.replicas if one.working_on is not None]:
                replica.kill()
            async with asyncio.timeout(30):
                await pool.run(task("swap"), {}, user="bob")
        answered = [one for one in pool.replicas if one.answers_given == 4]
        assert len(answered) == 1, "one replica has answered bob each time, and ann has not had it, although hers died"
    finally:
        await pool.stop()
        await asyncio.gather(*anns, return_exceptions=True)
