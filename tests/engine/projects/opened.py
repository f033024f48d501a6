"""Objects of projects with real jobs, replicas and SQLite, for tests: what a replica does for each is told by its request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.jobs import JobOptions, Jobs, Work
from engine.projects.files import ProjectFolders
from engine.projects.objects import JOB_KINDS, KINDS, Object, ObjectKind, Objects, Project
from engine.projects.quota import ProjectQuota
from engine.projects.removal import Removal
from engine.projects.work import Settled, object_kind
from engine.replicas.blocks import Answer
from engine.replicas.pool import Pool
from engine.store import ObjectName, Store, Transaction
from tests.engine.replicas.families import options, task

DEMO, OTHER = Project("acme", "demo"), Project("acme", "other")
AT = "2026-01-31T09:00:00Z"
GIB = 1024**3


@dataclass
class Open:
    """What a test has open. removed: the objects whose files were asked to be removed."""

    store: Store
    pool: Pool
    jobs: Jobs
    objects: Objects
    removal: Removal
    removed: list[ObjectName]

    async def create(self, kind: ObjectKind = "upload", project: Project = DEMO, **request: Any) -> Object:
        """An object whose job runs the task of its request, `swap` by default."""
        return await self.objects.create(project, kind, {"task": "swap", **request}, created_by="eva")

    async def ended(self, made: Object) -> Object:
        """The object once its job has ended."""
        return await self.until(made, lambda found: found.is_finished)

    async def until(self, made: Object, condition: Callable[[Object], bool]) -> Object:
        """The object once it is so: the database tells nobody."""
        async with asyncio.timeout(30):
            while not condition(found := await self.objects.get(made.project, made.kind, made.iid)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def opened(folder: Path, *, jobs_per_team: int = 50, is_started: bool = True) -> AsyncIterator[Open]:
    """Two projects of one team; one folder may be opened again after the first was closed."""
    store = await Store.open(folder / "sluice.db")
    pool = Pool("test", 2, options(folder), silence_limit_s=30)
    jobs = Jobs(store, pool, {}, JobOptions(2, sleep_s=3600, most_quick=2))
    quota = ProjectQuota(store, ProjectFolders(folder), team_bytes=GIB)
    objects = Objects(store, jobs, quota, jobs_per_team=jobs_per_team)
    jobs.learn({name: _kind(objects, name) for name in JOB_KINDS.values()})
    removed: list[ObjectName] = []
    removal = Removal(store, jobs, dict.fromkeys(KINDS, _note_in(removed)))
    try:
        await _add_projects(store)
        await pool.start()
        if is_started:
            await jobs.start()
        yield Open(store, pool, jobs, objects, removal, removed)
    finally:
        await jobs.stop()
        await pool.stop()
        await store.close()


def _kind(objects: Objects, name: str) -> Any:
    async def ask(found: Object) -> Work:
        request = dict(found.request)
        limits = {key: request.pop(key) for key in ("time_limit_s", "memory_bytes") if key in request}
        return Work(task(request.pop("task"), **limits), request)

    async def settled(transaction: Transaction, found: Object, answer: Answer) -> Settled:
        warnings = [{"Code": "gap", "Message": "A week is missing."}]
        return Settled('{"Rows": 3}', warnings, '{"extra": 1}', found.request.get("slot"))

    return object_kind(objects, name, "quick", ask, settled)


def _note_in(removed: list[ObjectName]) -> Callable[[ObjectName, Any], Awaitable[None]]:
    async def note(name: ObjectName, request: Any) -> None:
        if request.get("stuck") and name not in removed:
            removed.append(name)
            raise OSError("the file system is read-only")
        removed.append(name)

    return note


async def _add_projects(store: Store) -> None:
    async with store.transaction() as transaction:
        await transaction.run("INSERT INTO teams (id, name) VALUES ('acme', 'Acme') ON CONFLICT DO NOTHING")
        add = "INSERT INTO project (team, id, name, created_at) VALUES ('acme', ?, ?, ?) ON CONFLICT DO NOTHING"
        for project in (DEMO, OTHER):
            await transaction.run(add, (project.id, project.id, AT))
