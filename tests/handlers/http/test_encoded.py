"""Answers that are encoded once say the same as those that aiohttp puts together, on every kind of connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from handlers.http.encoded import LEAST_APART_BYTES, EncodedAnswer, EncodedResponse

HEADERS = {"Content-Type": "application/json", "ETag": '"abc"'}
SHORT, LONG = b'{"a":1}', b"x" * (LEAST_APART_BYTES * 20)

Ask = Callable[[str], Awaitable[tuple[dict[str, str], bytes]]]


async def encoded(request: web.Request) -> web.Response:
    response = EncodedResponse(_answer(request))
    if "mark" in request.query:
        response.headers["X-Mark"] = "yes"
    if "close" in request.query:
        response.force_close()
    return response


async def usual(request: web.Request) -> web.Response:
    answer = _answer(request)
    response = web.Response(status=answer.status, headers=HEADERS, body=answer.body or None)
    if "mark" in request.query:
        response.headers["X-Mark"] = "yes"
    if "close" in request.query:
        response.force_close()
    return response


def _answer(request: web.Request) -> EncodedAnswer:
    kind = request.match_info["kind"]
    if kind == "unmodified":
        return EncodedAnswer(304, HEADERS)
    return EncodedAnswer(200, HEADERS, {"short": SHORT, "long": LONG, "empty": b""}[kind])


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Sends the bytes of one request on a connection of its own, and reads until the other side closes it or falls silent."""
    app = web.Application()
    app.router.add_get("/encoded/{kind}", encoded)
    app.router.add_get("/usual/{kind}", usual)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    async def send(request: str) -> tuple[dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode() + b"\r\nHost: x\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        # What comes next on the connection, or its end, is behind the body.
        writer.write(b"GET /usual/short HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        rest = await reader.read()
        writer.close()
        first, *lines = head.rstrip().split("\r\n")
        return {"": first} | dict(line.split(": ", 1) for line in lines), rest

    yield send
    await runner.cleanup()


@pytest.mark.parametrize("kind", ["short", "long", "empty", "unmodified"])
@pytest.mark.parametrize("query", ["", "?close", "?mark"])
@pytest.mark.parametrize("version", ["1.1", "1.0", "1.0\r\nConnection: keep-alive", "1.1\r\nConnection: close"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_it_is_what_aiohttp_would_send(ask: Ask, method: str, version: str, query: str, kind: str) -> None:
    theirs, their_rest = await ask(f"{method} /usual/{kind}{query} HTTP/{version}")
    ours, our_rest = await ask(f"{method} /encoded/{kind}{query} HTTP/{version}")
    dates = [theirs.pop("Date"), ours.pop("Date")]
    assert all(date.endswith(" GMT") for date in dates)
    ours.setdefault("Content-Length", theirs.get("Content-Length", ""))  # optional in answers without a body
    assert ours | {"Content-Length": ""} == theirs | {"Content-Length": ""}
    assert ours["Content-Length"] == theirs.get("Content-Length", ours["Content-Length"])
    assert our_rest.partition(b"HTTP/1.1 200")[0] == their_rest.partition(b"HTTP/1.1 200")[0]


async def test_several_requests_at_once_are_answered_in_their_order(ask: Ask) -> None:
    request = "GET /encoded/{} HTTP/1.1\r\nHost: x\r\n\r\n"
    pipelined = "".join(map(request.format, ("long", "unmodified", "short")))
    _, rest = await ask(pipelined + "GET /encoded/empty HTTP/1.1")
    assert rest.startswith(LONG + b"HTTP/1.1 304 Not Modified\r\n")
    assert SHORT + b"HTTP/1.1 200 OK\r\n" in rest


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
def test_a_header_cannot_bring_another_one(value: str) -> None:
    with pytest.raises(ValueError, match="newline"):
        EncodedAnswer(200, {"X-Word": value})
