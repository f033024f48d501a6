"""The connection itself: how real clients send bodies, and how strange clients do (acceptance 9, 11, 12)."""

import json
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.clients import Raw, answers, basic, bulk, by_id, curl, ndjson, until
from tests.serving import Server

HELLO = "brandon/HelloWorld"
PATH = "/brandon/models/HelloWorld"
MIB = 1024 * 1024
SCORED = 'sluice_records_total{model="brandon/HelloWorld",outcome="result"}'


# Hand-fed (acceptance 11)


def test_headers_arrive_before_any_record_is_sent(server: Server) -> None:
    """Acceptance 11."""
    with Raw(server) as client:
        client.begin(HELLO)
        assert client.head().status == 200
        client.end()
        assert client.rest() == b""
        assert client.has_ended


@pytest.mark.parametrize("query", ["", "&ordered=true"])
@pytest.mark.parametrize("model", [HELLO, "sluice/language"])
def test_a_hand_fed_record_is_answered_before_the_next_is_sent(server: Server, model: str, query: str) -> None:
    """Acceptance 11, with blank lines and errors in between."""
    with Raw(server) as client:
        client.begin(model, query)
        client.head()
        for i in range(20):
            client.chunk(json.dumps({"name": f"n{i}", "text": f"n{i}", "yhat_id": i}).encode() + b"\n")
            assert client.line()["yhat_id"] == i
            client.chunk(b"\n\n[1]\n")
            assert client.line()["code"] == "not_an_object"
        client.end()
        assert client.rest() == b""


def test_a_record_is_answered_only_when_its_line_is_whole(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO)
        client.head()
        client.chunk(b'{"name":"a"}')
        assert client.is_quiet(0.2)
        client.chunk(b"\n")
        assert client.line()["result"] == {"greeting": "Hello a"}
        client.chunk(b'{"name":"b"}')
        client.end()
        assert [line["result"] for line in answers(client.rest())] == [{"greeting": "Hello b"}]


def test_curl_fed_by_hand_through_a_pipe_shows_answers_while_it_is_fed(server: Server) -> None:
    """curl reads its socket only after it got input, so it shows an answer with the next record. The server has sent it before."""
    command = [
        "curl",
        "-sS",
        "-N",
        "-T",
        "-",
        "--max-time",
        "30",
        "--user",
        ":".join(server.auth),
        f"{server.model(HELLO)}/?bulk=true",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for i in range(6):
            scored = server.metric(SCORED)
            client.stdin.write(b'{"name":"%d"}\n' % i)
            if i:
                assert json.loads(client.stdout.readline())["result"] == {"greeting": f"Hello {i - 1}"}
            until(lambda before=scored: server.metric(SCORED) > before)
        client.stdin.close()
        assert [line["result"] for line in answers(client.stdout.read())] == [{"greeting": "Hello 5"}]
        assert client.wait(10) == 0


def test_the_first_answer_of_a_hand_fed_stream_comes_soon(server: Server) -> None:
    """streaming.md 5 f asks for 50 ms. The best of five counts, with a wide margin for a busy machine."""
    waited = []
    with Raw(server) as client:
        client.begin(HELLO)
        client.head()
        for _ in range(5):
            started = time.monotonic()
            client.chunk(b'{"name":"a"}\n')
            client.line()
            waited.append(time.monotonic() - started)
    assert min(waited) < 0.05


# How clients send files (acceptance 9)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.ndjson"
    path.write_bytes(ndjson({"name": f"n{i}", "yhat_id": i} for i in range(5000)))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["-T", "FILE", "URL/?bulk=true"],
        ["-T", "FILE", "URL?bulk=true"],
        ["-T", "FILE", "URL/any.name?bulk=true"],
        ["-T", "FILE", "-X", "POST", "URL/?bulk=true"],
        ["-T", "FILE", "-X", "POST", "URL?bulk=true"],
        ["-T", "-", "URL/?bulk=true"],
        ["-T", "-", "URL?bulk=true"],
        ["-T", "-", "-X", "POST", "URL/?bulk=true"],
        ["-T", ".", "URL/?bulk=true"],
        ["--data-binary", "@FILE", "URL/?bulk=true"],
        ["--data-binary", "@FILE", "URL?bulk=true"],
        ["--data-binary", "@-", "URL?bulk=true"],
        ["-X", "PUT", "--data-binary", "@FILE", "URL?bulk=true"],
        ["--data-binary", "@FILE", "-H", "Transfer-Encoding: chunked", "URL/?bulk=true"],
        ["--data-binary", "@FILE", "-H", "Expect: 100-continue", "URL/?bulk=true"],
        ["--data-binary", "@FILE", "--http1.0", "URL/?bulk=true"],
        ["-d", "@FILE", "URL/?bulk=true"],
    ],
    ids=" ".join,
)
def test_every_way_of_curl_to_send_a_file_works(server: Server, records: Path, arguments: list[str]) -> None:
    """Acceptance 9."""
    *options, url = (each.replace("FILE", str(records)).replace("URL", server.model(HELLO)) for each in arguments)
    done = curl(url, *options, auth=server.auth, data=records.read_bytes())
    assert (done.code, done.status) == (0, 200), done.trace
    assert by_id(done.body).keys() == set(range(5000))


