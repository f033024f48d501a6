"""Upkeep: what the server does for its datasets by itself: it asks for jobs that mend segments and that merge small ones.

It looks for damage at its start, and for small segments then and after each commit. The jobs are done beside all others
(engine/jobs/), in the server alone: only there do memory and disk say the same of a dataset.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

from engine.datasets import mending, merging
from engine.datasets.catalogue import Dataset
from engine.datasets.changes import DatasetChanges
from engine.datasets.mending import Mending, mend_job
from engine.datasets.merging import Merging, is_crowded, merge_job
from engine.jobs import Jobs
from engine.store import NewJob, StoreError

log = logging.getLogger("sluice.datasets")

# No worker takes them, so the server does, however few jobs it is told to do.
UPKEEP_KINDS = (mending.KIND, merging.KIND)

Spawn = Callable[[Coroutine[None, None, None], str], asyncio.Task[None]]


class Upkeep:
    """Asks for the upkeep of all datasets. Made before the jobs are started, which learn two kinds of it.

    spawn  starts a background task, which its owner cancels at the end
    """

    def __init__(self, changes: DatasetChanges, jobs: Jobs, *, spawn: Spawn) -> None:
        self._datasets = changes.datasets
        self._jobs = jobs
        self._spawn = spawn
        self._mending = Mending(changes.datasets)
        jobs.learn({kind.name: kind for kind in (self._mending.kind(), Merging(changes).kind())})
        changes.on_commit.append(self._merge_if_crowded)

    async def begin(self) -> None:
        """Look at every dataset, and ask for what is missing. StoreError."""
        for dataset in self._datasets:
            damaged = await asyncio.to_thread(dataset.folder.damaged, list(dataset.versions.values()))
            if damaged:
                self._mending.expect(dataset, damaged)
                await self._add([mend_job(dataset, segment_id) for segment_id in damaged])
            self._merge_if_crowded(dataset)

    def _merge_if_crowded(self, dataset: Dataset) -> None:
        if is_crowded(dataset.head.segments):
            self._spawn(self._ask_to_merge(dataset), f"ask to merge {dataset.title}")

    async def _ask_to_merge(self, dataset: Dataset) -> None:
        """A dataset of which this cannot be written is asked for again with its next version."""
        try:
            await self._add([merge_job(dataset)])
        except StoreError as error:
            log.error("merge not asked for dataset=%s reason=%r", dataset.title, str(error))

    async def _add(self, jobs: Sequence[NewJob]) -> None:
        async with self._datasets.store.transaction() as transaction:
            for job in jobs:
                await self._jobs.add(transaction, job)
