"""What queries are measured on: seeded unit vectors around 1,000 centres, with texts and a number to filter by.

Everything is made once, always the same, and kept in build/bench/ (git-ignored). Knows nothing of what is measured.
"""

import atexit
import base64
import contextlib
import functools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.packages import Unfetched
from tests import corpora
from tests.bench import clients
from tests.bench.report import server
from tests.bench.texts import CACHE
from tests.serving import Server

DIM = 384
NUM_CENTRES = 1000
# How far a vector is from its centre, compared with the length of the centre.
SPREAD = 0.7
NUM_QUERIES = 50
PARTS = 50
# A join on this column gives each row 50 partners: a million pairs of 20,000 rows.
PARTNERS = 50
LINES_PER_WRITE = 2000


def vectors(count: int) -> np.ndarray:
    """float32 [count, DIM], each of norm 1."""
    path = CACHE / f"vectors-{count}.npy"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new.npy")
        np.save(beside, _made(count, seed=1))
        beside.rename(path)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def queries() -> np.ndarray:
    """float32 [NUM_QUERIES, DIM], around the same centres."""
    return _made(NUM_QUERIES, seed=2)


def _made(count: int, seed: int) -> np.ndarray:
    centres = _unit(np.random.default_rng(0).standard_normal((NUM_CENTRES, DIM), dtype=np.float32))
    random = np.random.default_rng(seed)
    steps = random.standard_normal((count, DIM), dtype=np.float32) * np.float32(SPREAD / np.sqrt(DIM))
    return _unit(centres[random.integers(0, NUM_CENTRES, count)] + steps)


def _unit(found: np.ndarray) -> np.ndarray:
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def texts(count: int) -> list[str]:
    """Explanations of words, again from the first one when they are used up. SystemExit when they cannot be fetched."""
    try:
        corpora.fetch(corpora.WORDNET)
    except Unfetched as error:
        raise SystemExit(f"{error}; do not measure without it") from None
    known = corpora.glosses()
    return [known[i % len(known)] for i in range(count)]


def rows_file(count: int, *, has_vectors: bool) -> Path:
    """A file of rows: n, text, part, partner, and a vector as base64 if asked."""
    path = CACHE / f"rows-{count}-{'vectors' if has_vectors else 'plain'}.ndjson"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        with beside.open("w") as file:
            file.writelines(_lines(count, has_vectors))
        beside.rename(path)
    return path


def _lines(count: int, has_vectors: bool) -> Iterator[str]:
    stored = vectors(count) if has_vectors else None
    for i, text in enumerate(texts(count)):
        row = {"n": i, "text": text, "part": i % PARTS, "partner": i % max(1, count // PARTNERS), "weight": i / 7}
        if stored is not None:
            row["embedding"] = {"b64": base64.b64encode(stored[i].tobytes()).decode(), "dtype": "f32"}
        yield json.dumps(row) + "\n"


@functools.cache
def loaded(count: int) -> Server:
    """A server with the dataset `admin/rows` of this many rows. It runs until the benchmark ends."""
    running = _open.enter_context(server())
    seconds = put(running, "admin/rows", rows_file(count, has_vectors=True), words="text")
    clients.note(f"stored {count} rows with vectors in {seconds:.1f} s")
    return running


_open = contextlib.ExitStack()
atexit.register(_open.close)


def put(running: Server, name: str, path: Path, **options: str) -> float:
    """Make a dataset of the lines of a file with curl; returns the seconds."""
    parameters = "&".join(f"{name}={value}" for name, value in options.items())
    url = f"{running.url}/api/datasets/{name}?{parameters}"
    command = ["curl", "-sS", "--fail-with-body", "-u", ":".join(running.auth), "-H", "Content-Type: application/x-ndjson"]
    started = time.perf_counter()
    done = subprocess.run([*command, "-T", str(path), url], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise clients.Failed(f"the upload was refused: {done.stdout[:300]} {done.stderr[:300]}")
    return seconds
