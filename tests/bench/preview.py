"""Speed and memory of the preview surface, against the bars of preview.md, section 5.

`python -m tests.bench.preview [--quick] [--save] [NAME ...]`; report.py says how figures are measured and judged. What needs a
browser, or a package that is not here, is left out with a note.
"""

import asyncio
import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests

from engine.jobs import job_key
from engine.store import NewJob, Store
from tests import corpora
from tests.bench import bare_parquet, clients, preview_data
from tests.bench.clients import percentile
from tests.bench.preview_data import csv_file, lay, rows, wait_until_quiet
from tests.bench.processes import free_port, running
from tests.bench.records import IRIS, one_of
from tests.bench.report import Bar, Bench, Figure, Lines, lines_of, main, server
from tests.serving import ROOT, Server

CONNECTIONS = 16
SINGLES_PER_SECOND = 20
PROBES = 200
NUM_ENTRIES = 100_000
NUM_WAITING = 20_000
SPLITS_OF_ONE = 10
ROWS = "/rows?dataset=wide&config=default&split=train"


# Cached answers


def measure_cached(bench: Bench) -> list[Figure]:
    """What is cached / a bare handler with the same bytes, on 16 connections."""
    with server() as ours, tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        answer = _wide(ours)
        (Path(folder) / "body").write_bytes(answer.content)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "tests.bench.bare_rows", str(port), f"{folder}/body"]
        with running(command, url + "/small", folder=ROOT):
            kinds = {
                f"/rows, {len(answer.content) // 1000} kB": (ROWS, "/plain", {}),
                "/rows, gzip": (ROWS, "/packed", {"Accept-Encoding": "gzip"}),
                "/rows, 304": (ROWS, "/unmodified", {"Accept-Encoding": "gzip", "If-None-Match": answer.headers["ETag"]}),
                "/is-valid": ("/is-valid?dataset=wide", "/small", {}),
            }
            return [_against_bare(bench, what, ours.url + path, url + bare, sent) for what, (path, bare, sent) in kinds.items()]


def _against_bare(bench: Bench, what: str, our_url: str, bare_url: str, sent: dict[str, str]) -> Figure:
    ours, theirs = [], []
    for _ in range(bench.rounds):
        ours.append(clients.gets_per_second(our_url, sent, CONNECTIONS, bench.seconds(5)))
        theirs.append(clients.gets_per_second(bare_url, sent, CONNECTIONS, bench.seconds(5)))
    ratio, rounds = max(ours) / max(theirs), {"ours": ours, "baseline": theirs}
    return Figure("cached", f"cached {what} / bare handler", "requests/s", max(ours), max(theirs), ratio, "x", Bar(0.7), rounds)


def _wide(running: Server) -> requests.Response:
    """A dataset whose 100 first rows are about 50 kB, all of it made; the answer of `/rows`."""
    folder = running.data_dir / "datasets" / "wide"
    folder.mkdir(parents=True)
    lines = (f"{number},text {number},{'x' * 350}\n" for number in range(200))
    (folder / "train.csv").write_text("n,name,text\n" + "".join(lines))
    answer = rows(running, "wide")
    wait_until_quiet(running)
    return answer


def measure_counters(bench: Bench) -> list[Figure]:
    """`/cache` and `/queue` with 100,000 entries each, asked one after the other. They are counted anew after each commit."""
    number, figures = bench.count(NUM_ENTRIES), []
    with server() as running:
        wait_until_quiet(running)
        _fill_tables(running, number)
        for path in ("/cache", "/queue"):
            p99, p50, anew = [], [], []
            for _ in range(bench.rounds):
                p50.append(_percentile_ms(running, "/healthcheck", 50))
                p99.append(_percentile_ms(running, path, 99))
                anew.append(min(_anew_ms(running, path) for _ in range(5)))
            rounds, bar, ratio = {"p99_ms": p99, "p50_ms": p50}, Bar(20, is_least=False), min(p99) / min(p50)
            what = f"p99 of {path}, {number} entries / p50 of a health check"
            figures.append(Figure("counters", what, "ms", min(p99), min(p50), ratio, "x", bar, rounds))
            what, bar = f"{path} after a commit", Bar(None, is_least=False)
            figures.append(Figure("counters", what, "ms", min(anew), None, min(anew), "ms", bar, {"ms": anew}))
    return figures


def _percentile_ms(running: Server, path: str, percent: float) -> float:
    return percentile(clients.each_of(running, [clients.gotten(running, path)] * PROBES), percent) * 1000


def _anew_ms(running: Server, path: str) -> float:
    preview_data.hook(running, "add", "nothing")
    wait_until_quiet(running)
    return clients.each_of(running, [clients.gotten(running, path)])[0] * 1000


