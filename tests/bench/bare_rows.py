"""The bare handler that cached answers of preview are compared with: aiohttp on uvloop, and nothing else.

A program of its own: `python -m tests.bench.bare_rows PORT FILE` sends the bytes of a file under /plain, /packed (as gzip) and
/small, and answers /unmodified with 304. What a person would write who has these bytes in memory.
"""

import gzip
import sys
from pathlib import Path

import uvloop
from aiohttp import web

JSON = "application/json"
SMALL = b'{"valid":true}'


def application(body: bytes) -> web.Application:
    packed = gzip.compress(body, 5, mtime=0)

    async def plain(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=JSON)

    async def compressed(request: web.Request) -> web.Response:
        return web.Response(body=packed, content_type=JSON, headers={"Content-Encoding": "gzip"})

    async def small(request: web.Request) -> web.Response:
        return web.Response(body=SMALL, content_type=JSON)

    async def unmodified(request: web.Request) -> web.Response:
        return web.Response(status=304)

    app = web.Application()
    app.router.add_get("/plain", plain)
    app.router.add_get("/packed", compressed)
    app.router.add_get("/small", small)
    app.router.add_get("/unmodified", unmodified)
    return app


if __name__ == "__main__":
    web.run_app(
        application(Path(sys.argv[2]).read_bytes()),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
    )
