"""Models that hang, kill, panic or take all memory: neighbours are served as before, and the model goes offline with a reason."""

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import Raw, bulk, ndjson, until
from tests.serving import Server, serving
from tests.streaming import harmful

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
MEMORY_BYTES = 1024**3
SETTINGS = {"SLUICE_BLOCK_TIMEOUT_S": "3", "SLUICE_REPLICA_MEMORY_BYTES": str(MEMORY_BYTES), "SLUICE_DRAIN_S": "1"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Its models go offline after four faults, since each replica that dies costs a test one or two seconds."""
    with serving(harmful.write_all(tmp_path / "data"), **SETTINGS, SLUICE_SCORE_REPLICAS="2", SLUICE_MODEL_FAULTS="4") as running:
        until(lambda: running.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        yield running


def ask(server: Server, model: str, record: dict[str, Any]) -> requests.Response:
    return requests.post(server.model(model), json=record, auth=server.auth, timeout=60)


def latencies(server: Server, seconds: float) -> list[float]:
    """Seconds of single predictions with a good model, one after the other, over one connection."""
    return latencies_of(server, lambda session: session.post(server.model("sluice/iris"), json=FLOWER, timeout=60), seconds)


def latencies_of(server: Server, one: Callable[[requests.Session], requests.Response], seconds: float) -> list[float]:
    """Seconds of requests, one after the other, over one connection; each must be answered with 200."""
    found = []
    with requests.Session() as session:
        session.auth = server.auth
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            answer = one(session)
            assert answer.status_code == 200, answer.text
            found.append(time.monotonic() - began)
    return found


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


@contextmanager
def called_all_the_time(one: Callable[[], requests.Response]) -> Iterator[list[requests.Response]]:
    """Four connections ask the same again and again; gives their answers."""
    stop = threading.Event()
    answers: list[requests.Response] = []

    def work() -> None:
        while not stop.is_set():
            answers.append(answer := one())
            stop.wait(0.01 if answer.status_code != 503 else 0.2)  # a client that is told to wait does so a little

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def memory_bytes(server: Server) -> int:
    """The most memory that a replica has now."""
    sizes = [0]
    for pid in server.replica_pids():
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        sizes += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")]
    return max(sizes)


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(harmful.HARMS))
def test_a_neighbour_is_served_as_before_while_a_model_does_harm(tmp_path: Path, name: str) -> None:
    with serving(harmful.write_all(tmp_path / "data"), **SETTINGS, SLUICE_SCORE_REPLICAS="2") as server:
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        latencies(server, 2)
        quiet = latencies(server, 6)
        with called_all_the_time(lambda: ask(server, f"tester/{name}", harmful.HARMS[name][0])):
            time.sleep(10)  # until the first harm was noticed: blocks that hold all replicas are taken back after 5 to 7 s
            busy = latencies(server, 12)
    print(f"{name}: quiet p99 {p99(quiet) * 1000:.1f} ms, busy p99 {p99(busy) * 1000:.1f} ms, longest {max(busy) * 1000:.0f} ms")
    assert p99(busy) < 3 * p99(quiet)


def test_a_replica_that_hangs_in_every_place_is_taken_back_before_its_time_limit(tmp_path: Path) -> None:
    """The first calls may take all replicas; the neighbour waits for a few seconds and not for SLUICE_BLOCK_TIMEOUT_S."""

    def seconds_and_p99(folder: Path) -> tuple[float, float]:
        """Of the first answer that the neighbour gets, and of those after it."""
        settings = {"SLUICE_BLOCK_TIMEOUT_S": "60", "SLUICE_SCORE_REPLICAS": "2", "SLUICE_REQUEST_TIMEOUT_S": "50"}
        with serving(harmful.write_all(folder / "data"), **settings) as server:
            until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
            with called_all_the_time(lambda: ask(server, "tester/turns", harmful.HARMS["turns"][0])):
                time.sleep(0.5)
                began = time.monotonic()
                assert ask(server, "sluice/iris", FLOWER).status_code == 200
                seconds = time.monotonic() - began
                latencies(server, 2)  # the new replica still opens its models
                return seconds, p99(latencies(server, 3))

    runs = (seconds_and_p99(tmp_path / str(run)) for run in range(3))
    assert any(seconds < 10 and later < 0.5 for seconds, later in runs), "a busy machine is late once or twice"


@pytest.mark.parametrize("name", ["divide", "swells"])
def test_a_model_that_costs_too_many_replicas_goes_offline_with_a_reason(server: Server, name: str) -> None:
    harm, good = harmful.HARMS[name]
    with called_all_the_time(lambda: ask(server, f"tester/{name}", harm)) as answers:
        until(lambda: any("model_offline" in answer.text for answer in answers), timeout_s=90)
        assert memory_bytes(server) < 1.5 * MEMORY_BYTES
    refused = ask(server, f"tester/{name}", good)
    assert refused.status_code == 503
    assert refused.json()["code"] == "model_offline"
    assert "version 1 failed" in refused.json()["error"]
    assert int(refused.headers["Retry-After"]) <= 60
    shown = requests.get(f"{server.url}/api/models/tester/{name}", auth=server.auth, timeout=30).json()
    assert shown["status"] == "offline"
    assert "version 1 failed" in shown["reason"]
    assert ask(server, "sluice/iris", FLOWER).status_code == 200
    assert bulk(server, f"tester/{name}", ndjson([good])).status == 503
    changed = requests.patch(f"{server.url}/api/models/tester/{name}", json={"active_version": 1}, auth=server.auth, timeout=30)
    assert changed.json()["status"] == "online", "its owner activates it again"
    assert "reason" not in changed.json()
    assert ask(server, f"tester/{name}", good).status_code == 200


def test_a_stream_of_a_model_that_goes_offline_ends_with_that_reason(server: Server) -> None:
    with Raw(server, timeout_s=60) as client:
        client.begin("tester/divide")
        client.head()
        client.chunk(ndjson({"divisor": 1, "yhat_id": i} for i in range(2)))
        client.line()
        client.line()
        with called_all_the_time(lambda: ask(server, "tester/divide", {"divisor": -1})) as answers:
            until(lambda: any("model_offline" in answer.text for answer in answers), timeout_s=90)
        last = json.loads(client.rest().splitlines()[-1])
    assert (last["code"], last["fatal"]) == ("model_offline", True)


def test_a_panic_costs_the_record_and_no_replica(server: Server) -> None:
    before = server.metric('sluice_replica_restarts_total{pool="score"}')
    done = bulk(server, "tester/panics", ndjson([{"text": "b"}, {"text": "x" * 60}, {"text": "b"}]), "&ordered=true")
    assert [line.get("code") for line in done.lines] == [None, "model_failed", None]
    assert server.metric('sluice_replica_restarts_total{pool="score"}') == before


def test_with_one_replica_others_are_served_between_the_faults(tmp_path: Path) -> None:
    with (
        serving(harmful.write_all(tmp_path / "data"), **SETTINGS, SLUICE_SCORE_REPLICAS="1") as server,
        called_all_the_time(lambda: ask(server, "tester/divide", {"divisor": -1})) as answers,
    ):
        until(lambda: any("model_offline" in answer.text for answer in answers), timeout_s=200)
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 1)
        latencies(server, 2)  # the new replica still opens its models
        assert p99(latencies(server, 2)) < 0.5


def test_a_stream_that_drips_is_ended_when_its_model_is_deleted(server: Server) -> None:
    """SLUICE_DRAIN_S is 1 here; the last line says why."""
    with Raw(server, timeout_s=60) as client:
        client.begin("tester/pick")
        client.head()
        client.chunk(ndjson([{"place": 1}]))
        client.line()
        began = time.monotonic()
        answer = requests.delete(server.model("tester/pick"), auth=server.auth, timeout=60)
        assert answer.status_code == 200, answer.text
        assert 1 <= time.monotonic() - began < 10
        last = json.loads(client.rest().splitlines()[-1])
        assert (last["code"], last["fatal"], client.was_cut) == ("model_removed", True, True)
