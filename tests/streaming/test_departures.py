"""Clients leave, stop or never read: nothing of theirs stays, and no other client notices (acceptance 13, 16)."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients import Raw, answers, bulk, by_id, curl, health, ndjson, open_files, spill_files, until
from tests.serving import Server, serving

HELLO = "brandon/HelloWorld"
MIB = 1024 * 1024
LEFT = 'sluice_streams_total{outcome="left"}'
FAILED = 'sluice_streams_total{outcome="failed"}'
PART = b'{"name":"abcdefghijklmnopqrstuvwxyz"}\n' * 2000


def feed(client: Raw) -> threading.Thread:
    """Start a thread that sends records until the server takes no more."""

    def work() -> None:
        try:
            while True:
                client.chunk(PART)
        except OSError:
            pass  # the connection is gone, or the server stopped reading long ago: both are what the test wants

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def settled(server: Server) -> bool:
    return health(server)["streams"] == 0 and not spill_files(server)


# Leaving (acceptance 16)


@pytest.mark.parametrize("leave", [Raw.reset, Raw.close])
@pytest.mark.parametrize("query", ["", "&ordered=true"])
def test_a_client_that_leaves_while_it_sends_leaves_nothing_behind(server: Server, leave: object, query: str) -> None:
    """Acceptance 16."""
    left, place = server.metric(LEFT), len(server.log)
    with Raw(server) as client:
        client.begin(HELLO, query)
        client.head()
        for _ in range(20):
            client.chunk(PART)
        client.line()
        leave(client)  # type: ignore[operator]
    until(lambda: server.metric(LEFT) == left + 1)
    until(lambda: settled(server))
    told = server.log[place:]
    assert "Traceback" not in told
    assert told.count("stream left") == 1
    assert "ERROR" not in told


@pytest.mark.parametrize("leave", [Raw.reset, Raw.close])
def test_a_client_that_leaves_while_it_receives_leaves_nothing_behind(server: Server, leave: object) -> None:
    """Acceptance 16: the client has sent everything and read half of the answer."""
    left, place = server.metric(LEFT), len(server.log)
    with Raw(server, receive_buffer_bytes=4096) as client:
        client.begin(HELLO)
        for _ in range(30):
            client.chunk(PART)
        client.end()
        client.head()
        client.line()
        leave(client)  # type: ignore[operator]
    until(lambda: server.metric(LEFT) == left + 1)
    until(lambda: settled(server))
    assert "Traceback" not in server.log[place:]


def test_a_client_that_leaves_before_the_first_record_or_inside_a_line_is_left(server: Server) -> None:
    left, place = server.metric(LEFT), len(server.log)
    for text in (b"", b'{"name":"a'):
        with Raw(server) as client:
            client.begin(HELLO)
            client.head()
            if text:
                client.chunk(text)
            client.reset()
    until(lambda: server.metric(LEFT) == left + 2)
    until(lambda: settled(server))
    assert "Traceback" not in server.log[place:]


def test_a_body_shorter_than_its_content_length_is_no_clean_end(server: Server) -> None:
    left = server.metric(LEFT) + server.metric(FAILED)
    with Raw(server) as client:
        client.ask("POST", "/brandon/models/HelloWorld?bulk=true", Content_Length="1000")
        client.head()
        client.send(b'{"name":"a"}\n')
        assert client.line()["result"] == {"greeting": "Hello a"}
        client.socket.shutdown(1)  # closes the sending side of the client; the server must not take this for a clean end
        client.rest()
        assert client.was_cut
    until(lambda: server.metric(LEFT) + server.metric(FAILED) == left + 1)


def test_a_killed_curl_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    left, place = server.metric(LEFT), len(server.log)
    path = tmp_path / "records"
    path.write_bytes(PART * 200)
    done = curl(f"{server.model(HELLO)}/?bulk=true", "-T", str(path), "--max-time", "0.3", "--limit-rate", "1M", auth=server.auth)
    assert done.code == 28
    until(lambda: server.metric(LEFT) == left + 1)
    until(lambda: settled(server))
    assert "Traceback" not in server.log[place:]


def test_100_leaving_clients_cost_others_nothing(server: Server) -> None:
    before, place = open_files(server), len(server.log)
    stop = threading.Event()

    def leave_all_the_time() -> None:
        while not stop.is_set():
            with Raw(server) as client:
                client.begin(HELLO)
                client.chunk(PART)
                client.head()
                client.reset()

    thread = threading.Thread(target=leave_all_the_time)
    thread.start()
    try:
        for _ in range(5):
            assert by_id(bulk(server, HELLO, ndjson({"name": "a", "yhat_id": i} for i in range(20_000))).body).keys() == set(
                range(20_000)
            )
    finally:
        stop.set()
        thread.join()
    until(lambda: settled(server))
    until(lambda: open_files(server) <= before + 2)
    assert "Traceback" not in server.log[place:]


# Never reading (acceptance 13)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits and short timeouts."""
    settings = {"SLUICE_SPILL_LIMIT_BYTES": str(48 * MIB), "SLUICE_STALL_TIMEOUT_S": "2", "SLUICE_IDLE_TIMEOUT_S": "2"}
    with serving(tmp_path_factory.mktemp("strict") / "data", **settings) as running:
        yield running


