"""Progress: what the stages of a long task tell while they run. They are generators, and the task hands on what they yield.

No stage looks at a clock: the same work gives the same numbers, however long it takes.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.tasks.families import LongReply, Reply

# Frames of progress are sent this far apart at least.
INTERVAL_S = 0.5

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one stage is."""

    stage: str
    done: int
    total: int
    elbo: float | None = None


# A stage: it yields its progress and returns its result.
Stage = Generator[Progress, None, Result]


def told(stages: Stage[Any], check: Callable[[], None]) -> LongReply:
    """The progress of stages as frames; `check` is called with each step and raises when nobody wants the result any more.

    What the stages return is the last reply.
    """
    sent_at, began_at, stage = time.monotonic(), time.monotonic(), ""
    while True:
        try:
            progress = next(stages)
        except StopIteration as end:
            last: Reply = end.value
            return last
        check()
        now = time.monotonic()
        if progress.stage != stage:
            stage, began_at = progress.stage, now
        if now - sent_at >= INTERVAL_S:
            sent_at = now
            left_s = (now - began_at) / progress.done * (progress.total - progress.done) if progress.done else None
            yield {"progress": _as_dict(progress, left_s)}, []


def _as_dict(progress: Progress, left_s: float | None) -> dict[str, Any]:
    return {
        "Stage": progress.stage,
        "Done": progress.done,
        "Total": progress.total,
        "Elbo": progress.elbo,
        "EtaS": None if left_s is None else round(left_s, 1),
    }
