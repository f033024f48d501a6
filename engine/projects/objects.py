"""What a project has: uploads, datasets, models, attributions, attribution sets. They are made, found, chosen, cancelled, deleted.

Each is made by a job of its own, which tells how it stands until it has ended; what is left then stands in the object's row, and
outlives the job. Knows what all kinds have in common, and nothing of one kind: the other files of this folder do.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from engine.errors import INTERNAL, TOO_MANY_JOBS, Code, EngineError, ListedError
from engine.frames import Header
from engine.jobs import Jobs
from engine.projects.codes import ALREADY_FINISHED, IN_USE, NOT_COMPLETE, UNKNOWN
from engine.projects.kinds import (
    JOB_KINDS,
    KINDS,
    ONLY_SLOT,
    Object,
    ObjectKind,
    Project,
    encoded,
    job_of,
    key_of,
    key_prefix,
    name_of,
    now,
    unknown,
    unknown_project,
    word_of,
)
from engine.projects.quota import ProjectQuota
from engine.store import JobRow, ObjectEnd, ObjectName, ObjectRow, Store, Subject, Transaction

__all__ = [
    "JOB_KINDS",
    "KINDS",
    "ONLY_SLOT",
    "Object",
    "ObjectKind",
    "Objects",
    "Project",
    "encoded",
    "key_of",
    "now",
    "unknown",
    "unknown_project",
]

# What an object was asked with; or what writes something beside the object, in the transaction that makes it, and then gives that.
Asked = Mapping[str, Any] | Callable[[Transaction], Awaitable[Mapping[str, Any]]]

# A team that has as many unfinished jobs as it may have should ask again after this.
RETRY_AFTER_S = 10


class Objects:
    """The objects of all projects.

    quota          of their files
    jobs_per_team  unfinished jobs that one team may have
    """

    def __init__(self, store: Store, jobs: Jobs, quota: ProjectQuota, *, jobs_per_team: int) -> None:
        self.store = store
        self._jobs = jobs
        self._quota = quota
        self._jobs_per_team = jobs_per_team
        self._progress: dict[str, dict[str, Any]] = {}  # by the keys of jobs that are started here

    # Made

    async def create(
        self,
        project: Project,
        kind: ObjectKind,
        request: Asked,
        *,
        created_by: str,
        uses: Sequence[tuple[ObjectKind, int]] = (),
        on_commit: Callable[[], object] | None = None,
    ) -> Object:
        """A new object with its number and its job, all in one transaction; it is shown as it was before its job was taken.

        uses       what it is made of, which cannot be deleted before it
        on_commit  called once the object is there
        raises     EngineError `unknown_project`, `too_many_jobs`, and `unknown_...` for what is used and not there
        """
        async with self.store.transaction() as transaction:
            self._require_turn(await self.store.num_unfinished_objects(project.team, transaction))
            asked = await request(transaction) if callable(request) else request
            name = await self._add(transaction, project, kind, encoded(asked), created_by)
            for used_kind, used_iid in dict.fromkeys(uses):
                if not await self.store.add_use(transaction, name, used_kind, used_iid):
                    raise unknown(used_kind)
            await self._jobs.add(transaction, job_of(name))
            if on_commit is not None:
                transaction.after_commit(on_commit)
            row = await self.store.object_row(transaction, name, key_prefix(project, kind))
        return _found(kind, row)

    async def _add(self, transaction: Transaction, project: Project, kind: ObjectKind, request: str, by: str) -> ObjectName:
        """A new row, with the next number. EngineError `unknown_project`."""
        iid = await self.store.next_number(transaction, project.team, project.id, kind)
        name = ObjectName(project.team, project.id, kind, iid)
        if not await self.store.add_object(transaction, name, request=request, created_at=now(), by=by):
            raise unknown_project()
        return name

    async def check_room(self, team: str, *, num_more: int = 0, num_bytes: int = 0) -> None:
        """Refuse what will become a job, and keep files, before much is done for it. EngineError `too_many_jobs`, `quota_exceeded`.

        num_more   requests of the team that are about to become jobs
        num_bytes  that it is known to keep
        """
        self._require_turn(await self.store.num_unfinished_objects(team) + num_more)
        await self._quota.check(team, num_bytes)

    def _require_turn(self, num_unfinished: int) -> None:
        if num_unfinished >= self._jobs_per_team:
            text = f"The team has {self._jobs_per_team} unfinished jobs, which is the limit."
            raise EngineError(TOO_MANY_JOBS, text, retry_after_s=RETRY_AFTER_S)

    # Found

    async def get(self, project: Project, kind: ObjectKind, iid: int) -> Object:
        """EngineError `unknown_...`."""
        name = ObjectName(project.team, project.id, kind, iid)
        return _found(kind, await self.store.find_object(name, key_prefix(project, kind)))

    async def list(self, project: Project, kind: ObjectKind, *, limit: int, before: int | None = None) -> tuple[Object, ...]:
        """The newest ones, perhaps those with lower numbers than `before`, without their results."""
        prefix = key_prefix(project, kind)
        rows = await self.store.list_objects(project.team, project.id, kind, prefix, limit=limit, before=before)
        return tuple(map(Object.of_row, rows))

    async def require_complete(self, project: Project, kind: ObjectKind, iids: Sequence[int]) -> None:
        """Refuse numbers of objects that others cannot be made of. EngineError `unknown_...`, `not_complete`."""
        statuses = await self.store.object_statuses(project.team, project.id, kind, iids)
        if missing := [iid for iid in iids if iid not in statuses]:
            raise _refusal(UNKNOWN[kind], kind, missing, "is not there")
        if unfinished := [iid for iid in iids if statuses[iid] != "success"]:
            raise _refusal(NOT_COMPLETE, kind, unfinished, "is not complete")

    async def active(self, project: Project, kind: ObjectKind) -> tuple[Object, ...]:
        """Those that are active: at most one for each slot, oldest first."""
        rows = await self.store.list_active_objects(project.team, project.id, kind, key_prefix(project, kind))
        return tuple(map(Object.of_row, rows))

    # Chosen, cancelled, deleted

    async def activate(self, project: Project, kind: ObjectKind, iid: int, slot: str = ONLY_SLOT) -> Object:
        """The object, which takes a slot of its project from the one that had it. EngineError `unknown_...`, `not_complete`."""
        (await self.get(project, kind, iid)).require_complete()
        async with self.store.transaction() as transaction:
            if not await self.store.take_slot(transaction, ObjectName(project.team, project.id, kind, iid), slot):
                raise unknown(kind)  # somebody has deleted it since
        return await self.get(project, kind, iid)

    async def cancel(self, project: Project, kind: ObjectKind, iid: int) -> Object:
        """The object, whose job is cancelled; what it still does changes nothing. EngineError `unknown_...`, `already_finished`."""
        await self.get(project, kind, iid)
        name = ObjectName(project.team, project.id, kind, iid)
        async with self.store.transaction() as transaction:
            if not await self._cancel(transaction, name):
                raise EngineError(ALREADY_FINISHED, f"{word_of(kind).capitalize()} {iid} is finished already.")
        return await self.get(project, kind, iid)

    async def _cancel(self, transaction: Transaction, name: ObjectName) -> bool:
        """Cancel the job of an object, and say so in its row; False when it has ended."""
        found = await self.store.find_job(transaction, key_of(name))
        if not await self.store.end_object(transaction, name, ObjectEnd("cancelled", now()), found):
            return False
        party, kinds = f"{name.team}/{name.project}", (JOB_KINDS[cast(ObjectKind, name.kind)],)
        await self._jobs.cancel(transaction, ("waiting", "started"), kinds, Subject(party, str(name.iid)))
        return True

    async def delete(self, project: Project, kind: ObjectKind, iid: int) -> ObjectName:
        """The object is not found any more, and removal.py must remove its files. An unfinished one is cancelled.

        raises  EngineError `unknown_...`; `in_use` when it is active, or something was made of it
        """
        found = await self.get(project, kind, iid)
        async with self.store.transaction() as transaction:
            await self._check_unused(transaction, found)
            await self._cancel(transaction, found.name)
            await self.store.hide_objects(transaction, project.team, project.id, kind, iid)
        return found.name

    async def _check_unused(self, transaction: Transaction, found: Object) -> None:
        word = word_of(found.kind)
        row = await self.store.object_row(transaction, found.name, key_prefix(found.project, found.kind))
        details = [
            {"Code": "used", "Kind": kind, "IId": iid, "Message": f"{word_of(kind).capitalize()} {iid} was made of it."}
            for kind, iid in await self.store.users_of(transaction, found.name)
        ]
        if row is not None and row.active is not None:
            details.insert(0, {"Code": "active", "Kind": found.kind, "IId": found.iid, "Message": "It is active."})
        if details:
            raise ListedError(IN_USE, f"{word.capitalize()} {found.iid} is in use.", details)

    # Done by jobs, or in their place

    async def recover(self) -> None:
        """End the objects that no job will end, because somebody has forgotten their jobs."""
        error = {"code": str(INTERNAL), "message": "The job of this was lost.", "details": [], "details_total": 0}
        for kind, job_kind in JOB_KINDS.items():
            for name in await self.store.list_stranded_objects(kind, job_kind):
                async with self.store.transaction() as transaction:
                    await self.store.end_object(transaction, name, ObjectEnd("error", now(), error=encoded(error)), None)

    async def made_by(self, job: JobRow) -> Object:
        """The object that a started job is to make. EngineError `unknown_...` when it was deleted."""
        name = name_of(job)
        return await self.get(Project(name.team, name.project), cast(ObjectKind, name.kind), name.iid)

    async def of_job(self, transaction: Transaction, job: JobRow) -> Object | None:
        """The object that a job has made, in the transaction that ends the job; None when it was deleted."""
        name = name_of(job)
        row = await self.store.object_row(transaction, name, key_prefix(Project(name.team, name.project), name.kind))
        # The job has ended, and the row does not have its attempts yet.
        return replace(Object.of_row(row), attempts=job.attempts) if row else None

    async def settle(self, transaction: Transaction, job: JobRow, end: ObjectEnd, *, active_slot: str | None = None) -> None:
        """Write how an object ends, with times and attempts of its job, and perhaps make it active."""
        name = name_of(job)
        await self.store.end_object(transaction, name, end, job)
        if active_slot is not None:
            await self.store.take_slot(transaction, name, active_slot)
        transaction.after_commit(functools.partial(self.forget_progress, job))

    def note_progress(self, job: JobRow, header: Header) -> None:
        """A replica says how far a job is; it does so at most twice a second."""
        self._progress[job.key] = header["progress"]

    def forget_progress(self, job: JobRow) -> None:
        self._progress.pop(job.key, None)

    def progress(self, found: Object) -> dict[str, Any] | None:
        """How far the job of an object is, while it is started and has said so."""
        return self._progress.get(key_of(found.name)) if found.status == "started" else None


def _found(kind: ObjectKind, row: ObjectRow | None) -> Object:
    if row is None:
        raise unknown(kind)
    return Object.of_row(row)


def _refusal(code: Code, kind: ObjectKind, iids: Sequence[int], fault: str) -> EngineError:
    """The refusal of a request that names objects which it cannot use."""
    word = word_of(kind).capitalize()
    details: list[dict[str, Any]] = [{"Code": code, "Kind": kind, "IId": iid, "Message": f"{word} {iid} {fault}."} for iid in iids]
    return ListedError(code, details[0]["Message"], details)
