"""Texts to tensors: the `text` input of config.json, which sends one field through the model's own tokenizer.

Tokenises a batch at once and pads each run to its longest text. The tokenizer's file belongs to the model, but its settings for
truncation and padding are ignored: some files pad every text to 128 tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from engine.tasks import codec
from engine.tasks.codec import Record
from engine.tasks.scoring.inputs import MISSING, Irregular, Scalars, default_of

# No token of a real text is longer. Text beyond this many characters for each token would be tokenised and then thrown away.
MAX_CHARACTERS_PER_TOKEN = 250


class Tokens(NamedTuple):
    """One text as the model sees it: ids with the special tokens, and whether the text was longer than the model takes."""

    ids: list[int]
    is_cut: bool


class UnknownToken(ValueError):
    """A token id is not in the vocabulary."""

    def __init__(self, token: int) -> None:
        super().__init__(f"token id {token} is not in the vocabulary")
        self.token = token


class Text:
    """One field -> input_ids and attention_mask (and token_type_ids if the graph takes them): int64 [N, longest]."""

    def __init__(self, entry: dict[str, Any], folder: Path, graph_inputs: Sequence[str]) -> None:
        self.max_tokens: int = entry["max_tokens"]
        self._field: str = entry["field"]
        self._scalars = Scalars(np.object_, coerce=entry.get("coerce", False))
        self._default = default_of(entry, self._scalars)
        self._graph_inputs = graph_inputs
        self._ids_name: str = entry["input"]
        self._pad_id: int = entry["pad_id"]
        self._tokenizer = Tokenizer.from_file(str(folder / entry["tokenizer"]))
        self._tokenizer.enable_truncation(self.max_tokens)
        self._tokenizer.no_padding()
        self._num_known = self._tokenizer.get_vocab_size()
        specials = self._tokenizer.encode("").ids
        self._opening, self._closing = specials[:-1], specials[-1:]

    # Records

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        return self.feeds(self.tokenise(self.plain_texts(records)))

    def plain_texts(self, records: Sequence[Record]) -> list[str]:
        """The texts of the records. Irregular if some record has none."""
        texts: list[Any] = [record.get(self._field) for record in records]
        if set(map(type, texts)) != {str}:
            raise Irregular
        return texts

    def check(self, record: Record) -> str:
        value = record.get(self._field, MISSING)
        if (value is None or value is MISSING) and type(self._default) is str:
            return self._default
        return self._scalars.check(value, self._field)

    def stack(self, values: list[str]) -> dict[str, np.ndarray]:
        return self.feeds(self.tokenise(values))

    # Tokens

    def tokenise(self, texts: list[str]) -> list[Tokens]:
        """Each text as the model takes it, cut at `max_tokens`. Half of a surrogate pair is not a character and becomes U+FFFD."""
        limit = MAX_CHARACTERS_PER_TOKEN * self.max_tokens
        heads = [text[:limit] for text in texts] if max(map(len, texts), default=0) > limit else texts
        try:
            encodings = self._tokenizer.encode_batch_fast(heads)
        except TypeError:  # the library raises it for a text that is not Unicode
            encodings = self._tokenizer.encode_batch_fast(list(map(codec.without_surrogates, heads)))
        return [
            Tokens(encoding.ids, self._is_cut(encoding) or not _is_blank_after(text, limit))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _is_cut(self, encoding: Encoding) -> bool:
        return len(encoding) == self.max_tokens and bool(encoding.overflowing)

    def from_ids(self, ids: list[int]) -> Tokens:
        """Ids that this tokenizer made, with the special tokens around them unless they have them already. UnknownToken."""
        for token in ids:
            if not 0 <= token < self._num_known:
                raise UnknownToken(token)
        is_whole = len(ids) >= len(self._opening) + len(self._closing)
        is_whole = is_whole and ids[: len(self._opening)] == self._opening and ids[len(ids) - len(self._closing) :] == self._closing
        whole = ids if is_whole else [*self._opening, *ids, *self._closing]
        if len(whole) <= self.max_tokens:
            return Tokens(whole, False)
        return Tokens(whole[: self.max_tokens - len(self._closing)] + self._closing, True)

    def feeds(self, batch: Sequence[Tokens]) -> dict[str, np.ndarray]:
        """The tensors of one run, padded to its longest text, for the inputs that the graph has."""
        longest = max(len(tokens.ids) for tokens in batch)
        ids = np.full((len(batch), longest), self._pad_id, np.int64)
        mask = np.zeros((len(batch), longest), np.int64)
        for i, tokens in enumerate(batch):
            ids[i, : len(tokens.ids)] = tokens.ids
            mask[i, : len(tokens.ids)] = 1
        beside = {"attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {self._ids_name: ids} | {name: value for name, value in beside.items() if name in self._graph_inputs}


def _is_blank_after(text: str, position: int) -> bool:
    return len(text) <= position or not text[position:].strip()
