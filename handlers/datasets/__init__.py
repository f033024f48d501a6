"""The datasets surface: rows go in as lines of JSON, and what there is is listed, described, changed and deleted."""

from handlers.datasets import catalogue, deletion, uploads

ROUTES = (*catalogue.ROUTES, *uploads.ROUTES, *deletion.ROUTES)
