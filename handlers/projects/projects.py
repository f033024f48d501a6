"""Projects over HTTP: which a team has, and what is active in each."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from engine.projects.objects import Project
from engine.projects.projects import ProjectCard, Projects
from engine.projects.removal import Removal
from engine.roles import Role
from engine.teams import PROJECT_ID
from handlers.http.bodies import Body
from handlers.http.errors import json_response
from handlers.http.routes import Route
from handlers.projects.admission import admit, admit_team, key_of, needs, needs_in_team, read_body
from handlers.projects.errors import SURFACE
from handlers.projects.shapes import ProjectAnswer

PROJECTS = web.AppKey("projects", Projects)
REMOVAL = web.AppKey("removal", Removal)

Name = Annotated[str, Field(min_length=1, max_length=100)]


class ProjectRequest(Body):
    """Body of POST /projects/{team}."""

    id: Annotated[str, Field(pattern=f"^{PROJECT_ID.pattern}$")]
    name: Name


class ProjectChange(Body):
    """Body of PATCH /projects/{team}/{project}."""

    name: Name


async def list_projects(request: web.Request) -> web.Response:
    """The projects of a team."""
    team = await admit_team(request, Role.OBSERVER)
    return json_response([_shown(card) for card in await request.app[PROJECTS].list(team)], sort_keys=False)


async def make_project(request: web.Request) -> web.Response:
    """Make a project."""
    team = await admit_team(request, Role.ADMIN)
    body = await read_body(request, ProjectRequest)
    card = await request.app[PROJECTS].create(Project(team, body.id), body.name)
    return json_response(_shown(card), status=201, sort_keys=False)


async def show_project(request: web.Request) -> web.Response:
    """One project."""
    project = await admit(request, Role.OBSERVER)
    return json_response(_shown(await request.app[PROJECTS].get(project)), sort_keys=False)


async def change_project(request: web.Request) -> web.Response:
    """Rename a project."""
    project = await admit(request, Role.MANAGER)
    body = await read_body(request, ProjectChange)
    return json_response(_shown(await request.app[PROJECTS].rename(project, body.name)), sort_keys=False)


async def remove_project(request: web.Request) -> web.Response:
    """Remove a project with all that it has. It is not found any more; its files go a little later."""
    project = await admit(request, Role.ADMIN)
    await request.app[PROJECTS].hide(project)
    request.app[REMOVAL].wake()
    return web.Response(status=202)


def _shown(card: ProjectCard) -> ProjectAnswer:
    return {
        "Id": card.project.id,
        "Name": card.name,
        "ActiveDataset": card.only("dataset"),
        "ActiveModels": card.active.get("model", []),
        "ActiveAttributionSet": card.only("attribution_set"),
    }


# Routes

TEAM, PROJECT = "/projects/{team}", "/projects/{team}/{project}"
REFUSALS = {
    401: "credentials are missing, wrong or expired",
    403: "the key is read-only, or the caller's role does not allow this",
    404: "the caller is not in such a team, or there is no such project or object",
}
TOO_MANY = "the team has too many unfinished jobs; see Retry-After"
QUOTA = "the projects of the team keep as many bytes as they may, or the disk of the server is full"
NO_ROOM = {429: TOO_MANY, 507: QUOTA}
BAD_BODY = {400: "the body is not JSON", 413: "the body is larger than 1 MiB", 422: "a value cannot be used"}
ROUTES = (
    Route(
        method="GET",
        path=TEAM,
        handler=list_projects,
        surface=SURFACE,
        summary="the projects of a team",
        key=key_of(Role.OBSERVER),
        answers={200: "the projects"} | REFUSALS,
        reply=list[ProjectAnswer],
        admit=needs_in_team(Role.OBSERVER),
    ),
    Route(
        method="POST",
        path=TEAM,
        handler=make_project,
        surface=SURFACE,
        summary="make a project",
        key=key_of(Role.ADMIN),
        body=ProjectRequest,
        answers={201: "the project", 409: "the id is taken"} | REFUSALS | BAD_BODY,
        reply=ProjectAnswer,
        admit=needs_in_team(Role.ADMIN),
    ),
    Route(
        method="GET",
        path=PROJECT,
        handler=show_project,
        surface=SURFACE,
        summary="a project, and what is active in it",
        key=key_of(Role.OBSERVER),
        answers={200: "the project"} | REFUSALS,
        reply=ProjectAnswer,
        admit=needs(Role.OBSERVER),
    ),
    Route(
        method="PATCH",
        path=PROJECT,
        handler=change_project,
        surface=SURFACE,
        summary="rename a project",
        key=key_of(Role.MANAGER),
        body=ProjectChange,
        answers={200: "the project"} | REFUSALS | BAD_BODY,
        reply=ProjectAnswer,
        admit=needs(Role.MANAGER),
    ),
    Route(
        method="DELETE",
        path=PROJECT,
        handler=remove_project,
        surface=SURFACE,
        summary="remove a project with its uploads, datasets, models and attributions",
        key=key_of(Role.ADMIN),
        answers={202: "it is not found any more; its files are being removed"} | REFUSALS,
        reply=(),
        admit=needs(Role.ADMIN),
    ),
)
