"""Speed and memory of the embeddings surface, against the bars of embeddings.md, section 5.

`python -m tests.bench.embeddings [--quick] [--save] [NAME ...]`; report.py says how figures are measured and judged. A model whose
weights are missing is left out, with a note.
"""

import functools
import json
import sys
import threading
from pathlib import Path

from tests.bench import bare_embeddings, clients, rivals, texts
from tests.bench.clients import percentile
from tests.bench.report import MIB, Bar, Bench, Figure, Lines, grown_most, lines_of, main, replicas_rss, server
from tests.serving import ROOT, Server

MINILM, MPNET = "sluice/all-MiniLM-L6-v2", "sluice/all-mpnet-base-v2"
OPENAI_NAMES = {MINILM: "all-MiniLM-L6-v2", MPNET: "all-mpnet-base-v2"}
NUM_TEXTS = 4000
# mpnet is seven times slower, and this many texts show the same.
NUM_MPNET_TEXTS = 1000
TEXTS_A_REQUEST, AT_ONCE = 256, 4
LONE_TEXT = "How old are you?"
NUM_LONE = 200
LONE_PER_SECOND = 5
LONGEST_LIST = 2048
# The sentence-transformers folder that the rivals serve; see rivals.py.
FOLDER = ROOT / "build" / "bench" / "all-MiniLM-L6-v2"


@functools.cache
def _file(count: int) -> Path:
    """A file of the first `count` texts as records, one per line."""
    path = texts.CACHE / f"texts-{count}.ndjson"
    if not path.exists():
        lines = (json.dumps({"text": text}) + "\n" for text in texts.texts()[:count])
        path.write_text("".join(lines))
    return path


def _is_here(model: str) -> bool:
    """Whether the weights of a model are here. If not, a note says so."""
    is_here = (ROOT / "models" / model / "1" / "model.onnx").exists()
    if not is_here:
        clients.note(f"{model}: left out because its weights are missing; fetch them with `make models`")
    return is_here


def _warm(running: Server, model: str) -> None:
    """Make every replica open the model, and let the scheduler learn what a text costs."""
    clients.stream(running, model, _file(200), 200)


def _bodies(items: list[str], a_request: int, **more: object) -> list[bytes]:
    parts = [items[first : first + a_request] for first in range(0, len(items), a_request)]
    return [json.dumps({"model": OPENAI_NAMES[MINILM], "input": part, **more}).encode() for part in parts]


def _against_bare(name: str, what: str, ours: list[float], theirs: list[float]) -> Figure:
    rounds = {"ours": ours, "baseline": theirs}
    return Figure(name, f"{what} / bare loop", "texts/s", max(ours), max(theirs), max(ours) / max(theirs), "x", Bar(0.9), rounds)


# a, c, h: streams against the bare loop, and the memory of the server meanwhile


def measure_a(bench: Bench) -> list[Figure]:
    if not _is_here(MINILM):
        return []
    count = bench.count(NUM_TEXTS)
    path, floats, strings, theirs = _file(count), [], [], []
    with server() as running:
        _warm(running, MINILM)
        before = running.rss_bytes() / MIB
        for _ in range(bench.rounds):
            floats.append(count / clients.stream(running, MINILM, path, count))
            theirs.append(bare_embeddings.measure("many", MINILM, path)["per_second"])
            strings.append(count / clients.stream(running, MINILM, path, count, "&encoding_format=base64"))
        peak = running.rss_bytes("VmHWM") / MIB
    return [
        _against_bare("a", "MiniLM, one stream, float", floats, theirs),
        _against_bare("a", "MiniLM, one stream, base64", strings, theirs),
        Figure("h", "server's peak during a / before", "MiB", peak, before, peak - before, "MiB more", Bar(20, is_least=False)),
    ]


def measure_c(bench: Bench) -> list[Figure]:
    if not _is_here(MPNET):
        return []
    count = bench.count(NUM_MPNET_TEXTS)
    path, ours, theirs = _file(count), [], []
    with server() as running:
        _warm(running, MPNET)
        for _ in range(bench.rounds):
            ours.append(count / clients.stream(running, MPNET, path, count))
            theirs.append(bare_embeddings.measure("many", MPNET, path)["per_second"])
    return [_against_bare("c", f"mpnet, one stream of {count}", ours, theirs)]


# b, f: requests


def measure_b(bench: Bench) -> list[Figure]:
    if not _is_here(MINILM):
        return []
    count = bench.count(NUM_TEXTS)
    bodies, ours, theirs = _bodies(texts.texts()[:count], TEXTS_A_REQUEST), [], []
    with server() as running:
        _warm(running, MINILM)
        for _ in range(bench.rounds):
            ours.append(count / clients.requests_at_once(f"{running.url}/v1/embeddings", bodies, AT_ONCE, {}))
            theirs.append(bare_embeddings.measure("many", MINILM, _file(count))["per_second"])
    return [_against_bare("b", f"/v1/embeddings, {TEXTS_A_REQUEST} a request, {AT_ONCE} at once", ours, theirs)]


