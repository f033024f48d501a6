"""Watching: what goes on beside the requests. The roots are scanned, commits of workers are noticed, and downloads are stored."""

import asyncio
import contextlib
import logging
from collections import Counter

from engine.engine import Engine
from engine.errors import EngineError
from engine.preview.preview import Preview
from engine.preview.tasks import DATASET, WARM_PRIORITY
from engine.store import StoreError

log = logging.getLogger("sluice.preview")

# The next scan comes after this, or after ten times what the last one took.
SCAN_EVERY_S = 30.0
SCAN_SHARE = 10
# How soon a server sees what a worker has written, and how often downloads are stored.
LOOK_EVERY_S = 0.5
STORE_DOWNLOADS_EVERY_S = 60.0


class Watch:
    """Watches for one preview. `start` comes first, `close` last.

    queues_changed  a cached dataset whose files have changed is read again
    """

    def __init__(self, engine: Engine, preview: Preview, *, queues_changed: bool) -> None:
        self._engine = engine
        self._preview = preview
        self._states = preview.states
        self._store = preview.states.store
        self._queues_changed = queues_changed
        self._was_scanned = False
        self._missed: dict[str, str] = {}  # cached datasets whose last scan had another revision, which it was; empty: not there
        self._private: set[str] = set()

    def start(self) -> None:
        self._engine.spawn(self._scan_again(), "scan datasets")
        self._engine.spawn(self._look_for_changes(), "changes of previews")
        self._engine.spawn(self._store_again(), "downloads")

    async def close(self) -> None:
        await self._states.catalogue.close()
        with contextlib.suppress(StoreError):  # the numbers of the last minute are worth no failed stop
            await self._store_downloads()

    # The roots

    async def _scan_again(self) -> None:
        while True:
            try:
                await self._scan()
            except (EngineError, StoreError) as error:
                log.warning("datasets not scanned reason=%r", str(error))
            except Exception:  # without this loop no new revision is seen
                log.exception("scanning datasets failed")
            await asyncio.sleep(max(SCAN_EVERY_S, SCAN_SHARE * self._states.catalogue.duration_s))

    async def _scan(self) -> None:
        """Scan once, and queue the cached datasets whose revision is new in two scans running."""
        await self._states.catalogue.scan()
        if not self._was_scanned:
            await self._forget_removed()
            self._was_scanned = True
        private = self._states.access.private()
        if private - self._private:
            await self._store.mark_private(private)
        self._private = private
        if self._queues_changed:
            await self._queue_changed()

    async def _forget_removed(self) -> None:
        """A process before this one may have ended between the removal of a dataset of the server's own and the news of it."""
        for dataset in await self._store.list_cached_datasets():
            if self._states.catalogue.is_own(dataset.root) and await self._states.catalogue.is_gone(dataset.name):
                await self._states.forget(dataset.name)

    async def _queue_changed(self) -> None:
        """A dataset whose job is started is left out: what was scanned may be older than what the job reads."""
        busy = {job.dataset for job in await self._store.list_jobs((DATASET,), ("waiting", "started"))}
        missed: dict[str, str] = {}
        for dataset in await self._store.list_cached_datasets():
            found = self._states.catalogue.get(dataset.name)
            if found is None and self._states.catalogue.is_of_hub(dataset.root):
                continue  # a hook tells of its changes
            revision = found.revision if found else ""
            if dataset.name in busy or dataset.status == "empty" or revision == dataset.revision:
                continue
            if self._missed.get(dataset.name) == revision:
                await self._states.ask(dataset.name, priority=WARM_PRIORITY)
            else:
                missed[dataset.name] = revision
        self._missed = missed

    # Commits of workers

    async def _look_for_changes(self) -> None:
        seen = await self._store.data_version()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)  # SQLite tells nobody that another process has committed
            try:
                now = await self._store.data_version()
            except StoreError:
                continue
            if now != seen:
                seen = now
                self._preview.changed(None)

    # Downloads

    async def _store_again(self) -> None:
        while True:
            await asyncio.sleep(STORE_DOWNLOADS_EVERY_S)
            try:
                await self._store_downloads()
            except StoreError as error:
                log.warning("downloads not stored reason=%r", str(error))

    async def _store_downloads(self) -> None:
        numbers, self._preview.downloads = dict(self._preview.downloads), Counter()
        if numbers:
            try:
                await self._store.add_downloads(numbers)
            except StoreError:
                self._preview.downloads.update(numbers)
                raise
