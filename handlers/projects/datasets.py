"""Datasets of projects over HTTP: made of uploads and other datasets, asked for their dates, chosen as the active one."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, RootModel

from engine.projects.datasets import ProjectDatasets, Sources, hub_of
from engine.projects.objects import Object
from engine.projects.uploads import type_of
from engine.roles import Role
from handlers.http.bodies import Body
from handlers.http.routes import Route
from handlers.projects.admission import CALLER, admit, key_of, needs, read_body
from handlers.projects.answers import iid_of, shown
from handlers.projects.calls import ObjectCalls
from handlers.projects.errors import SURFACE
from handlers.projects.projects import BAD_BODY, PROJECT, REFUSALS
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


async def show_active(request: web.Request) -> web.Response:
    """The active dataset."""
    project = await admit(request, Role.OBSERVER)
    return _shown(request, await request.app[PROJECT_DATASETS].active(project))


async def list_dates(request: web.Request) -> web.Response:
    """The dates that all of some combinations have."""
    project = await admit(request, Role.OBSERVER)
    iid, name = iid_of(request, "dataset"), type_of(request.query.get("dataset_name"))
    wanted = await read_body(request, Combinations)
    combinations = [(one.country_code, one.region_code, one.grouping) for one in wanted.root]
    body = await request.app[PROJECT_DATASETS].dates(project, iid, name, combinations)
    return web.Response(body=body, content_type="application/json")


def _shown(request: web.Request, found: Object, *, status: int = 200) -> web.Response:
    return shown(request, found, _fields(found) | {"Hub": hub_of(found)}, result=dict.fromkeys(RESULT), status=status)


def _fields(found: Object) -> dict[str, Any]:
    return {"Active": found.active is not None, "Uploads": found.request["uploads"], "Datasets": found.request["datasets"]}


# Routes

PATH = PROJECT + "/datasets"
CALLS = ObjectCalls(
    kind="dataset",
    path=PATH,
    one="a dataset",
    about="with its types and combinations",
    doing="making",
    kept_because="it is active, or something was made of it",
    role=Role.DATA_MANAGER,
    shown=_shown,
    fields=_fields,
    reply=ProjectDataset,
    list_reply=list[ListedProjectDataset],
    active_in="its project",
)
ROUTES = (
    CALLS.make_route(
        make_dataset, DatasetRequest, "make a dataset of uploads, or of a dataset and more uploads", of="an upload or dataset"
    ),
    CALLS.list_route(),
    CALLS.active_route(show_active, "the active dataset", "the dataset", ProjectDataset),
    Route(
        method="POST",
        path=CALLS.one_path + "/dates",
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
    *CALLS.routes_of_one(),
)
