"""From an engine error to an HTTP answer: the one table of statuses, and the one shape of a refusal."""

import ujson
from aiohttp import web

from engine.errors import EngineError

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

# What ScienceOps answered with 500: routing errors and refused records. Only with SLUICE_COMPAT_STATUS.
COMPAT_CODES = frozenset({"model_not_found", "no_instances", "model_building", "timed_out"})

# Codes that stand in the answer, too: what publishing refuses is read by programs.
TOLD_CODES = frozenset({"invalid_model", "load_failed"})

REALM = 'Basic realm="sluice"'


def dumps(value: object) -> bytes:
    """Compact JSON with keys in alphabetical order, the way every answer of this surface is written."""
    return ujson.dumps(value, sort_keys=True, escape_forward_slashes=False, ensure_ascii=False).encode(errors="replace")


def json_response(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """An answer of the server process itself (never of a record: those come encoded from a replica)."""
    return web.Response(body=dumps(value), status=status, content_type="application/json", headers=headers)


def refusal(error: EngineError, *, compat: bool = False) -> web.Response:
    """The answer to a request that is refused before its first byte: `{"error": message}`, for some with `code`; status by code."""
    status = 500 if compat and error.code in COMPAT_CODES else STATUSES[error.code]
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if status == 401:
        headers["WWW-Authenticate"] = REALM
    body = {"error": error.message}
    if error.code in TOLD_CODES:
        body["code"] = error.code
    return json_response(body, status=status, headers=headers)
