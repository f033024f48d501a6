"""What is done for every request: count it, and turn whatever went wrong into an answer."""

import logging
import time

from aiohttp import web
from handlers.http.routes import Handler, refusal_to, surface_of

from engine import metrics
from engine.errors import EngineError

log = logging.getLogger("sluice.http")

SWITCHED = 101


@web.middleware
async def answer_everything(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost step."""
    started = time.monotonic()
    response = await _answer(request, handler)
    if not response.prepared and request.can_read_body and not request.content.at_eof():
        response.force_close()  # the rest of the body is not read: the connection cannot serve another request
    surface = surface_of(request)
    if response.status != SWITCHED:  # a WebSocket was counted when it opened: how long it lives is no answer time
        metrics.request_answered(surface, response.status, time.monotonic() - started)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except EngineError as error:
        metrics.REJECTED.labels(error.code).inc()
        return refusal_to(request, error)
    except web.HTTPException:
        raise
    except TimeoutError:
        return refusal_to(request, EngineError("timed_out", "timed out", retry_after_s=1))
    except web.RequestPayloadError as error:
        return refusal_to(request, EngineError("invalid_body", f"could not decode body: {error}"))
    except ConnectionError:
        return web.Response(status=400)  # the client has gone: nobody will read this
    except Exception:  # the last resort: a fault of ours, told to us in full and to the client not at all
        log.exception("request failed method=%s path=%s", request.method, request.path)
        return refusal_to(request, EngineError("internal", "internal error"))
