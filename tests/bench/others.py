"""Other servers with the same graph, for comparison. They run when an environment has them; their figures are never a bar.

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
    """The interpreter to use. None, after a note that says why, when there is none."""
    return processes.interpreter(VARIABLE, "litserve", "litserve", "onnxruntime")


def litserve_singles(python: str, duration_s: float) -> dict[str, float]:
    """Figures of LitServe with one record per request."""
    with _running(python, "single") as url:
        return _wrk(url, records.one_of(records.IRIS), duration_s)


def litserve_records_per_second(python: str, duration_s: float) -> float:
    """Records per second of LitServe with 512 records per request."""
    body = b'{"records":[' + b",".join([records.one_of(records.IRIS)] * MANY) + b"]}"
    with _running(python, "many") as url:
        return _wrk(url, body, duration_s)["per_second"] * MANY


def _wrk(url: str, body: bytes, duration_s: float) -> dict[str, float]:
    return clients.wrk(url, body, {"Content-Type": "application/json"}, CONNECTIONS, duration_s)


@contextlib.contextmanager
def _running(python: str, mode: str) -> Iterator[str]:
    """Run LitServe; gives its URL once it answers."""
    port = processes.free_port()
    with processes.running([python, str(PROGRAM), str(port), mode], f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/predict"
