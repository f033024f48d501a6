"""Texts of queries: what `embed('...')` needs becomes vectors, through the surface of embeddings, and the latest ones are kept.

Moves bytes: the vectors come as base64 and leave as little-endian float32. Knows no number in them.
"""

import binascii
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ujson

from engine.accounts import Caller
from engine.errors import MODEL_NOT_FOUND, DetailedError
from engine.frames import Buffer
from engine.repository.listed import ListedModel, ListedModels

# Vectors that are kept: 1.5 MB at 384 dimensions.
MAX_KEPT = 1024
FLOAT_BYTES = 4


class EmbeddedTexts(Protocol):
    """What embedding gives: the JSON text of each vector, in the order of the texts."""

    @property
    def pieces(self) -> Sequence[Buffer]: ...


# Embeddings.embed: the shape of the body, the body, the models that it may name.
Embed = Callable[[str, bytes, Mapping[str, ListedModel]], Awaitable[EmbeddedTexts]]


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a query that is to be embedded.

    written   the model as the query names it; None where it names none
    model     the model that is to embed it; None for the first listed one
    position  of the call in the query
    """

    text: str
    written: str | None
    model: str | None
    position: dict[str, int] | None


@dataclass(frozen=True, slots=True)
class TextVectors:
    """The vectors of some texts.

    described  for each vector its text, its model as written, and its number of dimensions
    buffers    float32, little-endian, in the same order
    """

    described: list[dict[str, Any]]
    buffers: list[bytes]


class Texts:
    """Embeds the texts of queries."""

    def __init__(self, embed: Embed, listed: ListedModels) -> None:
        self._embed = embed
        self._listed = listed
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()  # (_key of the model, text) -> vector

    async def embedded(self, texts: Sequence[Text], caller: Caller) -> TextVectors:
        """The vector of each text. EngineError `model_not_found`, and what embedding raises."""
        if not texts:
            return TextVectors([], [])
        choices = self._listed.accepted(caller)
        models = [self._model(one, caller) for one in texts]
        keys = [(_key(model), one.text) for model, one in zip(models, texts, strict=True)]
        vectors = {key: self._kept[key] for key in keys if key in self._kept}
        missing: dict[str, tuple[ListedModel, dict[str, None]]] = {}
        for model, key in zip(models, keys, strict=True):
            if key not in vectors:
                missing.setdefault(key[0], (model, {}))[1][key[1]] = None
        for model, wanted in missing.values():
            vectors |= await self._made(model, list(wanted), choices)
        self._keep(vectors)
        buffers = [vectors[key] for key in keys]
        described = [
            {"text": one.text, "model": one.written, "dim": len(vector) // FLOAT_BYTES}
            for one, vector in zip(texts, buffers, strict=True)
        ]
        return TextVectors(described, buffers)

    def _model(self, text: Text, caller: Caller) -> ListedModel:
        found = self._listed.find(caller, text.model)
        if found is None:
            details = {"position": text.position} if text.position else {}
            raise DetailedError(MODEL_NOT_FOUND, "The server has no such embedding model.", details)
        return found

    async def _made(self, model: ListedModel, texts: list[str], choices: Mapping[str, ListedModel]) -> dict[tuple[str, str], bytes]:
        """The vectors of distinct texts, by the model and the text."""
        body = ujson.dumps({"model": model.title, "input": texts, "encoding_format": "base64"}).encode()
        vectors = await self._embed("openai", body, choices)
        decoded = (binascii.a2b_base64(bytes(piece)[1:-1]) for piece in vectors.pieces)
        return {(_key(model), text): vector for text, vector in zip(texts, decoded, strict=True)}

    def _keep(self, vectors: Mapping[tuple[str, str], bytes]) -> None:
        """Keep these, and forget the ones that were not used for the longest time."""
        for key, vector in vectors.items():
            self._kept[key] = vector
            self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


def _key(model: ListedModel) -> str:
    """The same for equal vectors: the model and its version."""
    return f"{model.title}@{model.version.number}"
