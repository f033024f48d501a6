"""Embeddings over HTTP, in two shapes: `/models` and `/embeddings` as the small API has them, `/v1/...` as OpenAI's clients expect.

Decides who may, and whether there is room, before a byte of the body is read; puts encoded vectors into the envelope of the shape.
What the body says is read by a replica.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import ujson
from aiohttp import hdrs, web
from pydantic import BaseModel

from engine import metrics
from engine.accounts import Caller
from engine.embeddings import Embedded
from engine.errors import EngineError, Unacceptable
from engine.frames import Buffer
from engine.repository.listed import ListedModel
from handlers.http.auth import caller_of, known_caller, require_admin
from handlers.http.bodies import check_head, read_whole, send_whole, unless_client_leaves
from handlers.http.errors import REALM, STATUSES, dumps, json_response
from handlers.http.keys import ANONYMOUS, EMBED_BODY_LIMIT, ENGINE, LISTING, PUBLISHER
from handlers.http.routes import Route, answer_expectation

SURFACE = "embeddings"
# A key of ours: anything else that a client puts into a bearer, because it must put something, counts as nothing while we are open.
KEY_LIKE = re.compile(r"[0-9A-Fa-f]{32}|slu_.*", re.DOTALL)
JSON: dict[str, str] = {"Content-Type": "application/json"}
UNPROCESSABLE = 422
# Every 503 of this surface says when to come again; a model that does not load may be mended by then.
OFFLINE_RETRY_S = 30


CALLER = web.RequestKey[Any]("embeddings_caller", object)


# Who may


async def _caller(request: web.Request) -> Caller | None:
    """The caller; None without credentials, and for a bearer that cannot be a key, as long as the surface is open."""
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").strip().partition(" ")
    is_placeholder = scheme.lower() == "bearer" and not KEY_LIKE.fullmatch(value.strip())
    if is_placeholder and SURFACE in request.app[ANONYMOUS]:
        return None
    return await caller_of(request, surface=SURFACE)


async def _admit(request: web.Request) -> Caller | None:
    """Credentials, then room, then what the head tells of the body. EngineError says what stands against it."""
    if CALLER in request:
        return request[CALLER]
    caller = await _caller(request)
    engine = request.app[ENGINE]
    engine.check_open()
    engine.embeddings.check_capacity()
    check_head(request, request.app[EMBED_BODY_LIMIT])
    request[CALLER] = caller
    return caller


async def expect(request: web.Request) -> web.StreamResponse | None:
    """`Expect: 100-continue`: what is refused by its head never sends its body."""
    return await answer_expectation(request, _admit)


# The simple shape


async def list_models(request: web.Request) -> web.Response:
    """The embedding models this caller sees, in the order of models.txt, with the length of their vectors."""
    models = request.app[LISTING].visible(await _caller(request))
    answer = {
        "data": {"models": {model.name: {"dim": model.dim} for model in models}},
        "generated": _now(),
        "id": str(uuid.uuid4()),
    }
    return _json(answer)


async def embed(request: web.Request) -> web.StreamResponse:
    """Vectors of one text, or of a list of texts."""
    caller = await _admit(request)
    listed = request.app[LISTING].visible(caller)
    models = {name: model for model in listed for name in (model.title, model.name)}
    with request.app[ENGINE].embeddings.place():
        try:
            embedded = await _embed(request, "simple", models)
        except Unacceptable as error:  # it gives back what was sent, so it may be long
            metrics.REJECTED.labels(error.code).inc()
            return await send_whole(request, [error.detail or _one_fault(error)], dict(JSON), status=UNPROCESSABLE)
        return await send_whole(request, _simple_parts(embedded), _headers(embedded))


def _simple_parts(embedded: Embedded) -> Iterable[Buffer]:
    yield b'{"data":['
    for i, (piece, num_tokens) in enumerate(zip(embedded.pieces, embedded.num_tokens, strict=True)):
        yield b'%b{"index":%d,"embedding":' % (b"," if i else b"", i)
        yield piece
        yield b',"num_tokens":%d}' % num_tokens
    yield b'],"generated":"%b","id":"%b","model":%b}' % (_now().encode(), str(uuid.uuid4()).encode(), dumps(embedded.name))


def _now() -> str:
    return time.strftime("%Y-%m-%d @ %H:%M:%S")


SIMPLE_DETAILS = {
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request body too large",
    429: "Too many requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def refuse_simply(error: EngineError) -> web.Response:
    """A refusal as FastAPI writes it: a list of faults for a body, else one sentence."""
    status = STATUSES[error.code]
    detail = "Not authenticated" if error.code == "no_credentials" else SIMPLE_DETAILS.get(status, error.message)
    return _json({"detail": detail}, status=status, headers=_refusal_headers(error, status))


def _one_fault(error: Unacceptable) -> bytes:
    """What is found only while the texts are embedded: they have too many tokens."""
    place = ["body", error.param] if error.param else ["body"]
    return dumps({"detail": [{"type": error.code, "loc": place, "msg": error.message, "input": None}]})


# The OpenAI shape


async def list_openai(request: web.Request) -> web.Response:
    """The same models as objects."""
    models = request.app[LISTING].visible(await _caller(request))
    return _json({"object": "list", "data": [_openai_model(model, model.name) for model in models]}, headers=_request_id())


async def show_openai(request: web.Request) -> web.Response:
    """One model by any name it takes. EngineError `model_not_found`."""
    name = request.match_info["id"].rstrip("/")
    model = request.app[LISTING].accepted(await _caller(request)).get(name)
    if model is None:
        raise EngineError("model_not_found", f"The model `{name[:200]}` does not exist or you do not have access to it.")
    return _json(_openai_model(model, name), headers=_request_id())


def _openai_model(model: ListedModel, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": model.version.published_at, "owned_by": model.version.config.owner}


async def embed_openai(request: web.Request) -> web.StreamResponse:
    """Vectors of texts or of token ids."""
    caller = await _admit(request)
    with request.app[ENGINE].embeddings.place():
        embedded = await _embed(request, "openai", request.app[LISTING].accepted(caller))
        return await send_whole(request, _openai_parts(embedded), _headers(embedded) | _request_id())


def _openai_parts(embedded: Embedded) -> Iterable[Buffer]:
    yield b'{"object":"list","data":['
    for i, piece in enumerate(embedded.pieces):
        yield b'%b{"object":"embedding","index":%d,"embedding":' % (b"," if i else b"", i)
        yield piece
        yield b"}"
    num_tokens = sum(embedded.num_tokens)
    usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (num_tokens, num_tokens)
    yield b'],"model":%b,%b}' % (dumps(embedded.name), usage)


# Our codes -> those of OpenAI; all others have none.
OPENAI_CODES = {
    "no_credentials": "invalid_api_key",
    "unauthorized": "invalid_api_key",
    "not_found": "unknown_url",
    "method_not_allowed": "method_not_supported",
    "model_not_found": "model_not_found",
    "too_many_inputs": "too_many_inputs",
    "context_length_exceeded": "context_length_exceeded",
    "invalid_token": "invalid_token",
    "body_too_large": "request_too_large",
    "too_many_requests": "rate_limit_exceeded",
    "shutting_down": "unavailable",
    "no_instances": "unavailable",
    "model_building": "unavailable",
    "timed_out": "unavailable",
    "internal": "internal_error",
}


def refuse_as_openai(error: EngineError) -> web.Response:
    """A refusal as OpenAI's clients turn it into their exceptions."""
    status = STATUSES[error.code]
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    param = error.param if isinstance(error, Unacceptable) else "model" if error.code == "model_not_found" else None
    answer = {"message": error.message, "type": kind, "param": param, "code": OPENAI_CODES.get(error.code)}
    return _json({"error": answer}, status=status, headers=_refusal_headers(error, status) | _request_id())


