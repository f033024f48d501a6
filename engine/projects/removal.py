"""Removal: deleted objects lose their files and then their rows, and a deleted project loses its row after its last object.

A deletion is done once the database says so. The files go right after that; what is left when the process ends, or cannot be
removed now, goes later. Knows no kind of object: for each there is a function that removes what it has.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import ujson

from engine.errors import EngineError
from engine.jobs import Jobs
from engine.projects.objects import key_of
from engine.store import ObjectName, Store, StoreError

log = logging.getLogger("sluice.projects")

# What could not be removed is tried again after this.
RETRY_EVERY_S = 30.0

# Removes the files of an object, from its name and its request, and what is open of it. It may be called again for what is gone.
RemoveFiles = Callable[[ObjectName, Mapping[str, Any]], Awaitable[None]]


class Removal:
    """`run` goes on for the life of the server.

    files  what removes the files of an object, by its kind
    """

    def __init__(self, store: Store, jobs: Jobs, files: Mapping[str, RemoveFiles]) -> None:
        self._store = store
        self._jobs = jobs
        self._files = files
        self._locks: WeakValueDictionary[ObjectName, asyncio.Lock] = WeakValueDictionary()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something is to be removed."""
        self._woken.set()

    async def run(self) -> None:
        """Remove what a process before this one has left, and then whatever comes."""
        while True:
            self._woken.clear()
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("nothing removed reason=%r", str(error))
            except Exception:  # without this loop files stay for ever
                log.exception("removal failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_EVERY_S):
                    await self._woken.wait()

    async def sweep(self) -> None:
        """Remove all that is to be removed, as far as that can be done now. StoreError."""
        for name in await self._store.list_hidden_objects():
            try:
                await self.remove(name)
            except StoreError:
                raise
            except Exception:  # a bug in one kind must not keep the files of others
                log.exception("object not removed object=%s", name)
        left = {(name.team, name.project) for name in await self._store.list_hidden_objects()}
        for project in await self._store.list_hidden_projects():
            if (project.team, project.id) not in left:
                await self._store.remove_project(project.team, project.id)
                log.info("project removed project=%s/%s", project.team, project.id)

    async def remove(self, name: ObjectName) -> None:
        """Remove an object that is not found any more, once no replica works on it. When its files cannot be removed, it stays."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            request = await self._store.find_hidden_object(name)
            if request is None:
                return
            await self._jobs.left(key_of(name))
            try:
                await self._files[name.kind](name, ujson.loads(request))
            except (OSError, EngineError) as error:
                log.error("files of an object not removed object=%s reason=%r", name, str(error))
                return
            async with self._store.transaction() as transaction:
                await self._store.remove_graph_of(transaction, name)
                await self._store.remove_object(transaction, name)
