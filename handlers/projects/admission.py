"""Who may ask what on this surface: a credential, a full key, a role in the team, and then the project.

They are checked in this order, before a byte of a body is read and before anything is made. Reads small JSON bodies as well.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.accounts import Caller, Right
from engine.errors import UNKNOWN_FIELD, EngineError, ListedError
from engine.projects.codes import BAD_FIELD, BAD_JSON, UNKNOWN_PROJECT
from engine.projects.objects import Project
from engine.teams import ROLE_TOO_LOW, Role, unknown_team
from handlers.http.auth import known_caller, require_full
from handlers.http.bodies import check_head, read_whole
from handlers.http.keys import REQUEST_TIMEOUT, TEAMS
from handlers.projects.errors import MAX_DETAILS

# Who asks, once the request is admitted.
CALLER = web.RequestKey("projects_caller", Caller)
# What the request rests on, where it is about a team.
RIGHT = web.RequestKey("projects_right", Right)
BODY_LIMIT_BYTES = 1024 * 1024

FULL = "full"  # `key` of a route that needs no role
BodyT = TypeVar("BodyT", bound=BaseModel)


def key_of(role: Role) -> str:
    """`key` of a route that needs this role."""
    return f"full, {role.word} or more"


def key_of_maker(role: Role) -> str:
    """`key` of a route that needs this role, and Manager where the body asks to activate what is made."""
    return f"{key_of(role)}; {Role.MANAGER.word} to activate it"


def needs(role: Role) -> Callable[[web.Request], Awaitable[Project]]:
    """`admit` of a route of a project that needs this role."""

    async def admit_role(request: web.Request) -> Project:
        return await admit(request, role)

    return admit_role


def needs_in_team(role: Role) -> Callable[[web.Request], Awaitable[str]]:
    """`admit` of a route of a team that needs this role."""

    async def admit_role(request: web.Request) -> str:
        return await admit_team(request, role)

    return admit_role


async def admit_caller(request: web.Request) -> Caller:
    """Who asks, with a full key or a token. EngineError: those of `known_caller`, `full_key_needed`."""
    caller = await known_caller(request)
    require_full(caller)
    request[CALLER] = caller
    return caller


async def admit_team(request: web.Request, role: Role) -> str:
    """The team of the path, in which the caller, then in `request[CALLER]`, has at least this role.

    raises  EngineError: those of `admit_caller`, `unknown_team`, `role_too_low`
    """
    caller, right = await admit_caller(request), Right(request.match_info["team"], role)
    _check_role(caller, right)
    if caller.is_admin and not await request.app[TEAMS].exists(right.owner):
        raise unknown_team()
    request[RIGHT] = right
    return right.owner


def _check_role(caller: Caller, right: Right) -> None:
    """EngineError `unknown_team`, `role_too_low`."""
    has = caller.role_in(right.owner)
    if has is None:
        raise unknown_team()
    if has < right.role:
        text = f"This needs the role {right.role.word} in the team, and yours is {has.word}."
        raise ListedError(ROLE_TOO_LOW, text, [{"Needed": right.role.word, "Has": has.word}])


async def admit(request: web.Request, role: Role) -> Project:
    """The project of the path, in whose team the caller has at least this role.

    raises  EngineError: those of `admit_team`, `unknown_project`
    """
    project = Project(await admit_team(request, role), request.match_info["project"])
    if not await request.app[TEAMS].has_project(project.team, project.id):
        raise EngineError(UNKNOWN_PROJECT, "The team has no such project.")
    return project


async def admit_again(request: web.Request) -> None:
    """Check again what an admitted request rests on, once its body is here. EngineError: those of the admission."""
    caller = await admit_caller(request)
    if RIGHT in request:
        _check_role(caller, request[RIGHT])


# Bodies


async def read_body(request: web.Request, model: type[BodyT]) -> BodyT:
    """The JSON body of an admitted request, of any content type.

    raises  EngineError: those of `read_whole` and of the admission, `bad_json`; ListedError: `unknown_field`, `bad_field`
    """
    check_head(request, BODY_LIMIT_BYTES)
    body = await read_whole(request, BODY_LIMIT_BYTES, request.app[REQUEST_TIMEOUT], user=request[CALLER].name)
    await admit_again(request)  # the sender may have taken a minute
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> EngineError:
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return EngineError(BAD_JSON, f"The body is not JSON: {faults[0]['ctx']['error']}.")
    details = [_detail(fault) for fault in faults[:MAX_DETAILS]]
    first = details[0]
    code = UNKNOWN_FIELD if first["Code"] == UNKNOWN_FIELD else BAD_FIELD
    where = f"{first['Column']}: " if first["Column"] else ""
    return ListedError(code, f"{where}{first['Message']}", details, total=len(faults))


def _detail(fault: ErrorDetails) -> dict[str, Any]:
    """One fault of a body; `Column` is the path to the field, null for the body itself."""
    column = ".".join(str(part) for part in fault["loc"]) or None
    if fault["type"] == "extra_forbidden":
        return {"Code": UNKNOWN_FIELD, "Column": column, "Message": "There is no such field."}
    text = "a JSON object is needed" if fault["type"] == "model_type" else fault["msg"].removeprefix("Value error, ")
    return {"Code": BAD_FIELD, "Column": column, "Message": f"{text[0].upper()}{text[1:]}."}
