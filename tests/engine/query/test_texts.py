"""Texts: each is embedded once, by its own model, and kept; the bytes are the float32 numbers of its vector."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import ujson

from engine.accounts import Caller
from engine.errors import DetailedError
from engine.query import texts as module
from engine.query.texts import Text, Texts
from engine.repository.index import Repository
from engine.repository.listed import ListedModel, ListedModels
from tests.embeddings.small_models import SmallModels

ADMIN = Caller("admin", "full", is_admin=True)
NAMES = ("first", "second")


@dataclass
class Vectors:
    pieces: Sequence[bytes]


@dataclass
class Embedding:
    """Stands for the surface of embeddings: the vector of a text is its length and the length of the model's name."""

    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def embed(self, shape: str, body: bytes, choices: Mapping[str, ListedModel]) -> Vectors:
        asked = ujson.loads(body)
        assert (shape, asked["encoding_format"]) == ("openai", "base64")
        self.bodies.append(asked)
        name = choices[asked["model"]].name
        raw = [struct.pack("<2f", len(text), len(name)) for text in asked["input"]]
        return Vectors([b'"%b"' % base64.b64encode(one) for one in raw])


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> ListedModels:
    data_dir = tmp_path_factory.mktemp("texts")
    small = SmallModels(tmp_path_factory.mktemp("small"))
    for name in NAMES:
        small.put(data_dir, f"admin/{name}")
    repository = Repository([data_dir / "models"])
    repository.scan([])
    made = ListedModels(repository, instead_of_files=NAMES)
    made.read()
    return made


@pytest.fixture
def embedding() -> Embedding:
    return Embedding()


@pytest.fixture
def texts(embedding: Embedding, listed: ListedModels) -> Texts:
    return Texts(embedding.embed, listed)


def text(words: str, model: str | None = None) -> Text:
    return Text(words, model, model, {"offset": 3, "line": 1, "column": 4})


async def numbers(texts: Texts, *asked: Text) -> list[tuple[float, ...]]:
    found = await texts.embedded(asked, ADMIN)
    assert [one["dim"] for one in found.described] == [2] * len(asked)
    return [struct.unpack("<2f", buffer) for buffer in found.buffers]


async def test_the_vectors_stand_in_the_order_of_the_texts(texts: Texts, embedding: Embedding) -> None:
    asked = (text("aaa", "second"), text("b"), text("cc", "second"), text("b", "second"))
    assert await numbers(texts, *asked) == [(3, 6), (1, 5), (2, 6), (1, 6)]
    assert [(body["model"], body["input"]) for body in embedding.bodies] == [
        ("admin/second", ["aaa", "cc", "b"]),
        ("admin/first", ["b"]),
    ]


async def test_a_text_is_embedded_once(texts: Texts, embedding: Embedding) -> None:
    await numbers(texts, text("bees"), text("bees"))
    assert await numbers(texts, text("honey"), text("bees", "first")) == [(5, 5), (4, 5)]
    assert [body["input"] for body in embedding.bodies] == [["bees"], ["honey"]]


async def test_the_vectors_that_were_not_used_for_longest_are_forgotten(
    texts: Texts, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    for word in ("a", "bb", "a", "ccc", "a", "bb"):
        assert await numbers(texts, text(word)) == [(len(word), 5)]
    assert [body["input"] for body in embedding.bodies] == [["a"], ["bb"], ["ccc"], ["bb"]]


async def test_more_texts_than_are_kept_have_their_vectors(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    asked = [text("a" * n) for n in range(1, 6)]
    assert await numbers(texts, *asked) == [(n, 5) for n in range(1, 6)]


async def test_an_unknown_model_is_refused_with_its_place(texts: Texts, embedding: Embedding) -> None:
    with pytest.raises(DetailedError) as caught:
        await texts.embedded([text("a"), text("b", "third")], ADMIN)
    assert caught.value.code == "model_not_found"
    assert caught.value.details == {"position": {"offset": 3, "line": 1, "column": 4}}
    assert embedding.bodies == []
