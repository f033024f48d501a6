"""The server, a replica or a file dies in the middle of a publish: the old version answers, or the new one does after all."""

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import Raw, bulk, is_alive, ndjson, until
from tests.publishing import uploads
from tests.publishing.asking import OCTETS, files, patch, predict, put, refused, shown
from tests.publishing.uploads import TURNS_A_SECOND, counting, times
from tests.serving import Server, serving


@pytest.fixture
def slow_version() -> dict[str, Any]:
    """Publish a version of `slow` that a replica needs about a second to open."""
    return counting(TURNS_A_SECOND // 256)


# The server dies


def test_a_server_that_dies_with_half_an_upload_has_the_old_version(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        put(server, "admin/model", times(2))
        with Raw(server) as client:
            client.ask("PUT", "/admin/models/model", Content_Type=OCTETS["Content-Type"], Content_Length="1000")
            client.send(b"x" * 500)
            until(lambda: any(".incoming" in name for name in files(server)))
            server.stop(signal.SIGKILL)
    _old_version_answers(tmp_path, "admin/model", {"x": 1}, {"y": 2}, versions=[1])


def test_a_server_that_dies_during_a_check_has_the_old_version(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=counting(10**15))
        until(lambda: any(name.endswith("config.json") and ".incoming" in name for name in files(server)))
        server.stop(signal.SIGKILL)
        assert isinstance(publishing.exception(), requests.ConnectionError)
    _old_version_answers(tmp_path, "admin/model", {"count": 5}, {"turned": 5}, versions=[1])


def test_a_server_that_dies_after_the_rename_has_the_old_version(tmp_path: Path, slow_version: dict[str, Any]) -> None:
    with serving(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
        until(lambda: "admin/model/2" in files(server))
        server.stop(signal.SIGKILL)
        assert isinstance(publishing.exception(), requests.ConnectionError)
    _old_version_answers(tmp_path, "admin/model", {"count": 5}, {"turned": 5}, versions=[1, 2])


def _old_version_answers(tmp_path: Path, model: str, record: Any, result: Any, versions: list[int]) -> None:
    with serving(tmp_path / "data") as server:
        record_ = shown(server, model)
        assert (record_["active_version"], record_["versions"]) == (1, versions)
        assert predict(server, model, **record)["result"] == result
        assert not [name for name in files(server) if "/." in name]
        assert put(server, model, times(9)).json()["version"] > versions[-1]


# Replicas die


def test_a_replica_that_dies_while_it_opens_a_version_has_it_afterwards(tmp_path: Path, slow_version: dict[str, Any]) -> None:
    with serving(tmp_path / "data") as server:
        with ThreadPoolExecutor() as threads:
            put(server, "admin/model", uploads.slow(), config=counting(1))
            scorers = server.replica_pids()[:2]
            publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
            until(lambda: "admin/model/2" in files(server))
            _kill(scorers[0])
            assert publishing.result().json()["version"] == 2
        loads = server.metric('sluice_model_loads_total{model="admin/model",outcome="loaded"}')
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        lines = bulk(server, "admin/model", ndjson({"count": i} for i in range(2000))).lines
        assert {line["version"] for line in lines} == {2}
        assert server.metric('sluice_model_loads_total{model="admin/model",outcome="loaded"}') >= loads


@pytest.mark.parametrize(("num_deaths", "status", "version"), [(1, 201, 2), (3, 500, 1)])
def test_the_only_replica_may_die_once_while_it_opens_a_version(
    tmp_path: Path, slow_version: dict[str, Any], num_deaths: int, status: int, version: int
) -> None:
    """Two deaths while it opens are too many. The first kill may come before the opening, so three kills make at least two."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        scorer, checker = server.replica_pids()
        publishing = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
        until(lambda: "admin/model/2" in files(server))
        for _ in range(num_deaths):
            scorer = _kill_and_await_next(server, scorer, checker)
        assert publishing.result().status_code == status
        until(lambda: requests.get(f"{server.url}/healthcheck", timeout=10).text == "ok")
        assert predict(server, "admin/model", count=3)["version"] == version


def _kill_and_await_next(server: Server, scorer: int, checker: int) -> int:
    """Kill the only score replica; returns the process id of the next one once that has begun to open models."""
    started = "replica started name=score"
    num_started = server.log.count(started)
    _kill(scorer)
    until(lambda: server.log.count(started) > num_started)
    [found] = set(server.replica_pids()) - {checker}
    return found


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))


# A version does not load


def test_a_version_that_does_not_load_is_kept_and_not_active(tmp_path: Path, slow_version: dict[str, Any]) -> None:
    """The test damages its file after the first replica has opened it."""
    with serving(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        put(server, "admin/model", uploads.slow(), config=counting(1))
        publishing: Future[requests.Response] = threads.submit(put, server, "admin/model", uploads.slow(), config=slow_version)
        until(lambda: "admin/model/2/model.onnx" in files(server))
        (server.data_dir / "models/admin/model/2/model.onnx").write_bytes(b"spoiled")
        answer = publishing.result()
        assert answer.json()["code"] == "load_failed"
        assert refused(answer, 500) == "version 2 does not load; the active version is as it was"
        record = shown(server, "admin/model")
        assert (record["active_version"], record["versions"], record["status"]) == (1, [1, 2], "online")
        assert predict(server, "admin/model", count=3)["version"] == 1
        assert patch(server, "admin/model", active_version=2).status_code == 500
        assert put(server, "admin/model", times(1)).json()["version"] == 3


def test_a_version_that_replicas_cannot_open_in_time_harms_no_other_model(tmp_path: Path) -> None:
    """It passes the check, which may take longer. Two replicas that open it are killed; after that no replica tries it again."""
    settings = {"SLUICE_BLOCK_TIMEOUT_S": "1", "SLUICE_CHECK_TIMEOUT_S": "60"}
    with serving(tmp_path / "data", **settings) as server:
        # The check runs a graph for every size of batch, so this one takes a record at a time.
        config = counting(3_500_000) | {"max_batch_size": 1}
        answer = put(server, "admin/heavy", uploads.slow(), config=config, timeout_s=120)  # the answer comes after the check
        assert answer.status_code in (422, 500)
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        for _ in range(5):
            assert predict(server, "brandon/HelloWorld", name="a")["result"] == {"greeting": "Hello a"}
    with serving(tmp_path / "data", **settings) as server:
        url = server.model("brandon/HelloWorld")
        until(lambda: requests.post(url, json={"name": "a"}, auth=server.auth, timeout=30).status_code == 200, 30)
