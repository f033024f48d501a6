"""Jobs: durable work that waits in the database, is taken by one worker at a time, and ends there.

Every statement that changes a started job names its worker and its attempt: a job that was cancelled, or taken from a worker that
gave no sign of life, is no longer that worker's. Knows no kind of job.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Literal

from engine.store.connection import Database, Transaction

JobStatus = Literal["waiting", "started", "success", "error", "cancelled"]

# Put a job into the queue, unless one of the same key waits there.
ADD_JOB = """
    INSERT INTO job (kind, key, party, dataset, config, split, priority, generation, not_before, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) WHERE status = 'waiting' DO NOTHING
"""
# Which job of these kinds is next? It is started now: of the parties with fewest jobs started, the one that was served longest ago.
TAKE_JOB = """
    UPDATE job SET status = 'started', started_at = :now, heartbeat_at = :now, worker = :worker, attempts = attempts + 1
    WHERE id = (
        SELECT w.id FROM job w
        LEFT JOIN (
            SELECT party, count(*) n FROM job
            WHERE status = 'started' AND kind IN (SELECT value FROM json_each(:beside)) GROUP BY party
        ) r ON r.party = w.party
        LEFT JOIN turn t ON t.party = w.party
        WHERE w.status = 'waiting' AND w.kind IN (SELECT value FROM json_each(:kinds)) AND w.not_before <= :now
            AND coalesce(r.n, 0) < :most AND w.key NOT IN (SELECT key FROM job WHERE status = 'started')
        ORDER BY w.priority, coalesce(r.n, 0), coalesce(t.taken_at, ''), w.created_at, w.id LIMIT 1
    )
    RETURNING {columns}
"""
# Note that a party was served.
NOTE_TURN = "INSERT INTO turn (party, taken_at) VALUES (?, ?) ON CONFLICT (party) DO UPDATE SET taken_at = excluded.taken_at"
# A job that was ended in the same transaction has failed after all.
SET_JOB_ERROR = "UPDATE job SET status = 'error', error = ? WHERE id = ?"
# Which of these jobs are still this worker's? It still works on them.
BEAT = """
    UPDATE job SET heartbeat_at = ? WHERE status = 'started' AND worker = ? AND id IN (SELECT value FROM json_each(?))
    RETURNING id, attempts
"""
# End a job, if it is still this worker's in this attempt.
FINISH_JOB = """
    UPDATE job SET status = ?, finished_at = ?, error = ? WHERE id = ? AND status = 'started' AND worker = ? AND attempts = ?
"""
# Let a started job wait again. If another of its key waits, it ends instead.
GIVE_BACK_JOB = """
    UPDATE job SET
        status = iif(EXISTS (SELECT 1 FROM job o WHERE o.key = job.key AND o.status = 'waiting'), 'cancelled', 'waiting'),
        finished_at = iif(EXISTS (SELECT 1 FROM job o WHERE o.key = job.key AND o.status = 'waiting'), ?, NULL),
        attempts = attempts - ?, worker = NULL, started_at = NULL, heartbeat_at = NULL
    WHERE id = ? AND status = 'started' AND worker = ? AND attempts = ?
"""
# Which jobs of these kinds has this worker started, or somebody who has given no sign of life since then?
LIST_ABANDONED = """
    SELECT {columns} FROM job
    WHERE status = 'started' AND kind IN (SELECT value FROM json_each(?)) AND (worker = ? OR heartbeat_at < ?)
"""
# Cancel jobs, of one dataset, config or split where these are not NULL.
CANCEL_JOBS = """
    UPDATE job SET status = 'cancelled', finished_at = :now
    WHERE status IN (SELECT value FROM json_each(:statuses)) AND kind IN (SELECT value FROM json_each(:kinds))
        AND (:dataset IS NULL OR dataset = :dataset) AND (:config IS NULL OR config = :config)
        AND (:split IS NULL OR split = :split)
"""
# Forget all jobs of these kinds; work on those that are started is discarded.
REMOVE_JOBS = "DELETE FROM job WHERE kind IN (SELECT value FROM json_each(?))"
# Forget what ended long ago, and of the rest all but the newest.
PRUNE_OLD = "DELETE FROM job WHERE status IN ('success', 'error', 'cancelled') AND finished_at < ?"
PRUNE_MANY = """
    DELETE FROM job WHERE id IN (
        SELECT id FROM job WHERE status IN ('success', 'error', 'cancelled') ORDER BY finished_at DESC, id DESC LIMIT -1 OFFSET ?
    )
