"""What a replica may do and need: memory of a task, connections, and how long it lives. Real child processes."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import TaskFailed
from engine.replicas.blocks import Answer, Block, Call, Lane, ServedModel
from engine.replicas.pool import Pool
from engine.tasks.yielding import NICENESS
from tests.engine.replicas.families import options, task
from tests.engine.replicas.test_pool import until

MIB = 1024 * 1024
GROW = task("grow", memory_bytes=64 * MIB)
# Its `load` is a task that any replica of these tests can do.
LOAD = {"family": "testing", "task": "look", "names": []}
SUSPECT = ServedModel("eva/suspect@1", "eva/suspect", "suspect", 1, LOAD, max_batch_size=1, is_trusted=False)


@asynccontextmanager
async def running(folder: Path, size: int = 1, **changes: Any) -> AsyncIterator[Pool]:
    pool = Pool("test", size, replace(options(folder), **changes), silence_limit_s=30)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def ran(pool: Pool, name: str, **arguments: Any) -> Answer:
    return await asyncio.wait_for(pool.run(task(name), arguments), 30)


# Memory


async def test_a_task_that_needs_more_memory_than_it_may_fails_for_that_reason_and_costs_no_replica(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        for _ in range(2):
            with pytest.raises(TaskFailed) as caught:
                await asyncio.wait_for(pool.run(GROW, {"bytes": 128 * MIB}), 30)
            assert (caught.value.reason, caught.value.class_name) == ("memory", "MemoryError")
            assert (await asyncio.wait_for(pool.run(GROW, {"bytes": 32 * MIB}), 30)).header["taken"] == 32 * MIB
        [replica] = pool.replicas
        assert replica.answers_given == 4


async def test_the_limit_of_a_task_ends_with_it(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        await asyncio.wait_for(pool.run(GROW, {"bytes": 1}), 30)
        assert (await ran(pool, "grow", bytes=128 * MIB)).header["taken"] == 128 * MIB


async def test_the_limit_of_a_replica_counts_for_a_task_that_may_need_more(tmp_path: Path) -> None:
    async with running(tmp_path, memory_bytes=100 * MIB) as pool:
        generous = task("grow", memory_bytes=1024 * MIB)
        with pytest.raises(TaskFailed) as caught:
            await asyncio.wait_for(pool.run(generous, {"bytes": 128 * MIB}), 30)
        assert caught.value.reason == "memory"


# Failures


@pytest.mark.parametrize(
    ("name", "reason", "class_name", "text"),
    [("die", "died", "", ""), ("fail", "failed", "LookupError", "a bug"), ("absent", "failed", "UnknownTask", None)],
)
async def test_a_failure_says_why(tmp_path: Path, name: str, reason: str, class_name: str, text: str | None) -> None:
    async with running(tmp_path) as pool:
        with pytest.raises(TaskFailed) as caught:
            await ran(pool, name)
    error = caught.value
    assert (error.reason, error.class_name) == (reason, class_name)
    assert text is None or error.text == text
    assert bool(error.traceback) is (reason == "failed")


async def test_a_traceback_names_files_as_python_finds_them(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        with pytest.raises(TaskFailed) as caught:
            await ran(pool, "fail")
    assert [line.split('"')[1] for line in caught.value.traceback] == ["engine/tasks/__main__.py", "families/testing/__init__.py"]


# Connections


async def test_a_confined_replica_opens_no_connection_asks_for_no_name_and_leaves_no_core_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with running(tmp_path, is_confined=True) as pool:
            said = (await ran(pool, "connect", port=port)).header
        assert (said["connect"], said["name"], said["core"]) == ("PermissionError", "PermissionError", 0)
        async with running(tmp_path) as pool:
            said = (await ran(pool, "connect", port=port)).header
        assert (said["connect"], said["name"]) == ("done", "done")


# Priority


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority belongs to the process")
async def test_work_on_a_confined_model_yields_the_cores_and_other_work_does_not(tmp_path: Path) -> None:
    async def nicenesses(pool: Pool) -> list[int]:
        """Those of work on the suspect model, and of other work."""
        found = []
        for model in (SUSPECT, None):
            call = Call()
            pool.submit(Block(task("look"), Lane.INTERACTIVE, call, {"names": ()}, model=model))
            found.append((await asyncio.wait_for(call.future, 30)).header["niceness"])
        return found

    async with running(tmp_path, size=2) as pool:
        pool.knows = lambda key: False
        await until(lambda: len(pool.replicas) == 2)
        own = options(tmp_path).niceness
        assert await nicenesses(pool) == [own, own]
        pool.faults.confine(SUSPECT)
        assert await nicenesses(pool) == [NICENESS, own]
        for old in list(pool.replicas):
            old.kill()
            await until(lambda old=old: old not in pool.replicas and len(pool.replicas) == 2)  # type: ignore[misc]
        assert all(replica.yields for replica in pool.replicas)
        assert await nicenesses(pool) == [NICENESS, own], "they yield while they start, and no longer"
        pool.faults.forget(SUSPECT.key)
        assert await nicenesses(pool) == [own, own]


async def test_a_replica_is_no_member_of_the_group_that_a_terminal_interrupts(tmp_path: Path) -> None:
    """It stays in the session of the server: a kernel with autogroups compares priorities within a session only."""
    async with running(tmp_path) as pool:
        await until(lambda: bool(pool.replicas))
        pid = pool.replicas[0].pid or 0
        assert os.getpgid(pid) == pid
        assert os.getsid(pid) == os.getsid(0)


# Age


async def test_a_replica_that_has_answered_often_enough_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, max_answers=3) as pool:
        pids = []
        for _ in range(4):
            await until(lambda: bool(pool.replicas))
            pids.append(pool.replicas[0].pid)
            await ran(pool, "look", names=[])
        assert pids[0] == pids[1] == pids[2] != pids[3]


async def test_a_replica_that_has_become_large_is_replaced_after_its_answer(tmp_path: Path) -> None:
    async with running(tmp_path, max_resident_bytes=200 * MIB) as pool:
        await ran(pool, "grow", bytes=MIB)
        [small] = pool.replicas
        await ran(pool, "keep", bytes=256 * MIB)
        assert pool.replicas != [small]
        await ran(pool, "grow", bytes=MIB)
        assert pool.replicas != [small]


async def test_work_that_waits_when_a_replica_retires_is_done_by_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, max_answers=2) as pool:
        answers = await asyncio.gather(*(ran(pool, "look", names=[]) for _ in range(9)))
        assert len(answers) == 9


# Abandoned


async def test_a_block_that_is_abandoned_loses_its_replica_at_once_and_blames_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        call = Call()
        block = Block(task("wait"), Lane.INTERACTIVE, call, {"mark": str(tmp_path / "mark"), "hears": False})
        pool.submit(block)
        await until((tmp_path / "mark").exists)
        [replica] = pool.replicas
        call.future.cancel()
        pool.abandon(block)
        await asyncio.wait_for(replica.gone(), 10)
        assert (block.deaths, replica.died_under) == (0, None)
        await ran(pool, "look", names=[])


async def test_an_abandoned_block_that_still_waits_costs_no_replica(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        await ran(pool, "look", names=[])
        [replica] = pool.replicas
        call = Call()
        block = Block(task("die"), Lane.INTERACTIVE, call)
        pool.submit(block)
        call.future.cancel()
        pool.abandon(block)
        await ran(pool, "look", names=[])
        assert pool.replicas == [replica]
