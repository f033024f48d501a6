"""Rows deleted by a condition: exactly these rows go, the others stay in order, and the version before keeps all of them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.datasets.asking import ask, delete_rows, described, leftovers, made, post, put, refused, rows, version_file
from tests.serving import Server

ROWS: list[dict[str, Any]] = [{"doc": f"{'abc'[i % 3]}.md", "n": i, "v": [float(i)] * 8} for i in range(30)]


def test_a_condition_deletes_exactly_the_rows_it_holds_for(house: Server) -> None:
    made(put(house, "admin/pruned", ROWS[:20]))
    made(post(house, "admin/pruned", ROWS[20:]), 200)
    answer = delete_rows(house, "admin/pruned", "doc = ? and n > 3", ["a.md"])
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"3"')
    kept = [row for row in ROWS if not (row["doc"] == "a.md" and row["n"] > 3)]
    assert answer.json() == {"dataset": "hub://admin/pruned", "version": 3, "rows": len(kept), "deleted": 30 - len(kept)}
    assert list(answer.json()) == ["dataset", "version", "rows", "deleted"]
    assert rows(house, "admin/pruned") == kept
    assert rows(house, "admin/pruned", 2) == ROWS
    assert described(house, "admin/pruned")["versions"][0]["what"] == "delete"
    assert leftovers(house, "admin/pruned") == []


def test_only_segments_that_lose_rows_are_written_anew(house: Server) -> None:
    made(put(house, "admin/touched", ROWS[:10]))
    made(post(house, "admin/touched", ROWS[10:20]), 200)
    made(post(house, "admin/touched", ROWS[20:], "?split=test"), 200)
    before = version_file(house, "admin/touched")["segments"]
    assert delete_rows(house, "admin/touched", "n between 10 and 19 or n = 25").json()["deleted"] == 11
    after = version_file(house, "admin/touched")["segments"]
    assert after[0] == before[0]
    assert [(one["split"], one["rows"]) for one in after] == [("train", 10), ("test", 9)]
    assert rows(house, "admin/touched") == [row for row in ROWS if not (10 <= row["n"] < 20 or row["n"] == 25)]


def test_a_condition_that_holds_for_no_row_makes_no_version(house: Server) -> None:
    made(put(house, "admin/none", ROWS))
    answer = delete_rows(house, "admin/none", "n > :most", {"most": 1000})
    assert (answer.status_code, answer.json()["version"], answer.json()["deleted"]) == (200, 1, 0)


def test_a_condition_that_holds_for_all_rows_leaves_none_and_the_columns(house: Server) -> None:
    made(put(house, "admin/all", ROWS))
    assert delete_rows(house, "admin/all", "n >= 0").json()["rows"] == 0
    assert [one["name"] for one in described(house, "admin/all")["columns"]] == ["doc", "n", "v"]
    made(post(house, "admin/all", ROWS[:2]), 200)
    assert rows(house, "admin/all") == ROWS[:2]


@pytest.mark.parametrize(
    ("where", "params", "code"),
    [
        ("n = ", None, "syntax_error"),
        ("m = 1", None, "unknown_column"),
        ("n = 1 limit 3", None, "unsupported"),
        ("n = 1 order by n", None, "unsupported"),
        ("n = 1 group by n", None, "unsupported"),
        ("n in (select n)", None, "unsupported"),
        ("l2_norm(v, array[1,2,3,4,5,6,7,8]) > 1", None, "unsupported"),
        ("n = 1; select 1", None, "one_statement"),
        ("n = ?", None, "bad_param"),
        ("n = 1", ["unused"], "bad_param"),
        ("", None, "invalid_parameter"),
        ('n = 1 union select row_number() from "hub://admin/refused"', None, "unsupported"),
    ],
)
def test_what_is_no_condition_is_refused_and_nothing_goes(house: Server, where: str, params: Any, code: str) -> None:
    put(house, "admin/refused", ROWS)
    before = described(house, "admin/refused")
    refused(delete_rows(house, "admin/refused", where, params), 400, code)
    assert described(house, "admin/refused") == before


def test_a_refusal_says_where_in_the_condition(house: Server) -> None:
    made(put(house, "admin/where", ROWS))
    body = refused(delete_rows(house, "admin/where", "n = 1 and dok = 'a'"), 400, "unknown_column")
    assert body["position"] == {"offset": 10, "line": 1, "column": 11}
    assert "doc" in body["hint"]


def test_an_unknown_field_is_refused(house: Server) -> None:
    made(put(house, "admin/field", ROWS))
    answer = ask("POST", house, "admin/field/delete", change={"were": "n = 1"})
    assert "where" in refused(answer, 400, "unknown_field")["hint"]


def test_a_deletion_depends_on_the_version_if_it_says_so(house: Server) -> None:
    made(put(house, "admin/matched", ROWS))
    refused(delete_rows(house, "admin/matched", "n = 1", If_Match='"9"'), 412, "version_changed")
    assert delete_rows(house, "admin/matched", "n = 1", If_Match='"1"').json()["version"] == 2


def test_a_deletion_and_appends_at_once_all_happen(house: Server) -> None:
    made(put(house, "admin/busy", ROWS))
    with ThreadPoolExecutor(3) as threads:
        deletion = threads.submit(delete_rows, house, "admin/busy", "n < 10")
        appends = [threads.submit(post, house, "admin/busy", [{"n": 100 + i}]) for i in range(2)]
        assert deletion.result().json()["deleted"] == 10
        for append in appends:
            made(append.result(), 200)
    assert sorted(row["n"] for row in rows(house, "admin/busy")) == [*range(10, 30), 100, 101]
