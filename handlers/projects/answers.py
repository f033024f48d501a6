"""How objects of projects are shown: the fields that all share, two sets of status words, and results as replicas wrote them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from engine.projects.objects import Object, ObjectKind, Objects, Project, unknown
from engine.store import JobStatus
from handlers.http.errors import dumps
from handlers.projects import parameters
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


def several(answers: Iterable[web.Response]) -> web.Response:
    """A list of objects, each as it is shown alone."""
    bodies = [body for answer in answers if isinstance(body := answer.body, bytes)]
    return web.Response(body=b"[" + b",".join(bodies) + b"]", content_type="application/json")


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
    """The objects of a kind that the request asks for. ListedError `bad_field`."""
    limit, before = parameters.list_part(request)
    found = await request.app[OBJECTS].list(project, kind, limit=limit, before=before)
    body = dumps([common(request, one) | dict(fields(one)) for one in found], sort_keys=False)
    return web.Response(body=body, content_type="application/json")


def iid_of(request: web.Request, kind: ObjectKind) -> int:
    """The number in the path. EngineError `unknown_...` when it is not a number."""
    iid = parameters.iid(request.match_info["iid"])
    if iid is None:
        raise unknown(kind)
    return iid
