"""Datasets of projects: what several uploads and earlier datasets amount to, joined by a job and laid down in the catalogue.

A dataset never changes. Knows no HTTP, and nothing of the rows.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ujson

from engine.datasets.names import PREFIX
from engine.disk import Disk
from engine.errors import EngineError, TaskFailed
from engine.jobs import JobKind, Work
from engine.projects import files
from engine.projects.asking import ask, short_task
from engine.projects.attempts import Attempts
from engine.projects.codes import EMPTY_REQUEST, NO_ACTIVE_DATASET
from engine.projects.files import DatasetListener, ProjectFolders, made_name
from engine.projects.objects import ONLY_SLOT, Object, ObjectKind, Objects, Project, encoded
from engine.projects.uploads import ProjectUploads
from engine.projects.work import Settled, object_kind, task_of
from engine.replicas.blocks import Answer
from engine.replicas.pool import Pool
from engine.store import ObjectName, Transaction

JOIN = task_of("join")
DATES = short_task("dates")


@dataclass(frozen=True, slots=True)
class Sources:
    """What a dataset is made of: of rows with the same key, the last one counts; uploads come after datasets."""

    dataset_ids: tuple[int, ...]
    upload_ids: tuple[int, ...]

    @property
    def uses(self) -> "list[tuple[ObjectKind, int]]":
        """Kind and number of each."""
        return [*(("dataset", iid) for iid in self.dataset_ids), *(("upload", iid) for iid in self.upload_ids)]

    @classmethod
    def of(cls, dataset_ids: Sequence[int], upload_ids: Sequence[int]) -> "Sources":
        """Each once, where it comes last. EngineError `empty_request`."""
        if not dataset_ids and not upload_ids:
            raise EngineError(EMPTY_REQUEST, "Name at least one upload or dataset.")
        return cls(_once(dataset_ids), _once(upload_ids))


class ProjectDatasets:
    """The datasets of all projects.

    listener  is told of each dataset that is there from now on, or is gone
    """

    def __init__(
        self,
        objects: Objects,
        uploads: ProjectUploads,
        folders: ProjectFolders,
        disk: Disk,
        queries: Pool,
        listener: DatasetListener,
    ) -> None:
        self._objects = objects
        self._uploads = uploads
        self._folders = folders
        self._attempts = Attempts(folders)
        self._disk = disk
        self._queries = queries
        self._listener = listener

    async def clean(self) -> None:
        """Remove what jobs have left that a process before this one had begun."""
        await asyncio.to_thread(files.remove, self._folders.staging)

    # Made

    async def create(self, project: Project, sources: Sources, *, activate: bool, created_by: str) -> Object:
        """A new dataset. EngineError `unknown_upload`, `unknown_dataset`, `not_complete`, `too_many_jobs`, `quota_exceeded`."""
        await self._objects.require_complete(project, "dataset", sources.dataset_ids)
        await self._objects.require_complete(project, "upload", sources.upload_ids)
        await self._objects.check_room(project.team)
        request = {"uploads": list(sources.upload_ids), "datasets": list(sources.dataset_ids), "activate": activate}
        return await self._objects.create(project, "dataset", request, created_by=created_by, uses=sources.uses)

    def kind(self) -> JobKind:
        """The kind of job that joins a dataset."""
        return object_kind(self._objects, JOIN.name, "quick", self._ask, self._settled, self._attempts.discard)

    async def _ask(self, found: Object) -> Work:
        await asyncio.to_thread(self._disk.check, 0)
        sources = [await self.files_of(found.project, iid) for iid in found.request["datasets"]]
        for iid in found.request["uploads"]:
            sources.append(self._uploads.rows_of(await self._objects.get(found.project, "upload", iid)))
        folder = await self._attempts.begin(found)
        return Work(JOIN, {"sources": sources, "title": title_of(found.name), "folder": str(folder)})

    async def _settled(self, transaction: Transaction, found: Object, answer: Answer) -> Settled:
        await self._attempts.put(found)
        transaction.after_commit(functools.partial(self._listener.made, title_of(found.name)))
        slot = ONLY_SLOT if found.request["activate"] else None
        types = encoded(answer.header["types"])
        return Settled(str(answer.payload, "utf-8"), answer.header["warnings"], types, slot)

    # Read

    async def active(self, project: Project) -> Object:
        """EngineError `no_active_dataset`."""
        found = await self._objects.active(project, "dataset")
        if not found:
            raise EngineError(NO_ACTIVE_DATASET, "No dataset of the project is active.")
        return found[0]

    async def files_of(self, project: Project, iid: int) -> dict[str, str]:
        """The absolute paths of the files of a dataset, by their types. EngineError `unknown_dataset`, `not_complete`."""
        found = (await self._objects.get(project, "dataset", iid)).require_complete()
        folder = self._folders.dataset(found.name)
        names: dict[str, str] = ujson.loads(await self._objects.store.read_extra(found.name) or "{}")
        return {one: str(folder / name) for one, name in names.items()}

    async def dates(self, project: Project, iid: int, dataset_name: str, combinations: Sequence[Sequence[str]]) -> bytes:
        """JSON: the dates of Sales on which all of the combinations have rows of a type, ascending.

        combinations  [[country, region, grouping], ...]
        raises        EngineError `unknown_dataset`, `not_complete`, `unknown_combination`
        """
        files_by_type = await self.files_of(project, iid)
        arguments = {"files": files_by_type, "dataset_name": dataset_name, "combinations": list(map(list, combinations))}
        try:
            return bytes((await ask(self._queries, DATES, arguments)).payload)
        except TaskFailed:
            await self.files_of(project, iid)  # somebody may have deleted it meanwhile
            raise

    # Removed

    async def remove(self, name: ObjectName, request: Mapping[str, Any]) -> None:
        """Remove the files of a dataset. OSError when some stay; StoreError."""
        await asyncio.to_thread(files.remove_dataset, self._folders.dataset(name))
        await self._listener.removed(title_of(name))


def title_of(name: ObjectName) -> str:
    """The name of an object in the catalogue of datasets."""
    return f"{name.team}/{made_name(name)}"


def hub_of(found: Object) -> str:
    """The source that queries name."""
    return PREFIX + title_of(found.name)


def _once(iids: Sequence[int]) -> tuple[int, ...]:
    """Each number once, where it stands last."""
    return tuple(reversed(dict.fromkeys(reversed(iids))))
