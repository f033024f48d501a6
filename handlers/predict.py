"""Predictions over HTTP: one record, or a stream of them, on `/{owner}/models/{model}`.

Decides who may, which version, and whether there is room, before a byte of the body is read. Knows nothing of what a record holds.
"""

import asyncio
import functools
import time
from dataclasses import dataclass

from aiohttp import hdrs, web

from engine.accounts import OWNER_NAME, Caller
from engine.engine import Prediction
from engine.errors import EngineError
from engine.frames import Header
from engine.repository import MODEL_NAME, Version
from handlers.auth import caller_of
from handlers.bulk import Exchange, media_type, read_some
from handlers.errors import json_response
from handlers.keys import BODY_LIMIT, BULK_OPTIONS, COMPAT_STATUS, ENGINE, REPOSITORY, REQUEST_TIMEOUT
from handlers.lines import ENCODINGS, PLAIN, BadEncoding, decoder
from handlers.publish import PUBLISHING_ANSWERS, UPLOADS, admit_upload, publish
from handlers.routes import Route, answer_expectation
from handlers.websocket import Conversation, Question, is_upgrade

ALLOWED = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
TRUE = frozenset({"true", "1", "yes", "on"})
RECORD_STATUSES = {"model_failed": 500, "timeout": 503}
BODY_CODES = frozenset({"invalid_json", "not_an_object"})


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on.

    caller  who is asking, None for nobody known
    """

    version: Version
    caller: Caller | None

    @property
    def user(self) -> str | None:
        return self.caller.name if self.caller else None


async def admit(request: web.Request) -> Admission:
    """Credentials, access, model, capacity: in this order, so that names do not leak. EngineError says what stands against it."""
    if ADMISSION in request:
        return request[ADMISSION]
    owner, name = request.match_info["owner"], request.match_info["model"]
    caller = await caller_of(request, surface="streaming")
    if not OWNER_NAME.fullmatch(owner) or not MODEL_NAME.fullmatch(name):
        raise EngineError("model_not_found", "model not found")
    version = _find_version(request, caller)
    if request.method in (hdrs.METH_POST, hdrs.METH_PUT):
        _check_body(request)
        request.app[ENGINE].check_capacity(is_stream=is_bulk(request), user=caller.name if caller else None)
    request[ADMISSION] = Admission(version, caller)
    return request[ADMISSION]


ADMISSION = web.RequestKey("admission", Admission)


def _find_version(request: web.Request, caller: Caller | None) -> Version:
    """The version that answers now."""
    owner, name = request.match_info["owner"], request.match_info["model"]
    return request.app[REPOSITORY].access(caller, owner, name, _version(request))


def is_bulk(request: web.Request) -> bool:
    return _flag(request, "bulk")


def _flag(request: web.Request, name: str) -> bool:
    return bool(request.query_string) and request.query.get(name, "").lower() in TRUE


def _version(request: web.Request) -> int | None:
    """The kept version that `version=N` names. What is no number names none."""
    text = request.query.get("version") if request.query_string else None
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _check_body(request: web.Request) -> None:
    """What the head tells of a body that cannot be taken."""
    if is_bulk(request) and request.content_type.startswith("multipart/"):
        raise EngineError("unsupported_media_type", "send the file itself: curl --data-binary @file")
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if encoding not in ENCODINGS:
        raise EngineError("unsupported_media_type", "Content-Encoding must be gzip, deflate or identity")
    limit_bytes = request.app[BODY_LIMIT]
    if not is_bulk(request) and encoding in PLAIN and (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)


async def expect(request: web.Request) -> web.StreamResponse | None:
    """`Expect: 100-continue`: refused requests are answered in its place, so their bodies are never sent."""
    is_publishing = request.method == hdrs.METH_PUT and not is_bulk(request)
    return await answer_expectation(request, admit_upload if is_publishing else admit)


async def predict(request: web.Request) -> web.StreamResponse:
    """POST: one record, or a stream with `?bulk=true`."""
    admission = await admit(request)
    if is_bulk(request):
        return await _stream(request, admission)
    return await _single(request, admission)


async def put(request: web.Request) -> web.StreamResponse:
    """PUT: a stream with `?bulk=true`, as `curl -T` sends it; without, the files of a new version."""
    if not is_bulk(request):
        return await publish(request)
    return await _stream(request, await admit(request))


# Streams


async def _stream(request: web.Request, admission: Admission) -> web.StreamResponse:
    app = request.app
    stream = app[ENGINE].stream(
        admission.version, _stream_header(request), user=admission.user, is_ordered=_flag(request, "ordered")
    )
    async with stream as running:
        response = _stream_response(request, running.bulk_id)
        exchange = Exchange(request, response, running, app[BULK_OPTIONS])
        return await exchange.run(with_summary=_flag(request, "summary"))


def _stream_header(request: web.Request) -> Header:
    """The replica's side of the query parameters."""
    times = request.query.get("times", "go").lower()
    return {"times": "iso" if times == "iso" else "go", "non_vectorized": _flag(request, "non_vectorized")}


