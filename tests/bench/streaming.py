"""Speed and memory of the streaming surface, against the bars of streaming.md, section 5.

`python -m tests.bench.streaming [--quick] [--save] [NAME ...]`; report.py says how figures are measured and judged.
"""

import functools
import resource
import sys
from collections.abc import Iterator

from engine.engine import has_kernel
from tests.bench import bare, before, clients, others
from tests.bench.clients import percentile
from tests.bench.records import HELLO, IRIS, PENGUINS, WINE, arrow_file_of, file_of, one_of
from tests.bench.report import (
    MIB,
    Bar,
    Bench,
    Figure,
    Lines,
    cpu_seconds,
    cpu_seconds_of,
    grown_most,
    lines_of,
    main,
    replicas_rss,
    server,
)
from tests.serving import Server

SINGLES_PER_SECOND = 20
SLOW_READER_BYTES_PER_SECOND = 5_000_000
HAND_FED_RECORDS = 50
HAND_FED_PAUSE_S = 0.02
LONE_SINGLES = 500
CONNECTIONS = 16
STREAMS_AT_ONCE = 8
NANOSECONDS = 1e9


@functools.cache
def _usual_peak(bench: Bench) -> int:
    """Peak memory (VmHWM) of a fresh server process after 1M records, which c1 and c2 compare with."""
    return _peak_after(bench.count(1_000_000))


def _peak_after(num_records: int) -> int:
    with server() as running:
        clients.stream(running, IRIS, file_of(IRIS, num_records), num_records)
        return running.rss_bytes("VmHWM")


# a, d: one stream against the bare loop


def _bulk(bench: Bench, name: str, model: str, what: str) -> list[Figure]:
    count = bench.count(1_000_000)
    path = file_of(model, count)
    ours, theirs, our_cpu, their_cpu = [], [], [], []
    with server() as running:
        for _ in range(bench.rounds):
            before = cpu_seconds(running)
            ours.append(count / clients.stream(running, model, path, count))
            our_cpu.append(cpu_seconds(running) - before)
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


def measure_a(bench: Bench) -> list[Figure]:
    return _bulk(bench, "a", IRIS, "iris, one stream / bare loop")


def measure_d(bench: Bench) -> list[Figure]:
    return _bulk(bench, "d", HELLO, "HelloWorld, one stream / bare loop")


# b: single predictions


def measure_b1(bench: Bench) -> list[Figure]:
    path = file_of(IRIS, bench.count(1_000_000))
    p99, p50, bulk = [], [], []
    with server() as running, clients.endless_stream(running, IRIS, path):
        single = clients.single(running, IRIS, one_of(IRIS))
        clients.open_loop(running, single, SINGLES_PER_SECOND, 1)  # let the stream begin
        for _ in range(bench.rounds):
            duration_s, before = bench.seconds(20), _records_scored(running)
            seconds = clients.open_loop(running, single, SINGLES_PER_SECOND, duration_s)
            p99.append(percentile(seconds, 99) * 1000)
            p50.append(percentile(seconds, 50) * 1000)
            bulk.append((_records_scored(running) - before) / duration_s)
    rounds = {"p99_ms": p99, "p50_ms": p50, "bulk_records_per_second": bulk}
    what, bar = f"p99 of singles, {SINGLES_PER_SECOND}/s, beside a stream", Bar(50, is_least=False)
    return [Figure("b1", what, "ms", min(p99), None, min(p99), "ms", bar, rounds)]


def _records_scored(server: Server) -> float:
    return server.metric(f'sluice_records_total{{model="{IRIS}",outcome="result"}}')


def measure_b2(bench: Bench) -> list[Figure]:
    path, ours, theirs = file_of(IRIS, bench.count(1_000_000)), [], []
    with server() as running:
        single = clients.single(running, IRIS, one_of(IRIS))
        for _ in range(bench.rounds):
            ours.append(percentile(clients.lone_singles(running, single, LONE_SINGLES), 50) * 1000)
            theirs.append(bare.measure("single", IRIS, path)["p50_s"] * 1000)
    rounds = {"ours": ours, "baseline": theirs}
    bar = Bar(3 * min(theirs) + 1, is_least=False, aim=0.3)
    return [Figure("b2", "p50 of a lone single / bare call", "ms", min(ours), min(theirs), min(ours), "ms", bar, rounds)]


def measure_singles(bench: Bench) -> list[Figure]:
    return [_singles(bench, IRIS), _singles(bench, HELLO)]


