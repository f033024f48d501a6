"""Predictions over HTTP: one record, or a stream of them, on `/{owner}/models/{model}`.

Decides who may predict, with which version, and whether there is room, before a byte of the body is read. Knows nothing of what a
record holds.
"""

import functools
import time
from dataclasses import replace
from typing import NamedTuple

from aiohttp import hdrs, web

from engine.accounts import OWNER_NAME, Caller, Right
from engine.errors import INVALID_PARAMETER, RECORD_CODES, EngineError, model_not_found
from engine.replicas.blocks import Arguments
from engine.repository.index import MODEL_NAME, Version, right_to_use
from engine.streaming.failures import KEY_REVOKED, StreamFailure
from engine.streaming.predictions import Prediction
from handlers.http.auth import caller_of
from handlers.http.bodies import NDJSON, check_head, read_whole, undecodable
from handlers.http.connections import guarding
from handlers.http.encoded import EncodedResponse
from handlers.http.errors import UNSUPPORTED_MEDIA_TYPE, json_response, status_of
from handlers.http.keys import ACCOUNTS, COMPAT_STATUS, REPOSITORY, REQUEST_TIMEOUT
from handlers.http.models import USE_KEY
from handlers.http.parameters import flag, number
from handlers.http.routes import Parameter, Route, Surface, When, one_word, whole
from handlers.streaming.bulk import BulkExchange
from handlers.streaming.forms import ARROW, Forms, forms_of
from handlers.streaming.keys import PREDICTIONS, STREAMING_LIMITS
from handlers.streaming.results import Result
from handlers.streaming.shapes import HeartbeatAnswer, PredictionAnswer, RecordBody
from handlers.streaming.websocket import Conversation, Question, is_upgrade

SURFACE = Surface(name="streaming")
ALLOWED = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
# The formats of times; any other word is ignored, as an unknown parameter is.
TIMES = ("go", "iso")


class Admission(NamedTuple):
    """A request that may go on.

    caller  owner of the credential, None without one
    """

    version: Version
    caller: Caller | None

    @property
    def user(self) -> str | None:
        return self.caller.name if self.caller else None


ADMISSION = web.RequestKey("admission", Admission)


def is_bulk(request: web.Request) -> bool:
    """Whether the request is a stream."""
    return flag(request, "bulk")


BULK = When("bulk=true", is_bulk)


async def admit(request: web.Request) -> Admission:
    """Check credentials, access, model and capacity, in this order, so that names do not leak. EngineError for a refusal.

    Where the client waits for `100 Continue`, this is called before the body comes and again by the handler, so the result is kept.
    """
    is_kept = hdrs.EXPECT in request.headers
    if is_kept and ADMISSION in request:
        return request[ADMISSION]
    owner, name = request.match_info["owner"], request.match_info["model"]
    caller = await caller_of(request, surface=SURFACE.name)
    if not OWNER_NAME.fullmatch(owner) or not MODEL_NAME.fullmatch(name):
        raise model_not_found()
    version = _find_version(request, caller)
    _vector_arguments(request, version)  # a wrong parameter is refused before the body comes
    if request.method in (hdrs.METH_POST, hdrs.METH_PUT):
        is_stream = is_bulk(request)
        _check_body(request, version, is_stream=is_stream)
        request.app[PREDICTIONS].check_capacity(is_stream=is_stream, user=caller.name if caller else None)
    admission = Admission(version, caller)
    if is_kept:
        request[ADMISSION] = admission
    return admission


def _find_version(request: web.Request, caller: Caller | None) -> Version:
    """The version that answers now: the active one, or the one that `version=N` names, which must be kept."""
    owner, name = request.match_info["owner"], request.match_info["model"]
    return request.app[REPOSITORY].access(caller, owner, name, number(request, "version"))


def _rights(request: web.Request, admission: Admission) -> tuple[Right, ...]:
    """What the caller must keep as long as a stream or a conversation lasts."""
    config = admission.version.config
    model = request.app[REPOSITORY].find(config.owner, config.name)
    right = right_to_use(admission.caller, model) if model else None
    return (right,) if right else ()


def _check_body(request: web.Request, version: Version, *, is_stream: bool) -> None:
    """Refuse a body that cannot be taken, as far as the head tells."""
    if is_stream and forms_of(request).is_arrow_out and _vector_arguments(request, version).get("encoding_format") == "base64":
        raise EngineError(INVALID_PARAMETER, "encoding_format=base64 is for lines; record batches have vectors as they are")
    if is_stream and request.content_type.startswith("multipart/"):
        raise EngineError(UNSUPPORTED_MEDIA_TYPE, "send the file itself: curl --data-binary @file")
    check_head(request, None if is_stream else request.app[STREAMING_LIMITS].body_limit_bytes)