def _stream_response(request: web.Request, bulk_id: str) -> web.StreamResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Bulk-Id": bulk_id}
    headers["Content-Type"] = media_type(request.headers.get(hdrs.ACCEPT, ""))
    response = web.StreamResponse(headers=headers)
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    else:
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()
    return response


# Single records


async def _single(request: web.Request, admission: Admission) -> web.Response:
    """One record in, one result out; 200 exactly, since old clients take any other status for a failure."""
    record = await _record(request)
    prediction = await request.app[ENGINE].predict(admission.version, record, _single_header(request))
    return web.Response(
        body=prediction.body,
        status=_status(request, prediction),
        headers={
            hdrs.CONTENT_TYPE: "application/json",
            "X-Queue-Time": f"{prediction.queue_s * 1000:.3f}",
            "X-Inference-Time": f"{prediction.infer_s * 1000:.3f}",
            "X-Total-Time": f"{prediction.total_s * 1000:.3f}",
        },
    )


def _single_header(request: web.Request) -> Header:
    """The replica's side of the query parameters."""
    return {"non_vectorized": True} if _flag(request, "non_vectorized") else {}


def _status(request: web.Request, prediction: Prediction) -> int:
    if prediction.code is None:
        return 200
    if request.app[COMPAT_STATUS]:
        return 500
    if prediction.code in BODY_CODES:
        return 400
    return RECORD_STATUSES.get(prediction.code, 422)


async def _record(request: web.Request) -> bytes:
    """The whole decoded body. EngineError `body_too_large`, `invalid_body`, `timed_out`."""
    content = request.content
    limit_bytes = request.app[BODY_LIMIT]
    if content.is_eof() and hdrs.CONTENT_ENCODING not in request.headers:
        body = content.read_nowait()  # it came with the head, as small bodies do
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
    else:
        async with asyncio.timeout(request.app[REQUEST_TIMEOUT]):
            body = await _long_record(request, limit_bytes)
    if not body.strip():
        raise EngineError("invalid_body", "could not decode body: it is empty")
    return body


async def _long_record(request: web.Request, limit_bytes: int) -> bytes:
    """A body that comes in pieces or is encoded; refused as soon as it is known to be too large."""
    unpack = decoder(request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower())
    body = bytearray()
    try:
        while data := await read_some(request):
            for decoded in unpack.feed(data):
                body += decoded
                if len(body) > limit_bytes:
                    raise _too_large(limit_bytes)
        unpack.finish()
    except (BadEncoding, web.RequestPayloadError) as error:
        raise EngineError("invalid_body", f"could not decode body: {error}") from None
    return bytes(body)


def _too_large(limit_bytes: int) -> EngineError:
    return EngineError("body_too_large", f"body larger than {limit_bytes} bytes")


# A socket


