"""Lending: what is prepared of datasets that people have laid down as files is lent to queries.

A split that is not prepared is asked for, and waited for as long as the query has time. Rows that an upload has written are lent by
engine/datasets/catalogue.py. Knows no query.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ujson

from engine.accounts import Caller
from engine.columns import Column
from engine.datasets.catalogue import DATASET_NOT_FOUND, dataset_not_found, not_ready, version_not_found
from engine.datasets.names import PREFIX, SourceName
from engine.datasets.versions import Listed, Readable, StoredSegment, chosen_part
from engine.errors import DetailedError, EngineError
from engine.jobs import job_key
from engine.preview.faults import SPLIT_NOT_FOUND, SPLIT_NOT_READY, NotReady, StoredError
from engine.preview.listings import split_job
from engine.preview.preview import Preview
from engine.preview.states import later_failed
from engine.preview.tasks import KINDS, MAX_WAITING, PREPARE, REQUEST_PRIORITY
from engine.store import CachedDataset, CachedSplit

# Why what is waited for may never come.
FOR_WORKERS = (
    "This server leaves such work to workers (SLUICE_JOBS_REPLICAS is 0): start one with `sluice worker`, or start the server with "
    "SLUICE_JOBS_REPLICAS=1 or more."
)


class PreparedDatasets:
    """The datasets of preview, as a lender (engine/datasets/sources.py)."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview
        self._states = preview.states
        self._store = preview.states.store

    @contextlib.asynccontextmanager
    async def lent(self, source: SourceName, caller: Caller, wait_s: float) -> AsyncIterator[Readable | None]:
        """EngineError also `split_not_ready`, and the codes of what cannot be listed, read or prepared."""
        try:
            title = await self._states.visible(caller, source.title)
        except EngineError as error:
            if error.code != DATASET_NOT_FOUND:
                raise self._told(error, source) from None
            yield None
            return
        org, _, name = title.rpartition("/")
        source = replace(source, org=org or None, name=name)
        with self._preview.holds.of(title):
            yield await self._found(source, wait_s)

    async def listed(self, caller: Caller) -> list[Listed]:
        """What a hub has is not listed. Numbers are those of what is prepared by now."""
        versions = {one.name: one.version for one in await self._store.list_cached_datasets()}
        prepared: dict[str, list[dict[str, Any]]] = {}
        for split in await self._store.list_prepared_splits():
            prepared.setdefault(split.dataset, []).append(ujson.loads(split.prepared or "{}"))
        names = [one.name for one in await self._states.catalogue.all() if not one.has_versions]
        seen = [name for name in names if self._states.access.may_see(caller, name)]
        return await asyncio.to_thread(lambda: [_listed(name, versions.get(name), prepared.get(name, ())) for name in seen])

    async def _found(self, source: SourceName, wait_s: float) -> Readable | None:
        try:
            return await self._preview.waiting.in_time(source.title, wait_s, lambda: self._current(source))
        except EngineError as error:
            if error.code == DATASET_NOT_FOUND:
                return None
            raise self._told(error, source) from None

    def _told(self, error: EngineError, source: SourceName) -> EngineError:
        """What a caller of queries is told: nothing of files, and nothing that a replica said."""
        if isinstance(error, NotReady):
            told = not_ready(error.code, source.title, retry_after_s=error.retry_after_s or 1)
            if self._states.jobs.does(PREPARE):
                return told
            return DetailedError(error.code, told.message, {"hint": FOR_WORKERS}, retry_after_s=told.retry_after_s)
        if isinstance(error, StoredError):
            message = f'"{PREFIX}{source.title}" cannot be queried: {error.code.text}.'
            return DetailedError(error.code, message, {"hint": f"GET /size?dataset={source.title} says why."})
        if error.code == SPLIT_NOT_FOUND:
            return dataset_not_found("/".join(filter(None, (source.title, source.config, source.split))))
        return error

    async def _current(self, source: SourceName) -> Readable:
        """What is prepared now. EngineError as `States.split`, and `version_not_found`; NotReady also while it is being made."""
        names = await self._store.list_split_names(source.title)
        dataset, split = await self._states.split(source.title, *chosen_part(names, source.config, source.split))
        if split.prepare == "failed":
            raise later_failed(split.prepare_error, dataset)
        if split.prepared is None:
            raise NotReady(SPLIT_NOT_READY, await self._asked(dataset, split))
        prepared: dict[str, Any] = ujson.loads(split.prepared)
        if "segment_columns" not in prepared:  # an upload has written the rows, and the dataset was deleted since
            raise EngineError(DATASET_NOT_FOUND, DATASET_NOT_FOUND.text)
        version = max(dataset.version, prepared["version"])  # the split was read after the dataset
        if source.version not in (None, version):
            raise version_not_found(source.title, source.version)
        return _readable(f"{source.title}@{version}", split, prepared)

    async def _asked(self, dataset: CachedDataset, split: CachedSplit) -> int:
        """Ask for a split that is not prepared, unless its job is there; how many jobs wait before that one."""
        key = job_key(PREPARE, split.dataset, split.config, split.split)
        if not await self._store.find_jobs(key):  # somebody has cancelled it
            async with self._store.transaction() as transaction:
                now = await self._store.cached_split(transaction, split.dataset, split.config, split.split)
                has_room = await self._store.num_waiting_jobs(transaction, KINDS) < MAX_WAITING
                if now is not None and now.prepared is None and has_room:
                    names = (split.dataset, split.config, split.split)
                    job = split_job(PREPARE, *names, dataset.generation, priority=REQUEST_PRIORITY)
                    await self._states.jobs.add(transaction, job)
        return await self._store.num_jobs_before(key) or 0


def _readable(title: str, split: CachedSplit, prepared: dict[str, Any]) -> Readable:
    columns = tuple(map(Column.from_json, prepared["segment_columns"]))
    part = {"config": split.config, "split": split.split}
    segments = tuple(StoredSegment.from_json(one, **part) for one in prepared["segments"])
    return Readable(title, Path(prepared["folder"]), columns, segments)


def _listed(name: str, version: int | None, prepared: Sequence[dict[str, Any]]) -> Listed:
    """Blocks on the disk."""
    segments = [(Path(one["folder"]) / segment["id"], segment) for one in prepared for segment in one["segments"]]
    if not prepared:
        return Listed(name)
    num_rows, num_bytes = (sum(segment[key] for _, segment in segments) for key in ("rows", "bytes"))
    current = max(version or 0, *(one["version"] for one in prepared))
    return Listed(name, num_rows, current, num_bytes, _latest(path for path, _ in segments))


def _latest(folders: Iterable[Path]) -> str | None:
    """When the last of these folders was written; None where that cannot be said. Blocks on the disk."""
    try:
        moment = max(folder.stat().st_mtime for folder in folders)
    except (OSError, ValueError):  # it was replaced a moment ago, or there are no rows
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
