"""Graphs of encoders: they agree with the papers in any batch, and have only the operators and the fusions that they should."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from engine.tasks.publishing.encoder import encoder_graph, relative_buckets
from engine.tasks.publishing.onnx_file import Unfit
from engine.tasks.publishing.safetensors import Tensors
from tests import sentence_folders
from tests.sentence_folders import Weights, architecture_of, config_of, embed

RNG = np.random.default_rng(3)
POOLINGS = ["cls", "max", "mean"]


def graph_of(folder: Path, config: dict[str, Any], weights: Weights, **head: Any) -> onnx.ModelProto:
    sentence_folders.write_weights(folder, weights)
    return encoder_graph(architecture_of(config, **head), Tensors(folder))


def small(folder: Path, kind: str, **head: Any) -> onnx.ModelProto:
    return graph_of(folder, config_of(kind), sentence_folders.random_weights(config_of(kind)), **head)


def session_of(graph: onnx.ModelProto, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def vectors(session: onnxruntime.InferenceSession, texts: list[list[int]], length: int = 0, pad: int = 1) -> np.ndarray:
    """The vectors of one run, float32 [texts, width]; the texts are padded to `length`, or to the longest of them."""
    length = max(length, *map(len, texts))
    ids = np.array([text + [pad] * (length - len(text)) for text in texts], np.int64)
    mask = np.array([[1] * len(text) + [0] * (length - len(text)) for text in texts], np.int64)
    found: np.ndarray = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0]
    return found


def random_texts(*lengths: int) -> list[list[int]]:
    return [RNG.integers(5, 80, length).tolist() for length in lengths]


def test_twelve_layers_of_bert_agree_with_a_forward_pass(tmp_path: Path) -> None:
    config = config_of("bert") | {"num_hidden_layers": 12}
    weights = sentence_folders.random_weights(config)
    texts = random_texts(1, 2, 17, 40)
    found = vectors(session_of(graph_of(tmp_path, config, weights)), texts)
    np.testing.assert_allclose(found, [embed(config, weights, text) for text in texts], atol=2e-6)


def test_mpnet_agrees_with_a_forward_pass_on_texts_whose_distances_fill_every_bucket(tmp_path: Path) -> None:
    config = config_of("mpnet") | {"max_position_embeddings": 202}
    weights = sentence_folders.random_weights(config)
    texts = random_texts(1, 9, 130, 200)
    found = vectors(session_of(graph_of(tmp_path, config, weights)), texts)
    np.testing.assert_allclose(found, [embed(config, weights, text) for text in texts], atol=2e-6)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_every_pooling_is_that_of_its_paper(tmp_path: Path, kind: str, pooling: str, normalise: bool) -> None:
    config, weights, texts = config_of(kind), sentence_folders.random_weights(config_of(kind)), random_texts(3, 8)
    found = vectors(session_of(small(tmp_path, kind, pooling=pooling, normalise=normalise)), texts)
    expected = [embed(config, weights, text, pooling=pooling, normalise=normalise) for text in texts]
    np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_a_text_has_the_same_vector_whatever_it_is_padded_with_and_whatever_shares_its_batch(
    tmp_path: Path, kind: str, pooling: str
) -> None:
    session = session_of(small(tmp_path, kind, pooling=pooling))
    texts = random_texts(*RNG.integers(1, 38, 16))
    alone = np.concatenate([vectors(session, [text]) for text in texts])
    for pad, length in ((0, 0), (79, 38)):
        assert np.abs(vectors(session, texts, length, pad) - alone).max() <= 1e-6
    assert np.abs(vectors(session, texts[3:6], 38) - alone[3:6]).max() <= 1e-6


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_a_text_of_padding_only_has_numbers_and_leaves_its_neighbours_alone(
    tmp_path: Path, kind: str, pooling: str, normalise: bool
) -> None:
    session = session_of(small(tmp_path, kind, pooling=pooling, normalise=normalise))
    [text] = random_texts(6)
    found = vectors(session, [text, []])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], vectors(session, [text])[0], atol=2e-6)
    if pooling == "mean":
        assert not found[1].any()


def test_the_mean_of_no_tokens_is_zero(tmp_path: Path) -> None:
    assert not vectors(session_of(small(tmp_path, "bert")), [[], []], length=4).any()


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_graph_is_plain_and_open_in_batch_and_sequence(tmp_path: Path, kind: str) -> None:
    graph = small(tmp_path, kind)
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in graph.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert graph.ir_version == 8
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.graph.input
    }
    assert shapes == {"input_ids": ["batch", "sequence"], "attention_mask": ["batch", "sequence"]}
    assert [axis.dim_param or axis.dim_value for axis in graph.graph.output[0].type.tensor_type.shape.dim] == ["batch", 32]


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_same_weights_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    one, other = (small(tmp_path, kind).SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_graph_survives_tools_that_raise_its_opset(tmp_path: Path, pooling: str) -> None:
    graph = small(tmp_path, "mpnet", pooling=pooling)
    texts = random_texts(3, 5)
    before = vectors(session_of(graph), texts)
    graph.opset_import[0].version = 21
    graph.ir_version = 10
    np.testing.assert_allclose(vectors(session_of(graph), texts), before, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_a_session_fuses_what_the_graph_is_shaped_for(tmp_path: Path, kind: str) -> None:
    """onnxruntime fuses in each layer: the products with their biases, the heads without a transposition, and GELU."""
    session_of(small(tmp_path, kind), tmp_path / "optimised.onnx")
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert counts["Gemm"] == 2 * 6
    assert counts["FusedMatMul"] >= 2 * 2
    assert counts["Gelu"] == 2
    # One for each layer, one for the ids, one before pooling.
    assert counts["Transpose"] <= 2 + 2
    assert not counts["Erf"]


def test_buckets_are_exact_below_eight_and_grow_up_to_128() -> None:
    distances = np.arange(-600, 601)
    assert relative_buckets(distances).tolist() == [sentence_folders.bucket(int(distance)) for distance in distances]


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    config, weights = config_of("bert"), sentence_folders.random_weights(config_of("bert"))
    weights["embeddings.LayerNorm.bias"] = np.ones(31, np.float32)
    with pytest.raises(Unfit) as caught:
        graph_of(tmp_path, config, weights)
    assert str(caught.value) == "tensor 'embeddings.LayerNorm.bias' has the shape [31], config.json asks for [32]"


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_every_tensor_but_the_pooler_is_needed(tmp_path: Path, kind: str) -> None:
    config, weights = config_of(kind) | {"num_hidden_layers": 1}, sentence_folders.random_weights(config_of(kind))
    for name in weights:
        rest = {other: values for other, values in weights.items() if other != name}
        if name.startswith(("pooler", "encoder.layer.1")):
            graph_of(tmp_path, config, rest)
            continue
        with pytest.raises(Unfit) as caught:
            graph_of(tmp_path, config, rest)
        assert str(caught.value) == f"the weights have no tensor '{name}'"
