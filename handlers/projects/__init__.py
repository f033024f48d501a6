"""Projects over HTTP: a file for each kind of object, all mounted below two bases.

errors, admission   how a request is refused; who may ask what, and small bodies
parameters          numbers in paths, and which part of a list is wanted
docs                the page with all routes
teams, tokens       who works together, and what programs prove themselves with
answers, calls      how objects of every kind are shown; the calls that all of them have
projects, uploads, datasets, graphs, models, attributions, attribution_sets   one kind each
plots               models and attributions as pictures
"""

from collections.abc import Iterable
from dataclasses import replace

from handlers.http.routes import Route
from handlers.projects import (
    attribution_sets,
    attributions,
    datasets,
    docs,
    graphs,
    models,
    plots,
    projects,
    teams,
    tokens,
    uploads,
)

BASES = ("/v1", "/api/v1/api")


def mounted(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The same routes below each base; documents name the first. Their own paths are relative to it."""
    written = tuple(routes)
    return tuple(replace(route, path=base + route.path, is_alias=base != BASES[0]) for base in BASES for route in written)


# In the files, paths that end in a fixed word come before those that end in a number.
ROUTES = (
    *mounted(
        (
            docs.ROUTE,
            *tokens.ROUTES,
            *teams.ROUTES,
            *projects.ROUTES,
            *uploads.ROUTES,
            *datasets.ROUTES,
            *graphs.ROUTES,
            *models.ROUTES,
            *attributions.ROUTES,
            *attribution_sets.ROUTES,
            *plots.ROUTES,
        )
    ),
    replace(docs.ROUTE, path="/v1/api/docs", is_alias=True),
)
