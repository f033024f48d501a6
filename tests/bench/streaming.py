"""Speed and memory of the streaming surface, against the bars of streaming.md, section 5.

`python -m tests.bench.streaming [--quick] [--save] [NAME ...]`: a table on stderr, JSON on stdout, exit code 1 below a bar. Every
ratio is against a baseline of the same run: three rounds in turn (ours, theirs, ours, ...), the best of each. --quick is a smoke
test with a tenth of the records and one round: its figures are shown, not judged.
"""

import argparse
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench import bare, clients, others
from tests.bench.clients import percentile
from tests.bench.records import HELLO, IRIS, file_of, one_of
from tests.serving import Server, serving

MIB = 1024 * 1024
BASELINE = Path(__file__).with_name("baseline.json")
PACKAGES = ("aiohttp", "numpy", "onnxruntime", "orjson", "ujson", "uvloop")

SINGLES_PER_SECOND = 20
SLOW_READER_BYTES_PER_SECOND = 5_000_000
HAND_FED_RECORDS = 50
HAND_FED_PAUSE_S = 0.02
LONE_SINGLES = 500
CONNECTIONS = 16
STREAMS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach: at least or at most `limit`; None holds always. `aim` is shown beside it and fails nothing."""

    limit: float | None
    is_least: bool = True
    aim: float | None = None

    def holds(self, figure: float) -> bool:
        return self.limit is None or (figure >= self.limit if self.is_least else figure <= self.limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    ours, baseline  in `unit`; baseline None where the bar stands alone
    judged          what is held against the bar, in `judged_unit`: a ratio, a difference, or `ours` itself
    rounds          every round's figure, ours and theirs, for who doubts the best
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
    """How much is measured: all of it, or a tenth."""

    def __init__(self, *, is_quick: bool) -> None:
        self.is_quick = is_quick
        self.rounds = 1 if is_quick else 3

    def count(self, num_records: int) -> int:
        return num_records // 10 if self.is_quick else num_records

    def seconds(self, duration_s: float) -> float:
        return duration_s / 5 if self.is_quick else duration_s

    @functools.cached_property
    def server_peak(self) -> int:
        """VmHWM of a fresh server process after 1M records: what c1 and c2 compare with."""
        return self.peak_after(self.count(1_000_000))

    def peak_after(self, num_records: int) -> int:
        with _server() as server:
            clients.stream(server, IRIS, file_of(IRIS, num_records), num_records)
            return server.rss_bytes("VmHWM")


@contextmanager
def _server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, serving(Path(folder) / "data") as server:
        yield server


# a, d: one stream against the bare loop


def _bulk(bench: Bench, name: str, model: str, what: str) -> list[Figure]:
    count = bench.count(1_000_000)
    path = file_of(model, count)
    ours, theirs, our_cpu, their_cpu = [], [], [], []
    with _server() as server:
        for _ in range(bench.rounds):
            before = _cpu_seconds(server)
            ours.append(count / clients.stream(server, model, path, count))
            our_cpu.append(_cpu_seconds(server) - before)
            found = bare.measure("stream", model, path)
            theirs.append(count / found["seconds"])
            their_cpu.append(found["cpu_seconds"])
    rounds, cpu_rounds = {"ours": ours, "baseline": theirs}, {"ours": our_cpu, "baseline": their_cpu}
    ratio, cpu_ratio = max(ours) / max(theirs), min(their_cpu) / min(our_cpu)
    cpu = "the same in CPU time (server and replicas)"
    return [
        Figure(name, what, "records/s", max(ours), max(theirs), ratio, "x", Bar(1.3, aim=2.0), rounds),
        Figure(name, cpu, "CPU s", min(our_cpu), min(their_cpu), cpu_ratio, "x less", Bar(None), cpu_rounds),
    ]


def _cpu_seconds(server: Server) -> float:
    """Seconds of CPU that the server process and its replicas have used: tells more than a clock on a busy machine."""
    ticks = 0
    for pid in (server.process.pid, *server.replica_pids()):
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(numbers[11]) + int(numbers[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_a(bench: Bench) -> list[Figure]:
    return _bulk(bench, "a", IRIS, "iris, one stream / bare loop")


def measure_d(bench: Bench) -> list[Figure]:
    return _bulk(bench, "d", HELLO, "HelloWorld, one stream / bare loop")


# b: single predictions


def measure_b1(bench: Bench) -> list[Figure]:
    record, path = one_of(IRIS), file_of(IRIS, bench.count(1_000_000))
    p99, p50, bulk = [], [], []
    with _server() as server, clients.endless_stream(server, IRIS, path):
        clients.open_loop(server, IRIS, record, SINGLES_PER_SECOND, 1)  # the stream gets under way
        for _ in range(bench.rounds):
            duration_s, before = bench.seconds(20), _records_scored(server)
            seconds = clients.open_loop(server, IRIS, record, SINGLES_PER_SECOND, duration_s)
            p99.append(percentile(seconds, 99) * 1000)
            p50.append(percentile(seconds, 50) * 1000)
            bulk.append((_records_scored(server) - before) / duration_s)
    rounds = {"p99_ms": p99, "p50_ms": p50, "bulk_records_per_second": bulk}
    what, bar = f"p99 of singles, {SINGLES_PER_SECOND}/s, beside a stream", Bar(50, is_least=False)
    return [Figure("b1", what, "ms", min(p99), None, min(p99), "ms", bar, rounds)]


def _records_scored(server: Server) -> float:
    return server.metric(f'sluice_records_total{{model="{IRIS}",outcome="result"}}')


def measure_b2(bench: Bench) -> list[Figure]:
    path, ours, theirs = file_of(IRIS, bench.count(1_000_000)), [], []
    with _server() as server:
        for _ in range(bench.rounds):
            ours.append(percentile(clients.lone_singles(server, IRIS, one_of(IRIS), LONE_SINGLES), 50) * 1000)
            theirs.append(bare.measure("single", IRIS, path)["p50_s"] * 1000)
    rounds = {"ours": ours, "baseline": theirs}
    bar = Bar(3 * min(theirs) + 1, is_least=False, aim=0.3)
    return [Figure("b2", "p50 of a lone single / bare call", "ms", min(ours), min(theirs), min(ours), "ms", bar, rounds)]


def measure_singles(bench: Bench) -> list[Figure]:
    return [_singles(bench, IRIS), _singles(bench, HELLO)]


def _singles(bench: Bench, model: str) -> Figure:
    with _server() as server:
        found = [clients.many_singles(server, model, one_of(model), CONNECTIONS, bench.seconds(5)) for _ in range(bench.rounds)]
    best = max(one["per_second"] for one in found)
    rounds = {key: [one[key] for one in found] for key in found[0]}
    what = f"{model.rpartition('/')[2]}, singles on {CONNECTIONS} connections"
    return Figure("singles", what, "requests/s", best, None, best, "/s", Bar(None, aim=10_000), rounds)


# c: memory


def measure_c1(bench: Bench) -> list[Figure]:
    long, short = bench.peak_after(bench.count(5_000_000)) / MIB, bench.server_peak / MIB
    bar = Bar(20, is_least=False)
    return [Figure("c1", "server's peak memory, 5M / 1M records", "MiB", long, short, long - short, "MiB more", bar)]


def measure_c2(bench: Bench) -> list[Figure]:
    count = bench.count(1_000_000)
    with _server() as server:
        num_lines, seconds = clients.paced_stream(server, IRIS, file_of(IRIS, count), SLOW_READER_BYTES_PER_SECOND)
        peak = server.rss_bytes("VmHWM") / MIB
    if num_lines != count:
        raise clients.Failed(f"{count} records were sent, {num_lines} lines came back")
    usual = bench.server_peak / MIB
    bar, rounds = Bar(40, is_least=False), {"seconds": [seconds]}
    return [Figure("c2", "server's peak, reader of 5 MB/s / curl", "MiB", peak, usual, peak - usual, "MiB more", bar, rounds)]


def measure_c3(bench: Bench) -> list[Figure]:
    few, many = bench.count(100_000), bench.count(1_000_000)
    with _server() as server:
        clients.stream(server, IRIS, file_of(IRIS, few), few)
        before = _replicas_rss(server)
        clients.stream(server, IRIS, file_of(IRIS, many), many)
        after = _replicas_rss(server)
    if before.keys() != after.keys():
        raise clients.Failed("a replica died")
    worst = max(after, key=lambda pid: after[pid] - before[pid])
    rounds = {"ours": list(after.values()), "baseline": list(before.values())}
    bar, more = Bar(20, is_least=False), after[worst] - before[worst]
    return [Figure("c3", "replica's memory, 1M / 100k records", "MiB", after[worst], before[worst], more, "MiB more", bar, rounds)]


def _replicas_rss(server: Server) -> dict[int, float]:
    """Resident memory of each replica, in MiB, by process id."""
    page = os.sysconf("SC_PAGE_SIZE")
    return {pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page / MIB for pid in server.replica_pids()}


# f: a stream fed by hand


def measure_f(bench: Bench) -> list[Figure]:
    with _server() as server:
        found = [clients.hand_fed(server, IRIS, one_of(IRIS), HAND_FED_RECORDS, HAND_FED_PAUSE_S) for _ in range(bench.rounds)]
    slowest = [max(seconds) * 1000 for seconds in found]
    rounds = {"max_ms": slowest} | {f"p{percent}_ms": [percentile(one, percent) * 1000 for one in found] for percent in (50, 99)}
    what = f"slowest answer of {HAND_FED_RECORDS} records fed by hand"
    return [Figure("f", what, "ms", min(slowest), None, min(slowest), "ms", Bar(50, is_least=False), rounds)]


# g: several streams


def measure_g(bench: Bench) -> list[Figure]:
    share = bench.count(250_000)
    whole = share * STREAMS_AT_ONCE
    together, alone, spreads = [], [], []
    with _server() as server:
        for _ in range(bench.rounds):
            seconds, each = clients.streams(server, IRIS, file_of(IRIS, share), share, STREAMS_AT_ONCE)
            together.append(whole / seconds)
            spreads.append(max(each) / min(each))
            alone.append(whole / clients.stream(server, IRIS, file_of(IRIS, whole), whole))
    ratio, rounds = max(together) / max(alone), {"ours": together, "baseline": alone}
    spread, bar = {"ours": spreads}, Bar(1.5, is_least=False)
    return [
        Figure("g", "8 streams at once / one stream", "records/s", max(together), max(alone), ratio, "x", Bar(0.9), rounds),
        Figure("g", "slowest / fastest of 8 streams", "x", min(spreads), None, min(spreads), "x", bar, spread),
    ]


# Other servers


def measure_litserve(bench: Bench) -> list[Figure]:
    python = others.litserve_python()
    if python is None:
        return []
    duration_s = bench.seconds(5)
    singles = others.litserve_singles(python, duration_s)["per_second"]
    many = others.litserve_records_per_second(python, duration_s)
    count, path = bench.count(1_000_000), file_of(IRIS, bench.count(1_000_000))
    with _server() as server:
        our_singles = clients.many_singles(server, IRIS, one_of(IRIS), CONNECTIONS, duration_s)["per_second"]
        our_bulk = count / clients.stream(server, IRIS, path, count)
    return [
        Figure("litserve", "iris singles / LitServe's", "requests/s", our_singles, singles, our_singles / singles, "x", Bar(None)),
        Figure("litserve", "iris stream / LitServe, 512 a request", "records/s", our_bulk, many, our_bulk / many, "x", Bar(None)),
    ]


LINES: dict[str, Callable[[Bench], list[Figure]]] = {
    "a": measure_a,
    "b1": measure_b1,
    "b2": measure_b2,
    "c1": measure_c1,
    "c2": measure_c2,
    "c3": measure_c3,
    "d": measure_d,
    "f": measure_f,
    "g": measure_g,
    "singles": measure_singles,
    "litserve": measure_litserve,
}


# The report


def table(figures: list[Figure], *, is_judged: bool) -> str:
    """For people: one line a figure, in columns."""
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
    """For programs, and for baseline.json."""
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


def measure(names: list[str], *, is_quick: bool) -> list[Figure]:
    """The lines of these names, all when there are none, in the order of the table."""
    bench = Bench(is_quick=is_quick)
    figures: list[Figure] = []
    for name in LINES:
        if names and name not in names:
            continue
        clients.note(f"measuring {name} (load average {os.getloadavg()[0]:.1f})")
        found = LINES[name](bench)
        load = os.getloadavg()[0]
        figures += [Figure(**{**asdict(figure), "bar": figure.bar, "load_average": load}) for figure in found]
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.streaming", description="Speed and memory of streaming.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"lines to measure, default all: {' '.join(LINES)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the records, one round, nothing judged")
    parser.add_argument("--save", action="store_true", help=f"write {BASELINE.name} beside this program")
    options = parser.parse_args()
    if unknown := set(options.names) - set(LINES):
        parser.error(f"no line is called {', '.join(sorted(unknown))}; there are {' '.join(LINES)}")
    figures = measure(options.names, is_quick=options.quick)
    found = report(figures, is_quick=options.quick)
    clients.note(table(figures, is_judged=not options.quick))
    print(json.dumps(found, indent=1))
    if options.save:
        BASELINE.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if options.quick or all(figure.is_ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
