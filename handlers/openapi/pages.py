"""The document over HTTP: `/openapi.json` for programs, and `/docs`, which shows it to people.

The page names no other host, and forbids the browser to load anything from one.
"""

import asyncio
import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import hdrs, web

from engine.errors import EngineError
from handlers.http.bodies import send_whole
from handlers.http.docs_page import docs_page
from handlers.http.errors import NOT_FOUND
from handlers.http.routes import Handler, Route, Surface
from handlers.openapi.document import encoded
from handlers.openapi.schemas import JSON, Json

SURFACE = Surface(name="openapi")


class Document:
    """The document of some routes, encoded. It is made once, when it is first asked for: a server may never be asked."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._made = b""
        self._making = asyncio.Lock()

    async def encoded(self) -> bytes:
        """The document in JSON."""
        async with self._making:
            if not self._made:
                self._made = await asyncio.to_thread(encoded, self._routes)
        return self._made


DOCUMENT = web.AppKey("document", Document)

# The page opens with this operation, unless its address names another one: most who come want to ask a model.
FIRST_OPERATION = ("streaming", "post_owner_models_model")
START = """const ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  onComplete: () => {
    if (!location.hash) ui.layoutActions.show(["operations", "{tag}", "{operation}"], true);
  },
});
""".replace("{tag}", FIRST_OPERATION[0]).replace("{operation}", FIRST_OPERATION[1])
# The files of Swagger UI that the page uses. No other name is ever made into a path.
SWAGGER_UI = Path(__file__).parent.with_name("swagger_ui")
SWAGGER_UI_FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}


async def openapi(request: web.Request) -> web.StreamResponse:
    """The document."""
    return await send_whole(request, [await request.app[DOCUMENT].encoded()], {hdrs.CONTENT_TYPE: JSON})


async def docs(request: web.Request) -> web.Response:
    """The page: Swagger UI, which shows /openapi.json."""
    return docs_page()


async def docs_file(request: web.Request) -> web.StreamResponse:
    """A file of the page. FileResponse reads it in a thread, answers conditional requests, and sends NAME.gz if it may."""
    name = request.match_info["file"]
    if name == "start.js":
        return web.Response(text=START, content_type="text/javascript", charset="utf-8")
    if name not in SWAGGER_UI_FILES:
        raise EngineError(NOT_FOUND, "not found")
    path, packed = SWAGGER_UI / name, SWAGGER_UI / f"{name}.gz"
    headers = {"Content-Type": SWAGGER_UI_FILES[name]}
    if "gzip" not in request.headers.get("Accept-Encoding", "") and await asyncio.to_thread(packed.exists):
        return web.Response(body=await asyncio.to_thread(_unpacked, packed), headers=headers | {"Vary": "Accept-Encoding"})
    return web.FileResponse(path, headers=headers)


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


# Routes


def _page(path: str, handler: Handler, summary: str, answers: dict[int, str], reply: object) -> tuple[Route, Route]:
    """The two routes of a page that is open to everybody: GET, and HEAD."""
    get = Route(
        method="GET", path=path, handler=handler, surface=SURFACE, summary=summary, key="none", answers=answers, reply=reply
    )
    return get, replace(get, method="HEAD", summary="The same without a body")


FILE_ANSWERS = {200: "the file", 404: "the page has no such file"}
ROUTES = (
    *_page("/openapi.json", openapi, "The OpenAPI document of every route", {200: "OpenAPI 3.1"}, Json),
    *_page("/docs", docs, "The same as a page to read and to try requests on (Swagger UI)", {200: "HTML"}, "text/html"),
    *_page("/docs/{file}", docs_file, "A file of that page", FILE_ANSWERS, ("text/css", "text/javascript", "image/png")),
)
