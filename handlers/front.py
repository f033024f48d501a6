"""The front page, at `/`: what runs here and how to ask it, for people in a browser, at a terminal, and for programs.

Names no model but those that ship with the server: everybody may read it. Its script asks the other routes with the key that a
person types, and shows what they say.
"""

import shlex

import ujson
from aiohttp import hdrs, web
from typing_extensions import TypedDict

from engine.repository.index import Version
from handlers.http.about import address, version
from handlers.http.errors import json_response
from handlers.http.keys import ENGINE, REPOSITORY
from handlers.http.pages import SCRIPT, STYLE, page, page_file
from handlers.http.routes import Route, Surface

SURFACE = Surface(name="pages", redirects_slash=True)

LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "models": "/api/models",
    "datasets": "/datasets",
    "health": "/healthcheck",
}
# What a person at a terminal reads.
TEXT = """Sluice {version}, {health}. Open {url}/ in a browser for a page with all models and a form to try each.

{ask}The key of the user admin is in the file admin.key of the data directory.
All routes: {url}/docs
Datasets:   {url}/datasets
"""
ASK = """Ask a model:
  export KEY=...  # the text of the file admin.key in the data directory
  curl -sS -u "admin:$KEY" -d {record} {url}/{owner}/models/{name}

"""


class FrontAnswer(TypedDict):
    """What runs here, and where to read on."""

    name: str
    version: str
    status: str
    links: dict[str, str]


async def front(request: web.Request) -> web.Response:
    """A page for browsers, JSON for programs that ask for it, a few lines of text for all others, such as curl."""
    wanted = request.headers.get(hdrs.ACCEPT, "")
    if "text/html" in wanted:
        answer = page("Sluice", "front.js", LINKS.values())
    elif "application/json" in wanted:
        about: FrontAnswer = {"name": "Sluice", "version": version(), "status": request.app[ENGINE].health, "links": LINKS}
        answer = json_response(about, sort_keys=False, headers={hdrs.CACHE_CONTROL: "no-store"})
    else:
        answer = web.Response(text=_text(request), headers={hdrs.CACHE_CONTROL: "no-store"})
    answer.headers[hdrs.VARY] = hdrs.ACCEPT
    return answer


def _text(request: web.Request) -> str:
    url = address(request)
    return TEXT.format(version=version(), health=request.app[ENGINE].health, url=url, ask=_ask(request, url))


def _ask(request: web.Request, url: str) -> str:
    """The command that asks the first model that ships; empty where none does."""
    shipped = (model.active for model in request.app[REPOSITORY].models() if model.shipped and model.active)
    model: Version | None = next(shipped, None)
    if model is None:
        return ""
    record = shlex.quote(ujson.dumps(model.config.example, ensure_ascii=False))
    return ASK.format(record=record, url=url, owner=model.config.owner, name=model.config.name)


ROUTES = (
    Route(
        method="GET",
        path="/",
        handler=front,
        surface=SURFACE,
        summary="What runs here: a page with a form for each model; as JSON if Accept asks for it, else as text",
        key="none",
        answers={200: "HTML, JSON or text"},
        reply=(FrontAnswer, "text/html", "text/plain"),
    ),
    Route(
        method="GET",
        path="/static/{file}",
        handler=page_file,
        surface=SURFACE,
        summary="The style and the scripts of the pages for people",
        key="none",
        answers={200: "the file", 304: "the client has it already", 404: "the pages have no such file"},
        reply=tuple(kind.partition(";")[0] for kind in (STYLE, SCRIPT)),
    ),
)
