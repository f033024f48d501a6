"""Objects of projects: uploads, datasets, models, attributions, attribution sets.

How an object stands is told by its job until that ends, and by its own row afterwards. An object that is being removed is found by
nobody but those who remove it. Knows no kind of object, and nothing of what requests and results say.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from engine.store.connection import Database, Transaction
from engine.store.jobs import JobRow, JobStatus

# What a row of an object has, beside its job, which has the key `prefix` and the number of the object. A result may be long, so
# lists leave it out. Where an index is named, SQLite would look at all objects of a team (8 ms for 50,000).
SELECT_OBJECT = """
    SELECT o.team, o.project, o.kind, o.iid, o.request, o.created_at, o.created_by,
        iif(s.id IS NULL, o.status, 'started'), coalesce(o.started_at, substr(s.started_at, 1, 19) || 'Z'), o.finished_at,
        coalesce(s.attempts, w.attempts, o.attempts), {result}, o.warnings, o.error, o.active
    FROM project_object o {index}
    LEFT JOIN job w ON o.status = 'waiting' AND w.key = :prefix || o.iid AND w.status = 'waiting'
    LEFT JOIN job s ON o.status = 'waiting' AND s.key = :prefix || o.iid AND s.status = 'started'
    WHERE o.team = :team AND o.project = :project AND o.kind = :kind AND NOT o.is_removed
"""
FIND_OBJECT = SELECT_OBJECT.format(result="o.result", index="") + " AND o.iid = :iid"
LIST_OBJECTS = (
    SELECT_OBJECT.format(result="NULL", index="") + " AND (:before IS NULL OR o.iid < :before) ORDER BY o.iid DESC LIMIT :limit"
)
LIST_ACTIVE = (
    SELECT_OBJECT.format(result="o.result", index="INDEXED BY project_active") + " AND o.active IS NOT NULL ORDER BY o.iid"
)
# Which objects of all projects of a team are active?
LIST_ACTIVE_OF_TEAM = """
    SELECT project, kind, iid FROM project_object INDEXED BY project_active
    WHERE team = ? AND active IS NOT NULL AND NOT is_removed ORDER BY project, kind, iid
"""
# How did these objects of a kind end, if they have?
LIST_STATUSES = """
    SELECT iid, status FROM project_object
    WHERE team = ? AND project = ? AND kind = ? AND iid IN (SELECT value FROM json_each(?)) AND NOT is_removed
"""
# What belongs to an object and is not shown with it.
READ_EXTRA = "SELECT extra FROM project_object WHERE team = ? AND project = ? AND kind = ? AND iid = ? AND NOT is_removed"

# How many objects of a team have not ended?
COUNT_UNFINISHED = (
    "SELECT count(*) FROM project_object INDEXED BY project_unfinished WHERE team = ? AND status = 'waiting' AND NOT is_removed"
)
# Add an object, if its project is there.
ADD_OBJECT = """
    INSERT INTO project_object (team, project, kind, iid, request, created_at, created_by)
    SELECT team, id, ?, ?, ?, ?, ? FROM project WHERE team = ? AND id = ? AND NOT is_removed
"""
# Add that an object was made of another, if that is there.
ADD_USE = """
    INSERT INTO project_use (team, project, kind, iid, used_kind, used_iid)
    SELECT :team, :project, :kind, :iid, kind, iid FROM project_object
    WHERE team = :team AND project = :project AND kind = :used_kind AND iid = :used_iid AND NOT is_removed
    ON CONFLICT DO NOTHING
"""
# Which objects, but those that have failed or were cancelled, were made of this one?
LIST_USERS_OF = """
    SELECT u.kind, u.iid FROM project_use u
    JOIN project_object o ON (o.team, o.project, o.kind, o.iid) = (u.team, u.project, u.kind, u.iid)
    WHERE u.team = ? AND u.project = ? AND u.used_kind = ? AND u.used_iid = ? AND NOT o.is_removed
        AND o.status IN ('waiting', 'success')
    ORDER BY u.kind, u.iid
"""
# An object has ended; what `result` gives stays when it is NULL here.
END_OBJECT = """
    UPDATE project_object
    SET status = :status, started_at = :started_at, finished_at = :finished_at, attempts = :attempts,
        result = coalesce(:result, result), extra = coalesce(:extra, extra), warnings = :warnings, error = :error
    WHERE team = :team AND project = :project AND kind = :kind AND iid = :iid AND status = 'waiting'
"""
# Take a slot of the project from the object that has it, and give it to another one that is complete.
CLEAR_SLOT = "UPDATE project_object SET active = NULL WHERE team = ? AND project = ? AND kind = ? AND active = ?"
TAKE_SLOT = """
    UPDATE project_object SET active = ?
    WHERE team = ? AND project = ? AND kind = ? AND iid = ? AND status = 'success' AND NOT is_removed
"""

# An object, or all of a project, is not found any more, and needs nothing.
HIDE_OBJECTS = """
    UPDATE project_object SET is_removed = 1, active = NULL
    WHERE team = :team AND project = :project AND (:kind IS NULL OR kind = :kind) AND (:iid IS NULL OR iid = :iid)
        AND NOT is_removed
