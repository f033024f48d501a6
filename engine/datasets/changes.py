"""Changes of datasets: one at a time for each dataset, each a new version, committed by the rename of its HEAD.

Also what there must be room for, what a change may depend on, and which versions go when new ones come. Knows no HTTP and no row.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from engine.columns import Column
from engine.datasets.catalogue import Dataset, Datasets, dataset_not_found, version_not_found
from engine.datasets.folders import DatasetFolder
from engine.datasets.versions import Change, DatasetVersion, StoredSegment
from engine.disk import Disk
from engine.errors import INVALID_PARAMETER, Code, EngineError, Kind
from engine.repository.quotas import exceeded
from engine.store import StoreError, Visibility

log = logging.getLogger("sluice.datasets")

DATASET_EXISTS = Code(
    "dataset_exists", Kind.CONFLICT, "there is a dataset of this name, or files that a person has put in its place"
)
VERSION_CHANGED = Code("version_changed", Kind.CONFLICT, "the dataset has another version than If-Match names")

Result = TypeVar("Result")
# The versions before a deletion keep their rows, so that it takes room first. With it, a user may keep so many times the bytes of
# its quota: with no limit, deletions of one row after the other would fill the disk.
DELETION_SHARE = 2


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """What datasets may take. Settings of server/config.py, by the same names."""

    dataset_versions: int
    user_datasets: int
    user_dataset_bytes: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a change depends on. It is checked before a body is read, and again when nothing can come in between any more.

    must_exist   a missing dataset is not made
    must_be_new  an existing dataset is left as it is
    matches      numbers of versions, one of which must be current; None for any. A merge of segments changes no row, so the
                 version before it counts as current
    """

    must_exist: bool = False
    must_be_new: bool = False
    matches: frozenset[int] | None = None

    def check(self, title: str, dataset: Dataset | None) -> None:
        """EngineError `dataset_exists`, `dataset_not_found`, `version_changed`."""
        if dataset is not None and self.must_be_new:
            raise _exists(title)
        if dataset is None and self.must_exist:
            raise dataset_not_found(title)
        if self.matches is not None and (dataset is None or not self.matches & _current(dataset)):
            now = f"has version {dataset.head.number}" if dataset else "does not exist"
            raise EngineError(VERSION_CHANGED, f'"hub://{title}" {now}.')


@dataclass(frozen=True, slots=True)
class NewRows:
    """What a change makes of a dataset.

    segments  of the new version, in order
    staged    folders of those segments that are new; each is named as its segment
    """

    what: Change
    by: str
    columns: Sequence[Column]
    segments: Sequence[StoredSegment]
    staged: Sequence[Path]


