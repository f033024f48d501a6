"""The description of everything that the server answers: `/openapi.json`, made from the route table, and `/docs`, which shows it.

Knows the shape of a Route and the media types of this server. Knows nothing of what a route does. The page names no other host, and
forbids the browser to load anything from one.
"""

import asyncio
import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from engine.accounts import OWNER_NAME
from engine.datasets.names import DATASET_NAME, ORG_NAME
from engine.errors import EngineError
from engine.repository.index import MODEL_NAME
from engine.teams import PROJECT_ID
from handlers.http.bodies import NDJSON
from handlers.http.docs_page import docs_page
from handlers.http.errors import NOT_FOUND, dumps
from handlers.http.forms import FORM
from handlers.http.routes import BodyKind, FormBody, Handler, Route, Surface

SURFACE = Surface(name="openapi")

Json = dict[str, Any]
Key = TypeVar("Key", int, str)

OPENAPI_VERSION = "3.1.0"
JSON = "application/json"
SCHEMAS = "#/components/schemas/"
FILE: Json = {"type": "string", "format": "binary"}

DESCRIPTION = """One asyncio server for predictions: one record in one request, or millions in one stream.

A trailing slash is optional on every path. What stands below `/v1`, but for models and embeddings, is answered below `/api/v1/api`
as well. Credentials are HTTP Basic `user:key` or `Authorization: Bearer key`. A request that is refused before its first byte is
answered `{"error": "..."}`. Below `/models` and `/embeddings` refusals have the shape of FastAPI, below `/v1/models` and
`/v1/embeddings` the shape of OpenAI, and below the rest of `/v1` the shape `{"Error": {"Code", "Message", ...}}`."""

PATH_PARAMETERS: dict[str, Json] = {
    "owner": {"description": "the owner of the model", "pattern": f"^{OWNER_NAME.pattern}$", "example": "brandon"},
    "org": {"description": "the user whose dataset it is", "pattern": f"^{ORG_NAME.pattern}$", "example": "admin"},
    "dataset": {"description": "the name of the dataset", "pattern": f"^{DATASET_NAME.pattern}$", "example": "facts"},
    "model": {"description": "the name of the model", "pattern": f"^{MODEL_NAME.pattern}$", "example": "HelloWorld"},
    "workspace": {"description": "the org of names without one", "pattern": f"^{OWNER_NAME.pattern}$", "example": "ann"},
    "team": {"description": "the team", "pattern": f"^{OWNER_NAME.pattern}$", "example": "acme"},
    "user": {"description": "a user who is in the team", "pattern": f"^{OWNER_NAME.pattern}$", "example": "eva"},
    "project": {"description": "the project", "pattern": f"^{PROJECT_ID.pattern}$", "example": "demo"},
    "iid": {"description": "the number of the object", "pattern": "^[0-9]+$", "example": "9"},
    "file": {"description": "the name of a file", "pattern": "^[^/]+$", "example": "records.ndjson"},
    "title": {
        "description": "a dataset, as `name` or `org/name`; the slash may be sent as %2F",
        "pattern": f"^(?:{ORG_NAME.pattern}/)?{DATASET_NAME.pattern}$",
        "example": "admin/facts",
    },
    "address": {
        "description": "as an answer has it: the dataset, `--`, and further parts, each of which is quoted",
        "pattern": "^.+/--/.+$",
    },
}

RECORD_EXAMPLE = {"name": "Kermit"}
LINES_EXAMPLE = '{"name":"jim"}\n{"name":"bob"}\n{"name":"sarah"}\n'

