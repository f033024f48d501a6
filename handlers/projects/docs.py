"""The page of /docs below the bases of this surface, where it needs a credential."""

from aiohttp import web

from handlers.http.docs_page import docs_page
from handlers.http.routes import Route
from handlers.projects.admission import FULL, admit_caller
from handlers.projects.errors import PAGE_SURFACE


async def docs(request: web.Request) -> web.Response:
    await admit_caller(request)
    return docs_page()


ROUTE = Route(
    method="GET",
    path="/docs",
    handler=docs,
    surface=PAGE_SURFACE,
    summary="The HTTP API as a page to read and to try requests on (Swagger UI)",
    key=FULL,
    answers={200: "HTML", 401: "credentials are missing or wrong; a browser asks for them", 403: "the key is read-only"},
    reply="text/html",
)
