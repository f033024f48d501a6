"""Embeddings in the shape of OpenAI: `/v1/models` and `/v1/embeddings`, as OpenAI's clients expect them."""

import uuid
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from engine.embeddings import Embedded
from engine.errors import MODEL_NOT_FOUND, EngineError, RefusedBody
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
    embed,
    refusal_headers,
    visitor,
)
from handlers.http.bodies import send_whole
from handlers.http.errors import dumps, json_response, status_of
from handlers.http.routes import Route, Surface

# Our error codes -> those of OpenAI. All others are shown as null.
CODES = {
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


async def list_models(request: web.Request) -> web.Response:
    """The embedding models that this caller sees, as objects."""
    visible = request.app[LISTED].visible(await visitor(request))
    answer = {"object": "list", "data": [_model_object(listed, listed.name) for listed in visible]}
    return json_response(answer, headers=_request_id(), sort_keys=False)


async def show_model(request: web.Request) -> web.Response:
    """One model by any of its names. EngineError `model_not_found`."""
    name = request.match_info["id"].rstrip("/")
    listed = request.app[LISTED].accepted(await visitor(request)).get(name)
    if listed is None:
        raise EngineError(MODEL_NOT_FOUND, f"The model `{name[:200]}` does not exist or you do not have access to it.")
    return json_response(_model_object(listed, name), headers=_request_id(), sort_keys=False)


def _model_object(listed: ListedModel, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": listed.version.published_at, "owned_by": listed.version.config.owner}


async def embed_inputs(request: web.Request) -> web.StreamResponse:
    """The vectors of texts or of lists of token ids."""
    choices = request.app[LISTED].accepted(await admit(request))
    with request.app[EMBEDDINGS].place():
        embedded = await embed(request, "openai", choices)
        return await send_whole(request, _parts(embedded), answer_headers(embedded) | _request_id())


def _parts(embedded: Embedded) -> Iterable[Buffer]:
    yield b'{"object":"list","data":['
    for i, piece in enumerate(embedded.pieces):
        yield b'%b{"object":"embedding","index":%d,"embedding":' % (b"," if i else b"", i)
        yield piece
        yield b"}"
    num_tokens = sum(embedded.num_tokens)
    usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (num_tokens, num_tokens)
    yield b'],"model":%b,%b}' % (dumps(embedded.name), usage)


def refuse(request: web.Request, error: EngineError) -> web.Response:
    """Refuse in the way that OpenAI's clients turn into their exceptions."""
    status = status_of(error.code)
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    param = error.param if isinstance(error, RefusedBody) else "model" if error.code == "model_not_found" else None
    answer = {"message": error.message, "type": kind, "param": param, "code": CODES.get(error.code)}
    headers = refusal_headers(error, status) | _request_id()
    return json_response({"error": answer}, status=status, headers=headers, sort_keys=False)


def _request_id() -> dict[str, str]:
    return {"x-request-id": uuid.uuid4().hex}


class OpenAIRequest(BaseModel):
    """Body of POST /v1/embeddings; other keys are ignored. For /openapi.json only: a replica reads the bodies."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    user: str | None = None


SURFACE = Surface(name=NAME, refuse=refuse, prefixes=("/v1/models", "/v1/embeddings"), schema="OpenAIError", is_open_to_pages=True)

ROUTES = (
    Route(
        method="GET",
        path="/v1/models",
        handler=list_models,
        surface=SURFACE,
        summary="The embedding models, in the shape of OpenAI",
        key=KEY,
        answers={200: "the models", 401: REFUSALS[401]},
    ),
    Route(
        method="GET",
        path="/v1/models/{id:.+}",
        handler=show_model,
        surface=SURFACE,
        summary="One of these models; its name may contain slashes",
        key=KEY,
        answers={200: "the model", 401: REFUSALS[401], 404: "there is no such model"},
    ),
    Route(
        method="POST",
        path="/v1/embeddings",
        handler=embed_inputs,
        surface=SURFACE,
        summary="Embed texts or token ids, in the shape of OpenAI",
        key=KEY,
        body=OpenAIRequest,
        answers={200: "a vector for each input", 400: "what is wrong with the body", 404: "there is no such model"} | REFUSALS,
        admit=admit,
    ),
)
