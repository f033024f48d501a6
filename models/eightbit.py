"""The 8-bit twin of an embedding model: a separate model named `<name>-8bit` whose matrix products have weights of 8 bits.

onnxruntime's own quantizer makes it. The quantizer needs onnx_ir and sympy, which only the build environment has.
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
# Activations become int8 too. Each block of 32 values has its own scale, so the neighbours of a text in a batch do not change its
# vector.
ACCURACY_LEVEL = 4
# The values of the attention stay float32, because only an average stands between them and the vector. In 8 bits they would take
# texts without a word down to a cosine of 0.9984 (all-MiniLM-L6-v2), below the bar of 0.999. In float32 these texts keep 0.9992,
# and the file grows from 60 to 62 MB.
VALUES = tuple(f".{names.value}/product" for names in ATTENTION_NAMES.values())
# Least cosine between the vectors of the example in 8 bits and in 32; README.md has the measured cosines.
MIN_COSINE = 0.99


def name_8bit(embedding: Embedding) -> str:
    return f"{embedding.name}-8bit"


def provide_8bit(embedding: Embedding, place: Place) -> bool:
    """Make the twin unless it is there; returns whether it was missing.

    Fetches and builds the model itself first. Raises what `provide` raises.
    """
    name = name_8bit(embedding)
    if place.has(name):
        return False
    provide(embedding, place)
    with alone(place):
        if place.has(name):  # the run that we waited for made it
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
            raise Unbuilt(f"the example's vector in 8 bits is too different (cosine {agreement:.4f}); the model was not kept")
        (place.folder(name) / CONFIG_FILE).unlink(missing_ok=True)  # of an earlier twin; the config of a twin is not in git
        put_in_place(target, config, place.folder(name))


def quantised(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Make every product with weights a symmetric MatMulNBits of 8 bits. Changes the graph that it is given."""
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)  # it would log every node
    kept = [node.name for node in graph.graph.node if node.name.endswith(VALUES)]
    quantizer = MatMulNBitsQuantizer(
        graph, bits=8, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=ACCURACY_LEVEL, nodes_to_exclude=kept
    )
    quantizer.process()
    return quantizer.model.model


def _fingerprint(config: Config, target: Path) -> str:
    """The example's vector, computed by onnxruntime: no other evaluator knows MatMulNBits."""
    whole = parse_config(json.dumps({**config, "fingerprint": None}).encode()).as_dict()
    return Embedder(f"{OWNER}/{config['name']}@0", target, whole).fingerprint(config["example"])
