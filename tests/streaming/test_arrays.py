"""A stream whose body is one JSON array: each element is a record, whatever the array's size."""

import json

import pytest

from tests.clients import bulk, by_id, curl
from tests.serving import Server

HELLO = "brandon/HelloWorld"


@pytest.mark.parametrize("indent", [None, 2])
def test_each_element_is_answered_in_its_place(server: Server, indent: int | None) -> None:
    records = [{"name": f'a "{i}" [\\', "yhat_id": i} for i in range(3000)]
    lines = bulk(server, HELLO, json.dumps(records, indent=indent).encode(), "&ordered=true").lines
    assert [line["result"]["greeting"] for line in lines] == [f"Hello {one['name']}" for one in records]


def test_a_wrong_element_gets_an_error_with_its_number(server: Server) -> None:
    lines = bulk(server, HELLO, b'[{"name":"a"},{"name":null},7,{"name":"b"}, {bad}]', "&ordered=true").lines
    assert [(line.get("code"), line.get("line")) for line in lines] == [
        (None, None),
        ("missing_field", 2),
        ("not_an_object", 3),
        (None, None),
        ("invalid_json", 5),
    ]


def test_an_array_that_breaks_off_says_so_after_its_results(server: Server) -> None:
    done = bulk(server, HELLO, b'[{"name":"a"},{"name":"b"}', "&ordered=true")
    assert [line.get("code") for line in done.lines] == [None, None, "array_not_closed"]
    assert done.lines[2]["error"] == "the body is a JSON array, and it ends before the array does"
    assert done.code == 0


def test_an_empty_array_is_a_clean_empty_answer(server: Server) -> None:
    done = bulk(server, HELLO, b" [ ]\n")
    assert (done.code, done.status, done.body) == (0, 200, b"")


def test_200_000_elements_in_one_array_are_not_held_in_memory(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """23 MB on one line: the server keeps what it keeps of a stream of lines."""
    path = tmp_path_factory.mktemp("arrays") / "array.json"
    padding = "x" * 80
    path.write_text("[" + ",".join(f'{{"name":"{i}","yhat_id":{i},"pad":"{padding}"}}' for i in range(200_000)) + "]")
    answer = path.with_name("answer")
    server.forget_peak()
    before = server.rss_bytes()
    done = curl(f"{server.model(HELLO)}/?bulk=true", "-T", str(path), "-o", str(answer), auth=server.auth)
    assert done.code == 0
    found = by_id(answer.read_bytes())
    assert len(found) == 200_000
    assert found[123_456]["result"] == {"greeting": "Hello 123456"}
    assert server.rss_bytes("VmHWM") - before < 16 * 1024 * 1024