async def predict(request: web.Request) -> web.StreamResponse:
    """POST: one record, or a stream with `?bulk=true`."""
    admission = await admit(request)
    if is_bulk(request):
        return await _stream(request, admission)
    return await _single(request, admission)


async def predict_file(request: web.Request) -> web.StreamResponse:
    """PUT with `?bulk=true`: a stream, as `curl -T FILE` sends it."""
    return await _stream(request, await admit(request))


# Streams


async def _stream(request: web.Request, admission: Admission) -> web.StreamResponse:
    app, forms = request.app, forms_of(request)
    arguments = _stream_arguments(request, admission.version, forms)
    opening = app[PREDICTIONS].stream(
        admission.version, arguments, user=admission.user, is_ordered=flag(request, "ordered"), is_arrow=forms.is_arrow_in
    )
    with guarding(request):  # a client that sends everything before it reads would look like one that never reads
        async with opening as stream:
            response = _stream_response(request, stream.bulk_id, forms)
            exchange = BulkExchange(request, response, stream, app[STREAMING_LIMITS], forms)
            revoke = functools.partial(stream.fail, StreamFailure(KEY_REVOKED))
            with app[ACCOUNTS].while_valid(admission.caller, revoke, *_rights(request, admission)):
                await exchange.run(with_summary=flag(request, "summary"))
        # The stream has given its place and its files back. What is left is to tell the client, which may take seconds.
        return await exchange.end()


def _stream_arguments(request: web.Request, version: Version, forms: Forms) -> Arguments:
    """What the replica is told of the query parameters and, for record batches, of the forms."""
    given, limits = request.query.get("times", "").lower(), request.app[STREAMING_LIMITS]
    times = given if given in TIMES else limits.times
    arguments = {"times": times, "non_vectorized": flag(request, "non_vectorized")} | _vector_arguments(request, version)
    if not forms.is_arrow_in:
        return arguments
    return arguments | {"is_arrow_out": forms.is_arrow_out, "row_limit_bytes": limits.line_limit_bytes}


def _stream_response(request: web.Request, bulk_id: str, forms: Forms) -> web.StreamResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Bulk-Id": bulk_id, "Content-Type": forms.media_type}
    response = web.StreamResponse(headers=headers)
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    else:
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()
    return response


# Single records


async def _single(request: web.Request, admission: Admission) -> web.Response:
    """Answer one record with its result. The status is exactly 200, since old clients take any other status for a failure."""
    record = await _record(request, admission.user)
    arguments = _single_arguments(request, admission.version)
    prediction = await request.app[PREDICTIONS].predict(admission.version, record, arguments)
    return EncodedResponse(Result(_status(request, prediction), prediction))


def _single_arguments(request: web.Request, version: Version) -> Arguments:
    """What the replica is told of the query parameters."""
    if not request.query_string:
        return {}
    unwrap = {"non_vectorized": True} if flag(request, "non_vectorized") else {}
    return unwrap | _vector_arguments(request, version)


def _vector_arguments(request: web.Request, version: Version) -> Arguments:
    """In which form the client wants the vectors of an embedding model; empty for other models. EngineError `invalid_parameter`."""
    if not request.query_string or not version.config.is_embedding:
        return {}
    encoding, dimensions = request.query.get("encoding_format", "float"), number(request, "dimensions")
    if encoding not in ("float", "base64"):
        raise EngineError(INVALID_PARAMETER, "encoding_format must be float or base64")
    if dimensions is None:
        return {"encoding_format": encoding}
    dim = version.config.dim or 0
    if not 1 <= dimensions <= dim:
        raise EngineError(INVALID_PARAMETER, f"dimensions must be an integer between 1 and {dim}")
    return {"encoding_format": encoding, "dimensions": dimensions}


def _status(request: web.Request, prediction: Prediction) -> int:
    if prediction.code is None:
        return 200
    if request.app[COMPAT_STATUS]:
        return 500
    return status_of(RECORD_CODES[prediction.code])


async def _record(request: web.Request, user: str | None) -> bytes:
    """The whole decoded body. EngineError `body_too_large`, `invalid_body`, `too_many_requests`."""
    app = request.app
    body = await read_whole(request, app[STREAMING_LIMITS].body_limit_bytes, app[REQUEST_TIMEOUT], user=user)
    if not body.strip():
        raise undecodable("it is empty")
    return body


# WebSockets


