"""The 8-bit twin of an embedding model: the weights of its products in 8 bits, a model of its own named `<name>-8bit`.

By onnxruntime's own quantizer, which needs onnx_ir and sympy: only the build environment has them.
"""

import json
import logging
import shutil
from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from catalogue import Embedding
from engine.repository.config import parse_config
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.publishing.encoder import ATTENTION_NAMES
from fetching import CONFIG_FILE, OWNER, Config, Place, Unbuilt, alone, cosine, incoming, provide, put_in_place, say

BLOCK_SIZE = 32
# Activations become int8 too, each block of 32 by its own scale: neighbours in a batch change nothing.
ACCURACY_LEVEL = 4
# The values of the attention stay float32. They reach the vector by no more than an average: with them in 8 bits the texts
# without a word fall to 0.9984, below the bar of 0.999 (all-MiniLM-L6-v2); without, 0.9992, and the file grows from 60 to 62 MB.
VALUES = tuple(f".{names.value}/product" for names in ATTENTION_NAMES.values())
# Between the vectors of the example in 8 bits and in 32; README.md has the measured ones.
MIN_COSINE = 0.99


def name_8bit(embedding: Embedding) -> str:
    return f"{embedding.name}-8bit"


def provide_8bit(embedding: Embedding, place: Place) -> bool:
    """Make the twin unless it is there; whether it was missing. Fetches and builds the model itself first. As `provide` raises."""
    name = name_8bit(embedding)
    if place.has(name):
        return False
    provide(embedding, place)
    with alone(place):
        if place.has(name):  # by the run that was waited for
            return False
        _build(embedding, place)
    return True


def _build(embedding: Embedding, place: Place) -> None:
    name = name_8bit(embedding)
    say(f"building {name}: about {embedding.build_s} s")
    with incoming(place.folder(name)) as target:
        graph = quantised(onnx.load(place.version(embedding.name) / "model.onnx"))
        (target / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
        shutil.copyfile(place.version(embedding.name) / "tokenizer.json", target / "tokenizer.json")
        whole = json.loads((place.folder(embedding.name) / CONFIG_FILE).read_bytes())
        config = {**whole, "name": name, "description": f"{whole['description']}, weights of 8 bits"}
        config["fingerprint"] = _fingerprint(config, target)
        if not (agreement := cosine(config["fingerprint"], whole["fingerprint"])) >= MIN_COSINE:
            raise Unbuilt(f"the vector of the example in 8 bits is another one (cosine {agreement:.4f}); it was not kept")
        (place.folder(name) / CONFIG_FILE).unlink(missing_ok=True)  # of an earlier twin; none is tracked
        put_in_place(target, config, place.folder(name))


def quantised(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, its products with weights as MatMulNBits: 8 bits, symmetric. Changes what it is given."""
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)  # it tells of every node
    kept = [node.name for node in graph.graph.node if node.name.endswith(VALUES)]
    quantizer = MatMulNBitsQuantizer(
        graph, bits=8, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=ACCURACY_LEVEL, nodes_to_exclude=kept
    )
    quantizer.process()
    return quantizer.model.model


def _fingerprint(config: Config, target: Path) -> str:
    """By onnxruntime: no other evaluator knows the operator."""
    whole = parse_config(json.dumps({**config, "fingerprint": None}).encode()).as_dict()
    return Embedder(f"{OWNER}/{config['name']}@0", target, whole).fingerprint(config["example"])
