"""The three forms of an answer hold the same rows, values come out as documented, and a failure is never taken for an end."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.clients import answers, curl
from tests.query.asking import API, ARROW, NDJSON, answered, ask, assert_refused, column, literal, put, rows
from tests.serving import Server, serving

TWO_PARTS = 'select a.n as n, b.text as text, b.embedding as v from "{0}" a join "{0}" b on a.part = b.part'


# NDJSON


def test_ndjson_has_a_row_a_line_and_a_last_line_about_itself(server: Server, facts: str, vectors: np.ndarray) -> None:
    score = f"cosine_similarity(embedding, {literal(vectors[1])})"
    query = f'select text, {score} as score from "{facts}" order by score desc limit 5'
    answer = ask(server, query, accept=NDJSON)
    assert answer.headers["Content-Type"].startswith(NDJSON)
    *lines, last = answers(answer.content)
    assert lines == rows(server, query)
    assert list(last) == ["status", "rows", "tensors", "query_ms"]
    assert (last["status"], last["rows"], last["tensors"]) == ("ok", 5, ["text", "score"])
    assert last["query_ms"] > 0
    assert "X-Rows" not in answer.headers


def test_ndjson_of_no_rows_is_its_last_line(server: Server, facts: str) -> None:
    (last,) = answers(ask(server, f'select n from "{facts}" where n < 0', accept=NDJSON).content)
    assert (last["status"], last["rows"], last["tensors"]) == ("ok", 0, ["n"])


def test_ndjson_may_be_longer_than_json(server: Server, facts: str) -> None:
    query = f'select a.n as n, b.n as m from "{facts}" a join "{facts}" b on a.part = b.part'
    body = assert_refused(ask(server, query), 400, "result_too_large")
    assert NDJSON in body["hint"]
    *lines, last = answers(ask(server, query, accept=NDJSON).content)
    assert len(lines) == last["rows"] == 20_000
    assert [(line["n"], line["m"]) for line in lines] == [(n, m) for n in range(1000) for m in range(n % 50, 1000, 50)]


def test_the_field_format_wins_over_the_header(server: Server, facts: str) -> None:
    query = f'select n from "{facts}" limit 3'
    assert ask(server, query, accept=ARROW, format="ndjson").headers["Content-Type"].startswith(NDJSON)
    assert ask(server, query, accept=NDJSON, format="json").json()["data"] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert ask(server, query, format="arrow").headers["Content-Type"].startswith(ARROW)


@pytest.mark.parametrize("accept", ["text/csv", "image/*", "application/vnd.apache.arrow.file", "*/*;q=0", "*/*;q=0.000"])
def test_other_forms_are_refused_with_the_list(server: Server, facts: str, accept: str) -> None:
    body = assert_refused(ask(server, f'select n from "{facts}"', accept=accept), 406, "not_acceptable")
    told = body["message"] + body.get("hint", "")
    assert all(known in told for known in ("application/json", NDJSON, ARROW))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f"application/json;q=0.5, {NDJSON}", NDJSON),
        (f"application/json;q=0.1, {NDJSON};q=0.2, {ARROW};q=0.150", NDJSON),
        (f"text/html, {ARROW} ; Q=0.8, */*;q=0.7", ARROW),
        (f"{NDJSON}, application/json", NDJSON),
        (f"*/*, {NDJSON}", "application/json"),
        (f"application/*;q=0.9, application/json;q=0, {ARROW};q=0.95", ARROW),
        ("application/json;q=0, */*", NDJSON),
        ("application/json;q=many", "application/json"),
    ],
)
def test_the_highest_weight_of_accept_wins_and_the_first_of_equals(server: Server, facts: str, accept: str, expected: str) -> None:
    answer = ask(server, f'select n from "{facts}" limit 1', accept=accept)
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, expected)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose longest answer has 4,000 rows, with a dataset of 1,000 rows."""
    with serving(tmp_path_factory.mktemp("short") / "data", SLUICE_QUERY_STREAM_ROWS="4000") as running:
        lines = ({"n": i, "part": i % 10, "text": f"{i} " * 100, "embedding": [i / 7] * 32} for i in range(1000))
        put(running, "admin/facts", lines)
        yield running


def test_a_failure_after_the_first_byte_is_a_last_line_and_a_cut(short: Server) -> None:
    body = json.dumps({"query": TWO_PARTS.format("hub://admin/facts")}).encode()
    headers = ["-H", f"Accept: {NDJSON}", "-H", "Content-Type: application/json"]
    done = curl(short.url + API, *headers, "--data-binary", "@-", auth=short.auth, data=body)
    assert done.status == 200
    assert done.code == 18, done.trace[-500:]
    *lines, last = done.lines
    assert (last["status"], last["code"]) == ("error", "result_too_large")
    assert last["rows"] == len(lines) == 4000
    assert isinstance(last["message"], str)


def test_an_arrow_answer_that_fails_has_no_end(short: Server) -> None:
    body = json.dumps({"query": TWO_PARTS.format("hub://admin/facts")}).encode()
    headers = ["-H", f"Accept: {ARROW}", "-H", "Content-Type: application/json"]
    done = curl(short.url + API, *headers, "--data-binary", "@-", auth=short.auth, data=body)
    assert (done.status, done.code) == (200, 18), done.trace[-500:]
    assert not done.body.endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00")


