"""Which files running processes open, as strace sees it."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients import until

CALLS = "open,openat,openat2,creat,execve,connect,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat"
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Trace:
    """The calls of the processes that were watched. `calls` is complete when the block has ended."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @property
    def opened(self) -> set[str]:
        """The paths of files that were opened, or that somebody tried to open."""
        opens = [call for call in self.calls if re.search(r"\b(open|openat|openat2|creat)\(", call)]
        return {found[1] for call in opens if (found := PATH.search(call))}

    def of(self, name: str) -> list[str]:
        """The calls of one kind, such as `connect`."""
        return [call for call in self.calls if re.search(rf"\b{name}\w*\(", call)]


def can_trace(pids: list[int]) -> bool:
    """Whether strace is installed and may watch these processes."""
    if shutil.which("strace") is None:
        return False
    probe = subprocess.Popen(["strace", "-qq", "-p", str(pids[0]), "-o", "/dev/null"], stderr=subprocess.DEVNULL)
    try:
        return probe.wait(1) == 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        probe.send_signal(signal.SIGINT)
        probe.wait()


@contextmanager
def traced(pids: list[int], log: Path) -> Iterator[Trace]:
    """Watch these processes, with all of their threads, until the block ends."""
    trace = Trace()
    watched = [argument for pid in pids for argument in ("-p", str(pid))]
    command = ["strace", "-f", "-qq", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(log), *watched]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for pid in pids:
            until(lambda pid=pid: _is_watched(pid), what=f"strace of {pid}")
        yield trace
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    trace.calls = [line for line in log.read_text(errors="replace").splitlines() if "(" in line]


def _is_watched(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0" not in status
