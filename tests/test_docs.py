"""What is written about the server is what the server does: README.md, docs/, /openapi.json, /docs, the words of the Makefile."""

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from engine.errors import RECORD_CODES
from engine.streaming.failures import STREAM_CODES
from engine.tasks.query.allowed import FUNCTIONS
from handlers.http.forms import FORM
from handlers.http.routes import FormBody, Route
from handlers.openapi import SWAGGER_UI_FILES, merged, public_path
from server import docs
from server.app import ROUTES
from server.config import Settings, environment_name
from tests.serving import ROOT, Server

# README.md and every file of docs/.
WRITTEN = "\n".join(document.read_text(encoding="utf-8") for document in docs.DOCUMENTS)
# Every operation of the server: routes that share a method and a path are one.
OPERATIONS = merged(ROUTES)
WORDS = re.findall(
    r"^  make (\S+) ", subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout, re.MULTILINE
)


@pytest.fixture(scope="session")
def document(server: Server) -> dict[str, Any]:
    """/openapi.json of a running server, asked without credentials."""
    answer = requests.get(f"{server.url}/openapi.json", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    found: dict[str, Any] = answer.json()
    return found


# README.md and docs/


@pytest.mark.parametrize("document", docs.DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_of_the_documents_are_those_of_the_code(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert docs.with_tables(text) == text, f"{document.name} is not up to date; write its tables again: {docs.COMMAND}"


def test_every_table_stands_in_one_document() -> None:
    assert sorted(found[2] for found in docs.TABLE.finditer(WRITTEN)) == sorted(docs.TABLES)


@pytest.mark.parametrize("name", [environment_name(name) for name in Settings.__dataclass_fields__])
def test_every_setting_is_documented(name: str) -> None:
    assert f"| `{name}` |" in WRITTEN


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_of_the_query_language_is_documented(name: str) -> None:
    assert re.search(rf"`{name}[(`]", (ROOT / "docs" / "query.md").read_text(encoding="utf-8"))


UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1}
NUMBER = r"[\d,.]+(?: (?:KiB|MiB|GiB|s)\b)?"
SETTING = rf"`SLUICE_\w+` \({NUMBER}\)"
FORMULA = re.compile(rf"((?:{SETTING}|{NUMBER})(?: [x+] (?:{SETTING}|{NUMBER}))+) = ({NUMBER})")


def amount(text: str) -> float:
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * UNITS[unit]


def test_the_numbers_beside_settings_are_their_defaults_and_the_arithmetic_is_right() -> None:
    """Where the text has `SETTING` (number), and number x number = number, as the bounds of docs/operations.md are written."""
    text = " ".join(WRITTEN.split())
    shown = re.findall(rf"`(SLUICE_\w+)` \(({NUMBER})\)", text)
    defaults = {environment_name(name): getattr(Settings(), name) for name in Settings.__dataclass_fields__}
    assert [(name, number) for name, number in shown if amount(number) != defaults[name]] == []
    formulas = FORMULA.findall(text)
    assert len(shown) > 20
    assert len(formulas) > 5
    for terms, result in formulas:
        numbers = re.sub(rf"`SLUICE_\w+` \(({NUMBER})\)", r"\1", terms)
        factors = [amount(number) for number in re.split(r" [x+] ", numbers)]
        assert (math.prod(factors) if " x " in numbers else sum(factors)) == amount(result), f"{terms} = {result}"


@pytest.mark.parametrize("code", sorted({*docs.defined_codes(), *RECORD_CODES.values(), *STREAM_CODES}))
def test_every_error_code_is_documented(code: str) -> None:
    assert f"| `{code}` |" in WRITTEN


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_documented(route: Route) -> None:
    rows = re.findall(rf"^\| `([A-Z, ]+) {re.escape(public_path(route))}` \|", WRITTEN, re.MULTILINE)
    assert any(route.method in methods.split(", ") for methods in rows)


def test_the_documented_metrics_are_those_that_are_shown(server: Server) -> None:
    text = requests.get(f"{server.url}/metrics", auth=server.auth, timeout=10).text
    shown = {name for name in re.findall(r"^# HELP (\S+)", text, re.MULTILINE) if not name.endswith("_created")}
    assert {name for name in re.findall(r"^\| `(sluice_\w+)` \|", WRITTEN, re.MULTILINE)} == shown


def test_the_documented_words_of_make_are_those_of_the_makefile() -> None:
    assert set(re.findall(r"`make ([a-z-]+)", WRITTEN)) == set(WORDS)


# Makefile


@pytest.mark.parametrize("word", WORDS)
def test_every_word_that_help_prints_does_something(word: str) -> None:
    done = subprocess.run(["make", "--dry-run", "--always-make", word], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_word_of_the_makefile_has_its_comment() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(WORDS)


# /openapi.json


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_the_document(document: dict[str, Any], route: Route) -> None:
    operation = document["paths"][public_path(route)][route.method.lower()]
    assert operation["summary"] == route.summary
    own = {status for status, answer in operation["responses"].items() if "$ref" not in answer}
    assert own == {str(status) for status in route.answers}
    around = {"403", "417", "500", "503"} | ({"413", "415", "429"} if route.bodies else set())
    assert operation["responses"].keys() - own - {"307"} == around - own
    named = [(one["in"], one["name"]) for one in operation.get("parameters", [])]
    in_path = re.findall(r"\{(\w+)\}", public_path(route))
    assert named == [("path", name) for name in in_path] + [("query", name) for name in route.query]
    assert ("requestBody" in operation) == bool(route.bodies)
    assert (operation["security"] == []) == (route.key == "none")


def test_forms_are_described_by_their_parts(document: dict[str, Any]) -> None:
    found = {
        public_path(route): document["paths"][public_path(route)][route.method.lower()]["requestBody"]["content"][FORM]["schema"]
        for route in OPERATIONS
        if any(isinstance(body, FormBody) for body in route.bodies)
    }
    assert {path: (schema["required"], sorted(schema["properties"])) for path, schema in found.items()} == {
        "/{owner}/models/{model}": (["model"], ["config", "data", "model", "tokenizer"]),
        "/{owner}/models/{model}/{file}": (["model"], ["config", "data", "model", "tokenizer"]),
        "/v1/projects/{team}/{project}/datauploads": (["file"], ["file"]),
    }
    assert found["/{owner}/models/{model}"]["properties"]["data"]["type"] == "array"


def test_every_route_says_what_it_answers() -> None:
    assert [f"{route.method} {route.path}" for route in OPERATIONS if not route.answers or not route.summary] == []


def test_the_document_has_no_route_that_is_not_there(document: dict[str, Any]) -> None:
    named = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert named == {(route.method, public_path(route)) for route in OPERATIONS}


def test_what_the_document_leaves_out_stands_there_by_its_first_path() -> None:
    named = {(route.method, route.handler) for route in OPERATIONS}
    assert [route.path for route in ROUTES if route.is_alias and (route.method, route.handler) not in named] == []


def test_the_document_is_openapi_and_its_references_lead_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)))
    assert references
    assert references <= document["components"]["schemas"].keys()
    ids = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_an_example_of_a_path_has_the_pattern_that_is_named_with_it(document: dict[str, Any]) -> None:
    """A dataset has two names: in `/api/datasets` its org stands apart, and on the page it is before the slash."""
    found = [
        one for of_path in document["paths"].values() for operation in of_path.values() for one in operation.get("parameters", [])
    ]
    named = {one["name"]: one for one in found if "example" in one}
    assert {"org", "dataset", "title"} <= named.keys()
    texts = {name: one for name, one in named.items() if one["schema"]["type"] == "string"}
    assert [name for name, one in texts.items() if not re.search(one["schema"]["pattern"], one["example"])] == []
    pattern = named["title"]["schema"]["pattern"]
    assert [bool(re.search(pattern, title)) for title in ("people", "ann/notes", "a/b/c", "../x", "")] == [True, True] + [False] * 3


