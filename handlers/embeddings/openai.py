"""Embeddings in the shape of OpenAI: `/v1/models` and `/v1/embeddings`, as OpenAI's clients expect them."""

import uuid
from collections.abc import Iterable
from typing import Literal

from aiohttp import web
from pydantic import BaseModel
from typing_extensions import TypedDict

from engine.embeddings import CONTEXT_LENGTH_EXCEEDED, INVALID_TOKEN, TOO_MANY_INPUTS, Embedded, RefusedBody
from engine.errors import (
    BODY_TOO_LARGE,
    INTERNAL,
    MODEL_BUILDING,
    MODEL_NOT_FOUND,
    MODEL_OFFLINE,
    NO_CREDENTIALS,
    NO_INSTANCES,
    SHUTTING_DOWN,
    TIMED_OUT,
    TOKEN_EXPIRED,
    TOKEN_REVOKED,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    Code,
    EngineError,
)
from engine.frames import Buffer
from engine.repository.listed import ListedModel
from handlers.embeddings.admission import (
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
from handlers.http.bodies import send_whole
from handlers.http.connections import TOO_MANY_CONNECTIONS
from handlers.http.errors import METHOD_NOT_ALLOWED, NOT_FOUND, dumps, json_response, status_of
from handlers.http.routes import Route, Surface

# Our error codes -> those of OpenAI. All others are shown as null.
CODES: dict[Code, str] = {
    NO_CREDENTIALS: "invalid_api_key",
    UNAUTHORIZED: "invalid_api_key",
    TOKEN_EXPIRED: "invalid_api_key",
    TOKEN_REVOKED: "invalid_api_key",
    NOT_FOUND: "unknown_url",
    METHOD_NOT_ALLOWED: "method_not_supported",
    MODEL_NOT_FOUND: "model_not_found",
    TOO_MANY_INPUTS: "too_many_inputs",
    CONTEXT_LENGTH_EXCEEDED: "context_length_exceeded",
    INVALID_TOKEN: "invalid_token",
    BODY_TOO_LARGE: "request_too_large",
    TOO_MANY_REQUESTS: "rate_limit_exceeded",
    TOO_MANY_CONNECTIONS: "unavailable",
    SHUTTING_DOWN: "unavailable",
    NO_INSTANCES: "unavailable",
    MODEL_BUILDING: "unavailable",
    MODEL_OFFLINE: "unavailable",
    TIMED_OUT: "unavailable",
    INTERNAL: "internal_error",
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


def _model_object(listed: ListedModel, name: str) -> "OpenAIModel":
    return {"id": name, "object": "model", "created": listed.version.published_at, "owned_by": listed.version.config.owner}


async def embed_inputs(request: web.Request) -> web.StreamResponse:
    """The vectors of texts or of lists of token ids."""
    caller = await admit(request)
    choices = request.app[LISTED].accepted(caller)
    async with embedded(request, caller, "openai", choices) as vectors:
        return await send_whole(request, _parts(vectors), answer_headers(vectors) | _request_id())


def _parts(vectors: Embedded) -> Iterable[Buffer]:
    yield b'{"object":"list","data":['
    for i, piece in enumerate(vectors.pieces):
        yield b'%b{"object":"embedding","index":%d,"embedding":' % (b"," if i else b"", i)
        yield piece
        yield b"}"
    num_tokens = sum(vectors.num_tokens)
    usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (num_tokens, num_tokens)
    yield b'],"model":%b,%b}' % (dumps(vectors.name), usage)


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
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    user: str | None = None


class OpenAIModel(TypedDict):
    """One model; `created` is in seconds since 1970."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(TypedDict):
    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIVector(TypedDict):
    """The vector of the input at `index`: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class OpenAIUsage(TypedDict):
    prompt_tokens: int
    total_tokens: int


class OpenAIVectors(TypedDict):
    """A vector for each input, in the order of the inputs."""

    object: Literal["list"]
    data: list[OpenAIVector]
    model: str
    usage: OpenAIUsage


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
        reply=OpenAIModels,
    ),
    Route(
        method="GET",
        path="/v1/models/{id:.+}",
        handler=show_model,
        surface=SURFACE,
        summary="One of these models; its name may contain slashes",
        key=KEY,
        answers={200: "the model", 401: REFUSALS[401], 404: "there is no such model"},
        reply=OpenAIModel,
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
        reply=OpenAIVectors,
        admit=admit,
    ),
)
