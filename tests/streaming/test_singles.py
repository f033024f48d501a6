"""Single predictions: the shape, status, headers and limits of an answer (streaming.md 2.3); and the status of a model (2.1)."""

import gzip
import json
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from handlers.streaming.predict import SURFACE
from tests.clients import Raw, answers, bulk, curl, until
from tests.serving import Server, serving
from tests.streaming import graphs

HELLO = "brandon/HelloWorld"
ALLOWED = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
LIMIT = 8 * 1024 * 1024


def post(server: Server, body: bytes, model: str = HELLO, query: str = "", **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(server.model(model) + query, data=body, auth=server.auth, headers=named, timeout=60)


def test_a_result_has_the_same_headers_whoever_makes_its_head(server: Server) -> None:
    """Of a connection that closes aiohttp makes the head, and marks the answer as it marks every other one."""
    usual, closing = (post(server, b'{"name":"a"}', **headers) for headers in ({}, {"Connection": "close"}))
    assert closing.headers.keys() - usual.headers.keys() == {"Connection"}
    assert usual.headers.keys() <= closing.headers.keys()
    assert usual.headers["X-Content-Type-Options"] == closing.headers["X-Content-Type-Options"] == "nosniff"
    assert not SURFACE.is_open_to_pages
    assert not SURFACE.headers


def test_a_result_has_four_keys_in_order_and_timing_headers(server: Server) -> None:
    """Acceptance 19."""
    answer = post(server, b'{"name":"Kermit","yhat_id":"mine"}')
    assert answer.status_code == 200
    assert answer.text == '{"result":{"greeting":"Hello Kermit"},"version":1,"yhat_id":"mine","yhat_model":"HelloWorld"}\n'
    assert answer.headers["Content-Type"] == "application/json"
    queue, infer, total = (float(answer.headers[f"X-{name}-Time"]) for name in ("Queue", "Inference", "Total"))
    assert 0 < infer <= total < 10_000
    assert 0 <= queue <= total
    assert queue + infer <= total + 0.01


def test_an_id_is_generated_for_a_record_without_one(server: Server) -> None:
    assert re.fullmatch("[0-9a-f]{32}", post(server, b'{"name":"a"}').json()["yhat_id"])
    assert post(server, b'{"name":"a","yhat_id":7}').json()["yhat_id"] == 7
    assert post(server, b'{"name":"a","yhat_id":18446744073709551616}').json()["yhat_id"] == 2**64


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        (b"{}", "missing_field", "field 'name' is missing"),
        (b'{"name":null}', "missing_field", "field 'name' is null, and the model needs a string"),
        (b'{"name":3}', "wrong_type", "field 'name' must be a string, not an integer"),
        (b'{"name":"a","yhat_id":true}', "invalid_yhat_id", None),
    ],
)
def test_a_refused_record_is_422_with_its_code(server: Server, body: bytes, code: str, error: str | None) -> None:
    """Acceptance 19."""
    answer = post(server, body)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["code", "error", "yhat_id", "yhat_model"]
    assert answer.json()["code"] == code
    assert error is None or answer.json()["error"] == error
    assert answer.json()["yhat_model"] == "HelloWorld"


