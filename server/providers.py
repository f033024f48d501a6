"""Execution providers: a server that is told to use a missing one does not start, and says why in one line."""

from collections.abc import Sequence

from engine.engine import JOBS_OPTIONS
from engine.errors import TaskFailed
from engine.replicas.blocks import Task
from engine.replicas.pool import Pool

# The first use of a GPU in a process takes seconds.
PROBE_LIMIT_S = 60.0
# Every build of onnxruntime has it.
ALWAYS_THERE = ("cpu",)


async def missing_provider(providers: Sequence[str]) -> str | None:
    """Why models cannot be opened on these providers; None if they can.

    A replica of its own tries it before any other is started, so that no other has to say the same of each model.
    """
    if tuple(name.lower() for name in providers) == ALWAYS_THERE:
        return None
    pool = Pool("probe", 1, JOBS_OPTIONS, silence_limit_s=PROBE_LIMIT_S)
    probe = Task("providers", family="publishing", pool=pool.name, time_limit_s=PROBE_LIMIT_S, max_deaths=1)
    await pool.start()
    try:
        header = (await pool.run(probe, {"providers": list(providers)})).header
    except TaskFailed:
        return "the process that tried the execution providers failed"
    finally:
        await pool.stop()
    missing: str | None = header.get("missing")
    return missing
