"""Attributions over HTTP: asked for, shown as totals and by date."""

import datetime
from typing import Any

from aiohttp import web

from engine.projects.attributions import DEFAULT_SAMPLES, KIND, AttributionRequest, Attributions
from engine.projects.datasets import hub_of
from engine.projects.objects import Object
from engine.roles import Role
from handlers.http.bodies import Body
from handlers.http.routes import Route, one_word
from handlers.projects.admission import CALLER, admit, key_of, needs, read_body
from handlers.projects.answers import iid_of, shown
from handlers.projects.calls import ObjectCalls
from handlers.projects.datasets import Number
from handlers.projects.errors import SURFACE
from handlers.projects.parameters import one_of
from handlers.projects.projects import PROJECT, REFUSALS
from handlers.projects.shapes import Anything, AttributionAnswer, ListedAttribution

ATTRIBUTIONS = web.AppKey("project_attributions", Attributions)
RESULT = ("Observed", "Prediction", "Baseline", "Totals")
MEDIA_TYPES = {"json": "application/json", "csv": "text/csv"}


class AttributionBody(Body):
    """Body of POST .../attributions."""

    model_id: Number
    dataset_id: Number
    start_date: datetime.date
    end_date: datetime.date
    samples: int = DEFAULT_SAMPLES


async def make_attribution(request: web.Request) -> web.Response:
    """Attribute what a model predicts between two dates."""
    project = await admit(request, Role.MODEL_DEVELOPER)
    body = await read_body(request, AttributionBody)
    dates = str(body.start_date), str(body.end_date)
    wanted = AttributionRequest(body.model_id, body.dataset_id, *dates, body.samples, request[CALLER].name)
    return _shown(request, await request.app[ATTRIBUTIONS].create(project, wanted), status=201)


async def show_dates(request: web.Request) -> web.Response:
    """The table of an attribution by date and node."""
    project = await admit(request, Role.OBSERVER)
    form = one_of(request, "format", tuple(MEDIA_TYPES), "json")
    body = await request.app[ATTRIBUTIONS].effects(project, iid_of(request, KIND), request.query.get("node") or None, form)
    return web.Response(body=body, content_type=MEDIA_TYPES[form], charset="utf-8" if form == "csv" else None)


def _shown(request: web.Request, found: Object, *, status: int = 200) -> web.Response:
    asked = found.request
    result = {"StartDate": asked["start_date"], "EndDate": asked["end_date"], "Samples": asked["samples"]} | dict.fromkeys(RESULT)
    return shown(request, found, _fields(found), result=result, status=status)


def _fields(found: Object) -> dict[str, Any]:
    asked = found.request
    return {
        "Model": {"IId": asked["model"]},
        "DataSet": {"IId": asked["dataset"]},
        **dict(zip(("Country", "Region", "Grouping"), asked["combination"], strict=True)),
        "Hub": hub_of(found),
    }


# Routes

PATH = PROJECT + "/attributions"
CALLS = ObjectCalls(
    kind=KIND,
    path=PATH,
    one="an attribution",
    about="and what each cause brought",
    doing="counting",
    kept_because="a set has it",
    role=Role.MODEL_DEVELOPER,
    shown=_shown,
    fields=_fields,
    reply=AttributionAnswer,
    list_reply=list[ListedAttribution],
)
ROUTES = (
    CALLS.make_route(
        make_attribution,
        AttributionBody,
        "attribute what a model predicts to its causes, between two dates",
        of="the model or the dataset",
    ),
    CALLS.list_route(),
    *CALLS.routes_of_one(),
    Route(
        method="GET",
        path=CALLS.one_path + "/dates",
        handler=show_dates,
        surface=SURFACE,
        summary="what each cause brought on each date",
        key=key_of(Role.OBSERVER),
        query={"node": "only the rows of this node", "format": one_word("json or csv; json without it", MEDIA_TYPES)},
        answers={200: "the rows", 409: "the attribution is not complete", 422: "a parameter is wrong"} | REFUSALS,
        reply=(list[Anything], MEDIA_TYPES["csv"]),
        admit=needs(Role.OBSERVER),
    ),
)
