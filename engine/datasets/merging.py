"""Merging: many small segments of a dataset become fewer, in a version with the same rows.

A job does it (the kind `merge`). What fails or is cut off leaves the dataset as it was, and the next commit or start asks again.
Knows no HTTP and no query.
"""

import asyncio
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.datasets.catalogue import Dataset
from engine.datasets.changes import DatasetChanges, NewRows
from engine.datasets.versions import StoredSegment
from engine.datasets.work import MERGE, UPKEEP_PRIORITY, answered, columns_for_task, segments_for_task, staged_folder
from engine.disk import disk_full, is_full
from engine.jobs import JobFailure, JobKind, Outcome, Work, job_key
from engine.replicas.blocks import Answer
from engine.store import JobRow, NewJob, Transaction

log = logging.getLogger("sluice.datasets")

KIND = "merge"
# Rows of the largest segment; a merge makes none that is larger. A segment of up to half of them is small.
SEGMENT_ROWS = 1_000_000
SMALL_ROWS = SEGMENT_ROWS // 2
# Beyond this number of small segments some are merged, if possible as many as LEAST_MERGED: then there is a merge for every eight
# appends.
MAX_SEGMENTS = 16
LEAST_MERGED = 9


def merge_job(dataset: Dataset) -> NewJob:
    return NewJob(KIND, job_key(KIND, dataset.title), dataset.title, dataset.title, priority=UPKEEP_PRIORITY)


class Merging:
    """The kind of job that merges one run of neighbours of a dataset."""

    def __init__(self, changes: DatasetChanges) -> None:
        self._changes = changes

    def kind(self) -> JobKind:
        return JobKind(KIND, "slow", self._begin, self._ended)

    async def _begin(self, job: JobRow) -> Work | None:
        """Nothing is to be done where the dataset is gone, or was merged by the attempt before."""
        dataset = self._changes.datasets.titled(job.dataset or "")
        if dataset is None:
            return None
        version = dataset.head
        old = await asyncio.to_thread(mergeable, version.segments)  # of many segments there are many more runs
        if not old:
            return None
        staging = await asyncio.to_thread(dataset.folder.make_staging)
        arguments = {
            "staging": str(staging),
            "folder": str(dataset.folder.segments),
            "segments": segments_for_task(old),
            "columns": columns_for_task(version.columns),
        }
        commit = functools.partial(self._commit, dataset, old, staging)
        end = functools.partial(asyncio.to_thread, dataset.folder.remove_staging, staging)
        return Work(MERGE, arguments, then=commit, end=end)

    async def _commit(self, dataset: Dataset, old: Sequence[StoredSegment], staging: Path, answer: Answer) -> None:
        """Give the dataset its new version, unless a change that committed meanwhile has taken one of the neighbours away."""
        part = {"config": old[0].config, "split": old[0].split}
        new = [StoredSegment.from_json(one, **part) for one in answered(answer).header["segments"]]
        async with self._changes.turn(dataset.org, dataset.name) as current:
            if current is dataset and (segments := replaced(dataset.head.segments, old, new)) is not None:
                head = dataset.head
                staged = [staged_folder(staging, segment) for segment in new]
                rows = NewRows("merge", head.by, head.columns, segments, staged)
                try:
                    await self._changes.commit(dataset.folder, dataset.org, dataset.name, rows)
                except OSError as error:
                    raise disk_full() if is_full(error) else error from None

    async def _ended(self, transaction: Transaction, job: JobRow, outcome: Outcome) -> None:
        if isinstance(outcome, JobFailure):
            log.error("segments not merged dataset=%s reason=%s", job.dataset, outcome.class_name or outcome.reason)


def is_crowded(segments: Sequence[StoredSegment]) -> bool:
    """Whether there are more small segments than MAX_SEGMENTS, and two of them are neighbours. Every commit asks this."""
    if sum(segment.num_rows <= SMALL_ROWS for segment in segments) <= MAX_SEGMENTS:
        return False
    was_small: dict[tuple[str, str], bool] = {}
    for segment in segments:
        is_small = segment.num_rows <= SMALL_ROWS
        if is_small and was_small.get(_part(segment)):
            return True
        was_small[_part(segment)] = is_small
    return False


def mergeable(segments: Sequence[StoredSegment]) -> Sequence[StoredSegment]:
    """The neighbours to merge: those that cost the fewest rows for each segment that goes. Empty if nothing is to be merged.

    Neighbours are small segments that follow each other in one config and split, and have SEGMENT_ROWS together at most.
    """
    if not is_crowded(segments):
        return ()
    parts: dict[tuple[str, str], list[StoredSegment]] = {}
    for segment in segments:
        parts.setdefault(_part(segment), []).append(segment)
    runs = [(cost, end - start, part, start) for part in parts.values() for cost, start, end in _runs(part)]
    long_runs = [run for run in runs if run[1] >= LEAST_MERGED]
    _, length, part, start = min(long_runs or runs, key=lambda run: run[0])
    return part[start : start + length]


def _runs(part: Sequence[StoredSegment]) -> Iterator[tuple[float, int, int]]:
    """Every run of at least two neighbours that may be merged: its rows for each segment that goes, its start and its end."""
    for start in range(len(part)):
        num_rows = 0
        for end in range(start, len(part)):
            num_rows += part[end].num_rows
            if part[end].num_rows > SMALL_ROWS or num_rows > SEGMENT_ROWS:
                break
            if end > start:
                yield num_rows / (end - start), start, end + 1


def replaced(
    segments: Sequence[StoredSegment], old: Sequence[StoredSegment], new: Sequence[StoredSegment]
) -> list[StoredSegment] | None:
    """The segments with `new` in place of the neighbours `old`; None when these are not neighbours there any more."""
    part = [segment for segment in segments if _part(segment) == _part(old[0])]
    start = part.index(old[0]) if old[0] in part else len(part)
    if part[start : start + len(old)] != list(old):
        return None
    place = segments.index(old[0])
    return [*segments[:place], *new, *(segment for segment in segments[place:] if segment not in old)]


def _part(segment: StoredSegment) -> tuple[str, str]:
    return segment.config, segment.split
