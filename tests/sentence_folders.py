"""sentence-transformers folders with random weights, and the same models as a forward pass in numpy, one text at a time.

The forward pass is written from the papers and shares no code with the program that builds the graphs.
"""

import bisect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from engine.tasks.publishing.encoder import Architecture

Weights = dict[str, np.ndarray]

SPECIAL = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "mpnet": ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [
    "hello",
    "world",
    "text",
    "##s",
    "##ing",
    ",",
    ".",
    "中",
    "文",
    "H",
    "\u2028",
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
]
NAMES = {
    "bert": ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm"),
    "mpnet": ("attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm"),
}
# The first distance in each of the buckets 9, 10, ... of 16: 8 (128/8)^(k/8), rounded up.
BUCKET_STARTS = (12, 16, 23, 32, 46, 64, 91)
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def write(
    folder: Path,
    kind: str = "bert",
    *,
    pooling: str = "mean",
    normalise: bool = True,
    dtype: str = "F32",
    num_files: int = 1,
    **config: Any,
) -> Weights:
    """Write a folder as sentence-transformers does; returns the weights by name, with the precision that they have in its files.

    num_files  2 or more make a sharded model with an index
    config     keys of config.json that differ from `config_of(kind)`; sizes change the weights too
    """
    sizes = config_of(kind) | config
    weights = {name: _rounded(values, dtype) for name, values in random_weights(sizes).items()}
    write_weights(folder, weights, dtype, num_files)
    write_json(folder / "config.json", sizes)
    kinds = ["Transformer", "Pooling", "Normalize"][: 2 + normalise]
    paths = ["", "1_Pooling", "2_Normalize"]
    entries = [{"idx": i, "path": paths[i], "type": f"sentence_transformers.models.{name}"} for i, name in enumerate(kinds)]
    write_json(folder / "modules.json", entries)
    (folder / "1_Pooling").mkdir()
    modes = {mode: mode.split("_")[0] == pooling for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")}
    modes["mean_sqrt_len_tokens"] = False
    write_json(folder / "1_Pooling" / "config.json", {f"pooling_mode_{mode}": is_on for mode, is_on in modes.items()})
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": sizes["max_position_embeddings"] - 4, "do_lower_case": False}
    )
    _write_tokenizer(folder, kind)
    return weights


def config_of(kind: str) -> dict[str, Any]:
    """The content of config.json for a small model."""
    sizes: dict[str, Any] = {
        "vocab_size": 80,
        "max_position_embeddings": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 32,
    }
    sizes |= {"intermediate_size": 48, "layer_norm_eps": 1e-5, "hidden_act": "gelu"}
    return {"model_type": kind, **sizes, **({"type_vocab_size": 2} if kind == "bert" else {"relative_attention_num_buckets": 32})}


def architecture_of(config: dict[str, Any], *, pooling: Any = "mean", normalise: bool = True) -> Architecture:
    return Architecture(
        kind=config["model_type"],
        num_words=config["vocab_size"],
        num_positions=config["max_position_embeddings"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        width=config["hidden_size"],
        inner_width=config["intermediate_size"],
        epsilon=config["layer_norm_eps"],
        pooling=pooling,
        normalise=normalise,
    )


def random_weights(config: dict[str, Any], seed: int = 7) -> Weights:
    """float32 weights, large enough that every part of the model changes its vectors. They include a pooler, which no code uses."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) / 4 + name.endswith("Norm.weight")).astype(np.float32) for name, shape in _shapes(config)
    }


def _shapes(config: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    kind, width, inner = config["model_type"], config["hidden_size"], config["intermediate_size"]
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("embeddings.word_embeddings.weight", (config["vocab_size"], width)),
        ("embeddings.position_embeddings.weight", (config["max_position_embeddings"], width)),
        *_pair("embeddings.LayerNorm", (width,)),
        *_pair("pooler.dense", (width, width)),
    ]
    if kind == "bert":
        shapes.append(("embeddings.token_type_embeddings.weight", (config["type_vocab_size"], width)))
    else:
        rows = config["relative_attention_num_buckets"], config["num_attention_heads"]
        shapes.append(("encoder.relative_attention_bias.weight", rows))
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        *dense, norm = NAMES[kind]
        for name in dense:
            shapes += _pair(f"{layer}.attention.{name}", (width, width))
        shapes += _pair(f"{layer}.attention.{norm}", (width,)) + _pair(f"{layer}.output.LayerNorm", (width,))
        shapes += _pair(f"{layer}.intermediate.dense", (inner, width)) + _pair(f"{layer}.output.dense", (width, inner))
    return shapes


def _pair(name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", shape), (f"{name}.bias", shape[:1])]


# Files


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), "utf-8")


def change_json(path: Path, **changes: Any) -> None:
    """Change keys of the JSON object in a file. None removes a key."""
    merged = json.loads(path.read_bytes()) | changes
    write_json(path, {key: value for key, value in merged.items() if value is not None})


def write_weights(folder: Path, weights: Weights, dtype: str = "F32", num_files: int = 1) -> None:
    """Write model.safetensors, or the given number of files and their index."""
    if num_files == 1:
        (folder / "model.safetensors").write_bytes(safetensors(weights, dtype))
        return
    index: dict[str, str] = {}
    for i in range(num_files):
        name = f"model-{i + 1:05}-of-{num_files:05}.safetensors"
        part = dict(list(weights.items())[i::num_files])
        (folder / name).write_bytes(safetensors(part, dtype))
        index |= dict.fromkeys(part, name)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def safetensors(weights: Weights, dtype: str = "F32") -> bytes:
    """The content of a safetensors file with these float32 arrays."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    buffer = b""
    for name, values in weights.items():
        raw = _stored(values, dtype).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(buffer), len(buffer) + len(raw)]}
        buffer += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + buffer


