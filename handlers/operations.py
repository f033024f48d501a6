"""Operations: whether the server is healthy, and what it counts."""

from typing import NotRequired

import prometheus_client
from aiohttp import web
from typing_extensions import TypedDict

from engine import metrics
from handlers.http import sharing
from handlers.http.auth import caller_of, require_admin
from handlers.http.bodies import in_steps, send_whole
from handlers.http.errors import json_response
from handlers.http.keys import ANONYMOUS, ENGINE, HEALTH_DETAILS, JOBS, REPOSITORY, SERVING
from handlers.http.routes import Route, Surface

SURFACE = Surface(name="operations")
# Pages of every origin may ask for the health, as they may ask preview.
HEALTH = Surface(
    name="operations",
    refuse=sharing.refuse,
    prefixes=("/healthcheck",),
    schema="SixKeysError",
    headers=sharing.OPEN_HEADERS,
    options=sharing.OPTIONS_HEADERS,
    redirects_slash=True,
)


class HealthAnswer(TypedDict):
    """`status` is the word that is the whole answer in plain text: ok, starting, draining or no replicas."""

    models: int
    replicas: int
    status: str
    streams: NotRequired[int]


async def healthcheck(request: web.Request) -> web.Response:
    """Tell the health of the engine, from memory, so that it answers while everything else is busy."""
    engine = request.app[ENGINE]
    health = engine.health
    status = 200 if health == "ok" else 503
    headers = {"Cache-Control": "no-store"}
    if "application/json" in request.headers.get("Accept", ""):
        details = {name: tell() for name, tell in request.app[HEALTH_DETAILS].items()}
        answer = details | {
            "models": len(request.app[REPOSITORY].models()),
            "replicas": engine.num_replicas(),
            "status": health,
        }
        return json_response(answer, status=status, headers=headers)
    return web.Response(text=health, status=status, headers=headers)


async def show_metrics(request: web.Request) -> web.StreamResponse:
    """Prometheus text. The labels name models, so only the admin may read it, unless SLUICE_ANONYMOUS opens it to everybody."""
    caller = await caller_of(request, surface="metrics")
    if caller is not None and "metrics" not in request.app[ANONYMOUS]:
        require_admin(caller)
    await request.app[JOBS].count()
    metrics.keep_models(request.app[SERVING].titles())
    texts = await in_steps(request, metrics.texts())
    return await send_whole(request, texts, {"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


ROUTES = (
    Route(
        method="GET",
        path="/healthcheck",
        handler=healthcheck,
        surface=HEALTH,
        summary="Whether the server can score",
        key="none",
        answers={200: "ok", 503: "starting, draining or no replicas"},
        reply=("text/plain", HealthAnswer),
        replies={503: ("text/plain", HealthAnswer)},
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=show_metrics,
        surface=SURFACE,
        summary="Prometheus metrics",
        key="admin",
        answers={200: "text", 401: "credentials are missing or wrong", 403: "the caller is not the admin"},
        reply="text/plain",
    ),
)