def test_a_reader_that_never_reads_fills_its_spill_and_is_cut_while_another_goes_on(strict: Server) -> None:
    """Acceptance 13."""
    failed, before = strict.metric(FAILED), strict.rss_bytes()
    with Raw(strict, receive_buffer_bytes=4096, timeout_s=60) as client:
        client.begin(HELLO)
        sender = feed(client)
        until(lambda: strict.metric('sluice_streams{state="full"}') == 1, 60)
        assert spill_files(strict)
        assert strict.metric("sluice_spill_bytes") >= 48 * MIB
        assert len(bulk(strict, HELLO, b'{"name":"a"}\n' * 20_000).lines) == 20_000
        assert strict.rss_bytes() - before < 48 * MIB
        until(lambda: strict.metric(FAILED) == failed + 1, 20)
        until(lambda: not spill_files(strict))
        client.socket.close()
        sender.join(10)
    assert "reason=spill_full" in strict.log
    until(lambda: settled(strict))
    assert strict.metric("sluice_spill_bytes") == 0
    assert "Traceback" not in strict.log


def test_a_client_that_sent_all_and_never_reads_is_stalled(strict: Server) -> None:
    failed = strict.metric(FAILED)
    with Raw(strict, receive_buffer_bytes=4096) as client:
        client.begin(HELLO)
        for _ in range(30):
            client.chunk(PART)
        client.end()
        until(lambda: strict.metric(FAILED) == failed + 1, 20)
        until(lambda: settled(strict))
        client.head()
        client.rest()
        assert client.was_cut
    assert "reason=stalled" in strict.log


def test_clients_that_are_cut_and_never_read_keep_no_descriptors_and_no_memory(strict: Server) -> None:
    """They keep their connections open. The writer of each stream is cancelled while it waits for the client."""
    files, before = open_files(strict), strict.rss_bytes()
    for _ in range(2):
        cut_clients_that_never_read(strict, 12, files)
        assert strict.rss_bytes() - before < 16 * MIB


def cut_clients_that_never_read(strict: Server, count: int, files: int) -> None:
    failed = strict.metric(FAILED)
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(Raw(strict, receive_buffer_bytes=4096))
            client.begin(HELLO)
            for _ in range(30):
                client.chunk(PART)
            client.end()
        until(lambda: strict.metric(FAILED) == failed + count, 30)
        until(lambda: open_files(strict) <= files, 20)


def test_the_records_of_a_cut_are_those_that_were_written(strict: Server) -> None:
    """Not those that were scored and waited for the client, in memory or on the disk."""
    failed = strict.metric(FAILED)
    with Raw(strict) as client:
        client.begin(HELLO)
        for _ in range(80):  # whose results fit into the spill
            client.chunk(PART)
        client.end()
        until(lambda: strict.metric(FAILED) == failed + 1, 20)
        client.head()
        *lines, last = [json.loads(line) for line in client.rest().split(b"\n") if line.endswith(b"}")]
    assert last["code"] == "stalled"
    assert 0 < last["records"] == len(lines) < 160_000


