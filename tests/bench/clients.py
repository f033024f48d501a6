"""Clients to measure with: curl as users run it, wrk, and small ones on bare sockets that cost less than the server they measure.

Knows HTTP. Does not know which figures are compared. All times are in seconds.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.serving import Server

RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
COUNT_STEP_BYTES = 1024 * 1024
CHUNK_BYTES = 64 * 1024


class Failed(Exception):
    """A client did not get the answer that it must get, so the figures of this run mean nothing."""


# Streams


class Curl:
    """One stream, sent by `curl --data-binary @file -o out`. The constructor starts curl, so that several can run at once."""

    def __init__(self, server: Server, model: str, path: Path, out: Path, parameters: str = "", *more: str) -> None:
        self.out = out
        command = ["curl", "-sS", "--fail", "-u", ":".join(server.auth), "--data-binary", f"@{path}", "-o", str(out), *more]
        self._started = time.perf_counter()
        self._process = subprocess.Popen([*command, f"{server.model(model)}?bulk=true{parameters}"])

    def wait(self) -> float:
        """Wait for curl; returns the seconds from its start to its end. Like the bare loop, curl reads the file in this time."""
        code = self._process.wait()
        seconds = time.perf_counter() - self._started
        if code:
            raise Failed(f"curl ended with {code}")
        return seconds

    def check(self, num_records: int) -> None:
        """Check that every record has a line in the answer, and remove the answer."""
        num_lines = _count_lines(self.out)
        self.out.unlink()
        if num_lines != num_records:
            raise Failed(f"{num_records} records were sent, {num_lines} lines came back")


def stream(server: Server, model: str, path: Path, num_records: int, parameters: str = "") -> float:
    """Send one stream; returns its seconds.

    parameters  more query parameters, each with `&` before it
    """
    curl = Curl(server, model, path, path.with_suffix(".out"), parameters)
    seconds = curl.wait()
    curl.check(num_records)
    return seconds


def discarded_stream(server: Server, model: str, path: Path, num_records: int) -> float:
    """Send one stream and throw the answer away, as wrk does with those that it gets; returns its seconds."""
    answered = f'sluice_records_total{{model="{model}",outcome="result"}}'
    before = server.metric(answered)
    seconds = Curl(server, model, path, Path(os.devnull)).wait()
    if (found := server.metric(answered) - before) != num_records:
        raise Failed(f"{num_records} records were sent, {found:.0f} were answered")
    return seconds


def arrow_stream(server: Server, model: str, path: Path, num_records: int) -> float:
    """Send a file of record batches, which record batches answer; returns its seconds."""
    curl = Curl(server, model, path, path.with_suffix(".out"), "", "-H", "Content-Type: application/vnd.apache.arrow.stream")
    seconds = curl.wait()
    with pa.memory_map(str(curl.out)) as file:
        answer = pa.ipc.open_stream(file).read_all()
        num_results = answer["code"].null_count
    curl.out.unlink()
    if num_results != num_records:
        raise Failed(f"{num_records} records were sent, {num_results} results came back")
    return seconds


def streams(server: Server, model: str, path: Path, num_records: int, count: int) -> tuple[float, list[float]]:
    """Send `count` equal streams at once; returns the seconds until the last one ends, and the seconds of each."""
    started = time.perf_counter()
    curls = [Curl(server, model, path, path.with_suffix(f".{i}.out")) for i in range(count)]
    each = [0.0] * count
    waiters = [threading.Thread(target=lambda i=i: each.__setitem__(i, curls[i].wait())) for i in range(count)]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        waiter.join()
    total = time.perf_counter() - started
    for curl in curls:
        curl.check(num_records)
    return total, each


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(COUNT_STEP_BYTES), b""))


@contextlib.contextmanager
def endless_stream(server: Server, model: str, path: Path) -> Iterator[None]:
    """One stream that sends this file again and again until the block ends, through a pipe from cat to curl."""
    url, user = f"{server.model(model)}?bulk=true", ":".join(server.auth)
    command = 'while cat "$1"; do :; done | curl -sS -T - -u "$2" -o /dev/null "$3"'
    shell = subprocess.Popen(["sh", "-c", command, "sh", str(path), user, url], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        yield
        if shell.poll() is not None:
            raise Failed("the stream that keeps the replicas busy has ended")
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def paced_stream(server: Server, model: str, path: Path, bytes_per_second: float) -> tuple[int, float]:
    """One stream whose reader reads at most this many bytes per second; returns the number of lines received, and the seconds."""
    with _open_stream(server, model, f"Content-Length: {path.stat().st_size}") as (connection, begin):
        sender = threading.Thread(target=_send_file, args=(connection, path))
        sender.start()
        response = begin()
        started, num_bytes, num_lines = time.perf_counter(), 0, 0
        while data := response.read(CHUNK_BYTES):
            num_lines += data.count(b"\n")
            num_bytes += len(data)
            time.sleep(max(0.0, num_bytes / bytes_per_second - (time.perf_counter() - started)))
        sender.join()
    return num_lines, time.perf_counter() - started


def paced_answer(server: Server, request: bytes, bytes_per_second: float) -> bytes:
    """Send a request and read at most this many bytes of its answer per second; returns the last 64 KiB of the answer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request)
        last, num_bytes, started = b"", 0, time.perf_counter()
        while not last.endswith(b"\r\n0\r\n\r\n") and (data := connection.recv(CHUNK_BYTES)):
            last = (last + data)[-CHUNK_BYTES:]
            num_bytes += len(data)
            time.sleep(max(0.0, num_bytes / bytes_per_second - (time.perf_counter() - started)))
    return last


