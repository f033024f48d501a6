"""One dataset, or one of its splits: its listing, first rows, sizes, Parquet files and statistics."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ujson
from aiohttp import web

from engine.errors import EngineError
from engine.preview.answers import Ready, etag_of
from engine.preview.bodies import RowsBody
from engine.preview.faults import SPLIT_NOT_FOUND, PreviewFault
from engine.preview.states import Listing, folder_of, num_bytes_of, num_examples_of
from engine.store import CachedSplit
from handlers.http.errors import dumps
from handlers.http.routes import Parameter, Route
from handlers.preview.admission import KEY, LIST_KEY, SURFACE, base_of, dataset_of, in_time, parameter, split_of
from handlers.preview.answers import data_answer, short_report
from handlers.preview.errors import stored_error
from handlers.preview.keys import OPTIONS, PREVIEW
from handlers.preview.pages import LENGTH, OFFSET, WAIT, is_page, show_page
from handlers.preview.shapes import (
    FirstRowsAnswer,
    IsValidAnswer,
    OldRowsAnswer,
    PageAnswer,
    ParquetAnswer,
    SizeAnswer,
    SplitsAnswer,
    StatisticsAnswer,
)

Json = dict[str, Any]

ROWS_FILE = "rows.parquet"


async def splits(request: web.Request) -> web.Response:
    """The configs and splits of a dataset."""
    name = await dataset_of(request)
    return await data_answer(request, name, await in_time(request, name, lambda: request.app[PREVIEW].splits(name)))


async def rows(request: web.Request) -> web.StreamResponse:
    """The first rows of a split with the types of its columns; with `offset` or `length` as `/v2/rows`."""
    if is_page(request):
        return await show_page(request)
    name, config, split = await split_of(request)
    ready = await in_time(request, name, lambda: request.app[PREVIEW].rows(name, config, split))
    return await data_answer(request, name, ready)


async def first_rows(request: web.Request) -> web.Response:
    """The first rows in the modern shape, with the addresses of pictures and sound as this client reaches them."""
    name, config, split = await split_of(request)
    ready = await in_time(request, name, lambda: request.app[PREVIEW].first_rows(name, config, split))
    body = RowsBody.of_task(ready.plain, ready.about["first_rows"])
    if not body.is_fixed:
        plain = body.with_base(base_of(request))
        ready = replace(ready, plain=plain, packed=b"", etag=etag_of(plain))
    return await data_answer(request, name, ready)


async def statistics(request: web.Request) -> web.Response:
    """What the values of each column of a split are like."""
    name, config, split = await split_of(request)
    ready = await in_time(request, name, lambda: request.app[PREVIEW].statistics(name, config, split))
    return await data_answer(request, name, ready)


async def is_valid(request: web.Request) -> web.Response:
    """Whether `/splits` and, of at least one split, `/rows` would answer with data. A dataset that nobody knows is not valid."""
    try:
        name = await dataset_of(request)
    except EngineError as error:
        if error.code.kind.name != "NOT_FOUND":
            raise
        valid = False
    else:
        valid = await request.app[PREVIEW].is_valid(name)
    return short_report(request, {"valid": valid}, request.app[OPTIONS].max_age_long_seconds, depends_on_caller=not valid)


# What was prepared


async def size(request: web.Request) -> web.Response:
    """Rows and bytes of a dataset, of its configs and of its splits."""
    return await _prepared_answer(request, _size)


async def parquet(request: web.Request) -> web.Response:
    """The Parquet files of a dataset."""
    return await _prepared_answer(request, _parquet)


async def _prepared_answer(request: web.Request, made: Callable[[web.Request, str, Sequence[CachedSplit]], Json]) -> web.Response:
    name = await dataset_of(request)
    listing = await in_time(request, name, lambda: request.app[PREVIEW].states.listing(name))
    chosen = _chosen(request, listing)
    value = await asyncio.to_thread(made, request, name, chosen)
    pending, failed = _open(request, listing, chosen)
    body = dumps({**value, "pending": pending, "failed": failed, "partial": bool(pending)}, sort_keys=False)
    ready = Ready(body, b"", etag_of(body), listing.dataset.revision, bool(listing.fault), not pending, listing.fault)
    return await data_answer(request, name, ready)


def _chosen(request: web.Request, listing: Listing) -> list[CachedSplit]:
    """All splits, or those of a config, or one. EngineError `split_not_found`."""
    config, split = parameter(request, "config"), parameter(request, "split")
    chosen = [one for one in listing.splits if config in (None, one.config) and split in (None, one.split)]
    if not chosen and (config or split):
        raise EngineError(SPLIT_NOT_FOUND, SPLIT_NOT_FOUND.text)
    return chosen


def _open(request: web.Request, listing: Listing, chosen: Iterable[CachedSplit]) -> tuple[list[Json], list[Json]]:
    """Splits that wait to be prepared, and those that could not be."""
    pending, failed = [], []
    for one in chosen:
        item: Json = {"kind": "split-prepare", "dataset": one.dataset, "config": one.config, "split": one.split}
        error = one.prepare_error if one.prepare == "failed" else one.error if one.about is None else None
        if error:
            failed.append({**item, "error": stored_error(request, PreviewFault.read(error), folder_of(listing.dataset))})
        elif one.prepare in ("none", "waiting"):
            pending.append(item)
    return pending, failed


def prepared_files(split: CachedSplit) -> list[Path]:
    """The Parquet files of a split, in order; empty if there are none."""
    if split.prepared is None:
        return []
    prepared = ujson.loads(split.prepared)
    return [Path(prepared["folder"]) / segment["id"] / ROWS_FILE for segment in prepared["segments"]]


def _parquet(request: web.Request, name: str, chosen: Sequence[CachedSplit]) -> Json:
    """Blocks on the disk."""
    base = base_of(request).decode()
    files = []
    for one in chosen:
        address = f"{base}parquet/{quote(name)}/--/{quote(one.config, safe='')}/{quote(one.split, safe='')}/"
        for number, path in enumerate(prepared_files(one)):
            filename = f"{number:04}.parquet"
            names = {"dataset": name, "config": one.config, "split": one.split}
            files.append({**names, "url": address + filename, "filename": filename, "size": _bytes_of(path)})
    return {"parquet_files": files}


def _size(request: web.Request, name: str, chosen: Sequence[CachedSplit]) -> Json:
    """Blocks on the disk."""
    splits = [_split_size(one) for one in chosen]
    configs = []
    for config in dict.fromkeys(one["config"] for one in splits):
        parts = [one for one in splits if one["config"] == config]
        columns = max((one["num_columns"] or 0 for one in parts), default=0)
        configs.append({"dataset": name, "config": config, **_total(parts), "num_columns": columns, "estimated_num_rows": None})
    dataset = {"dataset": name, **_total(splits), "estimated_num_rows": None}
    return {"size": {"dataset": dataset, "configs": configs, "splits": splits}}


NUMBERS = ("num_bytes_original_files", "num_bytes_parquet_files", "num_bytes_memory", "num_rows")


def _split_size(split: CachedSplit) -> Json:
    about: Json = ujson.loads(split.about)["numbers"] if split.about else {}
    prepared: Json = ujson.loads(split.prepared)["numbers"] if split.prepared else {}
    num_rows = prepared.get("num_examples")
    return {
        "dataset": split.dataset,
        "config": split.config,
        "split": split.split,
        "num_bytes_original_files": about.get("num_bytes", num_bytes_of(split)),
        "num_bytes_parquet_files": sum(map(_bytes_of, prepared_files(split))) if split.prepared else None,
        "num_bytes_memory": prepared.get("memory_bytes"),
        "num_rows": num_examples_of(split) if num_rows is None else num_rows,
        "num_columns": prepared.get("num_columns", about.get("num_columns")),
        "estimated_num_rows": None,
    }


def _total(parts: Iterable[Json]) -> Json:
    """The sums of what is known."""
    parts = list(parts)
    return {number: sum(one[number] or 0 for one in parts) for number in NUMBERS}


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was replaced a moment ago
        return 0


# Routes

Query = dict[str, str | Parameter]

DATASET: Query = {"dataset": "`name` or `org/name`"}
SPLIT: Query = DATASET | {"config": "the config", "split": "the split"}
PART: Query = DATASET | {"config": "only this config", "split": "only this split"} | WAIT
ANSWERS = {
    200: "the data; X-Preview-Status: stalled says that it is of an older state",
    304: "the client has it already",
    400: "a parameter is missing, or the dataset cannot be read: X-Error-Code",
    401: "the credentials are wrong",
    404: "there is no such dataset or split, or it is being processed: X-Error-Code, X-Queue-Position",
    500: "the job of the dataset failed: X-Error-Code",
}

ROUTES = (
    Route(
        method="GET",
        path="/splits",
        handler=splits,
        surface=SURFACE,
        summary="The configs and splits of a dataset",
        key=KEY,
        answers=ANSWERS,
        reply=SplitsAnswer,
        query=DATASET | WAIT,
    ),
    Route(
        method="GET",
        path="/rows",
        handler=rows,
        surface=SURFACE,
        summary="The first rows of a split",
        key=KEY,
        answers=ANSWERS | {422: "offset or length is not a number in its range"},
        reply=(OldRowsAnswer, PageAnswer),
        query=SPLIT | OFFSET | LENGTH | WAIT,
    ),
    Route(
        method="GET",
        path="/first-rows",
        handler=first_rows,
        surface=SURFACE,
        summary="The first rows of a split, in the modern shape",
        key=KEY,
        answers=ANSWERS,
        reply=FirstRowsAnswer,
        query=SPLIT | WAIT,
    ),
    Route(
        method="GET",
        path="/size",
        handler=size,
        surface=SURFACE,
        summary="Rows and bytes of a dataset",
        key=KEY,
        answers=ANSWERS,
        reply=SizeAnswer,
        query=PART,
    ),
    Route(
        method="GET",
        path="/parquet",
        handler=parquet,
        surface=SURFACE,
        summary="The Parquet files of a dataset",
        key=KEY,
        answers=ANSWERS,
        reply=ParquetAnswer,
        query=PART,
    ),
    Route(
        method="GET",
        path="/statistics",
        handler=statistics,
        surface=SURFACE,
        summary="What the values of each column are like",
        key=KEY,
        answers=ANSWERS,
        reply=StatisticsAnswer,
        query=SPLIT | WAIT,
    ),
    Route(
        method="GET",
        path="/is-valid",
        handler=is_valid,
        surface=SURFACE,
        summary="Whether a dataset has rows to show",
        key=LIST_KEY,
        answers={200: '`{"valid":true}` or `{"valid":false}`', 400: "the dataset is missing", 401: "the credentials are wrong"},
        reply=IsValidAnswer,
        query=DATASET,
    ),
)