def _fill_tables(running: Server, number: int) -> None:
    """So many splits, and so many jobs that have ended."""
    named = f"WITH RECURSIVE named (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM named WHERE n < {number}) "
    now = "strftime('%Y-%m-%dT%H:%M:%f000', 'now')"
    with closing(sqlite3.connect(running.data_dir / "sluice.db", timeout=60)) as connection, connection:
        connection.execute(
            "INSERT INTO job (kind, key, party, dataset, status, priority, created_at, finished_at) "
            f"{named} SELECT 'split', 'k' || n, 'd' || (n / 10), 'd' || (n / 10), 'success', 0, {now}, {now} FROM named"
        )
        connection.execute(
            "INSERT INTO preview_dataset (name, status, generation, is_private) "
            f"{named} SELECT 'd' || n, 'valid', 1, 0 FROM named WHERE n <= {number // SPLITS_OF_ONE}"
        )
        connection.execute(
            "INSERT INTO preview_split (dataset, config, split, place, status) "
            f"{named} SELECT 'd' || (n / 10), 'default', 's' || n, n, 'valid' FROM named WHERE n < {number}"
        )


def measure_queue(bench: Bench) -> list[Figure]:
    """Milliseconds of one take with many waiting, and many that have ended."""
    figures = []
    for waiting, ended in ((3_000, 20_000), (NUM_WAITING, NUM_ENTRIES)):
        waiting, ended = bench.count(waiting), bench.count(ended)
        took = [asyncio.run(_take_ms(waiting, ended)) for _ in range(bench.rounds)]
        what = f"a take, {waiting} waiting, {ended} ended"
        figures.append(Figure("queue", what, "ms", min(took), None, min(took), "ms", Bar(None, is_least=False), {"ms": took}))
    return figures