"""
PRUNE_TURNS = "DELETE FROM turn WHERE party NOT IN (SELECT party FROM job)"
# How many jobs of each kind are in each of these statuses?
COUNT_JOBS = "SELECT kind, status, count(*) FROM job WHERE status IN (SELECT value FROM json_each(?)) GROUP BY status, kind"
# How many jobs of these kinds wait?
COUNT_WAITING = "SELECT count(*) FROM job WHERE status = 'waiting' AND kind IN (SELECT value FROM json_each(?))"
# The jobs of these kinds with these statuses, oldest first.
LIST_JOBS = """
    SELECT {columns} FROM job
    WHERE status IN (SELECT value FROM json_each(?)) AND kind IN (SELECT value FROM json_each(?))
    ORDER BY created_at, id LIMIT ? OFFSET ?
"""
# How many jobs of the same kind wait before the one that waits under this key? No row if none waits.
NUM_BEFORE = """
    SELECT (
        SELECT count(*) FROM job o WHERE o.status = 'waiting' AND o.kind = w.kind
            AND (o.priority, o.created_at, o.id) < (w.priority, w.created_at, w.id)
    ) FROM job w WHERE w.key = ? AND w.status = 'waiting'
"""
# Does a job of this key wait, or is one started?
FIND_JOBS = "SELECT {columns} FROM job WHERE key = ? AND status IN ('waiting', 'started') ORDER BY id"


@dataclass(frozen=True, slots=True)
class Subject:
    """What jobs are about: a dataset, or a config or a split of it. None stands for any."""

    dataset: str | None = None
    config: str | None = None
    split: str | None = None


ANYTHING = Subject()


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is known of a job before it is in the queue.

    party       who it is done for: parties take turns
    priority    a lower number is taken first
    generation  of the dataset when the job was asked for
    not_before  the job is not taken before this time
    """

    kind: str
    key: str
    party: str
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    priority: int = 0
    generation: int | None = None
    not_before: str = ""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job.

    attempts  how often it was taken; the number of this attempt while it is started
    worker    who has started it last
    """

    id: int
    kind: str
    key: str
    party: str
    dataset: str | None
    config: str | None
    split: str | None
    status: JobStatus
    priority: int
    attempts: int
    generation: int | None
    worker: str | None
    not_before: str
    created_at: str
    started_at: str | None
    heartbeat_at: str | None
    finished_at: str | None
    error: str | None


COLUMNS = ", ".join(one.name for one in fields(JobRow))


def job_time(*, seconds_ago: float = 0) -> str:
    """The present time, or an earlier one, as jobs have it: milliseconds, written as six digits."""
    time = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03}000"


class JobStore(Database):
    """What the store answers about jobs."""

    # In a transaction

    async def add_job(self, transaction: Transaction, job: NewJob) -> bool:
        """Put a job into the queue; False when one of the same key waits already."""
        return await transaction.run(ADD_JOB, (*astuple(job), job_time())) > 0

    async def finish_job(self, transaction: Transaction, job: JobRow, status: JobStatus, error: str | None = None) -> bool:
        """End a job; False when it is no longer its worker's in this attempt."""
        return await transaction.run(FINISH_JOB, (status, job_time(), error, job.id, job.worker, job.attempts)) > 0

    async def set_job_error(self, transaction: Transaction, job_id: int, error: str) -> None:
        """A job that was ended in the same transaction has failed after all."""
        await transaction.run(SET_JOB_ERROR, (error, job_id))

    async def cancel_jobs(
        self,
        transaction: Transaction,
        statuses: Iterable[JobStatus],
        kinds: Iterable[str],
        subject: Subject = ANYTHING,
    ) -> int:
        """Cancel the waiting or started jobs of some kinds that are about a subject; how many were."""
        values = {"now": job_time(), "statuses": _json(statuses), "kinds": _json(kinds), **asdict(subject)}
        return await transaction.run(CANCEL_JOBS, values)

    async def find_job(self, transaction: Transaction, key: str) -> JobRow | None:
        """The job of a key that is started or, without one, the one that waits."""
        rows = await transaction.rows(FIND_JOBS.format(columns=COLUMNS), (key,))
        return JobRow(*rows[0]) if rows else None

    async def remove_jobs(self, transaction: Transaction, kinds: Iterable[str]) -> int:
        """Forget all jobs of some kinds; how many there were."""
        return await transaction.run(REMOVE_JOBS, (_json(kinds),))

    async def num_waiting_jobs(self, transaction: Transaction, kinds: Iterable[str]) -> int:
        [(number,)] = await transaction.rows(COUNT_WAITING, (_json(kinds),))
        return int(number)

    # By themselves

    async def take_job(self, worker: str, kinds: Collection[str], *, beside: Collection[str], most: int) -> JobRow | None:
        """Start the next job of these kinds for this worker, if there is one.

        beside, most  of jobs of the kinds `beside` one party may have `most` started at once
        """
        async with self.transaction() as transaction:
            values = {"now": job_time(), "worker": worker, "kinds": _json(kinds), "beside": _json(beside), "most": most}
            rows = await transaction.rows(TAKE_JOB.format(columns=COLUMNS), values)
            if not rows:
                return None
            job = JobRow(*rows[0])
            # Turns are finer than milliseconds: jobs of a millisecond must alternate too.
            await transaction.run(NOTE_TURN, (job.party, datetime.now(UTC).isoformat(timespec="microseconds")))
            return job

    async def beat(self, worker: str, ids: Collection[int]) -> set[tuple[int, int]]:
        """Say that a worker still works on these jobs; id and attempt of those that are still its own."""
        async with self.transaction() as transaction:
            rows = await transaction.rows(BEAT, (job_time(), worker, _json(ids)))
            return {(job_id, attempts) for job_id, attempts in rows}

    async def give_back_job(self, job: JobRow, *, is_counted: bool) -> bool:
        """Let a started job wait again; False when it is no longer its worker's in this attempt.

        is_counted  whether the attempt counts
        """
        values = (job_time(), 0 if is_counted else 1, job.id, job.worker, job.attempts)
        return await self._write((GIVE_BACK_JOB, values))

    async def list_abandoned_jobs(self, kinds: Collection[str], *, worker: str, silent_s: float) -> list[JobRow]:
        """The started jobs of some kinds that this worker has, or somebody else who was silent for this long."""
        values = (_json(kinds), worker, job_time(seconds_ago=silent_s))
        return [JobRow(*row) for row in await self._rows(LIST_ABANDONED.format(columns=COLUMNS), values)]

    async def prune_jobs(self, *, keep_s: float, keep: int) -> None:
        """Forget jobs that ended longer ago than `keep_s`, all but the newest `keep` of the others, and the turns of parties
        without jobs."""
        async with self.transaction() as transaction:
            await transaction.run(PRUNE_OLD, (job_time(seconds_ago=keep_s),))
            await transaction.run(PRUNE_MANY, (keep,))
            await transaction.run(PRUNE_TURNS)

    # Questions

    async def count_jobs(self, statuses: Iterable[JobStatus]) -> dict[tuple[str, JobStatus], int]:
        """How many jobs there are with these statuses, by kind and status; what is 0 is left out."""
        return {(kind, status): count for kind, status, count in await self._rows(COUNT_JOBS, (_json(statuses),))}

    async def list_jobs(
        self, kinds: Iterable[str], statuses: Iterable[JobStatus], *, limit: int = -1, offset: int = 0
    ) -> list[JobRow]:
        """The jobs of some kinds and statuses, oldest first; -1 means no limit."""
        values = (_json(statuses), _json(kinds), limit, offset)
        return [JobRow(*row) for row in await self._rows(LIST_JOBS.format(columns=COLUMNS), values)]

    async def find_jobs(self, key: str) -> list[JobRow]:
        """The job of a key that is started and the one that waits, as far as there are such."""
        return [JobRow(*row) for row in await self._rows(FIND_JOBS.format(columns=COLUMNS), (key,))]

    async def num_jobs_before(self, key: str) -> int | None:
        """How many jobs of the same kind wait before the waiting job of this key; None when none waits."""
        rows = await self._rows(NUM_BEFORE, (key,))
        return int(rows[0][0]) if rows else None


def _json(values: Iterable[object]) -> str:
    return json.dumps(list(values))