@pytest.mark.parametrize(
    "body", [b"{", b"hello", b"{'name':'x'}", b'{"name":"\xff"}', b'{"name":"a"}{"name":"b"}', b'{"name":"a"} x']
)
def test_an_undecodable_body_is_400(server: Server, body: bytes) -> None:
    """Acceptance 19."""
    answer = post(server, body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("could not decode body: ")
    assert len(answer.json()["error"]) > len("could not decode body: ")
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("body", [b"[]", b'[{"name":"a"}]', b'[{"name":"a"},{"name":"b"}]'])
def test_an_array_is_400_and_says_what_would_work(server: Server, body: bytes) -> None:
    """Acceptance 19."""
    answer = post(server, body)
    text = '{"error":"could not decode body: send one object; for many use ?bulk=true"}\n'
    assert (answer.status_code, answer.text) == (400, text)


@pytest.mark.parametrize("body", [b"", b" \n ", b"3", b'"x"', b"null", b"true"])
def test_an_empty_body_or_no_object_is_400(server: Server, body: bytes) -> None:
    answer = post(server, body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("could not decode body: ")


def test_a_record_may_be_spread_over_lines_and_begin_with_a_bom(server: Server) -> None:
    assert post(server, b'{\n  "name":\r\n "a"\n}\n').json()["result"] == {"greeting": "Hello a"}


def test_the_body_limit_is_exact(server: Server) -> None:
    """streaming.md 2.7: 413, counted after decoding."""
    frame = b'{"name":""}'
    full = frame[:-2] + b"x" * (LIMIT - len(frame)) + frame[-2:]
    assert post(server, full).status_code == 200
    for body, headers in ((full + b" ", {}), (gzip.compress(full + b" "), {"Content_Encoding": "gzip"})):
        answer = post(server, body, **headers)
        assert (answer.status_code, answer.text) == (413, '{"error":"body larger than 8388608 bytes"}')
    assert post(server, gzip.compress(full), Content_Encoding="gzip").status_code == 200


def test_a_body_over_the_limit_by_its_content_length_is_413_before_it_is_sent(server: Server) -> None:
    with Raw(server) as client:
        client.ask("POST", "/brandon/models/HelloWorld", Content_Length=str(LIMIT + 1))
        head = client.head()
        assert (head.status, head.headers["connection"]) == (413, "close")


def test_a_body_without_content_length_over_the_limit_is_413(server: Server) -> None:
    with Raw(server) as client:
        client.ask("POST", "/brandon/models/HelloWorld", Transfer_Encoding="chunked")
        for _ in range(9):
            client.chunk(b" " * 1024 * 1024)
        assert client.head().status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", "GZIP"])
def test_compressed_bodies_are_decoded(server: Server, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding.lower()]
    assert post(server, pack(b'{"name":"a"}'), Content_Encoding=encoding).json()["result"] == {"greeting": "Hello a"}  # type: ignore[operator]


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b'{"name":"a"}')[:-5],
        gzip.compress(b'{"name":"a"}')[:-8] + b"\0" * 8,
        b'{"name":"a"}',
        gzip.compress(b'{"name":"a"}')[:5],
        b"",
    ],
    ids=["cut short", "bad CRC", "not gzip", "head only", "empty"],
)
def test_broken_gzip_is_400(server: Server, body: bytes) -> None:
    """Section 4."""
    answer = post(server, body, Content_Encoding="gzip")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("could not decode body: ")


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x"])
def test_an_unknown_encoding_is_415(server: Server, encoding: str) -> None:
    assert post(server, b'{"name":"a"}', Content_Encoding=encoding).status_code == 415
    assert post(server, b'{"name":"a"}\n', query="?bulk=true", Content_Encoding=encoding).status_code == 415


def test_a_gzip_bomb_is_413(server: Server) -> None:
    before = server.rss_bytes()
    assert post(server, gzip.compress(b" " * 256 * 1024 * 1024, 9), Content_Encoding="gzip").status_code == 413
    assert server.rss_bytes() - before < 32 * 1024 * 1024


def test_a_model_that_raises_for_the_record_is_500_model_failed(tester: Server) -> None:
    answer = post(tester, b'{"place":7,"yhat_id":"x"}', "tester/pick")
    assert answer.status_code == 500
    assert list(answer.json()) == ["code", "error", "yhat_id", "yhat_model"]
    assert (answer.json()["code"], answer.json()["yhat_id"]) == ("model_failed", "x")
    assert "Traceback" not in answer.text
    assert len(answer.json()["error"]) <= 200
    assert post(tester, b'{"place":0}', "tester/pick").json()["result"] == {"found": 0.5}


def test_a_record_that_kills_the_process_is_500_and_the_next_is_answered(tester: Server) -> None:
    answer = post(tester, b'{"divisor":-1,"yhat_id":"x"}', "tester/divide")
    assert (answer.status_code, answer.json()["code"], answer.json()["yhat_id"]) == (500, "model_failed", "x")
    assert post(tester, b'{"divisor":2}', "tester/divide").json()["result"] == {"quotient": -(2**62)}


def test_a_record_that_hangs_is_503(tmp_path: Path) -> None:
    """streaming.md 2.3: no answer within SLUICE_REQUEST_TIMEOUT_S."""
    with serving(graphs.write_all(tmp_path / "data"), SLUICE_REQUEST_TIMEOUT_S="5") as server:
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        answer = post(server, json.dumps({"count": graphs.FOREVER}).encode(), "tester/turns")
        assert (answer.status_code, answer.text) == (503, '{"error":"timed out"}')
        assert post(server, b'{"count":2}', "tester/turns").status_code == 200, "one replica hangs, the other is free"


def test_files_that_are_no_model_are_503(tester: Server) -> None:
    """streaming.md 2.2."""
    for name in ("broken", "unread"):
        for query, method in (("", "POST"), ("?bulk=true", "POST"), ("?bulk=true", "PUT")):
            answer = requests.request(method, tester.model(f"tester/{name}") + query, data=b'{"x":1}', auth=tester.auth, timeout=30)
            assert (answer.status_code, answer.text) == (503, '{"error":"no instances of model found"}'), name
        assert requests.get(tester.model(f"tester/{name}"), auth=tester.auth, timeout=30).status_code == 503
        checked = requests.get(f"{tester.url}/api/models/tester/{name}/check", auth=tester.auth, timeout=30).json()
        assert (checked["Status"], checked["Online"]) == ("offline", False)


