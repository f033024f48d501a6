"""Parameters in the document: those in a path, of which all routes mean the same by one name, and those of a query."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.accounts import OWNER_NAME
from engine.datasets.names import DATASET_NAME, ORG_NAME
from engine.repository.index import MODEL_NAME
from engine.teams import PROJECT_ID
from handlers.http.routes import Parameter, Route

Json = dict[str, Any]

FLAG = "true:"
TEXT: Json = {"type": "string"}


def _named(about: str, name: re.Pattern[str], example: str) -> Json:
    """A name in a path."""
    return {"description": about, "schema": TEXT | {"pattern": f"^{name.pattern}$"}, "example": example}


def _numbered(about: str) -> Json:
    """A number in a path."""
    return {"description": about, "schema": {"type": "integer", "minimum": 1}, "example": 9}


IN_PATHS: Mapping[str, Json] = {
    "owner": _named("the owner of the model", OWNER_NAME, "brandon"),
    "org": _named("the user whose dataset it is", ORG_NAME, "admin"),
    "dataset": _named("the name of the dataset", DATASET_NAME, "facts"),
    "model": _named("the name of the model", MODEL_NAME, "HelloWorld"),
    "workspace": _named("the org of names without one", OWNER_NAME, "ann"),
    "team": _named("the team", OWNER_NAME, "acme"),
    "user": _named("a user who is in the team", OWNER_NAME, "eva"),
    "name": _named("the user", OWNER_NAME, "eva"),
    "project": _named("the project", PROJECT_ID, "demo"),
    "version": _numbered("the number of the version"),
    "iid": _numbered("the number of the object"),
    "graph": _numbered("the Id of the graph"),
    "file": _named("the name of a file", re.compile("[^/]+"), "records.ndjson"),
    "title": {
        "description": "a dataset, as `name` or `org/name`; the slash may be sent as %2F",
        "schema": TEXT | {"pattern": f"^(?:{ORG_NAME.pattern}/)?{DATASET_NAME.pattern}$"},
        "example": "admin/facts",
    },
    "address": {
        "description": "as an answer has it: the dataset, `--`, and further parts, each of which is quoted",
        "schema": TEXT | {"pattern": "^.+/--/.+$"},
    },
}


def public_path(route: Route) -> str:
    """The path as documents show it: `{name}` for a pattern such as `{name:[a-z]+}`."""
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}", r"{\1}", route.path)


def parameters(route: Route) -> list[Json]:
    """All parameters of an operation."""
    return [*_of_path(route), *_of_query(route)]


def _of_path(route: Route) -> Iterator[Json]:
    for name in re.findall(r"\{(\w+)\}", public_path(route)):
        yield {"name": name, "in": "path", "required": True} | IN_PATHS.get(name, {"schema": TEXT})


def _of_query(route: Route) -> Iterator[Json]:
    for name, about in route.query.items():
        known = about if isinstance(about, Parameter) else _said(about)
        schema = {"type": "array", "items": known.schema} if known.is_list else known.schema
        yield {"name": name, "in": "query", "description": known.text, "schema": schema}


def _said(text: str) -> Parameter:
    """A parameter of which the route has only a sentence."""
    return Parameter(text, {"type": "boolean"} if text.startswith(FLAG) else TEXT)