def test_bodies_are_described(document: dict[str, Any]) -> None:
    bulk = document["paths"]["/{owner}/models/{model}"]["post"]
    arrow = "application/vnd.apache.arrow.stream"
    assert bulk["requestBody"]["content"].keys() == {"application/json", "application/x-ndjson", arrow}
    assert bulk["responses"]["200"]["content"].keys() == {"application/json", "application/x-ndjson", arrow}
    assert document["components"]["schemas"]["NewUser"]["properties"]["name"]["type"] == "string"
    assert document["components"]["schemas"]["NewKey"]["properties"]["kind"]["enum"] == ["full", "read_only"]
    assert document["components"]["securitySchemes"].keys() == {"basic", "bearer"}


def test_refusals_are_described_in_the_shape_of_their_surface(document: dict[str, Any]) -> None:
    def shape(path: str, status: str) -> str:
        content = document["paths"][path]["post"]["responses"][status]["content"]
        return str(content["application/json"]["schema"]["$ref"]).rpartition("/")[2]

    found = [shape(*where) for where in (("/embeddings", "422"), ("/v1/embeddings", "400"), ("/api/users", "422"))]
    assert found == ["DetailError", "OpenAIError", "Error"]


# /docs


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/", "/openapi.json", "/docs/start.js", *(f"/docs/{name}" for name in SWAGGER_UI_FILES)]
)
def test_the_pages_are_open_and_head_is_get_without_a_body(server: Server, path: str) -> None:
    got = requests.get(server.url + path, timeout=10)
    head = requests.head(server.url + path, timeout=10)
    assert (got.status_code, head.status_code) == (200, 200)
    assert got.content
    assert not head.content
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize("name", ["swagger-ui.css", "swagger-ui-bundle.js"])
def test_a_file_of_the_page_is_the_same_for_clients_that_take_gzip_and_for_others(server: Server, name: str) -> None:
    packed = requests.get(f"{server.url}/docs/{name}", headers={"Accept-Encoding": "gzip"}, timeout=10)
    plain = requests.get(f"{server.url}/docs/{name}", headers={"Accept-Encoding": "identity"}, timeout=10)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.content == plain.content


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser: Debian's package chromium")
def test_a_browser_shows_every_operation_and_opens_the_prediction(server: Server, tmp_path: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
    # Of more than 140 operations Swagger UI shows only those that are in the window.
    options.append("--window-size=1000,40000")
    command = ["chromium", *options, "--virtual-time-budget=20000", "--dump-dom", f"{server.url}/docs"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert shown.stdout.count('class="opblock-summary-method"') == len(OPERATIONS)
    assert "CONSOLE" not in shown.stderr  # errors, and what the policy of the page has forbidden
    assert re.findall(r'<h3 class="opblock-tag[^>]*id="operations-tag-(\w+)"', shown.stdout)[0] == "streaming"
    blocks = re.findall(r'class="opblock ([^"]*)" id="([\w-]+)"', shown.stdout)
    assert blocks[0][1] == "operations-streaming-post_owner_models_model"
    assert ["is-open" in classes for classes, _ in blocks] == [True] + [False] * (len(OPERATIONS) - 1)


def test_the_page_names_no_other_host_and_keeps_the_browser_here(server: Server) -> None:
    page = requests.get(f"{server.url}/docs", timeout=10)
    start = requests.get(f"{server.url}/docs/start.js", timeout=10)
    assert "//" not in page.text + start.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert requests.get(server.url + path, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/docs/index.html",
        "/docs/../setup.cfg",
        "/docs/..%2f..%2f__init__.py",
        "/docs/%2e%2e/%2e%2e/__init__.py",
        "/docs/%2fetc%2fpasswd",
        "/docs//etc/passwd",
        "/docs/swagger-ui.css%00",
    ],
)
def test_nothing_else_can_be_read_by_way_of_docs(server: Server, path: str) -> None:
    command = ["curl", "-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", server.url + path]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "404"
