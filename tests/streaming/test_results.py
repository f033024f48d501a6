"""Result lines: their keys, times, ids and values, and the effect of the query parameters."""

import json
import os
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.clients import Raw, answers, bulk, by_id, curl, ndjson
from tests.serving import Server, serving

HELLO = "brandon/HelloWorld"
IRIS = "sluice/iris"
KEYS = ["bulk_id", "end_time", "result", "start_time", "version", "yhat_id", "yhat_model"]
ERROR_KEYS = ["bulk_id", "code", "end_time", "error", "line", "start_time", "version", "yhat_id", "yhat_model"]
GO_TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} [+-]\d{4} \S+$")
ISO_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")
HEX_32 = re.compile(r"^[0-9a-f]{32}$")
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def test_three_records_give_three_lines_with_exactly_the_seven_keys_in_order(server: Server) -> None:
    """Acceptance 1."""
    done = bulk(server, HELLO, b'{"name": "jim"}\n{"name": "bob"}\n{"name": "sarah"}\n')
    assert (done.code, done.status) == (0, 200)
    lines = done.lines
    assert [list(line) for line in lines] == [KEYS] * 3
    assert {line["result"]["greeting"] for line in lines} == {"Hello jim", "Hello bob", "Hello sarah"}
    assert len({line["bulk_id"] for line in lines}) == 1
    assert HEX_32.match(lines[0]["bulk_id"])
    assert {line["yhat_model"] for line in lines} == {"HelloWorld"}
    assert [line["version"] for line in lines] == [1, 1, 1]
    assert all(HEX_32.match(line["yhat_id"]) for line in lines)


def test_lines_are_compact_and_end_in_a_newline(server: Server) -> None:
    done = bulk(server, HELLO, ndjson([{"name": "jim"}, {"name": 3}]))
    texts = done.body.decode().split("\n")
    assert texts.pop() == ""
    assert [json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) for text in texts] == texts


def test_an_error_line_has_its_nine_keys_in_order(server: Server) -> None:
    [line] = bulk(server, HELLO, b"{}\n").lines
    assert list(line) == ERROR_KEYS
    assert (line["code"], line["line"], line["yhat_model"], line["version"]) == ("missing_field", 1, "HelloWorld", 1)
    assert line["error"] == "field 'name' is missing"


def test_two_requests_have_two_bulk_ids_and_the_header_names_them(server: Server) -> None:
    ids = set()
    for _ in range(2):
        with Raw(server) as client:
            client.begin(HELLO)
            client.chunk(b'{"name":"a"}\n')
            client.end()
            head = client.head()
            [line] = answers(client.rest())
            assert head.headers["x-bulk-id"] == line["bulk_id"]
            ids.add(line["bulk_id"])
    assert len(ids) == 2


# Times


def test_times_look_as_go_prints_them_and_start_is_not_after_end(server: Server) -> None:
    """Acceptance 2."""
    lines = bulk(server, HELLO, ndjson({"name": str(i)} for i in range(2000))).lines
    for line in lines:
        assert GO_TIME.match(line["start_time"])
        assert GO_TIME.match(line["end_time"])
        assert line["start_time"] <= line["end_time"]


def test_times_iso_are_utc_with_nine_digits(server: Server) -> None:
    [line] = bulk(server, HELLO, b'{"name":"a"}\n', "&times=iso").lines
    assert ISO_TIME.match(line["start_time"])
    assert ISO_TIME.match(line["end_time"])
    assert line["start_time"] <= line["end_time"]
    assert abs(time.time() - _utc(line["start_time"])) < 60


def test_times_iso_may_be_the_default_of_a_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_TIMES="iso", SLUICE_SCORE_REPLICAS="1") as server:
        [line], [asked] = (bulk(server, HELLO, b'{"name":"a"}\n', query).lines for query in ("", "&times=go"))
        assert ISO_TIME.match(line["start_time"])
        assert GO_TIME.match(asked["start_time"])


