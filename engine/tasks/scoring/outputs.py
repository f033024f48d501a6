"""Tensors to JSON: each output of a model becomes, for every record of the batch, a piece of encoded result.

Encodes by column, not by record. Numbers, labels and strings stay as they are until the lines are written (columns.py).
"""

from typing import Any, NamedTuple

import numpy as np

from engine.tasks import codec
from engine.tasks.scoring.columns import Labels, Numbers, Strings, TextColumn, Texts


class Form(NamedTuple):
    """How the sender wants results written.

    unwrap      arrays of one element become that element
    is_base64   vectors of an embedding model as base64 of their little-endian float32 bytes
    dimensions  keep only the first N values of such a vector and scale it back to length 1; None keeps all
    is_raw      vectors of an embedding model as these bytes themselves
    is_unit     scale such vectors to length 1, whatever the model gives
    """

    unwrap: bool = False
    is_base64: bool = False
    dimensions: int | None = None
    is_raw: bool = False
    is_unit: bool = False

    @classmethod
    def of(cls, header: dict[str, Any]) -> "Form":
        """The form that the header of a frame asks for."""
        encoding = header.get("encoding_format")
        return cls(
            unwrap=header.get("non_vectorized", False),
            is_base64=encoding == "base64",
            dimensions=header.get("dimensions"),
            is_raw=encoding == "f32",
            is_unit=header.get("normalise", False),
        )


class WrongCount(Exception):
    """The model did not return one result for each record."""


