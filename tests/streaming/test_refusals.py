"""Refusals that are sent before the server reads a byte of the body (streaming.md 2.2, 2.7)."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.clients import Raw, answers, bulk, curl, health, until
from tests.serving import Server, serving
from tests.streaming import graphs

HELLO = "brandon/HelloWorld"
PATH = "/brandon/models/HelloWorld"
WRONG = ("admin", "0" * 32)
NO_KEY = (
    b'{"error":"No basic authentication provided: send user and key as HTTP Basic (curl -u USER:KEY), or the key alone as '
    b"`Authorization: Bearer KEY`. The key of the user admin is in the file admin.key of the server's data directory.\"}"
)
BAD_KEY = (
    b'{"error":"Unauthorized: the user or the key is wrong. '
    b"The key of the user admin is in the file admin.key of the server's data directory.\"}"
)
CHALLENGE = 'Basic realm="sluice"'


@pytest.mark.parametrize("query", ["", "?bulk=true", "/?bulk=true"])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_no_key_and_a_wrong_key_are_401(server: Server, query: str, method: str) -> None:
    """Acceptance 20."""
    for path in (HELLO, "brandon/Nothing", "nobody/nothing", "tester/private"):
        if method == "PUT" and not query:
            continue
        none = requests.request(method, server.model(path) + query, data=b"{}", timeout=30)
        assert (none.status_code, none.content, none.headers["WWW-Authenticate"]) == (401, NO_KEY, CHALLENGE)
        for auth in (
            WRONG,
            ("nobody", server.key),
            ("", server.key),
            ("Admin", server.key),
            ("admin", ""),
            ("admin", server.key[:-1]),
        ):
            wrong = requests.request(method, server.model(path) + query, data=b"{}", auth=auth, timeout=30)
            assert (wrong.status_code, wrong.content, wrong.headers["WWW-Authenticate"]) == (401, BAD_KEY, CHALLENGE), auth


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!!", "Basic YWRtaW4=", "Digest x", "Bearer", "Bearer 0", "x", "", "Basic /////w=="]
)
def test_a_header_that_is_no_credential_is_401(server: Server, header: str) -> None:
    with Raw(server) as client:
        client.ask("POST", PATH + "?bulk=true", auth=None, Authorization=header, Content_Length="0")
        assert client.head().status == 401
        assert client.rest().startswith(b'{"error":"Unauthorized: the ')


def test_a_bearer_key_is_as_good_as_basic(server: Server) -> None:
    done = curl(f"{server.model(HELLO)}?bulk=true", "-H", f"Authorization: Bearer {server.key}", "--data-binary", '{"name":"a"}')
    assert done.lines[0]["result"] == {"greeting": "Hello a"}


@pytest.mark.parametrize(
    "path", ["brandon/Nothing", "nobody/HelloWorld", "brandon/helloworld", "Brandon/HelloWorld", "-x/y", "a/.hidden", "a/%00"]
)
def test_an_unknown_model_is_404(server: Server, path: str) -> None:
    for query in ("", "?bulk=true"):
        answer = requests.post(server.model(path) + query, data=b"{}", auth=server.auth, timeout=30)
        assert (answer.status_code, answer.content) == (404, b'{"error":"model not found"}')


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/brandon/models", "/brandon/model/x", "/API/models/x", "/v2/models/x", "/brandon/models/a/b/c", "/../x"],
)
def test_an_unknown_path_is_404_in_the_general_shape(server: Server, path: str) -> None:
    with Raw(server) as client:
        client.ask("POST", path, Content_Length="0")
        assert client.head().status == 404
        assert client.rest() == b'{"error":"not found"}'


def test_rights_between_users(tester: Server) -> None:
    """Acceptance 20."""
    made = requests.post(f"{tester.url}/api/users", json={"name": "eva"}, auth=tester.auth, timeout=30)
    assert made.status_code == 201
    assert list(made.json()) == ["key", "kind", "name"]
    eva = ("eva", made.json()["key"])
    narrow = requests.post(f"{tester.url}/api/keys", json={"kind": "read_only"}, auth=eva, timeout=30)
    assert narrow.status_code == 201
    reader = ("eva", narrow.json()["key"])

    def ask(model: str, auth: tuple[str, str], method: str = "POST") -> tuple[int, str]:
        answer = requests.request(method, tester.model(model) + "?bulk=true", data=b'{"place":1}\n', auth=auth, timeout=30)
        return answer.status_code, answer.text

    for method in ("POST", "PUT", "GET"):
        assert ask("tester/pick", eva, method)[0] == 200
        assert ask("tester/private", tester.auth, method)[0] == 200, "the admin acts for every owner"
        assert ask("tester/private", eva, method) == (404, '{"error":"model not found"}')
        assert ask("tester/pick", reader, method) == (403, '{"error":"a full key is needed for this"}')
        assert ask("tester/Nothing", reader, method) == (403, '{"error":"a full key is needed for this"}')
    listed = requests.get(f"{tester.url}/api/models", auth=eva, timeout=30).json()["models"]
    assert ("tester", "private") not in {(model["owner"], model["name"]) for model in listed}
    assert requests.get(f"{tester.url}/metrics", auth=eva, timeout=30).status_code == 403


def test_a_form_with_files_is_415_and_says_what_to_do(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_bytes(b'{"name":"a"}\n')
    done = curl(f"{server.model(HELLO)}?bulk=true", "-F", f"file=@{path}", auth=server.auth)
    assert (done.status, done.body) == (415, b'{"error":"send the file itself: curl --data-binary @file"}')


# Expect (acceptance 9)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("path", "key", "headers", "status"),
    [
        (PATH + "?bulk=true", "wrong", {}, 401),
        (PATH + "?bulk=true", "none", {}, 401),
        ("/brandon/models/Nothing?bulk=true", "right", {}, 404),
        ("/nowhere/at/all/of/it", "right", {}, 404),
        (PATH + "?bulk=true", "right", {"Content_Type": "multipart/form-data; boundary=x"}, 415),
        (PATH + "?bulk=true", "right", {"Content_Encoding": "br"}, 415),
        (PATH + "?bulk=true&version=99", "right", {}, 404),
    ],
)
def test_expect_of_a_refused_request_gets_the_refusal_and_never_100(
    server: Server, method: str, path: str, key: str, headers: dict[str, str], status: int
) -> None:
    """Acceptance 9."""
    auth = {"wrong": WRONG, "none": None, "right": server.auth}[key]
    with Raw(server) as client:
        client.ask(method, path, auth=auth, Expect="100-continue", Content_Length="1000000", **headers)
        head = client.head()
        assert head.status == status
        assert head.headers["connection"] == "close"
        assert list(json.loads(client.rest())) == ["error"]


def test_expect_of_a_single_body_over_the_limit_is_413_and_never_100(server: Server) -> None:
    with Raw(server) as client:
        client.ask("POST", PATH, Expect="100-continue", Content_Length=str(9 * 1024 * 1024))
        assert client.head().status == 413


def test_expect_of_an_admitted_request_gets_100_and_then_the_answer(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO, Expect="100-continue")
        assert client.head().status == 100
        client.chunk(b'{"name":"a"}\n')
        client.end()
        assert client.head().status == 200
        assert [line["result"] for line in answers(client.rest())] == [{"greeting": "Hello a"}]


def test_curl_with_expect_and_a_wrong_key_never_sends_its_file(server: Server, tmp_path: Path) -> None:
    """Acceptance 9."""
    path = tmp_path / "records"
    path.write_bytes(b'{"name":"a"}\n' * 200_000)
    refused = curl(f"{server.model(HELLO)}/?bulk=true", "-T", str(path), "-H", "Expect: 100-continue", auth=WRONG)
    assert (refused.code, refused.status, refused.body) == (0, 401, BAD_KEY)
    assert "100 Continue" not in refused.trace
    right = curl(f"{server.model(HELLO)}/?bulk=true", "-T", str(path), "-H", "Expect: 100-continue", auth=server.auth)
    assert "100 Continue" in right.trace
    assert len(right.lines) == 200_000


@pytest.mark.parametrize("value", ["100-Continue", "100-CONTINUE"])
def test_expect_is_read_in_any_case(server: Server, value: str) -> None:
    with Raw(server) as client:
        client.begin(HELLO, Expect=value)
        assert client.head().status == 100
        client.end()
        assert client.head().status == 200


def test_another_expectation_is_417(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO, Expect="a-pony")
        head = client.head()
        assert (head.status, head.headers["connection"]) == (417, "close")


def test_a_body_that_is_not_read_closes_the_connection_but_the_answer_arrives(server: Server) -> None:
    """streaming.md 8.5: a client that goes on sending still gets its 401."""
    body = b'{"name":"a"}\n' * 2_000_000
    for auth, status in ((WRONG, 401), (None, 401)):
        done = curl(f"{server.model(HELLO)}?bulk=true", "--data-binary", "@-", "-H", "Expect:", auth=auth, data=body)
        assert done.status == status
        assert "Connection: close" in done.trace
    answer = requests.post(server.model(HELLO) + "?bulk=true", data=body, auth=WRONG, timeout=30)
    assert (answer.status_code, answer.content) == (401, BAD_KEY)
    answer = requests.post(server.model(HELLO), data=body, auth=server.auth, timeout=30)
    assert answer.status_code == 413


# Capacity (acceptance 18)


def test_one_stream_too_many_is_429_and_its_body_is_not_read(tmp_path: Path) -> None:
    """Acceptance 18, with a limit of 3 streams instead of 64."""
    with serving(tmp_path / "data", SLUICE_MAX_STREAMS="3", SLUICE_SCORE_REPLICAS="1") as server, ExitStack() as stack:
        streams = [stack.enter_context(Raw(server)) for _ in range(3)]
        for stream in streams:
            stream.begin(HELLO)
            assert stream.head().status == 200
        for expect in ({}, {"Expect": "100-continue"}):
            with Raw(server) as late:
                late.begin(HELLO, **expect)
                head = late.head()
                assert (head.status, head.headers["retry-after"], head.headers["connection"]) == (429, "1", "close")
                assert late.rest() == b'{"error":"too many streams"}'
        assert curl(server.model(HELLO), "-d", '{"name":"a"}', auth=server.auth).status == 200, "singles go on"
        for stream in streams:
            stream.chunk(b'{"name":"a"}\n')
            assert stream.line()["result"] == {"greeting": "Hello a"}
            stream.end()
            assert stream.rest() == b""
            assert stream.has_ended
        until(lambda: health(server)["streams"] == 0)
        assert bulk(server, HELLO, b'{"name":"a"}\n').status == 200, "there is room again"


@pytest.mark.heavy
def test_the_65th_stream_is_429(tmp_path: Path) -> None:
    """Acceptance 18."""
    with serving(tmp_path / "data", SLUICE_MAX_STREAMS_PER_USER="100") as server, ExitStack() as stack:
        for _ in range(64):
            stream = stack.enter_context(Raw(server))
            stream.begin(HELLO)
            assert stream.head().status == 200
        with Raw(server) as late:
            late.begin(HELLO)
            assert late.head().status == 429


def test_one_user_may_not_take_every_place(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_MAX_STREAMS_PER_USER="1", SLUICE_SCORE_REPLICAS="1") as server, Raw(server) as first:
        first.begin(HELLO)
        first.head()
        key = requests.post(f"{server.url}/api/users", json={"name": "eva"}, auth=server.auth, timeout=30).json()["key"]
        assert bulk(server, HELLO, b"").status == 429
        assert curl(f"{server.model(HELLO)}?bulk=true", "-d", "", auth=("eva", key)).status == 200


@pytest.mark.parametrize("leave", [Raw.reset, Raw.close, Raw.garbage, Raw.end])
def test_the_place_of_a_stream_comes_back_after_every_kind_of_end(server: Server, leave: Callable[[Raw], None]) -> None:
    """Something that is not a chunk ends a stream too, without a wait for more."""
    with Raw(server) as client:
        client.begin(HELLO)
        assert client.head().status == 200
        assert health(server)["streams"] == 1
        client.chunk(b'{"name":"a"}\n')
        leave(client)
        until(lambda: health(server)["streams"] == 0, 10, "the end of the stream")


def test_too_many_waiting_singles_are_429(tmp_path: Path) -> None:
    settings = {"SLUICE_MAX_QUEUED": "2", "SLUICE_SCORE_REPLICAS": "1"}
    with serving(graphs.write_all(tmp_path / "data"), **settings) as server, ExitStack() as stack:
        url, body = server.model("tester/turns"), json.dumps({"count": 1000}).encode()
        assert requests.post(url, data=b'{"count":1}', auth=server.auth, timeout=30).status_code == 200
        [replica] = server.replica_pids()
        os.kill(replica, signal.SIGSTOP)
        stack.callback(os.kill, replica, signal.SIGCONT)
        clients = [stack.enter_context(Raw(server)) for _ in range(3)]
        for num_sent, client in enumerate(clients, 1):
            client.ask("POST", "/tester/models/turns", Content_Length=str(len(body)))
            client.send(body)
            if num_sent == 1:  # the replica has this one, so the others wait
                until(lambda: server.metric('sluice_queue_seconds_count{lane="interactive"}') == 2)
        until(lambda: server.metric('sluice_queue_blocks{lane="interactive"}') == 2)
        refused = requests.post(url, data=body, auth=server.auth, timeout=30)
        assert (refused.status_code, refused.text, refused.headers["Retry-After"]) == (429, '{"error":"too many requests"}', "1")
        os.kill(replica, signal.SIGCONT)
        assert [client.head().status for client in clients] == [200] * 3


def test_anonymous_streaming_opens_shared_models_and_nothing_else(tmp_path: Path) -> None:
    with serving(graphs.write_all(tmp_path / "data"), SLUICE_ANONYMOUS="streaming", SLUICE_SCORE_REPLICAS="1") as server:
        url = server.model("tester/pick")
        assert requests.post(url + "?bulk=true", data=b'{"place":1}', timeout=30).status_code == 200
        assert requests.post(url, data=b'{"place":1}', timeout=30).status_code == 200
        assert requests.get(url, timeout=30).status_code == 200
        assert requests.post(url, data=b'{"place":1}', auth=WRONG, timeout=30).status_code == 401
        assert requests.post(server.model("tester/private"), data=b'{"place":1}', timeout=30).status_code == 404
        assert requests.get(f"{server.url}/api/models", timeout=30).status_code == 401
        assert requests.get(f"{server.url}/metrics", timeout=30).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/api/models/sluice/iris", 405, "GET, HEAD, PATCH"),
        ("POST", "/api/models/sluice/iris/", 405, "GET, HEAD, PATCH"),
        ("OPTIONS", "/api/models/iris", 404, None),
        ("POST", "/V1/models/iris?bulk=true", 404, None),
        ("DELETE", "/metrics", 405, "GET, HEAD"),
        ("GET", "/apis/models/iris", 404, None),
    ],
)
def test_a_reserved_first_segment_is_never_an_owner(server: Server, method: str, path: str, status: int, allow: str | None) -> None:
    answer = requests.request(method, server.url + path, auth=server.auth, timeout=30)
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allow)
    assert list(answer.json()) == ["error"]
