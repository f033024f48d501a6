"""Other servers with the same graph, for comparison. They run when an environment has them; their figures are never a bar.

Each line runs when an environment variable names an interpreter that has what it needs:

SLUICE_BENCH_LITSERVE_PYTHON  litserve, onnxruntime
SLUICE_BENCH_FASTAPI_PYTHON   fastapi, uvicorn[standard], onnxruntime
SLUICE_BENCH_MLSERVER_PYTHON  mlserver, onnxruntime, uvloop below 0.22, with which its workers start
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import clients, processes, records

LITSERVE, FASTAPI, MLSERVER = (f"SLUICE_BENCH_{name}_PYTHON" for name in ("LITSERVE", "FASTAPI", "MLSERVER"))
HERE = Path(__file__).parent
CONNECTIONS = 16
SINGLES_CONNECTIONS = 64
MANY = 512
# Records in a request of tensors, and connections: what MLServer answers most quickly of 512 to 65,536 on 2 to 8 connections.
TENSOR_ROWS, TENSOR_CONNECTIONS = 8192, 4


def _interpreter(variable: str, title: str, *modules: str) -> str | None:
    if shutil.which("wrk") is None:
        clients.note(f"{title}: skipped, wrk is not installed")
        return None
    return processes.interpreter(variable, title, *modules)


def litserve_python() -> str | None:
    """The interpreter to use. None, after a note that says why, when there is none."""
    return _interpreter(LITSERVE, "litserve", "litserve", "onnxruntime")


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
    with processes.running([python, str(HERE / "litserve_server.py"), str(port), mode], f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/predict"


def fastapi_python() -> str | None:
    """The interpreter to use. None, after a note that says why, when there is none."""
    return _interpreter(FASTAPI, "FastAPI", "fastapi", "uvicorn", "onnxruntime")


def fastapi_singles(python: str, duration_s: float) -> float:
    """Requests per second of FastAPI on two workers, one record in each."""
    port = processes.free_port()
    with processes.running([python, str(HERE / "fastapi_server.py"), str(port)], f"http://127.0.0.1:{port}/health", folder=HERE):
        body, head = records.one_of(records.IRIS), {"Content-Type": "application/json"}
        return clients.wrk(f"http://127.0.0.1:{port}/predict", body, head, SINGLES_CONNECTIONS, duration_s)["per_second"]


def mlserver_python() -> str | None:
    """The interpreter to use. None, after a note that says why, when there is none."""
    return _interpreter(MLSERVER, "MLServer", "mlserver", "onnxruntime")


def mlserver_records_per_second(python: str, duration_s: float) -> float:
    """Records per second of MLServer that come and go as bare tensors of the V2 protocol, in JSON."""
    with _mlserver(python) as url:
        tensor = {"name": "X", "shape": [TENSOR_ROWS, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2] * TENSOR_ROWS}
        body, head = json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}
        return clients.wrk(f"{url}/v2/models/iris/infer", body, head, TENSOR_CONNECTIONS, duration_s)["per_second"] * TENSOR_ROWS


@contextlib.contextmanager
def _mlserver(python: str) -> Iterator[str]:
    """Run MLServer with two workers; gives its URL once its model is ready."""
    port, more = processes.free_port(), {"grpc_port": processes.free_port(), "metrics_port": processes.free_port()}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        settings = {"host": "127.0.0.1", "http_port": port, **more, "parallel_workers": 2, "debug": False}
        settings["metrics_dir"] = f"{folder}/metrics"
        (Path(folder) / "settings.json").write_text(json.dumps(settings))
        (Path(folder) / "model-settings.json").write_text(json.dumps({"name": "iris", "implementation": "mlserver_runtime.Iris"}))
        command, url = [str(Path(python).with_name("mlserver")), "start", folder], f"http://127.0.0.1:{port}"
        with processes.running(command, f"{url}/v2/models/iris/ready", settings={"PYTHONPATH": str(HERE)}):
            yield url