async def _take_ms(waiting: int, ended: int) -> float:
    """Median of 50 takes, of parties with 10 jobs each."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        store = await Store.open(Path(folder) / "sluice.db")
        try:
            async with store.transaction() as transaction:
                for number in range(ended + waiting):
                    name = f"d{number // SPLITS_OF_ONE}"
                    await store.add_job(transaction, NewJob("split", job_key("split", name, str(number)), name, name))
                await transaction.run("UPDATE job SET status = 'success' WHERE id <= ?", (ended,))
            seconds = []
            for _ in range(50):
                started = loop.time()
                await store.take_job("bench", ["split"], beside=["split"], most=2)
                seconds.append(loop.time() - started)
        finally:
            await store.close()
    return percentile(seconds, 50) * 1000


# Datasets in


@contextmanager
def _large(bench: Bench) -> Iterator[Server]:
    """A server with `large`, a csv file of 100 MB, and `small`, one of 1 MB."""
    with server() as running:
        lay(running, "small", csv_file(1), "train.csv")
        lay(running, "large", csv_file(bench.count(100)), "train.csv")
        preview_data.seconds_to_rows(running, "small")  # the replicas have started
        yield running


def measure_first(bench: Bench) -> list[Figure]:
    large, small = [], []
    with _large(bench) as running:
        for _ in range(bench.rounds):
            large.append(preview_data.seconds_to_rows(running, "large"))
            small.append(preview_data.seconds_to_rows(running, "small"))
    rounds, ratio = {"ours": large, "baseline": small}, min(large) / min(small)
    what = f"hook to /rows, csv of {bench.count(100)} MB / of 1 MB"
    return [
        Figure("first", what, "s", min(large), min(small), ratio, "x", Bar(3, is_least=False), rounds),
        Figure("first", "the former alone", "s", min(large), None, min(large), "s", Bar(None, is_least=False, aim=1.5), rounds),
    ]


def measure_parquet(bench: Bench) -> list[Figure]:
    ours, theirs = [], []
    with _large(bench) as running:
        for _ in range(bench.rounds):
            ours.append(preview_data.seconds_to_parquet(running, "large"))
            wait_until_quiet(running)
            theirs.append(bare_parquet.measure(csv_file(bench.count(100))))
    bar, rounds = Bar(2.5 * min(theirs) + 1, is_least=False), {"ours": ours, "baseline": theirs}
    what = f"hook to /parquet, csv of {bench.count(100)} MB / bare conversion"
    return [Figure("parquet", what, "s", min(ours), min(theirs), min(ours), "s", bar, rounds)]


# Memory


def measure_memory(bench: Bench) -> list[Figure]:
    with _large(bench) as running:
        wait_until_quiet(running)
        with preview_data.watching_jobs(running) as peaks:
            preview_data.seconds_to_parquet(running, "large")
            wait_until_quiet(running)
    most = max(peaks.values())
    what = f"peak of a jobs replica, csv of {bench.count(100)} MB"
    return [Figure("memory", what, "MiB", most, None, most, "MiB", Bar(256, is_least=False), {"each": list(peaks.values())})]


def measure_flights(bench: Bench) -> list[Figure]:
    if not corpora.VEGA.path.is_file():
        clients.note(
            f"flights: left out because {corpora.VEGA.name} is missing; `python -m tests.corpora {corpora.VEGA.name}` fetches it"
        )
        return []
    with server() as running, preview_data.watching_jobs(running) as peaks:
        wait_until_quiet(running)
        lay(running, "flights", corpora.flights(), "train.parquet")
        rows(running, "flights")
        most = max(peaks.values())
    what, bar = "peak of a jobs replica, first rows of 3,000,000 in Parquet", Bar(200, is_least=False)
    return [Figure("flights", what, "MiB", most, None, most, "MiB", bar, {"each": list(peaks.values())})]


IMPORTS = """
import re, sys
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
import server.config, handlers.datasets, handlers.query, handlers.embeddings, handlers.repository, handlers.streaming.predict
import handlers.publish, handlers.operations, engine.jobs, engine.gates, engine.ingestion, engine.query.queries
before = resident()
import server.preview, handlers.preview
numeric = {"numpy", "pyarrow", "duckdb", "PIL", "yaml", "scipy", "onnxruntime"} & sys.modules.keys()
print(resident() - before, len(numeric))
"""


def measure_imports(bench: Bench) -> list[Figure]:
    """What the surface adds to the server process; a numeric library in it would be a fault."""
    found = []
    for _ in range(bench.rounds):
        done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        more, numeric = done.stdout.split()
        if int(numeric):
            raise clients.Failed("the surface imports a numeric library into the server process")
        found.append(float(more))
    what, bar = "server process, with the surface / without", Bar(5, is_least=False)
    return [Figure("imports", what, "MiB", min(found), None, min(found), "MiB more", bar, {"ours": found})]


# Beside others


def measure_scoring(bench: Bench) -> list[Figure]:
    """Single predictions while a dataset of 100 MB is read, prepared and counted again and again."""
    beside, alone = [], []
    with _large(bench) as running:
        single = clients.single(running, IRIS, one_of(IRIS))
        clients.open_loop(running, single, SINGLES_PER_SECOND, 1)
        for _ in range(bench.rounds):
            wait_until_quiet(running)
            alone.append(_p99_ms(bench, running, single))
            with preview_data.reading_again(running, "large"):
                beside.append(_p99_ms(bench, running, single))
    bar, rounds = Bar(1.5 * min(alone) + 5, is_least=False), {"ours": beside, "baseline": alone}
    what = f"p99 of singles, {SINGLES_PER_SECOND}/s, beside preview jobs / without"
    return [Figure("scoring", what, "ms", min(beside), min(alone), min(beside), "ms", bar, rounds)]


def _p99_ms(bench: Bench, running: Server, single: bytes) -> float:
    return percentile(clients.open_loop(running, single, SINGLES_PER_SECOND, bench.seconds(20)), 99) * 1000


# The page

FIRST_ROW = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("tbody tr td")) return;
  observer.disconnect();
  requestAnimationFrame(() => { window.firstRowAt = performance.now(); });
}).observe(document, { childList: true, subtree: true });
"""


def measure_page(bench: Bench) -> list[Figure]:
    """From the address until the first row of a cached split is drawn, in a new tab each time."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        clients.note("page: left out because playwright is missing; `make .venv/installed-pages` installs it")
        return []
    if (chromium := shutil.which("chromium")) is None:
        clients.note("page: left out because chromium is missing")
        return []
    with server() as running, sync_playwright() as playwright:
        _wide(running)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.getuid() == 0 else [])
        shown = functools.partial(_first_row_ms, browser, f"{running.url}/datasets/wide")
        shown()  # the browser, and the replica that reads rows, have started
        found = [shown() for _ in range(3 * bench.rounds)]
        browser.close()
    bar, rounds = Bar(500, is_least=False), {"ms": found}
    return [Figure("page", "first row of a cached split in Chromium", "ms", min(found), None, min(found), "ms", bar, rounds)]


def _first_row_ms(browser: Any, url: str) -> float:
    context = browser.new_context()
    try:
        page = context.new_page()
        page.add_init_script(FIRST_ROW)
        page.goto(url)
        page.wait_for_selector("tbody tr td")
        return float(page.evaluate("new Promise((done) => requestAnimationFrame(() => done(window.firstRowAt)))"))
    finally:
        context.close()


LINES: Lines = lines_of(
    measure_cached,
    measure_counters,
    measure_queue,
    measure_first,
    measure_parquet,
    measure_memory,
    measure_flights,
    measure_imports,
    measure_scoring,
    measure_page,
)


if __name__ == "__main__":
    sys.exit(main("preview", LINES))
