"""The kinds of jobs that preview has: what their replicas are asked, and what is written when they have answered.

Needs a store and folders alone, so a worker without a server does the same. The steps that move datasets and splits from one state
to the next are in listings.py and splits.py; both write inside the transaction that ends the job.
"""

import asyncio
import functools
from dataclasses import dataclass
from typing import Any

import ujson

from engine.jobs import JobClass, JobFailure, JobKind, Outcome, Work
from engine.preview.faults import PreviewFault
from engine.preview.listings import Listings
from engine.preview.splits import Splits, prepared_at
from engine.preview.tasks import (
    DATASET,
    PREPARE,
    PREPARE_TASK,
    ROWS_TASK,
    SCAN_TASK,
    SPLIT,
    SPLITS_TASK,
    STATISTICS,
    STATISTICS_TASK,
    WARM,
    PreviewFolders,
    PreviewLimits,
    ScannedDataset,
)
from engine.replicas.blocks import Answer
from engine.store import CachedDataset, CachedSplit, JobRow, Store, Transaction

NotFound = LookupError


@dataclass(slots=True)
class _Doing:
    """What a job that is being done has seen, for its commit. found: the scanned datasets; revision: that its files have."""

    found: tuple[ScannedDataset, ...] = ()
    revision: str = ""


class PreviewKinds:
    """`kinds` is what the jobs of a process are made with."""

    def __init__(self, store: Store, folders: PreviewFolders, limits: PreviewLimits) -> None:
        self._store = store
        self._folders = folders
        self._limits = limits
        self._listings = Listings(store)
        self._splits = Splits(store, folders)
        self._doing: dict[str, _Doing] = {}  # by the keys of jobs, of which this process does one each at a time

    def kinds(self) -> dict[str, JobKind]:
        """By name."""
        made = (
            self._kind(DATASET, "quick", self._list, self._listed),
            self._kind(SPLIT, "quick", self._read_rows, self._rows_read),
            self._kind(WARM, "quick", self._look_around, self._warmed),
            self._kind(PREPARE, "slow", self._prepare, self._prepared),
            self._kind(STATISTICS, "slow", self._count, self._counted),
        )
        return {kind.name: kind for kind in made}

    def _kind(self, name: str, job_class: JobClass, work: Any, commit: Any) -> JobKind:
        async def told(transaction: Transaction, job: JobRow, outcome: Outcome) -> str | None:
            doing = self._doing.pop(job.key, _Doing())
            if job.dataset is not None:
                transaction.after_commit(functools.partial(self._store.on_preview_change, job.dataset))
            said: str | None = await commit(transaction, job, outcome, doing)
            return said

        return JobKind(name, job_class, work, told)

    # Listing

    async def _list(self, job: JobRow) -> Work:
        return Work(SCAN_TASK, {"roots": self._roots(), "name": job.dataset}, then=functools.partial(self._list_found, job))

    async def _list_found(self, job: JobRow, answer: Answer) -> Work | None:
        """The revision is that before the files are read: what changes meanwhile has another one."""
        found = tuple(map(ScannedDataset.of_scan, answer.header["datasets"]))
        self._doing[job.key] = _Doing(found)
        return Work(SPLITS_TASK, {"root": found[0].root, "name": found[0].name}) if found else None

    async def _listed(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: _Doing) -> str | None:
        if isinstance(outcome, JobFailure):
            return await self._listings.failed(transaction, job, PreviewFault.of_job(outcome, "quick"), doing.found)
        if not doing.found:
            return await self._listings.absent(transaction, job)
        if failure := outcome.header.get("failure"):
            return await self._listings.failed(transaction, job, PreviewFault.of_task(failure), doing.found)
        return await self._listings.listed(transaction, job, doing.found[0], outcome.header["configs"])

    # First rows

    async def _read_rows(self, job: JobRow) -> Work:
        dataset, split = await self._dataset(job), await self._split(job)
        self._doing[job.key] = _Doing(revision=dataset.revision)
        run = run_of(job)
        assets = self._folders.run(dataset.name, split.config, split.split, run)
        widened = prepared_at(split, dataset.revision).get("widened") or None
        return Work(ROWS_TASK, {**self._asked(dataset, split, widened), "assets": str(assets), "run": run})

    async def _rows_read(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: _Doing) -> str | None:
        if isinstance(outcome, JobFailure):
            return await self._splits.failed(transaction, job, PreviewFault.of_job(outcome, "quick"))
        if failure := outcome.header.get("failure"):
            return await self._splits.failed(transaction, job, PreviewFault.of_task(failure))
        return await self._splits.read(transaction, job, outcome, doing.revision)

    # Parquet and statistics

    async def _prepare(self, job: JobRow) -> Work:
        dataset, split = await self._dataset(job), await self._split(job)
        self._doing[job.key] = _Doing(revision=dataset.revision)
        staging = self._folders.staging(run_of(job))
        await asyncio.to_thread(staging.mkdir, parents=True, exist_ok=True)
        widened = prepared_at(split, dataset.revision).get("widened") or None
        return Work(PREPARE_TASK, {**self._asked(dataset, split, widened), "staging": str(staging)})

    async def _prepared(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: _Doing) -> str | None:
        if isinstance(outcome, JobFailure):
            return await self._splits.not_prepared(transaction, job, PreviewFault.of_job(outcome, "slow"))
        return await self._splits.prepared(transaction, job, outcome, doing.revision)

    async def _count(self, job: JobRow) -> Work:
        prepared = (await self._split(job)).prepared
        if prepared is None:
            raise NotFound("nothing is prepared")
        about = ujson.loads(prepared)
        return Work(STATISTICS_TASK, {name: about[name] for name in ("folder", "segments", "columns")})

    async def _counted(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: _Doing) -> str | None:
        if isinstance(outcome, JobFailure):
            return await self._splits.not_counted(transaction, job, PreviewFault.of_job(outcome, "slow"))
        return await self._splits.counted(transaction, job, outcome)

    # Warming

    async def _look_around(self, job: JobRow) -> Work:
        return Work(SCAN_TASK, {"roots": self._roots(), "name": None})

    async def _warmed(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: _Doing) -> str | None:
        if not isinstance(outcome, JobFailure):
            for one in map(ScannedDataset.of_scan, outcome.header["datasets"]):
                await self._listings.warm(transaction, one)
        return None

    # What tasks are asked with

    def _roots(self) -> list[str]:
        return [str(root) for root in self._folders.roots]

    def _asked(self, dataset: CachedDataset, split: CachedSplit, widened: dict[str, Any] | None) -> dict[str, Any]:
        names = {"root": dataset.root, "name": dataset.name, "config": split.config, "split": split.split}
        return {**names, "limits": self._limits.for_task(), "widened": widened}

    async def _dataset(self, job: JobRow) -> CachedDataset:
        found = await self._store.find_cached_dataset(job.dataset or "")
        if found is None or found.is_removed:
            raise NotFound("the dataset is not cached")
        return found

    async def _split(self, job: JobRow) -> CachedSplit:
        found = await self._store.find_cached_split(job.dataset or "", job.config or "", job.split or "")
        if found is None:
            raise NotFound("the split is not cached")
        return found


def run_of(job: JobRow) -> str:
    """The name of one attempt at a job: no other has it, now or later."""
    return f"{job.id}-{job.attempts}"
