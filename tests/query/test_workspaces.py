"""`POST /workspaces/{w}/tables/query`: the shape of the newer API, over the same language."""

from typing import Any

import pytest
import requests

from tests.query.asking import strict_json
from tests.serving import Server


def ask_table(server: Server, query: str, workspace: str = "admin", **fields: Any) -> requests.Response:
    url = f"{server.url}/workspaces/{workspace}/tables/query"
    return requests.post(url, json={"query": query, **fields}, auth=server.auth, timeout=60)


def test_columns_rows_and_their_number(server: Server) -> None:
    answer = ask_table(
        server, 'select title, cosine_similarity(vec, ARRAY[1, 0]) as score from "books" order by score desc limit 2'
    )
    assert answer.status_code == 200, answer.text
    body = strict_json(answer.content)
    assert list(body) == ["columns", "rows", "row_count"]
    assert body["columns"] == ["title", "score"]
    assert body["rows"] == [["Honey", 1.0], ["Clouds", pytest.approx(0.6)]]
    assert body["row_count"] == 2


def test_no_rows(server: Server) -> None:
    assert ask_table(server, 'select id from "books" where id < 0').json() == {"columns": ["id"], "rows": [], "row_count": 0}


def test_parameters_and_full_names(server: Server) -> None:
    answer = ask_table(server, 'select id from "hub://admin/books" where id = ?', params=[3], timeout_ms=5000)
    assert answer.json()["rows"] == [[3]]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ('select titel from "books"', 400, "unknown_column"),
        ('select title from "nothing"', 404, "dataset_not_found"),
        ('select title frm "books"', 400, "syntax_error"),
        ('drop table "books"', 400, "only_select"),
    ],
)
def test_errors_have_a_message_and_a_code(server: Server, query: str, status: int, code: str) -> None:
    answer = ask_table(server, query)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert list(body) == ["error", "code"]
    assert isinstance(body["error"], str)
    assert body["code"] == code


def test_unknown_fields_and_other_workspaces(server: Server) -> None:
    answer = ask_table(server, 'select id from "books"', as_list=True)
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")
    answer = ask_table(server, 'select id from "books"', workspace="nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")
    url = f"{server.url}/workspaces/admin/tables/query"
    assert requests.post(url, json={"query": 'select id from "books"'}, timeout=30).status_code == 401
