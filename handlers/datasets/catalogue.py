"""What there is, over HTTP: datasets listed and described, their visibility changed, and datasets and versions deleted."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from aiohttp import web
from pydantic import Field, ValidationError

from engine.datasets import Dataset
from engine.datasets.catalogue import DATASET_NOT_FOUND, dataset_not_found, version_not_found
from engine.datasets.names import SourceName, shown
from engine.datasets.versions import DatasetVersion, Listed
from engine.errors import INVALID_PARAMETER, UNKNOWN_FIELD, DetailedError, EngineError
from handlers.datasets.admission import (
    CHANGE_REFUSALS,
    CHANGES,
    PATH,
    READER,
    REFUSALS,
    SOURCES,
    SURFACE,
    WRITER,
    columns,
    conditions,
    etag,
    names,
    readable,
    wanted_version,
    writable,
)
from handlers.datasets.options import check_known, nearest
from handlers.datasets.shapes import DatasetDescription, DatasetList, ListedDataset
from handlers.http.auth import known_caller
from handlers.http.bodies import Body, in_steps, send_whole, small_body, undecodable
from handlers.http.errors import dumps, json_response
from handlers.http.routes import Route, whole

JSON = {"Content-Type": "application/json"}
MAX_DESCRIPTION_CHARACTERS = 10_000

# Reading


async def list_datasets(request: web.Request) -> web.StreamResponse:
    """The datasets that the caller may read, by name: also those that projects have made, or people have laid down as files."""
    caller = await known_caller(request)
    check_known(request, "org")
    found = await request.app[SOURCES].listed(caller, request.query.get("org"))
    return await send_whole(request, await in_steps(request, _list(found)), dict(JSON))


def _list(found: Iterable[Listed]) -> Iterator[bytes]:
    """The list in JSON, one part for each dataset."""
    before = b'{"datasets":['
    for one in found:
        yield before + dumps(_entry(one), sort_keys=False)
        before = b","
    yield b"]}" if before == b"," else before + b"]}"


def _entry(one: Listed) -> ListedDataset:
    return {
        "dataset": f"hub://{one.title}",
        "rows": one.num_rows,
        "version": one.version,
        "bytes": one.num_bytes,
        "updated_at": one.updated_at,
    }


async def describe(request: web.Request) -> web.StreamResponse:
    """One version of a dataset, the current one without `version`, and which other versions there are."""
    try:
        dataset = await readable(request)
    except EngineError as error:
        if error.code != DATASET_NOT_FOUND:
            raise
        return await _describe_prepared(request)
    check_known(request, "version")
    number = wanted_version(request)
    version = dataset.head if number is None else dataset.versions.get(number)
    if version is None:
        raise version_not_found(dataset.title, number)
    return json_response(_description(dataset, version.number), headers=etag(version.number), sort_keys=False)


async def _describe_prepared(request: web.Request) -> web.Response:
    """A dataset that this surface does not keep, as queries read it. EngineError also `dataset_not_ready`, `split_not_ready`."""
    caller, (org, name) = await known_caller(request), names(request)
    check_known(request, "version")
    source = SourceName(org, name, version=wanted_version(request))
    found = await request.app[SOURCES].described(source, caller)
    number = int(found.title.rpartition("@")[2])
    version = DatasetVersion(number, "create", "", "", found.columns, found.segments)
    described = {"dataset": f"hub://{source.title}", "version": number, "rows": version.num_rows, "splits": version.splits}
    return json_response(described | {"columns": columns(version)}, headers=etag(number), sort_keys=False)


def _description(dataset: Dataset, number: int) -> dict[str, Any]:
    """Everything that is told about one version of a dataset."""
    version = dataset.versions[number]
    described: dict[str, Any] = {
        "dataset": f"hub://{dataset.title}",
        "version": number,
        "rows": version.num_rows,
        "visibility": dataset.visibility,
    }
    if dataset.description:
        described["description"] = dataset.description
    kept = [
        {"version": one.number, "rows": one.num_rows, "created_at": one.created_at, "by": one.by, "what": one.what}
        for one in reversed(dataset.versions.values())
    ]
    return described | {"splits": version.splits, "columns": columns(version), "versions": kept}


# Changing


class DatasetChange(Body):
    """Body of PATCH: the properties to change."""

    visibility: Literal["public", "private"] | None = None
    description: str | None = Field(None, max_length=MAX_DESCRIPTION_CHARACTERS)


async def change_dataset(request: web.Request) -> web.Response:
    """PATCH: answers with the description of the dataset after the change."""
    path = await writable(request)
    if path.dataset is None:
        raise dataset_not_found(path.title)
    check_known(request)
    wanted = conditions(request, must_exist=True)
    wanted.check(path.title, path.dataset)
    change = _change(await small_body(request))
    await request.app[CHANGES].describe(path.dataset, wanted, visibility=change.visibility, description=change.description)
    head = path.dataset.head.number
    return json_response(_description(path.dataset, head), headers=etag(head), sort_keys=False)


def _change(body: bytes) -> DatasetChange:
    """EngineError `invalid_body`, `invalid_parameter`, `unknown_field`."""
    try:
        change = DatasetChange.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if fault["type"] == "json_invalid":
            raise undecodable(fault["ctx"]["error"]) from None
        name = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            known = list(DatasetChange.model_fields)
            raise DetailedError(UNKNOWN_FIELD, f'Unknown field "{shown(name)}".', nearest(name, known)) from None
        raise EngineError(INVALID_PARAMETER, f'Field "{name}": {fault["msg"]}.' if name else "Send a JSON object.") from None
    if change.visibility is None and change.description is None:
        raise EngineError(INVALID_PARAMETER, "Send visibility or description.")
    return change


async def delete_dataset(request: web.Request) -> web.Response:
    """DELETE: the dataset, or with `version` that version. Queries that run keep their files."""
    path = await writable(request)
    check_known(request, "version")
    wanted = conditions(request, must_exist=True)
    wanted.check(path.title, path.dataset)
    number = wanted_version(request)
    if path.dataset is None:
        raise dataset_not_found(path.title)
    if number is None:
        await request.app[CHANGES].delete(path.dataset, wanted)
    else:
        await request.app[CHANGES].delete_version(path.dataset, number, wanted)
    return web.Response(status=204)


# Routes

ROUTES = (
    Route(
        method="GET",
        path="/api/datasets",
        handler=list_datasets,
        surface=SURFACE,
        summary="The datasets that the caller may read",
        key=READER,
        answers={200: "the datasets, by name", 400: "a parameter is wrong", 401: REFUSALS[401]},
        reply=DatasetList,
        query={"org": "only those of this user"},
    ),
    Route(
        method="GET",
        path=PATH,
        handler=describe,
        surface=SURFACE,
        summary="One dataset: its columns, splits and versions",
        key=READER,
        answers={200: "the description; its ETag is the version in quotes", 400: "a name or a parameter is wrong"} | REFUSALS,
        reply=DatasetDescription,
        query={"version": whole("an earlier version", 1)},
    ),
    Route(
        method="PATCH",
        path=PATH,
        handler=change_dataset,
        surface=SURFACE,
        summary="Change who may read a dataset, or its description",
        key=WRITER,
        body=DatasetChange,
        answers={
            200: "the description after the change",
            413: "the body is larger than 64 KiB",
            415: "the Content-Encoding is unknown",
            507: "the disk of the server is full",
        }
        | CHANGE_REFUSALS,
        reply=DatasetDescription,
        admit=writable,
    ),
    Route(
        method="DELETE",
        path=PATH,
        handler=delete_dataset,
        surface=SURFACE,
        summary="Delete a dataset, or one version of it that is not current",
        key=WRITER,
        answers={204: "it is gone"} | CHANGE_REFUSALS,
        query={"version": whole("only this version", 1)},
        admit=writable,
    ),
)
