"""From an engine error to an HTTP answer: the one table of statuses, and the shape of a refusal on most surfaces."""

import ujson
from aiohttp import web

from engine.errors import EngineError
from handlers.http.keys import COMPAT_STATUS

STATUSES = {
    "no_credentials": 401,
    "unauthorized": 401,
    "full_key_needed": 403,
    "forbidden": 403,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "unsupported_media_type": 415,
    "expectation_failed": 417,
    "invalid_body": 400,
    "body_too_large": 413,
    "invalid_request": 422,
    "invalid_parameter": 400,
    "too_many_inputs": 400,
    "context_length_exceeded": 400,
    "invalid_token": 400,
    "name_taken": 409,
    "invalid_model": 422,
    "load_failed": 500,
    "shipped_model": 409,
    "active_version": 409,
    "too_many_streams": 429,
    "too_many_requests": 429,
    "shutting_down": 503,
    "no_instances": 503,
    "model_building": 503,
    "timed_out": 503,
    "internal": 500,
}

# Codes of routing errors and of refused records that ScienceOps answered with 500; so do we under SLUICE_COMPAT_STATUS.
COMPAT_CODES = frozenset({"model_not_found", "no_instances", "model_building", "timed_out"})

# Codes that the answer shows beside the message, because programs read what publishing refuses.
TOLD_CODES = frozenset({"invalid_model", "load_failed"})

REALM = 'Basic realm="sluice"'


def refuse(request: web.Request, error: EngineError) -> web.Response:
    """Answer a request that is refused before its first byte: `{"error": message}`, for TOLD_CODES also `code`."""
    status = 500 if request.app[COMPAT_STATUS] and error.code in COMPAT_CODES else STATUSES[error.code]
    body = {"error": error.message}
    if error.code in TOLD_CODES:
        body["code"] = error.code
    return json_response(body, status=status, headers=refusal_headers(status, error.retry_after_s))


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
