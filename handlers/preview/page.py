"""The page on which people look at datasets: a few lines of HTML, a style and a script, which asks the other routes of preview.

Knows no dataset: whether one is there, and who may see it, the routes say that the script asks.
"""

import html
from pathlib import Path
from urllib.parse import quote

from aiohttp import hdrs, web

from engine.errors import EngineError
from handlers.http.errors import NOT_FOUND
from handlers.http.routes import Route, Surface

# Refusals have the shape of the server's own: what is asked here are pages and files, no data.
SURFACE = Surface(name="preview", redirects_slash=True)

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Datasets</title>
<link rel="stylesheet" href="/static/preview.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<script src="/static/preview.js" defer></script>
</head>
<body>
<noscript><p>This page needs JavaScript. The same as JSON: {links}.</p></noscript>
</body>
</html>
"""
# The browser loads nothing from any other host, sends nothing to one, and runs and draws only what the two files say. Pictures and
# sound of private datasets are fetched with the key, and shown as `blob:`.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# The files of the page. No other name is ever made into a path.
FOLDER = Path(__file__).with_name("static")
FILES = {"preview.css": "text/css; charset=utf-8", "preview.js": "text/javascript; charset=utf-8"}


async def list_page(request: web.Request) -> web.Response:
    """All datasets."""
    return _page("/hf_datasets", "/cache-reports", "/queue")


async def dataset_page(request: web.Request) -> web.Response:
    """One dataset. The page is the same whether it is there or not."""
    name = quote(request.match_info["title"], safe="")
    return _page(*(f"/{route}?dataset={name}" for route in ("splits", "size", "parquet")))


def _page(*addresses: str) -> web.Response:
    links = ", ".join(f'<a href="{html.escape(one)}">{html.escape(one)}</a>' for one in addresses)
    return web.Response(text=PAGE.replace("{links}", links), content_type="text/html", charset="utf-8", headers=HEADERS)


async def page_file(request: web.Request) -> web.StreamResponse:
    """The style or the script. FileResponse reads it in a thread, and answers conditional requests."""
    name = request.match_info["file"]
    if name not in FILES:
        raise EngineError(NOT_FOUND, "not found")
    return web.FileResponse(FOLDER / name, headers={**HEADERS, hdrs.CONTENT_TYPE: FILES[name]})


ROUTES = (
    Route(
        method="GET",
        path="/datasets",
        handler=list_page,
        surface=SURFACE,
        summary="A page with all datasets, for people",
        key="none",
        answers={200: "HTML"},
    ),
    Route(
        method="GET",
        path="/datasets/{title:[^/]+(?:/[^/]+)?}",
        handler=dataset_page,
        surface=SURFACE,
        summary="A page with one dataset, `name` or `org/name`, for people",
        key="none",
        answers={200: "HTML"},
        query={
            "config": "the config that is shown; else the first",
            "split": "the split that is shown; else the first",
            "offset": "number of the first row that is shown",
            "predict": "owner/model: what this model says of each row is the last column",
        },
    ),
    Route(
        method="GET",
        path="/static/{file}",
        handler=page_file,
        surface=SURFACE,
        summary="The style and the script of these pages",
        key="none",
        answers={200: "the file", 304: "the client has it already", 404: "the pages have no such file"},
    ),
)
