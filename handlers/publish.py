"""Publishing over HTTP: the upload of a new version of a model.

Decides who may publish before a byte of the body is read, and hands the files on as they come. Which files make a model, and how
they become a version, is known in engine/repository/publishing.py.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NotRequired

from aiohttp import BodyPartReader, hdrs, web
from typing_extensions import TypedDict

from engine.accounts import OWNER_NAME, Right
from engine.errors import INVALID_REQUEST, EngineError
from engine.repository.incoming import INVALID_MODEL, TOKENIZER_FILE, Incoming
from engine.repository.index import CONFIG_FILE, GRAPH_FILE, MODEL_NAME, ROLE_TO_CHANGE
from handlers.http import forms
from handlers.http.auth import while_valid
from handlers.http.bodies import content_encoding, read_some, too_large, undecodable
from handlers.http.encodings import PLAIN
from handlers.http.errors import UNSUPPORTED_MEDIA_TYPE, json_response
from handlers.http.keys import PUBLISHER
from handlers.http.models import CHANGE_KEY, ModelPath, admit_change
from handlers.http.routes import FormBody, Route, Surface
from handlers.http.uploads import confirm_change, within_idle_timeout, within_upload_timeout

SURFACE = Surface(name="publish")
OCTETS = "application/octet-stream"
UPLOADS = (OCTETS, forms.FORM)
PART_FILES = {"model": GRAPH_FILE, "config": CONFIG_FILE, "tokenizer": TOKENIZER_FILE}
PARTS = FormBody(
    {
        "model": "the graph, an .onnx file",
        "config": "config.json; without it the server makes one from the graph",
        "tokenizer": "tokenizer.json of an embedding model",
        "data": "a file with tensors, under the file name that the graph uses",
    },
    needed=("model",),
    many=("data",),
)
# The name of a file with tensors: never a path, never a hidden file.
DATA_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
MAX_DATA_FILES = 100

ADMITTED = web.RequestKey("admitted", ModelPath)


class PublishedAnswer(TypedDict):
    """The version that is active now."""

    model: str
    owner: str
    status: str
    version: int
    warnings: NotRequired[list[str]]


async def admit(request: web.Request) -> ModelPath:
    """Check credentials, rights and names, and whether the body can be a version. EngineError for a refusal.

    The result is kept: where the client waits for `100 Continue`, this is called before the body comes and again by the handler.
    """
    if ADMITTED not in request:
        path = await admit_change(request, may_be_new=True)
        if not OWNER_NAME.fullmatch(path.owner) or not MODEL_NAME.fullmatch(path.name):
            raise EngineError(INVALID_REQUEST, "names have 1 to 100 letters, digits and _ . -, and begin with a letter or digit")
        _check_body(request)
        size = request.content_length or 0
        await request.app[PUBLISHER].check_room(path.owner, path.name, size, is_counted=not path.caller.is_admin)
        request[ADMITTED] = path
    return request[ADMITTED]


def _check_body(request: web.Request) -> None:
    """Refuse a body that cannot be taken, as far as the head tells; without a Content-Length the files are counted as they come."""
    if hdrs.CONTENT_TYPE not in request.headers or request.content_type not in UPLOADS:
        text = "POST a record to predict; PUT application/octet-stream to publish"
        raise EngineError(UNSUPPORTED_MEDIA_TYPE, text)
    if content_encoding(request) not in PLAIN:
        raise EngineError(UNSUPPORTED_MEDIA_TYPE, "send a model without Content-Encoding")
    limit_bytes = request.app[PUBLISHER].limits.model_limit_bytes
    spare_bytes = 0 if request.content_type == OCTETS else forms.FORM_BYTES
    if (request.content_length or 0) > limit_bytes + spare_bytes:
        raise too_large(limit_bytes)


async def publish(request: web.Request) -> web.Response:
    """PUT without `bulk=true`: the files of a new version. 201 when it is active, 200 when the active one has the same files."""
    path = await admit(request)
    publisher = request.app[PUBLISHER]
    async with publisher.incoming(path.owner, path.name, is_counted=not path.caller.is_admin) as incoming:
        right = Right(path.owner, ROLE_TO_CHANGE)
        async with while_valid(request, path.caller, right):
            await _receive(request, incoming)
        published = await publisher.publish(incoming, confirm=lambda: confirm_change(request, path.caller, right, path.name))
    answer: PublishedAnswer = {
        "model": path.name,
        "owner": path.owner,
        "status": "Successfully deployed",
        "version": published.version,
    }
    if published.warnings:
        answer["warnings"] = published.warnings
    return json_response(answer, status=201 if published.is_new else 200)


# The body


async def _receive(request: web.Request, incoming: Incoming) -> None:
    """Take all files of the body. EngineError `invalid_body`, `invalid_model`, `body_too_large`, `timed_out`."""
    try:
        async with within_upload_timeout(request):
            if request.content_type == OCTETS:
                await incoming.receive(GRAPH_FILE, _body_chunks(request))
            else:
                await _receive_parts(request, incoming)
    except web.RequestPayloadError:
        raise undecodable("it is cut short") from None


async def _body_chunks(request: web.Request) -> AsyncIterator[bytes]:
    while chunk := await within_idle_timeout(request, read_some(request)):
        yield chunk


async def _receive_parts(request: web.Request, incoming: Incoming) -> None:
    """Take the parts of a form and give each file the name that it has in a model's folder."""
    form = await forms.opened(request)
    while (part := await forms.next_part(request, form)) is not None:
        is_data = part.name == "data"
        await incoming.receive(_file_name(part, incoming), forms.part_chunks(request, part), is_data=is_data)


