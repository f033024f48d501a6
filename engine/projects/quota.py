"""The quota of projects: how many bytes those of one team keep on disk, and how many they may.

What they keep is counted from the folders each time, so that the count is right whatever a job has written or a person has removed:
thousands of files take some milliseconds. What is on its way when the last byte is taken is still kept: the files of the jobs that
a team may have unfinished. Knows no caller.
"""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from engine.accounts import ADMIN
from engine.projects.files import ProjectFolders
from engine.projects.kinds import ObjectKind
from engine.repository.quotas import exceeded
from engine.store import ObjectName, Store

MODEL: ObjectKind = "model"


class ProjectQuota:
    """The quota of every team.

    team_bytes  that all projects of one team may take; those of the admin's own team may take any number
    """

    def __init__(self, store: Store, folders: ProjectFolders, *, team_bytes: int) -> None:
        self._store = store
        self._folders = folders
        self._team_bytes = team_bytes

    async def check(self, team: str, num_bytes: int = 0) -> None:
        """EngineError `quota_exceeded` when the projects of a team keep all that they may, or so many bytes more are too many."""
        if team == ADMIN:
            return
        kept = await asyncio.to_thread(self._kept_bytes, await self._store.list_folders_of_team(team))
        if kept >= self._team_bytes or kept + num_bytes > self._team_bytes:
            text = f"The projects of the team keep {kept:,} of the {self._team_bytes:,} bytes that they may; delete some first."
            raise exceeded(text)

    def _kept_bytes(self, objects: Iterable[tuple[ObjectName, str | None]]) -> int:
        return sum(_size(self._folder_of(name, upload)) for name, upload in objects)

    def _folder_of(self, name: ObjectName, upload: str | None) -> Path:
        """Where an object has its files, if it has any. upload: the folder that an upload has."""
        if upload is not None:
            return self._folders.upload(upload)
        return self._folders.model(name) if name.kind == MODEL else self._folders.dataset(name)


def _size(folder: Path) -> int:
    """The bytes of all files below a folder. What is not there, or is removed meanwhile, has none."""
    return sum(_size_of_file(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names)


def _size_of_file(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
