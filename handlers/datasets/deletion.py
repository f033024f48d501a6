"""Rows deleted by a condition over HTTP. A replica reads the body, and says which rows the condition holds for."""

from typing import Any

from aiohttp import hdrs, web
from pydantic import BaseModel

from engine.datasets.catalogue import dataset_not_found
from engine.datasets.deletion import Deletion
from engine.errors import EngineError
from handlers.datasets.admission import (
    CHANGE_REFUSALS,
    PATH,
    SURFACE,
    WRITER,
    DatasetPath,
    conditions,
    etag,
    writable,
)
from handlers.datasets.options import check_known
from handlers.datasets.shapes import DeletionAnswer
from handlers.datasets.uploads import ROW_LIMITS
from handlers.http.bodies import check_head, read_whole
from handlers.http.errors import UNSUPPORTED_MEDIA_TYPE, json_response
from handlers.http.keys import REQUEST_TIMEOUT
from handlers.http.routes import Route
from handlers.http.uploads import confirm_change

DELETION = web.AppKey("deletion", Deletion)
ADMITTED = web.RequestKey("admitted_deletion", DatasetPath)


async def admit(request: web.Request) -> DatasetPath:
    """Check credentials, rights and conditions, then what the head tells of the body. EngineError for a refusal."""
    if ADMITTED not in request:
        path = await writable(request)
        if path.dataset is None:
            raise dataset_not_found(path.title)
        conditions(request, must_exist=True).check(path.title, path.dataset)
        if hdrs.CONTENT_TYPE in request.headers and request.content_type != "application/json":
            raise EngineError(UNSUPPORTED_MEDIA_TYPE, "Send the condition as application/json.")
        check_head(request, request.app[ROW_LIMITS].query_body_limit_bytes)
        check_known(request)
        request[ADMITTED] = path
    return request[ADMITTED]


async def delete_rows(request: web.Request) -> web.Response:
    """POST: a new version without the rows for which the condition holds, if there are any."""
    path = await admit(request)
    if path.dataset is None:
        raise dataset_not_found(path.title)
    limit_bytes = request.app[ROW_LIMITS].query_body_limit_bytes
    body = await read_whole(request, limit_bytes, request.app[REQUEST_TIMEOUT], user=path.caller.name)
    wanted = conditions(request, must_exist=True)
    deleted = await request.app[DELETION].delete(
        path.dataset, body, path.caller, wanted, confirm=lambda: confirm_change(request, path.caller, path.right, path.name)
    )
    version = deleted.version
    answer: DeletionAnswer = {
        "dataset": f"hub://{path.title}",
        "version": version.number,
        "rows": version.num_rows,
        "deleted": deleted.num_rows,
    }
    return json_response(answer, headers=etag(version.number), sort_keys=False)


class RowDeletion(BaseModel):
    """Body of a deletion. For /openapi.json only: a replica reads the bodies."""

    where: str
    params: list[Any] | dict[str, Any] | None = None


ROUTES = (
    Route(
        method="POST",
        path=PATH + "/delete",
        handler=delete_rows,
        surface=SURFACE,
        summary="Delete the rows for which a condition holds",
        key=WRITER,
        body=RowDeletion,
        answers=CHANGE_REFUSALS
        | {
            200: "dataset, version, rows, and how many were deleted",
            413: "the body is larger than SLUICE_QUERY_BODY_LIMIT_BYTES",
            415: "the body is not JSON, or its Content-Encoding is unknown",
            429: "too many queries; see Retry-After",
            504: "finding the rows took too long",
            507: "the disk of the server is full",
        },
        reply=DeletionAnswer,
        admit=admit,
    ),
)
