"""What all routes of the Open Inference Protocol share: the model that a path names, and who may use it."""

from typing import NamedTuple

from aiohttp import web

from engine.accounts import OWNER_NAME, Caller
from engine.errors import model_not_found
from engine.repository.index import MODEL_NAME, Version
from engine.tensors import Tensors
from handlers.http.auth import caller_of
from handlers.http.keys import REPOSITORY
from handlers.http.parameters import MAX_DIGITS
from handlers.http.routes import Surface

TENSORS = web.AppKey("tensors", Tensors)
SURFACE = Surface(name="tensors", prefixes=("/v2",))
# The word in SLUICE_ANONYMOUS that opens predictions, in whichever form they are asked for.
ANONYMOUS_WORD = "streaming"

PATH = "/v2/models/{owner}/{model}"
VERSION_PATH = PATH + "/versions/{version}"
REFUSALS = {
    401: "credentials are missing or wrong",
    403: "a read-only key cannot use a model of another owner",
    404: "there is no such model or version",
    503: "the server is draining, no replica is alive, or the model does not load; see Retry-After",
}


class Asked(NamedTuple):
    """A version that a path names, and who asks; None without credentials."""

    version: Version
    caller: Caller | None

    @property
    def user(self) -> str | None:
        return self.caller.name if self.caller else None


async def asked(request: web.Request) -> Asked:
    """Check credentials and access, in this order, so that names do not leak. EngineError for a refusal."""
    owner, name = request.match_info["owner"], request.match_info["model"]
    caller = await caller_of(request, surface=ANONYMOUS_WORD)
    if not OWNER_NAME.fullmatch(owner) or not MODEL_NAME.fullmatch(name):
        raise model_not_found()
    return Asked(request.app[REPOSITORY].access(caller, owner, name, _number(request)), caller)


def _number(request: web.Request) -> int | None:
    """The version that the path names; 0, which no version has, for what is not a number; None without one."""
    text = request.match_info.get("version")
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else 0
