"""Hooks: datasets that are to be computed anew or taken out, and splits that are to be read again.

Each hook is one transaction: all of it is carried out or nothing. Knows no HTTP and no rights: who may remove a dataset is decided
above.
"""

import functools
from collections.abc import Sequence

from engine.errors import TOO_MANY_JOBS, EngineError
from engine.preview.faults import SPLIT_NOT_FOUND
from engine.preview.listings import dataset_job, split_job
from engine.preview.preview import Preview
from engine.preview.tasks import KINDS, MAX_WAITING, REQUEST_PRIORITY, SPLIT
from engine.store import Subject, Transaction


class Hooks:
    """What other programs ask preview to do."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview
        self._jobs = preview.states.jobs
        self._store = preview.states.store

    async def run(self, *, asked: Sequence[str], removed: str | None) -> None:
        """Compute datasets anew, and then take one out. EngineError `too_many_jobs`.

        asked  names that may be in the catalogue or not; their jobs look again
        """
        names = [*asked, *([removed] if removed else [])]
        known = {name for name in names if await self._is_known(name)}
        async with self._store.transaction() as transaction:
            for name in dict.fromkeys(asked):
                await self._check_room(transaction)
                await self._ask(transaction, name, is_known=name in known)
            if removed is not None:
                await self._remove(transaction, removed)
            for name in names:
                transaction.after_commit(functools.partial(self._preview.changed, name))
            transaction.after_commit(self._jobs.wake)

    async def _is_known(self, name: str) -> bool:
        try:
            return await self._preview.catalogue.find(name) is not None
        except EngineError:  # no replica could look; the job will
            return False

    async def _ask(self, transaction: Transaction, name: str, *, is_known: bool) -> None:
        """A name that nobody knows gets a job and no entry, until the job has found it."""
        generation = None
        if is_known or await self._store.cached_dataset(transaction, name) is not None:
            is_private = self._preview.access.is_private(name)
            generation = await self._store.ask_for_dataset(transaction, name, is_private=is_private)
        await self._store.add_job(transaction, dataset_job(name, generation, priority=REQUEST_PRIORITY))

    async def _remove(self, transaction: Transaction, name: str) -> None:
        """Also a dataset that is not cached yet is not cached by itself from now on."""
        await self._jobs.cancel(transaction, ["waiting", "started"], KINDS, Subject(name))
        if await self._store.cached_dataset(transaction, name) is None and self._preview.catalogue.get(name) is None:
            return
        await self._store.ask_for_dataset(transaction, name, is_private=self._preview.access.is_private(name))
        await self._store.remove_dataset_from_cache(transaction, name)

    async def refresh_split(self, name: str, config: str, split: str) -> None:
        """Read a split again. EngineError `split_not_found`, `too_many_jobs`."""
        async with self._store.transaction() as transaction:
            dataset = await self._store.cached_dataset(transaction, name)
            if dataset is None or await self._store.cached_split(transaction, name, config, split) is None:
                raise EngineError(SPLIT_NOT_FOUND, "the split does not exist")
            await self._check_room(transaction)
            job = split_job(SPLIT, name, config, split, dataset.generation, priority=REQUEST_PRIORITY)
            await self._store.add_job(transaction, job)
            transaction.after_commit(self._jobs.wake)

    async def _check_room(self, transaction: Transaction) -> None:
        if await self._store.num_waiting_jobs(transaction, KINDS) >= MAX_WAITING:
            raise EngineError(TOO_MANY_JOBS, "too many jobs wait", retry_after_s=5)
