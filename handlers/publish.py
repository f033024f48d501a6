"""Publishing over HTTP: upload a version of a model, choose the active one, share, delete.

Decides who may before a byte of the body is read, and hands the files on as they come. What makes a model, and how it gets from one
version to the next, is engine/publishing.py.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import Field, model_validator

from engine.accounts import OWNER_NAME
from engine.errors import EngineError
from engine.repository.incoming import TOKENIZER_FILE, Incoming
from engine.repository.index import CONFIG_FILE, GRAPH_FILE, MODEL_NAME
from handlers.accounts import Body, expect, json_body
from handlers.http.auth import known_caller
from handlers.http.errors import json_response
from handlers.http.keys import BULK_OPTIONS, ENGINE, PUBLISHER, REPOSITORY
from handlers.http.routes import RESERVED, Route
from handlers.repository import model_record
from handlers.streaming.bulk import read_some

OCTETS, FORM = "application/octet-stream", "multipart/form-data"
UPLOADS = (OCTETS, FORM)
PART_FILES = {"model": GRAPH_FILE, "config": CONFIG_FILE, "tokenizer": TOKENIZER_FILE}
# Name of a file with tensors; never a path, never hidden.
DATA_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
MAX_DATA_FILES = 100
CHUNK_BYTES = 256 * 1024
# What the heads and boundaries of a form may add to its files.
FORM_BYTES = 1024 * 1024
# What the framework raises for a form that is none.
FORM_FAULTS = (ValueError, AssertionError, KeyError, RuntimeError, HttpProcessingError, web.HTTPException)

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a request may change, or make."""

    owner: str
    name: str


TARGET = web.RequestKey("target", Target)


async def _admit(request: web.Request, *, may_be_new: bool) -> Target:
    """Credentials, then rights; on any path with an owner and a model. EngineError says what stands against it."""
    owner, name = request.match_info["owner"], request.match_info["model"]
    if owner.lower() in RESERVED:
        raise EngineError("not_found", "not found")
    caller = await known_caller(request)
    model = request.app[REPOSITORY].changeable(caller, owner, name)
    if model is None and not may_be_new:
        raise EngineError("model_not_found", "model not found")
    if request.app[ENGINE].is_draining:
        raise EngineError("shutting_down", "shutting down", retry_after_s=5)
    return Target(owner, name)


async def admit_upload(request: web.Request) -> Target:
    """The same for a new version, and whether its body can be one; asked twice where the client waits for 100 Continue."""
    if TARGET not in request:
        target = await _admit(request, may_be_new=True)
        if not OWNER_NAME.fullmatch(target.owner) or not MODEL_NAME.fullmatch(target.name):
            raise EngineError("invalid_request", "names take 1 to 100 letters, digits and _ . -, a letter or digit first")
        _check_body(request)
        request[TARGET] = target
    return request[TARGET]


def _check_body(request: web.Request) -> None:
    if hdrs.CONTENT_TYPE not in request.headers or request.content_type not in UPLOADS:
        text = "POST a record to predict; PUT application/octet-stream to publish"
        raise EngineError("unsupported_media_type", text)
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise EngineError("unsupported_media_type", "a model is sent without Content-Encoding")
    limit_bytes = request.app[PUBLISHER].limits.model_limit_bytes
    spare_bytes = 0 if request.content_type == OCTETS else FORM_BYTES
    if (request.content_length or 0) > limit_bytes + spare_bytes:  # without a length the files are counted as they come
        raise EngineError("body_too_large", f"body larger than {limit_bytes} bytes")


async def publish(request: web.Request) -> web.Response:
    """PUT without `bulk`: the files of a new version; 201 when it is the active one, 200 when it was already."""
    target = await admit_upload(request)
    publisher = request.app[PUBLISHER]
    async with publisher.incoming(target.owner, target.name) as incoming:
        await _receive(request, incoming)
        published = await publisher.publish(incoming)
    answer: dict[str, Any] = {"model": target.name, "owner": target.owner, "status": "Successfully deployed"}
    answer["version"] = published.version
    if published.warnings:
        answer["warnings"] = published.warnings
    return json_response(answer, status=201 if published.is_new else 200)


# The body


async def _receive(request: web.Request, incoming: Incoming) -> None:
    """All files of the body. EngineError `invalid_body`, `invalid_model`, `body_too_large`; TimeoutError when it stops coming."""
    try:
        if request.content_type == OCTETS:
            await incoming.receive(GRAPH_FILE, _body_chunks(request))
        else:
            await _receive_parts(request, incoming)
    except web.RequestPayloadError:
        raise EngineError("invalid_body", "could not decode body: it is cut short") from None


async def _body_chunks(request: web.Request) -> AsyncIterator[bytes]:
    while chunk := await _in_time(request, read_some(request)):
        yield chunk


