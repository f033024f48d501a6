"""Embeddings in the shape of Text Embeddings Inference: `/embed`, `/info` and `/health`.

That server has one model, so here the first model that the caller sees answers, unless `?model=NAME` names another one.
"""

from collections.abc import Iterable

from aiohttp import web
from pydantic import BaseModel
from typing_extensions import TypedDict

from engine.accounts import Caller
from engine.embeddings import Embedded
from engine.errors import MODEL_NOT_FOUND, EngineError
from engine.frames import Buffer
from engine.repository.listed import ListedModel
from handlers.embeddings.admission import (
    EMBEDDINGS,
    KEY,
    LISTED,
    NAME,
    REFUSALS,
    admit,
    answer_headers,
    embedded,
    refusal_headers,
    visitor,
)
from handlers.http.about import version
from handlers.http.bodies import send_whole
from handlers.http.errors import json_response, status_of
from handlers.http.keys import ENGINE
from handlers.http.routes import Route, Surface

# Status -> the sort of error that it is to clients; every other status is a `Validation`.
ERROR_TYPES = {401: "Unauthorized", 404: "NotFound", 429: "Overloaded", 500: "Backend", 503: "Unhealthy"}


async def embed(request: web.Request) -> web.StreamResponse:
    """The vectors of one text or of a list of texts: a list of lists of numbers, in the order of the texts."""
    caller = await admit(request)
    model = _model(request, caller)
    async with embedded(request, caller, "tei", {model.name: model}) as vectors:
        return await send_whole(request, _parts(vectors), answer_headers(vectors))


def _model(request: web.Request, caller: Caller | None) -> ListedModel:
    """The model that `?model=NAME` names, else the first one. EngineError `model_not_found`."""
    name = request.query.get("model")
    found = request.app[LISTED].find(caller, name)
    if found is None:
        raise EngineError(MODEL_NOT_FOUND, "There is no embedding model." if name is None else f"There is no model `{name[:200]}`.")
    return found


def _parts(vectors: Embedded) -> Iterable[Buffer]:
    yield b"["
    for i, piece in enumerate(vectors.pieces):
        if i:
            yield b","
        yield piece
    yield b"]"


async def info(request: web.Request) -> web.Response:
    """The model that answers, and the limits of requests."""
    model = _model(request, await visitor(request))
    config, limits = model.version.config, request.app[EMBEDDINGS].limits
    pooling = config.outputs[0].pooling
    answer = {
        "model_id": model.name,
        "model_sha": None,
        "model_dtype": "float32",
        "model_type": {"embedding": {"pooling": pooling} if pooling else {}},
        "max_concurrent_requests": limits.embed_max_requests,
        "max_input_length": config.max_tokens,
        "max_batch_tokens": config.max_batch_tokens,
        "max_batch_requests": config.max_batch_size,
        "max_client_batch_size": limits.embed_max_inputs,
        "auto_truncate": True,
        "tokenization_workers": request.app[ENGINE].num_replicas().get("score", 0),
        "version": version(),
        "sha": None,
        "docker_label": None,
    }
    return json_response(answer, sort_keys=False)


async def health(request: web.Request) -> web.Response:
    """200 without a body while the model that /embed would ask can answer, else a refusal."""
    state, headers = request.app[ENGINE].health, {"Cache-Control": "no-store"}
    model = request.app[LISTED].find(await _prober(request), request.query.get("model"))
    reason = request.app[EMBEDDINGS].why_not_ready(model) if state == "ok" else state
    if reason is not None:
        return json_response({"error": reason, "error_type": "Unhealthy"}, status=503, headers=headers, sort_keys=False)
    return web.Response(headers=headers)


async def _prober(request: web.Request) -> Caller | None:
    """The caller, who decides which models there are. A health check needs no key, so a wrong one counts as none."""
    try:
        return await visitor(request)
    except EngineError:
        return None


def refuse(request: web.Request, error: EngineError) -> web.Response:
    status = status_of(error.code)
    answer = {"error": error.message, "error_type": ERROR_TYPES.get(status, "Validation")}
    return json_response(answer, status=status, headers=refusal_headers(error, status), sort_keys=False)


class EmbedRequest(BaseModel):
    """Body of POST /embed; other keys are ignored. For /openapi.json only: a replica reads the bodies."""

    inputs: str | list[str] | list[int] | list[list[int]]
    truncate: bool | None = None
    normalize: bool | None = None
    dimensions: int | None = None


class InfoAnswer(TypedDict):
    """The model that answers, and the limits of requests, by the names that the server of that shape has for them."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, dict[str, str]]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


SURFACE = Surface(name=NAME, refuse=refuse, prefixes=("/embed", "/info"), schema="TypedError", is_open_to_pages=True)
MODEL = {"model": "a name from /models instead of the first model"}

ROUTES = (
    Route(
        method="POST",
        path="/embed",
        handler=embed,
        surface=SURFACE,
        summary="Embed texts, in the shape of Text Embeddings Inference",
        key=KEY,
        body=EmbedRequest,
        answers={200: "a list of vectors", 400: "what is wrong with the body", 404: "there is no such model"} | REFUSALS,
        reply=list[list[float]],
        query=MODEL,
        admit=admit,
    ),
    Route(
        method="GET",
        path="/info",
        handler=info,
        surface=SURFACE,
        summary="The model that answers there, and the limits of its requests",
        key=KEY,
        answers={200: "the model", 401: REFUSALS[401], 404: "there is no such model"},
        reply=InfoAnswer,
        query=MODEL,
    ),
    Route(
        method="GET",
        path="/health",
        handler=health,
        surface=SURFACE,
        summary="Whether the model that /embed would ask can answer",
        key="none",
        answers={200: "it can", 503: "no replica is alive, there is no such model, or the model is being opened or does not load"},
        reply=(),
        query=MODEL,
    ),
)
