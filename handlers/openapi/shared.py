"""Answers that any route may give, because what stands around its handler gives them: each is described once in the document.

A route that describes one of these statuses itself has its own words for it.
"""

from collections.abc import Iterable

from aiohttp import hdrs

from handlers.http.routes import Route
from handlers.openapi.schemas import JSON, Json, refer

RESPONSES = "#/components/responses/"

EVERYWHERE = {
    403: "SLUICE_HOSTS does not list the name in Host, or a page of another origin asks for what SLUICE_CORS_ORIGINS does not open",
    417: "Expect names something other than 100-continue",
    500: "a fault of the server, which its log explains",
    503: "there are too many connections, the answer took too long, or the database is busy; see Retry-After",
}
WITH_BODY = {
    413: "the body is too large",
    415: "the Content-Encoding is unknown",
    429: "too many large bodies at once; see Retry-After",
}
WITH_SLASH = {307: "the path ends in a slash; Location is the path without it"}


def responses(routes: Iterable[Route]) -> Json:
    """The shared answers of some routes, by the names under which `references` refers to them."""
    return {
        _name(route, status): {"description": text} | _content(route, status)
        for route in routes
        for status, text in _shared(route).items()
    }


def references(route: Route) -> Json:
    """Status -> reference to a shared answer, for those that the route does not describe itself."""
    return {str(status): {"$ref": RESPONSES + _name(route, status)} for status in _shared(route)}


def _shared(route: Route) -> dict[int, str]:
    around = EVERYWHERE | (WITH_BODY if route.bodies else {}) | (WITH_SLASH if _is_redirected(route) else {})
    return {status: text for status, text in around.items() if status not in route.answers}


def _is_redirected(route: Route) -> bool:
    """Whether the path with a slash at its end is no path of the route itself."""
    return route.surface.redirects_slash and route.path != "/" and not route.path.endswith(":.+}")


def _has_body(route: Route, status: int) -> bool:
    return status >= 400 and route.method != hdrs.METH_HEAD


def _name(route: Route, status: int) -> str:
    return f"{route.surface.schema}{status}" if _has_body(route, status) else f"Bodiless{status}"


def _content(route: Route, status: int) -> Json:
    return {"content": {JSON: {"schema": refer(route.surface.schema)}}} if _has_body(route, status) else {}
