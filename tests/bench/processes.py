"""Runs the servers that we compare with, each in a process group of its own on a free port.

Knows how to start a server, wait for it and end it. Knows nothing of what it serves.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.bench import clients

START_TIMEOUT_S = 120
POLL_S = 0.2
LAST_BYTES = 2000


def interpreter(variable: str, name: str, *modules: str) -> str | None:
    """The interpreter that this environment variable names. None, after a note that says why, if it lacks one of the modules."""
    python = os.environ.get(variable)
    if not python:
        clients.note(f"{name}: skipped, {variable} names no interpreter")
        return None
    if subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True, check=False).returncode:
        clients.note(f"{name}: skipped, {python} cannot import {' and '.join(modules)}")
        return None
    return python


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str], health_url: str, *, settings: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[None]:
    """Run a program; the block begins when it answers at `health_url`, and at its end the whole process group is killed.

    settings  environment variables, added to ours
    folder    working directory of the program; None for ours
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | (settings or {}), stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_until_healthy(health_url, process, log)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(POLL_S)
    log.seek(0)
    raise clients.Failed(f"the other server did not start:\n{log.read()[-LAST_BYTES:].decode(errors='replace')}")
