"""Graphs over HTTP: those that people save, those that models were built of, and one that is suggested by the data."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from engine.errors import EngineError
from engine.projects.codes import UNKNOWN_GRAPH
from engine.projects.graphs import Graphs, body_of
from engine.roles import Role
from handlers.http.bodies import Body
from handlers.http.errors import json_response
from handlers.http.routes import Route, whole
from handlers.projects.admission import admit, admit_team, key_of, needs, needs_in_team, read_body
from handlers.projects.datasets import PROJECT_DATASETS, Combination
from handlers.projects.errors import SURFACE
from handlers.projects.parameters import LIST_QUERY, iid, list_part, number, short_text
from handlers.projects.projects import BAD_BODY, PROJECT, REFUSALS
from handlers.projects.shapes import GraphAnswer, SavedGraph

GRAPHS = web.AppKey("project_graphs", Graphs)
# The parameters that name a combination, with what they are without one.
COMBINATION = (("country_code", None), ("region_code", "all"), ("grouping", "all"))


class GraphBody(Body):
    """A graph as people send it; a replica says whether it is one. What stands in nodes and edges is not looked at here."""

    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]

    def as_graph(self) -> Mapping[str, Any]:
        return {"nodes": self.nodes, "edges": self.edges}


async def save_graph(request: web.Request) -> web.Response:
    """Keep a graph."""
    project = await admit(request, Role.MODEL_DEVELOPER)
    body = await read_body(request, GraphBody)
    saved = await request.app[GRAPHS].save(project, body.as_graph())
    return _answer(body_of(saved.id, saved.body), status=201)


async def list_graphs(request: web.Request) -> web.Response:
    """The graphs that people have saved, newest first, without their nodes."""
    project = await admit(request, Role.OBSERVER)
    wanted = list_part(request)
    rows = await request.app[GRAPHS].saved(project, limit=wanted.limit, before=wanted.before)
    return json_response([{"Id": row.id, "CreatedAt": row.created_at} for row in rows], sort_keys=False)


async def show_graph(request: web.Request) -> web.Response:
    """One graph of the high level."""
    project = await admit(request, Role.OBSERVER)
    found = await request.app[GRAPHS].get(project, _id_of(request))
    return _answer(body_of(found.id, found.body))


async def remove_graph(request: web.Request) -> web.Response:
    """Remove a graph that a person has saved."""
    project = await admit(request, Role.MODEL_DEVELOPER)
    await request.app[GRAPHS].delete(project, _id_of(request))
    return web.Response(status=204)


async def suggest_graph(request: web.Request) -> web.Response:
    """The default graph of a combination of a dataset; it is not kept."""
    project = await admit(request, Role.OBSERVER)
    dataset, combination = number(request, "dataset_id", None), _combination(request)
    files = await request.app[PROJECT_DATASETS].files_of(project, dataset)
    return _answer(await request.app[GRAPHS].suggested(files, combination))


async def show_instance(request: web.Request) -> web.Response:
    """One graph of the low level."""
    team = await admit_team(request, Role.OBSERVER)
    found = await request.app[GRAPHS].instance(team, _id_of(request))
    return _answer(body_of(found.id, found.body, Graph={"Id": found.graph}))


def _combination(request: web.Request) -> list[str]:
    """The combination of a query. EngineError `bad_field`."""
    return [short_text(request, name, default) for name, default in COMBINATION]


def list_of(combination: Combination) -> list[str]:
    """A combination as replicas know it."""
    return [combination.country_code, combination.region_code, combination.grouping]


def _id_of(request: web.Request) -> int:
    """The number in the path. EngineError `unknown_graph` when it is not a number."""
    found = iid(request.match_info["graph"])
    if found is None:
        raise EngineError(UNKNOWN_GRAPH, "There is no such graph.")
    return found


def _answer(body: str, *, status: int = 200) -> web.Response:
    return web.Response(text=body, status=status, content_type="application/json")


# Routes

PATH = PROJECT + "/build/graphs"
ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=save_graph,
        surface=SURFACE,
        summary="save a graph of the high level",
        key=key_of(Role.MODEL_DEVELOPER),
        body=GraphBody,
        answers={201: "the graph, with its Id"} | REFUSALS | BAD_BODY,
        reply=GraphAnswer,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
    Route(
        method="GET",
        path=PATH,
        handler=list_graphs,
        surface=SURFACE,
        summary="the graphs that were saved in a project, newest first",
        key=key_of(Role.OBSERVER),
        query=LIST_QUERY,
        answers={200: "Ids and times", 422: "a parameter is wrong"} | REFUSALS,
        reply=list[SavedGraph],
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=PATH + "/default",
        handler=suggest_graph,
        surface=SURFACE,
        summary="a graph of everything in a dataset; it is not saved",
        key=key_of(Role.OBSERVER),
        query={
            "dataset_id": whole("IId of a dataset of the project", 1),
            "country_code": "three letters, such as SWE",
            "region_code": "`all` without it",
            "grouping": "`all` without it",
        },
        answers={200: "nodes and edges", 409: "the dataset is not complete", 422: "a parameter is wrong"} | REFUSALS,
        reply=GraphAnswer,
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="GET",
        path=PATH + "/{graph}",
        handler=show_graph,
        surface=SURFACE,
        summary="a graph of the high level, saved or made with a model",
        key=key_of(Role.OBSERVER),
        answers={200: "nodes and edges"} | REFUSALS,
        reply=GraphAnswer,
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="DELETE",
        path=PATH + "/{graph}",
        handler=remove_graph,
        surface=SURFACE,
        summary="remove a graph that was saved",
        key=key_of(Role.MODEL_DEVELOPER),
        answers={204: "it is gone", 409: "models have it, with the last of which it goes"} | REFUSALS,
        admit=needs(Role.MODEL_DEVELOPER),
    ),
    Route(
        method="GET",
        path="/graph_instances/{team}/{graph}",
        handler=show_instance,
        surface=SURFACE,
        summary="a graph of the low level, as a model was fitted with it",
        key=key_of(Role.OBSERVER),
        answers={200: "nodes and edges, and the Id of the graph of the high level"} | REFUSALS,
        reply=GraphAnswer,
        admit=needs_in_team(Role.OBSERVER),
    ),
)
