"""How objects of projects are shown: the fields that all share, two sets of words for how one stands, and its result as it is."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from engine.errors import INVALID_PARAMETER, EngineError
from engine.projects.objects import Object, ObjectKind, Objects, Project, unknown
from engine.store import JobStatus
from handlers.http.errors import dumps
from handlers.projects.errors import WORDS

OBJECTS = web.AppKey("project_objects", Objects)

ENDS: Mapping[JobStatus, str] = {"waiting": "pending", "error": "failed", "cancelled": "cancelled"}
DATA_WORDS: Mapping[JobStatus, str] = {**ENDS, "started": "processing", "success": "complete"}
MODEL_WORDS: Mapping[JobStatus, str] = {**ENDS, "started": "running", "success": "completed"}
STATUS_WORDS: Mapping[ObjectKind, Mapping[JobStatus, str]] = {
    "upload": DATA_WORDS,
    "dataset": DATA_WORDS,
    "attribution_set": DATA_WORDS,
    "model": MODEL_WORDS,
    "attribution": MODEL_WORDS,
}
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
# No number of an object is larger.
MAX_DIGITS = 15

LIST_QUERY = {
    "limit": f"how many, from 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} without it",
    "before": "only those with lower numbers than this IId",
}


def shown(
    request: web.Request, found: Object, fields: Mapping[str, Any], *, result: Mapping[str, Any], status: int = 200
) -> web.Response:
    """One object.

    fields  what this kind shows beside the common fields
    result  the keys of its result, with what they show before there is one
    """
    about = common(request, found) | dict(fields)
    if found.result is None:
        about |= result
    body = dumps(about, sort_keys=False)
    if found.result is not None:
        body = spliced(body, found.result.encode())
    return web.Response(body=body, status=status, content_type="application/json")


def common(request: web.Request, found: Object) -> dict[str, Any]:
    """The fields that all objects have."""
    return {
        "Status": STATUS_WORDS[found.kind][found.status],
        "IId": found.iid,
        "CreatedAt": found.created_at,
        "CreatedBy": found.created_by,
        "StartedAt": found.started_at,
        "FinishedAt": found.finished_at,
        "Attempt": found.attempts,
        "Progress": request.app[OBJECTS].progress(found),
        "Warnings": found.warnings,
        "Error": _error(found.error),
    }


def _error(error: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Why a job has failed, in the words of this surface."""
    if error is None:
        return None
    code = error["code"]
    return {
        "Code": WORDS.get(code, code),
        "Message": error["message"],
        "Details": error["details"],
        "DetailsTotal": error["details_total"],
    }


def spliced(first: bytes, second: bytes) -> bytes:
    """One JSON object with the keys of two, of which the first has some."""
    inner = second.strip()[1:]
    return first[:-1] + (b"," if inner.strip() != b"}" else b"") + inner


async def listed(
    request: web.Request, project: Project, kind: ObjectKind, fields: Callable[[Object], Mapping[str, Any]]
) -> web.Response:
    """The objects of a kind that the request asks for. EngineError `invalid_parameter`."""
    limit = _number(request, "limit", DEFAULT_LIMIT, MAX_LIMIT)
    before = _number(request, "before", None, None)
    found = await request.app[OBJECTS].list(project, kind, limit=limit or DEFAULT_LIMIT, before=before)
    body = dumps([common(request, one) | dict(fields(one)) for one in found], sort_keys=False)
    return web.Response(body=body, content_type="application/json")


def _number(request: web.Request, name: str, default: int | None, most: int | None) -> int | None:
    text = request.query.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else 0
    if number < 1 or (most is not None and number > most):
        raise EngineError(INVALID_PARAMETER, f"The parameter {name} is a number from 1{f' to {most}' if most else ''}.")
    return number


def iid_of(request: web.Request, kind: ObjectKind) -> int:
    """The number in the path. EngineError `unknown_...` when it is none."""
    text = request.match_info["iid"]
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise unknown(kind)
    return int(text)
