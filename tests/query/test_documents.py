"""The best row of each document (`LIMIT n BY`), and rows deleted by a condition."""

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.query.asking import column, delete_rows, literal, put, rows
from tests.serving import Server, serving


def best_by(ordered: list[dict[str, Any]], key: str, number: int) -> list[dict[str, Any]]:
    """The first rows of each value in an ordered list."""
    seen: Counter[Any] = Counter()
    found = []
    for row in ordered:
        seen[row[key]] += 1
        if seen[row[key]] <= number:
            found.append(row)
    return found


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("where", ["", "where part != 4 and n > 20"])
def test_limit_by_is_a_dict_over_the_full_order(server: Server, facts: str, vectors: np.ndarray, number: int, where: str) -> None:
    columns = f"doc, n, cosine_similarity(embedding, {literal(vectors[40])}) as s"
    every = rows(server, f'select {columns} from "{facts}" {where} order by s desc limit 1000')
    expected = best_by(every, "doc", number)
    query = f'select {columns} from "{facts}" {where} order by s desc limit {number} by doc'
    assert rows(server, query) == expected
    assert rows(server, f"select * from ({query}) limit 5") == expected[:5]


def test_limit_by_without_an_order_takes_rows_as_they_stand(server: Server, facts: str) -> None:
    assert column(server, f'select n from "{facts}" limit 2 by doc') == list(range(20))


def test_a_delete_leaves_the_other_rows_in_order(server: Server) -> None:
    lines = [{"n": i, "doc": f"{'abc'[i % 3]}.md", "v": [float(i)] * 8, "text": f"word{i}"} for i in range(300)]
    put(server, "admin/shrinks", lines, words="text")
    said = delete_rows(server, "admin/shrinks", "doc = ? and n > 3", "a.md")
    kept = [line for line in lines if not (line["doc"] == "a.md" and line["n"] > 3)]
    assert said == {"dataset": "hub://admin/shrinks", "version": 2, "rows": len(kept), "deleted": 300 - len(kept)}
    assert rows(server, 'select * from "admin/shrinks"') == kept
    assert rows(server, 'select * from "admin/shrinks@1"') == lines
    query = f'select n from "{{}}" order by l2_norm(v - {literal([30.0] * 8)}) limit 3'
    assert column(server, query.format("admin/shrinks")) == [29, 31, 28]
    assert column(server, query.format("admin/shrinks@1")) == [30, 29, 31]
    assert sum(score > 0 for score in column(server, "select bm25_similarity(text, 'word30') as s from \"admin/shrinks\"")) == 0


def test_a_delete_of_no_rows_makes_no_version(server: Server) -> None:
    put(server, "admin/stays", [{"n": 1}])
    assert delete_rows(server, "admin/stays", "n > 1") == {"dataset": "hub://admin/stays", "version": 1, "rows": 1, "deleted": 0}


def test_a_delete_of_all_rows_leaves_an_empty_dataset(server: Server) -> None:
    put(server, "admin/empties", [{"n": i, "v": [1.0] * 8} for i in range(10)])
    assert delete_rows(server, "admin/empties", "true")["rows"] == 0
    assert rows(server, f'select n from "admin/empties" order by cosine_similarity(v, {literal([1.0] * 8)}) desc') == []
    assert column(server, 'select count(*) as n from "admin/empties"') == [0]


@pytest.mark.heavy
@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2])
def test_a_server_that_is_killed_has_deleted_all_of_the_rows_or_none(tmp_path: Path, after_s: float) -> None:
    lines = [{"n": i, "doc": i % 3} for i in range(30_000)]
    with serving(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/torn", lines)
        deleting = threads.submit(delete_rows, server, "admin/torn", "doc = ?", 0)
        wait([deleting], timeout=after_s)
        server.stop(signal.SIGKILL)
        is_sure = deleting.exception() is None
    with serving(tmp_path / "data") as server:
        (num_rows,) = column(server, 'select count(*) as n from "admin/torn"')
        assert num_rows in ((20_000,) if is_sure else (20_000, 30_000))
        every = rows(server, 'select n, doc from "admin/torn" where n < 9')
        assert every == [line for line in lines[:9] if num_rows == 30_000 or line["doc"]]
        assert column(server, 'select count(*) as n from "admin/torn@1"') == [30_000]
        assert not list((server.data_dir / "datasets" / "admin" / "torn" / ".sluice").glob("staging/*"))


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("n in (select n from t)", "unsupported"),
        ("cosine_similarity(v, ARRAY[1, 1, 1, 1, 1, 1, 1, 1]) > 0", "unsupported"),
        ("m = 1", "unknown_column"),
        ("n", "type_mismatch"),
        ("n = 1; drop table t", ""),
        ("n = 1 limit 1", ""),
        ("n = 1 union select 1", ""),
        ("", ""),
        ("n = ?", "bad_param"),
        ("count(*) > 1", ""),
        ("n = 1) or (1 = 1", ""),
    ],
)
def test_conditions_that_delete_nothing(server: Server, where: str, code: str) -> None:
    put(server, "admin/guarded", [{"n": i, "v": [1.0] * 8} for i in range(3)])
    url = f"{server.url}/api/datasets/admin/guarded/delete"
    answer = requests.post(url, json={"where": where}, auth=server.auth, timeout=30)
    assert 400 <= answer.status_code < 500, answer.text
    assert code in answer.json()["code"], answer.text
    assert column(server, 'select n from "admin/guarded"') == [0, 1, 2]
