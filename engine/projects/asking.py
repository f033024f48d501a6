"""What a request of projects asks a replica for while its client waits: blocks of the pool `query`, which take milliseconds.

Knows no task by name.
"""

from collections.abc import Sequence
from typing import Any

from engine.errors import BUSY, DISK_FULL, INTERNAL, EngineError, ListedError, TaskFailed
from engine.frames import Buffer
from engine.projects.codes import BAD_FIELD, REFUSALS
from engine.replicas.blocks import Answer, Arguments, Task
from engine.replicas.pool import Pool

LIMIT_S = 30.0
RETRY_AFTER_S = 5
# How many of the dates that a dataset lacks are told.
MAX_DATES = 10


def short_task(name: str) -> Task:
    """A task of the family `projects` for a request."""
    return Task(name, family="projects", pool="query", time_limit_s=LIMIT_S, max_deaths=1)


async def ask(pool: Pool, task: Task, arguments: Arguments, buffers: Sequence[Buffer] = ()) -> Answer:
    """The answer of a replica. EngineError: what it refuses, in its words; `busy` after LIMIT_S; TaskFailed, `no_instances`."""
    try:
        answer = await pool.run(task, arguments, buffers)
    except TaskFailed as failure:
        if failure.is_timeout:
            raise EngineError(BUSY, f"This took longer than {LIMIT_S:g} seconds.", retry_after_s=RETRY_AFTER_S) from None
        raise
    if refused := answer.header.get("refused"):
        raise refusal(refused)
    if answer.header.get("full"):
        raise EngineError(DISK_FULL, "The disk of the server is full.")
    return answer


def refusal(refused: dict[str, Any]) -> EngineError:
    """What a replica refuses, as an error of a request."""
    code = BAD_FIELD if refused["code"] == BAD_FIELD else REFUSALS.get(refused["code"], INTERNAL)
    details = refused["details"][:MAX_DATES] if code == "unknown_date" else refused["details"]
    return ListedError(code, refused["message"], details, total=refused["details_total"])
