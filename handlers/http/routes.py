"""Routes: what each surface answers, in one shape from which the router, the refusals and /openapi.json are made.

Each surface ends with its ROUTES. server/app.py joins them into one RouteTable, with fixed paths before `/{owner}/models/{model}`.
Knows nothing of what a route does.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from pydantic import BaseModel

from engine.errors import EngineError
from handlers.http import errors
from handlers.http.errors import EXPECTATION_FAILED, METHOD_NOT_ALLOWED, NOT_FOUND

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# What is called with a handler and a request for it.
Around = Callable[[Handler, web.Request], Awaitable[web.StreamResponse]]
# A JSON schema, or a part of one.
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FormBody:
    """A form with files, for the documentation.

    parts   name of a part -> what its file is
    needed  the names of those that must be there
    many    the names of those that may come several times
    """

    parts: Mapping[str, str]
    needed: tuple[str, ...]
    many: tuple[str, ...] = ()


# A pydantic model of a JSON body, a media type, or a form.
BodyKind = type[BaseModel] | str | FormBody

# The first path segments of preview, which follows an API that has no prefix of its own.
PREVIEW_WORDS = (
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
    "assets",
)
# First path segments that belong to a surface and can never be an owner (compared in lower case).
RESERVED = frozenset(
    [
        *PREVIEW_WORDS,
        "api",
        "v1",
        "v2",
        "models",
        "embeddings",
        "embed",
        "info",
        "health",
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
        "search",
        "filter",
        "events",
        "models.txt",  # no route, but a file beside the folders of owners
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """One surface of the server: how its requests are counted and how it refuses them.

    name      label `surface` of the metrics, and tag in /openapi.json; two shapes of one surface share a name
    refuse    makes the answer to a request that is refused before its first byte
    prefixes  paths that the surface owns: an unknown path at or below one of them is refused in the surface's shape
    schema    name of the schema of a refusal in /openapi.json (WRITTEN of handlers/openapi/schemas.py)
    is_open_to_pages  SLUICE_CORS_ORIGINS opens it to pages of other origins
    headers   of every answer
    options   headers of the answer 204 to OPTIONS; without any the method is refused
    redirects_slash  a path with a trailing slash is redirected to the one without; else both are answered
    """

    name: str
    refuse: Callable[[web.Request, EngineError], web.Response] = errors.refuse
    prefixes: tuple[str, ...] = ()
    schema: str = "Error"
    is_open_to_pages: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    redirects_slash: bool = False

    @property
    def is_open_to_all(self) -> bool:
        """Pages of every origin may ask it."""
        return bool(self.options)


@dataclass(frozen=True, slots=True)
class When:
    """A condition that a request meets or not.

    text   the condition as documents write it, such as `bulk=true`
    holds  whether a request meets it
    """

    text: str
    holds: Callable[[web.Request], bool]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query whose values are known, for the documentation: the surface itself decides what a value means.

    text     what it does
    schema   what a value may be. It names no default: programs made from the document would send it, also where a setting of the
             server has another one
    is_list  it may be given several times
    """

    text: str
    schema: Schema
    is_list: bool = False


def whole(text: str, least: int = 0, most: int | None = None) -> Parameter:
    """A parameter that is a whole number in a range."""
    return Parameter(text, {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most}))


def one_word(text: str, words: Iterable[str]) -> Parameter:
    """A parameter that is one of some words."""
    return Parameter(text, {"type": "string", "enum": list(words)})


