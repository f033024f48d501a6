"""What the handlers of preview ask: the listing of a dataset, and the finished answers of a split.

An answer that nobody has made yet is NotReady; asking for a dataset that is in the catalogue and not in the cache starts the work.
Knows no HTTP: which bytes of an answer are sent, and under which headers, is decided above.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ujson

from engine.accounts import Caller
from engine.datasets.catalogue import DATASET_NOT_FOUND, DATASET_NOT_READY
from engine.engine import Engine
from engine.errors import EngineError
from engine.jobs import Jobs, job_key
from engine.preview.answers import Answers, Key, Ready, Waiters, etag_of
from engine.preview.catalogue import Access, Catalogue, is_name
from engine.preview.faults import (
    ROWS_ERROR,
    SPLIT_NOT_FOUND,
    SPLIT_NOT_READY,
    NotReady,
    PreviewFault,
    StoredError,
)
from engine.preview.holds import Holds
from engine.preview.listings import dataset_job
from engine.preview.tasks import DATASET, KINDS, MAX_WAITING, REQUEST_PRIORITY, SPLIT, WARM_PRIORITY
from engine.store import CachedDataset, CachedSplit, Store, StoreError

log = logging.getLogger("sluice.preview")

Result = TypeVar("Result")

# The next scan comes after this, or after ten times what the last one took.
SCAN_EVERY_S = 30.0
SCAN_SHARE = 10
# How soon a server sees what a worker has written, and how often downloads are stored.
LOOK_EVERY_S = 0.5
STORE_DOWNLOADS_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """Settings of server/config.py, by the same names."""

    preview_on_demand: bool
    datasets_watch: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A dataset with its splits, in order; configs that could not be listed are left out."""

    dataset: CachedDataset
    splits: tuple[CachedSplit, ...]

    @property
    def fault(self) -> PreviewFault | None:
        """Why the last listing failed, if it did."""
        return PreviewFault.read(self.dataset.error) if self.dataset.error else None


