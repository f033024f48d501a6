"""The model that a path names: what a surface checks before it changes one."""

from dataclasses import dataclass

from aiohttp import web

from engine.accounts import Caller
from engine.errors import EngineError, model_not_found, shutting_down
from handlers.http.auth import known_caller
from handlers.http.errors import NOT_FOUND
from handlers.http.keys import ENGINE, REPOSITORY, TEAMS
from handlers.http.routes import RESERVED

# `key` of a route that uses a model.
USE_KEY = "full, or any of the owner or of a Member in its team"
# `key` of a route that changes a model.
CHANGE_KEY = "the full key of the owner, of a ModelDeveloper in its team, or of the admin"


@dataclass(frozen=True, slots=True)
class ModelPath:
    """Owner and name of a model, as a path gives them, and the caller who may change it."""

    owner: str
    name: str
    caller: Caller


async def admit_change(request: web.Request, *, may_be_new: bool) -> ModelPath:
    """Check that the caller may change the model of the path, or create it where that is allowed.

    raises  EngineError: `not_found` for a reserved owner; those of `known_caller` and of `Repository.changeable`;
            `model_not_found`; `forbidden` for a model of a project; `shutting_down`
    """
    owner, name = request.match_info["owner"], request.match_info["model"]
    if owner.lower() in RESERVED:
        raise EngineError(NOT_FOUND, "not found")
    caller = await known_caller(request)
    if request.app[REPOSITORY].changeable(caller, owner, name) is None and not may_be_new:
        raise model_not_found()
    await request.app[TEAMS].check_not_made(owner, name)
    if request.app[ENGINE].is_draining:
        raise shutting_down()
    return ModelPath(owner, name, caller)