def measure_f(bench: Bench) -> list[Figure]:
    known = {
        "infinity": (rivals.infinity_python(), rivals.infinity, 1.0),
        "sentence-transformers": (rivals.sentence_transformers_python(), rivals.sentence_transformers, 1.5),
    }
    figures = []
    count = bench.count(NUM_TEXTS)
    bodies = _bodies(texts.texts()[:count], TEXTS_A_REQUEST)
    for name, (python, running_rival, bar) in known.items():
        if python is None or not _is_here(MINILM):
            continue
        ours, theirs = [], []
        with server() as running, running_rival(python, FOLDER) as url:
            _warm(running, MINILM)
            clients.requests_at_once(url, bodies[:1], 1, {})
            for _ in range(bench.rounds):
                ours.append(count / clients.requests_at_once(f"{running.url}/v1/embeddings", bodies, AT_ONCE, {}))
                theirs.append(count / clients.requests_at_once(url, bodies, AT_ONCE, {}))
        rounds, ratio = {"ours": ours, "baseline": theirs}, max(ours) / max(theirs)
        figures.append(Figure("f", f"the same requests / {name}", "texts/s", max(ours), max(theirs), ratio, "x", Bar(bar), rounds))
    return figures


# d, e: lone texts


def measure_d(bench: Bench) -> list[Figure]:
    if not _is_here(MINILM):
        return []
    path, ours, theirs = texts.CACHE / "lone.ndjson", [], []
    path.write_text(json.dumps({"text": LONE_TEXT}) + "\n")
    with server() as running:
        _warm(running, MINILM)
        for _ in range(bench.rounds):
            ours.append(percentile(clients.lone_singles(running, _lone(running), bench.count(NUM_LONE)), 50) * 1000)
            theirs.append(bare_embeddings.measure("lone", MINILM, path)["p50_s"] * 1000)
    rounds, bar = {"ours": ours, "baseline": theirs}, Bar(1.3 * min(theirs) + 2, is_least=False)
    return [Figure("d", "p50 of a lone text / bare call", "ms", min(ours), min(theirs), min(ours), "ms", bar, rounds)]


def _lone(running: Server) -> bytes:
    return clients.posted(running, "/embeddings", json.dumps({"model": OPENAI_NAMES[MINILM], "input": LONE_TEXT}).encode())


def measure_e(bench: Bench) -> list[Figure]:
    if not _is_here(MINILM):
        return []
    p99, p50 = [], []
    with server() as running, clients.endless_stream(running, MINILM, _file(NUM_TEXTS)):
        clients.open_loop(running, _lone(running), LONE_PER_SECOND, 2)  # let the stream begin
        for _ in range(bench.rounds):
            seconds = clients.open_loop(running, _lone(running), LONE_PER_SECOND, bench.seconds(20))
            p99.append(percentile(seconds, 99) * 1000)
            p50.append(percentile(seconds, 50) * 1000)
    what, bar = f"p99 of lone texts, {LONE_PER_SECOND}/s, beside a stream", Bar(100, is_least=False)
    return [Figure("e", what, "ms", min(p99), None, min(p99), "ms", bar, {"p99_ms": p99, "p50_ms": p50})]


# g: memory of a replica


def measure_g(bench: Bench) -> list[Figure]:
    """The memory of a replica that embeds texts of 2 to 300 words."""
    if not _is_here(MINILM):
        return []
    few, many = bench.count(400), bench.count(NUM_TEXTS)
    with server() as running:
        clients.stream(running, MINILM, _mixed_file(few), few)
        before = replicas_rss(running)
        clients.stream(running, MINILM, _mixed_file(many), many)
        after = replicas_rss(running)
    worst = grown_most(before, after)
    more, bar = after[worst] - before[worst], Bar(60, is_least=False)
    return [Figure("g", f"replica's memory, {many} / {few} mixed texts", "MiB", after[worst], before[worst], more, "MiB more", bar)]


@functools.cache
def _mixed_file(count: int) -> Path:
    """Texts of all lengths: each is made of 1 to 30 short texts."""
    path, short = texts.CACHE / f"mixed-{count}.ndjson", texts.texts()
    lines = (json.dumps({"text": " ".join(short[i : i + 1 + i % 30])}) + "\n" for i in range(count))
    path.write_text("".join(lines))
    return path


# i: a long list


def measure_i(bench: Bench) -> list[Figure]:
    if not _is_here(MINILM):
        return []
    count = bench.count(LONGEST_LIST)
    (body,) = _bodies(texts.texts()[:count], count)
    listed, streamed, beside = [], [], []
    with server() as running:
        _warm(running, MINILM)
        for _ in range(bench.rounds):
            listed.append(clients.requests_at_once(f"{running.url}/v1/embeddings", [body], 1, {}))
            streamed.append(clients.stream(running, MINILM, _file(count), count))
            beside.append(_slowest_lone_beside(running, body) * 1000)
    rounds, bar = {"ours": listed, "baseline": streamed}, Bar(1.2, is_least=False)
    what, ratio = f"{count} texts in one request / streamed", min(listed) / min(streamed)
    beside_what, beside_bar = f"slowest lone text beside such a request (p50 of {bench.rounds})", Bar(100, is_least=False)
    typical = percentile(beside, 50)
    return [
        Figure("i", what, "s", min(listed), min(streamed), ratio, "x", bar, rounds),
        Figure("i", beside_what, "ms", typical, None, typical, "ms", beside_bar, {"max_ms": beside}),
    ]


def _slowest_lone_beside(running: Server, body: bytes) -> float:
    """Send lone texts, one after the other, while the request runs; returns the seconds of the slowest."""
    slowest = 0.0
    url = f"{running.url}/v1/embeddings"
    request = threading.Thread(target=clients.requests_at_once, args=(url, [body], 1, {}))
    request.start()
    while request.is_alive():
        slowest = max(slowest, *clients.lone_singles(running, _lone(running), 1))
    request.join()
    return slowest


LINES: Lines = lines_of(measure_a, measure_b, measure_c, measure_d, measure_e, measure_f, measure_g, measure_i)


if __name__ == "__main__":
    sys.exit(main("embeddings", LINES))