class Preview:
    """The previews of one server. `spawn_loops` starts what runs beside the requests; `close` comes last."""

    def __init__(
        self, engine: Engine, store: Store, jobs: Jobs, catalogue: Catalogue, access: Access, options: PreviewOptions
    ) -> None:
        self.store = store
        self.jobs = jobs
        self.catalogue = catalogue
        self.access = access
        self.downloads: Counter[str] = Counter()  # since they were last stored
        self.holds = Holds()
        self._engine = engine
        self._options = options
        self._answers = Answers()
        self._waiters = Waiters()
        self.num_foreign_commits = 0  # changes that workers were seen to make
        self._missed: dict[str, str] = {}  # cached datasets whose last scan had another revision, which it was; empty: not there
        self._private: set[str] = set()

    # Changes

    def changed(self, name: str | None) -> None:
        """Something of a dataset, or of any, was written."""
        self._answers.changed(name)
        self._waiters.changed(name)

    def start(self, *, scan_every_s: float = SCAN_EVERY_S) -> None:
        """Begin to scan, and to look for what workers write."""
        self._engine.spawn(self._scan_again(scan_every_s), "scan datasets")
        self._engine.spawn(self._look_for_changes(), "changes of previews")
        self._engine.spawn(self._store_downloads(), "downloads")

    async def close(self) -> None:
        await self.catalogue.close()
        with contextlib.suppress(StoreError):  # the numbers of the last minute are worth no failed stop
            await self.store_downloads()

    async def _look_for_changes(self) -> None:
        seen = await self.store.data_version()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)  # SQLite tells nobody that another process has committed
            try:
                now = await self.store.data_version()
            except StoreError:
                continue
            if now != seen:
                seen = now
                self.num_foreign_commits += 1
                self.changed(None)

    async def _store_downloads(self) -> None:
        while True:
            await asyncio.sleep(STORE_DOWNLOADS_EVERY_S)
            try:
                await self.store_downloads()
            except StoreError as error:
                log.warning("downloads not stored reason=%r", str(error))

    async def store_downloads(self) -> None:
        numbers, self.downloads = dict(self.downloads), Counter()
        if numbers:
            try:
                await self.store.add_downloads(numbers)
            except StoreError:
                self.downloads.update(numbers)
                raise

    # The catalogue

    async def _scan_again(self, every_s: float) -> None:
        while True:
            try:
                await self.scan()
            except (EngineError, StoreError) as error:
                log.warning("datasets not scanned reason=%r", str(error))
            except Exception:  # without this loop no new revision is seen
                log.exception("scanning datasets failed")
            await asyncio.sleep(max(every_s, SCAN_SHARE * self.catalogue.duration_s))

    async def scan(self) -> None:
        """Scan once, and queue the cached datasets whose revision is new in two scans running."""
        await self.catalogue.scan()
        private = self.access.private()
        if private - self._private:
            await self.store.mark_private(private)
        self._private = private
        if self._options.datasets_watch:
            await self._queue_changed()

    async def _queue_changed(self) -> None:
        """A dataset whose job is started is left out: what was scanned may be older than what the job reads."""
        busy = {job.dataset for job in await self.store.list_jobs((DATASET,), ("waiting", "started"))}
        missed: dict[str, str] = {}
        for dataset in await self.store.list_cached_datasets():
            found = self.catalogue.get(dataset.name)
            revision = found.revision if found else ""
            if dataset.name in busy or dataset.status == "empty" or revision == dataset.revision:
                continue
            if self._missed.get(dataset.name) == revision:
                await self._ask(dataset.name, priority=WARM_PRIORITY)
            else:
                missed[dataset.name] = revision
        self._missed = missed

    async def check_visible(self, caller: Caller | None, name: str) -> None:
        """EngineError `dataset_not_found`: there is no such name, or the caller may not see it."""
        if not is_name(name):
            raise not_found()
        if self.catalogue.get(name) is None:
            cached = await self.store.find_cached_dataset(name)
            if cached is None or self.access.is_private(name, was_private=bool(cached.is_private)):
                await self.catalogue.find(name)
            was_private = cached is not None and bool(cached.is_private)
        else:
            was_private = False
        if not self.access.may_see(caller, name, was_private=was_private):
            raise not_found()

    # Waiting

    async def in_time(self, name: str, seconds: float, ask: Callable[[], Awaitable[Result]]) -> Result:
        """What `ask` gives, as soon as it is no longer NotReady; NotReady after these seconds, or when too many wait already."""
        until = time.monotonic() + seconds
        while True:
            if seconds <= 0 or self._waiters.is_full or self._engine.is_draining:
                return await ask()
            change = self._waiters.begin(name)
            try:
                return await ask()
            except NotReady:
                seconds = until - time.monotonic()
                await self._change_or_drain(change, seconds)
            finally:
                self._waiters.end(name, change)
            seconds = until - time.monotonic()

    async def _change_or_drain(self, change: "asyncio.Future[None]", seconds: float) -> None:
        draining = asyncio.create_task(self._engine.draining.wait(), name="drain of a wait")
        try:
            await asyncio.wait((change, draining), timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()

    # Data

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
        if self._options.preview_on_demand:
            await self._ask(name, priority=REQUEST_PRIORITY)
        elif not is_cached:
            raise not_found()

    async def ask_anew(self, name: str) -> None:
        """List a dataset again: somebody has seen that its files are others than those that were listed."""
        async with self.store.transaction() as transaction:
            dataset = await self.store.cached_dataset(transaction, name)
            if dataset is not None and await self.store.num_waiting_jobs(transaction, KINDS) < MAX_WAITING:
                await self.jobs.add(transaction, dataset_job(name, dataset.generation, priority=REQUEST_PRIORITY))

    async def _ask(self, name: str, *, priority: int) -> None:
        """Put the job of a dataset into the queue, unless too many wait there."""
        async with self.store.transaction() as transaction:
            if await self.store.num_waiting_jobs(transaction, KINDS) >= MAX_WAITING:
                return
            generation = await self.store.ask_for_dataset(transaction, name, is_private=self.access.is_private(name))
            job = dataset_job(name, generation, priority=priority)
            await self.store.add_job(transaction, job)
            transaction.after_commit(self.jobs.wake)

    async def _position(self, key: str) -> int:
        """Jobs of its kind that wait before a job; 0 if it is next or started."""
        return await self.store.num_jobs_before(key) or 0

    async def splits(self, name: str) -> Ready:
        """The answer of `/splits`."""
        return await self._kept((name, "splits", "", ""), lambda: self._splits(name))

    async def _splits(self, name: str) -> Ready:
        listing = await self.listing(name)
        body = _encoded({"splits": [_listed(one) for one in listing.splits]})
        return Ready(body, b"", etag_of(body), listing.dataset.revision, bool(listing.fault), fault=listing.fault)

    async def is_valid(self, name: str) -> bool:
        """Whether `/splits` and, of at least one split, `/rows` have data."""
        key = (name, "is-valid", "", "")
        kept = self._answers.get(key)
        if kept is None:
            moment = self._answers.moment(name)
            dataset = await self.store.find_cached_dataset(name)
            if dataset is None or dataset.is_removed or not dataset.is_listed:
                return False
            is_valid = any(one.about is not None for one in await self.store.list_cached_splits(name))
            kept = Ready(b"1" if is_valid else b"", b"", "", dataset.revision)
            self._answers.put(key, kept, moment)
        return bool(kept.plain)

    async def rows(self, name: str, config: str, split: str) -> Ready:
        """The answer of `/rows`."""
        return await self._kept((name, "rows", config, split), lambda: self._answer(name, config, split, "rows"))

    async def first_rows(self, name: str, config: str, split: str) -> Ready:
        """The answer of `/first-rows`, without the addresses that `about` says the places of."""
        return await self._kept((name, "first-rows", config, split), lambda: self._answer(name, config, split, "first-rows"))

    async def _answer(self, name: str, config: str, split: str, endpoint: str) -> Ready:
        _, found = await self.split(name, config, split)
        stored = await self.store.find_answer(found.id, endpoint)
        if stored is None:  # it was taken out between the two questions
            raise NotReady(SPLIT_NOT_READY, 0)
        plain, packed = stored
        about: dict[str, Any] = ujson.loads(found.about or "{}")
        return Ready(
            plain,
            packed,
            etag_of(plain),
            found.revision,
            found.status != "valid",
            fault=PreviewFault.read(found.error) if found.error else None,
            truncated=", ".join(about["truncated"]) if endpoint == "rows" else "",
            run=found.run,
            about=about if endpoint == "first-rows" else {},
        )

    async def statistics(self, name: str, config: str, split: str) -> Ready:
        """The answer of `/statistics`. EngineError as `split`; StoredError where nothing could be prepared or counted."""
        return await self._kept((name, "statistics", config, split), lambda: self._statistics(name, config, split))

    async def _statistics(self, name: str, config: str, split: str) -> Ready:
        dataset, found = await self.split(name, config, split)
        stored = await self.store.find_answer(found.id, "statistics") if found.statistics == "ok" else None
        if stored is not None:
            return Ready(*stored, etag_of(stored[0]), found.revision, found.status != "valid")
        for status, error in ((found.prepare, found.prepare_error), (found.statistics, found.statistics_error)):
            if status == "failed":
                raise later_failed(error, dataset)
        raise NotReady(SPLIT_NOT_READY, 0)

    async def _kept(self, key: Key, load: Callable[[], Awaitable[Ready]]) -> Ready:
        """An answer from memory, else from the database."""
        ready = self._answers.get(key)
        if ready is None:
            moment = self._answers.moment(key[0])
            ready = await load()
            self._answers.put(key, ready, moment)
        return ready


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


def _listed(split: CachedSplit) -> dict[str, Any]:
    names = {"dataset": split.dataset, "config": split.config, "split": split.split}
    return {**names, "num_bytes": num_bytes_of(split), "num_examples": num_examples_of(split)}


def _encoded(value: object) -> bytes:
    return ujson.dumps(value, escape_forward_slashes=False, ensure_ascii=False).encode(errors="replace")
