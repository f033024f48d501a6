"""The jobs of one process: put into the queue, taken by runners, done by replicas, ended in one transaction, given back at a stop.

Several processes may work on the same queue. Each says every 10 seconds which jobs it still works on. A job that was cancelled, or
that somebody else has taken because this process was silent, is no longer its own: its replica is killed, and its answer, which
names worker and attempt, changes nothing. Knows no kind of job by name, no HTTP and no lock file.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from engine import metrics
from engine.errors import SHUTTING_DOWN, EngineError, TaskFailed
from engine.jobs.kinds import EMPTY_ANSWER, MAX_ATTEMPTS, JobClass, JobFailure, JobKind, Outcome, Work, failure_of
from engine.jobs.runners import Runner
from engine.replicas.blocks import Answer, Block, Call, Lane, WatchedCall
from engine.replicas.lines import Lines
from engine.replicas.pool import Pool
from engine.store import ANYTHING, JobRow, JobStatus, NewJob, Store, StoreError, Subject, Transaction

log = logging.getLogger("sluice.jobs")

# The worker that holds the lock of the data directory.
SERVER = "server"
# Finished jobs are kept this long, and this many of them.
KEEP_S = 7 * 24 * 3600.0
KEEP_JOBS = 100_000
PRUNE_EVERY_S = 3600.0
# Beats between two searches for the jobs of others who are silent.
BEATS_PER_RECLAIM = 3
# What is given back at the stop is written within this time, or found by its silence.
GIVE_BACK_S = 1.5


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How one process works on the queue.

    num_runners  how many jobs it does at once
    sleep_s      about how often an idle runner looks for jobs of other processes
    most_quick   quick jobs of one party that may be started at once; of slow jobs one may
    worker       a name that no other process has, or SERVER
    takes        the names of the kinds that are done here; None means all
    is_open      whether there is load and memory left for another job
    beat_s       how often it says that it works on its jobs
    silent_s     after this silence it takes the jobs of others
    """

    num_runners: int
    sleep_s: float
    most_quick: int
    worker: str = SERVER
    takes: Collection[str] | None = None
    is_open: Callable[[], bool] = lambda: True
    beat_s: float = 10.0
    silent_s: float = 60.0


def job_key(kind: str, *names: str) -> str:
    """The key of a job: at most one of a key waits, and at most one is started. names: dataset, then config and split if any."""
    return "\0".join((kind, *names))


@dataclass(slots=True, eq=False)
class _Running:
    """A job that this process works on.

    over  set once this process has done with it
    """

    job: JobRow
    work: asyncio.Task[Outcome]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    is_cancelled: bool = False

    def cancel(self) -> bool:
        """End the work; False if it is done, or was ended before: a second time would cut off what it removes behind itself."""
        if self.is_cancelled or self.work.done():
            return False
        self.is_cancelled = True
        self.work.cancel()
        return True