def test_a_file_name_after_a_slash_may_be_anything(server: Server, tmp_path: Path) -> None:
    """`curl -T` appends the file's name to a path that ends in a slash."""
    for name in ("a b.json", "ü.ndjson", "x%2Fy", "....", "check", "a+b&c"):
        path = tmp_path / name
        path.write_bytes(b'{"name":"a"}\n')
        done = curl(f"{server.model(HELLO)}/?bulk=true", "-g", "-T", str(path), auth=server.auth)
        assert (done.code, done.status) == (0, 200), name


def test_a_large_file_through_curl_comes_back_whole(server: Server, tmp_path: Path) -> None:
    path, out = tmp_path / "records", tmp_path / "out"
    count = 300_000
    path.write_bytes(ndjson({"name": f"n{i}", "yhat_id": i} for i in range(count)))
    done = curl(f"{server.model(HELLO)}/?bulk=true", "-T", str(path), "-o", str(out), auth=server.auth)
    assert done.code == 0
    assert by_id(out.read_bytes()).keys() == set(range(count))


# Clients that read late or never while they send (acceptance 12)


@pytest.mark.parametrize("num_bytes", [20 * MIB, pytest.param(100 * MIB, marks=pytest.mark.heavy)])
def test_requests_sends_everything_before_it_reads_and_gets_every_line(server: Server, num_bytes: int) -> None:
    """Acceptance 12."""
    line = '{"name":"%s","yhat_id":%%d}\n' % ("x" * 70)
    count = num_bytes // len(line % 1_000_000) + 1
    body = "".join(line % (1_000_000 + i) for i in range(count)).encode()
    answer = requests.post(server.model(HELLO) + "?bulk=true&summary=true", data=body, auth=server.auth, timeout=300)
    lines = answer.content.splitlines()
    assert json.loads(lines.pop())["summary"]["results"] == count
    assert len({line[line.index(b'"yhat_id":') :] for line in lines}) == count
    until(lambda: not list((server.data_dir / "spill").iterdir()), what="the spill is removed")


def test_requests_with_a_generator_sends_chunks(server: Server) -> None:
    parts = (b'{"name":"n%d","yhat_id":%d}\n' % (i, i) for i in range(3000))
    answer = requests.post(server.model(HELLO) + "?bulk=true", data=parts, auth=server.auth, timeout=60)
    assert by_id(answer.content).keys() == set(range(3000))


