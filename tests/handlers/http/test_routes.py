"""The route table: which route answers a request, in whose shape it is refused, and for which surface it is counted."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, make_mocked_request

from engine.errors import EngineError
from handlers.http.keys import COMPAT_STATUS
from handlers.http.routes import MAX_REMEMBERED, ROUTE_TABLE, Handler, Route, Router, RouteTable, Surface, When
from handlers.openapi import merged

Clients = Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]]


def refuse_in_capitals(request: web.Request, error: EngineError) -> web.Response:
    return web.Response(text=error.message.upper(), status=404)


def answer(text: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text + (await request.text()))

    return handler


async def refuse_all(request: web.Request) -> None:
    raise EngineError("forbidden", "not here")


QUIET = Surface(name="quiet")
LOUD = Surface(name="loud", refuse=refuse_in_capitals, prefixes=("/loud",))
TWICE = When("twice=true", lambda request: "twice" in request.query)

FIXED = Route(method="GET", path="/loud/fixed", handler=answer("fixed"), surface=LOUD, summary="Fixed")
FIRST = Route(
    method="PUT",
    path="/{owner}/things",
    handler=answer("first"),
    surface=LOUD,
    summary="do it twice",
    key="full",
    body="text/one",
    answers={200: "done", 404: "there is none"},
    query={"twice": "true: do it twice"},
    admit=refuse_all,
    when=TWICE,
)
REST = Route(
    method="PUT",
    path="/{owner}/things",
    handler=answer("rest"),
    surface=QUIET,
    summary="do it once",
    body=("text/two", "text/three"),
    answers={200: "done", 404: "nothing is there", 409: "it was done before"},
)


@pytest.fixture
async def client(aiohttp_client: Clients) -> TestClient[web.Request, web.Application]:
    """A client of a server with three routes, which tells in a header for which surface each answer is counted."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.headers["X-Surface"] = request.app[ROUTE_TABLE].surface_name(request)
        return response

    app = web.Application(middlewares=[count])
    app[COMPAT_STATUS] = False
    RouteTable([FIXED, FIRST, REST]).register(app)
    return await aiohttp_client(app)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("query", "text", "surface"), [("?twice=true", "first", "loud"), ("", "rest", "quiet")])
async def test_the_first_route_whose_condition_holds_answers(
    client: TestClient[web.Request, web.Application], slash: str, query: str, text: str, surface: str
) -> None:
    got = await client.put(f"/me/things{slash}{query}", data=b"!")
    assert (await got.text(), got.headers["X-Surface"]) == (text + "!", surface)


async def test_an_expectation_is_admitted_by_the_route_that_would_answer(client: TestClient[web.Request, web.Application]) -> None:
    refused = await client.put("/me/things?twice=true", data=b"!", expect100=True)
    assert (refused.status, await refused.text()) == (404, "NOT HERE")
    admitted = await client.put("/me/things", data=b"!", expect100=True)
    assert (admitted.status, await admitted.text()) == (200, "rest!")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/loud/nothing", 404, "NOT FOUND"),
        ("GET", "/loud", 404, "NOT FOUND"),
        ("POST", "/loud/fixed", 404, "METHOD NOT ALLOWED"),
        ("GET", "/louder", 404, '{"error":"not found"}'),
        ("GET", "/me/things", 405, '{"error":"method not allowed"}'),
    ],
)
async def test_an_unknown_path_is_refused_in_the_shape_of_its_owner_and_counted_for_nobody(
    client: TestClient[web.Request, web.Application], method: str, path: str, status: int, text: str
) -> None:
    got = await client.request(method, path)
    assert (got.status, await got.text(), got.headers["X-Surface"]) == (status, text, "none")


async def test_head_is_answered_and_counted_like_get(client: TestClient[web.Request, web.Application]) -> None:
    got = await client.head("/loud/fixed")
    assert (got.status, got.headers["X-Surface"], got.headers["Content-Length"]) == (200, "loud", "5")


async def test_a_path_that_is_asked_again_means_the_same_also_when_it_was_forgotten() -> None:
    router = Router()
    router.add_route("GET", "/{owner}/things", answer("got"))
    router.add_route("PUT", "/{owner}/things", answer("put"))

    async def resolve(method: str, path: str) -> tuple[object, dict[str, str]]:
        match = await router.resolve(make_mocked_request(method, path))
        found = match.http_exception.status if match.http_exception else match.route.method, dict(match)
        match["owner"] = "nobody"  # what one request does with its words is no matter of the next one
        return found

    for _ in range(3):
        assert await resolve("GET", "/me/things") == ("GET", {"owner": "me"})
        assert await resolve("GET", "/me/things?owner=you") == ("GET", {"owner": "me"})
        assert await resolve("PUT", "/me/things") == ("PUT", {"owner": "me"})
        assert await resolve("POST", "/me/things") == (405, {})
        assert await resolve("GET", "/me") == (404, {})
        for number in range(MAX_REMEMBERED):
            assert await resolve("GET", f"/{number}/things") == ("GET", {"owner": str(number)})


@pytest.mark.parametrize("routes", [[REST, FIRST], [REST, REST], [FIRST], [FIRST, FIRST]])
def test_routes_of_one_path_must_leave_no_doubt_which_answers(routes: list[Route]) -> None:
    with pytest.raises(ValueError, match=r"PUT /\{owner\}/things"):
        RouteTable(routes).register(web.Application())


def test_documents_show_routes_of_one_path_as_one_operation() -> None:
    assert merged([FIXED, FIRST, REST]) == [
        FIXED,
        replace(
            FIRST,
            when=None,
            summary="With twice=true: do it twice; otherwise: do it once",
            key="with twice=true: full; otherwise: any",
            body=("text/one", "text/two", "text/three"),
            answers={
                200: "done",
                404: "with twice=true: there is none; otherwise: nothing is there",
                409: "it was done before",
            },
        ),
    ]
