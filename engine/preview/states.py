"""States: what the database knows of datasets and splits; asking for one of the catalogue that it does not know starts the work.

What nobody has made yet is NotReady. Knows no HTTP, and no answer.
"""

import functools
import hashlib
import logging
import os
from dataclasses import dataclass
from typing import Any

import ujson

from engine.accounts import Caller
from engine.datasets.catalogue import DATASET_NOT_FOUND, DATASET_NOT_READY
from engine.errors import EngineError
from engine.jobs import Jobs, job_key
from engine.preview.catalogue import Access, Catalogue, is_name
from engine.preview.faults import ROWS_ERROR, SPLIT_NOT_FOUND, SPLIT_NOT_READY, NotReady, PreviewFault, StoredError
from engine.preview.listings import dataset_job
from engine.preview.tasks import DATASET, KINDS, MAX_WAITING, REQUEST_PRIORITY, SPLIT
from engine.store import CachedDataset, CachedSplit, Store, StoreError, Subject

log = logging.getLogger("sluice.preview")


@dataclass(frozen=True, slots=True)
class Listing:
    """A dataset with its splits, in order; configs that could not be listed are left out."""

    dataset: CachedDataset
    splits: tuple[CachedSplit, ...]

    @property
    def fault(self) -> PreviewFault | None:
        """Why the last listing failed, if it did."""
        return PreviewFault.read(self.dataset.error) if self.dataset.error else None


class States:
    """What is known of each dataset and of each split.

    is_on_demand  a dataset of the catalogue is cached when somebody asks for it
    """

    def __init__(self, store: Store, jobs: Jobs, catalogue: Catalogue, access: Access, *, is_on_demand: bool) -> None:
        self.store = store
        self.jobs = jobs
        self.catalogue = catalogue
        self.access = access
        self._is_on_demand = is_on_demand
        self._secret = os.urandom(16)

    async def visible(self, caller: Caller | None, name: str) -> str:
        """The name to go on with: this one or, for a dataset that is hidden from the caller, one that nobody has.

        So the same look-ups end in the same refusal, and the time that they take tells nobody what is hidden.

        raises  EngineError `dataset_not_found`: no dataset can have this name
        """
        if not is_name(name):
            raise not_found()
        was_private = False
        if self.catalogue.get(name) is None and not self.access.is_kept(name):
            cached = await self.store.find_cached_dataset(name)
            was_private = cached is not None and bool(cached.is_private)
            if cached is None or self.access.is_private(name, was_private=was_private):
                await self.catalogue.find(name)
        if self.access.may_see(caller, name, was_private=was_private):
            return name
        return await self.visible(caller, self._name_of_nobody(name))

    def _name_of_nobody(self, name: str) -> str:
        """Of the same org, and for the same name always the same, as nobody asks for one missing dataset under many names."""
        org, slash, _ = name.rpartition("/")
        return org + slash + hashlib.blake2b(name.encode(), key=self._secret, digest_size=16).hexdigest()

    async def listing(self, name: str) -> Listing:
        """EngineError `dataset_not_found`; NotReady; StoredError."""
        dataset = await self._dataset(name)
        splits = await self.store.list_cached_splits(name)
        return Listing(dataset, tuple(one for one in splits if one.split))

    async def split(self, name: str, config: str, split: str) -> tuple[CachedDataset, CachedSplit]:
        """A split that has rows. EngineError `dataset_not_found`, `split_not_found`; NotReady; StoredError."""
        dataset = await self._dataset(name)
        found = await self.store.find_cached_split(name, config, split) if split else None
        if found is None:
            of_config = await self.store.find_cached_split(name, config, "")
            if of_config is not None and of_config.error:
                raise StoredError(PreviewFault.read(of_config.error), folder_of(dataset))
            raise EngineError(SPLIT_NOT_FOUND, SPLIT_NOT_FOUND.text)
        if found.about is None:
            if found.error:
                raise StoredError(PreviewFault.read(found.error), folder_of(dataset))
            raise NotReady(SPLIT_NOT_READY, await self._position(job_key(SPLIT, name, config, split)))
        return dataset, found

    async def _dataset(self, name: str) -> CachedDataset:
        """A dataset that has a listing."""
        dataset = await self.store.find_cached_dataset(name)
        if dataset is None or (dataset.status == "empty" and not dataset.is_removed):
            await self._start(name, is_cached=dataset is not None)
            raise NotReady(DATASET_NOT_READY, await self._position(job_key(DATASET, name)))
        if dataset.is_removed:
            if await self.store.find_jobs(job_key(DATASET, name)):
                raise NotReady(DATASET_NOT_READY, 0)
            raise not_found()
        if not dataset.is_listed:
            raise StoredError(PreviewFault.read(dataset.error or ""), folder_of(dataset))
        return dataset

    async def _start(self, name: str, *, is_cached: bool) -> None:
        """Ask for a dataset of the catalogue, unless its job is there. EngineError `dataset_not_found`."""
        if await self.store.find_jobs(job_key(DATASET, name)):
            return
        if not is_cached and await self.catalogue.find(name) is None:
            raise not_found()
        if self._is_on_demand:
            await self.ask(name, priority=REQUEST_PRIORITY)
        elif not is_cached:
            raise not_found()

    async def ask_anew(self, name: str) -> None:
        """List a dataset again: somebody has seen that its files are others than those that were listed."""
        async with self.store.transaction() as transaction:
            dataset = await self.store.cached_dataset(transaction, name)
            if dataset is not None and await self.store.num_waiting_jobs(transaction, KINDS) < MAX_WAITING:
                await self.jobs.add(transaction, dataset_job(name, dataset.generation, priority=REQUEST_PRIORITY))

    async def heed_commit(self, name: str) -> None:
        """An upload has changed a dataset. What is shown stays until a scan tells, for appends may be many; but what could not be
        read, or is being read, may be of files that were not all there, or are gone."""
        try:
            dataset = await self.store.find_cached_dataset(name)
            if dataset is None or dataset.is_removed:
                return
            parts = [dataset.status, *(one.status for one in await self.store.list_cached_splits(name))]
            if any(status != "valid" for status in parts):
                await self.ask_anew(name)
        except StoreError as error:  # the next scan tells
            log.warning("preview not told dataset=%s reason=%r", name, str(error))

    async def ask(self, name: str, *, priority: int) -> None:
        """Put the job of a dataset into the queue, unless too many wait there."""
        async with self.store.transaction() as transaction:
            if await self.store.num_waiting_jobs(transaction, KINDS) >= MAX_WAITING:
                return
            generation = await self.store.ask_for_dataset(transaction, name, is_private=self.access.is_private(name))
            job = dataset_job(name, generation, priority=priority)
            await self.store.add_job(transaction, job)
            transaction.after_commit(self.jobs.wake)

    async def forget(self, name: str) -> None:
        """The files of a dataset are gone: nothing of it is shown from now on, and no job goes on with it. StoreError."""
        self.catalogue.changed(name)
        async with self.store.transaction() as transaction:
            await self.jobs.cancel(transaction, ["waiting", "started"], KINDS, Subject(name))
            dataset = await self.store.cached_dataset(transaction, name)
            if dataset is not None:
                await self.store.forget_dataset(transaction, dataset)
            transaction.after_commit(functools.partial(self.store.on_preview_change, name))

    async def _position(self, key: str) -> int:
        """Jobs of its kind that wait before a job; 0 if it is next or started."""
        return await self.store.num_jobs_before(key) or 0