def test_requests_reads_a_stream_line_by_line(server: Server) -> None:
    body = ndjson({"name": str(i), "yhat_id": i} for i in range(5000))
    with requests.post(server.model(HELLO) + "?bulk=true", data=body, auth=server.auth, stream=True, timeout=60) as answer:
        assert {json.loads(line)["yhat_id"] for line in answer.iter_lines()} == set(range(5000))


def test_a_client_with_tiny_buffers_that_sends_first_and_reads_later_gets_everything(server: Server) -> None:
    count = 100_000
    with Raw(server, receive_buffer_bytes=4096) as client:
        client.begin(HELLO)
        for start in range(0, count, 1000):
            client.chunk(b"".join(b'{"name":"n","yhat_id":%d}\n' % i for i in range(start, start + 1000)))
        client.end()
        client.head()
        assert by_id(client.rest()).keys() == set(range(count))
        assert client.has_ended


def test_ordered_results_of_a_client_that_sends_first_are_whole_and_in_order(server: Server) -> None:
    count = 100_000
    with Raw(server, receive_buffer_bytes=4096) as client:
        client.begin(HELLO, "&ordered=true")
        for start in range(0, count, 1000):
            client.chunk(b"".join(b'{"name":"n","yhat_id":%d}\n' % i for i in range(start, start + 1000)))
        client.end()
        client.head()
        assert [line["yhat_id"] for line in answers(client.rest())] == list(range(count))


# Strange framing (section 4)


@pytest.mark.parametrize("query", ["", "&ordered=true"])
def test_one_byte_per_chunk_gives_the_same_results(server: Server, query: str) -> None:
    body = '\ufeff{"name":"ä"}\r\n\r\n{"name":"漢"}{"name":"c"}\n[1]\n{"name":"d"}'.encode()
    with Raw(server) as client:
        client.begin(HELLO, query)
        for i in range(len(body)):
            client.chunk(body[i : i + 1])
        client.end()
        client.head()
        lines = answers(client.rest())
    assert sorted(line["result"]["greeting"] for line in lines if "result" in line) == ["Hello c", "Hello d", "Hello ä", "Hello 漢"]
    assert [(line["code"], line["line"]) for line in lines if "code" in line] == [("not_an_object", 4)]


def test_a_long_line_of_one_byte_chunks_takes_no_quadratic_time(server: Server) -> None:
    """Section 4: 200,000 chunks."""
    line = b'{"name":"' + b"x" * 200_000 + b'"}\n'
    framed = b"".join(b"1\r\n%b\r\n" % line[i : i + 1] for i in range(len(line)))
    started = time.monotonic()
    with Raw(server) as client:
        client.begin(HELLO)
        for i in range(0, len(framed), 65536):
            client.send(framed[i : i + 65536])
        client.end()
        client.head()
        [answer] = answers(client.rest())
    assert len(answer["result"]["greeting"]) == 200_006
    assert time.monotonic() - started < 10


def test_200_000_chunks_of_one_record_each_give_all_results(server: Server) -> None:
    """Section 4."""
    count = 200_000
    texts = (b'{"name":"n","yhat_id":%d}\n' % i for i in range(count))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(text), text) for text in texts)
    with Raw(server) as client:
        client.begin(HELLO)
        client.head()
        sender = threading.Thread(target=client.send, args=(framed + b"0\r\n\r\n",))
        sender.start()
        body = client.rest()
        sender.join()
    assert by_id(body).keys() == set(range(count))


def test_cuts_at_random_places_give_the_same_results(server: Server) -> None:
    rng = random.Random(5)
    body = b"\xef\xbb\xbf" + b"\r\n".join(b'{"name":"%b","yhat_id":%d}' % (b"x" * rng.randrange(300), i) for i in range(3000))
    with Raw(server) as client:
        client.begin(HELLO)
        client.head()
        position = 0
        while position < len(body):
            size = rng.choice((1, 2, 7, 100, 5000, 70_000))
            client.chunk(body[position : position + size])
            position += size
        client.end()
        assert by_id(client.rest()).keys() == set(range(3000))


