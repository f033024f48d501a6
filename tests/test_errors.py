"""Every error code exists once, in engine/errors.py, with its sentence; what is raised is there, and what is there is raised."""

import ast
from collections.abc import Iterator

import pytest

from engine.errors import RECORD_CODES, REQUEST_CODES, STREAM_CODES
from handlers.http.errors import COMPAT_CODES, STATUSES
from handlers.streaming.predict import BODY_CODES, RECORD_STATUSES
from tests.serving import ROOT

# Who carries a code as its first argument -> the table it must be in.
TABLES = {"EngineError": REQUEST_CODES, "StreamFailure": STREAM_CODES, "Fault": RECORD_CODES, "Refused": RECORD_CODES}
# Where codes are told about, not raised.
TELLERS = {"engine/errors.py", "handlers/http/errors.py"}

TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("server", "handlers", "engine")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def raised() -> Iterator[tuple[str, str, str]]:
    """(file:line, class, code) of every error made with a code written out."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TABLES and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    yield f"{name}:{node.lineno}", node.func.id, code.value


def test_every_code_that_is_raised_has_its_sentence() -> None:
    found = list(raised())
    assert len(found) > 30, "the walk finds the errors"
    assert [one for one in found if one[2] not in TABLES[one[1]]] == []


def test_every_request_code_has_one_status() -> None:
    assert STATUSES.keys() == REQUEST_CODES.keys()
    assert all(400 <= status < 600 for status in STATUSES.values())


def test_special_statuses_are_of_codes_that_exist() -> None:
    assert REQUEST_CODES.keys() >= COMPAT_CODES
    assert RECORD_CODES.keys() >= BODY_CODES | RECORD_STATUSES.keys()


@pytest.mark.parametrize("code", sorted(REQUEST_CODES | RECORD_CODES | STREAM_CODES))
def test_every_code_is_used(code: str) -> None:
    users = [
        name
        for name, tree in TREES.items()
        if name not in TELLERS and any(isinstance(node, ast.Constant) and node.value == code for node in ast.walk(tree))
    ]
    assert users, f"nothing raises {code}: take it out of engine/errors.py"


@pytest.mark.parametrize("text", [*REQUEST_CODES.values(), *RECORD_CODES.values(), *STREAM_CODES.values()])
def test_a_sentence_is_one_line_without_an_end(text: str) -> None:
    assert text == text.strip()
    assert "\n" not in text
    assert not text.endswith(".")
