"""Small files of weekly sales, and a file that can be opened only when a test lets it: a gate for the jobs that read it."""

import datetime
import json
import os
import re
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.projects.asking import Client
from tests.projects.files import KEYS, Sheet, sales
from tests.serving import Server

FIRST = datetime.date(2018, 1, 7)
PATH = "/datauploads"


def weeks(number: int, *, first: int = 0) -> list[str]:
    """The dates of so many weeks, from the week with the number `first` on."""
    return [str(FIRST + datetime.timedelta(weeks=first + i)) for i in range(number)]


def weekly(number: int, *, first: int = 0, units: float = 100.0, country: str = "SWE") -> Sheet:
    """Sales of so many weeks, each with a number of units of its own."""
    return sales(weeks(number, first=first), [units + i for i in range(number)], keys=[country, *KEYS[1:]])


def folders(server: Server) -> set[str]:
    """The folders that uploads have on disk."""
    folder = server.data_dir / "uploads"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def files(server: Server) -> list[Path]:
    """Everything that is kept of uploads on disk."""
    return sorted(path for path in (server.data_dir / "uploads").rglob("*") if path.is_file())


class GatedFile:
    """The file of one upload, which nobody can read to its end until `open`: the job that reads it stands still."""

    def __init__(self, data_dir: Path) -> None:
        [self._path] = (data_dir / "uploads").glob("*/file")
        self._kept = self._path.with_name("kept")
        self._path.rename(self._kept)
        os.mkfifo(self._path)

    def open(self) -> None:
        """Put the real file back; who stands at the gate stays there."""
        os.replace(self._kept, self._path)


def form(content: bytes, *, boundary: str = "x", name: str = "file", file_name: str | None = "s.csv") -> bytes:
    """A form with one part, as raw bytes."""
    about = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name is not None else "")
    return f"--{boundary}\r\nContent-Disposition: {about}\r\n\r\n".encode() + content + f"\r\n--{boundary}--\r\n".encode()


def head(client: Client, *, length: int | None = None, more: str = "", name: str = "Sales") -> bytes:
    """The head of a raw request that sends a form. length: None for a body in chunks."""
    path = f"{client.base}/projects/{client.team}/{client.project}{PATH}?dataset_name={name}"
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    auth = client.auth or client.server.auth
    key = auth if isinstance(auth, str) else auth[1]
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", size]
    lines += ["Content-Type: multipart/form-data; boundary=x", *([more] if more else [])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def answer_on(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and body of the next answer on a raw connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(connection)
    about, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", about, re.IGNORECASE)[1])  # type: ignore[index]
    while len(body) < length:
        body += received(connection)
    return int(about.split()[1]), json.loads(body)


def received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "the server closed the connection without an answer"
    return data


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Ask until it is so: nobody tells."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)