def test_chunk_extensions_and_trailers_are_no_records(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO)
        client.head()
        client.send(b'd;name="x";y\r\n{"name":"a"}\n\r\n0\r\nX-Trailer: {"name":"b"}\r\n\r\n')
        assert [line["result"] for line in answers(client.rest())] == [{"greeting": "Hello a"}]
        assert client.has_ended


def test_garbage_in_place_of_a_chunk_ends_the_stream_as_a_cut(server: Server) -> None:
    """The records before it are answered. It must never look like a clean end, and must not last until the idle timeout."""
    with Raw(server, timeout_s=10) as client:
        client.begin(HELLO)
        client.head()
        client.chunk(b'{"name":"a"}\n')
        assert client.line()["result"] == {"greeting": "Hello a"}
        client.garbage()
        lines = answers(client.rest())
        assert client.was_cut
        assert [line["code"] for line in lines] in ([], ["bad_encoding"])
    assert "Traceback" not in server.log


def test_http_1_0_gets_a_body_without_chunks(server: Server) -> None:
    """streaming.md 2.7."""
    body = ndjson({"name": str(i), "yhat_id": i} for i in range(2000))
    with Raw(server) as client:
        client.ask("POST", PATH + "?bulk=true&summary=true", version="1.0", Content_Length=str(len(body)))
        client.send(body)
        head = client.head()
        assert head.status == 200
        assert "transfer-encoding" not in head.headers
        assert head.headers.get("connection", "close") == "close"
        *lines, last = answers(client.rest())
    assert {line["yhat_id"] for line in lines} == set(range(2000))
    assert last["summary"]["records"] == 2000


def test_a_bulk_request_without_a_body_is_an_empty_answer(server: Server) -> None:
    with Raw(server) as client:
        client.ask("POST", PATH + "?bulk=true")
        assert client.head().status == 200
        assert client.rest() == b""


def test_half_a_request_and_no_request_trouble_nobody(server: Server) -> None:
    for text in (
        b"",
        b"\r\n",
        b"POST",
        b"POST /brandon/models/HelloWorld?bulk=true HTTP/1.1\r\nHost: x\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x00" * 5000,
    ):
        with Raw(server) as client:
            client.send(text)
    assert bulk(server, HELLO, b'{"name":"a"}').status == 200
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: -1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Transfer-Encoding: x",
    ],
)
def test_ambiguous_lengths_are_400(server: Server, head: str) -> None:
    with Raw(server) as client:
        credentials = basic(server.auth)
        client.send(f"POST {PATH}?bulk=true HTTP/1.1\r\nHost: x\r\nAuthorization: {credentials}\r\n{head}\r\n\r\n".encode())
        assert client.head().status == 400


def test_what_follows_a_body_on_the_connection_is_the_next_request(server: Server) -> None:
    body = b'{"name":"a"}\n'
    with Raw(server) as client:
        for _ in range(3):
            client.ask("POST", PATH + "?bulk=true", Content_Length=str(len(body)))
            client.send(body)
        for _ in range(3):
            assert client.head().status == 200
            assert len(answers(client.rest())) == 1
            client.has_ended = False


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is the client")
def test_eight_streams_at_once_each_get_their_own_answers(server: Server) -> None:
    counts = [20_000 + 1000 * i for i in range(8)]
    failures: list[str] = []

    def one(number: int) -> None:
        done = bulk(server, HELLO, ndjson({"name": f"{number}-{i}", "yhat_id": i} for i in range(counts[number])))
        found = by_id(done.body)
        if done.code or any(found[i]["result"]["greeting"] != f"Hello {number}-{i}" for i in range(counts[number])):
            failures.append(f"stream {number}")
        if len({line["bulk_id"] for line in found.values()}) != 1:
            failures.append(f"stream {number} has several bulk_ids")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
