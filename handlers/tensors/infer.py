"""Requests of the Open Inference Protocol over HTTP: tensors in, tensors out, as JSON or as raw bytes behind a head in JSON.

Decides who may ask and whether there is room before a byte of the body is read. A replica reads the body.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NotRequired

from aiohttp import hdrs, web
from pydantic import BaseModel
from typing_extensions import TypedDict

from engine.errors import INVALID_PARAMETER, EngineError
from engine.frames import Buffer
from engine.tensors import Inferred, TensorOutput
from handlers.http.bodies import check_head, read_whole, send_whole, unless_client_leaves
from handlers.http.errors import dumps
from handlers.http.keys import REQUEST_TIMEOUT
from handlers.http.memory import BODY_MEMORY
from handlers.http.models import USE_KEY
from handlers.http.routes import Route
from handlers.tensors.admission import PATH, REFUSALS, SURFACE, TENSORS, VERSION_PATH, Asked, asked

HEAD_LENGTH = "Inference-Header-Content-Length"
OCTETS = "application/octet-stream"
MAX_DIGITS = 12

ASKED = web.RequestKey("asked", Asked)


async def admit(request: web.Request) -> Asked:
    """Check credentials, access and capacity. EngineError for a refusal.

    The result is kept: where the client waits for `100 Continue`, this is called before the body comes and again by the handler.
    """
    if ASKED not in request:
        found = await asked(request)
        check_head(request, request.app[TENSORS].limits.body_limit_bytes)
        _head_bytes(request)
        request.app[TENSORS].check_capacity()
        request[ASKED] = found
    return request[ASKED]


def _head_bytes(request: web.Request) -> int:
    """The length of the JSON before the raw bytes of tensors; 0 when all of the body is JSON. EngineError `invalid_parameter`."""
    text = request.headers.get(HEAD_LENGTH, "0").strip()
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise EngineError(INVALID_PARAMETER, f"{HEAD_LENGTH} must be a number of bytes")
    return int(text)


async def infer(request: web.Request) -> web.StreamResponse:
    """The outputs of a model for the tensors in the body."""
    found = await admit(request)
    app, user = request.app, found.user
    limit_s = app[REQUEST_TIMEOUT]
    body = await read_whole(request, app[TENSORS].limits.body_limit_bytes, limit_s, user=user)
    body_bytes = len(body)

    def grown(num_bytes: int) -> None:
        app[BODY_MEMORY].grow(request, user, body_bytes + num_bytes)

    with app[TENSORS].place():
        async with asyncio.timeout(limit_s):
            work = app[TENSORS].infer(found.version, _head_bytes(request), body, grown)
            del body  # the work keeps what it needs of it
            inferred = await unless_client_leaves(request, work)
        return await _answer(request, found, inferred)


async def _answer(request: web.Request, found: Asked, inferred: Inferred) -> web.StreamResponse:
    version = found.version
    told: dict[str, object] = {"model_name": version.title, "model_version": str(version.number)}
    told |= {} if inferred.id is None else {"id": inferred.id}
    told |= {"parameters": {"outputs_without_tensor": ",".join(inferred.formless)}} if inferred.formless else {}
    head = [dumps(told, sort_keys=False)[:-1], b',"outputs":[', *_heads(inferred.outputs), b"]}"]
    raw = [piece for output in inferred.outputs if output.is_binary for piece in output.pieces]
    if not any(output.is_binary for output in inferred.outputs):
        return await send_whole(request, head, {hdrs.CONTENT_TYPE: "application/json"})
    headers = {hdrs.CONTENT_TYPE: OCTETS, HEAD_LENGTH: str(sum(map(len, head)))}
    return await send_whole(request, [*head, *raw], headers)


def _heads(outputs: Iterable[TensorOutput]) -> Iterator[Buffer]:
    """The JSON objects of the outputs; those that are not raw have their data."""
    for i, output in enumerate(outputs):
        form: dict[str, object] = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
        if output.is_binary:
            form["parameters"] = {"binary_data_size": sum(map(len, output.pieces))}
            yield (b"," if i else b"") + dumps(form, sort_keys=False)
            continue
        yield (b"," if i else b"") + dumps(form, sort_keys=False)[:-1] + b',"data":['
        values = [piece for piece in output.pieces if len(piece)]  # a tensor without elements has no values
        for place, piece in enumerate(values):
            if place:
                yield b","
            yield piece
        yield b"]}"


# Routes


class InferInput(BaseModel):
    """One tensor. The data of binary tensors stand behind the JSON, and `parameters` has their `binary_data_size`."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferOutput(BaseModel):
    """One tensor to be answered; `parameters` may have `binary_data`."""

    name: str
    parameters: dict[str, Any] | None = None


class TensorRequest(BaseModel):
    """Body of a request with tensors. For /openapi.json only: a replica reads the bodies."""

    inputs: list[InferInput]
    outputs: list[InferOutput] | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


class OutputAnswer(TypedDict):
    """One tensor of an answer: its values in `data`, or behind the JSON as many bytes as `parameters` says."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, int]]


class FormlessAnswer(TypedDict):
    """The names of outputs that no tensor can hold, separated by commas."""

    outputs_without_tensor: str


class TensorsAnswer(TypedDict):
    """The outputs of a model, and the id that the request had."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    parameters: NotRequired[FormlessAnswer]
    outputs: list[OutputAnswer]


INFER = Route(
    method="POST",
    path=PATH + "/infer",
    handler=infer,
    surface=SURFACE,
    summary="Run a model on tensors (Open Inference Protocol)",
    key=USE_KEY,
    body=(TensorRequest, OCTETS),
    answers={
        200: "the outputs; with binary_data_output, raw bytes behind the JSON",
        400: "the body could not be decoded, or a tensor is not one that the model takes",
        413: "the body is larger than SLUICE_BODY_LIMIT_BYTES",
        415: "the Content-Encoding is unknown",
        417: "Expect names something other than 100-continue",
        429: "too many requests; see Retry-After",
        500: "the model failed on a row",
    }
    | REFUSALS,
    reply=(TensorsAnswer, OCTETS),
    admit=admit,
)

ROUTES = (INFER, replace(INFER, path=VERSION_PATH + "/infer", summary="The same with one version"))