def _send_file(connection: socket.socket, path: Path) -> None:
    with path.open("rb") as file:
        connection.sendfile(file)


def hand_fed(server: Server, model: str, record: bytes, count: int, pause_s: float) -> list[float]:
    """One stream that sends each record after the answer to the record before; returns the seconds until each answer."""
    seconds = []
    with _open_stream(server, model, "Transfer-Encoding: chunked") as (connection, begin):
        response = begin()
        for _ in range(count):
            time.sleep(pause_s)  # as slow as a person
            started = time.perf_counter()
            connection.sendall(b"%x\r\n%b\n\r\n" % (len(record) + 1, record))
            if b'"result"' not in response.readline():
                raise Failed("a record had no result")
            seconds.append(time.perf_counter() - started)
        connection.sendall(b"0\r\n\r\n")
        if response.read():
            raise Failed("there were more lines than records")
    return seconds


@contextlib.contextmanager
def _open_stream(server: Server, model: str, length: str) -> Iterator[tuple[socket.socket, Any]]:
    """Send the head of a streaming request; gives the connection and a function that reads the head of the answer."""

    def begin() -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(connection)
        response.begin()
        if response.status != 200:
            raise Failed(f"the server answered {response.status}")
        return response

    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_head(server, f"{model}?bulk=true", length))
        yield connection, begin


# Single predictions


def lone_singles(server: Server, request: bytes, count: int) -> list[float]:
    """Send one request after the other on one connection; returns the seconds of each."""
    return each_of(server, [request] * count)


def each_of(server: Server, requests: list[bytes]) -> list[float]:
    """Send these requests, one after the other, on one connection; returns the seconds of each."""
    seconds = []
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            started = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(CHUNK_BYTES)
            while not _is_whole(answer):
                answer += connection.recv(CHUNK_BYTES)
            seconds.append(time.perf_counter() - started)
            _check_status(answer)
    return seconds


def open_loop(server: Server, request: bytes, per_second: float, duration_s: float) -> list[float]:
    """Send requests at a steady rate, whether or not the earlier ones were answered; returns the seconds of each.

    The seconds count from the moment when a request was due, so that a server that stalls does not get fewer requests.
    """
    return asyncio.run(_OpenLoop(server, request).run(per_second, duration_s))


class _OpenLoop:
    """Sends requests when they are due, on a free connection if there is one, else on a new one."""

    def __init__(self, server: Server, request: bytes) -> None:
        self._port = server.port
        self._request = request
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self, per_second: float, duration_s: float) -> list[float]:
        started = time.perf_counter()
        due = [started + i / per_second for i in range(int(per_second * duration_s))]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(at)) for at in due]
        for _, writer in self._free:
            writer.close()
        return [task.result() for task in tasks]

    async def _one(self, at: float) -> float:
        await asyncio.sleep(at - time.perf_counter())
        connection = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        writer.write(self._request)
        _check_status(await _read_answer(reader))
        seconds = time.perf_counter() - at
        self._free.append(connection)
        return seconds


def many_singles(server: Server, model: str, record: bytes, connections: int, duration_s: float) -> dict[str, float]:
    """Send as many requests as possible on this many connections, with wrk, or with our own client where wrk is missing.

    returns  per_second, p50_ms, p99_ms
    """
    if shutil.which("wrk"):
        headers = {"Authorization": _basic(server), "Content-Type": "application/json"}
        return wrk(server.model(model), record, headers, connections, duration_s)
    return asyncio.run(_closed_loop(server.port, single(server, model, record), connections, duration_s))


