"""Connections that are held for nothing: half a head, answers that nobody reads, and more of them than the server can have."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import requests
from aiohttp import web

from handlers.http.connections import Connection, ConnectionLimits, Connections
from server.config import Settings
from server.descriptors import num_connections
from tests.clients import Raw, open_files, until
from tests.serving import Server, serving

MAX_CONNECTIONS = 40
STATUS_LINE = b"HTTP/1.1 200 "
SPARE = 32
MIB = 1024 * 1024
STALLED = 'sluice_connections_ended_total{reason="stalled"}'
SLOW = 'sluice_connections_ended_total{reason="slow_head"}'
IDLE = 'sluice_connections_ended_total{reason="idle"}'


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "SLUICE_HEAD_TIMEOUT_S": "1",
        "SLUICE_STALL_TIMEOUT_S": "1",
        "SLUICE_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
        "SLUICE_SCORE_REPLICAS": "1",
        "SLUICE_REQUEST_TIMEOUT_S": "20",
    }
    with serving(tmp_path_factory.mktemp("strict") / "data", **settings) as running:
        yield running
        assert "Traceback" not in running.log


def has_ended(client: Raw, timeout_s: float = 5) -> bool:
    """Whether the server closes the connection within this time."""
    client.socket.settimeout(timeout_s)
    try:
        return client.socket.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def wait_until_all_have_left(server: Server) -> None:
    """The test before this one may have closed its connections only just now. The question itself is on one."""
    until(lambda: server.metric("sluice_connections") == 1)


def held(stack: ExitStack, server: Server, count: int) -> list[Raw]:
    return [stack.enter_context(Raw(server)) for _ in range(count)]


def half_a_body(client: Raw) -> None:
    client.ask("POST", "/verify", auth=None, Content_Type="application/x-www-form-urlencoded", Content_Length="100")
    client.send(b"username=")


# Heads


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nX-Sl", b"\r\n"], ids=["nothing", "half", "newline"]
)
def test_a_connection_without_a_whole_head_is_dropped(strict: Server, sent: bytes) -> None:
    files, before = open_files(strict), strict.metric(SLOW)
    with ExitStack() as stack:
        clients = held(stack, strict, 10)
        for client in clients:
            client.send(sent)
        assert all(map(has_ended, clients))
        until(lambda: open_files(strict) <= files)
    assert strict.metric(SLOW) == before + 10


def test_a_head_that_drips_is_dropped_all_the_same(strict: Server) -> None:
    """The time counts from the first byte, so more bytes do not buy more of it."""
    with Raw(strict) as client:
        client.ask("GET", "/healthcheck")
        assert client.head().status == 200
        client.rest()
        client.send(b"GET /healthcheck HTTP/1.1\r\nX-Slow: ")
        started = time.monotonic()
        while client.is_quiet(0.1):
            client.send(b"x")
            assert time.monotonic() - started < 5
        assert has_ended(client)


def test_a_connection_between_two_requests_is_kept(strict: Server) -> None:
    """The limit of a head is one second."""
    with Raw(strict) as client:
        for _ in range(2):
            client.ask("GET", "/healthcheck")
            assert client.head().status == 200
            client.rest()
            client.has_ended = False
            assert client.is_quiet(2.5)


def test_a_body_has_more_time_than_a_head(strict: Server) -> None:
    record = b'{"name":"a"}'
    with Raw(strict) as client:
        client.ask("POST", "/brandon/models/HelloWorld", Content_Length=str(len(record)))
        for byte in record[:5]:
            client.send(bytes([byte]))
            assert client.is_quiet(0.5)
        client.send(record[5:])
        assert client.head().status == 200


@pytest.mark.parametrize("sent", [b"\0\xff", b"GET /a", b"GET / HTTP/1.1\r\nHost: x\r\nX: a"], ids=["garbage", "path", "header"])
def test_what_is_no_http_is_refused_and_not_repeated(strict: Server, sent: bytes) -> None:
    with Raw(strict) as client:
        with contextlib.suppress(ConnectionError):
            client.send(sent + sent[-1:] * 100_000)
        head = client.head()
        assert head.status == 400
        assert int(head.headers["content-length"]) <= 200
        assert (head.headers["x-content-type-options"], head.headers["server"]) == ("nosniff", "Sluice")


# Answers


@pytest.mark.parametrize("path", ["/openapi.json", "/metrics", "/api/models"])
def test_answers_that_nobody_reads_do_not_stay(strict: Server, path: str) -> None:
    """Requests that are sent one behind the other, on connections that are never read."""
    files, before, memory = open_files(strict), strict.metric(STALLED), strict.rss_bytes()
    with ExitStack() as stack:
        clients = [stack.enter_context(Raw(strict, receive_buffer_bytes=4096)) for _ in range(8)]
        for client in clients:
            client.socket.settimeout(0.5)
            for _ in range(3000):
                try:
                    client.ask("GET", path)
                except OSError:
                    break
        until(lambda: strict.metric(STALLED) >= before + 8, 20)
        until(lambda: open_files(strict) <= files + 1)
    assert strict.rss_bytes() - memory < 32 * MIB


def test_a_closing_connection_that_nobody_reads_does_not_stay(strict: Server) -> None:
    """aiohttp closes the connection behind this answer, and would wait for the client to take it."""
    files = open_files(strict)
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(Raw(strict, receive_buffer_bytes=4096))
            client.socket.settimeout(1)
            one = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
            client.send(one * 400 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        until(lambda: open_files(strict) > files)
        until(lambda: open_files(strict) <= files, 20)


def test_a_slow_reader_is_not_stalled(tmp_path: Path) -> None:
    """It takes longer than the limit for all of the answers, and something all the time."""
    with serving(tmp_path / "data", SLUICE_STALL_TIMEOUT_S="3") as server, Raw(server, receive_buffer_bytes=4096) as client:
        client.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
        for _ in range(18):
            time.sleep(0.2)
            client.take(20_000)
        assert not has_ended(client)


# More connections than there are places


def test_idle_connections_make_room_for_new_ones(strict: Server) -> None:
    with ExitStack() as stack:
        before = strict.metric(IDLE)
        for client in held(stack, strict, MAX_CONNECTIONS):
            client.ask("GET", "/healthcheck")
            assert client.head().status == 200
        until(lambda: requests.get(f"{strict.url}/models", timeout=10).status_code == 200, 15)
        assert strict.metric(IDLE) > before


def test_without_room_others_are_told_and_the_health_is_shown(strict: Server) -> None:
    wait_until_all_have_left(strict)
    with ExitStack() as stack:
        clients = held(stack, strict, MAX_CONNECTIONS)
        for client in clients:
            half_a_body(client)
        until(lambda: requests.get(f"{strict.url}/models", timeout=10).status_code == 503)
        answer = requests.get(f"{strict.url}/models", timeout=10)
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["Connection"] == "close"
        assert requests.get(f"{strict.url}/api/models", auth=strict.auth, timeout=10).json() == {"error": "too many connections"}
        assert requests.get(f"{strict.url}/healthcheck", timeout=10).text == "ok"
        for client in held(stack, strict, SPARE):
            half_a_body(client)
            assert client.head().status == 503
        clients[0].send(b"x" * 91)
        assert clients[0].head().status == 401, "those that were there first are served"
    until(lambda: requests.get(f"{strict.url}/models", timeout=10).status_code == 200)


def test_beyond_the_spare_places_connections_are_closed_at_once(strict: Server) -> None:
    wait_until_all_have_left(strict)
    with ExitStack() as stack:
        for client in held(stack, strict, MAX_CONNECTIONS):
            half_a_body(client)
        held(stack, strict, SPARE)
        late = stack.enter_context(Raw(strict))
        assert late.head().status == 503
        assert has_ended(late)


def test_a_replica_is_started_again_while_every_connection_is_taken(strict: Server) -> None:
    ready = 'sluice_replicas{pool="score",state="ready"}'
    wait_until_all_have_left(strict)
    with ExitStack() as stack:
        for client in held(stack, strict, MAX_CONNECTIONS):
            half_a_body(client)
        [pid] = strict.replica_pids()
        os.kill(pid, signal.SIGKILL)
        until(lambda: strict.replica_pids() not in ([], [pid]))
        until(lambda: requests.get(f"{strict.url}/healthcheck", timeout=10).text == "ok")
    until(lambda: strict.metric(ready) == 1)


# Descriptors


def test_a_client_that_sends_many_requests_at_once_does_not_hold_up_others(strict: Server) -> None:
    """Each of them is answered at once, without waiting for anything, and between them others have their turn."""
    many = 5_000
    requests_at_once = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n" * many
    answered = 0

    def read_all(greedy: Raw) -> None:
        nonlocal answered
        received = b""
        while answered < many and (more := greedy.socket.recv(MIB)):
            received = received[-len(STATUS_LINE) + 1 :] + more
            answered += received.count(STATUS_LINE)

    num_others = 0
    with Raw(strict) as greedy, requests.Session() as session:
        reading = threading.Thread(target=read_all, args=(greedy,))
        sending = threading.Thread(target=greedy.send, args=(requests_at_once,))
        reading.start()
        sending.start()
        while answered < many and reading.is_alive():
            assert session.get(f"{strict.url}/healthcheck", timeout=60).status_code == 200
            num_others += 1
        sending.join()
        reading.join()
    assert answered == many
    assert num_others > many / 100


def test_the_server_raises_its_limit_of_open_files(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server, ExitStack() as stack:
            for client in held(stack, server, 150):
                half_a_body(client)
            [line] = [
                line
                for line in Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()
                if line.startswith("Max open files")
            ]
            assert int(line.split()[3]) == min(hard, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_else_needs_descriptors_is_kept_free() -> None:
    settings = Settings(score_replicas=2)
    assert num_connections(settings, 1 << 20) == settings.max_connections
    # 32 spare, 256 full files of the spill and 2 for each of 64 streams and 66 queries, 8 for each of 8 replicas, 2 for each of 8
    # uploads, 256 for the rest.
    assert num_connections(settings, 2000) == 2000 - (32 + 256 + 2 * (64 + 66) + 8 * 8 + 2 * 8 + 256)
    assert num_connections(settings, 256) == 64


# One wait for room each


async def test_a_writer_that_is_cancelled_leaves_the_others_waiting() -> None:
    """Two tasks wait until the client reads. One is cancelled; the other one, and a third, go on as soon as the client reads."""
    connections = Connections(ConnectionLimits(max_connections=10, head_timeout_s=5, stall_timeout_s=5))
    here, there = socket.socketpair()
    with here, there:
        async with _connection(connections, here) as connection:
            connection.pause_writing()
            first, second = (asyncio.create_task(connection._drain_helper()) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            third = asyncio.create_task(connection._drain_helper())
            await asyncio.sleep(0)
            assert (first.cancelled(), second.done(), third.done()) == (True, False, False)
            connection.resume_writing()
            await asyncio.gather(second, third)


@asynccontextmanager
async def _connection(connections: Connections, end: socket.socket) -> AsyncIterator[Connection]:
    """A connection on one end of a pair of sockets, of a server that is never asked."""

    async def never(_: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    server = web.Server(never)
    factory = connections.factory(server, access_log=None)
    _, connection = await asyncio.get_running_loop().connect_accepted_socket(factory, end)
    yield connection
    await server.shutdown(1)
