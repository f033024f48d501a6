"""Runners take jobs, replicas do them, and one transaction ends each. Real child processes and real SQLite."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import metrics
from engine.jobs import JobKind, JobOptions, Jobs, Outcome, Work, job_key
from engine.replicas.blocks import Answer
from engine.replicas.pool import Pool
from engine.store import JobRow, JobStatus, Store, Subject, Transaction
from tests.engine.jobs.kinds import PASS_GATE, add, commit, gate, kind, open_gate, results, table, try_gate
from tests.engine.replicas.families import options, task

# Kinds that ask no replica end as soon as they are taken.
NOTHING = kind("nothing", None)
GATED = kind("gated", PASS_GATE)
ALL: tuple[JobStatus, ...] = ("waiting", "started", "success", "error", "cancelled")


@dataclass
class Open:
    """What a test has open."""

    store: Store
    pool: Pool
    jobs: Jobs
    kinds: dict[str, JobKind]

    async def rows(self) -> list[JobRow]:
        return await self.store.list_jobs(self.kinds, ALL)

    async def over(self, number: int = 1) -> list[JobRow]:
        """Wait until this many jobs are over; all rows."""
        rows: list[JobRow] = []

        async def look() -> bool:
            rows[:] = await self.rows()
            return sum(row.finished_at is not None for row in rows) >= number

        await until(look)
        return rows


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so: the database tells nobody."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def begun(arguments: dict[str, str], number: int = 1) -> None:
    """Wait until a task at a gate has begun this often."""

    async def look() -> bool:
        return num_begun(arguments) >= number

    await until(look)


def num_begun(arguments: dict[str, str]) -> int:
    mark = Path(arguments["mark"])
    return len(mark.read_text().splitlines()) if mark.exists() else 0


@asynccontextmanager
async def working(
    folder: Path, *kinds: JobKind, runners: int = 1, size: int = 2, is_started: bool = True, **changes: Any
) -> AsyncIterator[Open]:
    """Jobs that look for those of other processes once an hour, unless the changes of the options say otherwise."""
    store = await Store.open(folder / "sluice.db")
    pool = Pool("test", size, options(folder), silence_limit_s=30)
    jobs = Jobs(store, pool, table(*kinds), JobOptions(runners, **{"sleep_s": 3600, "most_quick": 2, **changes}))
    try:
        await pool.start()
        if is_started:
            await jobs.start()
        yield Open(store, pool, jobs, dict(table(*kinds)))
    finally:
        await jobs.stop()
        await pool.stop()
        await store.close()


# One job


async def test_a_job_is_taken_done_by_a_replica_and_ended_with_what_its_kind_writes(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED) as all:
        await add(all.store, all.jobs, "gated", "glue", **arguments)
        await begun(arguments)
        [row] = await all.rows()
        assert (row.status, row.worker, row.attempts, row.finished_at) == ("started", "server", 1, None)
        open_gate(arguments, "content")
        [row] = await all.over()
        assert (row.status, row.error) == ("success", None)
        assert str(row.created_at) <= str(row.started_at) <= str(row.finished_at)
        assert await results(all.store) == [(row.id, 1, '"content"')]


async def test_a_kind_may_ask_several_tasks_in_turn_and_commits_the_last_answer(tmp_path: Path) -> None:
    async def begin(job: JobRow) -> Work:
        async def then(answer: Answer) -> Work:
            return Work(task("swap"), {}, [bytes(answer.payload)])

        return Work(task("swap"), {}, [b"ab", b"cd"], then)

    seen: list[bytes] = []

    async def end(transaction: Transaction, job: JobRow, outcome: Outcome) -> None:
        assert isinstance(outcome, Answer)
        seen.append(bytes(outcome.payload))

    async with working(tmp_path, JobKind("steps", "quick", begin, end)) as all:
        await add(all.store, all.jobs, "steps", "glue")
        await all.over()
    assert seen == [b"abcd"]


async def test_a_kind_hears_of_progress_and_removes_what_its_task_has_left_before_its_end_is_written(tmp_path: Path) -> None:
    seen: list[object] = []

    async def end() -> None:
        seen.append("removed")

    async def begin(job: JobRow) -> Work:
        return Work(task("tell"), {"steps": 2}, on_progress=lambda header: seen.append(header["progress"]["Done"]), end=end)

    async def commit_seen(transaction: Transaction, job: JobRow, outcome: Outcome) -> None:
        seen.append("written")

    async with working(tmp_path, JobKind("steps", "quick", begin, commit_seen)) as all:
        await add(all.store, all.jobs, "steps", "glue")
        await all.over()
    assert seen == [0, 1, "removed", "written"]


async def test_what_a_task_has_left_is_removed_also_when_its_job_is_cancelled(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    seen: list[str] = []
    removed = asyncio.Event()

    async def end() -> None:
        seen.append("removed")
        removed.set()

    async def begin(job: JobRow) -> Work:
        return Work(PASS_GATE, arguments, end=end)

    async def commit_seen(transaction: Transaction, job: JobRow, outcome: Outcome) -> None:
        seen.append("written")

    async with working(tmp_path, JobKind("steps", "quick", begin, commit_seen)) as all:
        await add(all.store, all.jobs, "steps", "glue")
        await begun(arguments)
        async with all.store.transaction() as transaction:
            await all.jobs.cancel(transaction, ["started"], ["steps"])
        await asyncio.wait_for(removed.wait(), 30)
    assert seen == ["removed"]


async def test_an_attempt_of_which_nothing_is_kept_is_discarded_also_when_its_answer_came_too_late(tmp_path: Path) -> None:
    """The job is cancelled when its replica has answered and nothing is written yet; before `left` returns, all of it is gone."""
    seen: list[object] = []

    async def cancel() -> None:
        async with all.store.transaction() as transaction:
            await all.jobs.cancel(transaction, ["started"], ["late"])
        seen.append("answered")

    async def begin(job: JobRow) -> Work:
        return Work(task("swap"), {}, end=cancel)

    async def commit_seen(transaction: Transaction, job: JobRow, outcome: Outcome) -> None:
        seen.append("written")

    async def discard(job: JobRow) -> None:
        seen.append(job.attempts)

    kinds = JobKind("late", "quick", begin, commit_seen, discard), JobKind("kept", "quick", _nothing, commit_seen, discard)
    async with working(tmp_path, *kinds) as all:
        await add(all.store, all.jobs, "late", "glue")
        await all.over()
        await all.jobs.left(job_key("late", "glue"))
        assert seen == ["answered", 1]
        await add(all.store, all.jobs, "kept", "glue")
        await all.over(2)
        await all.jobs.left(job_key("kept", "glue"))
    assert seen == ["answered", 1, "written"]


async def test_what_a_cancelled_job_removes_is_removed_to_the_end_whatever_else_is_cancelled(tmp_path: Path) -> None:
    """Every cancel lets the process look at all of its jobs, also at those that it has ended already."""
    arguments = gate(tmp_path)
    began, may_go_on, removed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def end() -> None:
        began.set()
        await may_go_on.wait()
        removed.set()

    async def begin(job: JobRow) -> Work:
        return Work(PASS_GATE, arguments, end=end)

    async with working(tmp_path, JobKind("steps", "quick", begin, commit)) as all:
        await add(all.store, all.jobs, "steps", "glue")
        await begun(arguments)
        for kinds in (["steps"], ["another"]):
            async with all.store.transaction() as transaction:
                await all.jobs.cancel(transaction, ["started"], kinds)
            await asyncio.wait_for(began.wait(), 30)
        await all.jobs._beat()
        may_go_on.set()
        await all.jobs.left(job_key("steps", "glue"))
    assert removed.is_set()


async def _nothing(job: JobRow) -> None:
    """What a kind asks that asks no replica."""


async def test_an_update_during_a_run_is_run_once_more_and_sees_what_is_new(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED) as all:
        await add(all.store, all.jobs, "gated", "glue", **arguments)
        await begun(arguments)
        for _ in range(3):
            await add(all.store, all.jobs, "gated", "glue", **arguments)
        open_gate(arguments, "old")
        await begun(arguments, 2)
        open_gate(arguments, "new")
        rows = await all.over(2)
        assert [row.status for row in rows] == ["success", "success"]
        assert [text for _, _, text in await results(all.store)] == ['"old"', '"new"']


async def test_a_kind_that_says_so_makes_an_error_of_an_answer(tmp_path: Path) -> None:
    async def nothing(job: JobRow) -> None:
        return None

    async def refuse(transaction: Transaction, job: JobRow, outcome: Outcome) -> str:
        return "no such dataset"

    async with working(tmp_path, JobKind("strict", "quick", nothing, refuse)) as all:
        await add(all.store, all.jobs, "strict", "glue")
        [row] = await all.over()
        assert (row.status, row.error) == ("error", "no such dataset")


# Failures


async def test_a_job_that_kills_its_replica_is_an_error_after_three_attempts_and_others_go_on(tmp_path: Path) -> None:
    async with working(tmp_path, kind("deadly", task("die")), NOTHING) as all:
        await add(all.store, all.jobs, "deadly", "bad")
        await add(all.store, all.jobs, "nothing", "good")
        rows = {row.kind: row for row in await all.over(2)}
        assert (rows["nothing"].status, rows["deadly"].status) == ("success", "error")
        assert rows["deadly"].attempts == 3
        assert (rows["deadly"].id, 3, "died") in await results(all.store)


async def test_a_job_over_its_memory_is_an_error_at_once_and_its_replica_goes_on(tmp_path: Path) -> None:
    mib = 1 << 20
    async with working(tmp_path, kind("large", task("grow", memory_bytes=64 * mib)), size=1) as all:
        await add(all.store, all.jobs, "large", "small", bytes=16 * mib)
        await add(all.store, all.jobs, "large", "big", bytes=256 * mib)
        rows = {row.party: row for row in await all.over(2)}
        assert (rows["small"].status, rows["big"].status, rows["big"].attempts) == ("success", "error", 1)
        assert str(rows["big"].error).startswith("memory: MemoryError")
        [replica] = all.pool.replicas
        assert replica.answers_given == 2


async def test_a_job_over_its_time_is_an_error_at_once(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, kind("slow", task("pass_gate", time_limit_s=0.2))) as all:
        await add(all.store, all.jobs, "slow", "glue", **arguments)
        [row] = await all.over()
        assert (row.status, row.attempts, row.error) == ("error", 1, "time")


async def test_what_a_task_raises_is_kept_with_its_class_its_text_and_where_it_was(tmp_path: Path) -> None:
    told: list[Any] = []

    async def end(transaction: Transaction, job: JobRow, outcome: Outcome) -> None:
        told.append(outcome)

    failing = kind("failing", task("fail"))
    async with working(tmp_path, JobKind("failing", "quick", failing.work, end)) as all:
        await add(all.store, all.jobs, "failing", "glue")
        [row] = await all.over()
    assert (row.status, row.error, row.attempts) == ("error", "failed: LookupError: a bug", 1)
    [failure] = told
    assert (failure.reason, failure.class_name, failure.text) == ("failed", "LookupError", "a bug")
    assert "in fail" in failure.traceback[-1]
    assert not [line for line in failure.traceback if 'File "/' in line and str(tmp_path) not in line]


@pytest.mark.parametrize("where", ["work", "commit", "always"])
async def test_a_bug_in_a_kind_is_an_error_of_its_job_and_costs_no_runner(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(job: JobRow) -> None:
        if where == "work":
            raise KeyError("no such thing")

    async def end(transaction: Transaction, job: JobRow, outcome: Outcome) -> str | None:
        said = await commit(transaction, job, outcome)
        if where == "always" or (where == "commit" and isinstance(outcome, Answer)):
            raise KeyError("no such thing")
        return said

    async with working(tmp_path, JobKind("buggy", "quick", work, end), NOTHING) as all:
        await add(all.store, all.jobs, "buggy", "glue")
        await add(all.store, all.jobs, "nothing", "glue")
        rows = {row.kind: row for row in await all.over(2)}
        assert (rows["buggy"].status, rows["nothing"].status) == ("error", "success")
        assert str(rows["buggy"].error).startswith("failed: KeyError")
        written = [text for job, _, text in await results(all.store) if job == rows["buggy"].id]
        assert len(written) == (0 if where == "always" else 1), "a commit that raises leaves nothing of what it wrote"
    assert "KeyError" in caplog.text


# Runners


async def test_with_two_runners_one_takes_quick_jobs_only(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, kind("fit", PASS_GATE, job_class="slow"), NOTHING, runners=2) as all:
        await add(all.store, all.jobs, "fit", "a", "b", **arguments)
        await begun(arguments)
        await add(all.store, all.jobs, "nothing", "c")
        assert sorted(row.status for row in await all.over(1)) == ["started", "success", "waiting"]
        assert num_begun(arguments) == 1
        open_gate(arguments)
        await begun(arguments, 2)
        open_gate(arguments)
        await all.over(3)


async def test_one_runner_alternates_between_quick_and_slow_jobs(tmp_path: Path) -> None:
    async with working(tmp_path, NOTHING, kind("fit", None, job_class="slow"), most_quick=9, is_started=False) as all:
        await add(all.store, all.jobs, "nothing", *"abcd")
        await add(all.store, all.jobs, "fit", *"abcd")
        await all.jobs.start()
        await all.over(8)
        order = {job: text for job, _, text in await results(all.store)}
        kinds = {row.id: row.kind for row in await all.rows()}
        assert [kinds[job] for job in order] == ["nothing", "fit"] * 4


@pytest.mark.parametrize("most", [1, 2])
async def test_a_party_never_has_more_jobs_started_than_the_setting_says(tmp_path: Path, most: int) -> None:
    arguments = gate(tmp_path)
    kinds = (kind("one", PASS_GATE), kind("two", PASS_GATE), kind("three", PASS_GATE))
    async with working(tmp_path, *kinds, runners=3, size=3, most_quick=most) as all:
        for one in kinds:
            await add(all.store, all.jobs, one.name, "glue", **arguments)
        await begun(arguments, most)

        async def are_over() -> bool:
            rows = await all.rows()
            assert sum(row.status == "started" for row in rows) <= most
            try_gate(arguments)
            return all_over(rows)

        await until(are_over)


def all_over(rows: list[JobRow]) -> bool:
    return None not in {row.finished_at for row in rows}


async def test_an_idle_runner_finds_what_another_process_has_added(tmp_path: Path) -> None:
    async with working(tmp_path, NOTHING, sleep_s=0.05) as all, working(tmp_path, NOTHING, is_started=False) as other:
        await add(other.store, other.jobs, "nothing", "glue")
        assert [row.status for row in await all.over()] == ["success"]


async def test_a_closed_gate_lets_nothing_be_taken(tmp_path: Path) -> None:
    is_open = False
    async with working(tmp_path, NOTHING, is_open=lambda: is_open) as all:
        await add(all.store, all.jobs, "nothing", "glue")
        await asyncio.sleep(0.1)  # what must not happen tells nobody
        assert [row.status for row in await all.rows()] == ["waiting"]
        is_open = True
        all.jobs.wake()
        assert [row.status for row in await all.over()] == ["success"]


# Cancelled and overtaken


async def test_a_started_job_that_is_cancelled_loses_its_replica_and_writes_nothing(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED, NOTHING, size=1) as all:
        await add(all.store, all.jobs, "gated", "glue", **arguments)
        await begun(arguments)
        [replica] = all.pool.replicas
        async with all.store.transaction() as transaction:
            assert await all.jobs.cancel(transaction, ["waiting", "started"], all.kinds, Subject("glue")) == 1
        await asyncio.wait_for(replica.gone(), 30)
        await add(all.store, all.jobs, "nothing", "glue")
        assert [row.status for row in await all.over(2)] == ["cancelled", "success"]
        assert len(await results(all.store)) == 1


async def test_the_next_beat_finds_what_another_process_has_cancelled(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED, beat_s=0.05) as all, working(tmp_path, GATED, is_started=False) as other:
        await add(all.store, all.jobs, "gated", "glue", **arguments)
        await begun(arguments)
        [replica] = [one for one in all.pool.replicas if one.working_on]
        async with other.store.transaction() as transaction:
            await other.jobs.cancel(transaction, ["started"], ["gated"])
        await asyncio.wait_for(replica.gone(), 30)
    async with working(tmp_path, GATED, is_started=False) as all:
        assert await results(all.store) == []


async def test_a_job_of_a_process_that_is_silent_is_taken_by_another_and_its_late_answer_changes_nothing(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED, worker="stopped", beat_s=3600) as stopped:
        await add(stopped.store, stopped.jobs, "gated", "glue", **arguments)
        await begun(arguments)
        async with working(tmp_path, GATED, worker="other", beat_s=0.05, silent_s=0.1) as other:
            await begun(arguments, 2)
            [row] = await other.rows()
            assert (row.worker, row.attempts) == ("other", 2)

            async def is_over() -> bool:
                try_gate(arguments)  # both are at the gate, and the stopped one passes it, too
                return (await other.rows())[0].finished_at is not None

            await until(is_over)
    async with working(tmp_path, GATED, is_started=False) as all:
        [(_, attempt, _)] = await results(all.store)
        assert attempt == 2


async def test_a_job_that_was_abandoned_three_times_is_an_error_that_its_kind_hears_of(tmp_path: Path) -> None:
    async with working(tmp_path, NOTHING, worker="dead", is_started=False) as dead:
        await add(dead.store, dead.jobs, "nothing", "glue")
        for _ in range(3):
            job = await dead.store.take_job("dead", ["nothing"], beside=["nothing"], most=1)
            assert job is not None
            if job.attempts < 3:
                await dead.store.give_back_job(job, is_counted=True)
    async with working(tmp_path, NOTHING, beat_s=0.02, silent_s=0) as all:
        [row] = await all.over()
        assert (row.status, row.error) == ("error", "died")
        assert await results(all.store) == [(row.id, 3, "died")]


# Start and stop


async def test_a_server_takes_back_at_its_start_what_it_had_started(tmp_path: Path) -> None:
    async with working(tmp_path, NOTHING, is_started=False) as killed:
        await add(killed.store, killed.jobs, "nothing", "glue")
        assert await killed.store.take_job("server", ["nothing"], beside=["nothing"], most=1)
    async with working(tmp_path, NOTHING) as all:
        [row] = await all.over()
        assert (row.status, row.attempts) == ("success", 2)


async def test_a_stop_gives_back_what_is_not_done_and_does_not_count_the_attempt(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED) as all:
        await add(all.store, all.jobs, "gated", "glue", "squad", **arguments)
        await begun(arguments)
        await asyncio.wait_for(all.jobs.stop(0.05), 10)
        assert sorted((row.status, row.attempts) for row in await all.rows()) == [("waiting", 0), ("waiting", 0)]


async def test_a_stop_lets_a_job_end_that_ends_soon_and_takes_no_other(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED) as all:
        await add(all.store, all.jobs, "gated", "glue", "squad", **arguments)
        await begun(arguments)
        stopping = asyncio.create_task(all.jobs.stop(30))
        open_gate(arguments)
        await asyncio.wait_for(stopping, 30)
        assert sorted(row.status for row in await all.rows()) == ["success", "waiting"]


async def test_a_pool_that_stops_first_gives_its_job_back(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with working(tmp_path, GATED) as all:
        await add(all.store, all.jobs, "gated", "glue", **arguments)
        await begun(arguments)
        stopping = asyncio.create_task(all.jobs.stop(5))
        await all.pool.stop()
        await stopping
        [row] = await all.rows()
        assert row.status == "waiting"


# How things are


async def test_jobs_are_counted_for_the_metrics(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    done = metrics.JOBS_ENDED.labels("gated", "success")
    before = done._value.get()
    async with working(tmp_path, GATED) as all:
        await add(all.store, all.jobs, "gated", "glue", "squad", **arguments)
        await begun(arguments)
        await all.jobs.count()
        assert all.jobs.levels() == {metrics.JOBS: {("gated", "waiting"): 1, ("gated", "started"): 1}}
        open_gate(arguments)
        await begun(arguments, 2)
        open_gate(arguments)
        await all.over(2)
        await until_equal(lambda: done._value.get() - before, 2)


async def until_equal(read: Callable[[], float], wanted: float) -> None:
    async def look() -> bool:
        return read() == wanted

    await until(look)
