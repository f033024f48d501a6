"""From an engine error to an HTTP answer: which status a kind of error has, and the shape of a refusal on most surfaces.

Every status of a refusal is chosen here, except the 422 of `/embeddings` for every fault of a body (handlers/embeddings/simple.py).
"""

import ujson
from aiohttp import web

from engine.datasets.changes import VERSION_CHANGED
from engine.errors import (
    DISK_FULL,
    MODEL_BUILDING,
    MODEL_NOT_FOUND,
    MODEL_OFFLINE,
    NO_INSTANCES,
    TIMED_OUT,
    Code,
    DetailedError,
    EngineError,
    Kind,
)
from engine.repository.incoming import INVALID_MODEL
from engine.repository.quotas import QUOTA_EXCEEDED
from engine.repository.serving import LOAD_FAILED
from handlers.http.keys import COMPAT_STATUS

# Reasons that only HTTP has.
NOT_FOUND = Code("not_found", Kind.NOT_FOUND, "there is no such path")
METHOD_NOT_ALLOWED = Code("method_not_allowed", Kind.INVALID, "the path does not take this method")
UNSUPPORTED_MEDIA_TYPE = Code("unsupported_media_type", Kind.INVALID, "the content type or encoding is not accepted")
NOT_ACCEPTABLE = Code("not_acceptable", Kind.INVALID, "Accept names no format that the path can answer in")
EXPECTATION_FAILED = Code("expectation_failed", Kind.INVALID, "Expect names something other than 100-continue")

STATUSES = {
    Kind.UNIDENTIFIED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.MALFORMED: 400,
    Kind.INVALID: 422,
    Kind.TOO_LARGE: 413,
    Kind.OVERLOADED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.TOO_SLOW: 408,
    Kind.FAILED: 500,
    Kind.EXPIRED: 504,
    Kind.FULL: 507,
}
HTTP_STATUSES: dict[Code, int] = {
    METHOD_NOT_ALLOWED: 405,
    NOT_ACCEPTABLE: 406,
    VERSION_CHANGED: 412,
    UNSUPPORTED_MEDIA_TYPE: 415,
    EXPECTATION_FAILED: 417,
}

# Codes of routing errors and of refused records that ScienceOps answered with 500; so do we under SLUICE_COMPAT_STATUS.
COMPAT_CODES = frozenset({MODEL_NOT_FOUND, NO_INSTANCES, MODEL_BUILDING, MODEL_OFFLINE, TIMED_OUT})

# Codes that the answer shows beside the message: programs read what publishing refuses, and why a model is offline.
CODES_SHOWN_IN_ANSWERS = frozenset({INVALID_MODEL, LOAD_FAILED, MODEL_OFFLINE, QUOTA_EXCEEDED, DISK_FULL})

REALM = 'Basic realm="sluice"'


def status_of(code: Code) -> int:
    """The status of a refusal: that of the code's kind, except for the reasons that only HTTP has."""
    return HTTP_STATUSES.get(code) or STATUSES[code.kind]


def refuse(request: web.Request, error: EngineError) -> web.Response:
    """Answer a request that is refused before its first byte: `{"error": message}`, for CODES_SHOWN_IN_ANSWERS also `code`."""
    status = 500 if request.app[COMPAT_STATUS] and error.code in COMPAT_CODES else status_of(error.code)
    body = {"error": error.message}
    if error.code in CODES_SHOWN_IN_ANSWERS:
        body["code"] = error.code
    return json_response(body, status=status, headers=refusal_headers(status, error.retry_after_s))


def refuse_with_code(request: web.Request, error: EngineError) -> web.Response:
    """Answer a refused request with a message and a code and, where they are known, the place and a hint."""
    details = error.details if isinstance(error, DetailedError) else {}
    return coded_refusal({"message": error.message, "code": error.code, **details}, error)


def coded_refusal(body: dict[str, object], error: EngineError) -> web.Response:
    """A refusal whose body has its keys in an order of its own."""
    status = status_of(error.code)
    return json_response(body, status=status, headers=refusal_headers(status, error.retry_after_s), sort_keys=False)


def refusal_headers(status: int, retry_after_s: int | None) -> dict[str, str]:
    """The headers of a refusal in any shape."""
    headers = {"WWW-Authenticate": REALM} if status == 401 else {}
    return headers if retry_after_s is None else headers | {"Retry-After": str(retry_after_s)}


def json_response(
    value: object, *, status: int = 200, headers: dict[str, str] | None = None, sort_keys: bool = True
) -> web.Response:
    """An answer that the server process itself encodes; the results of records come encoded from a replica."""
    return web.Response(body=dumps(value, sort_keys=sort_keys), status=status, content_type="application/json", headers=headers)


def dumps(value: object, *, sort_keys: bool = True) -> bytes:
    """Compact JSON. Keys stand in alphabetical order, except where a surface follows a shape with an order of its own."""
    return ujson.dumps(value, sort_keys=sort_keys, escape_forward_slashes=False, ensure_ascii=False).encode(errors="replace")
