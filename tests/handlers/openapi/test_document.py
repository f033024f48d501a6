"""The document as programs read it: valid, with the content of each answer, and with the values that parameters may have."""

import re
from dataclasses import replace
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from handlers.http.origins import SAFE_METHODS
from handlers.http.routes import Route
from handlers.openapi.document import BODILESS_METHODS, WITHOUT_BODY, document, merged
from handlers.openapi.parameters import public_path
from server.app import ROUTES
from tests.described import described
from tests.serving import Server

OPERATIONS = merged(ROUTES)


def operation(path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = described()["paths"][path][method]
    return found


def parameter(path: str, method: str, name: str) -> dict[str, Any]:
    return next(one["schema"] for one in operation(path, method)["parameters"] if one["name"] == name)


def silent(routes: list[Route]) -> list[str]:
    """The answers of which the routes do not say what they hold."""
    return [
        f"{route.method} {route.path} {status}"
        for route in routes
        if route.method not in BODILESS_METHODS
        for status in route.answers
        if status < 400 and status not in WITHOUT_BODY and route.holds(status) is None
    ]


def test_the_document_is_valid() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(described()).iter_errors()] == []


def test_every_route_says_what_its_answers_hold() -> None:
    """Give the route a `reply`: a TypedDict, a media type, or `()` for answers without a body."""
    assert silent(OPERATIONS) == []
    assert silent([replace(OPERATIONS[0], reply=None)]) != []


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route.method} {route.path}")
def test_every_answer_with_a_body_has_its_schema(route: Route) -> None:
    made = document([route])
    [operations] = made["paths"].values()
    for status, answer in operations[route.method.lower()]["responses"].items():
        if "$ref" in answer:
            shared = made["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            assert ("content" in shared) == (int(status) >= 400 and route.method != "HEAD"), status
            continue
        has_body = route.method not in BODILESS_METHODS and int(status) not in WITHOUT_BODY and route.holds(int(status)) != ()
        assert ("content" in answer) == has_body, status
        assert all(one["schema"] for one in answer.get("content", {}).values()), status


def shared_fault(answer: requests.Response, route: Route) -> str | None:
    """What of an answer is not as the document says of every route, or of this one; None if nothing is."""
    told = described()["paths"][public_path(route)][route.method.lower()]["responses"][str(answer.status_code)]
    if "$ref" in told:
        told = described()["components"]["responses"][told["$ref"].rpartition("/")[2]]
    if not answer.content:
        return None if "content" not in told else "it has no body"
    schema = told["content"][answer.headers["Content-Type"].partition(";")[0]]["schema"]
    error = next(Draft202012Validator({**schema, "components": described()["components"]}).iter_errors(answer.json()), None)
    return error and error.message


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route.method} {route.path}")
def test_what_stands_around_a_route_answers_as_the_document_says(server: Server, route: Route) -> None:
    """A wrong Expect, a page of another origin, and a slash at the end."""
    url = server.url + re.sub(r"\{[^}]*\}", "1", public_path(route))

    def ask(end: str = "", **headers: str) -> requests.Response:
        return requests.request(route.method, url + end, headers=headers, auth=server.auth, allow_redirects=False, timeout=30)

    expecting = ask(Expect="a miracle")
    assert (expecting.status_code, shared_fault(expecting, route)) == (417, None)
    if route.method not in SAFE_METHODS and not route.surface.is_open_to_all:
        foreign = ask(Origin="http://evil.example")
        assert (foreign.status_code, shared_fault(foreign, route)) == (403, None)
    if "307" in described()["paths"][public_path(route)][route.method.lower()]["responses"]:
        redirected = ask("/")
        assert (redirected.status_code, shared_fault(redirected, route)) == (307, None)


def test_parameters_have_types_and_words() -> None:
    predict = "/{owner}/models/{model}"
    assert parameter(predict, "post", "bulk") == {"type": "boolean"}
    assert parameter(predict, "post", "times") == {"type": "string", "enum": ["go", "iso"]}
    assert parameter(predict, "post", "version") == {"type": "integer", "minimum": 1}
    assert parameter("/v2/rows", "get", "length") == {"type": "integer", "minimum": 1, "maximum": 100}
    assert parameter("/api/datasets/{org}/{dataset}", "put", "embed") == {"type": "array", "items": {"type": "string"}}
    assert parameter("/v1/projects/{team}/{project}/models/{iid}", "get", "iid")["type"] == "integer"


def test_no_parameter_has_a_default_that_programs_would_send() -> None:
    """A setting of the server may have another one."""
    found = [one for paths in described()["paths"].values() for method in paths.values() for one in method.get("parameters", [])]
    assert [one["name"] for one in found if "default" in one["schema"]] == []


def test_json_comes_first_and_lines_beside_it() -> None:
    predict = operation("/{owner}/models/{model}", "post")
    for content in (predict["requestBody"]["content"], predict["responses"]["200"]["content"]):
        assert list(content) == ["application/json", "application/x-ndjson", "application/vnd.apache.arrow.stream"]
    rows = operation("/api/datasets/{org}/{dataset}", "put")["requestBody"]["content"]
    assert list(rows)[:2] == ["application/json", "application/x-ndjson"]
    assert list(operation("/api/query/v1", "post")["responses"]["200"]["content"])[:2] == [
        "application/json",
        "application/x-ndjson",
    ]


def test_an_answer_of_several_shapes_is_any_of_them() -> None:
    schema = operation("/webhook", "post")["responses"]["400"]["content"]["application/json"]["schema"]
    assert [one["$ref"].rpartition("/")[2] for one in schema["anyOf"]] == ["HookAnswer", "SixKeysError"]


def test_predictions_are_the_first_section_and_open_it() -> None:
    tags = [tag["name"] for tag in described()["tags"]]
    assert tags[0] == "streaming"
    assert set(tags) == {one["tags"][0] for paths in described()["paths"].values() for one in paths.values()}
    of_first = [one["operationId"] for paths in described()["paths"].values() for one in paths.values() if one["tags"] == tags[:1]]
    assert of_first[0] == "post_owner_models_model"
