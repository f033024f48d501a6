"""What all benchmarks share: the bars, the figures, the table, baseline.json and the command line.

A benchmark writes a table to stderr and JSON to stdout, and its exit code is 1 when a figure misses its bar. Every ratio compares
with a baseline of the same run: rounds alternate (ours, theirs, ours, ...), and the best of each side counts. --quick is a smoke
test: it shows figures but does not judge them.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench import clients
from tests.serving import ROOT, Server, serving

MIB = 1024 * 1024
BASELINE = Path(__file__).with_name("baseline.json")
PACKAGES = ("aiohttp", "duckdb", "numpy", "onnxruntime", "orjson", "pyarrow", "sqlglot", "tokenizers", "ujson", "uvloop")


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach: at least or at most `limit`; None accepts everything. `aim` is only shown beside it."""

    limit: float | None
    is_least: bool = True
    aim: float | None = None

    def holds(self, figure: float) -> bool:
        return self.limit is None or (figure >= self.limit if self.is_least else figure <= self.limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    ours, baseline  in `unit`; baseline is None when there is nothing to compare with
    judged          the value that is compared with the bar, in `judged_unit`: a ratio, a difference, or `ours` itself
    rounds          the figures of every round, ours and theirs, for readers who doubt the best one
    """

    name: str
    what: str
    unit: str
    ours: float
    baseline: float | None
    judged: float
    judged_unit: str
    bar: Bar
    rounds: dict[str, list[float]] = field(default_factory=dict)
    load_average: float = 0.0

    @property
    def is_ok(self) -> bool:
        return self.bar.holds(self.judged)


class Bench:
    """How much a benchmark measures: everything, or a tenth with --quick."""

    def __init__(self, *, is_quick: bool) -> None:
        self.is_quick = is_quick
        self.rounds = 1 if is_quick else 3

    def count(self, num_records: int) -> int:
        return num_records // 10 if self.is_quick else num_records

    def seconds(self, duration_s: float) -> float:
        return duration_s / 5 if self.is_quick else duration_s


Measure = Callable[[Bench], list[Figure]]
Lines = dict[str, Measure]


def lines_of(*measures: Measure) -> Lines:
    """The lines of a benchmark by name: the function `measure_a` gives the line `a`."""
    return {measure.__name__.removeprefix("measure_"): measure for measure in measures}


# Servers


@contextmanager
def server(checkout: Path = ROOT, **settings: str) -> Iterator[Server]:
    """A fresh server of this checkout or of another, with default settings but for these."""
    with (
        tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder,
        serving(Path(folder) / "data", checkout=checkout, **settings) as running,
    ):
        yield running


def cpu_seconds(server: Server) -> float:
    """CPU seconds that the server process and its replicas have used. On a busy machine they tell more than a clock."""
    return sum(cpu_seconds_of(pid) for pid in (server.process.pid, *server.replica_pids()))


def cpu_seconds_of(pid: int) -> float:
    """CPU seconds that one process has used."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def replicas_rss(server: Server) -> dict[int, float]:
    """Resident memory of each replica, in MiB, by process id."""
    page = os.sysconf("SC_PAGE_SIZE")
    return {pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page / MIB for pid in server.replica_pids()}


def grown_most(before: dict[int, float], after: dict[int, float]) -> int:
    """Process id of the replica whose memory grew most between two `replicas_rss`. Failed when a replica died in between."""
    if before.keys() != after.keys():
        raise clients.Failed("a replica died")
    return max(after, key=lambda pid: after[pid] - before[pid])


# The report


def table(figures: list[Figure], *, is_judged: bool) -> str:
    """The table for people: one line per figure, in columns."""
    rows = [("name", "what", "ours", "baseline", "ratio", "bar", "aim", "ok", "load")]
    rows += [_row(figure, is_judged) for figure in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(figure: Figure, is_judged: bool) -> tuple[str, ...]:
    bar, sign = figure.bar, ">=" if figure.bar.is_least else "<="
    limit = "-" if bar.limit is None else f"{sign} {_number(bar.limit)}"
    is_reached = Bar(bar.aim, bar.is_least).holds(figure.judged)
    aim = "-" if bar.aim is None else f"{_number(bar.aim)} {'reached' if is_reached else 'missed'}"
    ok = "-" if bar.limit is None else "ok" if figure.is_ok else "BELOW" if is_judged else "below"
    baseline = "-" if figure.baseline is None else f"{_number(figure.baseline)} {figure.unit}"
    ours = f"{_number(figure.ours)} {figure.unit}"
    judged = f"{_number(figure.judged)} {figure.judged_unit}"
    return figure.name, figure.what, ours, baseline, judged, limit, aim, ok, f"{figure.load_average:.1f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def report(figures: list[Figure], *, is_quick: bool) -> dict[str, object]:
    """The report for programs and for baseline.json."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "versions": versions,
        "quick": is_quick,
        "figures": [asdict(figure) | {"ok": figure.is_ok} for figure in figures],
    }


def _processor() -> str:
    names = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _measure(bench: Bench, lines: Lines, names: list[str]) -> tuple[list[Figure], list[str]]:
    """Measure the lines with these names, or all lines when there are no names; in the order of the table.

    returns  the figures, and the names of the lines that failed: an hour of other lines is not lost with them
    """
    figures: list[Figure] = []
    failed: list[str] = []
    for name in lines:
        if names and name not in names:
            continue
        clients.note(f"measuring {name} (load average {os.getloadavg()[0]:.1f})")
        try:
            found = lines[name](bench)
        except Exception:
            traceback.print_exc()
            clients.note(f"{name}: failed, so it has no figures")
            failed.append(name)
            continue
        load = os.getloadavg()[0]
        figures += [Figure(**{**asdict(figure), "bar": figure.bar, "load_average": load}) for figure in found]
    return figures, failed


def main(surface: str, lines: Lines) -> int:
    """Run the benchmark of one surface as the command line asks; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.bench.{surface}", description=f"Speed and memory of {surface}.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"lines to measure [all: {' '.join(lines)}]")
    parser.add_argument("--quick", action="store_true", help="measure a tenth of the records in one round, and judge nothing")
    parser.add_argument(
        "--save", action="store_true", help=f"write the surface's part of {BASELINE.name} beside this program, unless a line fails"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(lines):
        parser.error(f"no line is called {', '.join(sorted(unknown))}; choose from {' '.join(lines)}")
    figures, failed = _measure(Bench(is_quick=options.quick), lines, options.names)
    found = report(figures, is_quick=options.quick)
    clients.note(table(figures, is_judged=not options.quick))
    print(json.dumps(found, indent=1))
    if options.save and not failed:
        kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
        BASELINE.write_text(json.dumps(kept | {surface: found}, indent=1, sort_keys=True) + "\n")
    is_reached = options.quick or all(figure.is_ok for figure in figures)
    return 0 if is_reached and not failed else 1