def _request_id() -> dict[str, str]:
    return {"x-request-id": uuid.uuid4().hex}


# Both


async def _embed(request: web.Request, shape: str, models: dict[str, ListedModel]) -> Embedded:
    """The vectors of the body's texts, while the client is there. EngineError; TimeoutError after SLUICE_EMBED_TIMEOUT_S in all."""
    embeddings = request.app[ENGINE].embeddings
    limit_s = embeddings.limits.embed_timeout_s
    async with asyncio.timeout(limit_s):
        body = await read_whole(request, request.app[EMBED_BODY_LIMIT], limit_s)
        work = embeddings.embed(shape, body, models)
        del body  # what is read of it is kept by others; it may be 32 MiB
        return await unless_client_leaves(request, work)


def _headers(embedded: Embedded) -> dict[str, str]:
    headers = JSON | {
        "X-Queue-Time": f"{embedded.queue_s * 1000:.3f}",
        "X-Tokenization-Time": f"{embedded.tokenise_s * 1000:.3f}",
        "X-Inference-Time": f"{embedded.infer_s * 1000:.3f}",
        "X-Total-Time": f"{embedded.total_s * 1000:.3f}",
    }
    return headers | ({"X-Truncated": str(embedded.num_cut)} if embedded.num_cut else {})


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON with its keys in the order given: that of the shapes we follow."""
    body = ujson.dumps(value, escape_forward_slashes=False, ensure_ascii=False).encode(errors="replace")
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _refusal_headers(error: EngineError, status: int) -> dict[str, str]:
    headers = {"WWW-Authenticate": REALM} if status == 401 else {}
    retry_after_s = OFFLINE_RETRY_S if status == 503 and error.retry_after_s is None else error.retry_after_s
    return headers if retry_after_s is None else headers | {"Retry-After": str(retry_after_s)}


# Reload


async def reload(request: web.Request) -> web.Response:
    """Look at the model folders and the lists again."""
    require_admin(await known_caller(request))
    return json_response({"models": await request.app[PUBLISHER].reload()})


async def expect_admin(request: web.Request) -> web.StreamResponse | None:
    """`Expect: 100-continue`, before a body that nobody reads."""
    return await answer_expectation(request, known_caller)


# What /openapi.json says of the bodies; they are read in engine/tasks/embedding/reading.py.


class SimpleRequest(BaseModel):
    """Body of POST /embeddings; other keys are ignored."""

    model: str
    input: str | list[str]


class OpenAIRequest(BaseModel):
    """Body of POST /v1/embeddings; other keys are ignored."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    user: str | None = None


