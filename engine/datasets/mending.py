"""Mending: sidecars of a segment that are missing are made again from its rows.

A job does it (the kind `mend`), one for each segment; a query of the dataset waits until the last of them has ended. Where one has
failed, the queries that need the missing files fail, and the next start asks again. Knows no HTTP and no query.
"""

import functools
import logging
from collections.abc import Iterable

from engine.datasets.catalogue import Dataset, Datasets
from engine.datasets.work import MEND, UPKEEP_PRIORITY, columns_for_task
from engine.jobs import JobFailure, JobKind, Outcome, Work, job_key
from engine.store import JobRow, NewJob, Transaction

log = logging.getLogger("sluice.datasets")

KIND = "mend"


def mend_job(dataset: Dataset, segment_id: str) -> NewJob:
    """The row of a job has no column for a segment: its config is the id."""
    key = job_key(KIND, dataset.title, segment_id)
    return NewJob(KIND, key, dataset.title, dataset.title, segment_id, priority=UPKEEP_PRIORITY)


class Mending:
    """The kind of job that mends one segment of a dataset."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets
        self._damaged: dict[str, tuple[Dataset, set[str]]] = {}  # by title: segments whose jobs have not ended

    def kind(self) -> JobKind:
        return JobKind(KIND, "slow", self._begin, self._ended)

    def expect(self, dataset: Dataset, segment_ids: Iterable[str]) -> None:
        """These segments lack a sidecar: until their jobs have ended, queries of the dataset wait."""
        dataset.is_whole.clear()
        self._damaged[dataset.title] = dataset, set(segment_ids)

    async def _begin(self, job: JobRow) -> Work | None:
        """Nothing is to be done for a segment that no version names any more."""
        dataset, segment_id = self._datasets.titled(job.dataset or ""), job.config or ""
        if dataset is None:
            return None
        versions = [one for one in dataset.versions.values() if any(segment.id == segment_id for segment in one.segments)]
        if not versions:
            return None
        folder = dataset.folder.segments / segment_id
        return Work(MEND, {"folder": str(folder), "columns": columns_for_task(versions[-1].columns)})

    async def _ended(self, transaction: Transaction, job: JobRow, outcome: Outcome) -> None:
        transaction.after_commit(functools.partial(self._forget, job.dataset or "", job.config or ""))
        if isinstance(outcome, JobFailure):
            reason = outcome.class_name or outcome.reason
            log.error("segment not mended dataset=%s segment=%s reason=%s", job.dataset, job.config, reason)
        else:
            log.info("segment mended dataset=%s segment=%s files=%d", job.dataset, job.config, len(outcome.header.get("made", ())))

    def _forget(self, title: str, segment_id: str) -> None:
        dataset, damaged = self._damaged.get(title, (None, set()))
        damaged.discard(segment_id)
        if dataset is not None and not damaged:
            dataset.is_whole.set()
            del self._damaged[title]
