"""The bare loop that embeddings are compared with: tokenizers and onnxruntime in one process, without a server or JSON.

A program of its own: `python -m tests.bench.bare_embeddings many|lone MODEL FILE`. FILE has one JSON object with a text per line.
It prints one JSON object. `many`: two threads take batches of the texts, sorted by length, and call one session (one thread per
run, no spinning); it tries batches of 8 and of 16, and the faster size counts. `lone`: one short text after the other. The figures
include neither imports nor opening the model.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
THREADS = 2
BATCHES = (8, 16)
NUM_LONE = 200


def measure(kind: str, model: str, path: Path) -> dict[str, Any]:
    """Run this program in a fresh process; returns what it printed."""
    command = [sys.executable, "-m", "tests.bench.bare_embeddings", kind, model, str(path)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    found: dict[str, Any] = json.loads(
        subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True).stdout
    )
    return found


class Bare:
    """A model, used as in a script written by hand."""

    def __init__(self, model: str) -> None:
        folder = ROOT / "models" / model
        entry = json.loads((folder / "config.json").read_text())["inputs"][0]
        self._tokenizer = Tokenizer.from_file(str(folder / "1" / "tokenizer.json"))
        self._tokenizer.enable_truncation(entry["max_tokens"])
        self._tokenizer.enable_padding(pad_id=entry["pad_id"], pad_token=entry["pad_token"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def embed(self, texts: list[str]) -> np.ndarray:
        encodings = self._tokenizer.encode_batch_fast(texts)
        ids = np.array([encoding.ids for encoding in encodings])
        mask = np.array([encoding.attention_mask for encoding in encodings])
        vectors: np.ndarray = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors

    def many(self, texts: list[str], batch: int) -> float:
        """Embed all texts in batches of this size; returns the seconds."""
        started = time.perf_counter()
        ordered = sorted(texts, key=len)
        waiting = iter([ordered[first : first + batch] for first in range(0, len(ordered), batch)])
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    part = next(waiting, None)
                if part is None:
                    return
                self.embed(part)

        workers = [threading.Thread(target=work) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - started

    def lone(self, text: str) -> float:
        """Embed one text; returns the seconds."""
        started = time.perf_counter()
        self.embed([text])
        return time.perf_counter() - started


def main() -> None:
    kind, model, path = sys.argv[1:]
    texts = [json.loads(line)["text"] for line in Path(path).read_text().splitlines()]
    bare = Bare(model)
    bare.embed(texts[:4])
    if kind == "lone":
        print(json.dumps({"p50_s": statistics.median(bare.lone(texts[0]) for _ in range(NUM_LONE))}))
    else:
        seconds = {batch: bare.many(texts, batch) for batch in BATCHES}
        best = min(seconds, key=seconds.__getitem__)
        print(json.dumps({"per_second": len(texts) / seconds[best], "batch": best}))


if __name__ == "__main__":
    main()
