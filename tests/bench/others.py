"""Other servers with the same graph, for comparison: shown when they are installed in an environment of their own, never a bar.

SLUICE_BENCH_LITSERVE_PYTHON names an interpreter that has litserve and onnxruntime. BentoML and MLServer have no program here yet.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.bench import clients, records

VARIABLE = "SLUICE_BENCH_LITSERVE_PYTHON"
PROGRAM = Path(__file__).with_name("litserve_server.py")
START_TIMEOUT_S = 60
CONNECTIONS = 16
MANY = 512


def litserve_python() -> str | None:
    """The interpreter to use, or None with the reason told."""
    python = os.environ.get(VARIABLE)
    if not python:
        clients.note(f"litserve: skipped, {VARIABLE} names no interpreter")
        return None
    if subprocess.run([python, "-c", "import litserve, onnxruntime"], capture_output=True, check=False).returncode:
        clients.note(f"litserve: skipped, {python} cannot import litserve and onnxruntime")
        return None
    return python


def litserve_singles(python: str, duration_s: float) -> dict[str, float]:
    """One record a request."""
    with _running(python, "single") as url:
        return _wrk(url, records.one_of(records.IRIS), duration_s)


def litserve_records_per_second(python: str, duration_s: float) -> float:
    """512 records a request."""
    body = b'{"records":[' + b",".join([records.one_of(records.IRIS)] * MANY) + b"]}"
    with _running(python, "many") as url:
        return _wrk(url, body, duration_s)["per_second"] * MANY


def _wrk(url: str, body: bytes, duration_s: float) -> dict[str, float]:
    return clients.wrk(url, body, {"Content-Type": "application/json"}, CONNECTIONS, duration_s)


@contextlib.contextmanager
def _running(python: str, mode: str) -> Iterator[str]:
    """The server in a process group of its own; its URL, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [python, str(PROGRAM), str(port), mode]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/predict"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise clients.Failed("the other server did not start")
