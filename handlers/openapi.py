"""The description of everything that can be asked: `/openapi.json`, made from the route table, and `/docs`, which shows it.

Knows the shape of a Route and the media types of this server. Knows nothing of what a route does. The page names no other host, and
tells the browser to load from none.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from swagger_ui_bundle import swagger_ui_path

from engine.accounts import OWNER_NAME
from engine.errors import EngineError
from engine.repository.index import MODEL_NAME
from handlers.http.errors import dumps
from handlers.http.keys import ROUTES as ROUTE_TABLE
from handlers.http.routes import Route
from handlers.streaming.bulk import NDJSON

Json = dict[str, Any]

OPENAPI_VERSION = "3.1.0"
JSON = "application/json"
SCHEMAS = "#/components/schemas/"

DESCRIPTION = """One asyncio server for predictions: one record in one request, or millions in one stream.

A trailing slash is optional on every path. Credentials are HTTP Basic `user:key` or `Authorization: Bearer key`.
A request that is refused before its first byte is answered `{"error": "..."}`; below `/models` and `/embeddings` as FastAPI does
it, below `/v1/models` and `/v1/embeddings` as OpenAI does."""

PATH_PARAMETERS: dict[str, Json] = {
    "owner": {"description": "who has the model", "pattern": f"^{OWNER_NAME.pattern}$", "example": "brandon"},
    "model": {"description": "its name", "pattern": f"^{MODEL_NAME.pattern}$", "example": "HelloWorld"},
    "file": {"description": "a file's name", "pattern": "^[^/]+$", "example": "records.ndjson"},
}

RECORD_EXAMPLE = {"name": "Kermit"}
LINES_EXAMPLE = '{"name":"jim"}\n{"name":"bob"}\n{"name":"sarah"}\n'

_YHAT_ID = {"anyOf": [{"type": "string"}, {"type": "number"}], "description": "as the record had it, or 32 hex digits"}
_RECORD = {"code": {"type": "string"}, "error": {"type": "string"}, "yhat_id": _YHAT_ID, "yhat_model": {"type": "string"}}
BASE_SCHEMAS: Json = {
    "Record": {"type": "object", "description": "Fields as the model's config.json names them, and yhat_id if you like."},
    "Error": {
        "type": "object",
        "description": "`error` says what was wrong; the rest is of a record.",
        "properties": _RECORD,
    },
    "DetailError": {
        "type": "object",
        "description": "As FastAPI writes it: a list of faults for a body (422), else one sentence.",
        "required": ["detail"],
        "properties": {"detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}},
    },
    "OpenAIError": {
        "type": "object",
        "description": "As OpenAI's clients expect it: `error` has message, type, param and code.",
        "required": ["error"],
        "properties": {"error": {"type": "object", "required": ["message", "type"]}},
    },
    "Prediction": {
        "type": "object",
        "required": ["result", "version", "yhat_id", "yhat_model"],
        "properties": {
            "result": {"description": "as the model's config.json says"},
            "version": {"type": "integer"},
            "yhat_id": _YHAT_ID,
            "yhat_model": {"type": "string"},
        },
    },
    "Lines": {
        "type": "string",
        "description": "Newline-delimited JSON: one object a line. Each line of an answer has `result`, or `code` and `error`.",
    },
}


# The document


def document(routes: Sequence[Route]) -> Json:
    """The OpenAPI document of these routes."""
    bodies = sorted({route.body for route in routes if isinstance(route.body, type)}, key=lambda body: body.__name__)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Sluice", "version": _version(), "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": _paths(routes),
        "components": {
            "schemas": BASE_SCHEMAS | _schemas(bodies),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "user and key"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "the key alone"},
            },
        },
    }


def _version() -> str:
    """Of the installed package; a checkout that was never installed has none."""
    try:
        return metadata.version("sluice")
    except metadata.PackageNotFoundError:
        return "0"


def _schemas(bodies: Iterable[type[BaseModel]]) -> Json:
    """The schemas of the pydantic bodies and of what they contain, by name."""
    _, made = models_json_schema([(body, "validation") for body in bodies], ref_template=SCHEMAS + "{model}")
    schemas: Json = made.get("$defs", {})
    return schemas


def _paths(routes: Iterable[Route]) -> Json:
    paths: Json = {}
    for route in routes:
        paths.setdefault(public_path(route), {})[route.method.lower()] = _operation(route)
    return paths


def public_path(route: Route) -> str:
    """The path as documents show it: `{name}` for a pattern such as `{name:[a-z]+}`."""
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}", r"{\1}", route.path)


def _operation(route: Route) -> Json:
    operation: Json = {
        "tags": [route.handler.__module__.rpartition(".")[2]],
        "summary": route.summary,
        "description": f"Key needed: {route.key}.",
        "operationId": "_".join(re.findall(r"\w+", f"{route.method.lower()} {public_path(route)}")),
        "security": _security(route),
        "responses": {str(status): _answer(route, status) for status in sorted(route.answers)},
    }
    if parameters := [*_path_parameters(route), *_query_parameters(route)]:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _body(route.body)}
    return operation


def _security(route: Route) -> list[Json]:
    """`itself`: the credentials are what is checked, and may come another way."""
    either: list[Json] = [{"basic": []}, {"bearer": []}]
    return {"none": [], "itself": [{}, *either]}.get(route.key, either)


def _path_parameters(route: Route) -> list[Json]:
    return [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", public_path(route))]


def _path_parameter(name: str) -> Json:
    about = PATH_PARAMETERS.get(name, {})
    schema = {"type": "string"} | ({"pattern": about["pattern"]} if about else {})
    parameter = {"name": name, "in": "path", "required": True, "schema": schema}
    return parameter | {key: about[key] for key in ("description", "example") if key in about}


def _query_parameters(route: Route) -> list[Json]:
    """A parameter whose sentence begins with `true:` is a flag."""
    return [
        {
            "name": name,
            "in": "query",
            "description": text,
            "schema": {"type": "boolean" if text.startswith("true:") else "string"},
        }
        for name, text in route.query.items()
    ]


def _body(body: type[BaseModel] | str | tuple[str, ...]) -> Json:
    """The content of a request body. What takes lines takes one JSON record as well."""
    if isinstance(body, tuple):
        return {kind: content for one in body for kind, content in _body(one).items()}
    if not isinstance(body, str):
        return {JSON: {"schema": {"$ref": SCHEMAS + body.__name__}}}
    if body == NDJSON:
        return {
            JSON: {"schema": {"$ref": SCHEMAS + "Record"}, "example": RECORD_EXAMPLE},
            NDJSON: {"schema": {"$ref": SCHEMAS + "Lines"}, "example": LINES_EXAMPLE},
        }
    return {body: {"schema": {"type": "string", "format": "binary"}}}


def _answer(route: Route, status: int) -> Json:
    """A refusal has the one shape of all refusals; a route that asks for no key refuses nobody."""
    answer: Json = {"description": route.answers[status]}
    if route.method in ("HEAD", "OPTIONS"):
        return answer
    if status >= 400 and route.key != "none":
        answer["content"] = {JSON: {"schema": {"$ref": SCHEMAS + route.error}}}
    elif status == 200 and route.body == NDJSON:
        answer["content"] = {
            JSON: {"schema": {"$ref": SCHEMAS + "Prediction"}},
            NDJSON: {"schema": {"$ref": SCHEMAS + "Lines"}},
        }
    return answer


# The pages

# Swagger UI 4.15.5, the one in the package, refuses to show a document that says 3.1. What ours says is valid in 3.0 as well, so
# the page, and only the page, calls it that.
START = """fetch("/openapi.json").then((answer) => answer.json()).then((spec) => {
  SwaggerUIBundle({
    spec: {...spec, openapi: "3.0.3"},
    dom_id: "#docs",
    deepLinking: true,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
  });
});
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Sluice: what can be asked</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# A browser that keeps to this loads nothing from, and sends nothing to, any other host.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The files of the package that the page uses, and no others: a name that is not here is never made into a path.
PACKAGE_FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
NO_SNIFF = {"X-Content-Type-Options": "nosniff"}


