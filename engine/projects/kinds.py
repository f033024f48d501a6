"""The kinds of objects that a project has: what one is, what it is called, and which job makes it.

Plain data, and the words of refusals that name no more than a kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

import ujson

from engine.errors import EngineError
from engine.jobs import job_key
from engine.projects.codes import NOT_COMPLETE, UNKNOWN, UNKNOWN_PROJECT
from engine.store import JobRow, JobStatus, NewJob, ObjectName, ObjectRow

ObjectKind = Literal["upload", "dataset", "model", "attribution", "attribution_set"]
KINDS: tuple[ObjectKind, ...] = get_args(ObjectKind)
# The kind of job that makes an object.
JOB_KINDS: Mapping[ObjectKind, str] = {
    "upload": "read_upload",
    "dataset": "join",
    "model": "fit",
    "attribution": "attribute",
    "attribution_set": "align",
}
_MADE_BY = {job_kind: kind for kind, job_kind in JOB_KINDS.items()}
# The slot of an object of which a project has one that is active.
ONLY_SLOT = ""


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a team."""

    team: str
    id: str

    @property
    def party(self) -> str:
        """team/id"""
        return f"{self.team}/{self.id}"


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a project, as its row and its job tell it together.

    status    of its job: waiting, started, success, error, cancelled
    attempts  how often its job was taken; the number of this attempt while it is started
    request   what it was asked with
    result    JSON as the replica wrote it; None before the end, and in lists
    warnings  [{"Code", "Message", ...}]
    error     {"code", "message", "details", "details_total"} of a job that has failed
    active    the slot that it has taken in its project, or None
    """

    project: Project
    kind: ObjectKind
    iid: int
    status: JobStatus
    created_at: str
    created_by: str
    started_at: str | None
    finished_at: str | None
    attempts: int
    request: dict[str, Any]
    result: str | None
    warnings: list[dict[str, Any]]
    error: dict[str, Any] | None
    active: str | None

    @classmethod
    def of_row(cls, row: ObjectRow) -> "Object":
        return cls(
            Project(row.team, row.project),
            cast(ObjectKind, row.kind),
            row.iid,
            row.status,
            row.created_at,
            row.created_by,
            row.started_at,
            row.finished_at,
            row.attempts,
            ujson.loads(row.request),
            row.result,
            ujson.loads(row.warnings),
            ujson.loads(row.error) if row.error else None,
            row.active,
        )

    @property
    def name(self) -> ObjectName:
        return ObjectName(self.project.team, self.project.id, self.kind, self.iid)

    @property
    def is_finished(self) -> bool:
        return self.status not in ("waiting", "started")

    def require_complete(self) -> "Object":
        """Itself. EngineError `not_complete` unless its job has ended with success."""
        if self.status != "success":
            raise EngineError(NOT_COMPLETE, f"{word_of(self.kind).capitalize()} {self.iid} is not complete.")
        return self


def name_of(job: JobRow) -> ObjectName:
    """The object that a job makes."""
    team, _, project = (job.dataset or "").partition("/")
    return ObjectName(team, project, _MADE_BY[job.kind], int(job.config or 0))


def key_prefix(project: Project, kind: str) -> str:
    """The keys of the jobs of a kind of object of a project, before the number of the object."""
    return job_key(JOB_KINDS[cast(ObjectKind, kind)], project.party, "")


def key_of(name: ObjectName) -> str:
    """The key of the job that makes an object."""
    return job_key(JOB_KINDS[cast(ObjectKind, name.kind)], f"{name.team}/{name.project}", str(name.iid))


def job_of(name: ObjectName) -> NewJob:
    """The job that makes an object."""
    party = f"{name.team}/{name.project}"
    return NewJob(JOB_KINDS[cast(ObjectKind, name.kind)], key_of(name), party, party, str(name.iid))


def word_of(kind: str) -> str:
    """A kind as a sentence has it."""
    return kind.replace("_", " ")


def unknown(kind: str) -> EngineError:
    """There is no such object in the project."""
    return EngineError(UNKNOWN[kind], f"The project has no such {word_of(kind)}.")


def unknown_project() -> EngineError:
    return EngineError(UNKNOWN_PROJECT, "The team has no such project.")


def encoded(value: object) -> str:
    """JSON for the database."""
    return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False)


def now() -> str:
    """The present time as objects have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
