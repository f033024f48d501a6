"""Upkeep: sidecars that are missing are made again, and many small segments become fewer.

Both are work of `jobs` replicas that the server starts by itself, after its start and after a commit. What fails or is cut off
leaves the dataset as it was, and the next start or commit tries again. Knows no HTTP and no query.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence

from engine.datasets.catalogue import Dataset
from engine.datasets.changes import DatasetChanges, NewRows
from engine.datasets.versions import DatasetVersion, StoredSegment
from engine.datasets.work import MEND, MERGE, ask, columns_for_task, segments_for_task, staged_folder
from engine.errors import EngineError
from engine.replicas.pool import Pool

log = logging.getLogger("sluice.datasets")

Spawn = Callable[[Coroutine[None, None, None], str], asyncio.Task[None]]

# Rows of the largest segment; a merge makes none that is larger. A segment of up to half of them is small.
SEGMENT_ROWS = 1_000_000
SMALL_ROWS = SEGMENT_ROWS // 2
# Beyond this number of small segments some are merged, if possible as many as LEAST_MERGED: then there is a merge for every eight
# appends.
MAX_SEGMENTS = 16
LEAST_MERGED = 9


class Upkeep:
    """Mends and merges the segments of all datasets.

    spawn  starts a background task, which its owner cancels at the end
    """

    def __init__(self, changes: DatasetChanges, jobs: Pool, *, spawn: Spawn) -> None:
        self._changes = changes
        self._jobs = jobs
        self._spawn = spawn
        self._merging: set[str] = set()  # titles
        changes.on_commit = self.merge_if_many

    # Sidecars

    async def begin(self) -> None:
        """Look at every dataset, and start to make what is missing; a query of such a dataset waits until that is done."""
        for dataset in self._changes.datasets:
            damaged = await asyncio.to_thread(dataset.folder.damaged, list(dataset.versions.values()))
            if damaged:
                dataset.is_whole.clear()
                self._spawn(self._mend(dataset, damaged), f"mend {dataset.title}")
            self.merge_if_many(dataset)

    async def _mend(self, dataset: Dataset, damaged: dict[str, DatasetVersion]) -> None:
        """Make the sidecars of these segments, one segment after the other."""
        try:
            for segment_id, version in damaged.items():
                folder = dataset.folder.segments / segment_id
                arguments = {"folder": str(folder), "columns": columns_for_task(version.columns)}
                answer = await ask(self._jobs, MEND, arguments)
                made = len(answer.header["made"])
                log.info("segment mended dataset=%s segment=%s files=%d", dataset.title, segment_id, made)
        except (EngineError, OSError) as error:  # queries that need the missing files fail; the next start tries again
            log.error("segment not mended dataset=%s reason=%s", dataset.title, type(error).__name__)
        finally:
            dataset.is_whole.set()

    # Small segments

    def merge_if_many(self, dataset: Dataset) -> None:
        """Start to merge neighbours if the current version has more small segments than MAX_SEGMENTS."""
        if dataset.title not in self._merging and mergeable(dataset.head.segments):
            self._merging.add(dataset.title)
            self._spawn(self._merge(dataset), f"merge {dataset.title}")

    async def _merge(self, dataset: Dataset) -> None:
        try:
            await self._merge_once(dataset)
        except (EngineError, OSError) as error:
            log.error("segments not merged dataset=%s reason=%s", dataset.title, type(error).__name__)
        finally:
            self._merging.discard(dataset.title)

    async def _merge_once(self, dataset: Dataset) -> None:
        """Merge one run of neighbours, unless a change that commits meanwhile takes one of them away."""
        version = dataset.head
        old = mergeable(version.segments)
        staging = await asyncio.to_thread(dataset.folder.make_staging)
        try:
            arguments = {
                "staging": str(staging),
                "folder": str(dataset.folder.segments),
                "segments": segments_for_task(old),
                "columns": columns_for_task(version.columns),
            }
            answer = await ask(self._jobs, MERGE, arguments)
            part = {"config": old[0].config, "split": old[0].split}
            new = [StoredSegment.from_json(one, **part) for one in answer.header["segments"]]
            async with self._changes.turn(dataset.org, dataset.name) as current:
                if current is dataset and (segments := replaced(dataset.head.segments, old, new)) is not None:
                    head = dataset.head
                    staged = [staged_folder(staging, segment) for segment in new]
                    rows = NewRows("merge", head.by, head.columns, segments, staged)
                    await self._changes.commit(dataset.folder, dataset.org, dataset.name, rows)
        finally:
            await asyncio.to_thread(dataset.folder.remove_staging, staging)


def mergeable(segments: Sequence[StoredSegment]) -> Sequence[StoredSegment]:
    """The neighbours to merge: those that cost the fewest rows for each segment that goes. Empty if nothing is to be merged.

    Neighbours are small segments that follow each other in one config and split, and have SEGMENT_ROWS together at most.
    """
    if sum(segment.num_rows <= SMALL_ROWS for segment in segments) <= MAX_SEGMENTS:
        return ()
    parts: dict[tuple[str, str], list[StoredSegment]] = {}
    for segment in segments:
        parts.setdefault(_part(segment), []).append(segment)
    runs = [run for part in parts.values() for run in _runs(part)]
    long_runs = [run for run in runs if len(run) >= LEAST_MERGED]
    return min(long_runs or runs, key=lambda run: _num_rows(run) / (len(run) - 1), default=())


def _runs(part: Sequence[StoredSegment]) -> Iterator[Sequence[StoredSegment]]:
    """Every run of at least two neighbours that may be merged."""
    for start in range(len(part)):
        num_rows = 0
        for end in range(start, len(part)):
            num_rows += part[end].num_rows
            if part[end].num_rows > SMALL_ROWS or num_rows > SEGMENT_ROWS:
                break
            if end > start:
                yield part[start : end + 1]


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


def _num_rows(segments: Sequence[StoredSegment]) -> int:
    return sum(segment.num_rows for segment in segments)
