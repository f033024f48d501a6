"""The 8-bit twin of a model: its vectors are close to those of the model, and do not depend on the other texts of a batch."""

import json
from pathlib import Path

import numpy as np
import pytest

from catalogue import EMBEDDINGS, Embedding, Package, Source
from engine.repository.config import parse_config
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.stages import Stages
from fetching import CONFIG_FILE, OWNER, Place, provide
from packages import digest
from tests import reference
from tests.models.conftest import NAME, Original
from tests.serving import ROOT

SHIPPED = Place(ROOT / "models", ROOT / "build" / "packages")
# The least cosine that a twin must reach to the vectors of sentence-transformers, over the texts of the fixture.
BARS = {"all-MiniLM-L6-v2": 0.999, "all-mpnet-base-v2": 0.99}


def opened(place: Place, name: str) -> Embedder:
    config = parse_config((place.folder(name) / CONFIG_FILE).read_bytes()).as_dict()
    model = Embedder(f"{OWNER}/{name}@1", place.version(name), config)
    model.check_fingerprint(config["example"])
    return model


def vectors(model: Embedder, texts: list[str], size: int) -> np.ndarray:
    """The vectors, float32 [texts, dim], computed `size` texts at a time."""
    tokens = model.text.tokenise(texts)
    return np.concatenate([model.vectors(tokens[i : i + size], Stages()) for i in range(0, len(tokens), size)])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / lengths)


def test_a_twin_is_a_model_of_its_own_and_close(place: Place, package: Package, original: Original) -> None:
    pytest.importorskip("onnx_ir", reason="onnx_ir is installed by `make models MODELS=...` only")
    import eightbit

    weights = {name: digest(original.folder / name) for name in ("model.safetensors", "tokenizer.json")}
    embedding = Embedding(NAME, (Source((package,), "small_model/files"),), weights, build_s=1)
    assert eightbit.provide_8bit(embedding, place)
    assert not eightbit.provide_8bit(embedding, place)
    assert not provide(embedding, place)  # provide_8bit has made it already
    config = json.loads((place.folder("small-8bit") / CONFIG_FILE).read_text())
    assert config["name"] == "small-8bit"
    texts = ["hello", "", "Hello worlds, hello texts.", "zzz " * 9]
    whole, twin = (vectors(opened(place, name), texts, 1) for name in (NAME, "small-8bit"))
    assert cosines(whole, twin).min() > 0.999
    assert (whole != twin).any()


def test_only_products_with_weights_change_and_the_values_of_the_attention_do_not(
    place: Place, original: Original, tmp_path: Path
) -> None:
    pytest.importorskip("onnx_ir", reason="onnx_ir is installed by `make models MODELS=...` only")
    import onnx

    import eightbit
    from engine.tasks.publishing.convert import convert

    convert(original.folder, tmp_path, owner=OWNER, name=NAME, shared=True)
    nodes = {node.name: node for node in eightbit.quantised(onnx.load(tmp_path / "model.onnx")).graph.node}
    changed = [name for name, node in nodes.items() if node.op_type == "MatMulNBits"]
    assert len(changed) == 10  # five of the six products in each of two layers
    assert not [name for name in changed if "value" in name]


@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=lambda embedding: embedding.name)
def test_a_twin_that_is_there_keeps_its_bar_and_does_not_change_with_its_neighbours(embedding: Embedding) -> None:
    name = f"{embedding.name}-8bit"
    if not SHIPPED.has(name):
        pytest.skip(f'{name} is missing: make models MODELS="{embedding.name} --weights 8bit"')
    expected = reference.load(embedding.name)
    model = opened(SHIPPED, name)
    alone = vectors(model, expected.texts, 1)
    assert cosines(alone, expected.vectors).min() > BARS[embedding.name]
    assert np.abs(vectors(model, expected.texts, 16) - alone).max() <= 1e-5
