"""Every error code is defined once, with its kind and its sentence; what is raised is defined, and what is defined is raised."""

import ast
from collections.abc import Iterator

import pytest

from engine.errors import RECORD_CODES, Code, Kind
from engine.query.codes import QUERY_CODES
from engine.streaming.failures import STREAM_CODES
from handlers.http.errors import HTTP_STATUSES, STATUSES
from server.docs import defined_codes
from tests.serving import ROOT

REQUEST_CODES = {str(code): code for code in defined_codes()}
# A replica names its codes by their words: the family, and who carries one as its first argument -> the codes it may be.
NAMED_BY_REPLICAS = {
    ("", "Fault"): RECORD_CODES,
    ("scoring", "Refused"): RECORD_CODES,
    ("query", "Refused"): QUERY_CODES,
    ("embedding", "BodyFault"): REQUEST_CODES,
    ("tensors", "Rejected"): REQUEST_CODES | RECORD_CODES,
}
# Every code, with the variable that holds it: its own name, except for codes of records, which are held by their words.
CODES = [*REQUEST_CODES.values(), *STREAM_CODES, *RECORD_CODES.values()]

TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("server", "handlers", "engine")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# Each file is walked once: there are 200 codes, and 400,000 nodes.
NODES = {path: list(ast.walk(tree)) for path, tree in TREES.items()}
CALLS = [
    (path, node)
    for path, nodes in NODES.items()
    for node in nodes
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
]
READ = {node.id for nodes in NODES.values() for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
WRITTEN = {
    node.value
    for path, nodes in NODES.items()
    if path != "engine/errors.py"
    for node in nodes
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


def calls(name: str, folder: str = "") -> Iterator[tuple[str, ast.Call]]:
    """(file:line, call) of every call of a function or class with this name, in the files of one folder."""
    for path, call in CALLS:
        if path.startswith(folder) and isinstance(call.func, ast.Name) and call.func.id == name:
            yield f"{path}:{call.lineno}", call


def words(name: str, folder: str = "") -> Iterator[tuple[str, str]]:
    """(file:line, word) of every such call whose first argument is a word written out."""
    for place, call in calls(name, folder):
        if call.args and isinstance(call.args[0], ast.Constant):
            yield place, call.args[0].value


def test_every_code_that_is_defined_is_documented() -> None:
    defined = [word for _, word in words("Code")]
    assert len(defined) > 40, "the walk finds the definitions"
    assert set(defined) == {*REQUEST_CODES, *RECORD_CODES, *map(str, STREAM_CODES)}


def test_every_code_is_defined_once() -> None:
    """A code of a record may share its word with one of a request, whose kind is another: both may pass a time limit."""
    defined = [word for _, word in words("Code")]
    assert {word for word in defined if defined.count(word) > 1} <= set(RECORD_CODES) & set(REQUEST_CODES)
    assert max(map(defined.count, defined)) <= 2


@pytest.mark.parametrize(("family", "name"), sorted(NAMED_BY_REPLICAS))
def test_every_word_of_a_replica_is_a_code(family: str, name: str) -> None:
    found = list(words(name, f"engine/tasks/{family}"))
    assert found, "the walk finds the errors"
    assert [one for one in found if one[1] not in NAMED_BY_REPLICAS[family, name]] == []


@pytest.mark.parametrize("name", ["EngineError", "RefusedBody", "StreamFailure"])
def test_the_server_process_raises_codes_and_no_words(name: str) -> None:
    assert list(words(name)) == []


def test_every_kind_has_a_status_and_only_reasons_of_http_have_one_of_their_own() -> None:
    assert STATUSES.keys() == set(Kind)
    assert len(set(STATUSES.values())) == len(STATUSES)
    assert not set(HTTP_STATUSES.values()) & set(STATUSES.values())


@pytest.mark.parametrize("code", sorted(set(CODES)))
def test_every_code_is_used(code: Code) -> None:
    """By its variable, or by its word in a replica; its definition is no use, nor is an import."""
    assert code.upper() in READ or code in WRITTEN, f"nothing raises {code}: remove it"


@pytest.mark.parametrize("text", sorted({code.text for code in CODES}))
def test_a_sentence_is_one_line_without_an_end(text: str) -> None:
    assert text == text.strip()
    assert "\n" not in text
    assert not text.endswith(".")