def _utc(text: str) -> float:
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("America/New_York", r"-0[45]00 E[SD]T$"), ("America/Sao_Paulo", r"-0300 -03$"), ("Asia/Kolkata", r"\+0530 IST$")],
)
def test_times_are_local_to_the_zone_of_the_server(tmp_path: Path, zone: str, expected: str) -> None:
    """Acceptance 2."""
    with serving(tmp_path / "data", TZ=zone, SLUICE_SCORE_REPLICAS="1") as server:
        [line] = bulk(server, HELLO, b'{"name":"a"}\n').lines
    assert GO_TIME.match(line["start_time"])
    assert re.search(expected, line["start_time"]), line["start_time"]
    assert re.search(expected, line["end_time"])


# yhat_id


@pytest.mark.parametrize(
    "yhat_id",
    [
        "a", "0", " ", "ä漢😀", "x" * 1024, "漢" * 1024, 'quote " slash / back \\ tab \t', "\u0000\u001f\u007f", "\u2028",
        7, 0, -1, 1.5, -0.25, 1e22, 1.7976931348623157e308, 5e-324,
        2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, 10**30, -(10**30),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", [HELLO, IRIS])
def test_a_string_or_a_number_comes_back_unchanged_with_its_type(server: Server, model: str, yhat_id: str | int | float) -> None:
    """Acceptance 3."""
    [line] = bulk(server, model, ndjson([{"name": "a", **FLOWER, "yhat_id": yhat_id}])).lines
    assert list(line) == KEYS
    assert line["yhat_id"] == yhat_id
    assert type(line["yhat_id"]) is type(yhat_id)


def test_ids_of_every_kind_in_one_body_each_keep_theirs(server: Server) -> None:
    """Records with all the ids above share one block here."""
    ids = ["a", 7, 1.5, 2**70, "ä", -(2**63), "a", "a"]
    lines = bulk(server, HELLO, ndjson({"name": str(i), "yhat_id": each} for i, each in enumerate(ids)), "&ordered=true").lines
    assert [line["yhat_id"] for line in lines] == ids
    assert [line["result"]["greeting"] for line in lines] == [f"Hello {i}" for i in range(len(ids))]


def test_half_of_a_surrogate_pair_is_echoed(server: Server) -> None:
    """Acceptance 3. Its neighbours in the block keep their own ids."""
    body = b'{"name":"a","yhat_id":"x"}\n{"name":"b","yhat_id":"\\ud800"}\n{"name":"c","yhat_id":"y"}\n'
    lines = bulk(server, HELLO, body, "&ordered=true").lines
    assert [line["yhat_id"] for line in lines] == ["x", "\ud800", "y"]
    assert [line["result"]["greeting"] for line in lines] == ["Hello a", "Hello b", "Hello c"]


@pytest.mark.parametrize("field", ["", '"yhat_id":null,', '"yhat_id":"",'])
def test_an_absent_null_or_empty_id_is_generated(server: Server, field: str) -> None:
    """Acceptance 3."""
    lines = bulk(server, HELLO, (f'{{{field}"name":"a"}}\n' * 50).encode()).lines
    assert all("result" in line for line in lines)
    assert all(HEX_32.match(line["yhat_id"]) for line in lines)
    assert len({line["yhat_id"] for line in lines}) == 50


@pytest.mark.parametrize("text", ["true", "false", "[1]", '{"a":1}', '"%s"' % ("x" * 1025), "1" + "0" * 1024, "NaN", "Infinity"])
def test_an_id_of_another_kind_is_an_error_line_with_a_generated_id(server: Server, text: str) -> None:
    """Acceptance 3. The neighbours are scored."""
    body = f'{{"name":"a","yhat_id":"1"}}\n{{"name":"b","yhat_id":{text}}}\n{{"name":"c","yhat_id":"3"}}\n'.encode()
    first, second, third = bulk(server, HELLO, body, "&ordered=true").lines
    assert list(second) == ERROR_KEYS
    assert (second["code"], second["line"]) == ("invalid_yhat_id", 2)
    assert HEX_32.match(second["yhat_id"])
    assert (first["yhat_id"], third["yhat_id"]) == ("1", "3")
    assert (first["result"], third["result"]) == ({"greeting": "Hello a"}, {"greeting": "Hello c"})


def test_duplicate_ids_are_echoed_each(server: Server) -> None:
    """Acceptance 3."""
    lines = bulk(server, HELLO, b'{"name":"a","yhat_id":"same"}\n' * 100).lines
    assert [line["yhat_id"] for line in lines] == ["same"] * 100


def test_the_last_of_duplicate_keys_wins(server: Server) -> None:
    [line] = bulk(server, HELLO, b'{"name":"a","name":"b","yhat_id":1,"yhat_id":2}\n').lines
    assert (line["result"]["greeting"], line["yhat_id"]) == ("Hello b", 2)


def test_extra_fields_are_ignored(server: Server) -> None:
    [line] = bulk(server, HELLO, b'{"name":"a","other":[1,{"deep":null}],"bulk_id":"mine"}\n').lines
    assert line["result"] == {"greeting": "Hello a"}
    assert line["bulk_id"] != "mine"


def test_a_matrix_of_features_is_not_disturbed_by_ids(server: Server) -> None:
    """Acceptance 3."""
    plain, with_id = (bulk(server, IRIS, ndjson([record])).lines[0] for record in (FLOWER, {"yhat_id": "z", **FLOWER}))
    assert plain["result"] == with_id["result"]
    assert plain["result"]["label"] == "setosa"


@pytest.mark.parametrize(("num_records", "num_runs"), [(20_000, 2), pytest.param(100_000, 10, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("replicas", ["1", "2"])
def test_the_ids_that_come_out_are_the_ids_that_went_in(tmp_path: Path, replicas: str, num_records: int, num_runs: int) -> None:
    """Acceptance 4."""
    body = ndjson({"yhat_id": f"{i}-{random.random()}", **FLOWER} for i in range(num_records))
    expected = Counter(json.loads(line)["yhat_id"] for line in body.splitlines())
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS=replicas) as server:
        for _ in range(num_runs):
            done = bulk(server, IRIS, body)
            assert done.code == 0
            assert Counter(line["yhat_id"] for line in done.lines) == expected


# Values


def test_floats_come_in_the_shortest_digits_of_their_type_and_nan_is_null(tester: Server) -> None:
    """streaming.md 2.6."""
    lines = bulk(tester, "tester/pick", ndjson({"place": i} for i in (0, 1, 2)), "&ordered=true").body.decode().splitlines()
    assert ['"result":{"found":0.5}' in lines[0], '"result":{"found":0.1}' in lines[1], '"result":{"found":null}' in lines[2]] == [
        True
    ] * 3


def test_every_type_of_tensor_goes_through(tester: Server) -> None:
    record = {"flag": False, "small": -128, "exact": 0.1, "wide": 3, "three": [1, 2.5, 1e-3]}
    [line] = bulk(tester, "tester/kinds", ndjson([record])).lines
    assert line["result"] == {"exact": 0.1, "flag": False, "small": -128, "three": [1.0, 2.5, 0.001], "wide": [3.0]}
    assert list(line["result"]) == sorted(line["result"])


def test_non_vectorized_unwraps_arrays_of_one_element(tester: Server) -> None:
    record = ndjson([{"flag": True, "small": 1, "exact": 2, "wide": 3, "three": [1, 2, 3]}])
    [line] = bulk(tester, "tester/kinds", record, "&non_vectorized=true").lines
    assert line["result"]["wide"] == 3.0
    assert line["result"]["three"] == [1.0, 2.0, 3.0]


def test_non_vectorized_changes_nothing_where_squeeze_is_on(server: Server) -> None:
    plain, unwrapped = (bulk(server, IRIS, ndjson([FLOWER]), query).lines[0]["result"] for query in ("", "&non_vectorized=true"))
    assert plain == unwrapped


def test_the_example_of_every_model_has_a_result(server: Server) -> None:
    for model in ("brandon/HelloWorld", "sluice/iris", "sluice/wine", "sluice/diabetes", "sluice/penguins", "sluice/language"):
        detail = json.loads(curl(f"{server.url}/api/models/{model}", auth=server.auth).body)
        [line] = bulk(server, model, ndjson([detail["example"]])).lines
        assert "result" in line, line


# ordered, summary


@pytest.mark.parametrize("model", [HELLO, "sluice/language"])
def test_ordered_keeps_the_order_of_mixed_lengths_with_errors_and_blank_lines_between(server: Server, model: str) -> None:
    """Acceptance 5."""
    field = "name" if model == HELLO else "text"
    count = 20_000 if model == HELLO else 3_000
    rng = random.Random(1)
    good = [{field: "word " * rng.choice((1, 1, 2, 40)), "yhat_id": i} for i in range(count)]
    texts = [json.dumps(record).encode() for record in good]
    for i in range(7, count, 97):
        texts[i] = b"{broken"
    for i in range(5, count, 101):
        texts[i] = b""
    lines = bulk(server, model, b"\n".join(texts) + b"\n", "&ordered=true").lines
    expected = [i if text != b"{broken" else ("line", i + 1) for i, text in enumerate(texts) if text]
    assert [line["yhat_id"] if "result" in line else ("line", line["line"]) for line in lines] == expected


def test_ordered_keeps_the_order_of_objects_that_share_lines(server: Server) -> None:
    body = b"".join(b"".join(b'{"name":"n","yhat_id":%d}' % (10 * i + j) for j in range(i % 4)) + b"\n" for i in range(2000))
    lines = bulk(server, HELLO, body, "&ordered=true").lines
    assert [line["yhat_id"] for line in lines] == [10 * i + j for i in range(2000) for j in range(i % 4)]


@pytest.mark.heavy
def test_ordered_keeps_the_order_of_100_000_records(server: Server) -> None:
    """Acceptance 5."""
    rng = random.Random(2)
    body = ndjson({"name": "x" * rng.randrange(500), "yhat_id": i} for i in range(100_000))
    lines = bulk(server, HELLO, body, "&ordered=true&summary=true").lines
    assert [line["yhat_id"] for line in lines[:-1]] == list(range(100_000))
    assert lines[-1]["summary"]["records"] == 100_000


def test_the_summary_is_the_last_line_and_counts_right(server: Server) -> None:
    """Acceptance 5."""
    body = ndjson({"name": str(i)} for i in range(5000)) + b'\n\n{}\n[1]\n{"name":"a"}{"name":"b"}'
    done = bulk(server, HELLO, body, "&summary=true")
    lines = done.lines
    last = lines.pop()
    assert list(last) == ["bulk_id", "summary", "version", "yhat_model"]
    summary = last["summary"]
    assert list(summary) == ["bytes_in", "bytes_out", "errors", "records", "results", "seconds"]
    assert (summary["errors"], summary["records"], summary["results"]) == (2, 5004, 5002)
    assert summary["bytes_in"] == len(body)
    assert summary["bytes_out"] == len(done.body) - len(done.body.splitlines(keepends=True)[-1])
    assert summary["seconds"] > 0
    assert last["bulk_id"] == lines[0]["bulk_id"]
    assert len(lines) == 5004


def test_the_summary_of_an_empty_body_counts_nothing(server: Server) -> None:
    [last] = bulk(server, HELLO, b"", "&summary=true").lines
    assert {last["summary"][key] for key in ("bytes_in", "bytes_out", "errors", "records", "results")} == {0}


def test_an_empty_body_is_a_clean_empty_answer(server: Server) -> None:
    done = bulk(server, HELLO, b"")
    assert (done.code, done.status, done.body) == (0, 200, b"")


# Headers and parameters


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/x-ndjson"),
        ("application/json", "application/json"),
        ("application/jsonl", "application/jsonl"),
        ("application/jsonlines", "application/jsonlines"),
        ("Application/JSONL;q=0.5", "application/jsonl"),
        ("text/html, application/json", "application/json"),
        ("text/html", "application/x-ndjson"),
    ],
)
def test_the_content_type_follows_accept(server: Server, accept: str, expected: str) -> None:
    with Raw(server) as client:
        client.begin(HELLO, Accept=accept)
        client.end()
        head = client.head()
        assert client.rest() == b""
    assert head.headers["content-type"] == expected


def test_the_answer_says_that_nobody_may_buffer_it(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO)
        head = client.head()
        client.end()
        client.rest()
    assert head.status == 200
    assert head.headers["transfer-encoding"] == "chunked"
    assert head.headers["cache-control"] == "no-store"
    assert head.headers["x-accel-buffering"] == "no"
    assert HEX_32.match(head.headers["x-bulk-id"])
    assert "content-length" not in head.headers


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "a;b=", "image/png"]
)
def test_any_content_type_is_accepted_and_none_is_parsed_as_a_form(server: Server, content_type: str) -> None:
    done = bulk(server, HELLO, b'{"name":"a=1&b=2"}\n', "", "-H", f"Content-Type: {content_type}")
    assert [line["result"]["greeting"] for line in done.lines] == ["Hello a=1&b=2"]