def several(text: str) -> Parameter:
    """A parameter that is a text and may be given several times."""
    return Parameter(text, {"type": "string"}, is_list=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path.

    path     aiohttp pattern without a trailing slash; a trailing slash is always accepted as well
    key      who may call: "none", "any", "full", "admin", or a phrase for the documentation
    body     pydantic model of a JSON body, media type such as "application/x-ndjson", form, or several of these, or None
    answers  status -> what it means, for the documentation
    reply    what the answers below 400 hold, for the documentation: a type that pydantic can describe, sent as JSON, or a media
             type, or several of these; `()` for answers without a body
    replies  status -> the same, for an answer that holds something else; a refusal may always have the shape of its surface, too
    query    query parameter -> what it does, in a sentence or as a Parameter; a sentence that begins with `true:` is about a flag
    admit    raises EngineError for a request that must be refused; called before we answer `100 Continue`
    when     the requests that this route answers, where several routes share a method and a path; None for all the others
    is_alias  another path of a route: documents name its first path alone
    """

    method: str
    path: str
    handler: Handler
    surface: Surface
    summary: str
    key: str = "any"
    body: BodyKind | tuple[BodyKind, ...] | None = None
    answers: dict[int, str] = field(default_factory=dict)
    reply: object = None
    replies: dict[int, object] = field(default_factory=dict)
    query: Mapping[str, str | Parameter] = field(default_factory=dict)
    admit: Callable[[web.Request], Awaitable[object]] | None = None
    when: When | None = None
    is_alias: bool = False

    @property
    def bodies(self) -> tuple[BodyKind, ...]:
        """Every kind of body that the route takes."""
        if isinstance(self.body, tuple):
            return self.body
        return () if self.body is None else (self.body,)

    def holds(self, status: int) -> tuple[object, ...] | None:
        """Every kind of content that an answer with this status may have; None where the route does not say."""
        kinds = self.replies.get(status, self.reply if status < 400 else None)
        return kinds if kinds is None or isinstance(kinds, tuple) else (kinds,)


# An owner as a first path segment: anything but a segment that a surface owns, in any case of letters.
OWNER = f"(?!(?i:{'|'.join(map(re.escape, sorted(RESERVED)))})/)[^/]+"
# Matches every path that nothing before it matched. The router's own answers would be text, and would come after `100 Continue`.
UNKNOWN = "/{unknown}"
# The order in which Allow names the methods.
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Stands in where no surface owns the path.
NO_SURFACE = Surface(name="none")


class RouteTable:
    """Every route of the server, in the order in which paths are matched.

    Several routes may share a method and a path. All but the last of them have a `when`; the first one whose `when` holds answers.
    `register` raises ValueError where the routes do not follow this rule.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._owners = {prefix: route.surface for route in self.routes for prefix in route.surface.prefixes}
        self._candidates: dict[web.AbstractRoute, tuple[Route, ...]] = {}

    def register(self, app: web.Application, around: Around | None = None) -> None:
        """Add every route to an application, with and without its trailing slash. HEAD is answered wherever GET is.

        around  is called in place of each handler, and calls it. A middleware would cost every request two microseconds more
        """

        def within(handler: Handler) -> Handler:
            return partial(around, handler) if around else handler

        for path, methods in _by_path(self.routes).items():
            pattern = path.replace("{owner}", "{owner:" + OWNER + "}") if path.startswith("/{owner}") else path
            if hdrs.METH_GET in methods:
                methods.setdefault(hdrs.METH_HEAD, methods[hdrs.METH_GET])
            surface = next(iter(methods.values()))[0].surface
            if surface.options:
                methods.setdefault(hdrs.METH_OPTIONS, [_options_route(path, surface)])
            for resource in dict.fromkeys((pattern, pattern.rstrip("/") + "/")):
                for method, candidates in methods.items():
                    handler = self._dispatch if len(candidates) > 1 else candidates[0].handler
                    if resource != pattern and surface.redirects_slash and method != hdrs.METH_OPTIONS:
                        handler = _redirect
                    added = app.router.add_route(method, resource, within(handler), expect_handler=self._answer_expectation)
                    self._candidates[added] = tuple(candidates)
        app.router.add_route("*", "/{unknown:.*}", within(self._unknown), expect_handler=self._refuse_unknown)
        app[ROUTE_TABLE] = self

    def route_of(self, request: web.Request) -> Route | None:
        """The route that answers a request; None for an unknown path, or a method that its path does not take."""
        for route in self._candidates.get(request.match_info.route, ()):
            if route.when is None or route.when.holds(request):
                return route
        return None

    def surface_name(self, request: web.Request) -> str:
        """The surface that a request is counted for; `none` for an unknown path, so that a path can never become a label."""
        route = self.route_of(request)
        return (route.surface if route else NO_SURFACE).name

    def refuse(self, request: web.Request, error: EngineError) -> web.Response:
        """The answer to a request that is refused before its first byte, in the shape of the surface that owns its path."""
        return self.surface_of(request).refuse(request, error)

    def surface_of(self, request: web.Request) -> Surface:
        """The surface of the route that answers a request, or the one that owns its unknown path."""
        route = self.route_of(request)
        return route.surface if route else self._owner(request.path)

    def _owner(self, path: str) -> Surface:
        """The surface that owns an unknown path."""
        for prefix, surface in self._owners.items():
            if path == prefix or path.startswith(prefix + "/"):
                return surface
        return NO_SURFACE

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        """The handler of a path on which the request decides between several routes."""
        route = self.route_of(request)
        if route is None:
            return await self._unknown(request)
        return await route.handler(request)

    async def _answer_expectation(self, request: web.Request) -> web.StreamResponse | None:
        """`Expect: 100-continue`: ask for the body only if the route admits the request, else send the refusal at once."""
        route = self.route_of(request)
        try:
            if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
                raise EngineError(EXPECTATION_FAILED, "Expect takes 100-continue only")
            if route is not None and route.admit is not None:
                await route.admit(request)
        except EngineError as error:
            response = self.refuse(request, error)
            response.force_close()
            return response
        if request.transport is not None and request.version >= HttpVersion11:  # RFC 9110, 10.1.1: HTTP/1.0 does not know it
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # aiohttp takes any written byte for the beginning of the answer, and would then send no error any more.
        request.writer.output_size = 0
        return None

    async def _unknown(self, request: web.Request) -> web.Response:
        """The answer where no route matches: 405 when the path takes another method, else 404."""
        allowed: set[str] = set()
        for resource in request.app.router.resources():
            if resource.canonical != UNKNOWN:
                allowed |= (await resource.resolve(request))[1]
        if not allowed:
            return self.refuse(request, EngineError(NOT_FOUND, "not found"))
        response = self.refuse(request, EngineError(METHOD_NOT_ALLOWED, "method not allowed"))
        response.headers[hdrs.ALLOW] = ", ".join(sorted(allowed, key=METHODS.index))
        return response

    async def _refuse_unknown(self, request: web.Request) -> web.StreamResponse:
        """The same answer to a request that waits for `100 Continue`."""
        response = await self._unknown(request)
        response.force_close()
        return response


ROUTE_TABLE = web.AppKey("route_table", RouteTable)

# Pairs of a method and a path that the router remembers, of paths of any length up to this. A server is asked for some of them very
# often. When all are forgotten because there were too many others, each of these is matched once more.
MAX_REMEMBERED = 1024
LONGEST_REMEMBERED = 256


class Router(web.UrlDispatcher):
    """aiohttp's router, which remembers how it matched a path: it would match each of many patterns anew for every request."""

    def __init__(self) -> None:
        super().__init__()
        self._remembered: dict[tuple[str, str], tuple[web.AbstractRoute, dict[str, str]]] = {}

    async def resolve(self, request: web.Request) -> web.UrlMappingMatchInfo:
        place = request.method, request.rel_url.raw_path
        if remembered := self._remembered.get(place):
            route, words = remembered
            return web.UrlMappingMatchInfo(words, route)
        found = await super().resolve(request)
        if found.http_exception is None and len(place[1]) <= LONGEST_REMEMBERED:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[place] = found.route, dict(found)
        return found


def _options_route(path: str, surface: Surface) -> Route:
    async def options(request: web.Request) -> web.Response:
        return web.Response(status=204, headers=dict(surface.options))

    return Route(method=hdrs.METH_OPTIONS, path=path, handler=options, surface=surface, summary="What a page may send", key="none")


async def _redirect(request: web.Request) -> web.Response:
    """To the same path without its trailing slash. The location has no host, so nobody is sent elsewhere."""
    url = request.rel_url
    query = f"?{url.raw_query_string}" if url.raw_query_string else ""
    return web.Response(status=307, headers={hdrs.LOCATION: url.raw_path.rstrip("/") + query})


def _by_path(routes: Iterable[Route]) -> dict[str, dict[str, list[Route]]]:
    """The routes by path and method, in their order. ValueError when it is not clear which of several routes answers."""
    paths: dict[str, dict[str, list[Route]]] = {}
    for route in routes:
        candidates = paths.setdefault(route.path, {}).setdefault(route.method, [])
        if candidates and candidates[-1].when is None:
            raise ValueError(f"{route.method} {route.path}: a route without `when` must be the last one")
        candidates.append(route)
    for path, methods in paths.items():
        for method, candidates in methods.items():
            if candidates[-1].when is not None:
                raise ValueError(f"{method} {path}: the last route must answer whatever the others do not, so it has no `when`")
    return paths
