"""The command `watch`: the server, started again whenever a Python file of it changes. For people who work on Sluice."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("server", "handlers", "engine")
# Looking at the times of 300 files takes 5 ms.
INTERVAL_S = 0.5
DRAIN_S = 2.0


def run(arguments: Sequence[str]) -> int:
    """Run the server with these arguments until a signal; returns exit code 0."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        while True:
            _serve_until_change([sys.executable, "-m", "server", *arguments])
    except KeyboardInterrupt:
        return 0


def _serve_until_change(command: Sequence[str]) -> None:
    """One life of the server. One that has ended by itself, because of a fault in what was changed, waits for the next change."""
    seen = _changed_at()
    with subprocess.Popen(command, start_new_session=True) as server:
        try:
            while (now := _changed_at()) == seen:
                time.sleep(INTERVAL_S)
            changed = {path for path, _ in now ^ seen}
            print(f"changed: {', '.join(sorted(changed))}; starting the server again", file=sys.stderr)
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(DRAIN_S)
            server.terminate()  # the second signal cuts the streams that the first lets go on


def _changed_at() -> set[tuple[str, int]]:
    """Each Python file with the time of its last change."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    found = set()
    for path in paths:
        try:
            found.add((str(path.relative_to(ROOT)), path.stat().st_mtime_ns))
        except FileNotFoundError:  # an editor has just replaced it
            continue
    return found


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