_YHAT_ID = {"anyOf": [{"type": "string"}, {"type": "number"}], "description": "the id that the record had, or 32 hex digits"}
_RECORD = {"code": {"type": "string"}, "error": {"type": "string"}, "yhat_id": _YHAT_ID, "yhat_model": {"type": "string"}}
BASE_SCHEMAS: Json = {
    "Record": {
        "type": "object",
        "description": "The fields that the model's config.json names; yhat_id is optional.",
    },
    "Error": {
        "type": "object",
        "description": "`error` says what was wrong. The other properties are there when a record was refused.",
        "properties": _RECORD,
    },
    "CodedError": {
        "type": "object",
        "description": "`message` says what was wrong, `code` is for programs. Some have `position` (in the text of a query), "
        "`hint`, `line` or `column`.",
        "required": ["message", "code"],
        "properties": {
            "message": {"type": "string"},
            "code": {"type": "string"},
            "position": {"type": "object", "properties": {key: {"type": "integer"} for key in ("offset", "line", "column")}},
            "hint": {"type": "string"},
            "line": {"type": "integer"},
            "column": {"type": "string"},
        },
    },
    "DetailError": {
        "type": "object",
        "description": "A refusal in the shape of FastAPI: a list of faults when the body is wrong (422), else one sentence.",
        "required": ["detail"],
        "properties": {"detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}},
    },
    "OpenAIError": {
        "type": "object",
        "description": "A refusal in the shape that OpenAI's clients expect: `error` has message, type, param and code.",
        "required": ["error"],
        "properties": {"error": {"type": "object", "required": ["message", "type"]}},
    },
    "SixKeysError": {
        "type": "object",
        "description": "`message` says what was wrong, and the keys that begin with `cause` what was behind it.",
        "required": ["status_code", "exception", "message", "cause_exception", "cause_message", "cause_traceback"],
        "properties": {
            "status_code": {"type": "integer"},
            **{key: {"type": "string"} for key in ("exception", "message", "cause_exception", "cause_message")},
            "cause_traceback": {"type": "array", "items": {"type": "string"}},
        },
    },
    "ListedError": {
        "type": "object",
        "description": "`Details` lists the faults, at most 100 of them; `DetailsTotal` says how many there are.",
        "required": ["Error"],
        "properties": {
            "Error": {
                "type": "object",
                "required": ["Code", "Message", "Details", "DetailsTotal"],
                "properties": {
                    "Code": {"type": "string"},
                    "Message": {"type": "string"},
                    "Details": {"type": "array", "items": {"type": "object"}},
                    "DetailsTotal": {"type": "integer"},
                },
            }
        },
    },
    "Prediction": {
        "type": "object",
        "required": ["result", "version", "yhat_id", "yhat_model"],
        "properties": {
            "result": {"description": "in the form that the model's config.json describes"},
            "version": {"type": "integer"},
            "yhat_id": _YHAT_ID,
            "yhat_model": {"type": "string"},
        },
    },
    "Lines": {
        "type": "string",
        "description": "Newline-delimited JSON: one object per line. Each line of an answer has `result`, or `code` and `error`.",
    },
}


# The document

# Encoded, as every request for it gets it.
DOCUMENT = web.AppKey("document", bytes)


def encoded(routes: Sequence[Route]) -> bytes:
    """The OpenAPI document of these routes in JSON. It takes 8 ms, so it is made once."""
    return dumps(document(routes))


def document(routes: Sequence[Route]) -> Json:
    """The OpenAPI document of these routes."""
    operations = merged(routes)
    bodies = sorted({body for route in routes for body in route.bodies if isinstance(body, type)}, key=lambda body: body.__name__)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Sluice", "version": _version(), "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": _paths(operations),
        "components": {
            "schemas": BASE_SCHEMAS | _schemas(bodies),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "user and key"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "the key alone"},
            },
        },
    }


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
    return replace(
        routes[0],
        when=None,
        summary=summary[0].upper() + summary[1:],
        key=_words(routes, [route.key for route in routes]),
        body=tuple(body for route in routes for body in route.bodies),
        answers=_tables(routes, [route.answers for route in routes]),
        query=_tables(routes, [route.query for route in routes]),
    )