def _file_name(part: BodyPartReader, incoming: Incoming) -> str:
    """The name under which a part is kept. EngineError `invalid_body`, `invalid_model`."""
    if part.name in PART_FILES:
        return PART_FILES[part.name]
    if part.name is None:
        raise undecodable("a part has no name")
    if part.name != "data":
        raise EngineError(INVALID_MODEL, f"unknown part '{part.name}': the parts are model, config, tokenizer and data")
    if not DATA_FILE.fullmatch(part.filename or ""):
        raise EngineError(INVALID_MODEL, "the part 'data' needs the file name that the graph uses, of letters, digits and _ . -")
    if len(incoming.data_files) >= MAX_DATA_FILES:
        raise EngineError(INVALID_MODEL, f"the form has more than {MAX_DATA_FILES} parts 'data'")
    return part.filename or ""


# Routes

ANSWERS = {
    200: "the active version has the same files already",
    201: "the new version is active",
    400: "the body could not be decoded",
    401: "credentials are missing or wrong",
    403: "the key is read-only, or the model belongs to another owner",
    404: "the caller may not publish under this owner",
    409: "files of the model were removed by hand while the server was running",
    413: "the model is larger than SLUICE_MODEL_LIMIT_BYTES",
    415: "the body is neither application/octet-stream nor a form, or it has a Content-Encoding",
    417: "Expect names something other than 100-continue",
    422: "the files do not make a model that can be served",
    429: "too many uploads; see Retry-After",
    500: "the version does not load; it is kept, and the active version stays active",
    503: "the server is draining (see Retry-After), or the upload stopped or took too long",
    507: "the user keeps as much as the quotas allow, or the disk of the server is full",
}
# The streaming surface has a route of the same method and path for requests with bulk=true.
PUT = Route(
    method="PUT",
    path="/{owner}/models/{model}",
    handler=publish,
    surface=SURFACE,
    summary="publish a version of a model",
    key=CHANGE_KEY,
    body=(OCTETS, PARTS),
    answers=ANSWERS,
    reply=PublishedAnswer,
    admit=admit,
)

ROUTES = (PUT, replace(PUT, path=PUT.path + "/{file}", summary="The same; curl -T appends the file's name"))
