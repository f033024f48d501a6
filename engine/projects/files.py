"""Where projects keep what belongs to them on disk. Folders are built from ids alone, never from names that people send.

    uploads/<32 hex>/file, rows.parquet                    one upload: as it was sent, and the rows that a replica has read
    datasets/<team>/<project>-<dataset or attribution>-<number>/
    datasets/.staging/<folder>.<attempt>/                  what a job writes; no name in a catalogue begins so
    models/<team>/<project>-model-<number>/                a model, which the publisher puts there and removes

Every function but those of ProjectFolders blocks on the disk: call it in a thread.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from engine import files
from engine.store import ObjectName

FILE, ROWS = "file", "rows.parquet"
STAGING, GONE = ".staging", ".gone"
# The empty folder of a team may be removed between the moment that we make it and the moment that we put something there.
TRIES = 5


@dataclass(frozen=True, slots=True)
class ProjectFolders:
    """The folders of all projects, below the absolute data directory."""

    data_dir: Path

    @property
    def uploads(self) -> Path:
        return self.data_dir / "uploads"

    @property
    def datasets(self) -> Path:
        return self.data_dir / "datasets"

    @property
    def staging(self) -> Path:
        return self.datasets / STAGING

    def upload(self, folder: str) -> Path:
        """folder: 32 hex digits."""
        return self.uploads / folder

    def dataset(self, name: ObjectName) -> Path:
        """What an object has in the catalogue of datasets."""
        return self.datasets / name.team / made_name(name)

    def model(self, name: ObjectName) -> Path:
        """What an object has among the models of its team."""
        return self.data_dir / "models" / name.team / made_name(name)

    def attempt(self, name: ObjectName, attempts: int) -> Path:
        """Where an attempt at the job of an object writes."""
        return self.staging / f"{name.team}.{made_name(name)}.{attempts}"


@dataclass(frozen=True, slots=True)
class DatasetListener:
    """Is told the titles of what projects have in the catalogue of datasets.

    made     a dataset is there from now on
    removed  its files are gone. Its object goes afterwards, so a StoreError, or the end of the process, makes it be told again
    """

    made: Callable[[str], None]
    removed: Callable[[str], Awaitable[None]]


def made_name(name: ObjectName) -> str:
    """What an object of a project is called among the datasets or models of its team, such as demo-dataset-9."""
    return f"{name.project}-{name.kind}-{name.iid}"


def new_upload(folders: ProjectFolders) -> Path:
    """A new folder for an upload."""
    folder = folders.upload(secrets.token_hex(16))
    folder.mkdir(parents=True)
    return folder


def keep(beside: Path, path: Path) -> None:
    """Give a file, whose content is on the disk, its name, and wait until the disk has the names above it."""
    beside.rename(path)
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        files.fsync(folder)


def empty_folder(folder: Path) -> None:
    """Make a folder, without what an earlier process may have left there."""
    remove(folder)
    folder.mkdir(parents=True)


def put(staging: Path, folder: Path) -> None:
    """Let a folder, whose files are on the disk, take its place, from which an earlier attempt is removed."""
    for tries_left in reversed(range(TRIES)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove(folder)
        try:
            staging.rename(folder)
            break
        except FileNotFoundError:
            if not tries_left:
                raise
    for parent in (folder.parent, folder.parent.parent):
        files.fsync(parent)


def remove_dataset(folder: Path) -> None:
    """Remove a folder of the catalogue, and that of its team if it was the last. OSError when something stays."""
    remove(folder)
    with contextlib.suppress(OSError):  # the team has other datasets, or none has ever been here
        folder.parent.rmdir()


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; nothing happens when it is not there. OSError when something stays.

    A replica may still be writing there: under another name it finds the folder no more.
    """
    gone = folder.with_name(f".{folder.name}{GONE}")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(gone)  # a removal before this one was cut off
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, gone)
        shutil.rmtree(gone)
