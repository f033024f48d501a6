"""Clients for tests: curl as a program, a socket that can do everything wrong, and a wait for an observable condition."""

import base64
import json
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serving import Server

TIMEOUT_S = 30
RECEIVE_BUFFER_BYTES = 1024 * 1024
# No answer of a test is longer. One that goes on for ever must fail its test, and not fill the memory of the machine.
LONGEST_BODY_BYTES = 1024 * 1024 * 1024


def until(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S, what: str = "the awaited condition") -> Any:
    """Wait until the condition holds; returns what it gave. AssertionError at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s} s"
        select.select([], [], [], 0.01)
    return found


def ndjson(records: Iterable[Any]) -> bytes:
    """One JSON object per line, each with its newline."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def answers(body: bytes | str) -> list[dict[str, Any]]:
    """The lines of a bulk answer. Every line must be complete."""
    text = body.decode() if isinstance(body, bytes) else body
    assert not text or text.endswith("\n"), f"the last line is not complete: {text[-200:]!r}"
    return [json.loads(line) for line in text.split("\n")[:-1]]


def by_id(body: bytes | str) -> dict[Any, dict[str, Any]]:
    """The lines of a bulk answer by yhat_id, which must be unique."""
    lines = answers(body)
    found = {line["yhat_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def basic(auth: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(auth).encode()).decode()


# curl


@dataclass(frozen=True, slots=True)
class Curled:
    """How one run of curl ended. `trace` is what -v shows: the heads of requests and responses, line by line."""

    code: int
    status: int
    body: bytes
    trace: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return answers(self.body)


def curl(
    url: str, *arguments: str, auth: tuple[str, str] | None = None, data: bytes | None = None, timeout_s: float = 280
) -> Curled:
    """Run curl with these arguments; `data` is its standard input."""
    user = ["--user", ":".join(auth)] if auth else []
    command = ["curl", "-sS", "-v", "-w", "%{stderr}\nstatus=%{http_code}\n", *user, *arguments, url]
    done = subprocess.run(command, input=data, capture_output=True, timeout=timeout_s, check=False)
    trace = done.stderr.decode(errors="replace")
    return Curled(done.returncode, int(trace.rpartition("status=")[2]), done.stdout, trace)


def bulk(server: Server, model: str, body: bytes, query: str = "", *arguments: str) -> Curled:
    """Stream a body through `owner/name` with curl --data-binary."""
    url = f"{server.model(model)}/?bulk=true{query}"
    return curl(url, "--data-binary", "@-", *arguments, auth=server.auth, data=body)


# A socket


@dataclass(slots=True)
class Head:
    """Status and headers of a response; names in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


class Raw:
    """One connection, as careful or as careless as a test needs. Decodes chunked answers and notices when one is cut."""

    def __init__(self, server: Server, *, receive_buffer_bytes: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", server.port))
        self._auth = server.auth
        self._received = bytearray()
        self._decoded = bytearray()
        self._is_chunked = False
        self._left: int | None = None  # bytes still to come of a body with Content-Length
        self.has_ended = False  # whether the end of the body was received
        self.was_cut = False  # whether the connection ended before that

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # Sending

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(
        self, method: str, path: str, *, auth: tuple[str, str] | bool | None = True, version: str = "1.1", **headers: str
    ) -> None:
        """Send the head of a request. Header names have underscores here; auth True asks as the admin, None without credentials."""
        lines = [f"{method} {path} HTTP/{version}", "Host: sluice"]
        if auth:
            lines.append(f"Authorization: {basic(self._auth if auth is True else auth)}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def begin(self, model: str, query: str = "", **headers: str) -> None:
        """Send the head of a chunked bulk request."""
        owner, name = model.split("/")
        self.ask("POST", f"/{owner}/models/{name}?bulk=true{query}", Transfer_Encoding="chunked", **headers)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Leave with an RST, as a killed client does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def garbage(self) -> None:
        """Send something that is not a chunk where a chunk should begin."""
        self.send(b"this is not a chunk\r\n")

    # Receiving

    def head(self) -> Head:
        """The head of the next answer. An interim answer (100 Continue) counts as one."""
        while b"\r\n\r\n" not in self._received:
            assert self._receive(), f"no answer: {bytes(self._received)!r}"
        text, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received = bytearray(rest)
        first, *lines = text.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._is_chunked = headers.get("transfer-encoding") == "chunked"
        self._left = int(headers["content-length"]) if "content-length" in headers else None
        return Head(int(first.split()[1]), headers)

    def line(self) -> dict[str, Any]:
        """The next line of the body."""
        while b"\n" not in self._decoded:
            assert self._more(), f"the body ended inside a line or before one: {bytes(self._decoded)!r}"
        text, _, rest = bytes(self._decoded).partition(b"\n")
        self._decoded = bytearray(rest)
        return json.loads(text)

    def rest(self) -> bytes:
        """The rest of the body, to its end or to where it was cut (see was_cut).

        A small receive buffer is for a client that does not read. Reading all through one takes minutes when the machine is busy.
        """
        body = self.some(LONGEST_BODY_BYTES)
        assert self.has_ended or self.was_cut, "the body does not end"
        return body

    def some(self, num_bytes: int) -> bytes:
        """More of the body: to its end, or until there are this many bytes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        while len(self._decoded) < num_bytes and self._more():
            pass
        body = bytes(self._decoded)
        self._decoded.clear()
        return body

    def take(self, num_bytes: int) -> None:
        """Receive exactly this number of bytes; `rest` decodes them later."""
        goal = len(self._received) + num_bytes
        while len(self._received) < goal:
            data = self.socket.recv(goal - len(self._received))
            assert data, "the connection ended"
            self._received += data

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing arrives for this long. For requests that must not be answered yet."""
        return not self._received and not self._decoded and not select.select([self.socket], [], [], seconds)[0]

    def _receive(self) -> bool:
        """Receive more bytes from the socket; False at its end."""
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self._received += data
        return bool(data)

    def _more(self) -> bool:
        """Decode more of the body; False when there is no more."""
        if self.has_ended or self.was_cut:
            return False
        if self._is_chunked:
            return self._more_chunk()
        if self._left == 0:
            self.has_ended = True
            return False
        if not self._received and not self._receive():
            self.has_ended, self.was_cut = self._left is None, self._left is not None
            return False
        self._decoded += self._received
        self._left = None if self._left is None else self._left - len(self._received)
        self._received.clear()
        return True

    def _more_chunk(self) -> bool:
        while (end := self._received.find(b"\r\n")) < 0 or len(self._received) < end + 4 + int(self._received[:end], 16):
            if not self._receive():
                self.was_cut = True
                return False
        size = int(self._received[:end], 16)
        self._decoded += self._received[end + 2 : end + 2 + size]
        del self._received[: end + 4 + size]
        self.has_ended = size == 0
        return size > 0


# What can be observed of a server from outside


def spill_files(server: Server) -> list[Path]:
    return list((server.data_dir / "spill").iterdir())


def open_files(server: Server) -> int:
    """Number of open file descriptors of the server process."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def health(server: Server) -> dict[str, Any]:
    """/healthcheck as JSON."""
    seen = curl(f"{server.url}/healthcheck", "-H", "Accept: application/json")
    found: dict[str, Any] = json.loads(seen.body)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