async def _converse(request: web.Request, admission: Admission) -> web.StreamResponse:
    """A WebSocket: one record after the other, each answered by the version that is active by then."""
    find_version = functools.partial(_find_version, request, admission.caller)
    return await Conversation(request, Question(admission.version.title, find_version, _single_header(request))).run()


# Status


async def status(request: web.Request) -> web.StreamResponse:
    """GET, HEAD: a real heartbeat of the model, its example through a replica. With `Upgrade: websocket`: a conversation."""
    admission = await admit(request)
    if is_upgrade(request):
        return await _converse(request, admission)
    is_answering = await request.app[ENGINE].is_answering(admission.version)
    answer = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "status": "OK" if is_answering else "ERROR"}
    return json_response(answer, status=200 if is_answering else 503)


async def options(request: web.Request) -> web.Response:
    """OPTIONS: what the path takes; no credentials asked."""
    return web.Response(status=204, headers={"Allow": ALLOWED})


QUERY = {
    "bulk": "true: stream newline-delimited JSON both ways",
    "ordered": "true: results in the order of the input (streams)",
    "summary": "true: one last line with counts (streams)",
    "non_vectorized": "true: arrays of one element at the top level of a result become that element",
    "version": "a kept version in place of the active one",
    "times": "go (default) or iso: the form of start_time and end_time (streams)",
}
REFUSALS = {
    401: "no credentials, or wrong ones",
    403: "a read-only key on another's model",
    404: "no such model",
    413: "the record is larger than SLUICE_BODY_LIMIT_BYTES",
    415: "a form, or an unknown Content-Encoding",
    417: "an Expect other than 100-continue",
    429: "too many streams or requests; see Retry-After",
    503: "draining, no replica, or the model does not load; see Retry-After",
}
ANSWERS = {
    200: "a result, or result lines as they finish",
    400: "the body could not be decoded",
    422: "the record was refused",
    500: "the model failed on the record",
} | REFUSALS
PATH = "/{owner}/models/{model}"
BODY = "application/x-ndjson"
PUT_SUMMARY = "With bulk=true predict: a stream; without publish: a version of a model"
PUT_KEY = "full, or the owner's to predict; the owner's full, or the admin's to publish"
PUT_ANSWERS = (
    PUBLISHING_ANSWERS
    | REFUSALS
    | {
        200: "result lines as they finish; when publishing, the active version is the same",
        413: "the model is larger than SLUICE_MODEL_LIMIT_BYTES",
        415: "an unknown Content-Encoding, or a form with bulk=true; when publishing, neither application/octet-stream nor a form",
    }
)

ROUTES = [
    Route("POST", PATH, predict, "Predict: one record, or a stream", "full, or the owner's", BODY, ANSWERS, QUERY, expect),
    Route(
        "POST",
        PATH + "/{file}",
        predict,
        "The same; the last segment is ignored",
        "full, or the owner's",
        BODY,
        ANSWERS,
        QUERY,
        expect,
    ),
    Route("PUT", PATH, put, PUT_SUMMARY, PUT_KEY, (BODY, *UPLOADS), PUT_ANSWERS, QUERY, expect),
    Route(
        "PUT",
        PATH + "/{file}",
        put,
        "The same; curl -T appends the file's name",
        PUT_KEY,
        (BODY, *UPLOADS),
        PUT_ANSWERS,
        QUERY,
        expect,
    ),
    Route(
        "GET",
        PATH,
        status,
        "Status, after a heartbeat of the model; with Upgrade: websocket, one record a message",
        "full, or the owner's",
        None,
        {101: "the WebSocket is open", 200: "OK", 400: "no WebSocket handshake", 503: "ERROR"} | REFUSALS,
        {name: QUERY[name] for name in ("non_vectorized", "version")},
    ),
    Route("HEAD", PATH, status, "Status without a body", "full, or the owner's", None, {200: "OK", 503: "ERROR"} | REFUSALS),
    Route("OPTIONS", PATH, options, "Methods of this path", "none", None, {204: "see Allow"}),
]
