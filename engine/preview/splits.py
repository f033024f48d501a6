"""What becomes of a split when its rows were read, its Parquet files were prepared, or its statistics were counted.

Every function is a step of the transaction that ends a job. A job that was asked for in an earlier generation of the dataset
changes nothing. Each gives the text that the job shows as its error, or None.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ujson

from engine.preview.faults import ROWS_ERROR, PreviewFault
from engine.preview.listings import split_job
from engine.preview.tasks import PREPARE, SPLIT, STATISTICS, PreviewFolders
from engine.replicas.blocks import Answer
from engine.store import CachedDataset, CachedSplit, JobRow, SplitAnswers, Store, Transaction

FULL = PreviewFault(ROWS_ERROR, "", "DiskFull", "the disk has less than 1 GiB free")
REPLACED = PreviewFault(ROWS_ERROR, "", "Replaced", "the rows were replaced while they were read")
# Where ingestion keeps the segments of a dataset, below its folder.
OWN_SEGMENTS = ".sluice/segments"
# Of the files there that hold columns as Arrow has them in memory: all but the vectors, and each vector column.
ARROW_SUFFIXES = (".arrow", ".f32")


@dataclass(frozen=True, slots=True)
class _Step:
    """The end of a job on a split that is still there: the transaction, and what is known in it of the split and its dataset."""

    transaction: Transaction
    job: JobRow
    dataset: CachedDataset
    split: CachedSplit


class Splits:
    """The steps of jobs of the kinds `split`, `prepare` and `statistics`."""

    def __init__(self, store: Store, folders: PreviewFolders) -> None:
        self._store = store
        self._folders = folders

    async def read(self, transaction: Transaction, job: JobRow, answer: Answer, revision: str) -> str | None:
        """The split has new answers, and pictures and sound of this run."""
        step = await self._step(transaction, job)
        if step is None:
            return None
        sizes = list(_cut(answer.payload, answer.header["sizes"]))
        bodies = (("rows", sizes[0], sizes[1]), ("first-rows", sizes[2], sizes[3]))
        about = _stored({key: value for key, value in answer.header.items() if key != "sizes"})
        answers = SplitAnswers(revision, f"{job.id}-{job.attempts}", about, bodies)
        await self._store.set_split_valid(transaction, step.split, answers)
        if not _is_prepared(step.split, revision):
            await self._prepare(step, answer.header, revision)
        return None

    async def _prepare(self, step: _Step, about: dict[str, Any], revision: str) -> None:
        """What ingestion wrote is Parquet already; all else is prepared."""
        if about.get("segments") is None:
            await self._store.set_prepare(step.transaction, step.split.id, "waiting")
            await self._store.set_statistics(step.transaction, step.split.id, "waiting")
            await self._add(step, PREPARE)
            return
        folder = Path(step.dataset.root) / step.dataset.name
        try:
            segments, memory_bytes = await asyncio.to_thread(_own_segments, folder, about["segments"])
        except (OSError, LookupError, ValueError):  # an upload has replaced the rows; its commit has asked for the new ones
            await self._store.set_prepare(step.transaction, step.split.id, "failed", error=REPLACED.stored())
            return
        prepared = {"folder": str(folder / OWN_SEGMENTS), "revision": revision, "widened": {}, "segments": segments}
        prepared |= {"columns": about["columns"], "numbers": {**about["numbers"], "memory_bytes": memory_bytes}}
        await self._store.set_prepare(step.transaction, step.split.id, "ok", prepared=_stored(prepared))
        await self._ask_statistics(step)

    async def failed(self, transaction: Transaction, job: JobRow, fault: PreviewFault) -> str | None:
        """The old answer stays, and is shown."""
        if step := await self._step(transaction, job):
            await self._store.set_split_error(transaction, step.split, fault.stored())
        return str(fault)

    async def prepared(self, transaction: Transaction, job: JobRow, answer: Answer, revision: str) -> str | None:
        """The segments get their place; those that were there before are removed by the sweep."""
        header = answer.header
        if header.get("full"):
            return await self.not_prepared(transaction, job, FULL)
        if failure := header.get("failure"):
            return await self.not_prepared(transaction, job, PreviewFault.of_task(failure))
        step = await self._step(transaction, job)
        if step is None:
            return None
        folder = self._folders.segments(step.dataset.name)
        staging = self._folders.staging(f"{job.id}-{job.attempts}")
        await asyncio.to_thread(_move, staging, folder, [one["id"] for one in header["segments"]])
        prepared = {**header, "folder": str(folder), "revision": revision, "version": job.id}
        await self._store.set_version(transaction, step.dataset.name, job.id)
        await self._store.set_prepare(transaction, step.split.id, "ok", prepared=_stored(prepared))
        await self._ask_statistics(step)
        if header["widened"] != prepared_at(step.split, revision).get("widened", {}):
            await self._add(step, SPLIT)
        return None

    async def not_prepared(self, transaction: Transaction, job: JobRow, fault: PreviewFault) -> str | None:
        if step := await self._step(transaction, job):
            await self._store.set_prepare(transaction, step.split.id, "failed", error=fault.stored())
        return str(fault)

    async def counted(self, transaction: Transaction, job: JobRow, answer: Answer) -> str | None:
        if failure := answer.header.get("failure"):
            return await self.not_counted(transaction, job, PreviewFault.of_task(failure))
        if step := await self._step(transaction, job):
            plain, packed = _cut(answer.payload, answer.header["sizes"])
            await self._store.set_statistics(transaction, step.split.id, "ok", answer=(plain, packed))
        return None

    async def not_counted(self, transaction: Transaction, job: JobRow, fault: PreviewFault) -> str | None:
        if step := await self._step(transaction, job):
            await self._store.set_statistics(transaction, step.split.id, "failed", error=fault.stored())
        return str(fault)

    async def _ask_statistics(self, step: _Step) -> None:
        await self._store.set_statistics(step.transaction, step.split.id, "waiting")
        await self._add(step, STATISTICS)

    async def _add(self, step: _Step, kind: str) -> None:
        """A job of another kind on the same split."""
        names = (step.dataset.name, step.split.config, step.split.split)
        new = split_job(kind, *names, step.dataset.generation, priority=step.job.priority)
        await self._store.add_job(step.transaction, new)

    async def _step(self, transaction: Transaction, job: JobRow) -> _Step | None:
        """None if the dataset or the split that a job is about has gone, or the dataset has another generation."""
        name = job.dataset or ""
        dataset = await self._store.cached_dataset(transaction, name, job.generation)
        split = await self._store.cached_split(transaction, name, job.config or "", job.split or "")
        return _Step(transaction, job, dataset, split) if dataset is not None and split is not None else None


def _stored(about: dict[str, Any]) -> str:
    return ujson.dumps(about, ensure_ascii=False)


def prepared_at(split: CachedSplit, revision: str) -> dict[str, Any]:
    """What was prepared of this revision; empty if nothing was."""
    prepared: dict[str, Any] = ujson.loads(split.prepared) if split.prepared else {}
    return prepared if prepared.get("revision") == revision else {}


def _own_segments(folder: Path, ids: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Segments that ingestion wrote, with their rows as the current version has them, and what these take as Arrow, in bytes.

    raises  OSError, LookupError. Blocks on the disk
    """
    head = int((folder / ".sluice/HEAD").read_text())
    version = ujson.loads((folder / f".sluice/versions/{head}.json").read_bytes())
    rows = {one["id"]: one["rows"] for one in version["segments"]}
    arrow_files = [path for one in ids for path in (folder / OWN_SEGMENTS / one).iterdir() if path.suffix in ARROW_SUFFIXES]
    return [{"id": one, "rows": rows[one]} for one in ids], sum(path.stat().st_size for path in arrow_files)


def _is_prepared(split: CachedSplit, revision: str) -> bool:
    """Whether the current Parquet files are those of this revision, or are being made."""
    return split.prepare == "ok" and bool(prepared_at(split, revision))


def _cut(payload: memoryview, sizes: list[int]) -> Iterator[bytes]:
    """The bodies that follow each other in a payload."""
    start = 0
    for size in sizes:
        yield bytes(payload[start : start + size])
        start += size


def _move(staging: Path, folder: Path, ids: list[str]) -> None:
    """Rename finished segments to where they are read. Blocks on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for segment_id in ids:
        (staging / "segments" / segment_id).rename(folder / segment_id)
        os.utime(folder / segment_id)  # the sweep spares what is young, and until the commit nothing else spares it