def not_found() -> EngineError:
    """The same for a name that cannot be, for one that is not there, and for one that the caller may not see."""
    return EngineError(DATASET_NOT_FOUND, "There is no such dataset.")


def later_failed(error: str | None, dataset: CachedDataset) -> StoredError:
    """What needs the Parquet files or the statistics of a split cannot be answered: `rows_error`, with the reason as its cause."""
    fault = PreviewFault.read(error) if error else PreviewFault(ROWS_ERROR)
    cause_class = fault.cause_class or str(fault.code)
    return StoredError(
        PreviewFault(ROWS_ERROR, "", cause_class, fault.cause_message or fault.message, fault.traceback), folder_of(dataset)
    )


def folder_of(dataset: CachedDataset) -> str:
    return f"{dataset.root}/{dataset.name}"


def num_bytes_of(split: CachedSplit) -> int | None:
    """As declared, else those of its files, once they were read."""
    return split.num_bytes if split.num_bytes is not None else _numbers(split.about).get("num_bytes")


def num_examples_of(split: CachedSplit) -> int | None:
    """As declared, else as counted: at once in Parquet files, in others once they are prepared."""
    if split.num_examples is not None:
        return split.num_examples
    counted: int | None = _numbers(split.about).get("num_examples")
    return counted if counted is not None else _numbers(split.prepared).get("num_examples")


def _numbers(stored: str | None) -> dict[str, Any]:
    numbers: dict[str, Any] = ujson.loads(stored)["numbers"] if stored else {}
    return numbers
