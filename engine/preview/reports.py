"""Counters and lists of all datasets: what is cached, what waits, what is valid.

Counters are counted again only after somebody has committed. Lists hold what the caller may see. Knows no HTTP.
"""

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine import metrics
from engine.accounts import Caller
from engine.preview.preview import Preview
from engine.preview.tasks import DATASET, SPLIT, ScannedDataset
from engine.store import CachedDataset, JobRow, SplitReport

CACHE_STATUSES = ("empty", "error", "stalled", "valid")
JOB_STATUSES = ("waiting", "started", "success", "error", "cancelled")
# The two queues that are told of, by the kind of their jobs.
QUEUES = {"datasets": DATASET, "splits": SPLIT}
# More entries than this come in pages.
MAX_DUMPED = 10_000

Counted = TypeVar("Counted")
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Dump:
    """Jobs of the two queues, oldest first, and whether there are more."""

    datasets: Sequence[JobRow]
    splits: Sequence[JobRow]
    is_truncated: bool


class Reports:
    """What is told of all datasets together."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview
        self._store = preview.states.store
        self._counted: dict[str, tuple[tuple[int, int], Counts]] = {}

    # Counters

    async def cache(self) -> Counts:
        """Datasets and splits by status."""
        return await self._counts("cache", self._count_cache)

    async def queue(self) -> Counts:
        """Jobs of datasets and of splits by status."""
        return await self._counts("queue", self._count_queue)

    async def _counts(self, what: str, count: Callable[[], Awaitable[Counts]]) -> Counts:
        moment = (self._store.num_commits, self._preview.num_foreign_commits)
        known = self._counted.get(what)
        if known is None or known[0] != moment:
            known = self._counted[what] = (moment, await count())
        return known[1]

    async def _count_cache(self) -> Counts:
        datasets, splits = await self._store.count_cached()
        return {"datasets": _with_zeros(CACHE_STATUSES, datasets), "splits": _with_zeros(CACHE_STATUSES, splits)}

    async def _count_queue(self) -> Counts:
        counted = await self._store.count_jobs(JOB_STATUSES)  # type: ignore[arg-type]
        sums = {sort: dict.fromkeys(JOB_STATUSES, 0) for sort in QUEUES}
        for (kind, status), number in counted.items():
            for sort in QUEUES:
                if QUEUES[sort] == kind:
                    sums[sort][status] = number
        return sums

    def levels(self) -> metrics.Levels:
        """As of the last time that the cache was counted."""
        counted = self._counted.get("cache")
        values: dict[tuple[str, ...], float] = {}
        for sort, counts in (counted[1] if counted else {}).items():
            values |= {(sort, status): number for status, number in counts.items()}
        return {metrics.PREVIEW_ENTRIES: values}

    # Lists

    async def datasets(self, caller: Caller | None) -> list[CachedDataset]:
        """Those in the cache, in the order of first caching."""
        cached = await self._store.list_cached_datasets()
        return [one for one in cached if self._sees(caller, one.name, bool(one.is_private))]

    async def splits(self, datasets: Sequence[CachedDataset]) -> list[SplitReport]:
        """Those of some datasets; a config that could not be listed has an empty split."""
        names = {one.name for one in datasets}
        return [one for one in await self._store.list_split_reports() if one.dataset in names]

    async def valid(self, caller: Caller | None) -> list[str]:
        """Datasets whose splits are listed and of which at least one split has rows, in the order of first caching."""
        datasets = [one for one in await self.datasets(caller) if one.is_listed]
        with_rows = {one.dataset for one in await self.splits(datasets) if one.has_rows}
        return [one.name for one in datasets if one.name in with_rows]

    async def found(self, caller: Caller | None) -> list[ScannedDataset]:
        """Those in the catalogue, by name."""
        return [one for one in await self._preview.catalogue.all() if self._sees(caller, one.name, one.is_private)]

    async def downloads(self) -> dict[str, int]:
        """Data answers given, by dataset."""
        stored = await self._store.list_downloads()
        return {
            name: stored.get(name, 0) + self._preview.downloads[name] for name in stored.keys() | self._preview.downloads.keys()
        }

    async def by_cache_status(self) -> dict[str, str]:
        """`missing`, `error` or `valid` of each dataset in the catalogue."""
        cached = {one.name: one for one in await self._store.list_cached_datasets()}
        statuses: dict[str, set[str]] = {}
        for split in await self._store.list_split_reports():
            statuses.setdefault(split.dataset, set()).add(split.status)
        found = await self._preview.catalogue.all()
        return {one.name: _state(cached.get(one.name), statuses.get(one.name, set())) for one in found}

    async def dump(self, caller: Caller | None, statuses: Sequence[str], limit: int, offset: int) -> Dump:
        """The jobs that the caller may know of; beyond MAX_DUMPED those of a page.

        Those of a name that nobody has are for the admin alone: what is hidden from a caller is not listed either, and the two must
        look alike.
        """
        cached = {one.name: bool(one.is_private) for one in await self._store.list_cached_datasets(also_removed=True)}
        lists: list[Sequence[JobRow]] = []
        is_truncated = False
        for kind in (DATASET, SPLIT):
            seen: list[JobRow] = []
            for start in itertools.count(0, MAX_DUMPED):
                jobs = await self._store.list_jobs((kind,), statuses, limit=MAX_DUMPED, offset=start)  # type: ignore[arg-type]
                seen += [job for job in jobs if self._knows(caller, job.dataset or "", cached)]
                if len(jobs) < MAX_DUMPED or len(seen) > offset + limit:
                    break
            page = seen[offset : offset + limit]
            is_truncated |= len(page) < len(seen)
            lists.append(page)
        return Dump(lists[0], lists[1], is_truncated)

    def _knows(self, caller: Caller | None, name: str, cached: Mapping[str, bool]) -> bool:
        """Whether the caller may know of the jobs of a name; `cached` tells which names are cached, and whether as private ones."""
        if name not in cached and self._preview.catalogue.get(name) is None:
            return caller is not None and caller.is_admin
        return self._sees(caller, name, cached.get(name, False))

    def _sees(self, caller: Caller | None, name: str, was_private: bool) -> bool:
        return self._preview.access.may_see(caller, name, was_private=was_private)


def _with_zeros(statuses: Sequence[str], counted: Mapping[str, int]) -> dict[str, int]:
    return {status: counted.get(status, 0) for status in statuses}


def _state(dataset: CachedDataset | None, splits: set[str]) -> str:
    if dataset is None or dataset.status == "empty":
        return "missing"
    if dataset.status == "error":
        return "error"
    return "missing" if "empty" in splits else "error" if "error" in splits else "valid"