def _singles(bench: Bench, model: str) -> Figure:
    with server() as running:
        found = [clients.many_singles(running, model, one_of(model), CONNECTIONS, bench.seconds(5)) for _ in range(bench.rounds)]
    best = max(one["per_second"] for one in found)
    rounds = {key: [one[key] for one in found] for key in found[0]}
    what = f"{model.rpartition('/')[2]}, singles on {CONNECTIONS} connections"
    return Figure("singles", what, "requests/s", best, None, best, "/s", Bar(None, aim=10_000), rounds)


# c: memory


def measure_c1(bench: Bench) -> list[Figure]:
    long, short = _peak_after(bench.count(5_000_000)) / MIB, _usual_peak(bench) / MIB
    bar = Bar(20, is_least=False)
    return [Figure("c1", "server's peak memory, 5M / 1M records", "MiB", long, short, long - short, "MiB more", bar)]


def measure_c2(bench: Bench) -> list[Figure]:
    count = bench.count(1_000_000)
    with server() as running:
        num_lines, seconds = clients.paced_stream(running, IRIS, file_of(IRIS, count), SLOW_READER_BYTES_PER_SECOND)
        peak = running.rss_bytes("VmHWM") / MIB
    if num_lines != count:
        raise clients.Failed(f"{count} records were sent, {num_lines} lines came back")
    usual = _usual_peak(bench) / MIB
    bar, rounds = Bar(40, is_least=False), {"seconds": [seconds]}
    return [Figure("c2", "server's peak, reader of 5 MB/s / curl", "MiB", peak, usual, peak - usual, "MiB more", bar, rounds)]


