"""A pool keeps its replicas alive and busy, and does with a block that comes back what its task says. Real child processes."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.errors import EngineError, TaskFailed
from engine.replicas.blocks import Answer, Block, Call, Lane, ServedModel, Task
from engine.replicas.lines import Lines
from engine.replicas.pool import Pool
from engine.replicas.replica import DEFAULT_OPTIONS, ReplicaOptions
from tests.streaming import graphs

SCORE = Task("score", family="scoring", pool="test", time_limit_s=30, max_deaths=2, is_divisible=True)
OPTIONS = {"times": "iso", "bulk_id": "b"}
KILLS = {"divisor": -1}
WORKS = {"divisor": 1}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.write_all(tmp_path_factory.mktemp("data"))


def model(data_dir: Path, name: str) -> ServedModel:
    folder = data_dir / "models" / "tester" / name
    config = json.loads((folder / "config.json").read_text())
    key = f"tester/{name}@1"
    load = {"family": "scoring", "task": "load", "model": key, "folder": str(folder / "1"), "config": config}
    return ServedModel(key, f"tester/{name}", name, 1, load, max_batch_size=64)


def refusal(block: Block) -> dict[str, object]:
    return {"refuse": "timeout" if block.is_timeout else "model_failed", "reason": "it was the only one left"}


@asynccontextmanager
async def running(size: int = 1, options: ReplicaOptions = DEFAULT_OPTIONS, *, silence_limit_s: float = 30) -> AsyncIterator[Pool]:
    pool = Pool("test", size, options, silence_limit_s=silence_limit_s)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def until(condition: Callable[[], bool]) -> None:
    """A pool has no event for what only tests look at."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def one(task: Task, served: ServedModel, record: dict[str, int]) -> tuple[Block, Call]:
    call = Call()
    return Block(task, Lane.INTERACTIVE, call, {}, Lines.of_body(json.dumps(record).encode()), served), call


async def scored(pool: Pool, task: Task, served: ServedModel, record: dict[str, int]) -> Answer:
    block, call = one(task, served, record)
    pool.submit(block)
    async with asyncio.timeout(30):
        return await call.future


class ManyLines:
    """A source of one block of several lines, and the one who waits for it."""

    def __init__(self, task: Task, served: ServedModel, records: list[dict[str, int]]) -> None:
        self.model = served
        self.has_left = False
        self.waiting_since = 0.0
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        lines = Lines([raw], len(records), len(raw), first_line=1)
        self._block: Block | None = Block(task, Lane.BULK, self, OPTIONS, lines, served)

    @property
    def num_waiting(self) -> int:
        return 1 if self._block else 0

    def take(self, size: int) -> Block:
        assert self._block is not None
        block, self._block = self._block, None
        return block

    def answered(self, block: Block, answer: Answer) -> None:
        self.done.set_result(answer)

    def failed(self, block: Block, error: EngineError) -> None:
        self.done.set_exception(error)

    def abandon(self, error: EngineError) -> None:
        self.done.set_exception(error)


async def streamed(pool: Pool, source: ManyLines) -> list[dict[str, object]]:
    async with asyncio.timeout(60), pool.offered(source):
        answer = await source.done
    return [json.loads(line) for line in bytes(answer.payload).splitlines()]


# Life


async def test_a_replica_that_is_killed_is_replaced_and_its_work_is_done_by_the_next(data_dir: Path) -> None:
    async with running() as pool:
        turns = model(data_dir, "turns")
        assert (await scored(pool, SCORE, turns, {"count": 1})).header["code"] is None
        [first] = pool.replicas
        block, call = one(SCORE, turns, {"count": 300_000})
        pool.submit(block)
        await until(lambda: first.working_on is not None)
        assert first.pid
        os.kill(first.pid, signal.SIGKILL)
        assert (await asyncio.wait_for(call.future, 30)).header["code"] is None
        assert block.deaths == 1
        [second] = pool.replicas
        assert second.pid != first.pid


async def test_a_lazy_pool_starts_a_replica_when_work_finds_all_others_taken(data_dir: Path) -> None:
    async with running(2, ReplicaOptions(is_lazy=True)) as pool:
        assert pool.num_started == 0
        turns = model(data_dir, "turns")
        await scored(pool, SCORE, turns, {"count": 1})
        assert pool.num_started == 1
        await scored(pool, SCORE, turns, {"count": 1})
        assert pool.num_started == 1
        await asyncio.gather(*(scored(pool, SCORE, turns, {"count": 100_000}) for _ in range(2)))
        assert pool.num_started == 2


