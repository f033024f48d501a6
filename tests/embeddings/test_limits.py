"""Requests that are refused: each limit at its edge, encoded bodies, slow and impolite clients (embeddings.md 4)."""

import gzip
import json
import os
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import Raw, curl, until
from tests.embeddings.asking import (
    BERT,
    OPENAI,
    SIMPLE,
    SURFACES,
    ask,
    assert_detail,
    assert_openai_fault,
    assert_refusal,
    assert_refused,
    assert_same,
    post,
    vectors,
)
from tests.embeddings.small_models import SmallModels
from tests.serving import Server, serving

MIB = 1024 * 1024
BODY_LIMIT = 100_000
TIGHT = {
    "SLUICE_EMBEDDING_MODELS": BERT,
    "SLUICE_SCORE_REPLICAS": "1",
    "SLUICE_EMBED_BODY_LIMIT_BYTES": str(BODY_LIMIT),
    "SLUICE_EMBED_MAX_INPUTS": "12",
    "SLUICE_EMBED_MAX_TOKENS": "200",
    "SLUICE_EMBED_TEXT_LIMIT_BYTES": "1000",
    "SLUICE_EMBED_MAX_REQUESTS": "3",
    "SLUICE_EMBED_TIMEOUT_S": "30",
}
BODY = json.dumps({"model": BERT, "input": "hello"}).encode()

each_surface = pytest.mark.parametrize("path", SURFACES)


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("tight") / "data"
    small.put(data_dir, f"admin/{BERT}")
    with serving(data_dir, **TIGHT) as running:
        until(lambda: ask(running, "a").status_code == 200)
        yield running


def padded(num_bytes: int) -> bytes:
    """A valid body of exactly this many bytes."""
    return BODY + b" " * (num_bytes - len(BODY))


# Inputs


def test_2048_inputs_are_taken_and_2049_are_not(server: Server) -> None:
    """Acceptance 16."""
    texts = ["a"] * 2048
    for path in SURFACES:
        assert len(ask(server, texts, path=path).json()["data"]) == 2048
    [fault] = assert_detail(ask(server, [*texts, "a"]), ("too_long", ["body", "input"]))
    assert fault["ctx"] == {"actual_length": 2049, "field_type": "List", "max_length": 2048}
    assert fault["url"].endswith("/v/too_long")
    assert fault["input"] == [*texts, "a"]
    assert_openai_fault(ask(server, [*texts, "a"], path=OPENAI), "input", "too_many_inputs")
    assert_openai_fault(ask(server, [[5]] * 2049, path=OPENAI), "input", "too_many_inputs")


def test_3000_inputs_are_told_as_in_the_contract(server: Server) -> None:
    """Section 2.2, word for word. A list of tokens is one input."""
    [fault] = assert_detail(ask(server, ["a"] * 3000), ("too_long", ["body", "input"]))
    assert fault["ctx"] == {"actual_length": 3000, "field_type": "List", "max_length": 2048}
    assert ask(server, [5] * 3000, path=OPENAI).status_code == 200


def test_a_limit_fault_comes_after_the_faults_of_shape(server: Server) -> None:
    faults = ask(server, ["a"] * 2049, "nowhere").json()["detail"]
    assert [fault["type"] for fault in faults] == ["assertion_error"]
    faults = ask(server, [*["a"] * 2047, 3, *["a"] * 10]).json()["detail"]
    assert [fault["loc"] for fault in faults] == [["body", "input", "str"], ["body", "input", "list[str]", 2047]]


def test_a_million_wrong_items_make_no_million_faults(server: Server) -> None:
    answer = ask(server, [3] * 1_000_000)
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) <= 2050


def test_the_limits_are_settings(tight: Server) -> None:
    assert ask(tight, ["a"] * 12).status_code == 200
    [fault] = assert_detail(ask(tight, ["a"] * 13), ("too_long", ["body", "input"]))
    assert fault["ctx"] == {"actual_length": 13, "field_type": "List", "max_length": 12}
    assert_openai_fault(ask(tight, ["a"] * 13, path=OPENAI), "input", "too_many_inputs")


# Tokens