def test_a_cut_stream_gives_its_place_back_at_once(tmp_path: Path) -> None:
    """Its client does not close the connection, and the server waits for that for some seconds."""
    with serving(tmp_path / "data", SLUICE_MAX_STREAMS="1", SLUICE_SCORE_REPLICAS="1") as server, Raw(server) as client:
        client.begin(HELLO, Content_Encoding="gzip")
        client.chunk(b"this is not gzip")
        client.head()
        assert [line["code"] for line in answers(client.rest())] == ["bad_encoding"]
        until(lambda: health(server)["streams"] == 0, 1)
        assert len(bulk(server, HELLO, b'{"name":"a"}\n').lines) == 1


def test_a_slow_reader_is_no_stalled_one(strict: Server) -> None:
    """It reads some bytes every half second, so it never pauses for the stall timeout of two seconds."""
    with Raw(strict, receive_buffer_bytes=4096) as client:
        client.begin(HELLO)
        for _ in range(20):
            client.chunk(PART)
        client.end()
        client.head()
        pause = threading.Event()
        for _ in range(10):
            client.take(8192)
            pause.wait(0.5)  # this pause makes the reader slow, which is what the test is about
        body = client.rest()
        assert client.has_ended
    assert len(answers(body)) == 40_000


def test_an_upload_that_stops_is_an_idle_timeout_and_a_cut(strict: Server) -> None:
    """Section 4: the records before the stop are answered."""
    with Raw(strict) as client:
        client.begin(HELLO)
        client.head()
        client.chunk(b'{"name":"a"}\n{"name":"b')
        assert client.line()["result"] == {"greeting": "Hello a"}
        last = answers(client.rest())[-1]
        assert client.was_cut
    assert list(last) == ["bulk_id", "code", "error", "fatal", "records", "yhat_model"]
    assert (last["code"], last["fatal"]) == ("idle_timeout", True)
    until(lambda: settled(strict))


def test_a_client_that_keeps_feeding_is_not_idle(strict: Server) -> None:
    pause = threading.Event()
    with Raw(strict) as client:
        client.begin(HELLO)
        client.head()
        for i in range(7):
            client.chunk(b'{"name":"%d"}\n' % i)
            client.line()
            pause.wait(0.5)  # the pauses together are longer than the idle timeout
        client.end()
        assert client.rest() == b""
        assert client.has_ended


def test_a_spilled_stream_that_is_read_at_last_is_whole(tmp_path: Path) -> None:
    """The spilled results come back in order, and the spill files are removed as they are read."""
    count = 400_000
    with serving(tmp_path / "data") as server, Raw(server, receive_buffer_bytes=4096, timeout_s=120) as client:
        client.begin(HELLO, "&ordered=true&summary=true")
        for start in range(0, count, 2000):
            client.chunk(b"".join(b'{"name":"n","yhat_id":%d}\n' % i for i in range(start, start + 2000)))
        client.end()
        until(lambda: server.metric('sluice_records_total{model="brandon/HelloWorld",outcome="result"}') > count / 2)
        assert spill_files(server)
        client.head()
        *lines, last = answers(client.rest())
        assert client.has_ended
        assert [line["yhat_id"] for line in lines] == list(range(count))
        assert last["summary"]["results"] == count
        until(lambda: settled(server))


def test_files_of_an_earlier_process_are_removed_at_start(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "spill"
    folder.mkdir(parents=True)
    (folder / "0123-0").write_bytes(b"old")
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        assert spill_files(server) == []


@pytest.mark.parametrize("size_kib", [2600, 2850, 2990, 3100, 3300])
def test_a_client_that_stops_reading_anywhere_near_the_end_is_cut(strict: Server, size_kib: int) -> None:
    """Even when only the end of the answer is missing, because it waits behind full buffers."""
    record = ndjson([{"name": "x" * 1000}] * 6)
    with Raw(strict, receive_buffer_bytes=4096) as client:
        client.begin(HELLO, "&summary=true")
        for _ in range(size_kib * 1024 // (6 * 1290)):
            client.chunk(record)
        client.end()
        until(lambda: health(strict)["streams"] == 0, 20, "the end of the stream")
