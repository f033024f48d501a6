"""The kinds of jobs that preview has: what their replicas are asked, and what is written when they have answered.

Needs a store and folders alone, so a worker without a server does the same. The steps that move datasets and splits from one state
to the next are in listings.py and splits.py; both write inside the transaction that ends the job.
"""

import asyncio
import functools
from typing import Any

import ujson

from engine.jobs import JobClass, JobFailure, JobKind, Outcome, Work
from engine.preview.faults import PreviewFault
from engine.preview.fetching import Doing, Fetching
from engine.preview.hub import Hub, again
from engine.preview.listings import Listings
from engine.preview.splits import Splits, prepared_at
from engine.preview.tasks import (
    DATASET,
    HUB,
    KINDS,
    MAX_WAITING,
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


class PreviewKinds:
    """`kinds` is what the jobs of a process are made with."""

    def __init__(self, store: Store, folders: PreviewFolders, limits: PreviewLimits, hub: Hub) -> None:
        self._store = store
        self._folders = folders
        self._limits = limits
        self._fetching = Fetching(hub)
        self._listings = Listings(store)
        self._splits = Splits(store, folders)
        self._doing: dict[str, Doing] = {}  # by the keys of jobs, of which this process does one each at a time

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
            doing = self._doing.pop(job.key, Doing())
            if job.dataset is not None:
                transaction.after_commit(functools.partial(self._store.on_preview_change, job.dataset))
            if doing.unreachable and (later := again(job)):
                await self._store.add_job(transaction, later)
                return f"{doing.fault}; the job waits until {later.not_before}"
            said: str | None = await commit(transaction, job, outcome, doing)
            return said

        return JobKind(name, job_class, work, told)

    # Listing

    async def _list(self, job: JobRow) -> Work:
        doing = self._doing[job.key] = Doing()
        then = functools.partial(self._looked_for, job.dataset or "", doing)
        return Work(SCAN_TASK, {"roots": self._roots(), "name": job.dataset}, then=then)

    async def _looked_for(self, name: str, doing: Doing, answer: Answer) -> Work | None:
        """The revision is that before the files are read: what changes meanwhile has another one."""
        doing.found = tuple(map(ScannedDataset.of_scan, answer.header["datasets"]))
        if not doing.found and self._fetching.is_on:
            return self._fetching.find(name, doing, lambda: self._splits_of(doing))
        return self._splits_of(doing)

    @staticmethod
    def _splits_of(doing: Doing) -> Work | None:
        return Work(SPLITS_TASK, {"root": doing.found[0].root, "name": doing.found[0].name}) if doing.found else None

    async def _listed(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: Doing) -> str | None:
        if isinstance(outcome, JobFailure) or doing.fault or (doing.found and "failure" in outcome.header):
            return await self._listings.failed(transaction, job, _fault(outcome, doing, "quick"), doing.found)
        if not doing.found:
            return await self._listings.absent(transaction, job)
        return await self._listings.listed(transaction, job, doing.found[0], outcome.header["configs"])

    # First rows

    async def _read_rows(self, job: JobRow) -> Work:
        dataset, split = await self._dataset(job), await self._split(job)
        doing = self._doing[job.key] = Doing(revision=dataset.revision)
        run = run_of(job)
        assets = self._folders.run(dataset.name, split.config, split.split, run)
        widened = prepared_at(split, dataset.revision).get("widened") or None
        work = Work(ROWS_TASK, {**self._asked(dataset, split, widened), "assets": str(assets), "run": run})
        return self._fetching.before(work, doing, is_whole=False)

    async def _rows_read(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: Doing) -> str | None:
        if isinstance(outcome, JobFailure) or doing.fault or "failure" in outcome.header:
            return await self._splits.failed(transaction, job, _fault(outcome, doing, "quick"))
        return await self._splits.read(transaction, job, outcome, doing.revision)

    # Parquet and statistics

    async def _prepare(self, job: JobRow) -> Work:
        dataset, split = await self._dataset(job), await self._split(job)
        doing = self._doing[job.key] = Doing(revision=dataset.revision)
        staging = self._folders.staging(run_of(job))
        await asyncio.to_thread(staging.mkdir, parents=True, exist_ok=True)
        widened = prepared_at(split, dataset.revision).get("widened") or None
        work = Work(PREPARE_TASK, {**self._asked(dataset, split, widened), "staging": str(staging)})
        return self._fetching.before(work, doing, is_whole=True)

    async def _prepared(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: Doing) -> str | None:
        if isinstance(outcome, JobFailure) or doing.fault:
            return await self._splits.not_prepared(transaction, job, _fault(outcome, doing, "slow"))
        return await self._splits.prepared(transaction, job, outcome, doing.revision)

    async def _count(self, job: JobRow) -> Work:
        prepared = (await self._split(job)).prepared
        if prepared is None:
            raise NotFound("nothing is prepared")
        about = ujson.loads(prepared)
        return Work(STATISTICS_TASK, {name: about[name] for name in ("folder", "segments", "columns")})

    async def _counted(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: Doing) -> str | None:
        if isinstance(outcome, JobFailure):
            return await self._splits.not_counted(transaction, job, PreviewFault.of_job(outcome, "slow"))
        return await self._splits.counted(transaction, job, outcome)

    # Warming

    async def _look_around(self, job: JobRow) -> Work:
        doing = self._doing[job.key] = Doing()
        then = functools.partial(self._looked_around, doing, asks_hub=job.config == HUB)
        return Work(SCAN_TASK, {"roots": self._roots(), "name": None}, then=then)

    async def _looked_around(self, doing: Doing, answer: Answer, *, asks_hub: bool) -> Work | None:
        doing.found = tuple(map(ScannedDataset.of_scan, answer.header["datasets"]))
        if not asks_hub or not self._fetching.is_on:
            return None
        cached = [one.name for one in await self._store.list_cached_datasets(also_removed=True)]
        return self._fetching.list([*cached, *(one.name for one in doing.found)], doing)

    async def _warmed(self, transaction: Transaction, job: JobRow, outcome: Outcome, doing: Doing) -> str | None:
        for one in doing.found:
            await self._listings.warm(transaction, one.name, is_private=one.is_private)
        room = MAX_WAITING - await self._store.num_waiting_jobs(transaction, KINDS)
        for name in doing.names[: max(0, room)]:
            await self._listings.warm(transaction, name, is_private=False)
        return str(doing.fault) if doing.fault else None

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


def _fault(outcome: Outcome, doing: Doing, job_class: JobClass) -> PreviewFault:
    """Why a job has come to nothing."""
    if isinstance(outcome, JobFailure):
        return PreviewFault.of_job(outcome, job_class)
    return doing.fault or PreviewFault.of_task(outcome.header["failure"])


def run_of(job: JobRow) -> str:
    """The name of one attempt at a job: no other has it, now or later."""
    return f"{job.id}-{job.attempts}"