def measure_c3(bench: Bench) -> list[Figure]:
    few, many = bench.count(100_000), bench.count(1_000_000)
    with server() as running:
        for _ in range(bench.rounds):  # one replica alone may answer all of a short stream
            clients.streams(running, IRIS, file_of(IRIS, few // STREAMS_AT_ONCE), few // STREAMS_AT_ONCE, STREAMS_AT_ONCE)
        before = replicas_rss(running)
        clients.stream(running, IRIS, file_of(IRIS, many), many)
        after = replicas_rss(running)
    worst = grown_most(before, after)
    rounds = {"ours": list(after.values()), "baseline": list(before.values())}
    bar, more = Bar(20, is_least=False), after[worst] - before[worst]
    return [Figure("c3", "replica's memory, 1M / 100k records", "MiB", after[worst], before[worst], more, "MiB more", bar, rounds)]


# f: a stream fed by hand


def measure_f(bench: Bench) -> list[Figure]:
    with server() as running:
        found = [clients.hand_fed(running, IRIS, one_of(IRIS), HAND_FED_RECORDS, HAND_FED_PAUSE_S) for _ in range(bench.rounds)]
    slowest = [max(seconds) * 1000 for seconds in found]
    rounds = {"max_ms": slowest} | {f"p{percent}_ms": [percentile(one, percent) * 1000 for one in found] for percent in (50, 99)}
    what = f"slowest answer of {HAND_FED_RECORDS} records fed by hand"
    return [Figure("f", what, "ms", min(slowest), None, min(slowest), "ms", Bar(50, is_least=False), rounds)]


# g: several streams


def measure_g(bench: Bench) -> list[Figure]:
    share = bench.count(250_000)
    whole = share * STREAMS_AT_ONCE
    together, alone, spreads = [], [], []
    with server() as running:
        for _ in range(bench.rounds):
            seconds, each = clients.streams(running, IRIS, file_of(IRIS, share), share, STREAMS_AT_ONCE)
            together.append(whole / seconds)
            spreads.append(max(each) / min(each))
            alone.append(whole / clients.stream(running, IRIS, file_of(IRIS, whole), whole))
    ratio, rounds = max(together) / max(alone), {"ours": together, "baseline": alone}
    spread, bar = {"ours": spreads}, Bar(1.5, is_least=False)
    return [
        Figure("g", "8 streams at once / one stream", "records/s", max(together), max(alone), ratio, "x", Bar(0.9), rounds),
        Figure("g", "slowest / fastest of 8 streams", "x", min(spreads), None, min(spreads), "x", bar, spread),
    ]


# The native kernel, and the code before it


def measure_native(bench: Bench) -> list[Figure]:
    """With the kernel / without it, in turn. The bars are those of the line `before`."""
    if not has_kernel():
        clients.note("native: left out because the kernel is not built here")
        return []
    with server() as ours, server(SLUICE_NATIVE="false") as without:
        figures = [_in_turn(bench, "native", "kernel / Python", ours, without, model) for model in STREAMED]
        return [figure for of_model in figures for figure in of_model]


def measure_before(bench: Bench) -> list[Figure]:
    """This code / the code of before.COMMIT, in turn."""
    with before.checkout() as folder:
        if folder is None:
            return []
        with server() as ours, server(folder) as earlier:
            figures = [_in_turn(bench, "before", "now / before", ours, earlier, model) for model in STREAMED]
            return [*(figure for of_model in figures for figure in of_model), _singles_in_turn(bench, ours, earlier)]


STREAMED = (IRIS, HELLO, WINE, PENGUINS)


def _in_turn(bench: Bench, line: str, what: str, ours: Server, theirs: Server, model: str) -> list[Figure]:
    """Streams of one model through two servers in turn: records per second, and CPU of a record."""
    count, name = bench.count(1_000_000), model.rpartition("/")[2]
    rates: dict[str, list[float]] = {"ours": [], "baseline": []}
    costs: dict[str, list[float]] = {"ours": [], "baseline": []}
    for _ in range(bench.rounds):
        for side, running in (("ours", ours), ("baseline", theirs)):
            used = cpu_seconds(running)
            rates[side].append(count / clients.stream(running, model, file_of(model, count), count))
            costs[side].append((cpu_seconds(running) - used) / count * NANOSECONDS)
    fast, slow, cheap, dear = max(rates["ours"]), max(rates["baseline"]), min(costs["ours"]), min(costs["baseline"])
    is_iris, is_judged = model == IRIS, line == "before"
    rate_bar = Bar((1.8 if is_iris else 1.4) if is_judged else None)
    cost_bar = Bar(0.5 if is_iris and is_judged else None, is_least=False)
    return [
        Figure(line, f"{name}, {what}", "records/s", fast, slow, fast / slow, "x", rate_bar, rates),
        Figure(line, f"{name}, CPU of a record", "ns", cheap, dear, cheap / dear, "x", cost_bar, costs),
    ]


def _singles_in_turn(bench: Bench, ours: Server, theirs: Server) -> Figure:
    rates: dict[str, list[float]] = {"ours": [], "baseline": []}
    for _ in range(bench.rounds):
        for side, running in (("ours", ours), ("baseline", theirs)):
            found = clients.many_singles(running, IRIS, one_of(IRIS), others.SINGLES_CONNECTIONS, bench.seconds(5))
            rates[side].append(found["per_second"])
    fast, slow = max(rates["ours"]), max(rates["baseline"])
    what = f"iris, singles on {others.SINGLES_CONNECTIONS} connections, now / before"
    return Figure("before", what, "requests/s", fast, slow, fast / slow, "x", Bar(1.5), rates)


def measure_cost(bench: Bench) -> list[Figure]:
    """CPU nanoseconds of a record of iris in each process."""
    count = bench.count(1_000_000)
    with server() as running:
        found: dict[str, list[float]] = {"server process": [], "replicas": [], "curl": []}
        for _ in range(bench.rounds):
            before = _cpu_by_process(running)
            clients.stream(running, IRIS, file_of(IRIS, count), count)
            for process, seconds in _cpu_by_process(running).items():
                found[process].append((seconds - before[process]) / count * NANOSECONDS)
    bar = Bar(None, is_least=False)
    return [
        Figure("cost", f"CPU of a record of iris, {process}", "ns", min(each), None, min(each), "ns", bar, {"ours": each})
        for process, each in found.items()
    ]


def _cpu_by_process(running: Server) -> dict[str, float]:
    ours = cpu_seconds_of(running.process.pid)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # of curl: the servers have not ended
    return {"server process": ours, "replicas": cpu_seconds(running) - ours, "curl": ended.ru_utime + ended.ru_stime}


# Arrow


def measure_arrow(bench: Bench) -> list[Figure]:
    """Record batches in and out / lines in and out, in turn: a table in parts, and a whole data frame as one record batch."""
    count = bench.count(1_000_000)
    lines, sizes = file_of(IRIS, count), {"8,192 rows a batch": 8192, "65,536 rows": 65_536, "one batch": count}
    files = {what: arrow_file_of(IRIS, count, size) for what, size in sizes.items()}
    ours: dict[str, list[float]] = {what: [] for what in files}
    costs: dict[str, list[float]] = {what: [] for what in files}
    theirs, their_costs = [], []
    with server() as running:
        for path in files.values():  # each replica has pyarrow then
            clients.arrow_stream(running, IRIS, path, count)
        for _ in range(bench.rounds):
            before = cpu_seconds(running)
            theirs.append(count / clients.stream(running, IRIS, lines, count))
            their_costs.append((cpu_seconds(running) - before) / count * NANOSECONDS)
            for what, path in files.items():
                before = cpu_seconds(running)
                ours[what].append(count / clients.arrow_stream(running, IRIS, path, count))
                costs[what].append((cpu_seconds(running) - before) / count * NANOSECONDS)
    return [figure for what in files for figure in _arrow(what, ours[what], theirs, costs[what], their_costs)]


def _arrow(what: str, ours: list[float], theirs: list[float], costs: list[float], their_costs: list[float]) -> Iterator[Figure]:
    rates, cpu = {"ours": ours, "baseline": theirs}, {"ours": costs, "baseline": their_costs}
    bar = Bar(3.0 if what.startswith("8,192") else None)
    yield Figure(
        "arrow", f"iris, Arrow ({what}) / lines", "records/s", max(ours), max(theirs), max(ours) / max(theirs), "x", bar, rates
    )
    ratio, least = min(costs) / min(their_costs), Bar(None, is_least=False)
    yield Figure("arrow", f"CPU of a record ({what})", "ns", min(costs), min(their_costs), ratio, "x", least, cpu)


# Other servers


def measure_litserve(bench: Bench) -> list[Figure]:
    python = others.litserve_python()
    if python is None:
        return []
    duration_s = bench.seconds(5)
    singles = others.litserve_singles(python, duration_s)["per_second"]
    many = others.litserve_records_per_second(python, duration_s)
    count, path = bench.count(1_000_000), file_of(IRIS, bench.count(1_000_000))
    with server() as running:
        our_singles = clients.many_singles(running, IRIS, one_of(IRIS), CONNECTIONS, duration_s)["per_second"]
        our_bulk = count / clients.stream(running, IRIS, path, count)
    return [
        Figure("litserve", "iris singles / LitServe's", "requests/s", our_singles, singles, our_singles / singles, "x", Bar(None)),
        Figure("litserve", "iris stream / LitServe, 512 a request", "records/s", our_bulk, many, our_bulk / many, "x", Bar(None)),
    ]


def measure_fastapi(bench: Bench) -> list[Figure]:
    """Single predictions / those of FastAPI on two workers of uvicorn, on 64 connections."""
    python = others.fastapi_python()
    if python is None:
        return []
    ours, theirs, duration_s = [], [], bench.seconds(5)
    with server() as running:
        for _ in range(bench.rounds):
            found = clients.many_singles(running, IRIS, one_of(IRIS), others.SINGLES_CONNECTIONS, duration_s)
            ours.append(found["per_second"])
            theirs.append(others.fastapi_singles(python, duration_s))
    what = f"iris, singles on {others.SINGLES_CONNECTIONS} connections / FastAPI's"
    return [_against("fastapi", what, "requests/s", ours, theirs, Bar(1.0))]


def measure_mlserver(bench: Bench) -> list[Figure]:
    """Records of a stream / those of MLServer in bare tensors, without ids, times or errors of their own.

    Neither client keeps the answers.
    """
    python = others.mlserver_python()
    if python is None:
        return []
    ours, theirs, count = [], [], bench.count(1_000_000)
    path = file_of(IRIS, count)
    with server() as running:
        for _ in range(bench.rounds):
            ours.append(count / clients.discarded_stream(running, IRIS, path, count))
            theirs.append(others.mlserver_records_per_second(python, bench.seconds(5)))
    return [_against("mlserver", "iris, one stream / MLServer's bare tensors", "records/s", ours, theirs, Bar(1.0))]


def _against(name: str, what: str, unit: str, ours: list[float], theirs: list[float], bar: Bar) -> Figure:
    ratio = max(ours) / max(theirs)
    return Figure(name, what, unit, max(ours), max(theirs), ratio, "x", bar, {"ours": ours, "baseline": theirs})


LINES: Lines = lines_of(
    measure_a,
    measure_b1,
    measure_b2,
    measure_c1,
    measure_c2,
    measure_c3,
    measure_d,
    measure_f,
    measure_g,
    measure_singles,
    measure_native,
    measure_before,
    measure_cost,
    measure_arrow,
    measure_litserve,
    measure_fastapi,
    measure_mlserver,
)


if __name__ == "__main__":
    sys.exit(main("streaming", LINES))
