"""Models over HTTP: built of a graph, refitted on other data, shown, chosen as the active one of their combination."""

import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from engine.projects.fitting import slot_of
from engine.projects.models import FitParameters, FitRequest, Models
from engine.projects.objects import Object
from engine.projects.publishing import KIND, Publishing
from engine.roles import Role
from handlers.http.bodies import Body
from handlers.http.routes import Route
from handlers.projects.admission import CALLER, admit, key_of, needs, read_body
from handlers.projects.answers import OBJECTS, iid_of, several, shown
from handlers.projects.calls import ObjectCalls
from handlers.projects.datasets import Combination, Number
from handlers.projects.errors import SURFACE
from handlers.projects.graphs import GraphBody, list_of
from handlers.projects.projects import PROJECT, REFUSALS
from handlers.projects.shapes import Anything, FitAnswer, ListedFit

MODELS = web.AppKey("project_models", Models)
PUBLISHING = web.AppKey("project_publishing", Publishing)
RESULT = ("Metrics", "Diagnostics", "Drift", "Scales", "Served")

DEFAULTS = FitParameters()

Dates = list[datetime.date]


class ModelParam(Body):
    """How a model is fitted. What is left out has its default."""

    epochs: int = DEFAULTS.epochs
    learning_rate: float = DEFAULTS.learning_rate
    samples: int = DEFAULTS.samples
    inference: str = DEFAULTS.inference
    seed: int = DEFAULTS.seed


class RefitDetail(Body):
    """On which data a model is fitted."""

    dataset_id: Number
    train_dates: Dates
    eval_dates: Dates = Field(default_factory=list)
    activate: bool = False


class BuildDetail(RefitDetail):
    """The same, and for which combination."""

    modelling_combination: Combination


class GraphDetail(Body):
    """The graph of a build."""

    graph: GraphBody


class BuildRequest(Body):
    """Body of POST .../build/model."""

    model_detail: BuildDetail
    model_param: ModelParam = Field(default_factory=ModelParam)
    graph_detail: GraphDetail | None = None


class RefitRequest(Body):
    """Body of POST .../refit."""

    model_detail: RefitDetail
    model_param: ModelParam = Field(default_factory=ModelParam)


async def build_model(request: web.Request) -> web.Response:
    """Fit a model of a graph, or of the default one."""
    project = await admit(request, Role.MODEL_DEVELOPER)
    body = await read_body(request, BuildRequest)
    wanted = await _wanted(request, body.model_detail, body.model_param)
    graph = body.graph_detail.graph.as_graph() if body.graph_detail else None
    combination = list_of(body.model_detail.modelling_combination)
    return _shown(request, await request.app[MODELS].build(project, combination, graph, wanted), status=201)


async def refit_model(request: web.Request) -> web.Response:
    """Fit a new model as another was fitted, on other data."""
    project = await admit(request, Role.MODEL_DEVELOPER)
    body = await read_body(request, RefitRequest)
    wanted = await _wanted(request, body.model_detail, body.model_param)
    return _shown(request, await request.app[MODELS].refit(project, iid_of(request, KIND), wanted), status=201)


async def _wanted(request: web.Request, detail: RefitDetail, param: ModelParam) -> FitRequest:
    """What both bodies ask for. EngineError `role_too_low` for one who may not activate models."""
    if detail.activate:
        await admit(request, Role.MANAGER)
    return FitRequest(
        detail.dataset_id,
        [str(date) for date in detail.train_dates],
        [str(date) for date in detail.eval_dates],
        detail.activate,
        FitParameters(**param.model_dump()),
        request[CALLER].name,
    )


async def show_active(request: web.Request) -> web.Response:
    """The active models: one for each combination that has some, each as it is shown alone."""
    project = await admit(request, Role.OBSERVER)
    found = await request.app[OBJECTS].active(project, KIND)
    return several([_shown(request, one) for one in found])


async def show_response(request: web.Request) -> web.Response:
    """The response curves of a model."""
    project = await admit(request, Role.OBSERVER)
    curves = await request.app[MODELS].response(project, iid_of(request, KIND), request.query.get("node") or None)
    return web.Response(text=curves, content_type="application/json")


async def _activated(request: web.Request, found: Object) -> None:
    request.app[PUBLISHING].note_activation()


async def _cancelled(request: web.Request, found: Object) -> None:
    await request.app[PUBLISHING].remove_unwanted(found)


def _shown(request: web.Request, found: Object, *, status: int = 200) -> web.Response:
    asked = found.request
    fields = _fields(found) | {
        "TrainDates": asked["train_dates"],
        "EvalDates": asked["eval_dates"],
        "ModelParam": asked["parameters"],
    }
    return shown(request, found, fields, result=dict.fromkeys(RESULT), status=status)


def _fields(found: Object) -> dict[str, Any]:
    asked = found.request
    parent = asked["parent"]
    return {
        **dict(zip(("Country", "Region", "Grouping"), asked["combination"], strict=True)),
        "Active": found.active is not None,
        "DataSet": {"IId": asked["dataset"]},
        "GraphInstance": {"Id": asked["instance"], "Graph": {"Id": asked["graph"]}},
        "Parent": None if parent is None else {"IId": parent},
        "Kind": asked["kind"],
    }


# Routes

PATH = PROJECT + "/models"
CALLS = ObjectCalls(
    kind=KIND,
    path=PATH,
    one="a model",
    about="and how well it fits",
    doing="fitting",
    kept_because="it is active, or something was made of it",
    role=Role.MODEL_DEVELOPER,
    shown=_shown,
    fields=_fields,
    reply=FitAnswer,
    list_reply=list[ListedFit],
    active_in="its country, region and grouping",
    slot_of=slot_of,
    activated=_activated,
    cancelled=_cancelled,
)
ROUTES = (
    CALLS.make_route(
        build_model,
        BuildRequest,
        "fit a model of a graph, or of the default graph",
        of="the dataset",
        path=PROJECT + "/build/model",
    ),
    CALLS.list_route(),
    CALLS.active_route(show_active, "the active models, one for each country, region and grouping", "the models", list[FitAnswer]),
    CALLS.make_route(
        refit_model,
        RefitRequest,
        "fit a new model as this one was fitted, on other data",
        of="the model or the dataset",
        path=CALLS.one_path + "/refit",
    ),
    Route(
        method="GET",
        path=CALLS.one_path + "/response",
        handler=show_response,
        surface=SURFACE,
        summary="what each channel would bring at 0 to 2 times its spend",
        key=key_of(Role.OBSERVER),
        query={"node": "only the curve of this node"},
        answers={200: "the curves", 409: "the model is not complete", 422: "the node has no curve"} | REFUSALS,
        reply=list[Anything],
        admit=needs(Role.OBSERVER),
    ),
    *CALLS.routes_of_one(),
)
