"""What a kind of job is: what its replica is asked to do, and what is written when that is done or has failed.

Plain data. Knows no kind by name.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.errors import Code, EngineError, Reason, TaskFailed, short_traceback
from engine.frames import Buffer, Header
from engine.replicas.blocks import Answer, Arguments, Task
from engine.store import JobRow, Transaction

# Quick jobs never wait behind slow ones: where there are two runners or more, one takes quick jobs only.
JobClass = Literal["quick", "slow"]

# A job that its worker or its replica has died under this often is an error.
MAX_ATTEMPTS = 3
# What the tasks of jobs carry: how long one may take, by its class, and the bytes of data that it may need.
TIME_LIMIT_S: dict[JobClass, float] = {"quick": 300.0, "slow": 3600.0}
MEMORY_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job has no answer.

    reason      died (its worker or its replica, MAX_ATTEMPTS times), time or memory (it took more than it may), or failed
    class_name  of the exception, if it failed; empty otherwise
    traceback   lines, the last frames of the exception, without its message
    code        of an EngineError that says why, whose message is the text
    """

    reason: Reason
    class_name: str = ""
    text: str = ""
    traceback: tuple[str, ...] = ()
    code: Code | None = None

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.reason, self.class_name, self.text)))


# What becomes of a job: what its last task answered, or why there is no such answer.
Outcome = Answer | JobFailure


@dataclass(frozen=True, slots=True)
class Work:
    """One task of a job.

    then         the next task, from the answer of this one; without it, or when it gives None, the answer is that of the job
    on_progress  is told the header of each frame in which the replica says how far it is
    end          called once this process has done with the job, however it ended, before that is written: it removes what the task
                 has left
    """

    task: Task
    arguments: Arguments
    buffers: Sequence[Buffer] = ()
    then: "Callable[[Answer], Awaitable[Work | None]] | None" = None
    on_progress: Callable[[Header], None] | None = None
    end: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class JobKind:
    """One kind of job.

    work    what to do for a row; None when there is nothing to ask a replica, and then the answer is empty
    commit  writes the outcome, in the transaction that ends the job. It is not called for a job that was cancelled or is done by
            somebody else by now. It gives a text when the job is an error although its task has answered, else None. What must
            happen only once all is written goes into `Transaction.after_commit`
    discard called when an attempt has not ended with success, whatever the reason, or its end came too late: the job was cancelled
            or taken by somebody else. It removes what the attempt has left
    """

    name: str
    job_class: JobClass
    work: Callable[[JobRow], Awaitable[Work | None]]
    commit: Callable[[Transaction, JobRow, Outcome], Awaitable[str | None]]
    discard: Callable[[JobRow], Awaitable[None]] | None = None


EMPTY_ANSWER = Answer({}, memoryview(b""))


def failure_of(error: Exception) -> JobFailure:
    """The failure of a job whose work has raised this."""
    if isinstance(error, TaskFailed):
        return JobFailure(error.reason, error.class_name, error.text, error.traceback)
    if isinstance(error, EngineError):
        return JobFailure("failed", str(error.code), error.message, code=error.code)
    return JobFailure("failed", type(error).__name__, str(error), tuple(short_traceback(error)))
