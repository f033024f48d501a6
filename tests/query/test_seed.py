"""The request of the original API works unchanged, but for host and token, and in every form that its users write."""

import numpy as np
import pytest
import requests

from tests.query.asking import API, answered, ask, literal, rows
from tests.serving import Server


def seed_query(vectors: np.ndarray, path: str = "hub://admin/facts") -> str:
    score = f"cosine_similarity(embedding, {literal(vectors[3])}) as score"
    return f'select * from (select text, {score} from "{path}") order by score desc limit 5'


def test_the_snippet_of_the_original_api(server: Server, facts: str, vectors: np.ndarray) -> None:
    url, user_token, dataset_path, embedding = server.url + API, server.key, facts, vectors[17].tolist()

    headers = {"Authorization": f"Bearer {user_token}"}
    embedding_string = ",".join([str(item) for item in embedding])
    request = {
        "query": f"select * from (select text, cosine_similarity(embedding, ARRAY[{embedding_string}]) as score from "
        f'"{dataset_path}") order by score desc limit 5',
        "as_list": True,
    }
    response = requests.post(url, json=request, headers=headers, timeout=60)

    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == ["message", "tensors", "data"]
    assert body["message"] == "Query successful."
    assert body["tensors"] == ["text", "score"]
    assert [list(row) for row in body["data"]] == [["text", "score"]] * 5
    scores = [row["score"] for row in body["data"]]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)
    assert scores[0] == pytest.approx(1, abs=1e-6)


def test_columns_hold_the_same_values_as_rows(server: Server, facts: str, vectors: np.ndarray) -> None:
    query = seed_query(vectors)
    as_rows, as_columns = answered(server, query, as_list=True), answered(server, query, as_list=False)
    assert as_columns["tensors"] == as_rows["tensors"]
    assert list(as_columns["data"]) == as_columns["tensors"]
    assert as_columns["data"] == {name: [row[name] for row in as_rows["data"]] for name in as_rows["tensors"]}


def test_rows_are_the_default(server: Server, facts: str, vectors: np.ndarray) -> None:
    query = seed_query(vectors)
    assert ask(server, query).content == ask(server, query, as_list=True).content


def test_no_rows(server: Server, facts: str) -> None:
    query = f'select text, n from "{facts}" where n < 0'
    assert ask(server, query).json()["data"] == []
    assert ask(server, query, as_list=False).json()["data"] == {"text": [], "n": []}


def test_the_forms_of_the_same_question(server: Server, facts: str, vectors: np.ndarray) -> None:
    """Nested, flat, in upper case, ordered by the function itself, and with the condition outside or inside."""
    array = literal(vectors[3])
    score = f"cosine_similarity(embedding, {array})"
    forms = [
        f"select * from (select text, {score} as score from \"{facts}\" where metadata['doc'] == 'd3') order by score desc limit 5",
        f"select text, {score} as score from \"{facts}\" where metadata['doc'] == 'd3' order by score desc limit 5",
        f'SELECT text, {score.upper().replace("EMBEDDING", "embedding")} AS score FROM "{facts}" '
        f"WHERE metadata['doc'] = 'd3' ORDER BY score DESC LIMIT 5",
        f"select text, {score} as score from \"{facts}\" where metadata['doc'] == 'd3' "
        f"ORDER BY COSINE_SIMILARITY(embedding, {array}) DESC LIMIT 5",
        f'select text, score from (select text, metadata, {score} as score from "{facts}") '
        f"where metadata['doc'] == 'd3' order by score desc limit 5",
        f"select text, score from (select *, {score} as score from \"{facts}\") where doc == 'd3' order by score desc limit 5",
    ]
    found = [ask(server, form) for form in forms]
    assert [answer.status_code for answer in found] == [200] * len(forms), [answer.text[:300] for answer in found]
    assert all(answer.content == found[0].content for answer in found[1:])
    assert len(found[0].json()["data"]) == 5


def test_headers_tell_rows_time_and_version(server: Server, facts: str, vectors: np.ndarray) -> None:
    answer = ask(server, seed_query(vectors))
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Rows"] == "5"
    assert float(answer.headers["X-Query-Ms"]) > 0
    assert answer.headers["X-Dataset-Versions"] == "admin/facts@1"
    parts = [part.strip().partition(";dur=") for part in answer.headers["Server-Timing"].split(",")]
    assert [name for name, _, _ in parts] == ["queue", "parse", "scan", "sql", "encode"]
    assert all(float(duration) >= 0 for _, _, duration in parts)


def test_a_query_needs_a_credential(server: Server, facts: str) -> None:
    body = {"query": f'select n from "{facts}"'}
    assert requests.post(server.url + API, json=body, timeout=30).status_code == 401
    assert requests.post(server.url + API, json=body, auth=("admin", "wrong"), timeout=30).status_code == 401
    assert requests.post(server.url + API, json=body, auth=server.auth, timeout=30).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_body"),
        (b"[]", 400, "invalid_body"),
        (b'"select 1"', 400, "invalid_body"),
        (b'{"query": "select \xff"}', 400, "invalid_body"),
        (b"{", 400, "invalid_body"),
        (b"{}", 400, "invalid_parameter"),
        (b'{"query": ""}', 400, ""),
        (b'{"query": 1}', 400, "invalid_parameter"),
        (b'{"query": null}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "aslist": true}', 400, "unknown_field"),
        (b'{"query": "select 1", "as_list": 1}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "timeout_ms": 0}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "timeout_ms": 60001}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "timeout_ms": true}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "explain": true}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "format": "csv"}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "class_labels": "both"}', 400, "invalid_parameter"),
        (b'{"query": "select 1", "params": 1}', 400, ""),
        (b'{"query": "select 1", "dataset": "../x"}', 400, "bad_name"),
        (b'{"query": "select 1", "dataset": 1}', 400, "invalid_parameter"),
    ],
)
def test_bodies_that_are_no_request(server: Server, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(server.url + API, data=body, headers=headers, auth=server.auth, timeout=30)
    assert answer.status_code == status, answer.text
    assert code in answer.json()["code"], answer.text


def test_an_unknown_field_names_the_nearest(server: Server) -> None:
    answer = ask(server, 'select id from "admin/books"', as_lst=False)
    assert answer.status_code == 400
    assert "as_list" in answer.json()["hint"]


def test_large_bodies_are_refused(server: Server, facts: str) -> None:
    for query in ("select '" + "x" * (1 << 20) + f'\' as a from "{facts}"', "select '" + "x" * (9 << 20) + "' as a"):
        answer = ask(server, query)
        assert answer.status_code == 413, answer.text[:300]
        assert answer.json()["code"] == "body_too_large"


def test_where_the_answer_is_a_table(server: Server) -> None:
    assert rows(server, 'select id from "admin/books" order by id desc limit 1') == [{"id": 6}]
