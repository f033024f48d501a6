"""Replicas die, hang or raise: no record is lost or repeated, and a bad record harms no other record (acceptance 14, 15)."""

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.clients import Raw, answers, bulk, curl, health, is_alive, ndjson, until
from tests.serving import Server, serving
from tests.streaming import graphs

IRIS = "sluice/iris"
FLOWER = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2,"yhat_id":%d}\n'
RESTARTS = 'sluice_replica_restarts_total{pool="score"}'


def flowers(count: int) -> Iterator[bytes]:
    """Bodies of 10,000 records each, with ids from 0."""
    for start in range(0, count, 10_000):
        yield b"".join(FLOWER % i for i in range(start, min(start + 10_000, count)))


class Killer:
    """Kills the oldest replica every `interval_s`, but waits until a new one is up, or a slow machine would only start replicas."""

    def __init__(self, server: Server, interval_s: float) -> None:
        self.num_killed = 0
        self._server = server
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self._interval_s):
            if health(self._server)["replicas"]["score"]:
                os.kill(self._server.replica_pids()[0], signal.SIGKILL)
                self.num_killed += 1


@pytest.mark.parametrize(
    ("count", "interval_s", "query"),
    [
        (200_000, 0.5, ""),
        (200_000, 0.5, "&ordered=true"),
        pytest.param(3_000_000, 0.5, "", marks=pytest.mark.heavy),
    ],
)
def test_killed_replicas_lose_no_record_and_repeat_none(tmp_path: Path, count: int, interval_s: float, query: str) -> None:
    """Acceptance 14."""
    path, out = tmp_path / "records", tmp_path / "out"
    with path.open("wb") as file:
        file.writelines(flowers(count))
    with serving(tmp_path / "data") as server:
        url = f"{server.model(IRIS)}/?bulk=true&summary=true{query}"
        rate = "5M" if count < 1_000_000 else "100M"  # slow enough for several deaths
        with Killer(server, interval_s) as killer:
            until(lambda: killer.num_killed)
            done = curl(url, "-T", str(path), "-o", str(out), "--limit-rate", rate, auth=server.auth, timeout_s=500)
        assert (done.code, done.status) == (0, 200)
        with out.open("rb") as file:
            lines = file.read().splitlines()
        summary = json.loads(lines.pop())["summary"]
        assert summary["results"] == summary["records"] == count
        ids = [int(line[line.index(b'"yhat_id":') + 10 : line.rindex(b",")]) for line in lines]
        assert sorted(ids) == list(range(count))
        assert not query or ids == sorted(ids)
        assert killer.num_killed > 2
        until(lambda: server.metric(RESTARTS) >= killer.num_killed - 1)
        assert "Traceback" not in server.log


def test_the_death_of_an_idle_replica_is_healed_without_anybody_noticing(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        old = until(lambda: len(pids := server.replica_pids()) == 2 and pids)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(pids := server.replica_pids()) == 2 and not set(old) & set(pids))
        until(lambda: curl(f"{server.url}/healthcheck").body == b"ok")
        assert len(bulk(server, IRIS, FLOWER % 1).lines) == 1