# Path prefix -> how this surface refuses below it.
SHAPES: dict[str, Callable[[EngineError], web.Response]] = {
    "/models": refuse_simply,
    "/embeddings": refuse_simply,
    "/v1/models": refuse_as_openai,
    "/v1/embeddings": refuse_as_openai,
}

KEY = "none while SLUICE_ANONYMOUS names embeddings, else any"
REFUSED = {
    401: "a wrong key, or none where one is needed",
    413: "the body is larger than SLUICE_EMBED_BODY_LIMIT_BYTES",
    415: "an unknown Content-Encoding",
    417: "an Expect other than 100-continue",
    429: "too many requests; see Retry-After",
    503: "draining, no replica, or no answer in time; see Retry-After",
}

ROUTES = [
    Route(
        "GET",
        "/models",
        list_models,
        "The embedding models",
        KEY,
        None,
        {200: "names and dimensions", 401: REFUSED[401]},
        error="DetailError",
    ),
    Route(
        "POST",
        "/embeddings",
        embed,
        "Embed one text or a list of texts",
        KEY,
        SimpleRequest,
        {200: "a vector for each text", 422: "what is wrong with the body; also an unknown model"} | REFUSED,
        expect=expect,
        error="DetailError",
    ),
    Route(
        "GET",
        "/v1/models",
        list_openai,
        "The embedding models, in the shape of OpenAI",
        KEY,
        None,
        {200: "the models", 401: REFUSED[401]},
        error="OpenAIError",
    ),
    Route(
        "GET",
        "/v1/models/{id:.+}",
        show_openai,
        "One of them; a name may hold slashes",
        KEY,
        None,
        {200: "the model", 401: REFUSED[401], 404: "no such model"},
        error="OpenAIError",
    ),
    Route(
        "POST",
        "/v1/embeddings",
        embed_openai,
        "Embed texts or token ids, in the shape of OpenAI",
        KEY,
        OpenAIRequest,
        {200: "a vector for each input", 400: "what is wrong with the body", 404: "no such model"} | REFUSED,
        expect=expect,
        error="OpenAIError",
    ),
    Route(
        "POST",
        "/api/models/reload",
        reload,
        "Look at the model folders and at models.txt again",
        "admin",
        None,
        {200: "how many models there are", 401: "no credentials, or wrong ones", 403: "not the admin"},
        expect=expect_admin,
    ),
]
