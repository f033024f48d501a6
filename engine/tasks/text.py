"""Texts to tensors: the `text` input of config.json, one field through the model's own tokenizer.

Tokenises a batch at once and pads it to its longest text; the tokenizer's file travels with the model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from engine.tasks.codec import Record
from engine.tasks.inputs import Irregular, Scalars, default_of


class Text:
    """One field -> input_ids and attention_mask (and token_type_ids if the graph takes them): int64 [N, longest]."""

    def __init__(self, entry: dict[str, Any], folder: Path, graph_inputs: Sequence[str]) -> None:
        self._field: str = entry["field"]
        self._scalars = Scalars(np.object_, coerce=entry.get("coerce", False))
        self._default = default_of(entry, self._scalars)
        self._takes_types = "token_type_ids" in graph_inputs
        self._ids_name: str = entry["input"]
        self._tokenizer = Tokenizer.from_file(str(folder / entry["tokenizer"]))
        self._tokenizer.enable_truncation(entry["max_tokens"])
        self._tokenizer.enable_padding(pad_id=entry["pad_id"], pad_token=entry["pad_token"])

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        texts: list[Any] = [record.get(self._field) for record in records]
        if set(map(type, texts)) != {str}:
            raise Irregular
        return self._tokenised(texts)

    def check(self, record: Record) -> str:
        value = record.get(self._field)
        if value is None and type(self._default) is str:
            return self._default
        return self._scalars.check(value, self._field)

    def stack(self, values: list[str]) -> dict[str, np.ndarray]:
        return self._tokenised(values)

    def _tokenised(self, texts: list[str]) -> dict[str, np.ndarray]:
        encodings = self._tokenizer.encode_batch_fast(texts)
        tensors = {self._ids_name: _stacked(encodings, "ids"), "attention_mask": _stacked(encodings, "attention_mask")}
        if self._takes_types:
            tensors["token_type_ids"] = _stacked(encodings, "type_ids")
        return tensors


def _stacked(encodings: list[Encoding], name: str) -> np.ndarray:
    return np.array([getattr(encoding, name) for encoding in encodings], dtype=np.int64)
