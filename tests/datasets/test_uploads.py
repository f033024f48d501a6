"""Rows go in: what an upload answers, what it makes of lines and options, and what it refuses."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.clients import Raw, curl, ndjson
from tests.datasets.asking import ask, described, leftovers, made, post, put, refused, rows, titles, url, version_file
from tests.embeddings.asking import BERT
from tests.serving import Server

FACTS = [{"text": f"Fact number {i}.", "n": i} for i in range(50)]


def embeddings(server: Server, texts: list[str]) -> list[list[float]]:
    body = {"model": BERT, "input": texts}
    answer = requests.post(f"{server.url}/v1/embeddings", json=body, auth=server.auth, timeout=60).json()
    return [one["embedding"] for one in answer["data"]]


# What is stored


def test_a_body_of_lines_becomes_version_1_and_more_rows_version_2(house: Server) -> None:
    first = made(put(house, "admin/facts", FACTS))
    assert list(first) == ["dataset", "version", "rows", "added", "skipped", "errors", "columns"]
    assert [first[key] for key in ("dataset", "version", "rows", "added", "skipped", "errors")] == [
        "hub://admin/facts",
        1,
        50,
        50,
        0,
        [],
    ]
    more = made(post(house, "admin/facts", FACTS[:10]), 200)
    assert (more["version"], more["rows"], more["added"]) == (2, 60, 10)
    assert rows(house, "admin/facts") == FACTS + FACTS[:10]
    assert rows(house, "admin/facts", 1) == FACTS
    assert leftovers(house, "admin/facts") == []


def test_a_put_replaces_all_rows_and_columns(house: Server) -> None:
    made(put(house, "admin/replaced", FACTS))
    again = made(put(house, "admin/replaced", [{"other": True}]), 200)
    assert (again["version"], again["rows"]) == (2, 1)
    assert again["columns"] == [{"name": "other", "dtype": "bool", "nulls": 0}]
    assert [one["what"] for one in described(house, "admin/replaced")["versions"]] == ["replace", "create"]


def test_an_empty_body_makes_a_dataset_without_rows_that_takes_some_later(house: Server) -> None:
    empty = made(put(house, "admin/empty", b"", "?types=n:int64"))
    assert (empty["rows"], empty["columns"]) == (0, [{"name": "n", "dtype": "int64", "nulls": 0}])
    assert made(post(house, "admin/empty", [{"n": 1}]), 200)["rows"] == 1
    assert rows(house, "admin/empty") == [{"n": 1}]


def test_rows_are_appended_to_a_dataset_that_is_there_or_when_told_to_one_that_is_not(house: Server) -> None:
    refused(post(house, "admin/nowhere", FACTS), 404, "dataset_not_found")
    assert made(post(house, "admin/nowhere", FACTS, "?create=true"))["version"] == 1
    assert made(post(house, "admin/nowhere", FACTS, "?create=true"), 200)["version"] == 2


def test_an_append_may_bring_columns_and_leave_some_out(house: Server) -> None:
    made(put(house, "admin/grown", [{"a": 1, "b": "x"}]))
    columns = made(post(house, "admin/grown", [{"a": 2, "c": 0.5}]), 200)["columns"]
    assert [(one["name"], one["nulls"]) for one in columns] == [("a", 0), ("b", 1), ("c", 1)]
    assert rows(house, "admin/grown") == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": 0.5}]


def test_class_labels_get_more_names_with_every_append(house: Server) -> None:
    made(put(house, "admin/genres", [{"genre": "news"}, {"genre": "fiction"}], "?class_labels=genre"))
    columns = made(post(house, "admin/genres", [{"genre": "poems"}, {"genre": "news"}]), 200)["columns"]
    assert sorted(columns[0]["names"]) == ["fiction", "news", "poems"]
    names = columns[0]["names"]
    assert [names[row["genre"]] for row in rows(house, "admin/genres")] == ["news", "fiction", "poems", "news"]


def test_the_split_of_rows_is_kept(house: Server) -> None:
    made(put(house, "admin/split", FACTS[:3]))
    made(post(house, "admin/split", FACTS[:2], "?split=test"), 200)
    assert described(house, "admin/split")["splits"] == {"train": 3, "test": 2}
    card = (house.data_dir / "datasets/admin/split/README.md").read_text()
    for segment in version_file(house, "admin/split")["segments"]:
        assert f'".sluice/segments/{segment["id"]}/rows.parquet"' in card


def test_gzip_is_taken_and_the_last_line_needs_no_newline(house: Server) -> None:
    body = ndjson(FACTS).rstrip(b"\n")
    assert made(put(house, "admin/packed", gzip.compress(body), Content_Encoding="gzip"))["rows"] == 50
    assert made(put(house, "admin/unpacked", body))["rows"] == 50


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/jsonl", "application/json; charset=utf-8"])
def test_three_content_types_mean_lines(house: Server, kind: str) -> None:
    assert made(put(house, f"admin/type{len(kind)}", FACTS, Content_Type=kind))["rows"] == 50


# Vectors and words


def test_vectors_are_those_of_the_embeddings_surface_in_the_order_of_the_rows(house: Server) -> None:
    sent: list[dict[str, Any]] = [{"text": f"word {'and more ' * (i % 7)}{i}"} for i in range(300)]
    sent[7]["text"] = None
    columns = made(put(house, "admin/embedded", sent, f"?embed=text:embedding&model={BERT}&words=text"))["columns"]
    assert columns[0] == {"name": "text", "dtype": "string", "nulls": 1, "words": True}
    dim = len(embeddings(house, ["a"])[0])
    assert columns[1] == {"name": "embedding", "dtype": "vector", "dim": dim, "nulls": 1, "source": "text", "model": BERT}
    stored = rows(house, "admin/embedded")
    assert stored[7] == {"text": None, "embedding": None}
    texts = [row["text"] for row in sent if row["text"]]
    for row, expected in zip([row for row in stored if row["text"]], embeddings(house, texts), strict=True):
        assert row["embedding"] == pytest.approx(expected, abs=1e-5)


def test_an_append_embeds_and_indexes_as_the_dataset_does(house: Server) -> None:
    made(put(house, "admin/again", FACTS[:5], f"?embed=text:embedding&model={BERT}&words=text"))
    more = made(post(house, "admin/again", FACTS[5:8]), 200)
    assert [one["nulls"] for one in more["columns"] if one["name"] == "embedding"] == [0]
    assert all(row["embedding"] for row in rows(house, "admin/again"))
    segment = version_file(house, "admin/again")["segments"][-1]["id"]
    names = {path.suffix for path in (house.data_dir / "datasets/admin/again/.sluice/segments" / segment).iterdir()}
    assert {".words", ".f32", ".norm"} <= names


def test_without_a_model_the_first_listed_one_is_taken(house: Server) -> None:
    first = next(iter(requests.get(f"{house.url}/models", auth=house.auth, timeout=30).json()["data"]["models"]))
    columns = made(put(house, "admin/first", [{"text": "a"}], "?embed=text:v"))["columns"]
    assert columns[1]["model"] == first


def test_an_unknown_model_is_404_before_a_byte_is_read(house: Server) -> None:
    refused(put(house, "admin/unknown", FACTS, "?embed=text:v&model=nothing"), 404, "model_not_found")
    assert "admin/unknown" not in titles(house)


def test_more_lines_than_one_block_embeds_keep_their_order(house: Server) -> None:
    """Blocks of 4,096 lines go through the model side by side."""
    sent = [{"t": f"{i % 50}", "i": i} for i in range(9000)]
    made(put(house, "admin/many", sent, f"?embed=t:v&model={BERT}"))
    known = {str(i): vector for i, vector in enumerate(embeddings(house, [str(i) for i in range(50)]))}
    stored = rows(house, "admin/many")
    assert [row["i"] for row in stored] == list(range(9000))
    for row in stored[::97]:
        assert row["v"] == pytest.approx(known[row["t"]], abs=1e-4)


# Bad lines


def test_a_bad_line_refuses_everything_and_says_where(house: Server) -> None:
    body = ndjson(FACTS[:16]) + b'{"text": \n' + ndjson(FACTS[16:])
    assert refused(put(house, "admin/bad", body), 422, "bad_row")["line"] == 17
    assert "admin/bad" not in titles(house)
    assert not (house.data_dir / "datasets/admin/bad").exists()


def test_a_bad_line_of_an_append_leaves_the_dataset_as_it_was(house: Server) -> None:
    made(put(house, "admin/whole", FACTS))
    body = refused(post(house, "admin/whole", [*FACTS[:16], {"text": "x", "n": "no number"}]), 422, "bad_row")
    assert (body["line"], body["column"]) == (17, "n")
    assert described(house, "admin/whole")["version"] == 1
    assert leftovers(house, "admin/whole") == []


def test_bad_lines_are_left_out_when_that_is_asked(house: Server) -> None:
    body = b"".join(line for i in range(60) for line in (ndjson([FACTS[i % 50]]), b"[]\n"))
    answer = made(put(house, "admin/skipping", body, "?on_error=skip"))
    assert (answer["added"], answer["skipped"]) == (60, 60)
    assert [error["line"] for error in answer["errors"]] == list(range(2, 42, 2))
    assert list(answer["errors"][0]) == ["line", "message"]


@pytest.mark.parametrize(("how", "status"), [("stop", 422), ("skip", 201)])
def test_a_line_over_the_limit_is_a_bad_line(house: Server, how: str, status: int) -> None:
    body = ndjson(FACTS[:3]) + json.dumps({"text": "x" * 20_000}).encode() + b"\n" + ndjson(FACTS[3:])
    answer = put(house, f"admin/long-{how}", body, f"?on_error={how}")
    if how == "stop":
        assert refused(answer, status, "bad_row")["line"] == 4
    else:
        assert [error["line"] for error in made(answer)["errors"]] == [4]
        assert rows(house, "admin/long-skip") == FACTS


def test_the_first_bad_line_is_named_also_when_blocks_are_parsed_side_by_side(house: Server) -> None:
    lines = ndjson({"text": "x" * 200, "n": i} for i in range(30_000)).split(b"\n")[:-1]
    for number in (12_345, 17_777, 29_000):
        lines[number - 1] = b"nonsense"
    assert refused(put(house, "admin/side", b"\n".join(lines)), 422, "bad_row")["line"] == 12_345


def test_a_client_that_sends_a_long_body_hears_of_its_bad_first_line(house: Server) -> None:
    body = b"nonsense\n" + ndjson({"text": "x" * 200, "n": i} for i in range(100_000))
    answer = curl(url(house, "admin/early"), "-T", "-", "-H", "Content-Type: application/x-ndjson", auth=house.auth, data=body)
    assert (answer.status, json.loads(answer.body)["line"]) == (422, 1)


# Refused by the head


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("?embd=a:b", "embd"),
        ("?on_error=ignore", "on_error"),
        ("?split=..", "split"),
        ("?types=a", "types"),
        ("?types=a:text", "types"),
        ("?types=a:int64,a:float64", "types"),
        ("?types=a:int64&types=a:int64", "types"),
        ("?types=a:vector(0)", "types"),
        ("?embed=text", "embed"),
        ("?model=" + BERT, "model"),
        ("?words=", "words"),
        ("?on_error=skip&on_error=stop", "on_error"),
        ("?create=true", "create"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_a_byte_is_read(house: Server, query: str, word: str) -> None:
    with Raw(house) as client:
        client.ask("PUT", "/api/datasets/admin/options" + query, Content_Length="1000000", Expect="100-continue")
        assert client.head().status == 400
        assert word.encode() in client.rest()


def test_a_body_of_another_type_or_encoding_is_415(house: Server) -> None:
    refused(put(house, "admin/form", FACTS, Content_Type="text/csv"), 415, "unsupported_media_type")
    refused(put(house, "admin/form", FACTS, Content_Encoding="br"), 415, "unsupported_media_type")


@pytest.mark.parametrize("title", ["admin/.hidden", "admin/" + "x" * 97, "models/facts", "API/facts", "admin/a%20b", "a%2Fb/c"])
def test_a_name_that_cannot_be_is_refused(house: Server, title: str) -> None:
    answer = put(house, title, FACTS)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["code"] in ("bad_name", "not_found")


def test_files_that_a_person_put_there_are_not_replaced(house: Server) -> None:
    mine = house.data_dir / "datasets" / "admin" / "by-hand" / "train.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("a\n1\n")
    refused(put(house, "admin/by-hand", FACTS), 409, "dataset_exists")
    assert mine.read_text() == "a\n1\n"


# Several at once


def test_two_appends_at_once_both_count(house: Server) -> None:
    made(put(house, "admin/both", [], "?types=n:int64"))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: post(house, "admin/both", [{"n": i}] * 10), range(8)))
    versions = sorted(made(answer, 200)["version"] for answer in answers if answer.status_code == 200)
    refusals = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in refusals} <= {429}
    assert versions == list(range(2, 2 + len(versions)))
    assert len(versions) >= 4
    assert len(rows(house, "admin/both")) == 10 * len(versions)


def test_two_appends_that_bring_columns_and_labels_at_once_both_count(house: Server) -> None:
    made(put(house, "admin/columns", [{"g": "a"}], "?class_labels=g"))
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(post, house, "admin/columns", [{"g": name, name: 1}] * 5000) for name in "bc"]
        for job in jobs:
            made(job.result(), 200)
    [labels] = [one["names"] for one in described(house, "admin/columns")["columns"] if one["name"] == "g"]
    for row in rows(house, "admin/columns")[1:]:
        name = labels[row["g"]]
        assert (row["b"], row["c"]) == ((1, None) if name == "b" else (None, 1))


def test_if_match_lets_one_of_two_through(house: Server) -> None:
    made(put(house, "admin/raced", FACTS))
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(put, house, "admin/raced", [{"n": i}] * 3000, If_Match='"1"') for i in range(3)]
        statuses = sorted(job.result().status_code for job in jobs)
    assert statuses == [200, 412, 412]
    assert described(house, "admin/raced")["version"] == 2


def test_if_none_match_makes_a_dataset_once(house: Server) -> None:
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(put, house, "admin/once", [{"n": i}], If_None_Match="*") for i in range(3)]
        answers = [job.result() for job in jobs]
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"dataset_exists"}


def test_a_condition_that_fails_is_told_before_a_byte_is_read(house: Server) -> None:
    made(put(house, "admin/condition", FACTS))
    for headers, status in (({"If_Match": '"7"'}, 412), ({"If_None_Match": "*"}, 409), ({"If_Match": "7"}, 400)):
        with Raw(house) as client:
            client.ask("PUT", "/api/datasets/admin/condition", Content_Length="1000000", Expect="100-continue", **headers)
            assert client.head().status == status
    made(put(house, "admin/condition", FACTS, If_Match='"3", "1"'), 200)
    made(post(house, "admin/condition", FACTS, If_Match="*"), 200)
    refused(ask("DELETE", house, "admin/condition", If_Match='"1"'), 412, "version_changed")
    refused(ask("PATCH", house, "admin/condition", change={"description": "a"}, If_Match='"1"'), 412, "version_changed")