class DatasetChanges:
    """Makes every change of a dataset.

    on_commit  functions that are told of each dataset that has a new version
    on_delete  functions that are told the title of each dataset that is gone, before its deletion is answered. StoreError
    """

    def __init__(self, datasets: Datasets, disk: Disk, limits: DatasetLimits) -> None:
        self.datasets = datasets
        self.disk = disk
        self.on_commit: list[Callable[[Dataset], None]] = []
        self.on_delete: list[Callable[[str], Awaitable[None]]] = []
        self._limits = limits
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    # Room

    async def check_room(self, org: str, name: str, num_bytes: int, *, is_counted: bool, is_deletion: bool = False) -> None:
        """Refuse rows for which there is no room. EngineError `disk_full`, `quota_exceeded`.

        num_bytes    as far as it is known
        is_counted   the owner sends them, and not the admin, who has no quotas
        is_deletion  they are what a deletion leaves: an owner who keeps too much must be able to delete
        """
        await asyncio.to_thread(self.disk.check, num_bytes)
        if not is_counted:
            return
        kept = [dataset for dataset in self.datasets if dataset.org == org]
        if self.datasets.get(org, name) is None and len(kept) >= self._limits.user_datasets:
            raise exceeded(f"{org} keeps {len(kept)} datasets, which is the limit: delete one first")
        most = self._limits.user_dataset_bytes * (DELETION_SHARE if is_deletion else 1)
        if sum(dataset.kept_bytes for dataset in kept) + num_bytes > most:
            raise exceeded(f"the datasets of {org} take as many bytes as they may: delete a dataset or old versions first")

    async def folder(self, org: str, name: str) -> DatasetFolder:
        """The folder of a dataset, also of one that is to be made. EngineError `dataset_exists` when other files are there."""
        dataset = self.datasets.get(org, name)
        if dataset is not None:
            return dataset.folder
        folder = DatasetFolder(self.datasets.root.resolve(), org, name)
        if await asyncio.to_thread(folder.is_taken):
            async with self.turn(org, name) as dataset:  # another upload may have committed just now
                if dataset is None and await asyncio.to_thread(folder.is_taken):
                    raise _exists(folder.title)
        return folder

    # Changes

    @contextlib.asynccontextmanager
    async def turn(self, org: str, name: str) -> AsyncIterator[Dataset | None]:
        """The dataset as it is now, which nobody else changes until the context ends; None when there is none."""
        async with self._locks.setdefault((org, name), asyncio.Lock()):
            yield self.datasets.get(org, name)

    async def commit(self, folder: DatasetFolder, org: str, name: str, rows: NewRows) -> DatasetVersion:
        """Give a dataset its next version, or make it; returns that version. Only inside its `turn`. OSError: it is as it was."""
        return await to_its_end(self._commit(folder, org, name, rows))

    async def _commit(self, folder: DatasetFolder, org: str, name: str, rows: NewRows) -> DatasetVersion:
        known = self.datasets.get(org, name)
        previous = known.head if known else None
        number = previous.number + 1 if previous else 1
        version = DatasetVersion(number, rows.what, rows.by, _now(), tuple(rows.columns), tuple(rows.segments))
        await asyncio.to_thread(folder.commit, version, rows.staged, previous, known.description if known else "")
        dataset = known or Dataset(org, name, folder, {})
        dataset.versions[number] = version
        self.datasets.put(dataset)
        log.info("dataset changed dataset=%s what=%s version=%d rows=%d", dataset.title, rows.what, number, version.num_rows)
        await self._note(dataset)
        await self._forget_versions(dataset, list(dataset.versions)[: -self._limits.dataset_versions])
        for listener in self.on_commit:
            listener(dataset)
        return version

    async def _note(self, dataset: Dataset) -> None:
        """Write the row of a dataset. The commit stands without it, and the next start corrects the row."""
        try:
            await self.datasets.store.put_dataset(dataset.row)
        except StoreError as error:
            log.error("row of a dataset not written dataset=%s reason=%r", dataset.title, str(error))

    async def _forget_versions(self, dataset: Dataset, numbers: Iterable[int]) -> None:
        """Remove versions, and the segments that only they name. What cannot be removed now is removed at the next start."""
        gone = {number: dataset.versions.pop(number) for number in numbers}
        if not gone:
            return
        named = dataset.segments
        unnamed = {segment.id for version in gone.values() for segment in version.segments if segment not in named}
        try:
            await asyncio.to_thread(dataset.folder.remove_versions, gone)
            await self.datasets.discard(dataset.folder, unnamed)
        except OSError as error:
            log.error("old versions not removed dataset=%s reason=%s", dataset.title, type(error).__name__)

    async def describe(
        self, dataset: Dataset, conditions: Conditions, *, visibility: Visibility | None, description: str | None
    ) -> None:
        """Change who may read a dataset, or its description; None leaves either as it is. No new version comes of it."""
        async with self.turn(dataset.org, dataset.name) as current:
            conditions.check(dataset.title, current)
            if current is None:
                raise dataset_not_found(dataset.title)
            await to_its_end(self._describe(current, visibility, description))

    async def _describe(self, dataset: Dataset, visibility: Visibility | None, description: str | None) -> None:
        changes: dict[str, Any] = {"visibility": visibility, "description": description}
        row = replace(dataset.row, **{key: value for key, value in changes.items() if value is not None})
        await self.datasets.store.put_dataset(row)
        dataset.visibility, dataset.description = row.visibility, row.description
        await asyncio.to_thread(dataset.folder.write_readme, dataset.head, dataset.description)

    async def delete(self, dataset: Dataset, conditions: Conditions) -> None:
        """Delete a dataset with all its versions. Queries that run keep their files."""
        async with self.turn(dataset.org, dataset.name) as current:
            conditions.check(dataset.title, current)
            if current is not None:
                await to_its_end(self._delete(current))

    async def _delete(self, dataset: Dataset) -> None:
        await asyncio.to_thread(dataset.folder.remove)
        self.datasets.drop(dataset)
        await self.datasets.discard(dataset.folder, {segment.id for segment in dataset.segments})
        await self.datasets.store.remove_dataset(dataset.org, dataset.name)
        for listener in self.on_delete:
            await listener(dataset.title)
        log.info("dataset deleted dataset=%s", dataset.title)

    async def delete_version(self, dataset: Dataset, number: int, conditions: Conditions) -> None:
        """Delete one version that is not current. EngineError `version_not_found`, `invalid_parameter`, those of the conditions."""
        async with self.turn(dataset.org, dataset.name) as current:
            conditions.check(dataset.title, current)
            if current is None or number not in current.versions:
                raise version_not_found(dataset.title, number)
            if number == current.head.number:
                raise EngineError(INVALID_PARAMETER, f"Version {number} is current and cannot be deleted alone.")
            await to_its_end(self._forget_versions(current, [number]))


def _current(dataset: Dataset) -> set[int]:
    """The number of the current version, with those before it from which it differs by merges only."""
    number = dataset.head.number
    numbers = {number}
    while (version := dataset.versions.get(number)) is not None and version.what == "merge":
        number -= 1
        numbers.add(number)
    return numbers


def _exists(title: str) -> EngineError:
    return EngineError(DATASET_EXISTS, f'"hub://{title}" exists already.')


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def to_its_end(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of work that goes on when its caller is cancelled: memory must say what the disk says."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
