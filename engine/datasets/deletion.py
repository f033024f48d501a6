"""Deletion of rows by a condition: a new version of a dataset, whose touched segments are written anew without these rows.

A replica of the pool `query` finds the rows; the function that asks it is handed in. One of the pool `jobs` writes the segments.
The versions before keep the rows. Knows no HTTP, and nothing of what a condition says.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.accounts import Caller
from engine.datasets.catalogue import Dataset, dataset_not_found, readable_of
from engine.datasets.changes import Conditions, DatasetChanges, NewRows
from engine.datasets.versions import DatasetVersion, StoredSegment
from engine.datasets.work import CUT, ask, columns_for_task, segments_for_task, staged_folder
from engine.replicas.pool import Pool

# The rows for which a condition holds: its body, the grant of the dataset, and who asks.
FindRows = Callable[[bytes, dict[str, Any], Caller], Awaitable[tuple[int, memoryview]]]
# How long a deletion waits for sidecars that are being made.
WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of a deletion; without any rows that match, `version` is the one that was current before."""

    version: DatasetVersion
    num_rows: int


class Deletion:
    """Deletes rows of datasets."""

    def __init__(self, changes: DatasetChanges, jobs: Pool, find_rows: FindRows) -> None:
        self._changes = changes
        self._jobs = jobs
        self._find_rows = find_rows

    async def delete(
        self, dataset: Dataset, body: bytes, caller: Caller, conditions: Conditions, confirm: Callable[[], Awaitable[None]]
    ) -> Deleted:
        """Delete the rows for which the condition of the body holds. The dataset keeps its turn meanwhile.

        confirm  called before anything changes; its EngineError ends the deletion
        raises   EngineError: what is wrong with the condition, `dataset_not_found`, `dataset_not_ready`, `version_changed`,
                 `disk_full`, `timeout`
        """
        async with self._changes.turn(dataset.org, dataset.name) as current:
            conditions.check(dataset.title, current)
            if current is None:
                raise dataset_not_found(dataset.title)
            await current.wait_until_whole(WAIT_S)
            head = current.head
            num_rows, rows = await self._find_rows(body, readable_of(current, head, head.segments).grant(), caller)
            if not num_rows:
                return Deleted(head, 0)
            await asyncio.to_thread(self._changes.disk.check, 0)
            staging = await asyncio.to_thread(current.folder.make_staging)
            try:
                change = await self._cut(current, rows, staging)
                await self._check_room(current, change, is_counted=not caller.is_admin)
                await confirm()
                version = await self._changes.commit(current.folder, current.org, current.name, replace(change, by=caller.name))
            finally:
                await asyncio.to_thread(current.folder.remove_staging, staging)
            return Deleted(version, num_rows)

    async def _check_room(self, dataset: Dataset, change: NewRows, *, is_counted: bool) -> None:
        """The segments that are written anew need room, as the versions before keep the old ones. EngineError `quota_exceeded`."""
        known = set(dataset.head.segments)
        num_bytes = sum(segment.num_bytes for segment in change.segments if segment not in known)
        await self._changes.check_room(dataset.org, dataset.name, num_bytes, is_counted=is_counted, is_deletion=True)

    async def _cut(self, dataset: Dataset, rows: memoryview, staging: Path) -> NewRows:
        """The version without these rows, whose new segments are staged."""
        head = dataset.head
        arguments = {
            "staging": str(staging),
            "folder": str(dataset.folder.segments),
            "columns": columns_for_task(head.columns),
            "segments": segments_for_task(head.segments),
        }
        answer = await ask(self._jobs, CUT, arguments, [rows])
        old = {segment.id: segment for segment in head.segments}
        segments, staged = [], []
        for one in answer.header["segments"]:
            was = one.get("was")
            segments.append(old[one["id"]] if was is None else _new(one, old[was]))
            if was is not None:
                staged.append(staged_folder(staging, segments[-1]))
        return NewRows("delete", "", head.columns, segments, staged)


def _new(one: dict[str, Any], was: StoredSegment) -> StoredSegment:
    """A segment that lost rows; it belongs where it belonged."""
    return StoredSegment.from_json(one, config=was.config, split=was.split)
