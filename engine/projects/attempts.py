"""Attempts: the folder that one attempt at a job writes, until what is in it takes its place among the datasets.

An attempt of which nothing is kept loses its folder at once, also when its replica had answered: the job may have been cancelled,
or the database may have been busy. A crash leaves it to the next start.
"""

import asyncio
from pathlib import Path

from engine.projects import files
from engine.projects.files import ProjectFolders
from engine.projects.kinds import Object
from engine.store import ObjectName


class Attempts:
    """The folders of all attempts."""

    def __init__(self, folders: ProjectFolders) -> None:
        self._folders = folders

    async def begin(self, found: Object) -> Path:
        """The empty folder of this attempt at the job of an object."""
        folder = self._folders.attempt(found.name, found.attempts)
        await asyncio.to_thread(files.empty_folder, folder)
        return folder

    async def put(self, found: Object) -> None:
        """Let the folder, which is whole and on the disk, take its place, from which an earlier attempt is removed."""
        await asyncio.to_thread(files.put, self._folders.attempt(found.name, found.attempts), self._folders.dataset(found.name))

    async def discard(self, name: ObjectName, attempts: int) -> None:
        """For object_kind."""
        await asyncio.to_thread(files.remove, self._folders.attempt(name, attempts))
