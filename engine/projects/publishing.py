"""How models of projects come among the models of the server, and go.

Few of them are ever asked: weekly refits make hundreds. So replicas open only those ahead that are active in their project, and let
them go when another one takes their place. Knows nothing of how a model is fitted.
"""

import asyncio
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from engine.datasets.changes import to_its_end
from engine.errors import MODEL_NOT_FOUND, EngineError
from engine.jobs import Work
from engine.projects.files import made_name
from engine.projects.objects import Object, ObjectKind, Objects, unknown
from engine.replicas.blocks import Answer
from engine.repository.incoming import Incoming
from engine.repository.index import Version
from engine.repository.publishing import Publisher
from engine.repository.serving import Serving, Spawn
from engine.store import ObjectName, Store

log = logging.getLogger("sluice.projects")

KIND: ObjectKind = "model"


class ProjectModels:
    """The names of the models that projects have made, in memory. `read` comes before a replica is started."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_active: dict[tuple[str, str], bool] = {}

    async def read(self) -> None:
        """Read them from the database."""
        self._is_active = {_title(name): is_active for name, is_active in await self._store.list_object_names(KIND)}

    def is_one(self, owner: str, name: str) -> bool:
        """Whether a project has made this model."""
        return (owner, name) in self._is_active

    def opens_ahead(self, owner: str, name: str) -> bool:
        """Whether replicas open this model before somebody asks for it: it is no project's, or is active in its project."""
        return self._is_active.get((owner, name), True)

    def active(self) -> frozenset[tuple[str, str]]:
        """Owner and name of each that is active in its project."""
        return frozenset(title for title, is_active in self._is_active.items() if is_active)

    def add(self, name: ObjectName) -> None:
        """A model that is about to be published."""
        self._is_active.setdefault(_title(name), False)

    def discard(self, name: ObjectName) -> None:
        """A model that is gone."""
        self._is_active.pop(_title(name), None)


class Publishing:
    """Publishes models of projects, and removes what was published."""

    def __init__(self, objects: Objects, publisher: Publisher, serving: Serving, names: ProjectModels, spawn: Spawn) -> None:
        self._objects = objects
        self._publisher = publisher
        self._serving = serving
        self._names = names
        self._spawn = spawn

    async def clean(self) -> None:
        """Remove what a process before this one has published of models that were cancelled, or have failed."""
        for name in await self._objects.store.list_failed_objects(KIND):
            try:
                await self.remove(name, {})
            except (EngineError, OSError) as error:  # another start may succeed
                log.error("model of a failed fit not removed object=%s reason=%r", name, str(error))

    def incoming(self, name: ObjectName) -> AbstractAsyncContextManager[Incoming]:
        """A folder for the files of a model."""
        return self._publisher.incoming_from_inside(name.team, made_name(name))

    async def publish(self, found: Object, incoming: Incoming, answer: Answer) -> Work | None:
        """Publish what a replica has written, unless it has refused, and note the version in its answer.

        A publish goes on to its end when the job is cancelled; then `remove_unwanted` finds all of it.

        raises  EngineError as Publisher.publish
        """
        if "values" in answer.header:
            await asyncio.to_thread(incoming.note_files)
            self._names.add(found.name)
            confirm = functools.partial(self._require_wanted, found)
            published = await to_its_end(self._publisher.publish(incoming, confirm=confirm))
            answer.header["version"] = published.version
        return None

    async def _require_wanted(self, found: Object) -> None:
        """EngineError `unknown_model` for a model that was cancelled or deleted meanwhile."""
        if not await self._is_wanted(found):
            raise unknown(KIND)

    async def _is_wanted(self, found: Object) -> bool:
        try:
            now = await self._objects.get(found.project, KIND, found.iid)
        except EngineError:
            return False
        return now.status in ("waiting", "started", "success")

    async def remove_unwanted(self, found: Object) -> None:
        """Remove what was published of a model that was cancelled or deleted before its job had ended."""
        if not await self._is_wanted(found):
            await self.remove(found.name, found.request)

    async def remove(self, name: ObjectName, request: Mapping[str, Any]) -> None:
        """Remove a published model; nothing happens when there is none."""
        try:
            await self._publisher.delete(name.team, made_name(name))
        except EngineError as error:
            if error.code != MODEL_NOT_FOUND:
                raise
        self._names.discard(name)

    def note_activation(self) -> None:
        """Another model of a project is active: the replicas that run open it, and let go the one that was active before."""
        self._spawn(self._follow_activation(), "open active models of projects")

    async def _follow_activation(self) -> None:
        before = self._names.active()
        await self._names.read()
        after = self._names.active()
        for version in self._versions(before - after):
            self._serving.retire(version)
        for version in self._versions(after - before):
            self._serving.keep(version)
        self._serving.open_new()

    def _versions(self, titles: Iterable[tuple[str, str]]) -> Iterator[Version]:
        """What is served of these models."""
        for owner, name in titles:
            model = self._serving.repository.find(owner, name)
            if model is not None and model.active is not None:
                yield model.active


def _title(name: ObjectName) -> tuple[str, str]:
    return name.team, made_name(name)
