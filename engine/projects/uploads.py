"""Uploads: files that people send to a project, kept as they came, and read by a job into the rows of one type of data.

A file is on the disk before its upload has a number. What a crash leaves without one is removed at the next start. Knows no HTTP,
and nothing of what a file holds: engine/tasks/projects reads it.
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ujson

from engine.datasets.changes import to_its_end
from engine.disk import Disk
from engine.errors import EngineError
from engine.jobs import JobKind, Work
from engine.projects import files
from engine.projects.codes import BAD_DATASET_NAME, FILE_TOO_LARGE
from engine.projects.files import ProjectFolders
from engine.projects.objects import Object, Objects, Project
from engine.projects.work import Settled, object_kind, task_of
from engine.receiving import write_chunks
from engine.replicas.blocks import Answer
from engine.store import ObjectName, Transaction

log = logging.getLogger("sluice.projects")

READ_UPLOAD = task_of("read_upload")
DATASET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,39}")
# The types of data that have columns of their own, however their letters are written.
TYPES = (
    "Sales",
    "Media",
    "Events",
    "Distribution",
    "Visits",
    "Competitor",
    "Brand",
    "Customer Experience",
    "Weather",
    "Price",
    "Macro",
    "Extra",
)
_TYPES = {name.lower(): name for name in TYPES}
MAX_FILE_NAME = 255


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Settings of server/config.py, by the same names."""

    project_upload_limit_bytes: int
    project_upload_limit_rows: int


def type_of(text: str | None) -> str:
    """The type of data that a request names. EngineError `bad_dataset_name`."""
    if text is None or not DATASET_NAME.fullmatch(text):
        text = f"Name the type of data in the query: ?dataset_name=Sales. The types are {', '.join(TYPES)}, and names of your own."
        raise EngineError(BAD_DATASET_NAME, text)
    return _TYPES.get(text.lower(), text)


@dataclass(slots=True)
class ArrivingFile:
    """A file that is being sent.

    name     as its sender calls it
    is_kept  it belongs to an upload now
    """

    folder: Path
    name: str = ""
    num_bytes: int = 0
    is_kept: bool = False

    def keep(self) -> None:
        self.is_kept = True


class ProjectUploads:
    """The uploads of all projects. `clean` comes first."""

    def __init__(self, objects: Objects, folders: ProjectFolders, disk: Disk, limits: UploadLimits) -> None:
        self.limits = limits
        self._objects = objects
        self._folders = folders
        self._disk = disk
        self._arriving: Counter[str] = Counter()  # files that are being sent, by team

    async def clean(self) -> None:
        """Remove the folders of files that have no upload, because a process ended before."""
        kept = {ujson.loads(request)["folder"] for request in await self._objects.store.list_requests("upload")}
        number = await asyncio.to_thread(_remove_others, self._folders.uploads, kept)
        if number:
            log.info("files without an upload removed folders=%d", number)

    # A file comes

    async def check_room(self, team: str, num_bytes: int) -> None:
        """Refuse a file before it is read. EngineError `file_too_large`, `too_many_jobs`, `quota_exceeded`, `disk_full`.

        num_bytes  that it has at least
        """
        if num_bytes > self.limits.project_upload_limit_bytes:
            raise self._too_large()
        await self._objects.check_room(team, num_more=self._arriving[team], num_bytes=num_bytes)
        await asyncio.to_thread(self._disk.check, num_bytes)

    @contextlib.asynccontextmanager
    async def arriving(self, team: str) -> AsyncIterator[ArrivingFile]:
        """The folder of a file that is being sent. It is removed unless `create` has made an upload of it."""
        with self._counted(team):
            arriving = ArrivingFile(await asyncio.to_thread(files.new_upload, self._folders))
            try:
                yield arriving
            finally:
                if not arriving.is_kept:
                    await to_its_end(asyncio.to_thread(_remove, arriving.folder))

    @contextlib.contextmanager
    def _counted(self, team: str) -> Iterator[None]:
        self._arriving[team] += 1
        try:
            yield
        finally:
            self._arriving[team] -= 1

    async def receive(self, arriving: ArrivingFile, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write the file as it comes. EngineError `file_too_large`, `disk_full`, and those of the chunks."""
        arriving.name = cleaned(name)
        beside = arriving.folder / f".{files.FILE}.new"
        await write_chunks(beside, self._measured(arriving, chunks), self._disk, is_synced=True)
        await asyncio.to_thread(files.keep, beside, arriving.folder / files.FILE)

    async def _measured(self, arriving: ArrivingFile, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            arriving.num_bytes += len(chunk)
            if arriving.num_bytes > self.limits.project_upload_limit_bytes:
                raise self._too_large()
            yield chunk

    def _too_large(self) -> EngineError:
        return EngineError(FILE_TOO_LARGE, f"The file is larger than {self.limits.project_upload_limit_bytes} bytes.")

    async def create(self, project: Project, dataset_name: str, arriving: ArrivingFile, *, created_by: str) -> Object:
        """The upload of a file that has come. EngineError `unknown_project`, `too_many_jobs`, `quota_exceeded`."""
        await self._objects.check_room(project.team, num_bytes=arriving.num_bytes)  # the head need not have told its size
        request = {
            "dataset_name": dataset_name,
            "file_name": arriving.name,
            "bytes": arriving.num_bytes,
            "folder": arriving.folder.name,
        }
        create = self._objects.create(project, "upload", request, created_by=created_by, on_commit=arriving.keep)
        return await to_its_end(create)

    # It is read

    def kind(self) -> JobKind:
        """The kind of job that reads an upload."""
        return object_kind(self._objects, READ_UPLOAD.name, "quick", self._ask, self._settled)

    async def _ask(self, found: Object) -> Work:
        await asyncio.to_thread(self._disk.check, found.request["bytes"])
        folder = self._folders.upload(found.request["folder"])
        arguments = {
            "file": str(folder / files.FILE),
            "name": found.request["file_name"],
            "dataset_name": found.request["dataset_name"],
            "folder": str(folder),
            "max_rows": self.limits.project_upload_limit_rows,
        }
        return Work(READ_UPLOAD, arguments)

    async def _settled(self, transaction: Transaction, found: Object, answer: Answer) -> Settled:
        return Settled(str(answer.payload, "utf-8"))

    # What was read

    def rows_of(self, found: Object) -> dict[str, str]:
        """The type of a complete upload, with the path of its rows."""
        return {found.request["dataset_name"]: str(self._folders.upload(found.request["folder"]) / files.ROWS)}

    async def remove(self, name: ObjectName, request: Mapping[str, Any]) -> None:
        """Remove the files of an upload. OSError when some stay."""
        await asyncio.to_thread(files.remove, self._folders.upload(request["folder"]))


def cleaned(name: str) -> str:
    """The name of a file without the folders before it, in characters that can be written as UTF-8."""
    last = re.split(r"[/\\]", name)[-1]
    return last.encode("utf-8", "replace").decode()[:MAX_FILE_NAME]


def _remove_others(folder: Path, kept: set[str]) -> int:
    """Remove everything in a folder but these; how much there was. Blocks on the disk."""
    if not folder.is_dir():
        return 0
    others = [path for path in folder.iterdir() if path.name not in kept]
    for path in others:
        _remove(path)
    return len(others)


def _remove(folder: Path) -> None:
    """Remove a file that has no upload. What cannot be removed now is removed at the next start. Blocks on the disk."""
    try:
        files.remove(folder)
    except OSError as error:
        log.error("file without an upload not removed folder=%s reason=%s", folder.name, type(error).__name__)
