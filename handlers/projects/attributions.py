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
from handlers.projects.answers import OBJECTS, iid_of, listed, shown
from handlers.projects.changes import cancel, remove
from handlers.projects.datasets import Number
from handlers.projects.errors import SURFACE
from handlers.projects.parameters import LIST_QUERY, one_of
from handlers.projects.projects import BAD_BODY, PROJECT, REFUSALS, TOO_MANY
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


async def list_attributions(request: web.Request) -> web.Response:
    """Attributions, newest first."""
    return await listed(request, await admit(request, Role.OBSERVER), KIND, _fields)


async def show_attribution(request: web.Request) -> web.Response:
    """One attribution."""
    project = await admit(request, Role.OBSERVER)
    return _shown(request, await request.app[OBJECTS].get(project, KIND, iid_of(request, KIND)))


async def show_dates(request: web.Request) -> web.Response:
    """The table of an attribution by date and node."""
    project = await admit(request, Role.OBSERVER)
    form = one_of(request, "format", tuple(MEDIA_TYPES), "json")
    body = await request.app[ATTRIBUTIONS].effects(project, iid_of(request, KIND), request.query.get("node") or None, form)
    return web.Response(body=body, content_type=MEDIA_TYPES[form], charset="utf-8" if form == "csv" else None)


async def cancel_attribution(request: web.Request) -> web.Response:
    """Stop counting an attribution."""
    return _shown(request, await cancel(request, await admit(request, Role.MODEL_DEVELOPER), KIND))


async def remove_attribution(request: web.Request) -> web.Response:
    """Remove an attribution that is in no set."""
    return await remove(request, await admit(request, Role.MODEL_DEVELOPER), KIND)


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

PATH, ONE = PROJECT + "/attributions", PROJECT + "/attributions/{iid}"
ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=make_attribution,
        surface=SURFACE,
        summary="attribute what a model predicts to its causes, between two dates",
        key=key_of(Role.MODEL_DEVELOPER),
        body=AttributionBody,
        answers={201: "the attribution, which will be counted", 409: "the model or the dataset is not complete", 429: TOO_MANY}
        | REFUSALS
        | BAD_BODY,
        reply=AttributionAnswer,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
    Route(
        method="GET",
        path=PATH,
        handler=list_attributions,
        surface=SURFACE,
        summary="the attributions of a project, newest first",
        key=key_of(Role.OBSERVER),
        query=LIST_QUERY,
        answers={200: "the attributions", 422: "a parameter is wrong"} | REFUSALS,
        reply=list[ListedAttribution],
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=ONE,
        handler=show_attribution,
        surface=SURFACE,
        summary="an attribution, and what each cause brought",
        key=key_of(Role.OBSERVER),
        answers={200: "the attribution"} | REFUSALS,
        reply=AttributionAnswer,
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=ONE + "/dates",
        handler=show_dates,
        surface=SURFACE,
        summary="what each cause brought on each date",
        key=key_of(Role.OBSERVER),
        query={"node": "only the rows of this node", "format": one_word("json or csv; json without it", MEDIA_TYPES)},
        answers={200: "the rows", 409: "the attribution is not complete", 422: "a parameter is wrong"} | REFUSALS,
        reply=(list[Anything], MEDIA_TYPES["csv"]),
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="POST",
        path=ONE + "/cancel",
        handler=cancel_attribution,
        surface=SURFACE,
        summary="stop counting an attribution",
        key=key_of(Role.MODEL_DEVELOPER),
        answers={200: "the attribution", 409: "it is finished already"} | REFUSALS,
        reply=AttributionAnswer,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=remove_attribution,
        surface=SURFACE,
        summary="remove an attribution",
        key=key_of(Role.MODEL_DEVELOPER),
        answers={204: "it is gone", 409: "a set has it"} | REFUSALS,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
)
