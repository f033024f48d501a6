"""Servers and workers whose jobs of preview wait, die or take too much before their own work begins, as a test says.

A job waits at a gate, a FIFO, until the test lets it through. Nothing of preview is replaced: behind the gate is its own work.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from engine.store.jobs import job_time
from tests.engine.jobs.kinds import open_gate, try_gate
from tests.engine.replicas.families import options
from tests.preview.asking import until
from tests.serving import ROOT, Server, clean_environment

# A job that waits at a gate is taken for one that hangs after this time.
GATE_LIMIT_S = 300
PROGRAM = ("-m", "tests.preview.prelude_program")
SETTINGS = {"SLUICE_MAX_LOAD_PCT": "0", "SLUICE_MAX_MEMORY_PCT": "0", "SLUICE_WORKER_SLEEP_SECONDS": "0.1"}


class PreludeServer(Server):
    """A server that reads the files of `Preludes`."""

    program = PROGRAM


class Preludes:
    """A data directory with its processes, and what jobs of preview do there before their own work."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self._folder = folder / "preludes"
        self._folder.mkdir()
        environment = {**options(folder).environment, "TEST_PRELUDES": str(self._folder)}
        self._settings = {**SETTINGS, **environment, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
        self._servers: list[Server] = []
        self._workers: list[subprocess.Popen[bytes]] = []

    def server(self, **settings: str) -> Server:
        self.data_dir.mkdir(exist_ok=True)
        server = PreludeServer(self.data_dir, {"SLUICE_SCORE_REPLICAS": "1", **self._settings, **settings})
        self._servers.append(server)
        return server

    def worker(self, queue: str, **settings: str) -> "subprocess.Popen[bytes]":
        names = {"SLUICE_DATA_DIR": str(self.data_dir), "WORKER_QUEUE": queue, "SLUICE_JOBS_REPLICAS": "1"}
        environment = {**clean_environment(), **names, **self._settings, **settings}
        process = subprocess.Popen([sys.executable, *PROGRAM, "worker"], cwd=ROOT, env=environment)
        self._workers.append(process)
        return process

    def close(self) -> None:
        for process in self._workers:
            process.kill()
            process.wait()
        for server in self._servers:
            server.stop(signal.SIGKILL)

    # What jobs do first

    def put(self, kind: str, task: str, **arguments: Any) -> None:
        """Jobs of a kind begin with a task of the family `testing`. time_limit_s, memory_bytes: what it is held to."""
        path = self._folder / f"{kind}.json"
        path.with_suffix(".new").write_text(json.dumps({"task": task, **arguments}))
        path.with_suffix(".new").rename(path)

    def clear(self, kind: str) -> None:
        (self._folder / f"{kind}.json").unlink()

    def shut(self, kind: str) -> None:
        """Jobs of a kind wait at a gate."""
        os.mkfifo(self._folder / f"{kind}.gate")
        self.put(kind, "pass_gate", time_limit_s=GATE_LIMIT_S, **self._gate(kind))

    def wait_for_begun(self, kind: str, number: int = 1) -> None:
        """Wait until so many jobs have come to the gate of their kind."""
        mark = self._folder / f"{kind}.mark"
        until(lambda: mark.exists() and len(mark.read_text().splitlines()) >= number)

    def let_through(self, kind: str) -> None:
        """All jobs that wait at a gate go on; the next one waits again."""
        open_gate(self._gate(kind))

    def open(self, kind: str) -> None:
        """All jobs that wait at a gate go on, and no other waits there: who comes now finds a file in its place."""
        self.clear(kind)
        arguments = self._gate(kind)
        before = arguments["gate"] + ".before"
        os.link(arguments["gate"], before)
        Path(arguments["mark"] + ".open").touch()
        os.rename(arguments["mark"] + ".open", arguments["gate"])
        try_gate(arguments | {"gate": before})

    def hold_end(self, kind: str) -> None:
        """From now on, no process hears what jobs of a kind have found."""
        (self._folder / f"{kind}.end").touch()

    def wait_for_held(self, kind: str, number: int = 1) -> None:
        held = self._folder / f"{kind}.held"
        until(lambda: held.exists() and len(held.read_text().splitlines()) >= number)

    def release_end(self, kind: str) -> None:
        (self._folder / f"{kind}.end").unlink()

    def _gate(self, kind: str) -> dict[str, str]:
        return {"gate": str(self._folder / f"{kind}.gate"), "mark": str(self._folder / f"{kind}.mark")}

    # The database

    def ask(self, sql: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(self.data_dir / "sluice.db", timeout=30, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(sql, values).fetchall()

    def grow_silent(self) -> None:
        """Those who work on jobs have given no sign of life for two minutes."""
        self.ask("UPDATE job SET heartbeat_at = ? WHERE status = 'started'", job_time(seconds_ago=120))


@contextmanager
def preluding(folder: Path) -> Iterator[Preludes]:
    preludes = Preludes(folder)
    try:
        yield preludes
    finally:
        preludes.close()
