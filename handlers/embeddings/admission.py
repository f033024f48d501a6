"""What all shapes of the embeddings surface share: who may ask, whether there is room, and the way from a body to its vectors.

Decides before a byte of the body is read. Knows no shape; a replica reads what the body says.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import hdrs, web

from engine.accounts import Caller
from engine.embeddings import Embedded, Embeddings
from engine.errors import EngineError
from engine.repository.listed import ListedModel, ListedModels
from handlers.http import errors
from handlers.http.auth import caller_of
from handlers.http.bodies import check_head, read_whole, unless_client_leaves
from handlers.http.keys import ANONYMOUS, ENGINE

EMBEDDINGS = web.AppKey("embeddings", Embeddings)
LISTED = web.AppKey("listed", ListedModels)
EMBED_BODY_LIMIT = web.AppKey("embed_body_limit_bytes", int)

# The name of the surface: the label of its metrics, and its word in SLUICE_ANONYMOUS.
NAME = "embeddings"
# The form of our keys. OpenAI's clients always send a bearer, so any other bearer counts as no credentials while we are open.
KEY_LIKE = re.compile(r"[0-9A-Fa-f]{32}|slu_.*", re.DOTALL)
JSON = {"Content-Type": "application/json"}
# Every 503 of this surface has a Retry-After; by then somebody may have repaired a model that does not load.
OFFLINE_RETRY_S = 30

CALLER = web.RequestKey[Any]("embeddings_caller", object)


async def visitor(request: web.Request) -> Caller | None:
    """The caller; None without credentials, and for a bearer that cannot be a key, as long as the surface is open."""
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").strip().partition(" ")
    is_placeholder = scheme.lower() == "bearer" and not KEY_LIKE.fullmatch(value.strip())
    if is_placeholder and NAME in request.app[ANONYMOUS]:
        return None
    return await caller_of(request, surface=NAME)


async def admit(request: web.Request) -> Caller | None:
    """Check credentials, then room, then what the head tells of the body. EngineError for a refusal.

    The result is kept: where the client waits for `100 Continue`, this is called before the body comes and again by the handler.
    """
    if CALLER not in request:
        caller = await visitor(request)
        request.app[ENGINE].check_open()
        request.app[EMBEDDINGS].check_capacity(name_of(caller))
        check_head(request, request.app[EMBED_BODY_LIMIT])
        request[CALLER] = caller
    return request[CALLER]


def name_of(caller: Caller | None) -> str | None:
    return caller.name if caller else None


@contextlib.asynccontextmanager
async def embedded(
    request: web.Request, caller: Caller | None, shape: str, choices: dict[str, ListedModel]
) -> AsyncIterator[Embedded]:
    """The vectors of the body's texts, as long as the client is there. Until the context ends, the request has its place.

    The place is taken when the body is here, so that a client that sends half a body takes none.

    choices  the models that the body may name, by every name that it may use
    raises   EngineError; TimeoutError when reading and embedding take longer than SLUICE_EMBED_TIMEOUT_S together
    """
    embeddings = request.app[EMBEDDINGS]
    user = name_of(caller)
    limit_s = embeddings.limits.embed_timeout_s
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(limit_s):
            body = await read_whole(request, request.app[EMBED_BODY_LIMIT], limit_s, user=user)
            stack.enter_context(embeddings.place(user))
            work = embeddings.embed(shape, body, choices)
            del body  # the work keeps what it needs of these bytes, which may be 32 MiB
            vectors = await unless_client_leaves(request, work)
        yield vectors


def answer_headers(embedded: Embedded) -> dict[str, str]:
    """The headers of an answer with vectors."""
    headers = JSON | {
        "X-Queue-Time": f"{embedded.queue_s * 1000:.3f}",
        "X-Tokenization-Time": f"{embedded.tokenise_s * 1000:.3f}",
        "X-Inference-Time": f"{embedded.infer_s * 1000:.3f}",
        "X-Total-Time": f"{embedded.total_s * 1000:.3f}",
    }
    return headers | ({"X-Truncated": str(embedded.num_cut)} if embedded.num_cut else {})


def refusal_headers(error: EngineError, status: int) -> dict[str, str]:
    """The headers of a refusal in either shape."""
    retry_after_s = OFFLINE_RETRY_S if status == 503 and error.retry_after_s is None else error.retry_after_s
    return errors.refusal_headers(status, retry_after_s)


# Words of all shapes for /openapi.json

KEY = "none while SLUICE_ANONYMOUS names embeddings, else any"
REFUSALS = {
    401: "the key is wrong, or missing where one is needed",
    413: "the body is larger than SLUICE_EMBED_BODY_LIMIT_BYTES",
    415: "the Content-Encoding is unknown",
    417: "Expect names something other than 100-continue",
    429: "too many requests; see Retry-After",
    503: "the server is draining, no replica is alive, or no answer came in time; see Retry-After",
}
