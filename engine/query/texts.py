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


class Vectors(Protocol):
    """What embedding gives: the JSON text of each vector, in the order of the texts."""

    @property
    def pieces(self) -> Sequence[Buffer]: ...


# Embeddings.embed: the shape of the body, the body, the models that it may name.
Embed = Callable[[str, bytes, Mapping[str, ListedModel]], Awaitable[Vectors]]


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
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()  # (key of the version, text) -> vector

    async def embedded(self, texts: Sequence[Text], caller: Caller) -> TextVectors:
        """The vector of each text. EngineError `model_not_found`, and what embedding raises."""
        choices = self._listed.accepted(caller)
        wanted: dict[str, list[str]] = {}
        found: list[tuple[ListedModel, Text]] = []
        for one in texts:
            listed = self._model(one, choices, caller)
            found.append((listed, one))
            if (listed.version.key, one.text) not in self._kept:
                wanted.setdefault(listed.name, []).append(one.text)
        made: dict[tuple[str, str], bytes] = {}
        for name, missing in wanted.items():
            distinct = list(dict.fromkeys(missing))
            made |= await self._made(choices[name], distinct, choices)
        vectors = [made.get((listed.version.key, one.text)) or self._look_up(listed, one.text) for listed, one in found]
        described = [
            {"text": one.text, "model": one.written, "dim": len(vector) // FLOAT_BYTES}
            for (_, one), vector in zip(found, vectors, strict=True)
        ]
        self._keep(made)
        return TextVectors(described, vectors)

    def _model(self, text: Text, choices: Mapping[str, ListedModel], caller: Caller) -> ListedModel:
        listed = next(iter(self._listed.visible(caller)), None) if text.model is None else choices.get(text.model)
        if listed is None:
            details = {"position": text.position} if text.position else {}
            raise DetailedError(MODEL_NOT_FOUND, "The server has no such embedding model.", details)
        return listed

    async def _made(
        self, listed: ListedModel, texts: list[str], choices: Mapping[str, ListedModel]
    ) -> dict[tuple[str, str], bytes]:
        body = ujson.dumps({"model": listed.name, "input": texts, "encoding_format": "base64"}).encode()
        vectors = await self._embed("openai", body, choices)
        decoded = (binascii.a2b_base64(bytes(piece)[1:-1]) for piece in vectors.pieces)
        return {(listed.version.key, text): vector for text, vector in zip(texts, decoded, strict=True)}

    def _look_up(self, listed: ListedModel, text: str) -> bytes:
        key = (listed.version.key, text)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, made: Mapping[tuple[str, str], bytes]) -> None:
        self._kept.update(made)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