"""
FORGET_USES = """
    DELETE FROM project_use
    WHERE team = :team AND project = :project AND (:kind IS NULL OR kind = :kind) AND (:iid IS NULL OR iid = :iid)
"""
# Which objects are being removed?
LIST_HIDDEN_OBJECTS = "SELECT team, project, kind, iid FROM project_object WHERE is_removed"
# What asked for an object that is being removed?
FIND_HIDDEN_OBJECT = """
    SELECT request FROM project_object WHERE team = ? AND project = ? AND kind = ? AND iid = ? AND is_removed
"""
# An object is gone.
REMOVE_OBJECT = "DELETE FROM project_object WHERE team = ? AND project = ? AND kind = ? AND iid = ? AND is_removed"
# Which objects of a kind are there, and which of them are active?
LIST_NAMES = "SELECT team, project, kind, iid, active IS NOT NULL FROM project_object WHERE kind = ?"
# Which were cancelled, or have failed?
LIST_FAILED = (
    "SELECT team, project, kind, iid FROM project_object WHERE kind = ? AND status IN ('cancelled', 'error') AND NOT is_removed"
)
# Which requests made the objects of a kind, those included that are being removed?
LIST_REQUESTS = "SELECT request FROM project_object WHERE kind = ?"
# Which objects has a team, those included that are being removed, and which folders do their requests name?
LIST_FOLDERS = "SELECT team, project, kind, iid, json_extract(request, '$.folder') FROM project_object WHERE team = ?"
# Which objects of a kind have not ended, although they have no job that could end them?
LIST_STRANDED = """
    SELECT team, project, kind, iid FROM project_object o
    WHERE kind = :kind AND status = 'waiting' AND NOT is_removed AND NOT EXISTS (
        SELECT 1 FROM job WHERE key = :name || char(0) || o.team || '/' || o.project || char(0) || o.iid AND status = 'waiting'
    ) AND NOT EXISTS (
        SELECT 1 FROM job WHERE key = :name || char(0) || o.team || '/' || o.project || char(0) || o.iid AND status = 'started'
    )
"""


@dataclass(frozen=True, slots=True)
class ObjectName:
    """Which object. kind: upload, dataset, model, attribution or attribution_set."""

    team: str
    project: str
    kind: str
    iid: int


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object, as its row and its job tell it together; request, result, warnings and error are JSON."""

    team: str
    project: str
    kind: str
    iid: int
    request: str
    created_at: str
    created_by: str
    status: JobStatus
    started_at: str | None
    finished_at: str | None
    attempts: int
    result: str | None
    warnings: str
    error: str | None
    active: str | None


@dataclass(frozen=True, slots=True)
class ObjectEnd:
    """How an object ends.

    result, extra, warnings, error  JSON; result and extra None where there is none
    """

    status: Literal["success", "error", "cancelled"]
    finished_at: str
    warnings: str = "[]"
    result: str | None = None
    extra: str | None = None
    error: str | None = None


