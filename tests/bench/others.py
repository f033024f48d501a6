"""Other servers with the same graph, for comparison: shown when they are installed in an environment of their own, never a bar.

SLUICE_BENCH_LITSERVE_PYTHON names an interpreter that has litserve and onnxruntime. BentoML and MLServer have no program here yet.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.bench import clients, processes, records

VARIABLE = "SLUICE_BENCH_LITSERVE_PYTHON"
PROGRAM = Path(__file__).with_name("litserve_server.py")
CONNECTIONS = 16
MANY = 512


def litserve_python() -> str | None:
    """The interpreter to use, or None with the reason told."""
    return processes.interpreter(VARIABLE, "litserve", "litserve", "onnxruntime")


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
    """The server's URL, once it answers."""
    port = processes.free_port()
    with processes.running([python, str(PROGRAM), str(port), mode], f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/predict"