@pytest.mark.parametrize("value", ["true", "1", "yes", "on", "TRUE", "Yes"])
def test_bulk_has_several_words_for_yes(server: Server, value: str) -> None:
    done = curl(f"{server.model(HELLO)}?bulk={value}", "--data-binary", "@-", auth=server.auth, data=b'{"name":"a"}\n')
    assert "bulk_id" in done.lines[0]


@pytest.mark.parametrize("query", ["bulk=false", "bulk=", "bulk=0", "bulk=no", "bulk=2", "bulk", ""])
def test_what_is_not_yes_is_a_single_prediction(server: Server, query: str) -> None:
    done = curl(f"{server.model(HELLO)}?{query}", "--data-binary", "@-", auth=server.auth, data=b'{"name":"a"}\n')
    assert done.status == 200
    assert list(json.loads(done.body)) == ["result", "version", "yhat_id", "yhat_model"]


def test_unknown_query_parameters_change_nothing_and_never_reach_the_record(server: Server) -> None:
    """Acceptance 31."""
    query = "&name=parameter&yhat_id=parameter&raw_input=1&username=x&apikey=y&foo=bar"
    assert bulk(server, HELLO, b"{}\n", query).lines[0]["code"] == "missing_field"
    [line] = bulk(server, HELLO, b'{"name":"record"}\n', query).lines
    assert line["result"] == {"greeting": "Hello record"}
    assert line["yhat_id"] != "parameter"


