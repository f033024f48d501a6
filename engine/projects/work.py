"""How a kind of job of projects is described: what its replica is asked for an object, and what its answer makes of the object.

Everything else is the same for all kinds and stands here: who is not there any more, how far the replica is, what it refuses, why
there is no answer, and that all of it is written into the object's row. Knows no kind by name.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import DISK_FULL, INTERNAL, JOB_CRASHED, JOB_MEMORY, JOB_TIMEOUT, Code, Reason
from engine.jobs import MAX_ATTEMPTS, JobClass, JobFailure, JobKind, Outcome, Work
from engine.projects.kinds import name_of
from engine.projects.objects import Object, Objects, encoded, now
from engine.replicas.blocks import Answer, Task
from engine.store import JobRow, ObjectEnd, ObjectName, Transaction

# What each of these jobs may take beside what its replica has when it begins, and how long a quick one may take: a workbook is read
# at about 7,000 rows a second.
MEMORY_BYTES = 1024 * 1024 * 1024
QUICK_LIMIT_S = 600.0

CRASHED = f"The process that did this died {MAX_ATTEMPTS} times. Smaller files, or fewer of them, may help."
FAILURES: Mapping[Reason, tuple[Code, str]] = {
    "died": (JOB_CRASHED, CRASHED),
    "time": (JOB_TIMEOUT, "This took longer than a job may take."),
    "memory": (JOB_MEMORY, "This needed more memory than a job may have."),
    "failed": (INTERNAL, "The server failed on this. Its log says more."),
}
FULL = "The disk of the server is full."


@dataclass(frozen=True, slots=True)
class Settled:
    """What a job has made of its object.

    result        JSON object with what the object's answer shows beside the common fields, as the replica wrote it
    warnings      [{"Code", "Message", ...}]
    extra         JSON with what belongs to the object and is not shown with it
    active_slot   the slot of its project that the object takes now; None for none
    """

    result: str | None = None
    warnings: Sequence[Mapping[str, Any]] = ()
    extra: str | None = None
    active_slot: str | None = None


Ask = Callable[[Object], Awaitable[Work]]
Settle = Callable[[Transaction, Object, Answer], Awaitable[Settled]]
Discard = Callable[[ObjectName, int], Awaitable[None]]


def task_of(name: str, *, limit_s: float = QUICK_LIMIT_S) -> Task:
    """A task of the family `projects` for a job. The queue counts deaths, so one is enough here."""
    return Task(name, family="projects", pool="jobs", time_limit_s=limit_s, max_deaths=1, memory_bytes=MEMORY_BYTES)


def object_kind(
    objects: Objects, name: str, job_class: JobClass, ask: Ask, settled: Settle, discard: Discard | None = None
) -> JobKind:
    """A kind of job that makes an object.

    ask      what a replica is to do for the object, whose `attempts` is the number of this attempt
    settled  called in the transaction that ends the job, when the replica has neither refused nor found the disk full. An exception
             of its own makes the job fail
    discard  removes what an attempt at an object, of this number, has left of which nothing is kept
    """
    making = _Making(objects, ask, settled, discard)
    return JobKind(name, job_class, making.work, making.commit, making.dropped)


@dataclass(frozen=True, slots=True)
class _Making:
    """What the jobs of a kind do; the fields are the arguments of `object_kind`."""

    objects: Objects
    ask: Ask
    settled: Settle
    discard: Discard | None

    async def work(self, job: JobRow) -> Work:
        found = await self.objects.made_by(job)
        self.objects.forget_progress(job)
        return _watched(self.objects, job, await self.ask(found))

    async def commit(self, transaction: Transaction, job: JobRow, outcome: Outcome) -> str | None:
        found = await self.objects.of_job(transaction, job)
        if found is None:
            return None
        if isinstance(outcome, JobFailure) or is_refused(outcome):
            fault = fault_of(outcome)
            await self.objects.settle(transaction, job, ObjectEnd("error", now(), error=encoded(fault)))
            return str(fault["code"])
        made = await self.settled(transaction, found, outcome)
        end = ObjectEnd("success", now(), encoded(made.warnings), made.result, made.extra)
        await self.objects.settle(transaction, job, end, active_slot=made.active_slot)
        return None

    async def dropped(self, job: JobRow) -> None:
        """For JobKind.discard."""
        if self.discard is not None:
            await self.discard(name_of(job), job.attempts)


def _watched(objects: Objects, job: JobRow, work: Work) -> Work:
    """The same work, of which the objects hear how far it is; so with the tasks that follow."""
    then, end = work.then, work.end

    async def next_work(answer: Answer) -> Work | None:
        following = await then(answer) if then else None
        return following and _watched(objects, job, following)

    async def ended() -> None:
        objects.forget_progress(job)
        if end is not None:
            await end()

    return replace(work, then=next_work if then else None, on_progress=functools.partial(objects.note_progress, job), end=ended)


def is_refused(answer: Answer) -> bool:
    """Whether a replica has not done what it was asked."""
    return bool(answer.header.get("full") or answer.header.get("refused"))


def fault_of(outcome: Outcome) -> dict[str, Any]:
    """Why a job has no answer, or one that is refused, in the form of `Object.error`."""
    if isinstance(outcome, JobFailure):
        return _fault(*(FAILURES[outcome.reason] if outcome.code is None else (outcome.code, outcome.text)))
    if outcome.header.get("full"):
        return _fault(DISK_FULL, FULL)
    refused: dict[str, Any] = outcome.header["refused"]
    return refused


def _fault(code: Code, message: str) -> dict[str, Any]:
    return {"code": str(code), "message": message, "details": [], "details_total": 0}