async def _converse(request: web.Request, admission: Admission) -> web.StreamResponse:
    """A WebSocket: one record after the other. Each is answered by the version that is active when its turn comes."""
    find_version = functools.partial(_find_version, request, admission.caller)
    arguments = _single_arguments(request, admission.version)
    conversation = Conversation(request, Question(admission.version.title, find_version, arguments))
    with (
        request.app[PREDICTIONS].conversation(admission.user),
        request.app[ACCOUNTS].while_valid(admission.caller, conversation.revoke, *_rights(request, admission)),
    ):
        return await conversation.run()


# Status


async def status(request: web.Request) -> web.StreamResponse:
    """GET, HEAD: a real heartbeat, for which a replica answers the model's example. With `Upgrade: websocket`: a conversation."""
    admission = await admit(request)
    if is_upgrade(request):
        return await _converse(request, admission)
    is_answering = await request.app[PREDICTIONS].is_answering(admission.version)
    answer: HeartbeatAnswer = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "status": "OK" if is_answering else "ERROR",
    }
    return json_response(answer, status=200 if is_answering else 503)


async def options(request: web.Request) -> web.Response:
    """OPTIONS: the methods that the path takes. No credentials are needed."""
    return web.Response(status=204, headers={"Allow": ALLOWED})


# Routes

QUERY: dict[str, str | Parameter] = {
    "bulk": "true: stream newline-delimited JSON, or record batches of Arrow, in both directions",
    "ordered": "true: results in the order of the input (streams)",
    "summary": "true: one more line at the end, with counts (streams); of record batches, in the metadata of one without rows",
    "non_vectorized": "true: an array of one element at the top level of a result becomes that element",
    "version": whole("use this kept version instead of the active one", 1),
    "times": one_word("go or iso: the format of start_time and end_time (streams); the default is SLUICE_TIMES", TIMES),
    "encoding_format": one_word("float (default) or base64: the form of an embedding model's vectors", ("float", "base64")),
    "dimensions": whole("keep only the first N values of such a vector and scale it back to length 1", 1),
}
REFUSALS = {
    401: "credentials are missing or wrong",
    403: "a read-only key cannot use a model of another owner",
    404: "there is no such model",
    406: "Accept asks for record batches, and the body has none",
    415: "the body is a form, or its Content-Encoding is unknown",
    417: "Expect names something other than 100-continue",
    429: "too many streams or requests; see Retry-After",
    503: "the server is draining, no replica is alive, or the model does not load; see Retry-After",
}
ANSWERS = {
    200: "a result, or the results of a stream as they finish",
    400: "the body could not be decoded, or a parameter is wrong",
    413: "the record is larger than SLUICE_BODY_LIMIT_BYTES",
    422: "the record was refused",
    500: "the model failed on the record",
} | REFUSALS
STREAM_ANSWERS = {200: "results as they finish", 400: "a parameter is wrong, or a schema cannot be read"} | REFUSALS
PATH = "/{owner}/models/{model}"

POST = Route(
    method="POST",
    path=PATH,
    handler=predict,
    surface=SURFACE,
    summary="Predict: one record, or a stream",
    key=USE_KEY,
    body=(RecordBody, NDJSON, ARROW),
    answers=ANSWERS,
    reply=(PredictionAnswer, NDJSON, ARROW),
    query=QUERY,
    admit=admit,
)
# The publish surface has a route of the same method and path for all other requests.
PUT = Route(
    method="PUT",
    path=PATH,
    handler=predict_file,
    when=BULK,
    surface=SURFACE,
    summary="predict a stream",
    key=USE_KEY,
    body=(NDJSON, ARROW),
    answers=STREAM_ANSWERS,
    reply=(NDJSON, ARROW),
    query=QUERY,
    admit=admit,
)

ROUTES = (
    POST,
    replace(POST, path=PATH + "/{file}", summary="The same; the last segment of the path is ignored"),
    PUT,
    replace(PUT, path=PATH + "/{file}", summary="The same; curl -T appends the file's name"),
    Route(
        method="GET",
        path=PATH,
        handler=status,
        surface=SURFACE,
        summary="Status, after a heartbeat of the model; with Upgrade: websocket a socket that takes one record per message",
        key=USE_KEY,
        answers={101: "the WebSocket is open", 200: "OK", 400: "the WebSocket handshake is wrong", 503: "ERROR"} | REFUSALS,
        reply=HeartbeatAnswer,
        replies={503: HeartbeatAnswer},
        query={name: QUERY[name] for name in ("non_vectorized", "version")},
    ),
    Route(
        method="HEAD",
        path=PATH,
        handler=status,
        surface=SURFACE,
        summary="Status without a body",
        key=USE_KEY,
        answers={200: "OK", 503: "ERROR"} | REFUSALS,
    ),
    Route(
        method="OPTIONS",
        path=PATH,
        handler=options,
        surface=SURFACE,
        summary="Methods of this path",
        key="none",
        answers={204: "see Allow"},
    ),
)