async def openapi(request: web.Request) -> web.Response:
    """The document. Made anew for each request, in a thread: it is asked for rarely, and takes some milliseconds."""
    routes: list[Route] = request.app[ROUTE_TABLE]
    body = await asyncio.to_thread(lambda: dumps(document(routes)))
    return web.Response(body=body, content_type=JSON)


async def docs(request: web.Request) -> web.Response:
    """Swagger UI, showing /openapi.json."""
    headers = {"Content-Security-Policy": PAGE_POLICY} | NO_SNIFF
    return web.Response(text=PAGE, content_type="text/html", charset="utf-8", headers=headers)


async def docs_file(request: web.Request) -> web.StreamResponse:
    """A file of the page. FileResponse reads it in a thread and answers conditional requests."""
    name = request.match_info["file"]
    if name == "start.js":
        return web.Response(text=START, content_type="text/javascript", charset="utf-8", headers=NO_SNIFF)
    if name not in PACKAGE_FILES:
        raise EngineError("not_found", "not found")
    return web.FileResponse(swagger_ui_path / name, headers={"Content-Type": PACKAGE_FILES[name]} | NO_SNIFF)


DOCS_FILE = {200: "the file", 404: "not one of its files"}

ROUTES = [
    Route("GET", "/openapi.json", openapi, "The OpenAPI document of every route", "none", None, {200: "OpenAPI 3.1"}),
    Route("HEAD", "/openapi.json", openapi, "The same without a body", "none", None, {200: "OpenAPI 3.1"}),
    Route("GET", "/docs", docs, "The same as a page to read and try (Swagger UI)", "none", None, {200: "HTML"}),
    Route("HEAD", "/docs", docs, "The same without a body", "none", None, {200: "HTML"}),
    Route("GET", "/docs/{file}", docs_file, "A file of that page", "none", None, DOCS_FILE),
    Route("HEAD", "/docs/{file}", docs_file, "The same without a body", "none", None, DOCS_FILE),
]
