"""A model of the kind `embed` in a replica: texts become vectors, each the same whatever other texts share its run.

Cuts a list of texts into runs of similar length, puts the vectors back into the order of the texts, and refuses to serve a model
that no longer gives the vector it gave when it was built.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.tasks import codec
from engine.tasks.codec import Fault, Record
from engine.tasks.runtime import onnxruntime
from engine.tasks.scoring.arrays import ANY, ModelTensors, Outputs, TensorInfo
from engine.tasks.scoring.columns import TextColumn, Texts
from engine.tasks.scoring.inputs import Irregular, Refused
from engine.tasks.scoring.model import LoadedModel, timed_runs
from engine.tasks.scoring.outputs import Form, WrongCount, normalised
from engine.tasks.scoring.plain import PlainBlocks
from engine.tasks.scoring.results import ResultColumn
from engine.tasks.scoring.text import Text, Tokens
from engine.tasks.stages import Stages

# Two vectors of one text are the same if their cosine is at least this. Below it they come from another pooling, other weights or a
# broken runtime: float32 on another processor differs in the seventh digit, two implementations of one graph agree to 1e-6.
SAME_COSINE = 0.999
# To begin another run costs as much as this many cells of padding. With 10, texts of 10 words take 3 per cent less time than with
# 32, and 20 per cent less than with one run for each block.
RUN_OVERHEAD_CELLS = 10
# A larger run does not fit into the processor's caches: texts of 2 to 300 words take 27 per cent longer in runs of 4,096 cells.
BEST_RUN_CELLS = 512


class WrongVector(Exception):
    """The model does not give the vector that config.json has stored since it was built."""


class Embedder:
    """One version of an embedding model, ready to embed.

    text  its tokenizer
    dim   number of values of a vector
    """

    is_tokenised = True
    plain: PlainBlocks | None = None
    inputs: Sequence[Any] = ()

    def __init__(self, key: str, folder: Path, config: dict[str, Any], session: onnxruntime.InferenceSession | None = None) -> None:
        self._model = LoadedModel(key, folder, config, session)
        self.name = self._model.name
        self.version = self._model.version
        self.max_batch_size = self._model.max_batch_size
        self.text = _only_text(self._model)
        self.dim: int = config["dim"]
        self._max_cells = min(config["max_batch_tokens"], BEST_RUN_CELLS)
        self._fingerprint: str | None = config.get("fingerprint")

    # As `score` takes it

    def tensors(self, records: list[Record]) -> tuple[list[Tokens], dict[int, Fault]]:
        """The tokens of the records that can be embedded, and the faults of the others, by index."""
        try:
            return self.text.tokenise(self.text.plain_texts(records)), {}
        except Irregular:
            return self._careful_tensors(records)

    def _careful_tensors(self, records: list[Record]) -> tuple[list[Tokens], dict[int, Fault]]:
        texts: list[str] = []
        faults: dict[int, Fault] = {}
        for i, record in enumerate(records):
            try:
                texts.append(self.text.check(record))
            except Refused as refused:
                faults[i] = refused.fault
        return self.text.tokenise(texts), faults

    def run(self, tokens: list[Tokens], num_records: int, form: Form, stages: Stages) -> list[TextColumn]:
        """The encoded results, in columns: `embedding`, `num_tokens`, and `truncated` if the text was cut."""
        vectors = self.vectors(tokens, stages)
        stages.ended("infer")
        counts = Texts(b'%d,"truncated":true' % len(ids) if is_cut else b"%d" % len(ids) for ids, is_cut in tokens)
        return [TextColumn(b'{"embedding":', Texts(self.encoded(vectors, form))), TextColumn(b',"num_tokens":', counts, b"}")]

    def arrays(self, tokens: list[Tokens], num_records: int) -> Outputs:
        """The vectors, as one array."""
        return {"embedding": self.vectors(tokens, Stages())}

    @property
    def as_tensors(self) -> ModelTensors:
        """Texts in, vectors out."""
        told = self._model.as_tensors
        vectors = TensorInfo("embedding", np.dtype(np.float32), (ANY, self.dim))
        return ModelTensors(told.inputs, told.fields, [vectors], is_direct=False)

    def result_columns(self, form: Form) -> list[ResultColumn]:
        """`embedding`, `num_tokens`, and `truncated`, which tells whether the text was cut."""
        embedding = ResultColumn("embedding", np.dtype(np.float32), (ANY, form.dimensions or self.dim))
        counts = ResultColumn("num_tokens", np.dtype(np.int32), (ANY,))
        return [embedding, counts, ResultColumn("truncated", np.dtype(np.bool_), (ANY,))]

    def result_arrays(self, tokens: list[Tokens], num_records: int, form: Form) -> list[np.ndarray]:
        """An array for each of these columns."""
        vectors = self.vectors(tokens, Stages())
        counts = np.array([len(ids) for ids, _ in tokens], np.int32)
        return [shortened(vectors, form), counts, np.array([is_cut for _, is_cut in tokens], np.bool_)]

    def warm_up(self, example: Record) -> float:
        """Compare the example's vector with the fingerprint, then embed it a few times; seconds per text. WrongVector."""
        self.check_fingerprint(example)
        return timed_runs(self, example)

    # Vectors

    @staticmethod
    def encoded(vectors: np.ndarray, form: Form) -> list[bytes]:
        """The JSON text of each vector of [N, dim], or its bytes if the form says so."""
        vectors = shortened(vectors, form)
        if form.is_raw:
            return [vector.tobytes() for vector in vectors.astype("<f4", copy=False)]
        return codec.encode_base64(vectors) if form.is_base64 else codec.encode_vectors(vectors)

    def vectors(self, tokens: Sequence[Tokens], stages: Stages) -> np.ndarray:
        """float32 [texts, dim], in the order of the texts. WrongCount if the graph's output has another shape."""
        vectors = np.empty((len(tokens), self.dim), np.float32)
        for indices in self._runs([len(ids) for ids, _ in tokens]):
            feeds = self.text.feeds([tokens[i] for i in indices])
            values = self._model.values(feeds)[0]
            if values.shape != (len(indices), self.dim):
                raise WrongCount(f"the model gave vectors of shape {list(values.shape)}, not {[len(indices), self.dim]}")
            vectors[indices] = values
            mask = feeds["attention_mask"]
            stages.cells += mask.size
            stages.padded += mask.size - int(mask.sum())
        return vectors

    def _runs(self, lengths: list[int]) -> Iterator[list[int]]:
        """Indices of the texts of each run, the longest first: at most `max_batch_size` texts and `_max_cells` cells with padding.

        A text with more cells runs alone. A much shorter text begins another run, since padding costs more than a larger run gains.
        """
        indices: list[int] = []
        longest = padding = 0
        for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
            padding += longest - lengths[i]
            is_full = len(indices) == self.max_batch_size or longest * (len(indices) + 1) > self._max_cells
            if indices and (is_full or padding > RUN_OVERHEAD_CELLS):
                yield indices
                indices = []
            if not indices:
                longest, padding = lengths[i], 0
            indices.append(i)
        if indices:
            yield indices

    # Fingerprint

    def fingerprint(self, example: Record) -> str:
        """The vector of the example, as config.json keeps it."""
        return encode_fingerprint(self._example_vector(example))

    def check_fingerprint(self, example: Record) -> None:
        """WrongVector if the vector of the example is not the stored one; no check if none is stored."""
        if self._fingerprint is None:
            return
        try:
            stored = np.frombuffer(base64.b64decode(self._fingerprint, validate=True), "<f4")
        except (binascii.Error, ValueError):
            raise WrongVector("the fingerprint is not base64 of float32") from None
        vector = self._example_vector(example)
        if stored.shape != vector.shape:
            raise WrongVector(f"the fingerprint has {len(stored)} values, the model gives {len(vector)}")
        agreement = cosine(stored, vector)
        if not agreement >= SAME_COSINE:  # NaN is not at least anything
            raise WrongVector(
                f"the vector of its example is not the one it was built with (cosine {agreement:.4f}): "
                "other weights, another pooling or tokenizer, or a runtime that computes wrongly"
            )

    def _example_vector(self, example: Record) -> np.ndarray:
        tokens, faults = self.tensors([example])
        if faults:
            raise ValueError(f"the example is refused: {faults[0].reason}")
        vector: np.ndarray = self.vectors(tokens, Stages())[0]
        return vector


def _only_text(model: LoadedModel) -> Text:
    texts = [entry for entry in model.inputs if isinstance(entry, Text)]
    if len(model.inputs) != 1 or not texts:
        raise ValueError("an embedding model has one input, of kind 'text'")
    return texts[0]


def shortened(vectors: np.ndarray, form: Form) -> np.ndarray:
    """Vectors [N, dim] with as many values as the form asks for, scaled to length 1 if they have fewer or if it asks for that."""
    return normalised(vectors[:, : form.dimensions]) if form.dimensions or form.is_unit else vectors


def encode_fingerprint(vector: np.ndarray) -> str:
    """A vector as config.json keeps it: base64 of its little-endian float32 bytes."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of the angle between two vectors; 0 if one of them is all zeros, NaN if a value is not finite."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(one @ other / max(np.sqrt((one @ one) * (other @ other)), 1e-12))
