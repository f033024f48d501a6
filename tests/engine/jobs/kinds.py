"""Kinds of jobs for tests: they let a replica of the family `testing` do something, and write what came of it into a table."""

import json
import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.jobs import JobClass, JobFailure, JobKind, Jobs, Outcome, Work, job_key
from engine.replicas.blocks import Task
from engine.store import JobRow, NewJob, Store, Transaction
from tests.engine.replicas.families import task

RESULT = "CREATE TABLE IF NOT EXISTS result (job INTEGER, attempt INTEGER, text TEXT)"


def kind(name: str, work: Task | None, *, job_class: JobClass = "quick", **arguments: Any) -> JobKind:
    """A kind whose jobs run one task; the arguments of the task are these and those in the `config` of the row, as JSON."""

    async def start(job: JobRow) -> Work | None:
        return work and Work(work, arguments | json.loads(job.config or "{}"))

    return JobKind(name, job_class, start, commit)


async def commit(transaction: Transaction, job: JobRow, outcome: Outcome) -> str | None:
    text = str(outcome) if isinstance(outcome, JobFailure) else json.dumps(outcome.header.get("text", ""))
    await transaction.run(RESULT)
    await transaction.run("INSERT INTO result VALUES (?, ?, ?)", (job.id, job.attempts, text))
    return None


def table(*kinds: JobKind) -> Mapping[str, JobKind]:
    return {one.name: one for one in kinds}


async def add(store: Store, jobs: Jobs, name: str, *names: str, priority: int = 0, **arguments: Any) -> None:
    """Add a job of a kind for each name, its party and dataset; the arguments go to its task."""
    async with store.transaction() as transaction:
        for one in names:
            config = json.dumps(arguments)
            await jobs.add(transaction, NewJob(name, job_key(name, one), one, one, config, priority=priority))


async def results(store: Store) -> list[tuple[int, int, str]]:
    """Job, attempt and text of each outcome that was written."""
    async with store.transaction() as transaction:
        await transaction.run(RESULT)
        return [tuple(row) for row in await transaction.rows("SELECT * FROM result ORDER BY rowid")]


def gate(folder: Path) -> dict[str, str]:
    """Arguments of the task `pass_gate`: a FIFO that does not exist before."""
    os.mkfifo(folder / "gate")
    return {"gate": str(folder / "gate"), "mark": str(folder / "mark")}


def open_gate(arguments: Mapping[str, str], text: str = "") -> None:
    """Let the task at a gate pass, and all others that are there; AssertionError when none comes there."""
    deadline = time.monotonic() + 30
    while not try_gate(arguments, text):
        assert time.monotonic() < deadline, "nobody came to the gate"
        select.select([], [], [], 0.005)


def try_gate(arguments: Mapping[str, str], text: str = "") -> bool:
    """The same, if there is one now."""
    try:
        descriptor = os.open(arguments["gate"], os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: nobody reads
        return False
    os.write(descriptor, text.encode())
    os.close(descriptor)
    return True


PASS_GATE = task("pass_gate")
