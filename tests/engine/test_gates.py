"""Before a job is taken, the load and the memory must be below their limits; where the system tells nothing, the gates are open."""

import logging
from pathlib import Path

import pytest

from engine.gates import Gates, memory_pct

MEMINFO = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nSwapTotal: 500 kB\nSwapFree: 500 kB\nHugePages_Total: 0\n"
V2 = {"memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 500\ninactive_file 200\nactive_file 7\n"}
V1 = {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "800", "memory.stat": "inactive_file 1\ntotal_inactive_file 300\n"}
NO_LIMIT = "9223372036854771712"


def machine(
    root: Path, *, load: str = "0.5 1.0 0.2 1/100 5", v2: dict[str, str] | None = None, v1: dict[str, str] | None = None
) -> Path:
    """A folder with the files of a machine, as far as they are looked at."""
    groups = root / "sys/fs/cgroup"
    for folder, files in ((root / "proc", {"loadavg": load, "meminfo": MEMINFO}), (groups, v2), (groups / "memory", v1)):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
    return root


def gates(root: Path, *, load: int = 0, memory: int = 0, cores: int = 2) -> Gates:
    return Gates(max_load_pct=load, max_memory_pct=memory, cores=cores, root=root)


def test_the_highest_of_the_three_averages_counts(tmp_path: Path) -> None:
    machine(tmp_path, load="0.1 1.0 0.3 1/100 5")  # 50 per cent of two cores
    assert not gates(tmp_path, load=50).are_open()
    assert gates(tmp_path, load=51).are_open()


@pytest.mark.parametrize(
    ("v2", "v1", "pct"),
    [
        (V2, V1, 70),
        (V2 | {"memory.max": "max\n"}, None, 40),
        (None, V1, 50),
        (None, V1 | {"memory.limit_in_bytes": NO_LIMIT}, 40),
        (None, None, 40),
    ],
    ids=["v2", "v2 without limit", "v1", "v1 without limit", "machine"],
)
def test_memory_is_that_of_the_group_with_a_limit_else_of_the_machine(
    tmp_path: Path, v2: dict[str, str] | None, v1: dict[str, str] | None, pct: int
) -> None:
    machine(tmp_path, v2=v2, v1=v1)
    assert memory_pct(tmp_path) == pct
    assert not gates(tmp_path, memory=pct).are_open()
    assert gates(tmp_path, memory=pct + 1).are_open()


def test_0_switches_a_gate_off(tmp_path: Path) -> None:
    machine(tmp_path, load="99 99 99 1/100 5")
    assert gates(tmp_path).are_open()
    assert not gates(tmp_path, load=100).are_open()


@pytest.mark.parametrize(
    "broken",
    [{"memory.current": "many"}, {"memory.stat": "nothing"}, {"memory.stat": "anon 5\n"}, {"memory.max": "0"}, {"memory.max": ""}],
)
def test_a_source_that_cannot_be_read_leaves_the_gate_open_and_is_logged_once(
    tmp_path: Path, broken: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    machine(tmp_path, v2=V2 | broken)
    found = gates(tmp_path, memory=1)
    with caplog.at_level(logging.WARNING):
        assert found.are_open()
        assert found.are_open()
    assert [record.message.partition(" reason")[0] for record in caplog.records] == ["gate stays open gate=memory"]


def test_a_machine_without_such_files_leaves_the_gates_open(tmp_path: Path) -> None:
    assert gates(tmp_path, load=1, memory=1).are_open()


def test_this_machine_tells_its_load_and_its_memory() -> None:
    assert 0 < memory_pct() < 100
    assert not Gates(max_load_pct=0, max_memory_pct=1, cores=1).are_open()
