"""Pages for people: a few lines of HTML each, whose styles and scripts lie in one folder and ask the other routes of the server.

Under its headers a browser loads nothing from any other host, sends nothing to one, and runs and draws only what those files say.
Knows nothing of what a page shows.
"""

import html
from collections.abc import Iterable
from pathlib import Path

from aiohttp import hdrs, web

from engine.errors import EngineError
from handlers.http.errors import NOT_FOUND

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/static/pages.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<script src="/static/pages.js" defer></script>
<script src="/static/{script}" defer></script>
</head>
<body>
<noscript><p>This page needs JavaScript. The same as JSON: {links}.</p></noscript>
</body>
</html>
"""
# Pictures and sound of private datasets are fetched with the key, and shown as `blob:`.
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
# The files of all pages. No other name is ever made into a path.
FOLDER = Path(__file__).parent.with_name("static")
STYLE, SCRIPT = "text/css; charset=utf-8", "text/javascript; charset=utf-8"
FILES = {"pages.css": STYLE, "pages.js": SCRIPT, "front.js": SCRIPT, "preview.js": SCRIPT}


def page(title: str, script: str, links: Iterable[str]) -> web.Response:
    """A page.

    script  the one of FILES that draws it, after pages.js
    links   addresses of the same as JSON, for people whose browser runs no script
    """
    shown = ", ".join(f'<a href="{html.escape(one)}">{html.escape(one)}</a>' for one in links)
    text = PAGE.format(title=html.escape(title), script=script, links=shown)
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=HEADERS)


async def page_file(request: web.Request) -> web.StreamResponse:
    """A style or a script. FileResponse reads it in a thread, and answers conditional requests."""
    name = request.match_info["file"]
    if name not in FILES:
        raise EngineError(NOT_FOUND, "not found")
    return web.FileResponse(FOLDER / name, headers={**HEADERS, hdrs.CONTENT_TYPE: FILES[name]})
