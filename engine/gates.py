"""The gates before a job is taken: whether the machine, or the control group of this process, has load and memory left for it.

Every reading asks the system anew, which takes about 50 microseconds. Where it tells nothing that can be used, the gate is open.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("sluice.gates")

ROOT = Path("/")
# Version 1 of control groups writes a number near 2^63 where there is no limit.
NO_LIMIT_BYTES = 1 << 60


class Gates:
    """Two gates, each of which 0 per cent switches off.

    max_load_pct    the load (the highest of the averages over 1, 5 and 15 minutes) must be below this share of the cores
    max_memory_pct  the memory in use must be below this share of what there is
    """

    def __init__(self, *, max_load_pct: int, max_memory_pct: int, cores: int, root: Path = ROOT) -> None:
        self._max_load_pct = max_load_pct
        self._max_memory_pct = max_memory_pct
        self._cores = cores
        self._root = root
        self._complaints: set[str] = set()

    def are_open(self) -> bool:
        """Whether another job may be taken now."""
        return self._is_below("load", self._max_load_pct, lambda: load_pct(self._cores, self._root)) and self._is_below(
            "memory", self._max_memory_pct, lambda: memory_pct(self._root)
        )

    def _is_below(self, name: str, most_pct: int, read: Callable[[], float]) -> bool:
        if not most_pct:
            return True
        try:
            return read() < most_pct
        except (OSError, ValueError, LookupError, ZeroDivisionError) as error:
            if name not in self._complaints:
                self._complaints.add(name)
                log.warning("gate stays open gate=%s reason=%r", name, str(error))
            return True


def load_pct(cores: int, root: Path = ROOT) -> float:
    """The load in per cent of these cores. OSError, ValueError when the system does not tell."""
    averages = [float(word) for word in (root / "proc/loadavg").read_text().split()[:3]]
    return 100 * max(averages) / cores


def memory_pct(root: Path = ROOT) -> float:
    """The memory in use, in per cent of what there is for us. OSError, ValueError, LookupError when the system does not tell."""
    used_bytes, limit_bytes = _of_group_v2(root) or _of_group_v1(root) or _of_machine(root)
    return 100 * used_bytes / limit_bytes


def _of_group_v2(root: Path) -> tuple[int, int] | None:
    """Used and allowed bytes of the control group, without files that were read; None when there is no group, or no limit."""
    folder = root / "sys/fs/cgroup"
    try:
        limit = (folder / "memory.max").read_text().strip()
    except OSError:
        return None
    if limit == "max":
        return None
    used_bytes = int((folder / "memory.current").read_text())
    return used_bytes - _counted(folder / "memory.stat", "inactive_file"), int(limit)


def _of_group_v1(root: Path) -> tuple[int, int] | None:
    """The same for version 1 of control groups."""
    folder = root / "sys/fs/cgroup/memory"
    try:
        limit_bytes = int((folder / "memory.limit_in_bytes").read_text())
    except OSError:
        return None
    if limit_bytes >= NO_LIMIT_BYTES:
        return None
    used_bytes = int((folder / "memory.usage_in_bytes").read_text())
    return used_bytes - _counted(folder / "memory.stat", "total_inactive_file"), limit_bytes


def _counted(stat: Path, name: str) -> int:
    """One number of a file of lines `name number`."""
    return int(dict(line.split() for line in stat.read_text().splitlines())[name])


def _of_machine(root: Path) -> tuple[int, int]:
    """Memory and swap of the machine, in kB."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE))
    all_kb = int(found["MemTotal"]) + int(found["SwapTotal"])
    return all_kb - int(found["MemAvailable"]) - int(found["SwapFree"]), all_kb
