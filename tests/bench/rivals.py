"""Other embedding servers to compare with (embeddings.md, 5 f). Each runs if it is installed in an environment of its own.

SLUICE_BENCH_SENTENCE_TRANSFORMERS_PYTHON  an interpreter with sentence-transformers 6.2, aiohttp, orjson and a CPU build of torch
SLUICE_BENCH_INFINITY_PYTHON               one with infinity-emb[server,optimum] 0.0.78 and a CPU build of torch

The model's folder has the layout of sentence-transformers. Both servers answer POST {"model", "input"} in the OpenAI shape. Both
compute on two threads, except that infinity's onnxruntime has no setting for this and takes one thread per core. infinity gets the
graph that its own exporter makes, kept in build/bench/infinity/ (git-ignored). It truncates texts at 512 tokens, whatever limit the
model has.
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
# The rivals must not use the network: no downloads from a hub, no usage statistics.
ALONE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
SETTINGS = ALONE | {"OMP_NUM_THREADS": str(THREADS)}


def sentence_transformers_python() -> str | None:
    """The interpreter to use. None, after a note that says why, when there is none."""
    return processes.interpreter(
        SENTENCE_TRANSFORMERS_VARIABLE, "sentence-transformers", "sentence_transformers", "aiohttp", "orjson"
    )


@contextlib.contextmanager
def sentence_transformers(python: str, folder: Path) -> Iterator[str]:
    """Run a minimal server around model.encode; gives the URL of its embeddings."""
    port = processes.free_port()
    command = [python, str(PROGRAM), str(port), str(folder)]
    with processes.running(command, f"http://127.0.0.1:{port}/health", settings=SETTINGS):
        yield f"http://127.0.0.1:{port}/embeddings"


def infinity_python() -> str | None:
    """The interpreter to use. None, after a note that says why, when there is none."""
    return processes.interpreter(INFINITY_VARIABLE, "infinity", "infinity_emb", "optimum.onnxruntime")


@contextlib.contextmanager
def infinity(python: str, folder: Path) -> Iterator[str]:
    """Run infinity with its ONNX engine, which serves the model by its folder's name; gives the URL of its embeddings."""
    exported, port = _exported(python, folder), processes.free_port()
    if (num_cores := os.cpu_count() or 1) > THREADS:
        clients.note(f"infinity: computes with {num_cores} threads, not {THREADS}")
    # optimum 2 expects the path of the graph relative to the model, infinity passes the one it found: "." makes both the same.
    command = [str(Path(python).with_name("infinity_emb")), "v2", "--model-id", ".", "--served-model-name", folder.name]
    command += ["--engine", "optimum", "--device", "cpu", "--pooling-method", "mean", "--host", "127.0.0.1", "--port", str(port)]
    with processes.running(command, f"http://127.0.0.1:{port}/health", settings=SETTINGS, folder=exported):
        yield f"http://127.0.0.1:{port}/embeddings"


def _exported(python: str, folder: Path) -> Path:
    """Folder of the exported graph. It ends in the vectors of the tokens, because infinity pools them itself. Exported once."""
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
