"""Other embedding servers, to be compared with (embeddings.md, 5 f): each runs where it is installed in an environment of its own.

SLUICE_BENCH_SENTENCE_TRANSFORMERS_PYTHON  an interpreter with sentence-transformers 6.2, aiohttp, orjson and a CPU build of torch
SLUICE_BENCH_INFINITY_PYTHON               one with infinity-emb[server,optimum] 0.0.78 and a CPU build of torch

The model's folder is in the sentence-transformers layout. Both answer POST {"model", "input"} in the OpenAI shape, on two threads;
infinity's onnxruntime has no setting for that and takes one a core. infinity is given the graph that its own exporter makes, kept
in build/bench/infinity/ (git-ignored); it cuts texts at 512 tokens whatever the model's limit.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench import clients, processes
from tests.serving import ROOT

SENTENCE_TRANSFORMERS_VARIABLE = "SLUICE_BENCH_SENTENCE_TRANSFORMERS_PYTHON"
INFINITY_VARIABLE = "SLUICE_BENCH_INFINITY_PYTHON"
PROGRAM = Path(__file__).with_name("sentence_transformers_server.py")
EXPORTED = ROOT / "build" / "bench" / "infinity"
THREADS = 2
# Nothing is asked of a hub, nobody is told what runs here.
ALONE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
SETTINGS = ALONE | {"OMP_NUM_THREADS": str(THREADS)}


def sentence_transformers_python() -> str | None:
    """The interpreter to use, or None with the reason told."""
    return processes.interpreter(
        SENTENCE_TRANSFORMERS_VARIABLE, "sentence-transformers", "sentence_transformers", "aiohttp", "orjson"
    )


@contextlib.contextmanager
def sentence_transformers(python: str, folder: Path) -> Iterator[str]:
    """A minimal server around model.encode; the URL of its embeddings."""
    port = processes.free_port()
    command = [python, str(PROGRAM), str(port), str(folder)]
    with processes.running(command, f"http://127.0.0.1:{port}/health", settings=SETTINGS):
        yield f"http://127.0.0.1:{port}/embeddings"


def infinity_python() -> str | None:
    """The interpreter to use, or None with the reason told."""
    return processes.interpreter(INFINITY_VARIABLE, "infinity", "infinity_emb", "optimum.onnxruntime")


@contextlib.contextmanager
def infinity(python: str, folder: Path) -> Iterator[str]:
    """infinity with its ONNX engine, asked for the model by the folder's name; the URL of its embeddings."""
    exported, port = _exported(python, folder), processes.free_port()
    if (num_cores := os.cpu_count() or 1) > THREADS:
        clients.note(f"infinity: computes with {num_cores} threads, not {THREADS}")
    # optimum 2 wants the graph's path relative to the model, infinity gives the one it found: "." makes them the same.
    command = [str(Path(python).with_name("infinity_emb")), "v2", "--model-id", ".", "--served-model-name", folder.name]
    command += ["--engine", "optimum", "--device", "cpu", "--pooling-method", "mean", "--host", "127.0.0.1", "--port", str(port)]
    with processes.running(command, f"http://127.0.0.1:{port}/health", settings=SETTINGS, folder=exported):
        yield f"http://127.0.0.1:{port}/embeddings"


def _exported(python: str, folder: Path) -> Path:
    """The folder of the graph that ends in the tokens' vectors: infinity pools by itself. Made once."""
    exported = EXPORTED / folder.name
    if not exported.exists():
        clients.note(f"infinity: exporting {folder.name}")
        beside = exported.with_suffix(".new")
        command = [str(Path(python).with_name("optimum-cli")), "export", "onnx", "--model", str(folder.resolve())]
        command += ["--task", "feature-extraction", "--library", "transformers", str(beside)]
        found = subprocess.run(command, env=os.environ | ALONE, capture_output=True, text=True, check=False)
        if found.returncode:
            raise clients.Failed(f"optimum could not export {folder}:\n{found.stderr[-processes.LAST_BYTES :]}")
        beside.rename(exported)
    return exported
