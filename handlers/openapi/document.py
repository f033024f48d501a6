"""The OpenAPI document, made from the route table.

Knows the shape of a Route and the media types of this server. Knows nothing of what a route does.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from aiohttp import hdrs

from handlers.http.about import version
from handlers.http.errors import dumps
from handlers.http.routes import FormBody, Parameter, Route
from handlers.openapi.parameters import parameters, public_path
from handlers.openapi.schemas import JSON, Json, Schemas, refer
from handlers.openapi.shared import references, responses

OPENAPI_VERSION = "3.1.0"

DESCRIPTION = """One asyncio server for predictions: one record in one request, or millions in one stream.

A trailing slash is optional on every path. What stands below `/v1`, but for models and embeddings, is answered below `/api/v1/api`
as well. Credentials are HTTP Basic `user:key` or `Authorization: Bearer key`. A request that is refused before its first byte is
answered `{"error": "..."}`. Below `/models` and `/embeddings` refusals have the shape of FastAPI, below `/v1/models` and
`/v1/embeddings` the shape of OpenAI, at `/embed` and `/info` that of Text Embeddings Inference, and below the rest of `/v1` the
shape `{"Error": {"Code", "Message", ...}}`.

What stands around all routes is described once, in the shared responses: 403 for a page of another origin or a foreign name of the
server, 417, 500, 503, and for bodies 413, 415 and 429.

Programs that make a client of this document read the first media type of each body and answer: JSON, where there is some."""

# The sections, in the order in which the page shows them; those of other surfaces follow.
SECTIONS = {
    "streaming": "predictions: one record, a stream of records, or a WebSocket",
    "embeddings": "vectors of texts, in three shapes",
    "tensors": "the same models for clients of the Open Inference Protocol: tensors in, tensors out",
    "repository": "which models there are, and changes of those that are there",
    "publish": "new versions of models",
    "datasets": "rows that are sent and kept in versions",
    "query": "SQL over stored rows",
    "preview": "what is in datasets: rows, sizes, statistics, files",
    "projects": "teams, files, graphs, marketing-mix models, attributions",
    "accounts": "users and keys",
    "pages": "pages for people",
    "operations": "health and metrics",
}

# What needs no body: RFC 9110.
WITHOUT_BODY = frozenset({101, 204, 304})
BODILESS_METHODS = frozenset({hdrs.METH_HEAD, hdrs.METH_OPTIONS})


def encoded(routes: Sequence[Route]) -> bytes:
    """The OpenAPI document of these routes in JSON, in their order. It takes 60 ms."""
    return dumps(document(routes), sort_keys=False)


def document(routes: Sequence[Route]) -> Json:
    """The OpenAPI document of these routes."""
    operations = merged(routes)
    schemas = Schemas(_types(operations))
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Sluice", "version": version(), "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": _tags(operations),
        "paths": _paths(operations, schemas),
        "components": {
            "schemas": schemas.components,
            "responses": responses(operations),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "user and key"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "the key alone"},
            },
        },
    }


def _types(routes: Iterable[Route]) -> Iterator[object]:
    """The types of all bodies and answers; a media type is none, nor is a form."""
    for route in routes:
        kinds = [*route.bodies, *(kind for status in route.answers for kind in route.holds(status) or ())]
        yield from (kind for kind in kinds if not isinstance(kind, str | FormBody))


def _tags(routes: Iterable[Route]) -> list[Json]:
    """The surfaces, as sections of the page."""
    used = dict.fromkeys(route.surface.name for route in routes)
    first: list[Json] = [{"name": name, "description": text} for name, text in SECTIONS.items() if name in used]
    return first + [{"name": name} for name in used if name not in SECTIONS]


# Routes that share a method and a path


def merged(routes: Iterable[Route]) -> list[Route]:
    """One route for each method and path, but none for an alias.

    Routes that share both become one, whose words say which requests they are about.
    """
    operations: dict[tuple[str, str], list[Route]] = {}
    for route in routes:
        if route.is_alias:
            continue
        operations.setdefault((route.method, route.path), []).append(route)
    return [_merge(sharing) if len(sharing) > 1 else sharing[0] for sharing in operations.values()]


def _merge(routes: Sequence[Route]) -> Route:
    """One route with the words of several, of which all but the last have a `when`."""
    summary = _words(routes, [route.summary for route in routes])
    answers = _tables(routes, [route.answers for route in routes])
    return replace(
        routes[0],
        when=None,
        summary=summary[0].upper() + summary[1:],
        key=_words(routes, [route.key for route in routes]),
        body=tuple(body for route in routes for body in route.bodies),
        answers=answers,
        replies={status: kinds for status in answers if (kinds := _kinds(routes, status)) is not None},
        query=_queries(routes),
    )


def _tables(routes: Sequence[Route], tables: Sequence[dict[int, str]]) -> dict[int, str]:
    """The tables of several routes as one."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: _words(routes, [table.get(key) for table in tables]) for key in keys}