class Jobs:
    """`start` comes before anything is done, `stop` at the end. Jobs may be added before and after.

    pool    for the tasks of jobs
    kinds   that share the queue; `learn` adds others, which need this object themselves
    others  pools for tasks that name another one
    """

    def __init__(
        self, store: Store, pool: Pool, kinds: Mapping[str, JobKind], options: JobOptions, others: Iterable[Pool] = ()
    ) -> None:
        self._store = store
        self._pool = pool
        self._others = {other.name: other for other in others}
        self._kinds = dict(kinds)
        self._options = options
        self._worker = options.worker
        self._takes: Collection[str] = ()
        self._running: dict[int, _Running] = {}
        self._runners: list[Runner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._is_stopping = False
        self._pruned_at = -PRUNE_EVERY_S
        self._counts: dict[tuple[str, JobStatus], int] = {}

    # Life

    def learn(self, kinds: Mapping[str, JobKind]) -> None:
        """Share the queue with these kinds too, from the start on."""
        self._kinds |= kinds

    async def start(self) -> None:
        """Take back what a process has left that died, and begin to take jobs."""
        takes = self._options.takes
        self._takes = self._kinds.keys() if takes is None else self._kinds.keys() & takes
        if not self._takes:
            return
        await self._reclaim(self._worker)  # only the server has a name that a process before it had
        num_runners = self._options.num_runners
        for number in range(num_runners):
            classes: tuple[JobClass, ...] = ("quick",) if number == 0 and num_runners > 1 else ("quick", "slow")
            runner = Runner(classes, self._take, self._perform, sleep_s=self._options.sleep_s)
            self._runners.append(runner)
            self._tasks.append(asyncio.create_task(runner.run(), name=f"jobs {number}"))
        self._watcher = asyncio.create_task(self._watch(), name="watch jobs")

    def does(self, kind: str) -> bool:
        """Whether this process takes jobs of a kind, once it has started."""
        return kind in self._takes

    async def stop(self, grace_s: float = 0.0) -> None:
        """Take nothing more, let jobs end for some seconds, and give back those that have not: the attempt is not counted."""
        self._is_stopping = True
        for runner in self._runners:
            runner.stop()
        if self._tasks and grace_s:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for running in self._running.values():
            running.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GIVE_BACK_S)
        tasks = [*self._tasks, *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Jobs come in

    async def add(self, transaction: Transaction, job: NewJob) -> bool:
        """Put a job into the queue, and wake the runners once it is written. False when one of its key waits already."""
        is_new = await self._store.add_job(transaction, job)
        transaction.after_commit(self.wake)
        return is_new

    async def cancel(
        self,
        transaction: Transaction,
        statuses: Collection[JobStatus],
        kinds: Collection[str],
        subject: Subject = ANYTHING,
    ) -> int:
        """Cancel waiting or started jobs; how many. Work on them ends at once here, and in other processes with their next beat."""
        found = await self._store.cancel_jobs(transaction, statuses, kinds, subject)
        transaction.after_commit(self._look.set)
        return found

    async def left(self, key: str) -> None:
        """Wait until this process no longer works on a job of this key, which was cancelled."""
        for running in [running for running in self._running.values() if running.job.key == key]:
            await running.over.wait()

    def wake(self) -> None:
        """There may be something to take."""
        for runner in self._runners:
            runner.wake()

    # Jobs are done

    async def _take(self, job_class: JobClass) -> JobRow | None:
        """Start the next job of a class, if there is one and there is room for it."""
        of_class = {name for name, kind in self._kinds.items() if kind.job_class == job_class}
        taken = of_class.intersection(self._takes)
        if not taken or not self._options.is_open():
            return None
        most = self._options.most_quick if job_class == "quick" else 1
        return await self._store.take_job(self._worker, taken, beside=of_class, most=most)

    async def _perform(self, job: JobRow) -> None:
        """Do a job that this process has started, and end it."""
        began = time.monotonic()
        work = asyncio.create_task(self._outcome(job), name=f"job {job.id}")
        self._running[job.id] = running = _Running(job, work)
        ended = "unwritten"
        try:
            if self._is_stopping:
                running.cancel()
            await asyncio.wait((work,))
            ended = await self._give_back(job, is_counted=False) if work.cancelled() else await self._end(job, work.result())
        finally:
            work.cancel()
            if ended != "success":
                await self._discard(job)
            del self._running[job.id]
            running.over.set()
        seconds = time.monotonic() - began
        metrics.job_ended(job.kind, ended, seconds)
        log.info("job over kind=%s id=%d attempt=%d outcome=%s seconds=%.3f", job.kind, job.id, job.attempts, ended, seconds)

    async def _discard(self, job: JobRow) -> None:
        """Remove what an attempt has left of which nothing is kept."""
        discard = self._kinds[job.kind].discard
        if discard is not None:
            await _ended(functools.partial(discard, job), job)

    async def _outcome(self, job: JobRow) -> Outcome:
        """The answer of a job's last task. Whatever goes wrong is a failure of this job."""
        try:
            return await self._answer(job)
        except EngineError as error:
            if error.code == SHUTTING_DOWN:
                raise asyncio.CancelledError from None  # the pool stops before we do: the job is given back
            return failure_of(error) if isinstance(error, TaskFailed) else _failure_of_pool(error)
        except Exception as error:  # a bug in a kind, which must not cost the runner
            log.exception("job failed kind=%s id=%d", job.kind, job.id)
            return failure_of(error)

    async def _answer(self, job: JobRow) -> Answer:
        """The answer of a job's last task."""
        async with contextlib.AsyncExitStack() as stack:
            work = await self._kinds[job.kind].work(job)
            answer = EMPTY_ANSWER
            while work is not None:
                if work.end is not None:
                    stack.push_async_callback(_ended, work.end, job)
                answer = await self._ask(work)
                work = await work.then(answer) if work.then else None
            return answer

    async def _ask(self, work: Work) -> Answer:
        """The answer of a replica. Who is cancelled meanwhile takes the work from it, which kills it if it does not hear."""
        call = WatchedCall(work.on_progress) if work.on_progress else Call()
        block = Block(work.task, Lane.INTERACTIVE, call, work.arguments, Lines.of_buffers(work.buffers))
        pool = self._others.get(work.task.pool, self._pool)
        pool.submit(block)
        try:
            return await call.future
        except asyncio.CancelledError:
            pool.abandon(block)
            raise

    # Jobs end

    async def _end(self, job: JobRow, outcome: Outcome) -> str:
        """Write what became of a job, or let it wait again after a death. One word for that."""
        if isinstance(outcome, JobFailure):
            log.warning("job without answer kind=%s id=%d attempt=%d reason=%s", job.kind, job.id, job.attempts, outcome.reason)
            if outcome.reason == "died" and job.attempts < MAX_ATTEMPTS:
                return await self._give_back(job, is_counted=True)
        return await self._commit(job, outcome)

    async def _give_back(self, job: JobRow, *, is_counted: bool) -> str:
        is_ours = await self._store.give_back_job(job, is_counted=is_counted)
        self.wake()
        return "returned" if is_ours else "overtaken"

    async def _commit(self, job: JobRow, outcome: Outcome) -> str:
        """Write an outcome; what cannot be written because of a bug becomes a failure, so that no job is taken again for ever."""
        try:
            return await self._write(job, outcome)
        except StoreError:
            raise
        except Exception as error:  # a bug in a kind
            log.exception("outcome not written kind=%s id=%d", job.kind, job.id)
            failure = failure_of(error)
        try:
            return await self._write(job, failure)
        except StoreError:
            raise
        except Exception:  # the same: then the kind is not told
            log.exception("failure not written kind=%s id=%d", job.kind, job.id)
        async with self._store.transaction() as transaction:
            return "error" if await self._store.finish_job(transaction, job, "error", str(failure)) else "overtaken"

    async def _write(self, job: JobRow, outcome: Outcome) -> str:
        """End a job, with what its kind writes; nothing if it is no longer this worker's in this attempt."""
        error = str(outcome) if isinstance(outcome, JobFailure) else None
        async with self._store.transaction() as transaction:
            if not await self._store.finish_job(transaction, job, "success" if error is None else "error", error):
                return "overtaken"
            said = await self._kinds[job.kind].commit(transaction, job, outcome)
            if error is None and said is not None:
                await self._store.set_job_error(transaction, job.id, said)
            transaction.after_commit(self.wake)  # the party may have one more started, and a follow-up may wait
            return "success" if error is None and said is None else "error"

    # Signs of life

    async def _watch(self) -> None:
        """At every beat, and at once after a cancel: which jobs are still ours? Now and then: what have others left?"""
        for number in itertools.count(1):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.beat_s):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._beat()
                if number % BEATS_PER_RECLAIM == 0:  # behind the beat: after a pause of this process its own jobs look abandoned
                    await self._reclaim("")
                    await self._prune()
            except StoreError as error:  # a later beat may succeed
                log.warning("jobs not watched reason=%r", str(error))
            except Exception:  # without this loop, others take our jobs
                log.exception("watching jobs failed")

    async def _beat(self) -> None:
        running = dict(self._running)
        if not running:
            return
        ours = await self._store.beat(self._worker, running.keys())
        for job_id, one in running.items():
            if (job_id, one.job.attempts) not in ours and one.cancel():
                log.warning("job taken from us kind=%s id=%d attempt=%d", one.job.kind, job_id, one.job.attempts)

    async def _reclaim(self, worker: str) -> None:
        """Let the started jobs of this worker wait again, and those of others that have been silent for long."""
        found = await self._store.list_abandoned_jobs(self._kinds.keys(), worker=worker, silent_s=self._options.silent_s)
        for job in found:
            if job.id in self._running:
                continue
            log.warning("job reclaimed kind=%s id=%d attempt=%d worker=%s", job.kind, job.id, job.attempts, job.worker)
            await self._end(job, JobFailure("died"))

    async def _prune(self) -> None:
        """The server forgets old jobs once an hour."""
        if self._worker == SERVER and time.monotonic() - self._pruned_at > PRUNE_EVERY_S:
            self._pruned_at = time.monotonic()
            await self._store.prune_jobs(keep_s=KEEP_S, keep=KEEP_JOBS)

    # How things are

    async def count(self) -> None:
        """Count the jobs that wait and those that are started, for `levels`."""
        self._counts = await self._store.count_jobs(get_args(JobStatus)[:2])

    def levels(self) -> metrics.Levels:
        """As of the last `count`."""
        return {metrics.JOBS: {(kind, status): count for (kind, status), count in self._counts.items()}}


async def _ended(end: Callable[[], Awaitable[None]], job: JobRow) -> None:
    """Let a job remove what it has left. When that fails, the outcome of the job is what it is."""
    try:
        await end()
    except Exception:  # a database that is busy, a disk that fails, or a bug; a start cleans up as well
        log.exception("what a job left was not removed kind=%s id=%d", job.kind, job.id)


def _failure_of_pool(error: EngineError) -> JobFailure:
    """No replica was there for the work: it is as if one had died under it. Anything else that is refused has failed."""
    return JobFailure("died") if error.code == "no_instances" else failure_of(error)