def _stored(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (np.asarray(values, "<f4").view("<u4") >> 16).astype("<u2")
    return np.asarray(values, DTYPES[dtype])


def _rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The values as float32, rounded to what `dtype` can hold."""
    if dtype == "BF16":
        return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(DTYPES[dtype]).astype(np.float32)


def _write_tokenizer(folder: Path, kind: str) -> None:
    """Write vocab.txt and tokenizer.json. The tokenizer truncates and pads every text to 128 tokens, as published ones do."""
    vocabulary = SPECIAL[kind] + WORDS
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), "utf-8")
    ids = {token: i for i, token in enumerate(vocabulary)}
    first, last, pad = ("[CLS]", "[SEP]", "[PAD]") if kind == "bert" else ("<s>", "</s>", "<pad>")
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing((last, ids[last]), (first, ids[first]))
    tokenizer.add_special_tokens(SPECIAL[kind])
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128, pad_id=ids[pad], pad_token=pad)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "pad_token": pad, "model_max_length": 512})


# The forward pass


def _positions(config: dict[str, Any], ids: list[int]) -> list[int]:
    """BERT numbers all tokens from 0. MPNet numbers from 2, except the padding token 1, whose position is always 1."""
    if config["model_type"] == "bert":
        return list(range(len(ids)))
    return [1 if one == 1 else 2 + sum(other != 1 for other in ids[:i]) for i, one in enumerate(ids)]


def embed(config: dict[str, Any], weights: Weights, ids: list[int], *, pooling: str = "mean", normalise: bool = True) -> np.ndarray:
    """The vector of one text, float64 [width]."""
    hidden = weights["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    hidden += weights["embeddings.position_embeddings.weight"][_positions(config, ids)]
    if config["model_type"] == "bert":
        hidden += weights["embeddings.token_type_embeddings.weight"][0]
    hidden = _norm(config, weights, "embeddings.LayerNorm", hidden)
    for i in range(config["num_hidden_layers"]):
        hidden = _layer(config, weights, f"encoder.layer.{i}", hidden)
    vector = {"cls": hidden[0], "max": hidden.max(axis=0), "mean": hidden.mean(axis=0)}[pooling]
    return np.asarray(vector / np.linalg.norm(vector) if normalise else vector)


def _layer(config: dict[str, Any], weights: Weights, layer: str, hidden: np.ndarray) -> np.ndarray:
    query, key, value, output, norm = (f"{layer}.attention.{name}" for name in NAMES[config["model_type"]])
    width = config["hidden_size"] // config["num_attention_heads"]
    queries, keys, values = (_dense(weights, name, hidden) for name in (query, key, value))
    taken = np.empty_like(hidden)
    for head in range(config["num_attention_heads"]):
        columns = slice(head * width, (head + 1) * width)
        scores = queries[:, columns] @ keys[:, columns].T / math.sqrt(width)
        if config["model_type"] == "mpnet":
            scores += _distance_bias(weights, head, len(hidden))
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        taken[:, columns] = shares / shares.sum(axis=1, keepdims=True) @ values[:, columns]
    hidden = _norm(config, weights, norm, hidden + _dense(weights, output, taken))
    inner = _dense(weights, f"{layer}.intermediate.dense", hidden)
    inner *= (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
    return _norm(config, weights, f"{layer}.output.LayerNorm", hidden + _dense(weights, f"{layer}.output.dense", inner))


def _dense(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    return np.asarray(values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])


def _norm(config: dict[str, Any], weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + config["layer_norm_eps"])
    return np.asarray(centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"])


def _distance_bias(weights: Weights, head: int, length: int) -> np.ndarray:
    """[length, length]: the bias of a query (row) for a key (column)."""
    table = weights["encoder.relative_attention_bias.weight"]
    return np.array([[table[bucket(key - query), head] for key in range(length)] for query in range(length)])


def bucket(distance: int) -> int:
    """One of 32 buckets: 0 to 15 for keys behind, 16 to 31 for keys ahead. Each distance below 8 has a bucket of its own."""
    far = abs(distance)
    return (16 if distance > 0 else 0) + (far if far < 8 else 8 + bisect.bisect_right(BUCKET_STARTS, far))
