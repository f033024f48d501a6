"""Rows over HTTP: the body of an upload, cut into lines while it comes, becomes rows of a new version of a dataset.

Decides who may send before a byte of the body is read. What becomes of the lines is known in engine/ingestion/.
"""

from dataclasses import dataclass, replace
from typing import Literal

from aiohttp import hdrs, web

from engine.datasets import Dataset
from engine.errors import EngineError
from engine.ingestion import Embedder, Order, Upload, Uploaded, UploadOptions
from engine.repository.listed import ListedModel
from handlers.datasets import options
from handlers.datasets.admission import (
    CHANGE_REFUSALS,
    CHANGES,
    INGESTION,
    PATH,
    SURFACE,
    WRITER,
    DatasetPath,
    columns,
    conditions,
    etag,
    writable,
)
from handlers.datasets.shapes import RowBody, UploadAnswer
from handlers.http.auth import while_valid
from handlers.http.bodies import (
    NDJSON,
    check_head,
    content_encoding,
    decode_step,
    read_some,
    too_large,
    undecodable,
)
from handlers.http.encodings import PLAIN, BadEncoding, decoder
from handlers.http.errors import UNSUPPORTED_MEDIA_TYPE, json_response
from handlers.http.lines import LineCutter
from handlers.http.routes import Route
from handlers.http.uploads import confirm_change, within_idle_timeout, within_upload_timeout

LINE_TYPES = (NDJSON, "application/jsonl", "application/json")
# Bytes that are cut into lines at once.
CUT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class RowLimits:
    """Settings of server/config.py, by the same names."""

    line_limit_bytes: int
    decoded_limit_bytes: int
    query_body_limit_bytes: int


