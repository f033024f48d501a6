"""A model with the task `predict` that a replica has open: one onnxruntime session, inputs and outputs of its config.json.

Turns records into tensors, runs the graph, and turns tensors into encoded results. Knows nothing of blocks, lines or ids.
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engine.tasks.codec import Fault, Record
from engine.tasks.runtime import onnxruntime
from engine.tasks.scoring import inputs, outputs
from engine.tasks.scoring.arrays import ModelTensors, Outputs, as_array, model_tensors, output_name
from engine.tasks.scoring.columns import TextColumn
from engine.tasks.scoring.inputs import Column, Irregular, Refused
from engine.tasks.scoring.outputs import Form
from engine.tasks.scoring.plain import PlainBlocks, plain_blocks
from engine.tasks.scoring.results import ResultColumn, result_arrays, result_columns
from engine.tasks.scoring.sessions import open_session
from engine.tasks.scoring.tensors import Tensor, require_alike
from engine.tasks.scoring.text import Text
from engine.tasks.stages import Stages

if TYPE_CHECKING:
    from engine.tasks.scoring.pictures import Picture

    Input = inputs.Input | Tensor | Text | Picture

WARM_UP_RECORDS = (1, 64)
# A replica answers nothing else while it opens a model: the larger batch of a slow model gets fewer records, to stay within this.
WARM_UP_S = 1.0


class Scorer(Protocol):
    """What the tasks `score` and `infer` need of a model: it prepares records, and makes results from what it prepared.

    plain   what reads its plain blocks without making records of them, if anything does
    inputs  what can be made of columns without making records of them, as long as all of them are an `inputs.Input`
    """

    name: str
    version: int
    max_batch_size: int
    is_tokenised: bool
    plain: PlainBlocks | None
    inputs: Sequence[Any]

    def tensors(self, records: list[Record]) -> tuple[Any, dict[int, Fault]]:
        """What `run` takes for the records that can be scored, and the faults of the others, by index. Mixed."""
        ...

    def run(self, prepared: Any, num_records: int, form: Form, stages: Stages) -> list[TextColumn]:
        """The encoded results in columns; each has one piece for each record."""
        ...

    def arrays(self, prepared: Any, num_records: int) -> Outputs:
        """The results as arrays with the records along the first axis, by the names of `as_tensors`."""
        ...

    @property
    def as_tensors(self) -> ModelTensors:
        """What the model takes and gives as tensors."""
        ...

    def result_columns(self, form: Form) -> list[ResultColumn]:
        """The results as columns of a table."""
        ...

    def result_arrays(self, prepared: Any, num_records: int, form: Form) -> list[np.ndarray]:
        """An array for each of these columns. Raises what a run raises, and ValueError."""
        ...

    def warm_up(self, example: Record) -> float:
        """Seconds per record. Raises if the model does not answer its example as it should."""
        ...


def build_input(entry: dict[str, Any], graph_type: str, shape: list[Any]) -> "Input":
    """What fills an input of the graph with this type and shape, as its entry in config.json says. ValueError if it cannot."""
    if entry["kind"] != "tensor":
        return inputs.build_input(entry, graph_type, shape)
    dtype = inputs.NUMPY_TYPES[graph_type]
    if not entry.get("decode"):
        return Tensor(entry, dtype, shape)
    from engine.tasks.scoring.pictures import Picture  # loads Pillow, which few models need

    return Picture(entry, dtype, shape)


class LoadedModel:
    """One version of a model, ready to score.

    config   the checked config.json, with defaults filled in
    session  of the folder's graph, if the caller has opened one already
    """

    def __init__(self, key: str, folder: Path, config: dict[str, Any], session: onnxruntime.InferenceSession | None = None) -> None:
        self.key = key
        self.name: str = config["name"]
        self.version = int(key.rpartition("@")[2])
        self.max_batch_size: int = config["max_batch_size"]
        self._config = config
        self._session = session or open_session(folder / "model.onnx", config.get("providers") or ())
        self.is_tokenised = any(entry["kind"] == "text" for entry in config["inputs"])
        self.inputs: Sequence[Any] = [self._input(entry, folder) for entry in config["inputs"]]
        self._mixed = [entry for entry in self.inputs if isinstance(entry, Column | Tensor) and entry.is_mixed]
        self.plain = plain_blocks(self.inputs, self.max_batch_size)
        graph_outputs = {node.name: node.type for node in self._session.get_outputs()}
        self._entries: list[dict[str, Any]] = config["outputs"]
        self._outputs = [outputs.build_encoder(entry, graph_outputs[entry["output"]]) for entry in self._entries]
        self._output_names = [output.name for output in self._outputs]

    def _input(self, entry: dict[str, Any], folder: Path) -> "Input":
        graph_inputs = {node.name: node for node in self._session.get_inputs()}
        if entry["kind"] == "text":
            return Text(entry, folder, list(graph_inputs))
        node = graph_inputs[entry["input"]]
        return build_input(entry, node.type, node.shape)

    def tensors(self, records: list[Record]) -> tuple[dict[str, np.ndarray], dict[int, Fault]]:
        """The feeds of the records that can be scored, and the faults of the others, by index. Mixed."""
        if self._mixed:
            require_alike(self._mixed, records)
        try:
            return self._merge(entry.bulk(records) for entry in self.inputs), {}
        except Irregular:
            return self._careful_tensors(records)

    def _careful_tensors(self, records: list[Record]) -> tuple[dict[str, np.ndarray], dict[int, Fault]]:
        rows, faults = [], {}
        for i, record in enumerate(records):
            try:
                rows.append([entry.check(record) for entry in self.inputs])
            except Refused as refused:
                faults[i] = refused.fault
        if not rows:
            return {}, faults
        columns = zip(*rows, strict=True)
        return self._merge(entry.stack(list(values)) for entry, values in zip(self.inputs, columns, strict=True)), faults

    @staticmethod
    def _merge(parts: Any) -> dict[str, np.ndarray]:
        feeds: dict[str, np.ndarray] = {}
        for part in parts:
            feeds.update(part)
        return feeds

    def run(self, feeds: dict[str, np.ndarray], num_records: int, form: Form, stages: Stages) -> list[TextColumn]:
        """The encoded results of a batch, in columns. Raises what onnxruntime raises, or WrongCount."""
        values = self.values(feeds)
        stages.ended("infer")
        return outputs.result_columns(self._outputs, values, num_records, unwrap=form.unwrap)

    def values(self, feeds: dict[str, np.ndarray]) -> list[Any]:
        """The outputs that the config names, in its order: arrays, or lists of maps; pooled and normalised if it says so."""
        values: list[Any] = self._session.run(self._output_names, feeds)
        return [_finished(entry, value, feeds) for entry, value in zip(self._entries, values, strict=True)]

    def arrays(self, feeds: dict[str, np.ndarray], num_records: int) -> Outputs:
        """The same outputs as arrays. WrongCount."""
        values = self.values(feeds)
        return {output_name(entry): as_array(entry, value, num_records) for entry, value in zip(self._entries, values, strict=True)}

    def result_columns(self, form: Form) -> list[ResultColumn]:
        """The outputs that the config names, as columns of a table."""
        return result_columns(self._entries, self.as_tensors.outputs, form)

    def result_arrays(self, feeds: dict[str, np.ndarray], num_records: int, form: Form) -> list[np.ndarray]:
        """An array for each of these columns. WrongCount, ValueError."""
        return result_arrays(self._entries, self.values(feeds), num_records, self.result_columns(form))

    @functools.cached_property
    def as_tensors(self) -> ModelTensors:
        return model_tensors(self._config, self._session.get_inputs(), self._session.get_outputs())

    def warm_up(self, example: Record) -> float:
        """Score the example alone and in a batch; seconds per record of the batch."""
        return timed_runs(self, example)


def timed_runs(model: Scorer, example: Record) -> float:
    """Score the example alone, then copies of it in a batch; seconds per record of the batch. ValueError if it is refused."""
    seconds = 0.0
    for count in WARM_UP_RECORDS:
        count = min(count, model.max_batch_size, max(1, int(WARM_UP_S / max(seconds, 1e-6))))
        started = time.perf_counter()
        prepared, faults = model.tensors([example] * count)
        if faults:
            raise ValueError(f"the example is refused: {faults[0].reason}")
        model.run(prepared, count, Form(), Stages())
        seconds = (time.perf_counter() - started) / count
    return seconds


def _finished(entry: dict[str, Any], value: Any, feeds: dict[str, np.ndarray]) -> Any:
    """An output after the steps that its entry in config.json adds to the graph."""
    if entry.get("pooling"):
        value = outputs.pooled(value, feeds["attention_mask"], entry["pooling"])
    return outputs.normalised(value) if entry.get("normalise") else value
