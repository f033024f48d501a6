"""A server keeps to itself: it writes in its data directory alone, looks up no name, and its log quotes no record and no graph.

The environment of these servers does not switch onnxruntime's telemetry off, so it is the server that must.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.clients import until
from tests.publishing import uploads
from tests.publishing.asking import predict, put
from tests.serving import ROOT, Server, serving
from tests.streaming import graphs

# onnxruntime sends no telemetry where one of these is set, because it takes the machine for one of CI.
CI_VARIABLES = (
    "CI",
    "TF_BUILD",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "CIRCLECI",
    "TRAVIS",
    "JENKINS_URL",
    "CODEBUILD_BUILD_ID",
    "BUILDKITE",
)
TELEMETRY_IS_WANTED = dict.fromkeys((*CI_VARIABLES, "ORT_DISABLE_TELEMETRY"), "")
# Telemetry that is on looks up its host 10 s after the import (measured with version 1.32).
LOOK_UP_S = 20.0
SECRET = "secret-4711"


def places(home: Path) -> dict[str, str]:
    """The variables that tell a program where to write, all of which name this folder."""
    home.mkdir()
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR")
    return dict.fromkeys(names, str(home))


def score_and_publish(server: Server) -> None:
    """Use a replica of each pool."""
    assert predict(server, "sluice/iris", sepal_length=5.1, sepal_width=3.5, petal_length=1.4, petal_width=0.2)["result"]
    assert put(server, "admin/times", uploads.times(2), config=uploads.config()).status_code < 300


def test_nothing_is_written_outside_the_data_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(tmp_path / "data", **places(home), **TELEMETRY_IS_WANTED) as server:
        score_and_publish(server)
        assert list(home.rglob("*")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "data", "data.log"}


def test_a_program_that_builds_models_sends_no_telemetry(tmp_path: Path) -> None:
    program = "import build, fetching, folder; build.main(['--first'])"
    environment = {**os.environ, **TELEMETRY_IS_WANTED, **places(tmp_path / "home"), "SLUICE_FETCH_MODELS": "false"}
    path = os.pathsep.join((str(ROOT), str(ROOT / "models")))
    command = [sys.executable, "-B", "-c", program]
    subprocess.run(command, cwd=tmp_path, env=environment | {"PYTHONPATH": path}, check=True)
    assert list((tmp_path / "home").rglob("*")) == []


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_process_of_the_server_looks_up_a_name_or_connects_to_anything(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **places(tmp_path / "home"), **TELEMETRY_IS_WANTED) as server:
        traced = [server.process.pid, *server.replica_pids()]
        calls = tmp_path / "calls"
        # Replicas that start from here on are traced from their first call on.
        tracer = subprocess.Popen(
            ["strace", "-f", "-e", "trace=connect,openat", "-o", str(calls), *(f"-p{pid}" for pid in traced)],
            stderr=subprocess.DEVNULL,
        )
        until(lambda: all("TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text() for pid in traced))
        for pid in traced[1:]:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(server.replica_pids()) - set(traced)) == len(traced) - 1)
        until(lambda: requests.get(f"{server.url}/healthcheck", timeout=10).text == "ok")
        score_and_publish(server)
        time.sleep(LOOK_UP_S)  # there is no event to wait for: nothing must happen
        tracer.terminate()
        tracer.wait(30)
        text = calls.read_text()
    assert "libonnxruntime" in text or "onnxruntime_pybind11_state" in text, "no replica was traced from its start"
    assert "resolv.conf" not in text
    assert re.findall(r"connect\(.*AF_INET.*", text) == []


def test_the_log_quotes_neither_a_record_nor_a_name_of_a_graph(tmp_path: Path) -> None:
    with serving(graphs.write_all(tmp_path / "data")) as server:
        text = f"{SECRET}\n{graphs.FORGED}"
        answer = predict(server, "tester/forger", text=text)
        assert answer["code"] == "model_failed"
        assert "Cast" in answer["error"]
        assert "result" in predict(server, "tester/forger", text="2.5")
        assert "error" in predict(server, "tester/misnamed", text="2.5")
        assert "model does not load model=tester/misnamed@1" in server.log
        log = server.log
    assert SECRET not in log
    assert [line for line in log.splitlines() if line.startswith(graphs.FORGED)] == []
    assert "onnxruntime:," not in log, "onnxruntime logs by itself"
