"""Folders of sentence-transformers become models: what is written, which folders are refused, and whether the vectors are right."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from engine.tasks.publishing.convert import convert
from engine.tasks.publishing.onnx_file import Unfit
from engine.tasks.scoring.model import LoadedModel
from tests import sentence_folders
from tests.sentence_folders import change_json, config_of, embed, write_json

TEXTS = [
    "hello",
    "",
    "Hello worlds, hello texts.",
    "zzz " * 9,
    "Héllo WÖRLD",
    "中文 text",
    "a\u2028b [SEP] <pad>",
    "tab\tand\nline",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def converted(source: Path, target: Path) -> dict[str, Any]:
    return convert(source, target, owner="eva", name="small", shared=True)


def refusal(source: Path, target: Path) -> str:
    """The sentence with which a folder is refused; nothing may have been written by then."""
    with pytest.raises(Unfit) as caught:
        converted(source, target)
    assert not list(target.iterdir())
    assert str(source) not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def vectors(target: Path, config: dict[str, Any], texts: list[str]) -> np.ndarray:
    """The vectors of texts as a replica computes them: float32 [texts, dim]."""
    model = LoadedModel("eva/small@1", target, config)
    feeds, _ = model.tensors([{"text": text} for text in texts])
    found: np.ndarray = model.values(feeds)[0]
    return found


def ids_of(target: Path, text: str) -> list[int]:
    ids: list[int] = Tokenizer.from_file(str(target / "tokenizer.json")).encode(text).ids
    return ids


# What is written


def test_the_config_says_all_that_a_replica_needs(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    config = converted(source, target)
    assert base64.b64decode(config.pop("fingerprint"))
    assert config == {
        "owner": "eva",
        "name": "small",
        "task": "embed",
        "description": "Vectors of texts: bert, 2 layers, mean pooling",
        "shared": True,
        "dim": 32,
        "max_tokens": 36,
        "max_batch_size": 16,
        "inputs": [
            {
                "kind": "text",
                "input": "input_ids",
                "field": "text",
                "tokenizer": "tokenizer.json",
                "max_tokens": 36,
                "pad_id": 0,
                "pad_token": "[PAD]",
            }
        ],
        "outputs": [{"output": "sentence_embedding", "as": "embedding"}],
        "example": {"text": "Hello"},
    }
    assert sorted(path.name for path in target.iterdir()) == ["model.onnx", "tokenizer.json"]


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_vectors_agree_with_a_forward_pass(source: Path, target: Path, kind: str) -> None:
    layers = {"bert": 12, "mpnet": 3}[kind]
    weights = sentence_folders.write(source, kind, num_hidden_layers=layers)
    config = converted(source, target)
    model = config_of(kind) | {"num_hidden_layers": layers}
    expected = [embed(model, weights, ids_of(target, text)[:36]) for text in TEXTS]
    np.testing.assert_allclose(vectors(target, config, TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize("pooling", ["cls", "max", "mean"])
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_fingerprint_is_the_vector_of_the_example(source: Path, target: Path, kind: str, pooling: str) -> None:
    weights = sentence_folders.write(source, kind, pooling=pooling, normalise=False)
    config = converted(source, target)
    found = np.frombuffer(base64.b64decode(config["fingerprint"]), "<f4")
    expected = embed(config_of(kind), weights, ids_of(target, "Hello"), pooling=pooling, normalise=False)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    np.testing.assert_allclose(found, vectors(target, config, ["Hello"])[0], atol=5e-6)


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_same_folder_gives_the_same_bytes(source: Path, target: Path, tmp_path: Path, kind: str) -> None:
    sentence_folders.write(source, kind)
    (tmp_path / "again").mkdir()
    assert converted(source, target) == converted(source, tmp_path / "again")
    for name in ("model.onnx", "tokenizer.json"):
        assert (target / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("written", [{"num_files": 3}, {"dtype": "F16"}, {"dtype": "BF16"}, {"num_files": 2, "dtype": "F16"}])
def test_weights_may_be_sharded_or_of_half_size(source: Path, target: Path, written: dict[str, Any]) -> None:
    weights = sentence_folders.write(source, **written)
    found = vectors(target, converted(source, target), ["hello world"])[0]
    np.testing.assert_allclose(found, embed(config_of("bert"), weights, ids_of(target, "hello world")), atol=2e-6)


def test_the_transformer_may_lie_in_a_folder_of_its_own(source: Path, target: Path, tmp_path: Path) -> None:
    sentence_folders.write(source, "mpnet")
    expected = converted(source, target)
    inner = source / "0_Transformer"
    inner.mkdir()
    for path in list(source.iterdir()):
        if path.is_file() and path.name != "modules.json":
            shutil.move(path, inner / path.name)
    entries = json.loads((source / "modules.json").read_bytes())
    entries[0] |= {"path": "0_Transformer", "type": "sentence_transformers.models.transformer.Transformer"}
    write_json(source / "modules.json", entries)
    (tmp_path / "other").mkdir()
    assert converted(source, tmp_path / "other") == expected


# The length of texts, pooling


@pytest.mark.parametrize(
    ("kind", "max_seq_length", "model_max_length", "expected"),
    [
        ("bert", 20, 30, 20),
        ("bert", 512, 30, 40),
        ("mpnet", 512, 30, 38),
        ("bert", None, 30, 30),
        ("bert", None, 512, 40),
        ("bert", None, 10**30, 40),
        ("mpnet", None, 1e30, 38),
        ("mpnet", None, None, 38),
    ],
)
def test_texts_are_as_long_as_the_folder_says_and_positions_allow(
    source: Path, target: Path, kind: str, max_seq_length: int | None, model_max_length: float | None, expected: int
) -> None:
    sentence_folders.write(source, kind)
    change_json(source / "sentence_bert_config.json", max_seq_length=max_seq_length)
    change_json(source / "tokenizer_config.json", model_max_length=model_max_length)
    config = converted(source, target)
    assert [config["max_tokens"], config["inputs"][0]["max_tokens"]] == [expected, expected]
    assert np.isfinite(vectors(target, config, ["a " * 600])).all()


@pytest.mark.parametrize("named", ["cls", ["cls"]])
def test_newer_folders_name_their_pooling(source: Path, target: Path, named: Any) -> None:
    weights = sentence_folders.write(source)
    write_json(source / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": named, "include_prompt": True})
    found = vectors(target, converted(source, target), ["hello"])[0]
    np.testing.assert_allclose(found, embed(config_of("bert"), weights, ids_of(target, "hello"), pooling="cls"), atol=2e-6)


# Tokenizers


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_tokenizer_neither_cuts_nor_pads(source: Path, target: Path, kind: str) -> None:
    sentence_folders.write(source, kind)
    assert len(Tokenizer.from_file(str(source / "tokenizer.json")).encode("a").ids) == 128
    config = converted(source, target)
    assert len(ids_of(target, "a")) == 3
    assert len(ids_of(target, "a " * 600)) == 602
    expected = {"bert": (0, "[PAD]"), "mpnet": (1, "<pad>")}[kind]
    assert (config["inputs"][0]["pad_id"], config["inputs"][0]["pad_token"]) == expected


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_a_vocabulary_alone_makes_the_same_tokenizer(source: Path, target: Path, tmp_path: Path, kind: str) -> None:
    sentence_folders.write(source, kind)
    expected = converted(source, target)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (source / name).unlink()
    (tmp_path / "other").mkdir()
    assert converted(source, tmp_path / "other") == expected
    for text in TEXTS:
        assert ids_of(tmp_path / "other", text) == ids_of(target, text)


def test_a_vocabulary_follows_its_settings(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    (source / "tokenizer.json").unlink()
    lines = (source / "vocab.txt").read_text("utf-8").replace("[PAD]", "(pad)").replace("[CLS]", "(cls)")
    (source / "vocab.txt").write_text(lines, "utf-8")
    write_json(source / "special_tokens_map.json", {"pad_token": {"content": "(pad)", "lstrip": False}, "cls_token": "wrong"})
    change_json(source / "tokenizer_config.json", do_lower_case=False, pad_token=None, cls_token="(cls)")
    config = converted(source, target)
    assert config["inputs"][0]["pad_token"] == "(pad)"
    tokens = Tokenizer.from_file(str(target / "tokenizer.json")).encode("H h").tokens
    assert tokens == ["(cls)", "H", "h", "[SEP]"]


def test_texts_are_lower_cased_where_the_folder_asks_for_it(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    (source / "tokenizer.json").unlink()
    change_json(source / "tokenizer_config.json", do_lower_case=False)
    change_json(source / "sentence_bert_config.json", do_lower_case=True)
    converted(source, target)
    assert ids_of(target, "HELLO") == ids_of(target, "hello")


# Refusals


def module(name: str) -> list[dict[str, Any]]:
    kinds = ["Transformer", "Pooling", name]
    return [{"idx": i, "path": f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]


ORDER = "modules.json must name a Transformer, a Pooling and perhaps a Normalize, in this order"


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        (module("Dense"), "a Dense module is not served: only Transformer, Pooling and Normalize are"),
        (module("WordWeights"), "a WordWeights module is not served: only Transformer, Pooling and Normalize are"),
        (module("Normalize")[:1], ORDER),
        (module("Normalize")[1:], ORDER),
        (module("Normalize")[::-1], ORDER),
        (module("Pooling"), ORDER),
        ([], ORDER),
        ([{}], "modules.json is not a list of modules with their types and paths"),
        ([3], "modules.json is not a list of modules with their types and paths"),
        ({}, "modules.json does not hold a JSON array"),
    ],
)
def test_other_modules_are_refused_by_name(source: Path, target: Path, modules: Any, reason: str) -> None:
    sentence_folders.write(source)
    write_json(source / "modules.json", modules)
    assert refusal(source, target) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "xlm-roberta"}, "only bert and mpnet, not 'xlm-roberta'"),
        ({"model_type": None}, "only bert and mpnet, not 'None'"),
        ({"hidden_act": "relu"}, "only hidden_act 'gelu', not 'relu'"),
        ({"position_embedding_type": "relative_key"}, "only position_embedding_type 'absolute', not 'relative_key'"),
        ({"relative_attention_num_buckets": 64}, "only relative_attention_num_buckets 32, not '64'"),
        ({"is_decoder": True}, "only is_decoder False, not 'True'"),
        ({"hidden_size": None}, "config.json: hidden_size must be an integer above 0, not 'None'"),
        ({"num_hidden_layers": "2"}, "config.json: num_hidden_layers must be an integer above 0, not '2'"),
        ({"vocab_size": 0}, "config.json: vocab_size must be an integer above 0, not '0'"),
        ({"layer_norm_eps": "x"}, "config.json: layer_norm_eps must be a small number, not 'x'"),
        ({"num_attention_heads": 3}, "config.json gives 3 heads to a width of 32, which they do not divide"),
        ({"vocab_size": 81}, "tensor 'embeddings.word_embeddings.weight' has the shape [80, 32], config.json asks for [81, 32]"),
        ({"num_hidden_layers": 3}, "the weights have no tensor 'encoder.layer.2.attention.self.query.weight'"),
    ],
)
def test_other_architectures_are_refused(source: Path, target: Path, changes: dict[str, Any], reason: str) -> None:
    sentence_folders.write(source)
    change_json(source / "config.json", **changes)
    assert refusal(source, target) == reason


def test_every_id_of_the_tokenizer_needs_a_word_among_the_weights(source: Path, target: Path, tmp_path: Path) -> None:
    sentence_folders.write(source, vocab_size=67)
    assert refusal(source, target) == "the tokenizer has ids up to 67, the weights know words up to 66"
    (tmp_path / "fitting").mkdir()
    sentence_folders.write(tmp_path / "fitting", vocab_size=68)
    assert converted(tmp_path / "fitting", target)


@pytest.mark.parametrize(
    ("pooling", "found"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "mean, cls"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "lasttoken"),
        ({"pooling_mode_mean_tokens": False}, "none"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["mean", "cls"]}, "mean, cls"),
        ({"pooling_mode": []}, "none"),
        ({"pooling_mode": 3}, "3"),
    ],
)
def test_other_poolings_are_refused(source: Path, target: Path, pooling: dict[str, Any], found: str) -> None:
    sentence_folders.write(source)
    write_json(source / "1_Pooling" / "config.json", pooling)
    assert refusal(source, target) == f"only one pooling of cls, max, mean is served, not {found}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("modules.json", "the folder has no modules.json"),
        ("config.json", "the folder has no config.json"),
        ("1_Pooling/config.json", "the folder has no 1_Pooling/config.json"),
        ("model.safetensors", "the folder has no model.safetensors"),
    ],
)
def test_a_missing_file_is_named(source: Path, target: Path, name: str, reason: str) -> None:
    sentence_folders.write(source)
    (source / name).unlink()
    assert refusal(source, target) == reason


@pytest.mark.parametrize("name", ["modules.json", "config.json", "1_Pooling/config.json", "sentence_bert_config.json"])
def test_a_file_that_is_no_json_is_named(source: Path, target: Path, name: str) -> None:
    sentence_folders.write(source)
    (source / name).write_bytes(b"{")
    assert refusal(source, target) == f"{name} is not JSON"


def test_pickled_weights_are_refused(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    assert refusal(source, target) == "the weights are in pytorch_model.bin only: convert it to safetensors"


def test_a_prompt_before_every_text_is_refused(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    write_json(source / "config_sentence_transformers.json", {"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    assert refusal(source, target) == "the model puts its prompt 'query' before every text, which is not served"


@pytest.mark.parametrize("text", [b"{}", b"[]", b"", b'{"version":"9"}'])
def test_a_broken_tokenizer_is_refused(source: Path, target: Path, text: bytes) -> None:
    sentence_folders.write(source)
    (source / "tokenizer.json").write_bytes(text)
    assert refusal(source, target) == "tokenizer.json is not a tokenizer"


def test_a_folder_without_a_tokenizer_is_refused(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    (source / "tokenizer.json").unlink()
    (source / "vocab.txt").unlink()
    assert refusal(source, target) == "the folder has neither tokenizer.json nor vocab.txt"


@pytest.mark.parametrize("vocabulary", [b"", b"hello\nworld\n", b"[CLS]\n[SEP]\n"])
def test_a_vocabulary_without_special_tokens_is_refused(source: Path, target: Path, vocabulary: bytes) -> None:
    sentence_folders.write(source)
    (source / "tokenizer.json").unlink()
    (source / "vocab.txt").write_bytes(vocabulary)
    assert refusal(source, target).startswith("vocab.txt has no token '[")


def test_a_vocabulary_that_is_no_text_is_refused(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    (source / "tokenizer.json").unlink()
    (source / "vocab.txt").write_bytes(b"[CLS]\n\xff")
    assert refusal(source, target) == "vocab.txt is not UTF-8"


def test_a_tokenizer_that_cannot_pad_is_refused(source: Path, target: Path) -> None:
    sentence_folders.write(source)
    change_json(source / "tokenizer_config.json", pad_token="<nothing>")
    assert refusal(source, target) == "the tokenizer has no token '<nothing>' to pad with"


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        (2, "texts of 2 tokens have no room for a word between the special tokens"),
        (-1, "the longest text must be a number of tokens, not '-1'"),
        ("all", "the longest text must be a number of tokens, not 'all'"),
    ],
)
def test_texts_must_have_room_for_a_word(source: Path, target: Path, length: Any, reason: str) -> None:
    sentence_folders.write(source)
    change_json(source / "sentence_bert_config.json", max_seq_length=length)
    assert refusal(source, target) == reason


def test_weights_that_are_no_numbers_are_refused(source: Path, target: Path) -> None:
    weights = sentence_folders.write(source)
    weights["encoder.layer.1.output.dense.bias"][3] = np.nan
    sentence_folders.write_weights(source, weights)
    with pytest.raises(Unfit, match="the example has no finite vector: there are infinities or NaN among the weights"):
        converted(source, target)