def test_a_query_works_after_one_that_failed_in_the_middle(short: Server) -> None:
    """An answer that is given up must let go of the tables that it reads, which the next one in the same replica calls the same."""
    cut_short = TWO_PARTS.format("hub://admin/facts")
    for accept in (NDJSON, ARROW) * 3:
        for query in (cut_short, cut_short.replace(" as v", " as w")):
            body = json.dumps({"query": query}).encode()
            headers = ["-H", f"Accept: {accept}", "-H", "Content-Type: application/json"]
            done = curl(short.url + API, *headers, "--data-binary", "@-", auth=short.auth, data=body)
            assert (done.status, done.code) == (200, 18), done.body[-500:]
        assert column(short, 'select count(*) as n from "admin/facts"') == [1000]
    assert "task failed" not in short.log


# Arrow


def test_arrow_holds_the_values_of_json(server: Server, facts: str, vectors: np.ndarray) -> None:
    score = f"cosine_similarity(embedding, {literal(vectors[1])})"
    query = f'select n, text, embedding, metadata, {score} as score from "{facts}" order by score desc limit 20'
    answer = ask(server, query, accept=ARROW)
    assert answer.headers["Content-Type"].startswith(ARROW)
    with pa.ipc.open_stream(io.BytesIO(answer.content)) as reader:
        table = reader.read_all()
    assert table.schema.metadata[b"message"] == b"Query successful."
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 384)
    assert table.schema.field("score").type == pa.float32()
    assert table.schema.field("n").type == pa.int64()
    expected = rows(server, query)
    assert table.column("score").to_pylist() == [row["score"] for row in expected]
    assert table.column("text").to_pylist() == [row["text"] for row in expected]
    found = np.array(table.column("embedding").to_pylist(), np.float32)
    assert (found == np.array([row["embedding"] for row in expected], np.float32)).all()
    assert (found == vectors[[row["n"] for row in expected]]).all()


def test_arrow_batches_are_small(server: Server, facts: str) -> None:
    query = f'select a.n as n, b.n as m from "{facts}" a join "{facts}" b on a.part = b.part'
    with pa.ipc.open_stream(io.BytesIO(ask(server, query, accept=ARROW).content)) as reader:
        sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == 20_000
    assert max(sizes) <= 8192


def test_arrow_of_no_rows_has_its_columns(server: Server, facts: str) -> None:
    answer = ask(server, f'select n, text, embedding from "{facts}" where n < 0', accept=ARROW)
    with pa.ipc.open_stream(io.BytesIO(answer.content)) as reader:
        table = reader.read_all()
    assert table.num_rows == 0
    assert table.column_names == ["n", "text", "embedding"]


# Values

VALUES = [
    {"n": 2**60, "x": 0.1, "raw": "AAH/", "day": "2024-02-29", "at": "2024-02-29T12:00:00+02:00", "kind": "b", "any": {"a": [1]}},
    {"n": -(2**63), "x": 1e308, "raw": "", "day": None, "at": "2024-02-29T10:00:00.000001Z", "kind": "a", "any": [1, "x", None]},
    {"n": 2**63 - 1, "x": -0.0, "raw": None, "day": "0001-01-01", "at": None, "kind": None, "any": None},
]


@pytest.fixture(scope="module")
def values(server: Server) -> str:
    put(server, "admin/values", VALUES, types="raw:bytes,day:date,at:timestamp,any:json", class_labels="kind")
    return "admin/values"


def test_values_come_out_as_they_went_in(server: Server, values: str) -> None:
    found = rows(server, f'select * from "{values}"')
    assert found == [
        {**VALUES[0], "at": "2024-02-29T10:00:00Z"},
        {**VALUES[1], "at": "2024-02-29T10:00:00.000001Z"},
        VALUES[2],
    ]
    assert [type(row["n"]) for row in found] == [int] * 3


def test_class_labels_are_names_or_numbers(server: Server, values: str) -> None:
    query = f'select kind from "{values}" where kind is not null'
    assert column(server, query) == ["b", "a"]
    assert sorted(column(server, query, class_labels="ids")) == [0, 1]
    assert column(server, query, class_labels="names") == ["b", "a"]


@pytest.mark.parametrize("accept", [None, NDJSON])
def test_numbers_that_are_not_finite_are_null(server: Server, values: str, accept: str | None) -> None:
    query = f'select x * 100 as big, -x * 100 as small, x * 100 - x * 100 as none from "{values}" where n < 0'
    body = ask(server, query, accept=accept).content
    assert b'{"big":null,"small":null,"none":null}' in body.replace(b" ", b"")


def test_floats_have_their_shortest_form(server: Server, values: str) -> None:
    assert b'{"x":0.1}' in ask(server, f'select x from "{values}" limit 1').content.replace(b" ", b"")


def test_a_score_is_the_double_that_equals_its_float32(server: Server) -> None:
    answer = ask(server, 'select dot(vec, ARRAY[1, 0]) as s from "admin/books" where id = 3')
    assert b'{"s":0.6000000238418579}' in answer.content.replace(b" ", b"")


def test_elements_of_vectors_have_the_shortest_float32_form(server: Server) -> None:
    assert b'"vec":[0.6,0.8]' in ask(server, 'select vec from "admin/books" where id = 3').content.replace(b" ", b"")


def test_the_answer_of_a_large_text(server: Server) -> None:
    """A cell of 100 kB, with every character that JSON must escape."""
    text = "".join(map(chr, range(1, 0x250))) * 100 + "🐝\u2028"
    put(server, "admin/large", [{"text": text}])
    assert answered(server, 'select text from "admin/large"')["data"] == [{"text": text}]


def test_curl_reads_every_form(server: Server, facts: str, tmp_path: Path) -> None:
    for accept in ("application/json", NDJSON, ARROW):
        body = json.dumps({"query": f'select n, text from "{facts}"'}).encode()
        done = curl(server.url + API, "-H", f"Accept: {accept}", "--data-binary", "@-", auth=server.auth, data=body)
        assert done.code == 0, done.trace[-300:]
