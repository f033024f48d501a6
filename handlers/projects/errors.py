"""The errors of this surface: one shape for refused requests and for jobs that failed, and the words that only it uses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web
from multidict import CIMultiDict

from engine.errors import (
    DISK_FULL,
    INVALID_BODY,
    INVALID_PARAMETER,
    INVALID_REQUEST,
    NO_CREDENTIALS,
    UNAUTHORIZED,
    UNKNOWN_FIELD,
    Code,
    EngineError,
    ListedError,
)
from engine.projects.codes import BAD_FIELD, BAD_JSON
from handlers.http.errors import REALM, dumps, status_of
from handlers.http.routes import Surface

STORAGE_FULL = "storage_full"
# Codes that the whole server shares -> what this surface says in their place.
WORDS: Mapping[Code, str] = {
    NO_CREDENTIALS: UNAUTHORIZED,
    DISK_FULL: STORAGE_FULL,
    INVALID_BODY: BAD_JSON,
    INVALID_PARAMETER: BAD_FIELD,
    INVALID_REQUEST: BAD_FIELD,
}
# What people are told who sent the wrong credentials here, where most send a token.
MESSAGES: Mapping[Code, str] = {
    NO_CREDENTIALS: "Send a token, as `Authorization: Bearer slu_...`, or user and key (Basic).",
    UNAUTHORIZED: "The user, the key or the token is wrong.",
}
# Statuses that this surface has of its own: a body that can be read is 422 whatever is wrong with it.
STATUSES: Mapping[Code, int] = {UNKNOWN_FIELD: 422, INVALID_PARAMETER: 422}
# What a script should send, and what a browser knows how to ask for.
CHALLENGES = ("Bearer", REALM)
# An answer has at most this many details.
MAX_DETAILS = 100


def refuse(request: web.Request, error: EngineError) -> web.Response:
    """Answer a request that is refused before its first byte."""
    return _answer(error, [", ".join(CHALLENGES)])


def refuse_page(request: web.Request, error: EngineError) -> web.Response:
    """The same for a page. Chromium asks for a password only if Basic stands in a header of its own."""
    return _answer(error, CHALLENGES)


def _answer(error: EngineError, challenges: Iterable[str]) -> web.Response:
    status = STATUSES.get(error.code) or status_of(error.code)
    headers = CIMultiDict((hdrs.WWW_AUTHENTICATE, challenge) for challenge in challenges if status == 401)
    if error.retry_after_s is not None:
        headers[hdrs.RETRY_AFTER] = str(error.retry_after_s)
    body = dumps({"Error": error_object(error)}, sort_keys=False)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def error_object(error: EngineError) -> dict[str, Any]:
    """`Error` in a refusal, and in the answer of a job that failed."""
    details: Sequence[Mapping[str, Any]] = ()
    total = 0
    if isinstance(error, ListedError):
        details, total = error.details, error.total
    word, message = WORDS.get(error.code, error.code), MESSAGES.get(error.code, error.message)
    return {"Code": word, "Message": message, "Details": list(details[:MAX_DETAILS]), "DetailsTotal": total}


SURFACE = Surface(name="projects", refuse=refuse, prefixes=("/api/v1", "/v1"), schema="ListedError")
PAGE_SURFACE = Surface(name="projects", refuse=refuse_page, schema="ListedError")
