"""The catalogue: which datasets there are, who may read and write them, and which files a query may open while it runs.

Everything here is answered from memory. changes.py makes the changes, and upkeep.py mends and merges segments. Knows no HTTP, no
query and no row.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.accounts import Caller, full_key_needed
from engine.datasets.folders import HOME, DatasetFolder
from engine.datasets.names import PREFIX, SourceName, shown
from engine.datasets.versions import DatasetVersion, Listed, Readable, StoredSegment
from engine.errors import FORBIDDEN, Code, EngineError, Kind
from engine.roles import Role
from engine.store import DatasetRow, Store, Visibility

log = logging.getLogger("sluice.datasets")

DATASET_NOT_FOUND = Code("dataset_not_found", Kind.NOT_FOUND, "there is no such dataset, or the caller may not read it")
DATASET_NOT_READY = Code("dataset_not_ready", Kind.NOT_FOUND, "the dataset is being processed; see Retry-After")
VERSION_NOT_FOUND = Code("version_not_found", Kind.NOT_FOUND, "the dataset has no such version, or not any more")

# Who may make, change and delete the datasets of a team.
ROLE_TO_CHANGE = Role.DATA_MANAGER
# What opening one dataset may raise when somebody has changed its files by hand, or the disk has lost them.
UNREADABLE = (OSError, ValueError, LookupError, TypeError)


@dataclass(slots=True, eq=False)
class Dataset:
    """One dataset.

    versions  by number, in order; the last one is the current one
    is_whole  set unless a segment lacks a sidecar, which is being made; a query waits for it
    """

    org: str
    name: str
    folder: DatasetFolder
    versions: dict[int, DatasetVersion]
    visibility: Visibility = "private"
    description: str = ""
    is_whole: asyncio.Event = field(default_factory=lambda: _set_event())
    _counted: tuple[tuple[int, ...], int] = ((), 0)  # the versions whose bytes were counted last, and how many these are

    @property
    def title(self) -> str:
        return f"{self.org}/{self.name}"

    @property
    def head(self) -> DatasetVersion:
        return self.versions[next(reversed(self.versions))]

    @property
    def segments(self) -> set[StoredSegment]:
        """Those that any version names."""
        return {segment for version in self.versions.values() for segment in version.segments}

    @property
    def kept_bytes(self) -> int:
        """The bytes of all segments of all versions. Every block of an upload asks for those of all datasets of its owner."""
        if self._counted[0] != tuple(self.versions):
            self._counted = tuple(self.versions), sum(segment.num_bytes for segment in self.segments)
        return self._counted[1]

    @property
    def row(self) -> DatasetRow:
        head = self.head
        counts = (head.number, head.num_rows, head.num_bytes, head.created_at)
        return DatasetRow(self.org, self.name, self.visibility, self.description, *counts)

    async def wait_until_whole(self, wait_s: float) -> None:
        """Wait until no segment lacks a sidecar, for these seconds at most. EngineError `dataset_not_ready`."""
        try:
            async with asyncio.timeout(wait_s):
                await self.is_whole.wait()
        except TimeoutError:
            raise not_ready(DATASET_NOT_READY, self.title, retry_after_s=1) from None


class Datasets:
    """All datasets of the server. `open` comes before anything else."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root = root
        self.store = store
        self._datasets: dict[tuple[str, str], Dataset] = {}
        self._held: Counter[str] = Counter()  # ids of segments -> queries that may read them
        self._doomed: dict[str, DatasetFolder] = {}  # ids of segments that nobody names and somebody holds
        self._removals: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Read every dataset, remove what a crash has left, and correct the rows of the catalogue and the cards."""
        rows = {(row.org, row.name): row for row in await self.store.list_datasets()}
        found, unreadable = await asyncio.to_thread(_recovered, self.root.resolve())
        for dataset in found:
            self._datasets[dataset.org, dataset.name] = dataset
            row = rows.pop((dataset.org, dataset.name), None)
            if row is not None:
                dataset.visibility, dataset.description = row.visibility, row.description
            if row != dataset.row:
                await self.store.put_dataset(dataset.row)
        await asyncio.to_thread(_correct_cards, found)
        for org, name in rows.keys() - unreadable:
            await self.store.remove_dataset(org, name)

    async def close(self) -> None:
        """Wait until what nobody reads any more is removed."""
        await asyncio.gather(*self._removals, return_exceptions=True)

    # Who may what

    def __iter__(self) -> Iterator[Dataset]:
        return iter(list(self._datasets.values()))

    def orgs(self) -> set[str]:
        """The users that have datasets, also those who are gone."""
        return {org for org, _ in self._datasets}

    def get(self, org: str, name: str) -> Dataset | None:
        return self._datasets.get((org, name))

    def titled(self, title: str) -> Dataset | None:
        """By `org/name`."""
        org, _, name = title.partition("/")
        return self._datasets.get((org, name))

    async def listed(self, caller: Caller) -> list[Listed]:
        """As Lender (sources.py)."""
        rows = [(one.title, one.row) for one in self if may_read(caller, one)]
        return [Listed(title, row.num_rows, row.version, row.num_bytes, row.updated_at) for title, row in rows]

    def find(self, caller: Caller, org: str, name: str) -> Dataset:
        """A dataset that the caller may read. EngineError `dataset_not_found`."""
        dataset = self._datasets.get((org, name))
        if dataset is None or not may_read(caller, dataset):
            raise dataset_not_found(f"{org}/{name}")
        return dataset

    def writable(self, caller: Caller, org: str, name: str) -> Dataset | None:
        """A dataset that the caller may change, or None if the caller may make one of this name.

        raises  EngineError `full_key_needed`; `dataset_not_found`; `forbidden` for a dataset that the caller may only read
        """
        if caller.kind != "full":
            raise full_key_needed()
        if may_write(caller, org):
            return self._datasets.get((org, name))
        self.find(caller, org, name)
        raise EngineError(FORBIDDEN, "Only its owner may change this dataset, or a DataManager of its team.")

    # Reading

    @contextlib.asynccontextmanager
    async def lent(self, source: SourceName, caller: Caller, wait_s: float) -> AsyncIterator[Readable | None]:
        """As Lender (sources.py). Waits for sidecars that are being made."""
        dataset = self._datasets.get((source.org, source.name)) if source.org else None
        if dataset is None or not may_read(caller, dataset):
            yield None
            return
        readable = _readable(dataset, source)
        held = [segment.id for segment in readable.segments]
        self._held.update(held)
        try:
            await dataset.wait_until_whole(wait_s)
            yield readable
        finally:
            self._release(held)

    def _release(self, held: Iterable[str]) -> None:
        self._held.subtract(held)
        for segment_id in set(held):
            if self._held[segment_id] <= 0:
                del self._held[segment_id]
                if folder := self._doomed.pop(segment_id, None):
                    removal = asyncio.create_task(asyncio.to_thread(folder.remove_segment, segment_id), name="remove a segment")
                    self._removals.add(removal)
                    removal.add_done_callback(self._removals.discard)

    # For changes.py: what is there from now on

    def put(self, dataset: Dataset) -> None:
        self._datasets[dataset.org, dataset.name] = dataset

    def drop(self, dataset: Dataset) -> None:
        del self._datasets[dataset.org, dataset.name]

    async def discard(self, folder: DatasetFolder, segment_ids: Iterable[str]) -> None:
        """Remove segments that nobody names any more, each as soon as no query reads it."""
        for segment_id in segment_ids:
            if segment_id in self._held:
                self._doomed[segment_id] = folder
            else:
                await asyncio.to_thread(folder.remove_segment, segment_id)


def may_read(caller: Caller, dataset: Dataset) -> bool:
    """Its owner and the members of its team with any key, every user if it is public, and the admin."""
    return caller.role_in(dataset.org) is not None or dataset.visibility == "public"


def may_write(caller: Caller, org: str) -> bool:
    """The owner and DataManagers of the team with a full key, and the admin."""
    return caller.kind == "full" and (caller.role_in(org) or 0) >= ROLE_TO_CHANGE


def dataset_not_found(title: str) -> EngineError:
    """The same words for a dataset that is not there and for one that the caller may not read."""
    return EngineError(DATASET_NOT_FOUND, f'There is no dataset "{PREFIX}{shown(title.removeprefix(PREFIX))}".')


def version_not_found(title: str, number: int | None) -> EngineError:
    return EngineError(VERSION_NOT_FOUND, f'"{PREFIX}{title}" has no version {number}.')


def not_ready(code: Code, title: str, *, retry_after_s: int) -> EngineError:
    """The error for what is being made: `dataset_not_ready`, or a code for a part of a dataset."""
    return EngineError(code, f'"{PREFIX}{shown(title)}" is being processed. Retry later.', retry_after_s=retry_after_s)


def _readable(dataset: Dataset, source: SourceName) -> Readable:
    """The part of a dataset that a source names. EngineError `version_not_found`, `dataset_not_found`."""
    version = dataset.head if source.version is None else dataset.versions.get(source.version)
    if version is None:
        raise version_not_found(dataset.title, source.version)
    part = version.part(source.config, source.split)
    if part is None:
        wanted = "/".join(word for word in (source.config, source.split) if word)
        raise dataset_not_found(f"{dataset.title}/{wanted}")
    return readable_of(dataset, version, part)


def readable_of(dataset: Dataset, version: DatasetVersion, segments: tuple[StoredSegment, ...]) -> Readable:
    """Some segments of a version."""
    return Readable(f"{dataset.title}@{version.number}", dataset.folder.segments, version.columns, segments)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


# Start


def _correct_cards(datasets: Iterable[Dataset]) -> None:
    """A commit that did not come to its end may have written the card of the next version already. Blocks on the disk."""
    for dataset in datasets:
        try:
            dataset.folder.write_readme(dataset.head, dataset.description)
        except OSError as error:  # the disk may be full; nothing of ours reads the card
            log.error("card not corrected dataset=%s reason=%s", dataset.title, type(error).__name__)


def _recovered(root: Path) -> tuple[list[Dataset], set[tuple[str, str]]]:
    """Every dataset under the root, and the names of those that cannot be read. Blocks on the disk."""
    found: list[Dataset] = []
    unreadable: set[tuple[str, str]] = set()
    for path in root.glob("*/*"):
        with contextlib.suppress(OSError):  # it is not empty, as most are; a crash may leave an empty one
            path.rmdir()
            path.parent.rmdir()
    for home in sorted(root.glob(f"*/*/{HOME}")):
        org, name = home.parent.parent.name, home.parent.name
        folder = DatasetFolder(root, org, name)
        try:
            versions = folder.recover()
        except UNREADABLE as error:
            log.error("dataset left out dataset=%s/%s reason=%r", org, name, str(error))
            unreadable.add((org, name))
            continue
        if versions:
            found.append(Dataset(org, name, folder, versions))
    return found, unreadable
