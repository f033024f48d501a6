"""Operations: is the server well, what has it done, and what can be asked of it."""

import prometheus_client
from aiohttp import web

from engine import metrics
from handlers.http.auth import caller_of, require_admin
from handlers.http.errors import json_response
from handlers.http.keys import ANONYMOUS, ENGINE, REPOSITORY
from handlers.http.routes import Route


async def healthcheck(request: web.Request) -> web.Response:
    """From memory, so that it answers while everything else is busy."""
    engine = request.app[ENGINE]
    health = engine.health
    status = 200 if health == "ok" else 503
    headers = {"Cache-Control": "no-store"}
    if "application/json" in request.headers.get("Accept", ""):
        answer = {
            "models": len(request.app[REPOSITORY].models()),
            "replicas": engine.num_replicas(),
            "status": health,
            "streams": engine.num_streams,
        }
        return json_response(answer, status=status, headers=headers)
    return web.Response(text=health, status=status, headers=headers)


async def show_metrics(request: web.Request) -> web.Response:
    """Prometheus text. The labels name models, so it takes the admin's key unless SLUICE_ANONYMOUS opens it."""
    caller = await caller_of(request, surface="metrics")
    if caller is not None and "metrics" not in request.app[ANONYMOUS]:
        require_admin(caller)
    text = prometheus_client.generate_latest(metrics.REGISTRY)
    return web.Response(body=text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


ROUTES = [
    Route(
        "GET",
        "/healthcheck",
        healthcheck,
        "Whether the server can score",
        "none",
        None,
        {200: "ok", 503: "starting, draining or no replicas"},
    ),
    Route(
        "GET",
        "/metrics",
        show_metrics,
        "Prometheus metrics",
        "admin",
        None,
        {200: "text", 401: "no credentials", 403: "not the admin"},
    ),
]
