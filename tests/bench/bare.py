"""The bare loops that streams and singles are compared with: one process, no server (streaming.md, section 5).

A program of its own, so that every round begins in a fresh process: `python -m tests.bench.bare stream|single MODEL FILE`.
It prints one JSON object. It is written as a person would write such a script by hand: ujson.loads for each line, numpy, one run
per 512 records on one thread, and for each line ujson.dumps of an object with the same seven keys. The figures include reading the
file and joining the output, but neither imports nor opening the model.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import ujson

ROOT = Path(__file__).resolve().parent.parent.parent
BATCH = 512
NUM_SINGLES = 2000
LABELS = ("setosa", "versicolor", "virginica")
BULK_ID = "250863ffc05e62f7bfb04bc2dc62ca5f"

Run = Callable[[list[dict[str, Any]]], list[Any]]


def measure(kind: str, model: str, path: Path) -> dict[str, Any]:
    """Run this program in a fresh process; returns what it printed."""
    command = [sys.executable, "-m", "tests.bench.bare", kind, model, str(path)]
    return ujson.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def stream(model: str, path: Path) -> dict[str, Any]:
    """Score a whole file. Returns the number of records, the seconds and the CPU seconds."""
    run, name = results_of(model), model.rpartition("/")[2]
    started, cpu_started = time.perf_counter(), time.process_time()
    lines = path.read_bytes().splitlines()
    output: list[str] = []
    for first in range(0, len(lines), BATCH):
        start_time = now()
        records = [ujson.loads(line) for line in lines[first : first + BATCH]]
        results = run(records)
        end_time = now()
        for record, result in zip(records, results, strict=True):
            answer = {
                "bulk_id": BULK_ID,
                "end_time": end_time,
                "result": result,
                "start_time": start_time,
                "version": 1,
                "yhat_id": record["yhat_id"],
                "yhat_model": name,
            }
            output.append(ujson.dumps(answer))
    body = "\n".join(output)  # ASCII only, because ujson escapes all other characters: one character is one byte
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return {"records": len(lines), "seconds": seconds, "cpu_seconds": cpu_seconds, "bytes_out": len(body)}


def single(model: str, path: Path) -> dict[str, Any]:
    """Score one record again and again. Returns the median seconds of one call."""
    run, name = results_of(model), model.rpartition("/")[2]
    body = path.read_bytes().splitlines()[0]
    seconds = []
    for _ in range(NUM_SINGLES):
        started = time.perf_counter()
        record = ujson.loads(body)
        answer = {"result": run([record])[0], "version": 1, "yhat_id": record["yhat_id"], "yhat_model": name}
        ujson.dumps(answer).encode()
        seconds.append(time.perf_counter() - started)
    return {"p50_s": statistics.median(seconds)}


def results_of(model: str) -> Run:
    """The function from records to results for this model."""
    session = _session(model)
    return {"sluice/iris": _iris, "brandon/HelloWorld": _hello}[model](session)


def _session(model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = ROOT / "models" / model / "1" / "model.onnx"
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _iris(session: onnxruntime.InferenceSession) -> Run:
    def run(records: list[dict[str, Any]]) -> list[Any]:
        rows = [[one["sepal_length"], one["sepal_width"], one["petal_length"], one["petal_width"]] for one in records]
        labels, probabilities = session.run(None, {"X": np.array(rows, dtype=np.float32)})
        pairs = zip(labels.tolist(), probabilities.tolist(), strict=True)
        return [{"label": LABELS[label], "probabilities": row} for label, row in pairs]

    return run


def _hello(session: onnxruntime.InferenceSession) -> Run:
    def run(records: list[dict[str, Any]]) -> list[Any]:
        names = np.array([one["name"] for one in records], dtype=object)
        (greetings,) = session.run(None, {"name": names})
        return [{"greeting": greeting} for greeting in greetings.tolist()]

    return run


def now() -> str:
    """The time in the form that the server's answers have."""
    time_ns = time.time_ns()
    local = time.localtime(time_ns // 1_000_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{time_ns % 1_000_000_000:09d} {time.strftime('%z %Z', local)}"


if __name__ == "__main__":
    print(ujson.dumps({"stream": stream, "single": single}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
