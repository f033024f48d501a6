"""What becomes of a dataset when it was listed, could not be listed, or is not there any more.

Every function is a step of the transaction that ends a job. A job that was asked for in an earlier generation of the dataset
changes nothing. Each gives the text that the job shows as its error, or None.
"""

from collections.abc import Sequence
from typing import Any

from engine.jobs import job_key
from engine.preview.faults import PreviewFault
from engine.preview.tasks import DATASET, SPLIT, SPLIT_KINDS, WARM_PRIORITY, ScannedDataset
from engine.store import CachedDataset, JobRow, ListedSplit, NewJob, Store, Subject, Transaction

ABSENT = "the dataset is not in the catalogue"


def dataset_job(name: str, generation: int | None, *, priority: int) -> NewJob:
    """The job that lists a dataset."""
    return NewJob(DATASET, job_key(DATASET, name), name, name, priority=priority, generation=generation)


def split_job(kind: str, name: str, config: str, split: str, generation: int | None, *, priority: int = 0) -> NewJob:
    """A job on one split: its first rows, its Parquet files or its statistics."""
    key = job_key(kind, name, config, split)
    return NewJob(kind, key, name, name, config, split, priority=priority, generation=generation)


class Listings:
    """The steps of jobs of the kinds `dataset` and `warm`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def listed(
        self, transaction: Transaction, job: JobRow, found: ScannedDataset, configs: Sequence[dict[str, Any]]
    ) -> str | None:
        """New splits are empty, and the answers of those that were valid are of an older state. All are read anew, in order."""
        dataset = await self._current(transaction, job, is_found=True)
        if dataset is None:
            return None
        splits = [split for config in configs for split in _listed(config)]
        gone = await self._store.set_listed(transaction, dataset, found.files, splits)
        for old in gone:
            subject = Subject(dataset.name, old.config, old.split)
            await self._store.cancel_jobs(transaction, ["waiting"], SPLIT_KINDS, subject)
        for one in splits:
            if one.split:
                new = split_job(SPLIT, dataset.name, one.config, one.split, dataset.generation, priority=job.priority)
                await self._store.add_job(transaction, new)
        return None

    async def failed(
        self, transaction: Transaction, job: JobRow, fault: PreviewFault, found: Sequence[ScannedDataset]
    ) -> str | None:
        """The old listing stays, with the answers of its splits."""
        dataset = await self._current(transaction, job, is_found=bool(found))
        if dataset is None:
            return str(fault)
        await self._store.set_dataset_error(transaction, dataset, fault.stored(), found[0].files if found else None)
        return str(fault)

    async def absent(self, transaction: Transaction, job: JobRow) -> str | None:
        """The catalogue has no such dataset: what was known of it goes."""
        dataset = await self._current(transaction, job, is_found=False)
        if dataset is not None:
            await self._store.forget_dataset(transaction, dataset)
            await self._store.cancel_jobs(transaction, ["waiting"], SPLIT_KINDS, Subject(dataset.name))
        return ABSENT

    async def warm(self, transaction: Transaction, name: str, *, is_private: bool) -> None:
        """Queue a dataset that is missing or not current, else those of its splits that are not."""
        dataset = await self._store.cached_dataset(transaction, name)
        if dataset is None or dataset.status in ("empty", "stalled"):
            generation = await self._store.ask_for_dataset(transaction, name, is_private=is_private)
            await self._store.add_job(transaction, dataset_job(name, generation, priority=WARM_PRIORITY))
            return
        for one in await self._store.cached_splits(transaction, name):
            if one.status in ("empty", "stalled"):
                new = split_job(SPLIT, name, one.config, one.split, dataset.generation, priority=WARM_PRIORITY)
                await self._store.add_job(transaction, new)

    async def _current(self, transaction: Transaction, job: JobRow, *, is_found: bool) -> CachedDataset | None:
        """The dataset that a job is about, unless it has another generation. One that came after the job is added."""
        name = job.dataset or ""
        if job.generation is None and is_found:
            await self._store.ask_for_dataset(transaction, name)
        return await self._store.cached_dataset(transaction, name, job.generation)


def _listed(config: dict[str, Any]) -> list[ListedSplit]:
    name = config["config"]
    if config["error"] is not None:
        return [ListedSplit(name, "", error=PreviewFault.of_task(config["error"]).stored())]
    return [ListedSplit(name, one["split"], one["num_bytes"], one["num_examples"]) for one in config["splits"]]
