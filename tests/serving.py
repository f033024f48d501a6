"""A real server for tests and benchmarks, with its own process, its own data directory and a free port."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import requests

from server.config import Settings

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"server listening address=(\S+)")
START_TIMEOUT_S = 60


def clean_environment() -> dict[str, str]:
    """The environment of the tests without settings, also those that it may have for somebody else under an older name."""
    older = {setting.metadata["older"] for setting in fields(Settings)}
    return {name: value for name, value in os.environ.items() if name not in older and not name.startswith("SLUICE_")}


class Server:
    """One running server. A client needs its `url` and its `auth` (user, key).

    program     the arguments of Python that start it
    executable  that Python
    """

    program: tuple[str, ...] = ("-m", "server")
    executable: str = sys.executable

    def __init__(self, data_dir: Path, settings: dict[str, str], checkout: Path = ROOT) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        environment = clean_environment()
        environment |= {"SLUICE_PORT": "0", "SLUICE_DATA_DIR": str(data_dir), **settings}
        self._log = self.log_path.open("wb")
        self.process = subprocess.Popen(
            [self.executable, *self.program], cwd=checkout, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self.url = self._wait_for_address()
            self._wait_until_ready()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        self.key = (data_dir / "admin.key").read_text().strip()
        self.auth = ("admin", self.key)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def model(self, path: str) -> str:
        """The URL of `owner/name`."""
        owner, name = path.split("/")
        return f"{self.url}/{owner}/models/{name}"

    def replica_pids(self) -> list[int]:
        """Process ids of the running replicas, oldest first."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "engine.tasks"], capture_output=True, text=True, check=False
        )
        return sorted(map(int, found.stdout.split()), key=_started_at)

    def metric(self, name: str) -> float:
        """The value of one series, named with its labels as /metrics shows it; 0 when it is missing."""
        return self.metrics().get(name, 0.0)

    def metrics(self) -> dict[str, float]:
        """Every series at one moment, named with its labels as /metrics shows it."""
        lines = requests.get(f"{self.url}/metrics", auth=self.auth, timeout=10).text.splitlines()
        series = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in series}

    def rss_bytes(self, field: str = "VmRSS") -> int:
        """Memory of the server process now (`VmRSS`), or its peak (`VmHWM`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def forget_peak(self) -> None:
        """Let the peak memory of the server process begin again from what it has now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Send a signal to the server and wait until it ends; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self._log.close()
        return code

    def _wait_for_address(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if match := ADDRESS.search(self.log):
                return match[1]
            select.select([], [], [], 0.05)
        raise RuntimeError(f"the server did not start:\n{self.log}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if requests.get(f"{self.url}/healthcheck", timeout=10).text == "ok":
                return
            select.select([], [], [], 0.05)
        raise RuntimeError(f"no replica became ready:\n{self.log}")


def _started_at(pid: int) -> int:
    """When a process began, in ticks of the machine; 0 when it has ended. Process ids begin anew, so they do not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return 0


@contextmanager
def serving(data_dir: Path, *, checkout: Path = ROOT, **settings: str) -> Iterator[Server]:
    """A server with these settings (`SLUICE_...` names and values), of this checkout or of another. It is killed at the end."""
    data_dir.mkdir(parents=True, exist_ok=True)
    server = Server(data_dir, settings, checkout)
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
