"""What the server does for every request: count it, and turn every error into an answer."""

import asyncio
import logging
import time

from aiohttp import web

from engine import disk, metrics
from engine.errors import BUSY, DISK_FULL, INTERNAL, TIMED_OUT, EngineError
from engine.store import StoreBusy, StoreFull
from handlers.http.bodies import undecodable
from handlers.http.connections import check_spare, has_more, is_spare
from handlers.http.memory import BODY_MEMORY
from handlers.http.origins import ORIGINS
from handlers.http.routes import ROUTE_TABLE, Handler
from server.open_requests import OPEN_REQUESTS

log = logging.getLogger("sluice.http")

SWITCHED = 101


async def answer_everything(handler: Handler, request: web.Request) -> web.StreamResponse:
    """The outermost step of every request, around the handler of its route."""
    started = time.monotonic()
    app = request.app
    does_count = app[OPEN_REQUESTS].began()
    has_spare_place = is_spare(request)
    try:
        if has_more(request):
            await asyncio.sleep(0)  # so that others have their turn between them
        if has_spare_place:
            check_spare(request)
        response = app[ORIGINS].admit(request) or await handler(request)
    except web.HTTPException:
        raise
    except ConnectionError as error:
        response = web.Response(status=400)  # the client has gone, so nobody will read this
        error.__traceback__ = None
    except Exception as error:  # every error becomes an answer
        response = app[ROUTE_TABLE].refuse(request, _refusal(request, error))
        error.__traceback__ = None  # the request keeps an error of its body, and with it all that the frames of its traceback hold
    finally:
        app[BODY_MEMORY].release(request)
        app[OPEN_REQUESTS].ended(does_count)
    if not response.prepared and (has_spare_place or (request.can_read_body and not request.content.at_eof())):
        response.force_close()  # others wait for the place, or the rest of the body is not read and would be the next request
    if response.status != SWITCHED:  # a WebSocket was counted when it opened: how long it lives is not an answer time
        surface = app[ROUTE_TABLE].surface_name(request)
        metrics.request_answered(surface, response.status, time.monotonic() - started)
    return response


def _refusal(request: web.Request, error: Exception) -> EngineError:
    """The error that the client is told of."""
    if disk.is_full(error) or isinstance(error, StoreFull):
        error = disk.disk_full()
    if isinstance(error, EngineError):
        if error.code is DISK_FULL:  # the person who runs the server must hear of it too
            log.error("disk full method=%s path=%s", request.method, request.path)
        metrics.REJECTED.labels(error.code).inc()
        return error
    if isinstance(error, StoreBusy):
        log.error("database busy method=%s path=%s", request.method, request.path)
        metrics.REJECTED.labels(BUSY).inc()
        return EngineError(BUSY, "the database is busy", retry_after_s=1)
    if isinstance(error, TimeoutError):
        return EngineError(TIMED_OUT, "timed out", retry_after_s=1)
    if isinstance(error, web.RequestPayloadError):
        return undecodable(error)
    # A fault of ours, the last resort: we log all of it, and the client learns nothing but the code.
    log.error("request failed method=%s path=%s", request.method, request.path, exc_info=error)
    return EngineError(INTERNAL, "internal error")
