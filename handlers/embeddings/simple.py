"""Embeddings in the small shape: `/models` and `/embeddings`, refused as FastAPI refuses."""

import time
import uuid
from collections.abc import Iterable

from aiohttp import web
from pydantic import BaseModel
from typing_extensions import TypedDict

from engine import metrics
from engine.embeddings import Embedded, RefusedBody
from engine.errors import NO_CREDENTIALS, UNAUTHORIZED, EngineError
from engine.frames import Buffer
from handlers.embeddings.admission import (
    JSON,
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
from handlers.http.errors import dumps, json_response, status_of
from handlers.http.routes import Route, Surface

UNPROCESSABLE = 422
# Status -> the sentence that FastAPI would write; for every other status the message of the error.
DETAILS = {
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request body too large",
    429: "Too many requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


# The same for credentials that are missing or wrong; of a token that has ended the message says more.
CREDENTIALS = {NO_CREDENTIALS: "Not authenticated", UNAUTHORIZED: "Unauthorized"}


async def list_models(request: web.Request) -> web.Response:
    """The embedding models that this caller sees, in the order of models.txt, with the length of their vectors."""
    visible = request.app[LISTED].visible(await visitor(request))
    answer = {
        "data": {"models": {listed.name: {"dim": listed.dim} for listed in visible}},
        "generated": _now(),
        "id": str(uuid.uuid4()),
    }
    return json_response(answer, sort_keys=False)


async def embed_texts(request: web.Request) -> web.StreamResponse:
    """The vectors of one text, or of a list of texts."""
    caller = await admit(request)
    visible = request.app[LISTED].visible(caller)
    choices = {name: listed for listed in visible for name in (listed.title, listed.name)}
    try:
        async with embedded(request, caller, "simple", choices) as vectors:
            return await send_whole(request, _parts(vectors), answer_headers(vectors))
    except RefusedBody as error:  # a list of wrong texts has many faults, so the answer may be long
        metrics.REJECTED.labels(error.code).inc()
        return await send_whole(request, [error.detail or _one_fault(error)], dict(JSON), status=UNPROCESSABLE)


def _parts(vectors: Embedded) -> Iterable[Buffer]:
    yield b'{"data":['
    for i, (piece, num_tokens) in enumerate(zip(vectors.pieces, vectors.num_tokens, strict=True)):
        yield b'%b{"index":%d,"embedding":' % (b"," if i else b"", i)
        yield piece
        yield b',"num_tokens":%d}' % num_tokens
    yield b'],"generated":"%b","id":"%b","model":%b}' % (_now().encode(), str(uuid.uuid4()).encode(), dumps(vectors.name))


def _now() -> str:
    return time.strftime("%Y-%m-%d @ %H:%M:%S")


def _one_fault(error: RefusedBody) -> bytes:
    """The fault that shows only while the texts are embedded: they have too many tokens."""
    place = ["body", error.param] if error.param else ["body"]
    return dumps({"detail": [{"type": error.code, "loc": place, "msg": error.message, "input": None}]})


def refuse(request: web.Request, error: EngineError) -> web.Response:
    """Refuse with one sentence. The faults of a body, which FastAPI writes as a list, come encoded from a replica."""
    status = status_of(error.code)
    detail = CREDENTIALS.get(error.code) or DETAILS.get(status, error.message)
    return json_response({"detail": detail}, status=status, headers=refusal_headers(error, status), sort_keys=False)


class SimpleRequest(BaseModel):
    """Body of POST /embeddings; other keys are ignored. For /openapi.json only: a replica reads the bodies."""

    model: str
    input: str | list[str]


class Dimension(TypedDict):
    """How many values a vector of the model has."""

    dim: int


class ModelsByName(TypedDict):
    models: dict[str, Dimension]


class ModelsAnswer(TypedDict):
    """The embedding models that the caller sees."""

    data: ModelsByName
    generated: str
    id: str


class TextVector(TypedDict):
    """The vector of the text at `index`, and how many tokens the text has."""

    index: int
    embedding: list[float]
    num_tokens: int


class VectorsAnswer(TypedDict):
    """A vector for each text, in the order of the texts."""

    data: list[TextVector]
    generated: str
    id: str
    model: str


SURFACE = Surface(name=NAME, refuse=refuse, prefixes=("/models", "/embeddings"), schema="DetailError", is_open_to_pages=True)

ROUTES = (
    Route(
        method="GET",
        path="/models",
        handler=list_models,
        surface=SURFACE,
        summary="The embedding models",
        key=KEY,
        answers={200: "names and dimensions", 401: REFUSALS[401]},
        reply=ModelsAnswer,
    ),
    Route(
        method="POST",
        path="/embeddings",
        handler=embed_texts,
        surface=SURFACE,
        summary="Embed one text or a list of texts",
        key=KEY,
        body=SimpleRequest,
        answers={200: "a vector for each text", 422: "what is wrong with the body, such as an unknown model"} | REFUSALS,
        reply=VectorsAnswer,
        admit=admit,
    ),
)
