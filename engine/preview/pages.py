"""Pages: rows from any place of a split, read by a replica of the query pool, and what a model says of each of them.

Until a split is prepared, a page comes out of its first rows, if they reach so far. Knows no HTTP and no file format.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import ujson

from engine.engine import Engine
from engine.errors import JOB_TIMEOUT, TaskFailed
from engine.preview.answers import etag_of
from engine.preview.bodies import RowsBody
from engine.preview.faults import SPLIT_NOT_READY, NotReady, PreviewFault, StoredError
from engine.preview.preview import Preview
from engine.preview.states import folder_of, later_failed, num_examples_of
from engine.preview.tasks import PAGE_TASK, PreviewFolders, PreviewLimits
from engine.replicas.blocks import Answer
from engine.repository.index import Version
from engine.store import CachedDataset, CachedSplit

# What a prediction beside a page may take.
PREDICT_LIMIT_S = 30.0

# Predictions.predict_lines: the version, lines with one record each, how many, whose they are.
PredictLines = Callable[[Version, bytes, int, str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class PagePlace:
    """Which rows of which split. `user` is who asks, empty for all anonymous callers."""

    dataset: str
    config: str
    split: str
    offset: int
    length: int
    user: str


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of `/v2/rows`.

    fault  why a refresh of the split failed, if one did
    """

    body: bytes
    etag: str
    revision: str
    is_stale: bool
    is_whole: bool
    truncated: str
    fault: PreviewFault | None


class _FilesGone(Exception):
    """The files of a split are not there any more, and what came in their place is not known yet."""


