"""What a request of preview is about: who asks, for which dataset, and how long it may wait."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from engine.accounts import Caller
from engine.errors import EngineError
from handlers.http.about import address
from handlers.http.auth import caller_of
from handlers.http.bodies import unless_client_leaves
from handlers.http.routes import PREVIEW_WORDS, Surface
from handlers.http.sharing import OPEN_HEADERS, OPTIONS_HEADERS
from handlers.preview.errors import refuse
from handlers.preview.keys import CALLER, IS_PRIVATE, MISSING_PARAMETER, PREVIEW

Result = TypeVar("Result")

KEY = "none while SLUICE_ANONYMOUS names preview, else any; a private dataset needs a key that may read it"
LIST_KEY = "none while SLUICE_ANONYMOUS names preview, else any"
LONGEST_WAIT_S = 30.0

SURFACE = Surface(
    name="preview",
    refuse=refuse,
    schema="SixKeysError",
    prefixes=tuple(f"/{word}" for word in (*PREVIEW_WORDS, "v2/rows")),
    headers=OPEN_HEADERS,
    options=OPTIONS_HEADERS,
    redirects_slash=True,
)


async def who(request: web.Request) -> Caller | None:
    """The caller; None for an anonymous one. EngineError `no_credentials`, `unauthorized`."""
    caller = await caller_of(request, surface="preview")
    if caller is not None:
        request[CALLER] = caller
    return caller


def parameter(request: web.Request, name: str) -> str | None:
    """The first value of a parameter; an empty one counts as missing."""
    return request.query.get(name) or None


async def dataset_of(request: web.Request) -> str:
    """The dataset that the query names, as `visible` gives it. EngineError `missing_parameter`, `dataset_not_found`."""
    caller = await who(request)
    name = parameter(request, "dataset")
    if name is None:
        raise EngineError(MISSING_PARAMETER, "Parameter 'dataset' is required")
    return await visible(request, caller, name)


async def split_of(request: web.Request) -> tuple[str, str, str]:
    """Dataset, config and split, the same way."""
    name, config, split = await named_split(request)
    return await visible(request, request.get(CALLER), name), config, split


async def named_split(request: web.Request) -> tuple[str, str, str]:
    """The same, before it is looked at whether the caller may see the dataset. EngineError `missing_parameter`."""
    await who(request)
    query = request.query
    name, config, split = query.get("dataset"), query.get("config"), query.get("split")
    if not name or not config or not split:
        raise EngineError(MISSING_PARAMETER, "Parameters 'dataset', 'config' and 'split' are required")
    return name, config, split


async def visible(request: web.Request, caller: Caller | None, name: str) -> str:
    """The name to go on with, as `States.visible` gives it. EngineError `dataset_not_found`."""
    preview = request.app[PREVIEW]
    request[IS_PRIVATE] = caller is not None  # a refusal here reads as one of a name that nobody has
    name = await preview.states.visible(caller, name)
    # Who sees it only with a credential, sees what caches must not give to others.
    request[IS_PRIVATE] = caller is not None and not preview.access.may_see(None, name, was_private=True)
    return name


async def in_time(request: web.Request, name: str, ask: Callable[[], Awaitable[Result]]) -> Result:
    """What is asked for, waiting for it as long as `wait` says. Nobody waits for a client who has left."""
    seconds = _wait_s(request)
    if not seconds:
        return await ask()
    return await unless_client_leaves(request, request.app[PREVIEW].waiting.in_time(name, seconds, ask))


def _wait_s(request: web.Request) -> float:
    """The seconds of `wait`; what is no number of seconds counts as 0."""
    text = parameter(request, "wait")
    try:
        seconds = float(text or 0)
    except ValueError:
        return 0.0
    return min(seconds, LONGEST_WAIT_S) if 0 < seconds < float("inf") else 0.0


def base_of(request: web.Request) -> bytes:
    """The address of this server as clients know it, with its final slash; a slash alone where the request names no proper host."""
    return f"{address(request)}/".encode(errors="replace")
