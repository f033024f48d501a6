"""The task `import`: a folder of sentence-transformers becomes model.onnx, tokenizer.json and what goes into config.json.

Reads what the folder says about itself, and refuses it if our vectors would differ from those of sentence-transformers. encoder.py
builds the graph. Knows nothing of versions and of the folders in which models are kept.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from onnx.reference import ReferenceEvaluator
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from engine.frames import Header
from engine.tasks.embedding.embedder import SAME_COSINE, cosine, encode_fingerprint
from engine.tasks.publishing.encoder import NUM_BUCKETS, OUTPUT, POOLINGS, Architecture, encoder_graph
from engine.tasks.publishing.onnx_file import Unfit
from engine.tasks.publishing.safetensors import Tensors
from engine.tasks.scoring.model import LoadedModel

Config = dict[str, Any]

EXAMPLE = {"text": "Hello"}
# The throughput of a CPU is highest with 8 to 16 texts of similar length.
MAX_BATCH_SIZE = 16
KINDS = ("bert", "mpnet")
# Settings of a checkpoint for which only this value is served; it is also the value if the checkpoint does not say.
ONLY = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "relative_attention_num_buckets": NUM_BUCKETS,
}
# The special tokens of each kind, unless the folder names others.
SPECIAL_TOKENS = {
    "bert": {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"},
    "mpnet": {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "[UNK]", "pad_token": "<pad>", "mask_token": "<mask>"},
}


def import_folder(header: Header) -> Header:
    """The task `import`: the answer has the `config` of the model, or `refused` with the reason.

    header  source and target: folders; owner, name, shared: what goes into the config
    """
    source, target = Path(header["source"]), Path(header["target"])
    try:
        return {"config": convert(source, target, owner=header["owner"], name=header["name"], shared=header["shared"])}
    except Unfit as unfit:
        return {"refused": str(unfit)}


def convert(source: Path, target: Path, *, owner: str, name: str, shared: bool) -> Config:
    """Write model.onnx and tokenizer.json into the existing folder `target`; its config.json is returned, not written.

    Unfit for a folder that cannot be served. The config's fingerprint is the example's vector as the evaluator of the onnx package
    computes it: base64 of little-endian float32.
    """
    modules = _modules(source)
    checkpoint = source / modules["Transformer"]
    architecture = _architecture(checkpoint, source / modules["Pooling"], normalise="Normalize" in modules)
    tokenizer = _tokenizer(checkpoint, architecture)
    text = _text_input(checkpoint, architecture, tokenizer)
    graph = encoder_graph(architecture, Tensors(checkpoint))
    _write(graph, target)
    tokenizer.save(str(target / "tokenizer.json"), pretty=False)
    config = {"owner": owner, "name": name, "task": "embed", "shared": shared, **_served_as(architecture, text)}
    return {**config, "fingerprint": _reference_fingerprint(graph, target, config)}


def _served_as(architecture: Architecture, text: Config) -> Config:
    """The part of config.json that follows from the model; `text` is the entry of its input."""
    return {
        "description": f"Vectors of texts: {architecture.kind}, {architecture.num_layers} layers, {architecture.pooling} pooling",
        "dim": architecture.width,
        "max_tokens": text["max_tokens"],
        "max_batch_size": MAX_BATCH_SIZE,
        "inputs": [text],
        "outputs": [{"output": OUTPUT, "as": "embedding"}],
        "example": EXAMPLE,
    }


# What the folder says


def _modules(source: Path) -> dict[str, str]:
    """Kind of module -> its folder. Unfit unless there are a Transformer, a Pooling and perhaps a Normalize, in this order."""
    entries = _read_json(source, "modules.json", of=list)
    try:
        modules = {str(entry["type"]).rpartition(".")[2]: str(entry["path"]) for entry in entries}
    except (TypeError, KeyError):
        raise Unfit("modules.json is not a list of modules with their types and paths") from None
    for kind in modules:
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise Unfit(f"a {kind[:100]} module is not served: only Transformer, Pooling and Normalize are")
    if list(modules)[:2] != ["Transformer", "Pooling"] or len(modules) != len(entries):
        raise Unfit("modules.json must name a Transformer, a Pooling and perhaps a Normalize, in this order")
    prompts = _read_json(source, "config_sentence_transformers.json", default={})
    if (prompt := prompts.get("default_prompt_name")) is not None:
        raise Unfit(f"the model puts its prompt '{str(prompt)[:100]}' before every text, which is not served")
    return modules


def _architecture(checkpoint: Path, pooling: Path, *, normalise: bool) -> Architecture:
    """What the folder says of the encoder. Unfit if encoder.py cannot build it."""
    config = _read_json(checkpoint, "config.json")
    architecture = Architecture(
        kind=_checkpoint_kind(config),
        num_words=_count(config, "vocab_size"),
        num_positions=_count(config, "max_position_embeddings"),
        num_layers=_count(config, "num_hidden_layers"),
        num_heads=_count(config, "num_attention_heads"),
        width=_count(config, "hidden_size"),
        inner_width=_count(config, "intermediate_size"),
        epsilon=_epsilon(config),
        pooling=_pooling(pooling),
        normalise=normalise,
    )
    if architecture.width % architecture.num_heads:
        raise Unfit(
            f"config.json gives {architecture.num_heads} heads to a width of {architecture.width}, which they do not divide"
        )
    return architecture


def _checkpoint_kind(config: Config) -> Any:
    """ "bert" or "mpnet". Unfit for others, and for variants that would give other vectors."""
    kind = config.get("model_type")
    if kind not in KINDS:
        raise Unfit(f"only {' and '.join(KINDS)}, not {str(kind)[:100]!r}")
    for key, only in ONLY.items():
        if config.get(key, only) != only:
            raise Unfit(f"only {key} {only!r}, not {str(config[key])[:100]!r}")
    return kind


def _count(config: Config, key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise Unfit(f"config.json: {key} must be an integer above 0, not {str(value)[:100]!r}")
    return value


def _epsilon(config: Config) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    if type(value) not in (float, int) or not 0 <= value < 1:
        raise Unfit(f"config.json: layer_norm_eps must be a small number, not {str(value)[:100]!r}")
    return float(value)


def _pooling(folder: Path) -> Any:
    """The one pooling mode: "cls", "max" or "mean". Older folders have a flag for each mode, newer ones name it. Unfit."""
    config = _read_json(folder, "config.json", shown=f"{folder.name}/config.json")
    named = config.get("pooling_mode")
    modes = named if isinstance(named, list) else [named]
    if named is None:
        flags = [key for key, is_on in config.items() if key.startswith("pooling_mode_") and is_on is True]
        modes = [key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for key in flags]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        found = ", ".join(str(mode)[:100] for mode in modes) or "none"
        raise Unfit(f"only one pooling of {', '.join(POOLINGS)} is served, not {found}")
    return modes[0]


def _read_json(folder: Path, name: str, *, of: type = dict, default: Any = None, shown: str = "") -> Any:
    """The JSON of a file; the default, if there is one, for a file that is absent. Unfit if the JSON is not of the type `of`.

    shown  how a refusal names the file
    """
    path, shown = folder / name, shown or name
    if not path.is_file():
        if default is not None:
            return default
        raise Unfit(f"the folder has no {shown}")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise Unfit(f"{shown} is not JSON") from None
    if not isinstance(value, of):
        raise Unfit(f"{shown} does not hold a JSON {'object' if of is dict else 'array'}")
    return value


# The tokenizer


def _tokenizer(checkpoint: Path, architecture: Architecture) -> Tokenizer:
    """Read from tokenizer.json or made from vocab.txt; it neither cuts nor pads. Unfit if it has ids that the weights lack."""
    if (checkpoint / "tokenizer.json").is_file():
        tokenizer = _stored_tokenizer(checkpoint)
    elif (checkpoint / "vocab.txt").is_file():
        tokenizer = _word_pieces(checkpoint, architecture.kind)
    else:
        raise Unfit("the folder has neither tokenizer.json nor vocab.txt")
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= architecture.num_words:
        raise Unfit(f"the tokenizer has ids up to {highest}, the weights know words up to {architecture.num_words - 1}")
    if _read_json(checkpoint, "sentence_bert_config.json", default={}).get("do_lower_case") is True:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *filter(None, [tokenizer.normalizer])])
    return tokenizer


def _stored_tokenizer(checkpoint: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    except Exception:  # a foreign file may fail in any way; the library raises plain Exceptions
        raise Unfit("tokenizer.json is not a tokenizer") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _word_pieces(checkpoint: Path, kind: str) -> Tokenizer:
    """The tokenizer that BERT and MPNet share, with the settings of tokenizer_config.json. Unfit if a special token is missing."""
    settings, vocabulary = _settings(checkpoint), _vocabulary(checkpoint)
    special = {role: settings.get(role) or token for role, token in SPECIAL_TOKENS[kind].items()}
    for token in special.values():
        if token not in vocabulary:
            raise Unfit(f"vocab.txt has no token '{token[:100]}'")
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=special["unk_token"], max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first, last = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.BertProcessing((last, vocabulary[last]), (first, vocabulary[first]))
    tokenizer.add_special_tokens(list(special.values()))
    return tokenizer


def _vocabulary(checkpoint: Path) -> dict[str, int]:
    """Token -> its line; its last, if it has several. splitlines would also split at characters that are tokens. Unfit."""
    try:
        text = (checkpoint / "vocab.txt").read_text("utf-8")
    except UnicodeDecodeError:
        raise Unfit("vocab.txt is not UTF-8") from None
    return {line: i for i, line in enumerate(text.removesuffix("\n").split("\n"))}


def _settings(checkpoint: Path) -> Config:
    """special_tokens_map.json, overridden by tokenizer_config.json. A token may be an object there, with its text as `content`."""
    found: Config = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        found |= _read_json(checkpoint, name, default={})
    return {key: value.get("content") if isinstance(value, dict) else value for key, value in found.items()}


def _text_input(checkpoint: Path, architecture: Architecture, tokenizer: Tokenizer) -> Config:
    """The input's entry of config.json. Unfit if the tokenizer cannot pad, or if its texts have no room for a word."""
    pad_token = _settings(checkpoint).get("pad_token") or SPECIAL_TOKENS[architecture.kind]["pad_token"]
    pad_id = tokenizer.token_to_id(pad_token)
    if pad_id is None:
        raise Unfit(f"the tokenizer has no token '{pad_token[:100]}' to pad with")
    max_tokens = _max_tokens(checkpoint, architecture)
    if max_tokens <= tokenizer.num_special_tokens_to_add(is_pair=False):
        raise Unfit(f"texts of {max_tokens} tokens have no room for a word between the special tokens")
    entry = {"kind": "text", "input": "input_ids", "field": "text", "tokenizer": "tokenizer.json"}
    return {**entry, "max_tokens": max_tokens, "pad_id": pad_id, "pad_token": pad_token}


