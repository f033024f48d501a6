"""What the surfaces share that are open to pages of every origin: their headers, the answer to OPTIONS, and errors of six keys.

Knows no code of such a surface: handlers/preview/errors.py has the table of its own.
"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from engine.errors import EngineError, Kind
from handlers.http.errors import json_response, refusal_headers, status_of

ERROR_CODE = "X-Error-Code"
# On every answer, refusals and files too.
OPEN_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "X-Error-Code, X-Revision, X-Preview-Status, X-Preview-Truncated, X-Queue-Position, Retry-After, ETag, Content-Range"
    ),
}
# What a page may send. A browser asks once a day.
OPTIONS_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Range, If-None-Match, X-Webhook-Secret",
    "Access-Control-Max-Age": "86400",
}
NO_STORE = "no-store"


def six_keys(
    status: int, exception: str, message: str, *, cause: tuple[str, str] | None = None, traceback: Sequence[str] = ()
) -> dict[str, Any]:
    """The body of an error. Without a cause (class and message) the error is its own."""
    cause_exception, cause_message = cause or (exception, message)
    return {
        "status_code": status,
        "exception": exception,
        "message": message,
        "cause_exception": cause_exception,
        "cause_message": cause_message,
        "cause_traceback": list(traceback),
    }


def exception_of(status: int) -> str:
    """What a status without a line in a table is called."""
    return f"Status{status}Error"


def shown_code(word: str) -> str:
    """A code as the header shows it: `method_not_allowed` is MethodNotAllowed."""
    return "".join(part.capitalize() for part in word.split("_"))


def refuse(request: web.Request, error: EngineError) -> web.Response:
    """Answer a request that is refused before its first byte, for a code that no table names."""
    status = status_of(error.code)
    message = "Unexpected error." if error.code.kind is Kind.FAILED else error.message
    headers = {ERROR_CODE: shown_code(error.code), "Cache-Control": NO_STORE, **refusal_headers(status, error.retry_after_s)}
    return json_response(six_keys(status, exception_of(status), message), status=status, headers=headers, sort_keys=False)