def _tables(routes: Sequence[Route], tables: Sequence[dict[Key, str]]) -> dict[Key, str]:
    """The tables of several routes as one."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: _words(routes, [table.get(key) for table in tables]) for key in keys}


def _words(routes: Iterable[Route], texts: Iterable[str | None]) -> str:
    """The texts of several routes as one: the text itself if all routes that have one agree, else each with its condition."""
    said = [(route.when, text) for route, text in zip(routes, texts, strict=True) if text is not None]
    if len({text for _, text in said}) == 1:
        return said[0][1]
    return "; ".join(f"with {when.text}: {text}" if when else f"otherwise: {text}" for when, text in said)


def _version() -> str:
    """The version of the installed package; a checkout that was never installed has none."""
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
        "tags": [route.surface.name],
        "summary": route.summary,
        "description": f"Key needed: {route.key}.",
        "operationId": "_".join(re.findall(r"\w+", f"{route.method.lower()} {public_path(route)}")),
        "security": _security(route),
        "responses": {str(status): _answer(route, status) for status in sorted(route.answers)},
    }
    if parameters := [*_path_parameters(route), *_query_parameters(route)]:
        operation["parameters"] = parameters
    if route.bodies:
        content = {kind: described for body in route.bodies for kind, described in _body(body).items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _security(route: Route) -> list[Json]:
    """A route with the key `itself` checks credentials, which may also come in the query or in a form."""
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
    """The query parameters of an operation. One whose sentence begins with `true:` is a flag."""
    return [
        {
            "name": name,
            "in": "query",
            "description": text,
            "schema": {"type": "boolean" if text.startswith("true:") else "string"},
        }
        for name, text in route.query.items()
    ]


def _body(body: BodyKind) -> Json:
    """The content of a request body. A route that takes lines takes one JSON record as well."""
    if isinstance(body, FormBody):
        return {FORM: {"schema": _form(body)}}
    if not isinstance(body, str):
        return {JSON: {"schema": {"$ref": SCHEMAS + body.__name__}}}
    if body == NDJSON:
        return {
            JSON: {"schema": {"$ref": SCHEMAS + "Record"}, "example": RECORD_EXAMPLE},
            NDJSON: {"schema": {"$ref": SCHEMAS + "Lines"}, "example": LINES_EXAMPLE},
        }
    return {body: {"schema": FILE}}


def _form(form: FormBody) -> Json:
    """The schema of a form: an object whose properties are its parts."""
    parts = {name: FILE | {"description": text} for name, text in form.parts.items()}
    parts |= {name: {"type": "array", "items": FILE, "description": form.parts[name]} for name in form.many}
    return {"type": "object", "required": list(form.needed), "properties": parts, "additionalProperties": False}


def _answer(route: Route, status: int) -> Json:
    """One answer of an operation. A refusal has the shape of the surface; that of a route that needs no key is not described."""
    answer: Json = {"description": route.answers[status]}
    if route.method in ("HEAD", "OPTIONS"):
        return answer
    if status >= 400 and route.key != "none":
        answer["content"] = {JSON: {"schema": {"$ref": SCHEMAS + route.surface.schema}}}
    elif status == 200 and route.body == NDJSON:
        answer["content"] = {
            JSON: {"schema": {"$ref": SCHEMAS + "Prediction"}},
            NDJSON: {"schema": {"$ref": SCHEMAS + "Lines"}},
        }
    return answer


# The pages

START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
# The files of Swagger UI that the page uses. No other name is ever made into a path.
SWAGGER_UI = Path(__file__).with_name("swagger_ui")
SWAGGER_UI_FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}


async def openapi(request: web.Request) -> web.Response:
    """The document, which was made when the server started."""
    return web.Response(body=request.app[DOCUMENT], content_type=JSON)


async def docs(request: web.Request) -> web.Response:
    """The page: Swagger UI, which shows /openapi.json."""
    return docs_page()


async def docs_file(request: web.Request) -> web.StreamResponse:
    """A file of the page. FileResponse reads it in a thread, answers conditional requests, and sends NAME.gz if it may."""
    name = request.match_info["file"]
    if name == "start.js":
        return web.Response(text=START, content_type="text/javascript", charset="utf-8")
    if name not in SWAGGER_UI_FILES:
        raise EngineError(NOT_FOUND, "not found")
    path, packed = SWAGGER_UI / name, SWAGGER_UI / f"{name}.gz"
    headers = {"Content-Type": SWAGGER_UI_FILES[name]}
    if "gzip" not in request.headers.get("Accept-Encoding", "") and await asyncio.to_thread(packed.exists):
        return web.Response(body=await asyncio.to_thread(_unpacked, packed), headers=headers | {"Vary": "Accept-Encoding"})
    return web.FileResponse(path, headers=headers)


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


# Routes


def _page(path: str, handler: Handler, summary: str, answers: dict[int, str]) -> tuple[Route, Route]:
    """The two routes of a page that is open to everybody: GET, and HEAD."""
    get = Route(method="GET", path=path, handler=handler, surface=SURFACE, summary=summary, key="none", answers=answers)
    return get, replace(get, method="HEAD", summary="The same without a body")


ROUTES = (
    *_page("/openapi.json", openapi, "The OpenAPI document of every route", {200: "OpenAPI 3.1"}),
    *_page("/docs", docs, "The same as a page to read and to try requests on (Swagger UI)", {200: "HTML"}),
    *_page("/docs/{file}", docs_file, "A file of that page", {200: "the file", 404: "the page has no such file"}),
)