def _max_tokens(checkpoint: Path, architecture: Architecture) -> int:
    """The length that sentence_bert_config.json gives, else tokenizer_config.json; at most the number of positions. Unfit."""
    given = _read_json(checkpoint, "sentence_bert_config.json", default={}).get("max_seq_length")
    limit = given or _settings(checkpoint).get("model_max_length") or architecture.max_tokens
    if type(limit) not in (int, float) or limit < 1:
        raise Unfit(f"the longest text must be a number of tokens, not {str(limit)[:100]!r}")
    return int(min(limit, architecture.max_tokens))


# Writing the model, and trying it out


def _write(graph: onnx.ModelProto, target: Path) -> None:
    """Write model.onnx. Unfit if it is too large for one protobuf message."""
    try:
        data = graph.SerializeToString(deterministic=True)
    except EncodeError:
        raise Unfit("the model is larger than 2 GB") from None
    onnx.checker.check_model(data)
    (target / "model.onnx").write_bytes(data)


def _reference_fingerprint(graph: onnx.ModelProto, target: Path, config: Config) -> str:
    """The vector of the example, as the evaluator of the onnx package computes it. Unfit if it is not finite."""
    model = LoadedModel(f"{config['owner']}/{config['name']}@0", target, config)
    feeds, _ = model.tensors([EXAMPLE])
    outputs: Any = ReferenceEvaluator(graph).run(None, feeds)
    expected, found = outputs[0][0], model.values(feeds)[0][0]
    if not np.isfinite(expected).all():
        raise Unfit("the example has no finite vector: there are infinities or NaN among the weights")
    agreement = cosine(expected, found)
    if not agreement >= SAME_COSINE:
        raise AssertionError(
            f"this is a bug: onnxruntime and onnx's evaluator give different vectors, their cosine is {agreement:.4f}"
        )
    return encode_fingerprint(expected)