def test_version_chooses_a_kept_version_and_99_is_not_kept(server: Server) -> None:
    assert bulk(server, HELLO, b'{"name":"a"}\n', "&version=1").lines[0]["version"] == 1
    for number in ("99", "0", "-1", "x", "", "1.0", "9" * 40):
        refused = bulk(server, HELLO, b'{"name":"a"}\n', f"&version={number}")
        assert (refused.status, refused.body) == (404, b'{"error":"model not found"}'), number


def test_keys_and_query_strings_appear_in_no_log_line(tmp_path: Path) -> None:
    """Acceptance 31."""
    with serving(tmp_path / "data", SLUICE_LOG_LEVEL="DEBUG", SLUICE_SCORE_REPLICAS="1") as server:
        secret = os.urandom(8).hex()
        bulk(server, HELLO, ndjson([{"name": "record-" + secret}]), f"&apikey={secret}")
        bulk(server, HELLO, b'{"name":"record-' + secret.encode(), f"&apikey={secret}")
        curl(f"{server.model(HELLO)}?apikey={secret}", "-d", "{", auth=("admin", secret))
        curl(f"{server.url}/nowhere?apikey={secret}", auth=server.auth)
        curl(f"{server.url}/verify?username=admin&apikey={secret}", "-X", "POST")
        with Raw(server) as client:
            client.send(f"GET /?apikey={secret} HTTP/9.9.9\r\n{secret}\r\n\r\n".encode())
            client.rest()
        server.stop()
        assert "server stopped" in server.log
        assert secret not in server.log
        assert server.key not in server.log
        assert "bulk=true" not in server.log
        assert "Traceback" not in server.log


def test_two_bodies_on_one_connection_are_two_answers(server: Server) -> None:
    with Raw(server) as client:
        for name in ("a", "b"):
            client.begin(HELLO)
            client.chunk(ndjson([{"name": name}]))
            client.end()
            assert client.head().status == 200
            [line] = answers(client.rest())
            assert line["result"] == {"greeting": f"Hello {name}"}
            assert client.has_ended
            client.has_ended = False


def test_every_record_is_answered_by_its_own_result(server: Server) -> None:
    found = by_id(bulk(server, HELLO, ndjson({"name": f"n{i}", "yhat_id": i} for i in range(30_000))).body)
    assert all(found[i]["result"] == {"greeting": f"Hello n{i}"} for i in range(30_000))
