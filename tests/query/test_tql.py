"""The statements of tql.yaml behave as written: accepted ones give their rows, refused ones their code and their place."""

import pytest

from tests.query.asking import ask, assert_refused, strict_json
from tests.query.statements import Statement, same, statements
from tests.serving import Server

STATUSES = {"dataset_not_found": 404, "version_not_found": 404, "model_not_found": 404, "out_of_memory": 422}
ACCEPTED = [statement for statement in statements() if statement.tensors]
REFUSED = [statement for statement in statements() if statement.codes]


@pytest.mark.parametrize("statement", ACCEPTED, ids=[statement.says for statement in ACCEPTED])
def test_accepted(server: Server, statement: Statement) -> None:
    answer = ask(server, **statement.body)
    assert answer.status_code == 200, answer.text
    body = strict_json(answer.content)
    assert body["tensors"] == statement.tensors
    found = [list(row.values()) for row in body["data"]]
    assert same(found, statement.rows), found
    assert answer.headers["X-Rows"] == str(len(statement.rows))


@pytest.mark.parametrize("statement", REFUSED, ids=[statement.says for statement in REFUSED])
def test_refused(server: Server, statement: Statement) -> None:
    answer = ask(server, **statement.body)
    body = assert_refused(answer, STATUSES.get(statement.codes[0], 400), *statement.codes)
    assert (statement.message or "") in body["message"]
    assert (statement.hint or "") in body.get("hint", "")
    if "position" in body:
        offset = body["position"]["offset"]
        before = statement.query[:offset]
        line, at = before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
        assert body["position"] == {"offset": offset, "line": line, "column": at}
        assert 0 <= offset <= len(statement.query)
    if statement.span:
        assert "position" in body, body
        first, last = statement.span
        assert first <= body["position"]["offset"] <= last, body
