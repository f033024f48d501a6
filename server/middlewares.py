"""What the server does for every request: count it, and turn every error into an answer."""

import logging
import time

from aiohttp import web

from engine import metrics
from engine.errors import INTERNAL, TIMED_OUT, EngineError
from handlers.http.bodies import undecodable
from handlers.http.origins import ORIGINS
from handlers.http.routes import ROUTE_TABLE, Handler

log = logging.getLogger("sluice.http")

SWITCHED = 101


@web.middleware
async def answer_everything(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost step of every request."""
    started = time.monotonic()
    response = await _answer(request, handler)
    if not response.prepared and request.can_read_body and not request.content.at_eof():
        response.force_close()  # the rest of the body is not read, so the connection cannot serve another request
    if response.status != SWITCHED:  # a WebSocket was counted when it opened: how long it lives is not an answer time
        surface = request.app[ROUTE_TABLE].surface_name(request)
        metrics.request_answered(surface, response.status, time.monotonic() - started)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    origins = request.app[ORIGINS]
    try:
        origins.check(request)
        return origins.preflight(request) or await handler(request)
    except web.HTTPException:
        raise
    except ConnectionError:
        return web.Response(status=400)  # the client has gone, so nobody will read this
    except Exception as error:  # every error becomes an answer
        return request.app[ROUTE_TABLE].refuse(request, _refusal(request, error))


def _refusal(request: web.Request, error: Exception) -> EngineError:
    """The error that the client is told of."""
    if isinstance(error, EngineError):
        metrics.REJECTED.labels(error.code).inc()
        return error
    if isinstance(error, TimeoutError):
        return EngineError(TIMED_OUT, "timed out", retry_after_s=1)
    if isinstance(error, web.RequestPayloadError):
        return undecodable(error)
    # A fault of ours, the last resort: we log all of it, and the client learns nothing but the code.
    log.error("request failed method=%s path=%s", request.method, request.path, exc_info=error)
    return EngineError(INTERNAL, "internal error")