def kill_all(server: Server) -> None:
    """Kill every replica there is, also those that are ending."""
    for pid in server.replica_pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_stream_waits_for_new_replicas_when_all_are_dead(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, Raw(server) as client:
        client.begin(IRIS)
        client.head()
        for i in range(5):
            kill_all(server)
            client.chunk(FLOWER % i)
            assert client.line()["yhat_id"] == i
        client.end()
        assert client.rest() == b""
        assert client.has_ended


def test_without_a_replica_requests_are_503(tmp_path: Path) -> None:
    """streaming.md 2.7. The next replica starts at once, so the test looks for the short time without one."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:

        def refused() -> bool:
            kill_all(server)
            answer = bulk(server, IRIS, b"")
            if answer.status == 503:
                assert answer.body == b'{"error":"no instances of model found"}'
                assert "Retry-After: 1" in answer.trace
            return answer.status == 503

        until(refused)
        until(lambda: bulk(server, IRIS, b"").status == 200)


# Records that kill, hang or raise


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_record_that_kills_the_process_gets_one_error_and_its_mates_get_results(tester: Server, place: int) -> None:
    """Acceptance 15."""
    records = [{"divisor": 2, "yhat_id": i} for i in range(8)]
    records[place]["divisor"] = -1
    done = bulk(tester, "tester/divide", ndjson(records), "&ordered=true")
    assert done.code == 0
    assert [line["yhat_id"] for line in done.lines] == list(range(8))
    assert [line.get("code") for line in done.lines] == [("model_failed" if i == place else None) for i in range(8)]
    assert done.lines[place]["line"] == place + 1
    assert all(line["result"]["quotient"] == -(2**62) for line in done.lines if "result" in line)


def test_several_records_that_kill_are_each_found_while_the_rest_is_answered(tester: Server) -> None:
    """Acceptance 15, in any order, with a neighbour stream on another model."""
    records = [{"divisor": -1 if i in (50, 51, 199) else 4, "yhat_id": i} for i in range(200)]
    done = bulk(tester, "tester/divide", ndjson(records), "&summary=true")
    assert done.code == 0
    *lines, last = done.lines
    assert {line["yhat_id"] for line in lines if "code" in line} == {50, 51, 199}
    assert {line["line"] for line in lines if "code" in line} == {51, 52, 200}
    assert Counter(line["yhat_id"] for line in lines) == Counter(range(200))
    assert (last["summary"]["errors"], last["summary"]["results"]) == (3, 197)


def test_a_record_that_hangs_gets_timeout_and_its_mates_get_results(tmp_path: Path) -> None:
    """streaming.md 3.4."""
    records = [{"count": graphs.FOREVER if i == 5 else i, "yhat_id": i} for i in range(8)]
    settings = {"SLUICE_BLOCK_TIMEOUT_S": "2", "SLUICE_MODEL_FAULTS": "1000"}
    with serving(graphs.write_all(tmp_path / "data"), **settings) as server:
        done = bulk(server, "tester/turns", ndjson(records), "&ordered=true")
    assert done.code == 0
    assert [line.get("code") for line in done.lines] == [("timeout" if i == 5 else None) for i in range(8)]
    assert [line["yhat_id"] for line in done.lines] == list(range(8))
    assert done.lines[5]["line"] == 6
    assert [line["result"]["turned"] for line in done.lines if "result" in line] == [0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("places", [(0,), (63,), (10, 11), tuple(range(0, 64, 7)), tuple(range(64))])
def test_only_the_records_on_which_the_model_raises_fail(tester: Server, places: tuple[int, ...]) -> None:
    records = [{"place": 9 if i in places else i % 2, "yhat_id": i} for i in range(64)]
    lines = bulk(tester, "tester/pick", ndjson(records), "&ordered=true").lines
    assert [line["yhat_id"] for line in lines] == list(range(64))
    assert [i for i, line in enumerate(lines) if "code" in line] == list(places)
    for line in lines:
        if "code" in line:
            assert line["code"] == "model_failed"
            assert line["line"] == line["yhat_id"] + 1
            assert len(line["error"]) <= 200
            assert "/" not in line["error"]


def test_a_replica_that_survives_a_raising_record_is_not_restarted(tester: Server) -> None:
    restarts = tester.metric(RESTARTS)
    bulk(tester, "tester/pick", ndjson({"place": 9} for _ in range(100)))
    assert tester.metric(RESTARTS) == restarts


def test_a_stream_on_another_model_loses_nothing_while_records_kill(tester: Server) -> None:
    """The stream was admitted before. A request that arrives while no replica runs gets 503 instead."""
    with Raw(tester, timeout_s=200) as bystander, Raw(tester, timeout_s=200) as killer:
        for client, model in ((bystander, IRIS), (killer, "tester/divide")):
            client.begin(model)
            client.head()
        killer.chunk(ndjson({"divisor": -1} for _ in range(4)))
        for body in flowers(50_000):
            bystander.chunk(body)
        for client in (killer, bystander):
            client.end()
        assert Counter(line["yhat_id"] for line in answers(bystander.rest())) == Counter(range(50_000))
        assert [line["code"] for line in answers(killer.rest())] == ["model_failed"] * 4
        assert killer.has_ended
        assert bystander.has_ended


# The server's own death


@pytest.mark.parametrize("is_working", [False, True])
def test_replicas_end_when_the_server_is_killed(tmp_path: Path, is_working: bool) -> None:
    """streaming.md 3.8: even a replica that hangs in a model and does not read the end of its input."""
    with serving(graphs.write_all(tmp_path / "data"), SLUICE_SCORE_REPLICAS="1") as server:
        [pid] = server.replica_pids()
        try:
            if is_working:
                with Raw(server) as client:
                    client.begin("tester/turns")
                    client.head()
                    taken = server.metric('sluice_queue_seconds_count{lane="bulk"}')
                    client.chunk(ndjson([{"count": graphs.FOREVER}]))
                    until(lambda: server.metric('sluice_queue_seconds_count{lane="bulk"}') > taken)
                    server.stop(signal.SIGKILL)
            else:
                server.stop(signal.SIGKILL)
            until(lambda: not is_alive(pid), 5, "the end of the replica")
        finally:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