async def test_on_ready_hears_of_a_replica_before_it_gets_work(data_dir: Path) -> None:
    pool = Pool("test", 1, silence_limit_s=30)
    heard: list[int] = []
    pool.on_ready = lambda replica: heard.append(replica.answers_given)
    block, call = one(SCORE, model(data_dir, "turns"), {"count": 1})
    pool.submit(block)
    await pool.start()
    try:
        await asyncio.wait_for(call.future, 30)
    finally:
        await pool.stop()
    assert heard == [0]


async def test_everybody_who_waits_hears_that_the_pool_stops(data_dir: Path) -> None:
    block, call = one(SCORE, model(data_dir, "turns"), {"count": 1})
    source = ManyLines(SCORE, model(data_dir, "turns"), [{"count": 1}])
    async with running(1, ReplicaOptions(is_lazy=True)) as pool:
        pool.scheduler.submit(block)  # without the pool, which would start a replica for it
        pool.scheduler.attach(source)
    for waiting in (call.future, source.done):
        with pytest.raises(EngineError) as caught:
            await waiting
        assert caught.value.code == "shutting_down"


# What a task says


@pytest.mark.parametrize("max_deaths", [1, 3])
async def test_a_block_that_cannot_be_divided_is_given_up_after_the_deaths_of_its_task(data_dir: Path, max_deaths: int) -> None:
    task = Task("score", family="scoring", pool="test", time_limit_s=30, max_deaths=max_deaths)
    async with running() as pool:
        block, call = one(task, model(data_dir, "divide"), KILLS)
        pool.submit(block)
        with pytest.raises(TaskFailed) as caught:
            await asyncio.wait_for(call.future, 30)
    assert block.deaths == max_deaths
    assert not caught.value.is_timeout


async def test_a_block_that_cannot_be_divided_is_given_up_when_its_time_runs_out(data_dir: Path) -> None:
    task = Task("score", family="scoring", pool="test", time_limit_s=0.5, max_deaths=5)
    async with running(silence_limit_s=2) as pool:
        block, call = one(task, model(data_dir, "turns"), {"count": graphs.FOREVER})
        pool.submit(block)
        with pytest.raises(TaskFailed) as caught:
            await asyncio.wait_for(call.future, 30)
        assert caught.value.is_timeout
        assert block.deaths == 1
        other = SCORE, model(data_dir, "turns"), {"count": 1}
        assert (await scored(pool, *other)).header["code"] is None, "the replica was replaced"


async def test_a_divisible_block_is_divided_down_to_the_line_that_kills_which_is_then_refused(data_dir: Path) -> None:
    task = Task("score", family="scoring", pool="test", time_limit_s=30, max_deaths=2, is_divisible=True, refusal=refusal)
    async with running(2) as pool:
        lines = await streamed(pool, ManyLines(task, model(data_dir, "divide"), [WORKS, WORKS, KILLS, WORKS]))
    assert [line.get("code") for line in lines] == [None, None, "model_failed", None]
    assert lines[2]["line"] == 3


async def test_a_divisible_block_whose_last_line_cannot_be_refused_is_given_up(data_dir: Path) -> None:
    async with running(2) as pool:
        with pytest.raises(TaskFailed):
            await streamed(pool, ManyLines(SCORE, model(data_dir, "divide"), [WORKS, KILLS]))


async def test_a_task_that_no_replica_knows_is_given_up_and_costs_no_replica() -> None:
    task = Task("nothing", family="scoring", pool="test", time_limit_s=30, max_deaths=2)
    async with running() as pool:
        await until(lambda: bool(pool.replicas))
        [replica] = pool.replicas
        with pytest.raises(TaskFailed):
            await asyncio.wait_for(pool.run(task, {}), 30)
        assert pool.replicas == [replica]


async def test_work_for_a_model_that_does_not_load_is_refused(data_dir: Path) -> None:
    async with running() as pool:
        with pytest.raises(EngineError) as caught:
            await scored(pool, SCORE, model(data_dir, "broken"), {"x": 1})
        assert caught.value.code == "no_instances"
        assert (await scored(pool, SCORE, model(data_dir, "turns"), {"count": 1})).header["code"] is None
