"""Jobs: durable work with a row in the database, which a runner takes, a replica does, and one transaction ends."""

from engine.jobs.jobs import SERVER, JobOptions, Jobs, job_key
from engine.jobs.kinds import (
    MAX_ATTEMPTS,
    MEMORY_BYTES,
    TIME_LIMIT_S,
    JobClass,
    JobFailure,
    JobKind,
    Outcome,
    Work,
    failure_of,
)

__all__ = [
    "MAX_ATTEMPTS",
    "MEMORY_BYTES",
    "SERVER",
    "TIME_LIMIT_S",
    "JobClass",
    "JobFailure",
    "JobKind",
    "JobOptions",
    "Jobs",
    "Outcome",
    "Work",
    "failure_of",
    "job_key",
]
