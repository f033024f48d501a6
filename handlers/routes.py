"""The route table: what a surface answers, in one shape from which the router and /openapi.json are both made.

Each handler file ends with its ROUTES; server/app.py joins them, fixed paths before `/{owner}/models/{model}`.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from aiohttp import HttpVersion11, hdrs, web
from pydantic import BaseModel

from engine.errors import EngineError
from handlers.http.errors import refusal
from handlers.http.keys import COMPAT_STATUS, SHAPES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# First path segments that belong to a surface and can never be an owner (compared in lower case).
RESERVED = frozenset(
    [
        "api",
        "v1",
        "v2",
        "models",
        "embeddings",
        "verify",
        "workspaces",
        "datasets",
        "projects",
        "user",
        "users",
        "team",
        "teams",
        "graph_instances",
        "healthcheck",
        "metrics",
        "docs",
        "openapi.json",
        "static",
        "favicon.ico",
        "robots.txt",
        "cache",
        "cache-reports",
        "valid",
        "is-valid",
        "hf_datasets",
        "hf-datasets-count-by-cache-status",
        "queue",
        "queue-dump",
        "queue-dump-waiting-started",
        "webhook",
        "refresh-split",
        "splits",
        "rows",
        "first-rows",
        "size",
        "parquet",
        "statistics",
        "search",
        "filter",
        "events",
        "assets",
    ]
)


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path.

    path       aiohttp pattern without a trailing slash; a trailing slash is always accepted as well
    key        who may call: "none", "any", "full", "admin", or a phrase for the documentation
    body       pydantic model of a JSON request body, or a media type such as "application/x-ndjson", or several, or None
    answers    status -> what it means, for the documentation
    error      schema of a refusal in the documentation (BASE_SCHEMAS of openapi.py)
    expect     handler of `Expect: 100-continue`, or None for the framework's own
    query      query parameter -> what it does
    """

    method: str
    path: str
    handler: Handler
    summary: str
    key: str = "any"
    body: type[BaseModel] | str | tuple[str, ...] | None = None
    answers: dict[int, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    expect: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
    error: str = "Error"


def surface_of(request: web.Request) -> str:
    """The surface a request belongs to, for counting: `streaming`, `accounts`, `operations`, ...; `none` for an unknown path."""
    resource = request.match_info.route.resource
    return SURFACES.get(resource.canonical, "none") if resource is not None else "none"


# Canonical path -> surface; filled by `register`, so that an unknown path can never become a label.
SURFACES: dict[str, str] = {}


def refusal_to(request: web.Request, error: EngineError) -> web.Response:
    """The answer to a request that is refused before its first byte, in the shape of the surface that owns its path."""
    shapes = request.app[SHAPES]
    for prefix, shape in shapes.items():
        if request.path == prefix or request.path.startswith(prefix + "/"):
            response: web.Response = shape(error)
            return response
    return refusal(error, compat=request.app[COMPAT_STATUS])


async def answer_expectation(
    request: web.Request, admit: Callable[[web.Request], Awaitable[object]] | None = None
) -> web.StreamResponse | None:
    """Ask for the body only when `admit` lets the request in; else give the refusal in its place."""
    try:
        if request.headers.get("Expect", "").lower() != "100-continue":
            raise EngineError("expectation_failed", "Expect takes 100-continue only")
        if admit is not None:
            await admit(request)
    except EngineError as error:
        response = refusal_to(request, error)
        response.force_close()
        return response
    if request.transport is not None and request.version >= HttpVersion11:  # RFC 9110, 10.1.1: HTTP/1.0 does not know it
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The framework takes written bytes for a begun answer and would not send an error any more.
    request.writer.output_size = 0
    return None


async def unknown(request: web.Request) -> web.Response:
    """What no route answers: 405 where another method would be, else 404."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if resource.canonical != UNKNOWN:
            allowed |= (await resource.resolve(request))[1]
    if not allowed:
        return refusal_to(request, EngineError("not_found", "not found"))
    response = refusal_to(request, EngineError("method_not_allowed", "method not allowed"))
    response.headers[hdrs.ALLOW] = ", ".join(sorted(allowed, key=METHODS.index))
    return response


async def refuse_unknown(request: web.Request) -> web.StreamResponse:
    """The same in place of `100 Continue`."""
    response = await unknown(request)
    response.force_close()
    return response


# An owner as a first segment: anything but what a surface owns, in any case of letters.
OWNER = f"(?!(?i:{'|'.join(map(re.escape, sorted(RESERVED)))})/)[^/]+"
# Matches what nothing before it did. The router's own answers would come as text, and after `100 Continue`.
UNKNOWN = "/{unknown}"
# The order in which Allow names them.
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def register(app: web.Application, routes: Iterable[Route]) -> None:
    """Add every route, with and without its trailing slash. Where GET answers, HEAD does."""
    routes = list(routes)
    own_head = {route.path for route in routes if route.method == "HEAD"}
    heads = [replace(route, method="HEAD") for route in routes if route.method == "GET" and route.path not in own_head]
    for route in (*routes, *heads):
        pattern = route.path.replace("{owner}", "{owner:" + OWNER + "}") if route.path.startswith("/{owner}") else route.path
        for path in dict.fromkeys((pattern, pattern.rstrip("/") + "/")):
            SURFACES[route.path] = SURFACES[route.path.rstrip("/") + "/"] = route.handler.__module__.rpartition(".")[2]
            app.router.add_route(route.method, path, route.handler, expect_handler=route.expect or answer_expectation)
    app.router.add_route("*", "/{unknown:.*}", unknown, expect_handler=refuse_unknown)