async def _receive_parts(request: web.Request, incoming: Incoming) -> None:
    """The parts of a form, each under the name it has in a model's folder."""
    try:
        form = await request.multipart()
        while (part := await _in_time(request, form.next())) is not None:
            if not isinstance(part, BodyPartReader):
                raise EngineError("invalid_body", "could not decode body: a part of it is a form itself")
            is_data = part.name == "data"
            await incoming.receive(_file_name(part, incoming), _part_chunks(request, part), is_data=is_data)
    except FORM_FAULTS:
        raise EngineError("invalid_body", "could not decode body: it is not a form") from None


def _file_name(part: BodyPartReader, incoming: Incoming) -> str:
    if part.name in PART_FILES:
        return PART_FILES[part.name]
    if part.name is None:
        raise EngineError("invalid_body", "could not decode body: a part has no name")
    if part.name != "data":
        raise EngineError("invalid_model", f"unknown part '{part.name}': send model, config, tokenizer, data")
    if not DATA_FILE.fullmatch(part.filename or ""):
        raise EngineError("invalid_model", "the part 'data' needs a file name as in the graph: letters, digits and _ . -")
    if len(incoming.data_files) >= MAX_DATA_FILES:
        raise EngineError("invalid_model", f"more than {MAX_DATA_FILES} parts 'data'")
    return part.filename or ""


async def _part_chunks(request: web.Request, part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await _in_time(request, part.read_chunk(CHUNK_BYTES)):
        yield chunk


async def _in_time(request: web.Request, reading: Awaitable[Read]) -> Read:
    """What is read from the client; EngineError `timed_out` when nothing comes for SLUICE_IDLE_TIMEOUT_S."""
    try:
        async with asyncio.timeout(request.app[BULK_OPTIONS].idle_timeout_s or None):
            return await reading
    except TimeoutError:
        raise EngineError("timed_out", "the upload stopped") from None


# What there is


class ModelChange(Body):
    """Body of PATCH: what is to change."""

    active_version: Annotated[int, Field(ge=1)] | None = None
    shared: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> "ModelChange":
        if self.active_version is None and self.shared is None:
            raise ValueError("send active_version or shared")
        return self


async def change(request: web.Request) -> web.Response:
    """PATCH: another active version, or another circle of users; the model's record as it is then."""
    target = await _admit(request, may_be_new=False)
    body = await json_body(request, ModelChange)
    publisher = request.app[PUBLISHER]
    if body.shared is not None:
        publisher.check_shareable(target.owner, target.name)  # what can be refused comes before what changes something
    if body.active_version is not None:
        await publisher.activate(target.owner, target.name, body.active_version)
    if body.shared is not None:
        await publisher.share(target.owner, target.name, body.shared)
    model = request.app[REPOSITORY].changeable(await known_caller(request), target.owner, target.name)
    if model is None:
        raise EngineError("model_not_found", "model not found")
    return json_response(model_record(request, model))


async def delete(request: web.Request) -> web.Response:
    """DELETE: the model, or with `version=N` that version, once the streams that run on it have ended."""
    target = await _admit(request, may_be_new=False)
    answer = {"model": target.name, "owner": target.owner, "status": "Successfully deleted"}
    text = request.query.get("version")
    if text is None:
        await request.app[PUBLISHER].delete(target.owner, target.name)
        return json_response(answer)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    await request.app[PUBLISHER].delete_version(target.owner, target.name, number)
    return json_response(answer | {"version": number})


PUBLISHING_ANSWERS = {
    201: "the new version is active",
    200: "the active version is the same",
    400: "the body could not be decoded",
    422: "the files make no model that can be served",
    500: "the version does not load; it is kept, and the active one is as it was",
}
REFUSALS = {
    401: "no credentials, or wrong ones",
    403: "a read-only key, or a shared model of another owner",
    404: "no such model or version",
    503: "draining; see Retry-After",
}
PATH = "/{owner}/models/{model}"

ROUTES = [
    Route(
        "DELETE",
        PATH,
        delete,
        "Delete a model, or one version that is not active; running streams end first",
        "the owner's full, or the admin's",
        None,
        {200: "it is gone", 409: "the active version, or a model that ships with the server"} | REFUSALS,
        {"version": "only this version"},
        expect,
    ),
    Route(
        "PATCH",
        "/api/models/{owner}/{model}",
        change,
        "Choose the active version (rollback, or forward), share with others or not",
        "the owner's full, or the admin's",
        ModelChange,
        {
            200: "the model",
            409: "a model that ships with the server is not shared otherwise",
            422: "nothing to change, or an unknown field",
            500: "the version does not load; the active one is as it was",
        }
        | REFUSALS,
        expect=expect,
    ),
]