def _kinds(routes: Iterable[Route], status: int) -> tuple[object, ...] | None:
    """What an answer with this status may hold, whichever route it is of; None where no route says."""
    said = [kinds for route in routes if status in route.answers and (kinds := route.holds(status)) is not None]
    return tuple(dict.fromkeys(kind for kinds in said for kind in kinds)) if said else None


def _queries(routes: Sequence[Route]) -> dict[str, str | Parameter]:
    """The parameters of several routes as one table. Those of one name are one thing, and the first route says which."""
    return {name: about for route in reversed(routes) for name, about in route.query.items()}


def _words(routes: Iterable[Route], texts: Iterable[str | None]) -> str:
    """The texts of several routes as one: the text itself if all routes that have one agree, else each with its condition."""
    said = [(route.when, text) for route, text in zip(routes, texts, strict=True) if text is not None]
    if len({text for _, text in said}) == 1:
        return said[0][1]
    return "; ".join(f"with {when.text}: {text}" if when else f"otherwise: {text}" for when, text in said)


# Operations


def _paths(routes: Iterable[Route], schemas: Schemas) -> Json:
    paths: Json = {}
    for route in routes:
        paths.setdefault(public_path(route), {})[route.method.lower()] = _operation(route, schemas)
    return paths


def _operation(route: Route, schemas: Schemas) -> Json:
    operation: Json = {
        "tags": [route.surface.name],
        "summary": route.summary,
        "description": f"Key needed: {route.key}.",
        "operationId": "_".join(re.findall(r"\w+", f"{route.method.lower()} {public_path(route)}")),
        "security": _security(route),
        "responses": _answers(route, schemas),
    }
    if taken := parameters(route):
        operation["parameters"] = taken
    if route.bodies:
        operation["requestBody"] = {"required": True, "content": _content(route.bodies, schemas)}
    return operation


def _security(route: Route) -> list[Json]:
    """A route with the key `itself` checks credentials, which may also come in the query or in a form."""
    either: list[Json] = [{"basic": []}, {"bearer": []}]
    return {"none": [], "itself": [{}, *either]}.get(route.key, either)


def _content(kinds: Iterable[object], schemas: Schemas, refusal: str | None = None) -> Json:
    """Several kinds of content, JSON first. Several types of one media type are alternatives.

    refusal  the name of the shape of refusals, where the content may be one
    """
    parts = [schemas.content(kind) for kind in kinds] + ([{JSON: {"schema": refer(refusal)}}] if refusal else [])
    content: Json = {}
    for part in parts:
        for media_type, described in part.items():
            content[media_type] = _either(content[media_type], described) if media_type in content else described
    return dict(sorted(content.items(), key=lambda item: item[0] != JSON))


def _either(one: Json, other: Json) -> Json:
    """What is the one or the other."""
    return {**other, **one, "schema": {"anyOf": [*one["schema"].get("anyOf", [one["schema"]]), other["schema"]]}}


def _answers(route: Route, schemas: Schemas) -> Json:
    """All answers of an operation by their status: its own, and those that every route may give."""
    own = {str(status): _answer(route, status, schemas) for status in route.answers}
    return dict(sorted((own | references(route)).items()))


def _answer(route: Route, status: int, schemas: Schemas) -> Json:
    """One answer of an operation. A refusal may always have the shape of its surface."""
    answer: Json = {"description": route.answers[status]}
    if route.method in BODILESS_METHODS or status in WITHOUT_BODY:
        return answer
    content = _content(route.holds(status) or (), schemas, route.surface.schema if status >= 400 else None)
    return answer | ({"content": content} if content else {})
