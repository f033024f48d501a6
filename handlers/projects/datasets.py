"""Datasets of projects over HTTP: made of uploads and other datasets, asked for their dates, chosen as the active one."""

from dataclasses import replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, RootModel

from engine.projects.datasets import ProjectDatasets, Sources, hub_of
from engine.projects.objects import Object
from engine.projects.uploads import type_of
from engine.roles import Role
from handlers.http.bodies import Body
from handlers.http.routes import Route
from handlers.projects.admission import CALLER, admit, key_of, key_of_maker, needs, read_body
from handlers.projects.answers import OBJECTS, iid_of, listed, shown
from handlers.projects.changes import activate, cancel, remove
from handlers.projects.errors import SURFACE
from handlers.projects.parameters import LIST_QUERY
from handlers.projects.projects import BAD_BODY, PROJECT, REFUSALS, TOO_MANY
from handlers.projects.shapes import ListedProjectDataset, ProjectDataset

PROJECT_DATASETS = web.AppKey("project_datasets", ProjectDatasets)
RESULT = ("Types", "Frequency", "Combinations")
MAX_SOURCES, MAX_COMBINATIONS = 1000, 1000

Number = Annotated[int, Field(ge=1, lt=10**15)]
Text = Annotated[str, Field(max_length=80)]


class DatasetRequest(Body):
    """Body of POST .../datasets."""

    upload_ids: Annotated[list[Number], Field(max_length=MAX_SOURCES, default_factory=list)]
    dataset_ids: Annotated[list[Number], Field(max_length=MAX_SOURCES, default_factory=list)]
    activate: bool = False


class Combination(Body):
    """One of the list that is the body of POST .../dates."""

    country_code: Text
    region_code: Text = "all"
    grouping: Text = "all"


class Combinations(RootModel[Annotated[list[Combination], Field(min_length=1, max_length=MAX_COMBINATIONS)]]):
    """Body of POST .../dates."""


async def make_dataset(request: web.Request) -> web.Response:
    """Make a dataset; it becomes the active one once it is complete, if that is wanted."""
    project = await admit(request, Role.DATA_MANAGER)
    body = await read_body(request, DatasetRequest)
    if body.activate:
        await admit(request, Role.MANAGER)
    sources = Sources.of(body.dataset_ids, body.upload_ids)
    by = request[CALLER].name
    made = await request.app[PROJECT_DATASETS].create(project, sources, activate=body.activate, created_by=by)
    return _shown(request, made, status=201)


async def list_datasets(request: web.Request) -> web.Response:
    """Datasets, newest first."""
    return await listed(request, await admit(request, Role.OBSERVER), "dataset", _fields)


async def show_active(request: web.Request) -> web.Response:
    """The active dataset."""
    project = await admit(request, Role.OBSERVER)
    return _shown(request, await request.app[PROJECT_DATASETS].active(project))


async def show_dataset(request: web.Request) -> web.Response:
    """One dataset."""
    project = await admit(request, Role.OBSERVER)
    return _shown(request, await request.app[OBJECTS].get(project, "dataset", iid_of(request, "dataset")))


async def list_dates(request: web.Request) -> web.Response:
    """The dates that all of some combinations have."""
    project = await admit(request, Role.OBSERVER)
    iid, name = iid_of(request, "dataset"), type_of(request.query.get("dataset_name"))
    wanted = await read_body(request, Combinations)
    combinations = [(one.country_code, one.region_code, one.grouping) for one in wanted.root]
    body = await request.app[PROJECT_DATASETS].dates(project, iid, name, combinations)
    return web.Response(body=body, content_type="application/json")


async def activate_dataset(request: web.Request) -> web.Response:
    """Make a dataset the active one."""
    return _shown(request, await activate(request, await admit(request, Role.MANAGER), "dataset"))


async def cancel_dataset(request: web.Request) -> web.Response:
    """Stop making a dataset."""
    return _shown(request, await cancel(request, await admit(request, Role.DATA_MANAGER), "dataset"))


async def remove_dataset(request: web.Request) -> web.Response:
    """Remove a dataset that is not active, and of which nothing was made."""
    return await remove(request, await admit(request, Role.DATA_MANAGER), "dataset")


def _shown(request: web.Request, found: Object, *, status: int = 200) -> web.Response:
    return shown(request, found, _fields(found) | {"Hub": hub_of(found)}, result=dict.fromkeys(RESULT), status=status)


def _fields(found: Object) -> dict[str, Any]:
    return {"Active": found.active is not None, "Uploads": found.request["uploads"], "Datasets": found.request["datasets"]}


# Routes

PATH, ONE = PROJECT + "/datasets", PROJECT + "/datasets/{iid}"
ACTIVATE = Route(
    method="POST",
    path=ONE + "/activate",
    handler=activate_dataset,
    surface=SURFACE,
    summary="make a dataset the active one of its project",
    key=key_of(Role.MANAGER),
    answers={200: "the dataset", 409: "it is not complete"} | REFUSALS,
    reply=ProjectDataset,
    admit=needs(Role.MANAGER),
)
ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=make_dataset,
        surface=SURFACE,
        summary="make a dataset of uploads, or of a dataset and more uploads",
        key=key_of_maker(Role.DATA_MANAGER),
        body=DatasetRequest,
        answers={201: "the dataset", 409: "an upload or dataset is not complete", 429: TOO_MANY} | REFUSALS | BAD_BODY,
        reply=ProjectDataset,
        admit=needs(Role.DATA_MANAGER),
    ),
    Route(
        method="GET",
        path=PATH,
        handler=list_datasets,
        surface=SURFACE,
        summary="the datasets of a project, newest first",
        key=key_of(Role.OBSERVER),
        query=LIST_QUERY,
        answers={200: "the datasets", 422: "a parameter is wrong"} | REFUSALS,
        reply=list[ListedProjectDataset],
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=PATH + "/active",
        handler=show_active,
        surface=SURFACE,
        summary="the active dataset",
        key=key_of(Role.OBSERVER),
        answers={200: "the dataset"} | REFUSALS,
        reply=ProjectDataset,
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=ONE,
        handler=show_dataset,
        surface=SURFACE,
        summary="a dataset, with its types and combinations",
        key=key_of(Role.OBSERVER),
        answers={200: "the dataset"} | REFUSALS,
        reply=ProjectDataset,
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="POST",
        path=ONE + "/dates",
        handler=list_dates,
        surface=SURFACE,
        summary="the dates of Sales on which all of some combinations have rows of a type",
        key=key_of(Role.OBSERVER),
        body=Combinations,
        query={"dataset_name": "the type of data, such as Sales"},
        answers={200: "the dates, ascending", 409: "the dataset is not complete"} | REFUSALS | BAD_BODY,
        reply=list[str],
        admit=needs(Role.OBSERVER),
    ),
    ACTIVATE,
    replace(ACTIVATE, method="PATCH"),
    Route(
        method="POST",
        path=ONE + "/cancel",
        handler=cancel_dataset,
        surface=SURFACE,
        summary="stop making a dataset",
        key=key_of(Role.DATA_MANAGER),
        answers={200: "the dataset", 409: "it is finished already"} | REFUSALS,
        reply=ProjectDataset,
        admit=needs(Role.DATA_MANAGER),
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=remove_dataset,
        surface=SURFACE,
        summary="remove a dataset",
        key=key_of(Role.DATA_MANAGER),
        answers={204: "it is gone", 409: "it is active, or something was made of it"} | REFUSALS,
        admit=needs(Role.DATA_MANAGER),
    ),
)