ROW_LIMITS = web.AppKey("row_limits", RowLimits)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An upload that may begin."""

    path: DatasetPath
    order: Order


ADMITTED = web.RequestKey("admitted_rows", Admitted)


# Who may send


async def admit_replacement(request: web.Request) -> Admitted:
    return await _admit(request, "replace")


async def admit_rows(request: web.Request) -> Admitted:
    return await _admit(request, "append")


async def _admit(request: web.Request, what: Literal["append", "replace"]) -> Admitted:
    """Check credentials and rights, conditions, options and room. EngineError for a refusal.

    The result is kept: where the client waits for `100 Continue`, this is called before the body comes and again by the handler.
    """
    if ADMITTED not in request:
        path = await writable(request)
        wanted = conditions(request, must_exist=what == "append" and not options.is_true(request, "create"))
        wanted.check(path.title, path.dataset)
        _check_body(request)
        ingestion = request.app[INGESTION]
        options.check_known(request, *options.QUERY, *(["create"] if what == "append" else []))
        chosen = options.parse(request, ingestion.embedder, path.caller)
        models = _models(path, chosen, ingestion.embedder, path.dataset if what == "append" else None)
        ingestion.check_capacity(path.caller.name)
        is_counted = not path.caller.is_admin
        size = request.content_length or 0
        await request.app[CHANGES].check_room(path.org, path.name, size, is_counted=is_counted)
        order = Order(path.org, path.name, what, path.caller.name, chosen, wanted, models, is_counted)
        request[ADMITTED] = Admitted(path, order)
    return request[ADMITTED]


def _check_body(request: web.Request) -> None:
    """Refuse a body that cannot be taken, as far as the head tells. A body without a type is taken for lines."""
    if hdrs.CONTENT_TYPE in request.headers and request.content_type not in LINE_TYPES:
        raise EngineError(UNSUPPORTED_MEDIA_TYPE, f"Send {NDJSON}: one JSON object per line.")
    check_head(request, None)


def _models(path: DatasetPath, chosen: UploadOptions, embedder: Embedder, dataset: Dataset | None) -> dict[str, ListedModel]:
    """The models that the upload needs, by the names under which the columns record them. EngineError `model_not_found`."""
    models = {pair.model.name: pair.model for pair in chosen.embed}
    for column in dataset.head.columns if dataset else ():
        if column.model is not None and column.model not in models:
            models[column.model] = embedder.find_model(path.caller, column.model)
    return models


# The body


async def replace_rows(request: web.Request) -> web.Response:
    """PUT: the body becomes the rows of a dataset, new or not."""
    return await _upload(request, await admit_replacement(request))


async def append_rows(request: web.Request) -> web.Response:
    """POST: the body becomes more rows of a dataset."""
    return await _upload(request, await admit_rows(request))


async def _upload(request: web.Request, admitted: Admitted) -> web.Response:
    path = admitted.path
    async with request.app[INGESTION].upload(admitted.order) as upload:
        async with while_valid(request, path.caller, path.right), within_upload_timeout(request):
            await _receive(request, upload)
        uploaded = await upload.finish(lambda: confirm_change(request, path.caller, path.right, path.name))
    return _answer(uploaded)


async def _receive(request: web.Request, upload: Upload) -> None:
    """Feed the body to the upload. EngineError `invalid_body`, `body_too_large`, `timed_out`, and those of the upload."""
    limits = request.app[ROW_LIMITS]
    cutter, unpack = LineCutter(limits.line_limit_bytes), decoder(content_encoding(request))
    num_bytes = 0
    try:
        while data := await within_idle_timeout(request, read_some(request)):
            unpack.feed(data)
            while unpack.has_more:
                decoded = await decode_step(request, unpack)
                num_bytes += len(decoded)
                if num_bytes > limits.decoded_limit_bytes and content_encoding(request) not in PLAIN:
                    raise too_large(limits.decoded_limit_bytes)
                await _feed(upload, cutter, decoded)
        unpack.finish()
    except (BadEncoding, web.RequestPayloadError) as error:
        raise undecodable(error) from None
    for span in cutter.finish():
        await upload.feed(span)


async def _feed(upload: Upload, cutter: LineCutter, data: bytes) -> None:
    for start in range(0, len(data), CUT_BYTES):
        for span in cutter.feed(data[start : start + CUT_BYTES]):
            await upload.feed(span)


def _answer(uploaded: Uploaded) -> web.Response:
    version = uploaded.version
    answer = {
        "dataset": f"hub://{uploaded.title}",
        "version": version.number,
        "rows": version.num_rows,
        "added": uploaded.added,
        "skipped": uploaded.skipped,
        "errors": uploaded.errors,
        "columns": columns(version),
    }
    return json_response(answer, status=201 if uploaded.is_new else 200, headers=etag(version.number), sort_keys=False)


# Routes

ANSWERS = CHANGE_REFUSALS | {
    200: "the dataset has a new version; its ETag is the version in quotes",
    201: "the dataset was made",
    409: "there is a dataset already, and If-None-Match says that there must be none",
    413: "the body decodes to more than SLUICE_DECODED_LIMIT_BYTES",
    415: "the body is not NDJSON, or its Content-Encoding is unknown",
    417: "Expect names something other than 100-continue",
    422: "a line cannot be a row of the dataset: `line` and `column` say where; nothing was stored",
    429: "too many uploads; see Retry-After",
    503: "the server is draining (see Retry-After), or the upload stopped or took too long",
    507: "the owner keeps as much as the quotas allow, or the disk of the server is full",
}
PUT = Route(
    method="PUT",
    path=PATH,
    handler=replace_rows,
    surface=SURFACE,
    summary="Make a dataset of these rows, or replace all its rows",
    key=WRITER,
    body=(RowBody, *LINE_TYPES[:2]),
    answers=ANSWERS,
    reply=UploadAnswer,
    query=options.QUERY,
    admit=admit_replacement,
)
POST = replace(
    PUT,
    method="POST",
    path=PATH + "/rows",
    handler=append_rows,
    summary="Append rows to a dataset",
    query=options.QUERY | {"create": "true: a missing dataset is made"},
    admit=admit_rows,
)

ROUTES = (PUT, POST)
