"""The event loop goes on: whatever a body decodes to, everybody else is answered meanwhile."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.clients import bulk, curl
from tests.serving import ROOT, Server
from tests.streaming.test_harm import latencies, p99

HELLO = "brandon/HelloWorld"
MINILM = "sluice/all-MiniLM-L6-v2"
MIB = 1024 * 1024
ZEROS = gzip.compress(bytes(64 * MIB), 9) * 8  # 0.5 MB that decode to 512 MiB
NEWLINES = gzip.compress(b"\n" * 16 * MIB, 9)
MEMBERS = gzip.compress(b"\n") * 25_000
# The longest answer, where the machine is shared with other programs. A loop that is held needs 0.5 to 3 s for each of the bodies.
LONGEST_S = 0.25


class Healthchecks:
    """Asks /healthcheck again and again, and keeps the longest time that an answer took."""

    def __init__(self, server: Server) -> None:
        self.longest_s = 0.0
        self._url = f"{server.url}/healthcheck"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Healthchecks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._stopped.wait(0.005):
                started = time.monotonic()
                assert session.get(self._url, timeout=30).status_code == 200
                self.longest_s = max(self.longest_s, time.monotonic() - started)


def assert_holds_up_nobody(server: Server, send: Callable[[], None]) -> None:
    """Other programs of the machine may hold an answer up in one turn or two; what holds the event loop does so in each."""
    longest = []
    for _ in range(3):
        with Healthchecks(server) as checks:
            send()
        longest.append(checks.longest_s)
        if checks.longest_s < LONGEST_S:
            return
    raise AssertionError(f"the longest answers took {longest} s")


@pytest.mark.parametrize("body", [ZEROS, NEWLINES, MEMBERS], ids=["zeros", "newlines", "members"])
def test_a_stream_that_grows_when_it_is_decoded_holds_up_nobody(server: Server, body: bytes) -> None:
    def send() -> None:
        assert bulk(server, HELLO, body, "", "-H", "Content-Encoding: gzip").code == 0

    assert_holds_up_nobody(server, send)


@pytest.mark.parametrize("path", [HELLO, MINILM])
def test_a_flood_of_blank_lines_holds_up_nobody(server: Server, path: str) -> None:
    if path == MINILM and not (ROOT / f"models/{MINILM}/1/model.onnx").exists():
        pytest.skip("the model is not here")

    def send() -> None:
        assert bulk(server, path, b"\n" * 300_000).code == 0

    assert_holds_up_nobody(server, send)


@pytest.mark.parametrize(
    "body", [MEMBERS, gzip.compress(bytes(7 * MIB)), gzip.compress(b"") * 50_000], ids=["members", "zeros", "empty"]
)
def test_a_single_body_that_grows_when_it_is_decoded_holds_up_nobody(server: Server, body: bytes) -> None:
    def send() -> None:
        for _ in range(3):
            done = curl(server.model(HELLO), "--data-binary", "@-", "-H", "Content-Encoding: gzip", auth=server.auth, data=body)
            assert done.status == 400

    assert_holds_up_nobody(server, send)


@contextmanager
def sent_all_the_time(server: Server, body: bytes, *arguments: str) -> Iterator[None]:
    """One connection after the other streams this body."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            assert bulk(server, HELLO, body, "", *arguments).status == 200

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.mark.heavy
@pytest.mark.parametrize("body", [ZEROS, NEWLINES, MEMBERS], ids=["zeros", "newlines", "members"])
def test_singles_beside_any_body_are_answered_as_beside_a_plain_stream(server: Server, body: bytes) -> None:
    """In turns, and the best turn of each counts, because other programs of the machine slow down single turns."""
    plain, packed = [], []
    for _ in range(3):
        with sent_all_the_time(server, b'{"name":"a"}\n' * 300_000):
            plain.append(p99(latencies(server, 3)))
        with sent_all_the_time(server, body, "-H", "Content-Encoding: gzip"):
            packed.append(p99(latencies(server, 3)))
    print(f"p99 beside a plain stream {min(plain) * 1000:.1f} ms, beside this body {min(packed) * 1000:.1f} ms")
    assert min(packed) < 2 * min(plain)


def test_a_stream_of_members_without_content_is_cut(server: Server) -> None:
    done = bulk(server, HELLO, gzip.compress(b'{"name":"a"}\n') + gzip.compress(b"") * 1000, "", "-H", "Content-Encoding: gzip")
    assert done.code == 18
    assert [line.get("code") for line in done.lines] == [None, "bad_encoding"]
