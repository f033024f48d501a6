"""Jobs of a real server and of real workers: killed, stopped, continued, ended, one beside the other."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import job_key
from engine.store.jobs import job_time
from tests.clients import until
from tests.engine.jobs.kinds import gate, open_gate, try_gate
from tests.engine.replicas.families import options
from tests.publishing.asking import put
from tests.serving import ROOT, Server, clean_environment

PROGRAM = ("-m", "tests.server.jobs_program")
# Nothing but what a test says closes a gate.
SETTINGS = {"SLUICE_MAX_LOAD_PCT": "0", "SLUICE_MAX_MEMORY_PCT": "0", "SLUICE_WORKER_SLEEP_SECONDS": "0.1"}


class JobServer(Server):
    """A server that has the kinds of tests."""

    program = PROGRAM


class Place:
    """A data directory with its processes, the database, and a gate at which jobs wait."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.data_dir.mkdir()
        self.gate = gate(folder)
        environment = options(folder).environment
        self._settings = {**SETTINGS, **environment, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._servers: list[Server] = []

    def server(self, **settings: str) -> Server:
        server = JobServer(self.data_dir, {"SLUICE_SCORE_REPLICAS": "1", **self._settings, **settings})
        self._servers.append(server)
        return server

    def worker(self, **settings: str) -> "subprocess.Popen[bytes]":
        environment = {**clean_environment(), "SLUICE_DATA_DIR": str(self.data_dir), **self._settings, **settings}
        process = subprocess.Popen([sys.executable, *PROGRAM, "worker"], cwd=ROOT, env=environment)
        self._processes.append(process)
        return process

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "server", "--data-dir", str(self.data_dir), *words]
        return subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for server in self._servers:
            server.stop(signal.SIGKILL)

    # The database

    def ask(self, sql: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(self.data_dir / "sluice.db", timeout=30, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(sql, values).fetchall()

    def stop_between_two_questions(self, worker: "subprocess.Popen[bytes]") -> None:
        """Stop a worker where it holds no lock of the database, which nobody else could write to then."""
        while True:
            worker.send_signal(signal.SIGSTOP)
            with closing(sqlite3.connect(self.data_dir / "sluice.db", timeout=1, isolation_level=None)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    worker.send_signal(signal.SIGCONT)
                    continue
                connection.execute("ROLLBACK")
                return

    def add(self, kind: str, *names: str) -> None:
        for name in names:
            values = (kind, job_key(kind, name), name, name, json.dumps(self.gate), job_time())
            self.ask(
                "INSERT INTO job (kind, key, party, dataset, config, priority, created_at) VALUES (?, ?, ?, ?, ?, 0, ?)", *values
            )

    def wait_for_tables(self) -> None:
        """A worker that starts first makes them."""
        database = self.data_dir / "sluice.db"
        until(lambda: database.exists() and self.ask("SELECT 1 FROM sqlite_master WHERE name = 'turn'"))

    def statuses(self) -> dict[str, int]:
        return Counter(row["status"] for row in self.ask("SELECT status FROM job"))

    def row(self) -> Any:
        [row] = self.ask("SELECT * FROM job")
        return row

    def results(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.ask("SELECT attempt, text FROM result")]

    # The gate

    def wait_for_begun(self, number: int = 1) -> None:
        mark = Path(self.gate["mark"])
        until(lambda: mark.exists() and len(mark.read_text().splitlines()) >= number)

    def open_gate(self, text: str = "") -> None:
        open_gate(self.gate, text)


@contextmanager
def placed(folder: Path) -> Iterator[Place]:
    place = Place(folder)
    try:
        yield place
    finally:
        place.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with placed(tmp_path) as place:
        yield place


def test_a_job_whose_server_is_killed_runs_again_at_its_next_start_and_ends(place: Place) -> None:
    server = place.server()
    place.add("dataset", "glue")
    place.wait_for_begun()
    server.stop(signal.SIGKILL)
    assert place.row()["status"] == "started"
    place.server()
    place.wait_for_begun(2)
    place.open_gate("content")
    until(lambda: place.statuses() == {"success": 1})
    assert place.row()["attempts"] == 2
    assert place.results() == [(2, '"content"')]


def test_a_worker_that_was_stopped_for_two_minutes_and_continues_writes_nothing(place: Place) -> None:
    stopped = place.worker()
    place.wait_for_tables()
    place.add("dataset", "glue")
    place.wait_for_begun()
    place.stop_between_two_questions(stopped)
    place.ask("UPDATE job SET heartbeat_at = ?", job_time(seconds_ago=120))
    place.worker()
    place.wait_for_begun(2)
    # Both replicas are at the gate, and that of the stopped worker passes it, too.
    until(lambda: place.statuses() == {"success": 1} or (try_gate(place.gate) and False))
    assert place.row()["attempts"] == 2
    stopped.send_signal(signal.SIGCONT)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(30) == 0
    assert (place.statuses(), len(place.results())) == ({"success": 1}, 1)
    assert place.results()[0][0] == 2


@pytest.mark.parametrize("signals", [pytest.param(1, marks=pytest.mark.heavy), 2])
def test_a_worker_gives_its_job_back_within_ten_seconds_of_sigterm_and_at_once_of_a_second_one(place: Place, signals: int) -> None:
    worker = place.worker()
    place.wait_for_tables()
    place.add("dataset", "glue")
    place.wait_for_begun()
    worker.send_signal(signal.SIGTERM)
    if signals == 2:
        worker.send_signal(signal.SIGINT)
    assert worker.wait(10 if signals == 1 else 5) == 0
    assert (place.row()["status"], place.row()["attempts"]) == ("waiting", 0)


def test_a_server_gives_its_job_back_at_its_stop(place: Place) -> None:
    server = place.server()
    place.add("dataset", "glue")
    place.wait_for_begun()
    assert server.stop(timeout_s=10) == 0
    assert (place.row()["status"], place.row()["attempts"]) == ("waiting", 0)


def test_workers_take_what_a_server_without_runners_leaves_each_from_its_queue(place: Place) -> None:
    place.server(SLUICE_JOBS_REPLICAS="0")
    place.add("dataset", "glue")
    place.add("split", "glue")
    place.add("prepare", "glue")
    place.worker(SLUICE_JOBS_REPLICAS="0")
    place.wait_for_begun()
    place.open_gate()
    until(lambda: place.statuses() == {"success": 1, "waiting": 2})
    place.worker(WORKER_QUEUE="splits", SLUICE_JOBS_REPLICAS="1")
    for number in (2, 3):
        place.wait_for_begun(number)
        place.open_gate()
        until(lambda done=number: place.statuses().get("success") == done)  # type: ignore[misc]


def test_a_check_of_a_published_model_does_not_wait_behind_jobs(place: Place) -> None:
    server = place.server()
    place.add("dataset", "glue", "squad")
    place.wait_for_begun(2)
    folder = ROOT / "models/sluice/iris"
    config = json.loads((folder / "config.json").read_text())
    answer = put(
        server, "admin/flowers", (folder / "1/model.onnx").read_bytes(), config=config | {"owner": "admin", "name": "flowers"}
    )
    assert answer.status_code == 201, answer.text
    assert place.statuses() == {"started": 2}


def test_a_closed_gate_of_memory_lets_nothing_be_taken_and_one_that_is_off_all(place: Place) -> None:
    closed = place.server(MAX_MEMORY_PCT="1", SLUICE_MAX_MEMORY_PCT="")
    place.add("dataset", "glue")
    until(lambda: closed.metric('sluice_jobs{kind="dataset",status="waiting"}') == 1)
    assert place.statuses() == {"waiting": 1}
    closed.stop()
    server = place.server(MAX_MEMORY_PCT="0", SLUICE_MAX_MEMORY_PCT="")
    place.wait_for_begun()
    place.open_gate()
    until(lambda: server.metric('sluice_jobs_total{kind="dataset",outcome="success"}') == 1)


def test_names_of_other_services_are_logged_once_each(place: Place) -> None:
    server = place.server(MONGO_URL="mongodb://localhost", WEB_CONCURRENCY="2")
    assert [server.log.count(f"setting ignored name={name}\n") for name in ("MONGO_URL", "WEB_CONCURRENCY")] == [1, 1]
    assert "localhost:27018" not in server.log


# Commands


def test_a_worker_with_a_queue_that_does_not_exist_says_so_in_one_line_and_exits_64(tmp_path: Path) -> None:
    environment = {**clean_environment(), "WORKER_QUEUE": "everything", "SLUICE_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "server", "worker"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    reason = "this value must be datasets or splits."
    sets = "which jobs `sluice worker` takes: datasets (lists of splits) or splits (first rows, Parquet, statistics)"
    assert (ended.returncode, ended.stderr) == (64, f"WORKER_QUEUE=everything: {reason} What it sets: {sets}\n")


@pytest.fixture
def queue(place: Place) -> Place:
    """A queue without a server: of preview two jobs wait and one is started, and one of somebody else waits."""
    assert place.command("user", "list").returncode == 0
    place.add("dataset", "glue", "squad")
    place.add("split", "glue")
    place.add("fit", "sales")
    place.ask("UPDATE job SET status = 'started', worker = 'server' WHERE kind = 'split'")
    return place


@pytest.mark.parametrize(
    ("words", "said", "left"),
    [
        (["cancel-jobs", "waiting"], "cancelled 2 jobs", {"cancelled": 2, "started": 1, "waiting": 1}),
        (["cancel-jobs", "started"], "cancelled 1 jobs", {"cancelled": 1, "waiting": 3}),
        (["clean-queues"], "removed 3 jobs", {"waiting": 1}),
        (["clean-cache"], "cancelled 3 jobs", {"cancelled": 3, "waiting": 1}),
    ],
)
def test_commands_about_the_queue_act_on_the_jobs_of_preview_alone(
    queue: Place, words: list[str], said: str, left: dict[str, int]
) -> None:
    done = queue.command(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{said}\n", "")
    assert queue.statuses() == left
    [fit] = queue.ask("SELECT status FROM job WHERE kind = 'fit'")
    assert fit["status"] == "waiting"


def test_warm_queues_one_job_that_comes_after_those_of_requests(place: Place) -> None:
    assert [place.command("warm").stdout for _ in range(2)] == ["queued\n", "queued already\n"]
    assert place.command("warm", "--hub").stdout == "queued\n"
    rows = place.ask("SELECT kind, config, priority, status FROM job ORDER BY id")
    assert [tuple(row) for row in rows] == [("warm", None, 1, "waiting"), ("warm", "hub", 1, "waiting")]


def test_a_command_about_a_database_that_cannot_be_used_says_so(place: Place) -> None:
    (place.data_dir / "sluice.db").write_bytes(b"certainly not a database" * 100)
    done = place.command("clean-queues")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("clean-queues: the database cannot be used")
