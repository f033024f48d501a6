"""The folder of a model: writes `<owner>/<name>/config.json` and `1/model.onnx`, then checks that these files answer correctly.

Knows the keys of config.json and onnxruntime. Knows nothing of data sets or of how a model is trained.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from engine.tasks.publishing.trying import MAX_DIFFERENCE
from engine.tasks.runtime import onnxruntime
from engine.tasks.scoring.sessions import open_session

Record = dict[str, Any]

# What stands for a missing number in config.json ("nan"), and its value in the tensor.
MISSING = {"nan": float("nan")}


@dataclasses.dataclass(slots=True)
class Built:
    """A trained model, ready to be written.

    config    content of config.json
    graph     the ONNX model
    records   held-out records that the model never saw
    truths    the right answer to each record: a class name or a number
    reference the trained estimator's answer to each record: float [N, classes] probabilities or [N] numbers; None without estimator
    truths_are a few words that say where the records and truths come from
    """

    config: Record
    graph: onnx.ModelProto
    records: list[Record]
    truths: list[Any]
    reference: np.ndarray | None = None
    truths_are: str = "held out"


def write(built: Built, root: Path) -> Path:
    """Write both files and return the folder. The same model gives the same bytes."""
    folder = root / built.config["owner"] / built.config["name"]
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(built.config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    onnx.checker.check_model(built.graph)
    (folder / "1" / "model.onnx").write_bytes(built.graph.SerializeToString(deterministic=True))
    return folder


def check(folder: Path, built: Built) -> str:
    """Load and check the written files; returns a line about their size and the quality on the held-out records."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    session = open_session(folder / "1" / "model.onnx")
    whole = run(session, config, built.records)
    check_batches(session, config, [config["example"], *built.records[:12]])
    size_bytes = (folder / "1" / "model.onnx").stat().st_size
    parts = [f"{config['owner']}/{config['name']}", f"{size_bytes:,} bytes"]
    parts.append(f"{quality(config, whole, built.truths)} {built.truths_are}")
    if built.reference is not None:
        parts.append(f"largest difference from scikit-learn {np.abs(whole[-1].squeeze() - built.reference).max():.1e}")
    return ", ".join(parts)


def run(session: onnxruntime.InferenceSession, config: Record, records: list[Record]) -> list[np.ndarray]:
    """The outputs that config.json names, in its order, for these records in one batch."""
    return session.run([output["output"] for output in config["outputs"]], tensors(session, config, records))


def tensors(session: onnxruntime.InferenceSession, config: Record, records: list[Record]) -> dict[str, np.ndarray]:
    """The inputs of the graph for these records. Knows the input kinds that these models use: `column` and `matrix`."""
    graph_inputs = {value.name: value for value in session.get_inputs()}
    feed = {}
    for entry in config["inputs"]:
        value = graph_inputs[entry["input"]]
        dtype = object if value.type == "tensor(string)" else np.float32
        feed[entry["input"]] = np.array([_cells(entry, record) for record in records], dtype).reshape(_shape(value, len(records)))
    return feed


def _cells(entry: Record, record: Record) -> list[Any]:
    """The values of one record for one input. An absent field, or None, becomes the entry's default."""
    fields = entry.get("features") or [entry["field"]]
    default = entry.get("missing")
    values = [record.get(field) for field in fields]
    return [MISSING.get(default, default) if value is None else value for value in values]


def _shape(value: onnxruntime.NodeArg, num_records: int) -> list[int]:
    """The shape of an input for this number of records: the first axis is the batch, the others are fixed."""
    return [num_records, *value.shape[1:]]


def check_batches(session: onnxruntime.InferenceSession, config: Record, records: list[Record]) -> None:
    """Check that batches of 1, 2 and 3 answer as the whole batch does; SystemExit names the output that does not."""
    whole = run(session, config, records)
    for size in (1, 2, 3):
        starts = range(0, len(records), size)
        parts = zip(*(run(session, config, records[start : start + size]) for start in starts), strict=True)
        for output, expected, part in zip(config["outputs"], whole, parts, strict=True):
            if not _same(np.concatenate(part), expected):
                raise SystemExit(f"{config['name']}: output {output['output']!r} at batch {size} differs from the whole batch")


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether shapes are equal, and values too except for rounding."""
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f":
        return bool(np.abs(left - right).max() <= MAX_DIFFERENCE * max(1.0, float(np.abs(right).max())))
    return bool((left == right).all())


def quality(config: Record, outputs: list[np.ndarray], truths: list[Any]) -> str:
    """How well the first output agrees with the truths: accuracy for classes, R2 and mean error for numbers."""
    answers = outputs[0].squeeze(axis=-1) if outputs[0].ndim > 1 else outputs[0]
    if answers.dtype.kind == "f":
        errors = np.asarray(truths) - answers
        r2 = 1 - (errors**2).mean() / np.var(truths)
        return f"R2 {r2:.3f}, mean absolute error {np.abs(errors).mean():.1f} on {len(truths)}"
    labels = config["outputs"][0].get("labels")
    named = [labels[answer] for answer in answers] if labels else answers.tolist()
    accuracy = np.mean([answer == truth for answer, truth in zip(named, truths, strict=True)])
    return f"accuracy {accuracy:.3f} on {len(truths)}"
