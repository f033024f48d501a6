"""Teams over HTTP: which there are, and who is in them with which role."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from engine.accounts import OWNER_NAME
from engine.roles import ROLES, Role
from engine.teams import Team
from handlers.http.bodies import Body
from handlers.http.errors import json_response
from handlers.http.keys import TEAMS
from handlers.http.routes import Route
from handlers.projects.admission import CALLER, FULL, admit_caller, admit_team, key_of, needs_in_team, read_body
from handlers.projects.errors import SURFACE
from handlers.projects.shapes import MemberAnswer, RoleWord, TeamAnswer

Name = Annotated[str, Field(min_length=1, max_length=100)]


class TeamRequest(Body):
    """Body of POST /team/teams."""

    id: Annotated[str, Field(pattern=f"^(?:{OWNER_NAME.pattern})$")]
    name: Name


class TeamChange(Body):
    """Body of PATCH /team/teams/{team}."""

    name: Name


class MemberRequest(Body):
    """Body of POST /team/teams/{team}/members."""

    user: str
    role: RoleWord


class RoleChange(Body):
    """Body of PATCH /team/teams/{team}/members/{user}."""

    role: RoleWord


# Teams


async def list_teams(request: web.Request) -> web.Response:
    """The teams that the caller is in; for the admin of the server all."""
    caller = await admit_caller(request)
    return json_response([_shown(team) for team in await request.app[TEAMS].seen_by(caller)], sort_keys=False)


async def make_team(request: web.Request) -> web.Response:
    """Make a team, whose Admin is the caller."""
    caller = await admit_caller(request)
    body = await read_body(request, TeamRequest)
    return json_response(_shown(await request.app[TEAMS].make(caller, body.id, body.name)), status=201, sort_keys=False)


async def show_team(request: web.Request) -> web.Response:
    return await _team(request, await admit_team(request, Role.OBSERVER))


async def rename_team(request: web.Request) -> web.Response:
    team = await admit_team(request, Role.ADMIN)
    body = await read_body(request, TeamChange)
    await request.app[TEAMS].rename(team, body.name)
    return await _team(request, team)


async def delete_team(request: web.Request) -> web.Response:
    await request.app[TEAMS].remove(await admit_team(request, Role.ADMIN))
    return web.Response(status=204)


async def _team(request: web.Request, team: str) -> web.Response:
    return json_response(_shown(await request.app[TEAMS].get(request[CALLER], team)), sort_keys=False)


def _shown(team: Team) -> dict[str, Any]:
    projects = [{"Id": project, "Name": name} for project, name in team.projects.items()]
    return {"Id": team.id, "Name": team.name, "Role": team.role.word, "Projects": projects}


# Members


async def list_members(request: web.Request) -> web.Response:
    return await _members(request, await admit_team(request, Role.OBSERVER))


async def put_member(request: web.Request) -> web.Response:
    """Take a user into the team, or give a member another role. Answers with all members."""
    team = await admit_team(request, Role.ADMIN)
    body = await read_body(request, MemberRequest)
    is_new = await request.app[TEAMS].put_member(team, body.user, ROLES[body.role])
    return await _members(request, team, status=201 if is_new else 200)


async def change_role(request: web.Request) -> web.Response:
    """Give a member another role. Answers with all members."""
    team = await admit_team(request, Role.ADMIN)
    body = await read_body(request, RoleChange)
    await request.app[TEAMS].put_member(team, request.match_info["user"], ROLES[body.role], may_be_new=False)
    return await _members(request, team)


async def remove_member(request: web.Request) -> web.Response:
    """Admins remove members, and members leave."""
    caller, user = await admit_caller(request), request.match_info["user"]
    team = await admit_team(request, Role.OBSERVER if user == caller.name else Role.ADMIN)
    await request.app[TEAMS].remove_member(team, user)
    return web.Response(status=204)


async def _members(request: web.Request, team: str, *, status: int = 200) -> web.Response:
    members = await request.app[TEAMS].members(team)
    return json_response([{"User": user, "Role": role.word} for user, role in members], status=status, sort_keys=False)


# Routes

BODY_REFUSALS = {400: "the body is not JSON", 413: "the body is larger than 1 MiB", 507: "the disk of the server is full"}
REFUSALS = {
    401: "credentials are missing or wrong, or the token has ended",
    403: "the key is read-only, or the caller's role in the team does not allow this",
    404: "there is no such team, or the caller is not in it",
}
PATH = "/team/teams"
TEAM_PATH = PATH + "/{team}"
MEMBERS_PATH = TEAM_PATH + "/members"
MEMBER_PATH = MEMBERS_PATH + "/{user}"
ADMIN_KEY = key_of(Role.ADMIN)
MEMBER_KEY = f"{ADMIN_KEY}; or of the member itself"

ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=list_teams,
        surface=SURFACE,
        summary="The caller's teams with their projects; the admin of the server sees all",
        key=FULL,
        answers={200: "the teams, by id", 401: REFUSALS[401], 403: "the key is read-only"},
        reply=list[TeamAnswer],
    ),
    Route(
        method="POST",
        path=PATH,
        handler=make_team,
        surface=SURFACE,
        summary="Make a team; the caller is its Admin",
        key=FULL,
        body=TeamRequest,
        answers={
            201: "the team",
            401: REFUSALS[401],
            403: "the key is read-only",
            409: "the name is in use",
            422: "a field is wrong, or the name is reserved",
            429: "the caller is in 200 teams",
        }
        | BODY_REFUSALS,
        reply=TeamAnswer,
        admit=admit_caller,
    ),
    Route(
        method="GET",
        path=TEAM_PATH,
        handler=show_team,
        surface=SURFACE,
        summary="A team with its projects",
        key=key_of(Role.OBSERVER),
        answers={200: "the team"} | REFUSALS,
        reply=TeamAnswer,
    ),
    Route(
        method="PATCH",
        path=TEAM_PATH,
        handler=rename_team,
        surface=SURFACE,
        summary="Name a team for people; its id stays",
        key=ADMIN_KEY,
        body=TeamChange,
        answers={200: "the team", 422: "a field is wrong"} | REFUSALS | BODY_REFUSALS,
        reply=TeamAnswer,
        admit=needs_in_team(Role.ADMIN),
    ),
    Route(
        method="DELETE",
        path=TEAM_PATH,
        handler=delete_team,
        surface=SURFACE,
        summary="Delete a team that has no projects",
        key=ADMIN_KEY,
        answers={204: "the team is gone", 409: "the team has projects, or is that of a user"} | REFUSALS,
    ),
    Route(
        method="GET",
        path=MEMBERS_PATH,
        handler=list_members,
        surface=SURFACE,
        summary="Who is in a team, with which role",
        key=key_of(Role.OBSERVER),
        answers={200: "the members, by user"} | REFUSALS,
        reply=list[MemberAnswer],
    ),
    Route(
        method="POST",
        path=MEMBERS_PATH,
        handler=put_member,
        surface=SURFACE,
        summary="Take a user into a team, or give a member another role",
        key=ADMIN_KEY,
        body=MemberRequest,
        answers={
            200: "all members; one has another role",
            201: "all members; one is new",
            409: "the team would be left without an Admin",
            422: "a field is wrong",
            429: "the team has 1,000 members, or the user is in 200 teams",
        }
        | REFUSALS
        | {404: "there is no such team or user"}
        | BODY_REFUSALS,
        reply=list[MemberAnswer],
        admit=needs_in_team(Role.ADMIN),
    ),
    Route(
        method="PATCH",
        path=MEMBER_PATH,
        handler=change_role,
        surface=SURFACE,
        summary="Give a member another role",
        key=ADMIN_KEY,
        body=RoleChange,
        answers={200: "all members", 409: "the team would be left without an Admin", 422: "there is no such role"}
        | REFUSALS
        | {404: "there is no such team or member"}
        | BODY_REFUSALS,
        reply=list[MemberAnswer],
        admit=needs_in_team(Role.ADMIN),
    ),
    Route(
        method="DELETE",
        path=MEMBER_PATH,
        handler=remove_member,
        surface=SURFACE,
        summary="Remove a member; members may always leave, but for the last Admin",
        key=MEMBER_KEY,
        answers={204: "the user is not in the team any more", 409: "the user is the last Admin, or the team is the user's own"}
        | REFUSALS
        | {404: "there is no such team or member"},
    ),
)
