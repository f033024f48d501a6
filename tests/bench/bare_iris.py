"""The iris graph in bare onnxruntime, for the servers that we compare with: what a person would write who serves it there.

The programs beside this file import it as a module of their own folder, in environments without Sluice.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

GRAPH = Path(__file__).resolve().parent.parent.parent / "models/sluice/iris/1/model.onnx"
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
LABELS = ("setosa", "versicolor", "virginica")


def open_session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(GRAPH), options, providers=["CPUExecutionProvider"])


def score(session: onnxruntime.InferenceSession, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = np.array([[record[name] for name in FEATURES] for record in records], dtype=np.float32)
    labels, probabilities = session.run(None, {"X": rows})
    pairs = zip(labels.tolist(), probabilities.tolist(), strict=True)
    return [{"result": {"label": LABELS[label], "probabilities": row}} for label, row in pairs]
