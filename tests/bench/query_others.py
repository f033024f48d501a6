"""What queries are compared with, each in a process of its own without HTTP or JSON: deeplake, DuckDB, and a floor of bare numpy.

A program: `python query_others.py NAME VECTORS QUERIES` loads the vectors, writes `ready`, and for each line on its stdin asks
every query once and writes the median in seconds. `python query_others.py ingest LINES FOLDER` writes Parquet files in a bare loop.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RIVALS_PYTHON = ROOT / ".venv-rivals" / "bin" / "python"
# The numeric libraries of a rival may use both cores; the floor has one thread.
THREADS = {"deeplake": 2, "duckdb": 2, "numpy": 1}
BEST = 5
BLOCK_BYTES = 1024 * 1024


class Other:
    """A running rival. `median_s` asks all queries once."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._line()

    def median_s(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a rival has ended with {self._process.wait()}")
        return line


def python_of(name: str) -> str | None:
    """The interpreter that has this rival; None when it is not installed."""
    if name == "deeplake":
        found = any(RIVALS_PYTHON.parent.parent.glob("lib/python*/site-packages/deeplake"))
        return str(RIVALS_PYTHON) if found else None
    return sys.executable


@contextlib.contextmanager
def running(name: str, vectors: Path, queries: Path) -> Iterator[Other]:
    """Start a rival and let it load the vectors; the caller has asked `python_of` whether it is installed."""
    python = python_of(name)
    assert python is not None
    threads = str(THREADS[name])
    process = subprocess.Popen(
        [python, __file__, name, str(vectors), str(queries)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Other(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def bare_ingest(lines: Path) -> float:
    """Seconds of a bare loop that writes these lines as Parquet."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        command = [sys.executable, __file__, "ingest", str(lines), folder]
        return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


# What runs in the other process

Ask = Callable[[Any], Any]


def deeplake(vectors: Any, folder: str) -> Ask:
    import deeplake as library  # only in the rivals' environment

    dataset = library.create(f"file://{folder}/rows")
    dataset.add_column("text", library.types.Text())
    dataset.add_column("embedding", library.types.Embedding(vectors.shape[1]))
    dataset.append({"text": [f"text {i}" for i in range(len(vectors))], "embedding": vectors})
    dataset.commit()

    def ask(query: Any) -> Any:
        array = f"ARRAY[{','.join(map(str, query.tolist()))}]"
        text = f"select * from (select text, cosine_similarity(embedding, {array}) as score) order by score desc limit {BEST}"
        view = dataset.query(text)
        return list(view["text"][:]), list(view["score"][:])

    return ask


def duckdb(vectors: Any, folder: str) -> Ask:
    import duckdb as library
    import pyarrow

    connection = library.connect(config={"threads": THREADS["duckdb"]})
    dim = vectors.shape[1]
    stored = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), dim)
    connection.register("given", pyarrow.table({"text": [f"text {i}" for i in range(len(vectors))], "embedding": stored}))
    connection.execute(f"create table rows as select text, embedding::FLOAT[{dim}] as embedding from given")

    def ask(query: Any) -> Any:
        array = f"[{','.join(map(str, query.tolist()))}]::FLOAT[{dim}]"
        text = f"select text, array_cosine_similarity(embedding, {array}) as score from rows order by score desc limit {BEST}"
        return connection.execute(text).fetchall()

    return ask


def numpy(vectors: Any, folder: str) -> Ask:
    import numpy as library

    texts = [f"text {i}" for i in range(len(vectors))]

    def ask(query: Any) -> Any:
        scores = vectors @ query
        best = library.argpartition(-scores, BEST)[:BEST]
        return [(texts[i], float(scores[i])) for i in best[library.argsort(-scores[best])]]

    return ask


def serve(name: str, vectors: str, queries: str) -> None:
    import numpy as library

    makers = {"deeplake": deeplake, "duckdb": duckdb, "numpy": numpy}
    stored, asked = library.load(vectors), library.load(queries)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        ask = makers[name](stored, folder)
        for query in asked[:10]:
            ask(query)
        print("ready", flush=True)
        for _ in sys.stdin:
            print(statistics.median(_seconds(ask, query) for query in asked), flush=True)


def _seconds(ask: Ask, query: Any) -> float:
    started = time.perf_counter()
    ask(query)
    return time.perf_counter() - started


def ingest(lines: str, folder: str) -> None:
    import orjson
    import pyarrow
    import pyarrow.parquet

    started = time.perf_counter()
    with open(lines, "rb") as file:
        number = 0
        while block := file.readlines(BLOCK_BYTES):
            table = pyarrow.Table.from_pylist([orjson.loads(line) for line in block])
            pyarrow.parquet.write_table(table, f"{folder}/{number}.parquet", compression="zstd")
            number += 1
    print(json.dumps(time.perf_counter() - started))


if __name__ == "__main__":
    if sys.argv[1] == "ingest":
        ingest(*sys.argv[2:])
    else:
        serve(*sys.argv[1:])