def gets_per_second(url: str, headers: dict[str, str], connections: int, duration_s: float) -> float:
    """Get an address as often as possible on this many connections, with wrk, or with our own client where wrk is missing."""
    if not shutil.which("wrk"):
        host, _, path = url.removeprefix("http://").partition("/")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode()
        return asyncio.run(_closed_loop(int(host.rpartition(":")[2]), request, connections, duration_s))["per_second"]
    options = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration_s:g}s", *options, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = RATE.search(output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise Failed(f"the server did not answer wrk: {output}")
    return float(found[1])


def requests_at_once(url: str, bodies: list[bytes], connections: int, headers: dict[str, str]) -> float:
    """Send each body once to any server, on this many connections; returns the seconds until the last answer was read."""
    host, path = url.removeprefix("http://").split("/", 1)
    waiting = iter(bodies)
    lock, faults = threading.Lock(), []

    def work() -> None:
        connection = http.client.HTTPConnection(host, timeout=600)
        while (body := _next(waiting, lock)) is not None:
            connection.request("POST", "/" + path, body, headers | {"Content-Type": "application/json"})
            response = connection.getresponse()
            if not response.read() or response.status != 200:
                faults.append(response.status)
        connection.close()

    started = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(connections)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if faults:
        raise Failed(f"the server answered {faults[0]}")
    return time.perf_counter() - started


def _next(waiting: Iterator[bytes], lock: threading.Lock) -> bytes | None:
    with lock:
        return next(waiting, None)


def closed_loop(server: Server, request: bytes, connections: int, duration_s: float) -> float:
    """Send a request again as soon as it is answered, on this many connections; returns the answers per second."""
    return asyncio.run(_closed_loop(server.port, request, connections, duration_s))["per_second"]


async def _closed_loop(port: int, request: bytes, connections: int, duration_s: float) -> dict[str, float]:
    seconds: list[float] = []
    until = time.perf_counter() + duration_s

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < until:
            writer.write(request)
            _check_status(await _read_answer(reader))
            seconds.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    p50, p99 = percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000
    return {"per_second": len(seconds) / duration_s, "p50_ms": p50, "p99_ms": p99}


WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = [==[%s]==]
%s
function done(summary, latency, requests)
  io.write(string.format('\\nFIGURES {"answered":%%d,"duration_us":%%d,"p50_us":%%d,"p99_us":%%d,"refused":%%d,"lost":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


def wrk(url: str, body: bytes, headers: dict[str, str], connections: int, duration_s: float) -> dict[str, float]:
    """POST this body with `wrk -t1`; returns per_second, p50_ms, p99_ms."""
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK_SCRIPT % (body.decode(), lines))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{duration_s:g}s", "-s", script.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = json.loads(output.partition("FIGURES ")[2])
    if figures["refused"] or figures["lost"] or not figures["answered"]:
        raise Failed(f"the server did not answer wrk: {figures}")
    per_second = figures["answered"] / figures["duration_us"] * 1e6
    return {"per_second": per_second, "p50_ms": figures["p50_us"] / 1000, "p99_ms": figures["p99_us"] / 1000}


# HTTP by hand


def single(server: Server, model: str, record: bytes) -> bytes:
    """The bytes of a request that predicts one record."""
    return posted(server, server.model(model).removeprefix(server.url), record)


def posted(server: Server, path: str, body: bytes, accept: str = "*/*") -> bytes:
    """The bytes of a request that posts this JSON body to a path."""
    head = f"Accept: {accept}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return _target_head(server, path, head) + body


def gotten(server: Server, path: str) -> bytes:
    """The bytes of a request that gets a path, as the admin."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {_basic(server)}\r\n\r\n".encode()


def _head(server: Server, path: str, length: str) -> bytes:
    return _target_head(server, server.model(path).removeprefix(server.url), length)


def _target_head(server: Server, target: str, length: str) -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {_basic(server)}\r\n{length}\r\n\r\n".encode()


def _basic(server: Server) -> str:
    return "Basic " + base64.b64encode(":".join(server.auth).encode()).decode()


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= _length(head)


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head))


def _length(head: bytes) -> int:
    match = CONTENT_LENGTH.search(head)
    if match is None:
        raise Failed(f"an answer has no Content-Length: {head!r}")
    return int(match[1])


def _check_status(answer: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise Failed(f"the status of an answer is not 200: {answer[:300]!r}")


def percentile(values: list[float], percent: float) -> float:
    """The smallest of the values that at least this percentage of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def note(text: str) -> None:
    """Tell the person at the terminal what is going on."""
    print(text, file=sys.stderr, flush=True)
