"""Predictions over HTTP: one record, or a stream of them, on `/{owner}/models/{model}`.

Decides who may, which version, and whether there is room, before a byte of the body is read. Knows nothing of what a record holds.
"""

import functools
import time
from dataclasses import dataclass

from aiohttp import hdrs, web

from engine.accounts import OWNER_NAME, Caller
from engine.engine import Prediction
from engine.errors import EngineError
from engine.frames import Header
from engine.repository.index import MODEL_NAME, Version
from handlers.http.auth import caller_of
from handlers.http.bodies import check_head, read_whole
from handlers.http.errors import json_response
from handlers.http.keys import BODY_LIMIT, BULK_OPTIONS, COMPAT_STATUS, ENGINE, REPOSITORY, REQUEST_TIMEOUT
from handlers.http.routes import Route, answer_expectation
from handlers.publish import PUBLISHING_ANSWERS, UPLOADS, admit_upload, publish
from handlers.streaming.bulk import Exchange, media_type
from handlers.streaming.websocket import Conversation, Question, is_upgrade

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
    embedding_options(request, version)  # refused before the body comes
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
    check_head(request, None if is_bulk(request) else request.app[BODY_LIMIT])


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
        admission.version, _stream_header(request, admission.version), user=admission.user, is_ordered=_flag(request, "ordered")
    )
    async with stream as running:
        response = _stream_response(request, running.bulk_id)
        exchange = Exchange(request, response, running, app[BULK_OPTIONS])
        return await exchange.run(with_summary=_flag(request, "summary"))


def _stream_header(request: web.Request, version: Version) -> Header:
    """The replica's side of the query parameters."""
    times = "iso" if request.query.get("times", "go").lower() == "iso" else "go"
    return {"times": times, "non_vectorized": _flag(request, "non_vectorized")} | embedding_options(request, version)


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
    prediction = await request.app[ENGINE].predict(admission.version, record, _single_header(request, admission.version))
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


def _single_header(request: web.Request, version: Version) -> Header:
    """The replica's side of the query parameters."""
    unwrap = {"non_vectorized": True} if _flag(request, "non_vectorized") else {}
    return unwrap | embedding_options(request, version)


def embedding_options(request: web.Request, version: Version) -> Header:
    """How an embedding model's vectors are wanted; empty for other models. EngineError `invalid_parameter`."""
    if not request.query_string or version.config.task != "embed":
        return {}
    encoding, dimensions = request.query.get("encoding_format", "float"), request.query.get("dimensions")
    if encoding not in ("float", "base64"):
        raise EngineError("invalid_parameter", "encoding_format must be float or base64")
    if dimensions is None:
        return {"encoding_format": encoding}
    dim = version.config.dim or 0
    number = int(dimensions) if dimensions.isascii() and dimensions.isdigit() and len(dimensions) < 10 else 0
    if not 1 <= number <= dim:
        raise EngineError("invalid_parameter", f"dimensions must be an integer between 1 and {dim}")
    return {"encoding_format": encoding, "dimensions": number}


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
    body = await read_whole(request, request.app[BODY_LIMIT], request.app[REQUEST_TIMEOUT])
    if not body.strip():
        raise EngineError("invalid_body", "could not decode body: it is empty")
    return body


# A socket


async def _converse(request: web.Request, admission: Admission) -> web.StreamResponse:
    """A WebSocket: one record after the other, each answered by the version that is active by then."""
    find_version = functools.partial(_find_version, request, admission.caller)
    header = _single_header(request, admission.version)
    return await Conversation(request, Question(admission.version.title, find_version, header)).run()


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
    "encoding_format": "float (default) or base64: the form of an embedding model's vectors",
    "dimensions": "only so many of the first values of such a vector, at length 1 again",
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
    400: "the body could not be decoded, or a parameter is wrong",
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
