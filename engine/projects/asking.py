"""What a request of projects asks a replica for while its client waits: blocks of the pool `query`, which take milliseconds.

Knows no task by name.
"""

from typing import Any

from engine.errors import DISK_FULL, INTERNAL, EngineError, ListedError
from engine.projects.codes import REFUSALS
from engine.replicas.blocks import Answer, Arguments, Task
from engine.replicas.pool import Pool

LIMIT_S = 30.0


def short_task(name: str) -> Task:
    """A task of the family `projects` for a request."""
    return Task(name, family="projects", pool="query", time_limit_s=LIMIT_S, max_deaths=1)


async def ask(pool: Pool, task: Task, arguments: Arguments) -> Answer:
    """The answer of a replica. EngineError: what it refuses, in its words; TaskFailed, `no_instances`."""
    answer = await pool.run(task, arguments)
    if refused := answer.header.get("refused"):
        raise refusal(refused)
    if answer.header.get("full"):
        raise EngineError(DISK_FULL, "The disk of the server is full.")
    return answer


def refusal(refused: dict[str, Any]) -> EngineError:
    """What a replica refuses, as an error of a request."""
    code = REFUSALS.get(refused["code"], INTERNAL)
    return ListedError(code, refused["message"], refused["details"], total=refused["details_total"])