class Pages:
    """Reads pages."""

    def __init__(
        self, preview: Preview, engine: Engine, folders: PreviewFolders, limits: PreviewLimits, predict: PredictLines
    ) -> None:
        self._preview = preview
        self._states = preview.states
        self._engine = engine
        self._folders = folders
        self._limits = limits
        self._predict = predict

    async def page(self, place: PagePlace, base: bytes) -> Page:
        """Some rows. EngineError as `States.split`; NotReady and StoredError also for what is not or cannot be prepared."""
        with self._preview.holds.of(place.dataset):
            dataset, split = await self._states.split(place.dataset, place.config, place.split)
            if not _has_parquet(split):
                return await self._of_first_rows(place, base, dataset, split)
            try:
                answer, body = await self._read(place, dataset, split, with_records=False)
            except _FilesGone:
                await self._states.ask_anew(place.dataset)
                return await self._of_first_rows(place, base, dataset, split)
        return _page(body.with_base(base), split, is_whole=True, truncated=answer.header["truncated"])

    async def predicted(self, place: PagePlace, base: bytes, version: Version) -> Page:
        """The same rows, each with what a model says of it. TimeoutError after PREDICT_LIMIT_S."""
        async with asyncio.timeout(PREDICT_LIMIT_S):
            split, answer, body = await self._with_records(place)
            ids = [row for row in answer.header["records"]]
            lines = bytes(answer.payload[len(body.data) :])
            results = await self._predict(version, lines, len(ids), place.user) if ids else b""
        number = len(ujson.loads(body.data[slice(*body.features)]))
        named = {"_type": "Prediction", "model": version.title, "version": version.number}
        feature = {"feature_idx": number, "name": f"predict:{version.title}", "type": named}
        data = body.with_predictions(base, feature, _cells(ids, results))
        return _page(data, split, is_whole=True, truncated=answer.header["truncated"])

    async def _with_records(self, place: PagePlace) -> tuple[CachedSplit, Answer, RowsBody]:
        """The rows also as records for a model. EngineError as `page`."""
        with self._preview.holds.of(place.dataset):
            dataset, split = await self._states.split(place.dataset, place.config, place.split)
            if not _has_parquet(split):
                if split.prepare == "failed":
                    raise later_failed(split.prepare_error, dataset)
                raise NotReady(SPLIT_NOT_READY, 0)
            try:
                return split, *await self._read(place, dataset, split, with_records=True)
            except _FilesGone:
                await self._states.ask_anew(place.dataset)
                raise NotReady(SPLIT_NOT_READY, 0) from None

    async def _of_first_rows(self, place: PagePlace, base: bytes, dataset: CachedDataset, split: CachedSplit) -> Page:
        ready = await self._preview.first_rows(place.dataset, place.config, place.split)
        body = RowsBody.of_task(ready.plain, ready.about["first_rows"])
        is_all = not ready.about["first_rows_truncated"]
        if place.offset >= len(body.rows) and not is_all:
            if split.prepare == "failed":
                raise later_failed(split.prepare_error, dataset)
            raise NotReady(SPLIT_NOT_READY, 0)
        total = len(body.rows) if is_all else num_examples_of(split)
        data = body.page(base, place.offset, place.length, total, is_partial=True)
        return _page(data, split, is_whole=False, truncated=())

    async def _read(
        self, place: PagePlace, dataset: CachedDataset, split: CachedSplit, *, with_records: bool
    ) -> tuple[Answer, RowsBody]:
        """The answer of a replica, and its body. EngineError; StoredError if the rows cannot be read in time; _FilesGone."""
        arguments = self._asked(place, dataset, split, with_records=with_records)
        try:
            answer = await self._engine.pool(PAGE_TASK.pool).run(PAGE_TASK, arguments, user=place.user)
        except TaskFailed as failure:
            if failure.is_timeout:
                fault = PreviewFault(JOB_TIMEOUT, f"The rows took longer than {PAGE_TASK.time_limit_s:.0f} s.")
                raise StoredError(fault, folder_of(dataset)) from None
            raise
        if failed := answer.header.get("failure"):
            if failed["cause_class"] == "FileNotFoundError":
                raise _FilesGone
            raise StoredError(PreviewFault.of_task(failed), folder_of(dataset))
        data = bytes(answer.payload[: len(answer.payload) - answer.header["records_size"]])
        return answer, RowsBody.of_task(data, answer.header["body"])

    def _asked(self, place: PagePlace, dataset: CachedDataset, split: CachedSplit, *, with_records: bool) -> dict[str, Any]:
        names = {"root": dataset.root, "name": dataset.name, "config": split.config, "split": split.split}
        about = {"limits": self._limits.for_task(), "offset": place.offset, "length": place.length, "dataset": dataset.name}
        assets = str(self._folders.run(dataset.name, split.config, split.split, split.run))
        about |= {"assets": assets, "run": split.run, "records": with_records, "widened": None}
        if split.prepared is None or split.prepare != "ok":
            return {**names, **about, "folder": None, "segments": None, "columns": ujson.loads(split.about or "{}")["columns"]}
        prepared = ujson.loads(split.prepared)
        known = {name: prepared[name] for name in ("folder", "segments", "columns")}
        return {**names, **about, **known, "widened": prepared.get("widened") or None}


def _has_parquet(split: CachedSplit) -> bool:
    """Whether all of its rows can be read by their numbers: they were prepared, or its own files are Parquet."""
    if split.prepare == "ok":
        return True
    about: dict[str, Any] = ujson.loads(split.about or "{}")
    return bool(about.get("format") == "parquet")


def _page(data: bytes, split: CachedSplit, *, is_whole: bool, truncated: Any) -> Page:
    fault = PreviewFault.read(split.error) if split.error else None
    return Page(data, etag_of(data), split.revision, split.status != "valid", is_whole, ", ".join(truncated), fault)


def _cells(ids: list[int], results: bytes) -> list[bytes]:
    """The cell of each row by its number: the result as it came, or an object with `error`."""
    found: dict[int, bytes] = {}
    for line in results.splitlines():
        one = json.loads(line)
        cell = {"error": one["error"]} if "error" in one else one.get("result")
        found[int(one["yhat_id"])] = json.dumps(cell, ensure_ascii=False, separators=(",", ":")).encode()
    return [found.get(row, b'{"error":"no result"}') for row in ids]