def test_many_at_once_each_get_their_own_answer(server: Server) -> None:
    def one(i: int) -> bool:
        body = b'{"name":3}' if i % 5 == 0 else json.dumps({"name": f"n{i}", "yhat_id": i}).encode()
        answer = post(server, body)
        if i % 5 == 0:
            return answer.status_code == 422
        return bool(answer.json()["yhat_id"] == i and answer.json()["result"] == {"greeting": f"Hello n{i}"})

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(400)))


def test_singles_are_answered_while_a_stream_keeps_the_replicas_busy(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO)
        client.head()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(lambda: [client.chunk(b'{"name":"%d"}\n' % i * 5000) for i in range(40)])
            assert [post(server, b'{"name":"a"}').status_code for _ in range(20)] == [200] * 20
            sending.result()
        client.end()
        assert len(answers(client.rest())) == 200_000


def test_compat_status_answers_500_as_scienceops_did(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_COMPAT_STATUS="true", SLUICE_SCORE_REPLICAS="1") as server:
        assert post(server, b"{}").status_code == 500
        assert post(server, b"{}", "brandon/Nothing").status_code == 500
        assert post(server, b'{"name":"a"}').status_code == 200
        assert requests.post(server.model(HELLO), data=b"{}", timeout=10).status_code == 401


# Status


def test_the_status_of_a_model_is_ok_after_a_heartbeat(server: Server) -> None:
    answer = requests.get(server.model(HELLO), auth=server.auth, timeout=30)
    assert answer.status_code == 200
    assert list(answer.json()) == ["date", "status"]
    assert answer.json()["status"] == "OK"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer.json()["date"])


@pytest.mark.parametrize(
    "path", ["brandon/models/HelloWorld", "brandon/models/HelloWorld/", "brandon/models/Nothing", "nobody/models/x"]
)
def test_head_equals_get_without_the_body(server: Server, path: str) -> None:
    """Acceptance 21."""
    got, headed = (requests.request(method, f"{server.url}/{path}", auth=server.auth, timeout=30) for method in ("GET", "HEAD"))
    assert headed.status_code == got.status_code
    assert headed.content == b""
    assert {**headed.headers, "Date": ""} == {**got.headers, "Date": ""}
    assert (
        requests.head(f"{server.url}/{path}", timeout=30).status_code
        == requests.get(f"{server.url}/{path}", timeout=30).status_code
    )


@pytest.mark.parametrize("path", ["brandon/models/HelloWorld", "brandon/models/HelloWorld/"])
@pytest.mark.parametrize("method", ["PATCH", "TRACE"])
def test_other_methods_are_405_with_allow(server: Server, path: str, method: str) -> None:
    """Acceptance 21."""
    answer = requests.request(method, f"{server.url}/{path}", auth=server.auth, timeout=30)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == ALLOWED
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("path", ["brandon/models/HelloWorld", "brandon/models/HelloWorld/", "no/models/such"])
def test_options_are_204_with_allow_and_ask_nobody_for_a_key(server: Server, path: str) -> None:
    """Acceptance 21."""
    answer = requests.options(f"{server.url}/{path}", timeout=30)
    assert (answer.status_code, answer.headers["Allow"], answer.content) == (204, ALLOWED, b"")


def test_a_put_without_bulk_and_without_a_publishable_type_predicts_nothing(server: Server) -> None:
    answer = requests.put(server.model(HELLO), data=b'{"name":"a"}', auth=server.auth, timeout=30)
    assert answer.status_code in (405, 415)


# Accounts and lists of models, where they matter for predicting (acceptance 22)


def test_verify_takes_basic_bearer_query_and_form(server: Server) -> None:
    url, pair = f"{server.url}/verify", {"username": "admin", "apikey": server.key}
    ways = [{"auth": server.auth}, {"headers": {"Authorization": f"Bearer {server.key}"}}, {"params": pair}, {"data": pair}]
    for way in ways:
        answer = requests.post(url, timeout=30, **way)  # type: ignore[arg-type]
        assert (answer.status_code, answer.text) == (200, '{"success":"true"}')
    none = requests.post(url, timeout=30)
    assert (none.status_code, none.text) == (401, '{"error":"No auth provided"}')
    for user, key in (("admin", "0" * 32), ("nobody", server.key), ("", "")):
        for way in (
            {"auth": (user, key)},
            {"params": {"username": user, "apikey": key}},
            {"data": {"username": user, "apikey": key}},
        ):
            wrong = requests.post(url, timeout=30, **way)  # type: ignore[arg-type]
            assert (wrong.status_code, wrong.text) in (
                (401, '{"error":"APIKEY did not match"}'),
                (401, '{"error":"No auth provided"}'),
            )
            assert user == "" or wrong.text == '{"error":"APIKEY did not match"}'


