"""The pages on which people look at datasets. Their script asks the other routes of preview.

Knows no dataset: whether one is there, and who may see it, the routes say that the script asks.
"""

from urllib.parse import quote

from aiohttp import web

from handlers.http.pages import page
from handlers.http.routes import Route, Surface, whole

# Refusals have the shape of the server's own: what is asked here are pages, no data.
SURFACE = Surface(name="preview", redirects_slash=True)


async def list_page(request: web.Request) -> web.Response:
    """All datasets."""
    return _page("/hf_datasets", "/cache-reports", "/queue")


async def dataset_page(request: web.Request) -> web.Response:
    """One dataset. The page is the same whether it is there or not."""
    name = quote(request.match_info["title"], safe="")
    return _page(*(f"/{route}?dataset={name}" for route in ("splits", "size", "parquet")))


def _page(*links: str) -> web.Response:
    return page("Datasets", "preview.js", links)


ROUTES = (
    Route(
        method="GET",
        path="/datasets",
        handler=list_page,
        surface=SURFACE,
        summary="A page with all datasets, for people",
        key="none",
        answers={200: "HTML"},
        reply="text/html",
    ),
    Route(
        method="GET",
        path="/datasets/{title:[^/]+(?:/[^/]+)?}",
        handler=dataset_page,
        surface=SURFACE,
        summary="A page with one dataset, `name` or `org/name`, for people",
        key="none",
        answers={200: "HTML"},
        reply="text/html",
        query={
            "config": "the config that is shown; else the first",
            "split": "the split that is shown; else the first",
            "offset": whole("number of the first row that is shown"),
            "predict": "owner/model: what this model says of each row is the last column",
        },
    ),
)
