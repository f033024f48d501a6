"""`explain` says which way a query goes, and warns of orders that are seldom meant."""

from typing import Any

import numpy as np
import pytest

from tests.query.asking import ask, literal, strict_json
from tests.serving import Server


def plan(server: Server, query: str, how: str = "plan", **fields: Any) -> dict[str, Any]:
    answer = ask(server, query, explain=how, **fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = strict_json(answer.content)
    assert list(body) == ["message", "plan", "warnings"]
    assert body["message"] == "Query planned."
    return body


def steps(server: Server, query: str) -> list[str]:
    return [step["step"] for step in plan(server, query)["plan"]]


def score(vectors: np.ndarray, name: str = "cosine_similarity") -> str:
    return f"{name}(embedding, {literal(vectors[2])}) as score"


def test_the_seed_query_is_a_scan_for_the_best(server: Server, facts: str, vectors: np.ndarray) -> None:
    found = plan(server, f'select * from (select text, {score(vectors)} from "{facts}") order by score desc limit 5')
    (scan,) = [step for step in found["plan"] if step["step"] == "scan_topk"]
    assert scan["dataset"] == "admin/facts@1"
    assert scan["column"] == "embedding"
    assert scan["metric"] == "cosine_similarity"
    assert scan["rows"] == 1000
    assert scan["k"] == 5
    assert found["warnings"] == []


def test_a_filter_that_keeps_little_gathers(server: Server, facts: str, vectors: np.ndarray) -> None:
    query = f'select text, {score(vectors)} from "{facts}" where part = 7 order by score desc limit 5'
    for how in ("plan", "analyze"):
        assert "gather" in [step["step"] for step in plan(server, query, how)["plan"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("select n, {distance} from {facts} order by score desc limit 5", "farthest"),
        ("select n, {similarity} from {facts} order by score limit 5", "similarity"),
        ("select n from {facts} limit 5", "ORDER BY"),
    ],
)
def test_warnings(server: Server, facts: str, vectors: np.ndarray, text: str, words: str) -> None:
    query = text.format(distance=score(vectors, "l2_norm"), similarity=score(vectors), facts=f'"{facts}"')
    (warning,) = plan(server, query)["warnings"]
    assert words in warning


def test_analyze_adds_rows_and_times(server: Server, facts: str, vectors: np.ndarray) -> None:
    query = f'select text, {score(vectors)} from "{facts}" order by score desc limit 5'
    found = plan(server, query, "analyze")["plan"]
    assert all(step["ms"] >= 0 and step["rows"] >= 0 for step in found)


def test_a_plan_is_json_only(server: Server, facts: str) -> None:
    answer = ask(server, f'select n from "{facts}"', explain="plan", accept="application/x-ndjson")
    assert answer.status_code in (200, 400, 406)
    if answer.status_code == 200:
        assert answer.headers["Content-Type"].startswith("application/json")


def test_a_refused_query_has_no_plan(server: Server, facts: str) -> None:
    assert ask(server, f'select nn from "{facts}"', explain="plan").json()["code"] == "unknown_column"