@each_surface
def test_the_tokens_of_all_inputs_are_limited_after_they_were_cut(tight: Server, path: str) -> None:
    """200 tokens are accepted: five texts truncated to 36 tokens, and one of 20."""
    long = "b " * 300
    assert ask(tight, [long] * 5 + ["c " * 18], path=path).status_code == 200
    many = ask(tight, [long] * 5 + ["c " * 19], path=path)
    if path == SIMPLE:
        assert_detail(many, ("context_length_exceeded", ["body", "input"]))
    else:
        assert_openai_fault(many, "input", "context_length_exceeded")


def test_token_ids_count_as_tokens(tight: Server) -> None:
    assert ask(tight, [[5] * 34] * 5, path=OPENAI).status_code == 200
    assert_openai_fault(ask(tight, [[5] * 34] * 6, path=OPENAI), "input", "context_length_exceeded")


@each_surface
def test_a_model_that_nobody_has_opened_yet_has_the_same_limit(tmp_path: Path, small: SmallModels, path: str) -> None:
    """In that case the replica that reads the body cannot count its tokens."""
    small.put(tmp_path / "data", f"admin/{BERT}")
    small.put(tmp_path / "data", "admin/other", "mpnet")
    with serving(tmp_path / "data", **TIGHT | {"SLUICE_EMBEDDING_MODELS": f"{BERT},other"}) as server:
        many = ask(server, ["b " * 300] * 6, "other", path=path)
        if path == SIMPLE:
            assert_detail(many, ("context_length_exceeded", ["body", "input"]))
        else:
            assert_openai_fault(many, "input", "context_length_exceeded")
        assert ask(server, ["b " * 300] * 5, "other", path=path).status_code == 200


# One text


