"""Serves the iris graph with LitServe, for comparison: `python litserve_server.py PORT single|many`. litserve must be installed.

single  one record per request; LitServe makes batches of up to 512
many    512 records per request
"""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime

GRAPH = Path(__file__).resolve().parent.parent.parent / "models/sluice/iris/1/model.onnx"
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
LABELS = ("setosa", "versicolor", "virginica")
BATCH = 512
WORKERS = 2


def open_session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(GRAPH), options, providers=["CPUExecutionProvider"])


def score(session: onnxruntime.InferenceSession, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = np.array([[record[name] for name in FEATURES] for record in records], dtype=np.float32)
    labels, probabilities = session.run(None, {"X": rows})
    pairs = zip(labels.tolist(), probabilities.tolist(), strict=True)
    return [{"result": {"label": LABELS[label], "probabilities": row}} for label, row in pairs]


class Single(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = open_session()

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return score(self.session, inputs)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output


class Many(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = open_session()

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"results": score(self.session, request["records"])}


def main() -> None:
    api = Single(max_batch_size=BATCH, batch_timeout=0.001) if sys.argv[2] == "single" else Many()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