class OutputEncoder:
    """One output of the graph, shown as its entry in config.json says."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.name: str = entry["output"]
        self.key: str | None = entry["as"]
        self._labels = entry.get("labels")
        self._is_object = entry.get("form") == "object"
        self._squeeze: bool = entry.get("squeeze", True)
        self._axis: int = entry.get("axis", 0)

    def columns(self, value: Any, num_records: int, *, unwrap: bool) -> list[TextColumn]:
        """The columns of this output for a batch. WrongCount.

        value   what the session returned: an array with the batch on `axis`, or a list of maps (zipmap)
        unwrap  arrays of one element become that element, whatever `squeeze` says
        """
        if isinstance(value, list):
            require_count(len(value), num_records)
            return _maps(value)
        if value.ndim == 0 and num_records == 1:  # a graph without a batch axis, which runs one record at a time
            value = value.reshape(1)
        array = np.moveaxis(value, self._axis, 0) if self._axis else value
        require_count(array.shape[0] if array.ndim else 0, num_records)
        if (self._squeeze or unwrap) and array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        return self._scalar(array) if array.ndim == 1 else self._rows(array)

    def _scalar(self, array: np.ndarray) -> list[TextColumn]:
        """[N] -> a bare value for each record, or its label."""
        if self._labels is not None and not self._is_object:
            return [TextColumn(b"", Texts(self._label(value) for value in array.tolist()))]
        return [_element_column(array)]

    def _label(self, value: Any) -> bytes:
        labels = self._labels
        if isinstance(labels, dict):
            return codec.dumps(labels.get(str(value), value))
        is_index = isinstance(value, int) and 0 <= value < len(labels or ())
        return codec.dumps(labels[value] if labels and is_index else value)

    def _rows(self, array: np.ndarray) -> list[TextColumn]:
        """[N,k,...] -> a list for each record, or an object with the labels as keys."""
        if self._is_object and array.ndim == 2:
            return self._object(array)
        if 0 in array.shape or array.dtype.kind not in "fiub":
            return [TextColumn(b"", Texts(codec.dumps(row.tolist()) for row in array))]
        return [TextColumn(b"[", Numbers(array), b"]")]

    def _object(self, array: np.ndarray) -> list[TextColumn]:
        return _object_columns(label_of_each(self._labels, array.shape[1]), array)


class LabelEncoder(OutputEncoder):
    """An integer output shown as labels, as most classifiers have it. The labels are encoded once, when the model is opened."""

    def __init__(self, entry: dict[str, Any]) -> None:
        super().__init__(entry)
        labels = entry["labels"]
        pairs = labels.items() if isinstance(labels, dict) else enumerate(labels)
        encoded = {int(index): codec.dumps(label) for index, label in pairs}
        self._first = min(encoded, default=0)
        is_dense = len(encoded) == max(encoded, default=0) - self._first + 1
        self._encoded = [encoded[self._first + i] for i in range(len(encoded))] if is_dense else []

    def _scalar(self, array: np.ndarray) -> list[TextColumn]:
        indexes = array.astype(np.int64) - self._first
        if len(indexes) and indexes.min() >= 0 and indexes.max() < len(self._encoded):
            return [TextColumn(b"", Labels(indexes, self._encoded))]
        return [TextColumn(b"", Texts(self._label(value) for value in array.tolist()))]


class SequenceEncoder(OutputEncoder):
    """A sequence of tensors, each of which has the batch on `axis`: a list of their rows, or an object with the labels as keys.

    A classifier of several targets gives one tensor of probabilities for each target.
    """

    def __init__(self, entry: dict[str, Any]) -> None:
        super().__init__(entry)
        self._part = OutputEncoder(entry | {"labels": None, "form": "list"})

    def columns(self, value: Any, num_records: int, *, unwrap: bool) -> list[TextColumn]:
        """The same, for a list of arrays."""
        if not value:
            return [TextColumn(b"", Texts([b"[]"] * num_records))]
        inner = [self._part.columns(part, num_records, unwrap=unwrap) for part in value]
        if not self._is_object:
            return _in_order([b""] * len(inner), inner, b"[", b"]")
        names = label_of_each(self._labels, len(inner))
        order = sorted(range(len(inner)), key=names.__getitem__)
        return _in_order([codec.dumps(names[i]) + b":" for i in order], [inner[i] for i in order], b"{", b"}")


def _in_order(keys: list[bytes], columns: list[list[TextColumn]], opening: bytes, closing: bytes) -> list[TextColumn]:
    """One list of columns: the first of each value gets its key before it, with what opens or separates."""
    joined: list[TextColumn] = []
    for i, (key, inner) in enumerate(zip(keys, columns, strict=True)):
        before = (b"," if i else opening) + key
        joined += [inner[0]._replace(before=before + inner[0].before), *inner[1:]]
    joined[-1] = joined[-1]._replace(after=joined[-1].after + closing)
    return joined


def _maps(maps: list[dict[Any, float]]) -> list[TextColumn]:
    """Columns of a zipmap, which has a map from label to probability for each record.

    The graph's numbers are float32, which onnxruntime returns as Python floats.
    """
    keys = list(maps[0])
    if any(entry.keys() != maps[0].keys() for entry in maps):
        return [TextColumn(b"", Texts(codec.dumps({key: np.float32(value) for key, value in entry.items()}) for entry in maps))]
    return _object_columns(list(map(str, keys)), np.array([[entry[key] for key in keys] for entry in maps], dtype=np.float32))


def _object_columns(names: list[str], array: np.ndarray) -> list[TextColumn]:
    """An object with these keys for each row of [N,k]; the keys in alphabetical order, as everywhere in a line."""
    order = sorted(range(len(names)), key=names.__getitem__)
    keys = [codec.dumps(names[k]) + b":" for k in order]
    return _in_order(keys, [[_element_column(array[:, k])] for k in order], b"{", b"}")


def build_encoder(entry: dict[str, Any], graph_type: str) -> OutputEncoder:
    """The encoder for an entry of config.json whose graph output has this type."""
    if graph_type.startswith("seq(tensor"):
        return SequenceEncoder(entry)
    labels = entry.get("labels")
    is_indexed = labels and entry.get("form", "list") != "object" and "int" in graph_type
    if is_indexed and all(str(key).lstrip("-").isdigit() for key in (labels if isinstance(labels, dict) else ())):
        return LabelEncoder(entry)
    return OutputEncoder(entry)


def result_columns(outputs: list[OutputEncoder], values: list[Any], num_records: int, *, unwrap: bool) -> list[TextColumn]:
    """All columns of `result`: an object with a key for each output, or the bare value of an only output without a key."""
    if len(outputs) == 1 and outputs[0].key is None:
        return outputs[0].columns(values[0], num_records, unwrap=unwrap)
    pairs = sorted(zip(outputs, values, strict=True), key=lambda pair: pair[0].key or "")
    keys = [codec.dumps(output.key or output.name) + b":" for output, _ in pairs]
    return _in_order(keys, [output.columns(value, num_records, unwrap=unwrap) for output, value in pairs], b"{", b"}")


def _element_column(array: np.ndarray) -> TextColumn:
    """The JSON text of each element of a vector."""
    if array.dtype.kind in "fiub":
        return TextColumn(b"", Numbers(array))
    values = array.tolist()
    if set(map(type, values)) == {str}:
        return _string_column(values)
    texts = Texts(codec.dumps(value.decode(errors="replace") if isinstance(value, bytes) else value) for value in values)
    return TextColumn(b"", texts)


def _string_column(values: list[str]) -> TextColumn:
    encoded = codec.plain_strings(values)
    if encoded is None:
        return TextColumn(b"", Texts(map(codec.dumps, values)))
    return TextColumn(b'"', Strings(encoded, len(values)), b'"')


def label_of_each(labels: Any, count: int) -> list[str]:
    """The label of each column, or its number if it has none."""
    if isinstance(labels, dict):
        return [str(labels.get(str(i), i)) for i in range(count)]
    return [str(labels[i]) if i < len(labels) else str(i) for i in range(count)]


def require_count(count: int, num_records: int) -> None:
    """WrongCount, unless there is one result for each record."""
    if count != num_records:
        raise WrongCount(f"the model gave {count} results for {num_records} records")


# Token vectors


def pooled(value: np.ndarray, mask: np.ndarray, how: str) -> np.ndarray:
    """One vector for each text.

    value    float [N, tokens, width]
    mask     int64 [N, tokens]; 1 for a token, 0 for padding
    how      mean: the average of the tokens; cls: the first token
    returns  float [N, width]; the mean of a text without tokens is all zeros

    Source: Reimers and Gurevych 2019, section 3.
    """
    if how == "cls":
        return value[:, 0]
    weights = mask[:, :, None].astype(value.dtype)
    mean: np.ndarray = (value * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return mean


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Each row of [N, width] divided by its length; a row of zeros stays as it is."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return unit