@pytest.mark.parametrize("character", ["a", "é", "中", "🙂"])
def test_a_text_is_limited_in_bytes_of_utf8(tight: Server, character: str) -> None:
    size = len(character.encode())
    fits = character * (1000 // size) + "a" * (1000 % size)
    for path in SURFACES:
        assert ask(tight, [fits, fits], path=path).status_code == 200
    faults = assert_detail(
        ask(tight, ["a", fits + "a", "b", fits + "b"]),
        ("string_too_long", ["body", "input", 1]),
        ("string_too_long", ["body", "input", 3]),
    )
    assert [fault["input"] for fault in faults] == [fits + "a", fits + "b"]
    assert all(fault["ctx"] == {"max_length": 1000} for fault in faults)
    assert_detail(ask(tight, fits + "a"), ("string_too_long", ["body", "input", 0]))
    for inputs in (fits + "a", ["a", fits + "a"]):
        assert_openai_fault(ask(tight, inputs, path=OPENAI), "input")


def test_too_many_and_too_long_are_told_together(tight: Server) -> None:
    texts = ["a"] * 11 + ["b" * 1001] * 2
    assert_detail(ask(tight, texts), ("too_long", ["body", "input"]), ("string_too_long", ["body", "input", 11]))


@each_surface
def test_a_text_of_a_megabyte_is_taken_and_of_a_byte_more_is_not(server: Server, path: str) -> None:
    assert ask(server, "é" * (MIB // 2), path=path).status_code == 200
    assert ask(server, "é" * (MIB // 2) + "a", path=path).status_code == (422 if path == SIMPLE else 400)


# The body


@each_surface
def test_the_body_limit_is_exact_and_counts_decoded_bytes(tight: Server, path: str) -> None:
    for encoding, pack in (("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)):
        headers = {"Content-Encoding": encoding}
        assert post(tight, path, pack(padded(BODY_LIMIT)), headers=headers).status_code == 200
        assert_refused(path, post(tight, path, pack(padded(BODY_LIMIT + 1)), headers=headers), 413)


@each_surface
def test_a_body_over_the_limit_by_its_content_length_is_413_before_it_is_sent(server: Server, path: str) -> None:
    with Raw(server) as client:
        client.ask("POST", path, auth=None, Content_Length=str(32 * MIB + 1))
        head = client.head()
        assert (head.status, head.headers["connection"]) == (413, "close")
        assert_refusal(path, 413, json.loads(client.rest()), head.headers)


@each_surface
def test_a_body_without_content_length_is_413_once_it_is_too_large(tight: Server, path: str) -> None:
    with Raw(tight) as client:
        client.ask("POST", path, auth=None, Transfer_Encoding="chunked")
        client.chunk(b" " * BODY_LIMIT)
        client.chunk(b" ")
        head = client.head()
        assert (head.status, head.headers["connection"]) == (413, "close")
        assert_refusal(path, 413, json.loads(client.rest()), head.headers)


@each_surface
def test_a_client_that_goes_on_sending_still_gets_its_413(tight: Server, path: str) -> None:
    done = curl(tight.url + path, "--data-binary", "@-", "-H", "Expect:", data=b" " * 8 * MIB)
    assert done.status == 413
    assert_refused(path, post(tight, path, b" " * 8 * MIB), 413)
    chunked = requests.post(tight.url + path, data=iter([b" " * MIB] * 8), timeout=30)
    assert_refused(path, chunked, 413)


@each_surface
def test_expect_of_a_body_over_the_limit_is_413_and_never_100(tight: Server, path: str) -> None:
    with Raw(tight) as client:
        client.ask("POST", path, auth=None, Expect="100-continue", Content_Length=str(BODY_LIMIT + 1))
        head = client.head()
        assert (head.status, head.headers["connection"]) == (413, "close")
        assert_refusal(path, 413, json.loads(client.rest()), head.headers)


@each_surface
def test_expect_of_a_body_that_is_taken_gets_100_and_then_the_answer(server: Server, path: str) -> None:
    with Raw(server) as client:
        client.ask("POST", path, auth=None, Expect="100-Continue", Content_Length=str(len(BODY)))
        assert client.head().status == 100
        client.send(BODY)
        assert client.head().status == 200
        assert len(json.loads(client.rest())["data"]) == 1


@each_surface
def test_expect_of_a_faulty_body_gets_100_and_then_the_fault(server: Server, path: str) -> None:
    with Raw(server) as client:
        client.ask("POST", path, auth=None, Expect="100-continue", Content_Length="2")
        assert client.head().status == 100
        client.send(b"{}")
        assert client.head().status == (422 if path == SIMPLE else 400)


@each_surface
@pytest.mark.parametrize(
    ("headers", "status"), [({"Content_Encoding": "br"}, 415), ({"Expect": "a-pony"}, 417)], ids=["encoding", "expectation"]
)
def test_what_the_head_asks_in_vain_is_refused_in_place_of_100(
    server: Server, path: str, headers: dict[str, str], status: int
) -> None:
    with Raw(server) as client:
        client.ask("POST", path, auth=None, **{"Expect": "100-continue", **headers}, Content_Length="100000")
        head = client.head()
        assert (head.status, head.headers["connection"]) == (status, "close")
        assert_refusal(path, status, json.loads(client.rest()), head.headers)


@pytest.mark.parametrize("path", ["/embeddings/x", "/v1/embeddings/x"])
def test_expect_on_an_unknown_path_is_404_in_its_shape(server: Server, path: str) -> None:
    with Raw(server) as client:
        client.ask("POST", path, Expect="100-continue", Content_Length="100000")
        head = client.head()
        assert head.status == 404
        assert_refusal(path, 404, json.loads(client.rest()), head.headers)


@each_surface
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_empty_body_is_no_json(server: Server, path: str, encoding: str) -> None:
    """The body has no bytes, or none after decoding."""
    body = b"" if encoding == "identity" else gzip.compress(b"")
    answer = post(server, path, body, headers={"Content-Encoding": encoding})
    if path == SIMPLE:
        assert_detail(answer, ("json_invalid", ["body", 0]))
    else:
        assert_openai_fault(answer, None)


# Encodings


@each_surface
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress), ("identity", bytes), ("", bytes)],
    ids=["gzip", "GZIP", "deflate", "identity", "empty"],
)
def test_encoded_bodies_are_decoded(server: Server, path: str, encoding: str, pack: Any) -> None:
    answer = post(server, path, pack(BODY), headers={"Content-Encoding": encoding})
    assert_same(vectors(answer), vectors(ask(server, "hello")))


def test_a_gzip_of_several_members_is_one_body(server: Server) -> None:
    body = b"".join(map(gzip.compress, (BODY[:10], BODY[10:])))
    assert post(server, SIMPLE, body, headers={"Content-Encoding": "gzip"}).status_code == 200


@each_surface
@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(BODY)[:-5],
        gzip.compress(BODY)[:-8] + b"\0" * 8,
        BODY,
        gzip.compress(BODY)[:5],
        gzip.compress(BODY) + b"x",
    ],
    ids=["cut short", "bad CRC", "not gzip", "head only", "garbage behind"],
)
def test_broken_gzip_is_400(server: Server, path: str, body: bytes) -> None:
    assert_refused(path, post(server, path, body, headers={"Content-Encoding": "gzip"}), 400)


@each_surface
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x"])
def test_an_unknown_encoding_is_415(server: Server, path: str, encoding: str) -> None:
    assert_refused(path, post(server, path, BODY, headers={"Content-Encoding": encoding}), 415)


@each_surface
def test_a_gzip_bomb_is_413_and_takes_no_memory(tight: Server, path: str) -> None:
    bomb = gzip.compress(b" " * 256 * MIB, 9)
    before = tight.rss_bytes("VmHWM")
    assert_refused(path, post(tight, path, bomb, headers={"Content-Encoding": "gzip"}), 413)
    assert tight.rss_bytes("VmHWM") - before < 16 * MIB


# Slow and impolite clients


@each_surface
def test_a_body_that_comes_byte_by_byte_is_taken(server: Server, path: str) -> None:
    with Raw(server) as client:
        client.ask("POST", path, auth=None, Content_Length=str(len(BODY)))
        for byte in BODY:
            client.send(bytes([byte]))
        assert client.head().status == 200


@each_surface
def test_a_body_that_does_not_come_is_503_after_the_request_time(tmp_path: Path, small: SmallModels, path: str) -> None:
    """The time is SLUICE_EMBED_TIMEOUT_S."""
    small.put(tmp_path / "data", f"admin/{BERT}")
    with serving(tmp_path / "data", **TIGHT | {"SLUICE_EMBED_TIMEOUT_S": "1"}) as hasty, Raw(hasty) as client:
        client.ask("POST", path, auth=None, Content_Length="100")
        client.send(b'{"model":')
        head = client.head()
        assert (head.status, head.headers["connection"]) == (503, "close")
        assert_refusal(path, 503, json.loads(client.rest()), head.headers)


@each_surface
def test_a_body_that_breaks_off_costs_nobody_else(tight: Server, path: str) -> None:
    """There are more of them than places for requests, so each must give its place back."""
    for leave in (Raw.reset, Raw.close, Raw.garbage) * 3:
        with Raw(tight) as client:
            client.ask("POST", path, auth=None, Transfer_Encoding="chunked")
            client.chunk(b'{"model":')
            leave(client)
            until(lambda: ask(tight, "a", path=path).status_code == 200)


@each_surface
def test_one_request_too_many_is_429_before_its_body_is_read(tight: Server, path: str) -> None:
    """The limit is SLUICE_EMBED_MAX_REQUESTS. Requests in both shapes count together."""
    with ExitStack() as stack, stopped_replica(tight) as let_go:
        held = [stack.enter_context(Raw(tight)) for _ in range(3)]
        for client, other in zip(held, (SIMPLE, OPENAI, SIMPLE), strict=True):
            client.ask("POST", other, auth=None, Expect="100-continue", Content_Length=str(len(BODY)))
            assert client.head().status == 100
            client.send(BODY)
        until(lambda: refused_at_once(tight))
        for expect in ({}, {"Expect": "100-continue"}):
            with Raw(tight) as late:
                late.ask("POST", path, auth=None, **expect, Content_Length="50000")
                head = late.head()
                assert (head.status, head.headers["connection"]) == (429, "close")
                assert_refusal(path, 429, json.loads(late.rest()), head.headers)
        assert requests.get(f"{tight.url}/models", timeout=30).status_code == 200
        let_go()
        for client in held:
            assert client.head().status == 200
    assert ask(tight, "a", path=path).status_code == 200


@contextmanager
def stopped_replica(server: Server) -> Iterator[Callable[[], None]]:
    """Stop the only replica until the end of the block, so that requests keep their places."""
    [pid] = server.replica_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield lambda: os.kill(pid, signal.SIGCONT)
    finally:
        os.kill(pid, signal.SIGCONT)


def refused_at_once(server: Server) -> bool:
    """Whether a request is refused because of its head alone, so that it never waits for the replica."""
    with Raw(server) as client:
        client.ask("POST", SIMPLE, auth=None, Content_Length="100")
        return not client.is_quiet(0.05) and client.head().status == 429


@each_surface
def test_half_sent_bodies_take_no_places(tight: Server, path: str) -> None:
    """There are ten times as many of them as places for requests."""
    with ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(Raw(tight))
            client.ask("POST", path, auth=None, Content_Length=str(len(BODY)))
            client.send(BODY[:10])
        for _ in range(10):
            assert ask(tight, "a", path=path).status_code == 200


def test_nobody_takes_all_places_or_all_memory(tmp_path: Path, small: SmallModels) -> None:
    """All anonymous callers together have the share of one user."""
    small.put(tmp_path / "data", f"admin/{BERT}")
    settings = {
        "SLUICE_EMBEDDING_MODELS": BERT,
        "SLUICE_SCORE_REPLICAS": "1",
        "SLUICE_EMBED_MAX_REQUESTS_PER_USER": "3",
        "SLUICE_BODIES_LIMIT_BYTES": str(8 * MIB),
    }
    large = json.dumps({"model": BERT, "input": ["a" * (MIB - 100)] * 3}).encode()
    with serving(tmp_path / "data", **settings) as server, ExitStack() as stack:
        with stopped_replica(server):
            for _ in range(3):
                client = stack.enter_context(Raw(server))
                client.ask("POST", SIMPLE, auth=None, Content_Length=str(len(BODY)))
                client.send(BODY)
            until(lambda: refused_at_once(server))
            with Raw(server) as known:
                known.ask("POST", SIMPLE, Content_Length=str(len(BODY)))
                known.send(BODY)
                assert known.is_quiet(0.2), "another user still has places"
        until(lambda: ask(server, "a").status_code == 200)
        half = stack.enter_context(Raw(server))
        half.ask("POST", SIMPLE, auth=None, Content_Length=str(len(large)))
        half.send(large[: 2 * MIB])
        until(lambda: post(server, SIMPLE, large).status_code == 429)
        assert ask(server, "a").status_code == 200, "a small body needs no room"
        assert post(server, SIMPLE, large, auth=server.auth).status_code == 200
        half.close()
        until(lambda: post(server, SIMPLE, large).status_code == 200)


def test_a_wrong_key_is_told_before_a_full_house(tight: Server) -> None:
    with ExitStack() as stack, stopped_replica(tight):
        for _ in range(3):
            client = stack.enter_context(Raw(tight))
            client.ask("POST", SIMPLE, auth=None, Content_Length=str(len(BODY)))
            client.send(BODY)
        until(lambda: refused_at_once(tight))
        assert ask(tight, "a", auth=("admin", "0" * 32)).status_code == 401
    until(lambda: ask(tight, "a").status_code == 200)


def test_http_1_0_is_answered(server: Server) -> None:
    for texts in ("hello", ["hello"] * 2000):
        body = json.dumps({"model": BERT, "input": texts}).encode()
        with Raw(server) as client:
            client.ask("POST", SIMPLE, version="1.0", auth=None, Content_Length=str(len(body)))
            client.send(body)
            assert client.head().status == 200
            assert json.loads(client.rest())["model"] == BERT


def test_two_requests_in_one_packet_are_answered_in_order(server: Server) -> None:
    head = b"POST /embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    bodies = [json.dumps({"model": BERT, "input": ["a"] * count}).encode() for count in (600, 1)]
    with Raw(server) as client, client.socket.makefile("rb") as received:
        client.send(b"".join(head % len(body) + body for body in bodies))
        for count in (600, 1):
            lines = list(iter(received.readline, b"\r\n"))
            assert lines[0] == b"HTTP/1.1 200 OK\r\n"
            [size] = [int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length")]
            assert len(json.loads(received.read(size))["data"]) == count


# Time


@each_surface
def test_a_list_that_takes_longer_than_the_request_time_is_503(tmp_path: Path, small: SmallModels, path: str) -> None:
    """The replicas are free again at once, because the texts that still waited are dropped."""
    small.put(tmp_path / "data", f"admin/{BERT}", sizes={"num_hidden_layers": 12, "hidden_size": 256})
    settings = {"SLUICE_EMBEDDING_MODELS": BERT, "SLUICE_SCORE_REPLICAS": "1", "SLUICE_EMBED_TIMEOUT_S": "2"}
    with serving(tmp_path / "data", **settings) as server:
        until(lambda: ask(server, "a", path=path).status_code == 200)
        assert_refused(path, ask(server, ["b " * 34] * 2000, path=path), 503)
        assert ask(server, "a", path=path).status_code == 200
        assert server.metric('sluice_queue_blocks{lane="bulk"}') == 0