def test_models_are_listed_by_owner_and_name(server: Server) -> None:
    models = requests.get(f"{server.url}/api/models", auth=server.auth, timeout=30).json()["models"]
    titles = [(model["owner"], model["name"]) for model in models]
    assert titles == sorted(titles)
    assert ("brandon", "HelloWorld") in titles
    keys = ["active_version", "description", "latest_version", "name", "owner", "shared", "status", "task", "versions"]
    assert all(list(model) == keys for model in models)


def test_one_model_shows_inputs_outputs_and_example(server: Server) -> None:
    model = requests.get(f"{server.url}/api/models/sluice/iris", auth=server.auth, timeout=30).json()
    assert model["inputs"][0]["features"] == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert {"outputs", "example", "max_batch_size", "versions"} <= set(model)


def test_check_is_in_the_words_of_scienceops(server: Server) -> None:
    url = f"{server.url}/api/models/sluice/iris/check"
    until(lambda: requests.get(url, auth=server.auth, timeout=30).json()["Online"])
    answer = requests.get(url, auth=server.auth, timeout=30)
    assert answer.text == '{"ActiveVersion":1,"LatestVersion":1,"Name":"iris","Online":true,"Owner":"sluice","Status":"online"}'


def test_a_bulk_answer_and_a_single_one_have_the_same_result(server: Server) -> None:
    record = b'{"sepal_length":6.1,"sepal_width":2.8,"petal_length":4.7,"petal_width":1.2}'
    assert post(server, record, "sluice/iris").json()["result"] == bulk(server, "sluice/iris", record).lines[0]["result"]


def test_healthcheck_is_plain_text_and_json_on_demand(server: Server) -> None:
    plain = curl(f"{server.url}/healthcheck")
    assert (plain.status, plain.body) == (200, b"ok")
    assert "text/plain" in plain.trace
    assert "no-store" in plain.trace
    shown = json.loads(curl(f"{server.url}/healthcheck", "-H", "Accept: application/json").body)
    assert list(shown) == ["models", "replicas", "status", "streams"]
    assert shown["status"] == "ok"


def test_metrics_take_the_admin_and_show_what_was_done(server: Server) -> None:
    before = server.metric('sluice_records_total{model="brandon/HelloWorld",outcome="result"}')
    bulk(server, HELLO, b'{"name":"a"}\n' * 10 + b"[1]\n")
    assert server.metric('sluice_records_total{model="brandon/HelloWorld",outcome="result"}') == before + 10
    assert requests.get(f"{server.url}/metrics", timeout=30).status_code == 401
    names = [
        "requests_total",
        "request_seconds",
        "records_total",
        "streams",
        "streams_total",
        "rejected_total",
        "queue_blocks",
        "queue_seconds",
        "block_records",
        "block_seconds",
        "padding_ratio",
        "bytes_total",
        "spill_bytes",
        "replicas",
        "replica_restarts_total",
        "blocks_requeued_total",
        "blocks_dropped_total",
        "model_loads_total",
    ]
    text = requests.get(f"{server.url}/metrics", auth=server.auth, timeout=30).text
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    for name in names:
        assert f"sluice_{name}" in shown or f"sluice_{name}".removesuffix("_total") in shown, name


@pytest.mark.parametrize("body", [b'{"name":"a"}\n{"name":"b"}\n', b'{"name":"a"}{"name":"b"}', b'{"name":\n"a"}\r\n[1]'])
def test_lines_without_bulk_are_told_of_bulk(server: Server, body: bytes) -> None:
    told = "it holds more than one JSON value; to send many records in one request, add ?bulk=true to the address"
    assert post(server, body).json() == {"error": f"could not decode body: {told}"}
    assert "bulk" not in post(server, b'{"name":"a"} x').json()["error"]


def test_an_array_without_bulk_is_told_of_bulk(server: Server) -> None:
    told = "could not decode body: send one object; for many use ?bulk=true"
    assert post(server, b'[{"name":"a"}]').json() == {"error": told}


def test_lists_in_a_list_are_told_of_one_flat_list(tmp_path: Path) -> None:
    with serving(graphs.write_all(tmp_path / "data"), SLUICE_SCORE_REPLICAS="1") as tester:
        record = {"flag": True, "small": 1, "exact": 0.5, "wide": 1, "three": [[1, 2, 3]]}
        answer = requests.post(tester.model("tester/kinds"), json=record, auth=tester.auth, timeout=30)
        assert answer.json()["error"] == "field 'three' has lists in a list, and the model takes one flat list of 3 values"
