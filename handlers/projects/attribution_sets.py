"""Attribution sets over HTTP: aligned from attributions, shown, chosen as the active one."""

from dataclasses import replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from engine.projects.attribution_sets import KIND, AttributionSets
from engine.projects.objects import Object
from engine.roles import Role
from handlers.http.bodies import Body
from handlers.http.errors import json_response
from handlers.http.routes import Route
from handlers.projects.admission import CALLER, admit, key_of, key_of_maker, needs, read_body
from handlers.projects.answers import OBJECTS, iid_of, listed, shown
from handlers.projects.changes import activate, cancel, remove
from handlers.projects.datasets import MAX_SOURCES, Number
from handlers.projects.errors import SURFACE
from handlers.projects.parameters import LIST_QUERY
from handlers.projects.projects import BAD_BODY, PROJECT, REFUSALS, TOO_MANY
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


async def list_sets(request: web.Request) -> web.Response:
    """Sets, newest first."""
    return await listed(request, await admit(request, Role.OBSERVER), KIND, _fields)


async def show_active(request: web.Request) -> web.Response:
    """The active set; while none is active, one without attributions, which scripts extend like any other."""
    project = await admit(request, Role.OBSERVER)
    found = await request.app[ATTRIBUTION_SETS].active(project)
    if found is None:
        return json_response({"IId": None, "Status": None, "Attributions": []}, sort_keys=False)
    return _shown(request, found)


async def show_set(request: web.Request) -> web.Response:
    """One set."""
    project = await admit(request, Role.OBSERVER)
    return _shown(request, await request.app[OBJECTS].get(project, KIND, iid_of(request, KIND)))


async def activate_set(request: web.Request) -> web.Response:
    """Make a set the active one."""
    return _shown(request, await activate(request, await admit(request, Role.MANAGER), KIND))


async def cancel_set(request: web.Request) -> web.Response:
    """Stop making a set."""
    return _shown(request, await cancel(request, await admit(request, Role.MODEL_DEVELOPER), KIND))


async def remove_set(request: web.Request) -> web.Response:
    """Remove a set that is not active."""
    return await remove(request, await admit(request, Role.MODEL_DEVELOPER), KIND)


def _shown(request: web.Request, found: Object, *, status: int = 200) -> web.Response:
    return shown(request, found, _fields(found), result=dict.fromkeys(RESULT), status=status)


def _fields(found: Object) -> dict[str, Any]:
    attributions = [{"IId": iid} for iid in found.request["attributions"]]
    return {"Active": found.active is not None, "Attributions": attributions}


# Routes

PATH, ONE = PROJECT + "/attributionset", PROJECT + "/attributionset/{iid}"
ACTIVATE = Route(
    method="POST",
    path=ONE + "/activate",
    handler=activate_set,
    surface=SURFACE,
    summary="make an attribution set the active one of its project",
    key=key_of(Role.MANAGER),
    answers={200: "the set", 409: "it is not complete"} | REFUSALS,
    reply=SetAnswer,
    admit=needs(Role.MANAGER),
)
ROUTES = (
    Route(
        method="POST",
        path=PROJECT + "/attributionset_align_dates",
        handler=align,
        surface=SURFACE,
        summary="make a set of attributions on common dates",
        key=key_of_maker(Role.MODEL_DEVELOPER),
        body=AlignRequest,
        answers={201: "the set", 409: "an attribution is not complete", 429: TOO_MANY} | REFUSALS | BAD_BODY,
        reply=SetAnswer,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
    Route(
        method="GET",
        path=PATH,
        handler=list_sets,
        surface=SURFACE,
        summary="the attribution sets of a project, newest first",
        key=key_of(Role.OBSERVER),
        query=LIST_QUERY,
        answers={200: "the sets", 422: "a parameter is wrong"} | REFUSALS,
        reply=list[ListedSet],
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=PATH + "/active",
        handler=show_active,
        surface=SURFACE,
        summary="the active attribution set",
        key=key_of(Role.OBSERVER),
        answers={200: "the set; without one, IId is null and Attributions empty"} | REFUSALS,
        reply=(SetAnswer, NoSetAnswer),
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=ONE,
        handler=show_set,
        surface=SURFACE,
        summary="an attribution set, with totals over its dates",
        key=key_of(Role.OBSERVER),
        answers={200: "the set"} | REFUSALS,
        reply=SetAnswer,
        admit=needs(Role.OBSERVER),
    ),
    ACTIVATE,
    replace(ACTIVATE, method="PATCH"),
    Route(
        method="POST",
        path=ONE + "/cancel",
        handler=cancel_set,
        surface=SURFACE,
        summary="stop making an attribution set",
        key=key_of(Role.MODEL_DEVELOPER),
        answers={200: "the set", 409: "it is finished already"} | REFUSALS,
        reply=SetAnswer,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=remove_set,
        surface=SURFACE,
        summary="remove an attribution set",
        key=key_of(Role.MODEL_DEVELOPER),
        answers={204: "it is gone", 409: "it is active"} | REFUSALS,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
)
