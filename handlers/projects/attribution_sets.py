"""Attribution sets over HTTP: aligned from attributions, shown, chosen as the active one."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from engine.projects.attribution_sets import KIND, AttributionSets
from engine.projects.objects import Object
from engine.roles import Role
from handlers.http.bodies import Body
from handlers.http.errors import json_response
from handlers.projects.admission import CALLER, admit, read_body
from handlers.projects.answers import shown
from handlers.projects.calls import ObjectCalls
from handlers.projects.datasets import MAX_SOURCES, Number
from handlers.projects.projects import PROJECT
from handlers.projects.shapes import ListedSet, NoSetAnswer, SetAnswer

ATTRIBUTION_SETS = web.AppKey("attribution_sets", AttributionSets)
RESULT = ("FirstDate", "LastDate", "Combinations")


class AlignRequest(Body):
    """Body of POST .../attributionset_align_dates."""

    attributionjob_ids: Annotated[list[Number], Field(max_length=MAX_SOURCES)]
    active: bool = False


async def align(request: web.Request) -> web.Response:
    """Make a set of attributions; it becomes the active one once it is complete, if that is wanted."""
    project = await admit(request, Role.MODEL_DEVELOPER)
    body = await read_body(request, AlignRequest)
    if body.active:
        await admit(request, Role.MANAGER)
    sets, by = request.app[ATTRIBUTION_SETS], request[CALLER].name
    made = await sets.create(project, body.attributionjob_ids, activate=body.active, created_by=by)
    return _shown(request, made, status=201)


async def show_active(request: web.Request) -> web.Response:
    """The active set; while none is active, one without attributions, which scripts extend like any other."""
    project = await admit(request, Role.OBSERVER)
    found = await request.app[ATTRIBUTION_SETS].active(project)
    if found is None:
        return json_response({"IId": None, "Status": None, "Attributions": []}, sort_keys=False)
    return _shown(request, found)


def _shown(request: web.Request, found: Object, *, status: int = 200) -> web.Response:
    return shown(request, found, _fields(found), result=dict.fromkeys(RESULT), status=status)


def _fields(found: Object) -> dict[str, Any]:
    attributions = [{"IId": iid} for iid in found.request["attributions"]]
    return {"Active": found.active is not None, "Attributions": attributions}


# Routes

PATH = PROJECT + "/attributionset"
CALLS = ObjectCalls(
    kind=KIND,
    path=PATH,
    one="an attribution set",
    about="with totals over its dates",
    doing="making",
    kept_because="it is active",
    role=Role.MODEL_DEVELOPER,
    shown=_shown,
    fields=_fields,
    reply=SetAnswer,
    list_reply=list[ListedSet],
    active_in="its project",
)
ROUTES = (
    CALLS.make_route(
        align,
        AlignRequest,
        "make a set of attributions on common dates",
        of="an attribution",
        path=PROJECT + "/attributionset_align_dates",
    ),
    CALLS.list_route(),
    CALLS.active_route(
        show_active,
        "the active attribution set",
        "the set; without one, IId is null and Attributions empty",
        (SetAnswer, NoSetAnswer),
    ),
    *CALLS.routes_of_one(),
)