class ObjectStore(Database):
    """What the store answers about objects of projects."""

    async def find_object(self, name: ObjectName, prefix: str) -> ObjectRow | None:
        """prefix: of the key of its job, before its number."""
        rows = await self._rows(FIND_OBJECT, _named(name) | {"prefix": prefix})
        return ObjectRow(*rows[0]) if rows else None

    async def list_objects(
        self, team: str, project: str, kind: str, prefix: str, *, limit: int, before: int | None
    ) -> list[ObjectRow]:
        """Newest first, without results; those below the number `before` if there is one."""
        values = {"team": team, "project": project, "kind": kind, "prefix": prefix, "limit": limit, "before": before}
        return [ObjectRow(*row) for row in await self._rows(LIST_OBJECTS, values)]

    async def list_active_objects(self, team: str, project: str, kind: str, prefix: str) -> list[ObjectRow]:
        """Those that have a slot of their project, oldest first."""
        values = {"team": team, "project": project, "kind": kind, "prefix": prefix}
        return [ObjectRow(*row) for row in await self._rows(LIST_ACTIVE, values)]

    async def num_unfinished_objects(self, team: str, transaction: Transaction | None = None) -> int:
        """transaction: in which the answer stays true."""
        read = transaction.rows if transaction else self._rows
        [(number,)] = await read(COUNT_UNFINISHED, (team,))
        return int(number)

    async def list_active_of_team(self, team: str) -> list[tuple[str, str, int]]:
        """Project, kind and number of the objects that are active, in that order."""
        return [(project, kind, iid) for project, kind, iid in await self._rows(LIST_ACTIVE_OF_TEAM, (team,))]

    async def object_statuses(self, team: str, project: str, kind: str, iids: Iterable[int]) -> dict[int, str]:
        """How the objects with these numbers have ended, by number; those that have not ended are `waiting`."""
        values = (team, project, kind, json.dumps(list(iids)))
        return {iid: status for iid, status in await self._rows(LIST_STATUSES, values)}

    async def read_extra(self, name: ObjectName) -> str | None:
        """What belongs to an object and is not shown with it, as JSON."""
        rows = await self._rows(READ_EXTRA, (name.team, name.project, name.kind, name.iid))
        return rows[0][0] if rows else None

    async def list_hidden_objects(self) -> list[ObjectName]:
        """Those that are being removed."""
        return [ObjectName(*row) for row in await self._rows(LIST_HIDDEN_OBJECTS)]

    async def find_hidden_object(self, name: ObjectName) -> str | None:
        """The request of an object that is being removed; None when it is gone."""
        rows = await self._rows(FIND_HIDDEN_OBJECT, (name.team, name.project, name.kind, name.iid))
        return rows[0][0] if rows else None

    async def list_object_names(self, kind: str) -> list[tuple[ObjectName, bool]]:
        """All objects of a kind, each with whether it is active; also those that have not ended, or are being removed."""
        return [(ObjectName(*name), bool(is_active)) for *name, is_active in await self._rows(LIST_NAMES, (kind,))]

    async def list_failed_objects(self, kind: str) -> list[ObjectName]:
        """Those that have ended without success."""
        return [ObjectName(*row) for row in await self._rows(LIST_FAILED, (kind,))]

    async def list_requests(self, kind: str) -> list[str]:
        """What asked for the objects of a kind, those included that are being removed."""
        return [request for (request,) in await self._rows(LIST_REQUESTS, (kind,))]

    async def list_folders_of_team(self, team: str) -> list[tuple[ObjectName, str | None]]:
        """All objects of a team, also those that are being removed, each with the folder that its request names, if it does."""
        return [(ObjectName(*name), folder) for *name, folder in await self._rows(LIST_FOLDERS, (team,))]

    async def list_stranded_objects(self, kind: str, job_kind: str) -> list[ObjectName]:
        """Objects that have not ended, and that no job of this kind will end."""
        return [ObjectName(*row) for row in await self._rows(LIST_STRANDED, {"kind": kind, "name": job_kind})]

    # In a transaction

    async def remove_object(self, transaction: Transaction, name: ObjectName) -> bool:
        """Forget an object that is being removed; False when there is none."""
        return await transaction.run(REMOVE_OBJECT, (name.team, name.project, name.kind, name.iid)) > 0

    async def object_row(self, transaction: Transaction, name: ObjectName, prefix: str) -> ObjectRow | None:
        rows = await transaction.rows(FIND_OBJECT, _named(name) | {"prefix": prefix})
        return ObjectRow(*rows[0]) if rows else None

    async def add_object(self, transaction: Transaction, name: ObjectName, *, request: str, created_at: str, by: str) -> bool:
        """False when there is no such project."""
        values = (name.kind, name.iid, request, created_at, by, name.team, name.project)
        return await transaction.run(ADD_OBJECT, values) > 0

    async def add_use(self, transaction: Transaction, name: ObjectName, used_kind: str, used_iid: int) -> bool:
        """Note what an object is made of; False when that is not there. Each is named once."""
        return await transaction.run(ADD_USE, _named(name) | {"used_kind": used_kind, "used_iid": used_iid}) > 0

    async def users_of(self, transaction: Transaction, name: ObjectName) -> list[tuple[str, int]]:
        """Kinds and numbers of the objects that need this one."""
        values = (name.team, name.project, name.kind, name.iid)
        return [(kind, iid) for kind, iid in await transaction.rows(LIST_USERS_OF, values)]

    async def end_object(self, transaction: Transaction, name: ObjectName, end: ObjectEnd, job: JobRow | None) -> bool:
        """How an object stands from now on, whatever becomes of its job; False when it has ended already, or is not there.

        job  tells when it was started, and how often
        """
        started_at = f"{job.started_at[:19]}Z" if job is not None and job.started_at else None
        values = {field: getattr(end, field) for field in ("status", "finished_at", "warnings", "result", "extra", "error")}
        values |= _named(name) | {"started_at": started_at, "attempts": job.attempts if job else 0}
        return await transaction.run(END_OBJECT, values) > 0

    async def take_slot(self, transaction: Transaction, name: ObjectName, slot: str) -> bool:
        """Give an object a slot of its project, which another loses; False when it is not complete, or not there."""
        await transaction.run(CLEAR_SLOT, (name.team, name.project, name.kind, slot))
        return await transaction.run(TAKE_SLOT, (slot, name.team, name.project, name.kind, name.iid)) > 0

    async def hide_objects(self, transaction: Transaction, team: str, project: str, kind: str | None, iid: int | None) -> None:
        """An object, or with None all of a project, is not found from now on."""
        values = {"team": team, "project": project, "kind": kind, "iid": iid}
        await transaction.run(HIDE_OBJECTS, values)
        await transaction.run(FORGET_USES, values)


def _named(name: ObjectName) -> dict[str, str | int]:
    return {"team": name.team, "project": name.project, "kind": name.kind, "iid": name.iid}
