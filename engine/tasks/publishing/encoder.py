"""The graph of a sentence encoder: BERT or MPNet and a pooling, in plain ONNX, from the weights of a checkpoint.

input_ids, attention_mask  int64 [batch, sequence]
sentence_embedding         float32 [batch, width]

Knows nothing of folders, tokenizers or texts. Tensors have the names of Hugging Face checkpoints.

Sources: Devlin et al. 2018 (BERT), Song et al. 2020 (MPNet), Raffel et al. 2019, section 2.1 (relative positions), Reimers and
Gurevych 2019, section 3 (pooling).

Inside, the tokens of a batch are one matrix [tokens, width], ordered by position and then by text. So onnxruntime adds biases in
its matrix products and reads the heads of queries, keys and values where they lie: 2 to 7 % faster than [batch, sequence, width].
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.tasks.publishing.onnx_file import Unfit
from engine.tasks.publishing.safetensors import Tensors

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "sentence_embedding"
OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8  # came with it
# Added to the scores of padding. With -10000, as in older encoders, padding keeps a share; with infinity a text of padding only
# becomes NaN.
LOWEST = float(np.finfo(np.float32).min)
# MPNet counts positions from the padding id, which its code fixes at 1 for every tokenizer.
MPNET_PADDING = 1
FIRST_POSITION = {"bert": 0, "mpnet": MPNET_PADDING + 1}
# Buckets of distances (MPNet): half for keys behind, half for keys ahead. All distances from FAR on share one bucket.
NUM_BUCKETS = 32
FAR = 128
# sentence-transformers sets padding to this before it takes the largest value.
NO_TOKEN = -1e9
MIN_COUNT = 1e-9
MIN_LENGTH = 1e-12


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a checkpoint says about its encoder, beside the weights.

    num_words      rows of the table of words; the tokenizer's ids must be below it
    num_positions  rows of the table of positions
    width          number of values of a token's vector
    inner_width    number of values between the two products of a feed-forward layer
    epsilon        of every layer norm
    normalise      divide the vector of each text by its length
    """

    kind: Literal["bert", "mpnet"]
    num_words: int
    num_positions: int
    num_layers: int
    num_heads: int
    width: int
    inner_width: int
    epsilon: float
    pooling: Literal["cls", "max", "mean"]
    normalise: bool

    @property
    def max_tokens(self) -> int:
        """The number of tokens of the longest text: each token needs a position."""
        return self.num_positions - FIRST_POSITION[self.kind]

    @property
    def head_width(self) -> int:
        return self.width // self.num_heads


class AttentionNames(NamedTuple):
    """The names under which a checkpoint keeps the attention of a layer."""

    query: str
    key: str
    value: str
    output: str
    norm: str


ATTENTION_NAMES = {
    "bert": AttentionNames("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm"),
    "mpnet": AttentionNames("attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm"),
}


def encoder_graph(architecture: Architecture, tensors: Tensors) -> onnx.ModelProto:
    """The graph of a checkpoint; equal weights give equal bytes. Unfit if a tensor is missing, broken or of another shape."""
    builder = _Builder(architecture, tensors)
    hidden = _token_vectors(builder)
    bias = _score_bias(builder)
    for i in range(architecture.num_layers):
        attended = _attended(builder, f"encoder.layer.{i}.attention", hidden, bias)
        hidden = _fed_forward(builder, f"encoder.layer.{i}", attended)
    vector = _pooled(builder, hidden)
    if architecture.normalise:
        vector = _normalised(builder, vector)
    builder.node(OUTPUT, "Identity", vector)
    return builder.model


class _Builder:
    """Builds a graph of nodes, in the order they are added, and constants. A node has one output, with the name of the node."""

    def __init__(self, architecture: Architecture, tensors: Tensors) -> None:
        self.architecture = architecture
        self._tensors = tensors
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS]
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", architecture.width])
        graph = helper.make_graph([], architecture.kind, inputs, [output])
        opsets = [helper.make_opsetid("", OPSET)]
        # Filled in place: to copy a list of weights into a graph, and that into a model, would need three times the memory.
        self.model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="sluice")
        self._constants: set[str] = set()

    def node(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        self.model.graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        if name not in self._constants:
            self._constants.add(name)
            self.model.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def integer(self, value: int) -> str:
        """int64 []"""
        return self.constant(f"{value}", np.array(value, np.int64))

    def integers(self, *values: int) -> str:
        """int64 [number of values]: shapes and axes."""
        return self.constant(f"{list(values)}", np.array(values, np.int64))

    def number(self, value: float) -> str:
        """float32 []"""
        return self.constant(f"{float(value)}", np.array(value, np.float32))

    def weight(self, name: str, *shape: int | None) -> np.ndarray:
        """One tensor of the checkpoint, float32, of this shape; None stands for an axis of any length. Unfit."""
        values = self._tensors.read(name)
        if len(values.shape) != len(shape) or any(want not in (None, has) for want, has in zip(shape, values.shape, strict=True)):
            asked = ["any" if length is None else length for length in shape]
            raise Unfit(f"tensor '{name}' has the shape {list(values.shape)}, config.json asks for {asked}")
        return values

    def dense(self, name: str, source: str, width: int, out_width: int, scale: float = 1.0) -> str:
        """[tokens, width] -> [tokens, out_width]: the layer of this name, its result times `scale`."""
        weight = self.weight(f"{name}.weight", out_width, width) * np.float32(scale)
        bias = self.weight(f"{name}.bias", out_width) * np.float32(scale)
        product = self.node(f"{name}/product", "MatMul", source, self.constant(f"{name}.weight", np.ascontiguousarray(weight.T)))
        return self.node(name, "Add", product, self.constant(f"{name}.bias", bias))

    def norm(self, name: str, source: str) -> str:
        """[tokens, width]: each token's vector with mean 0 and variance 1, then the norm's own weight and bias."""
        width, epsilon = self.architecture.width, self.architecture.epsilon
        scales = [self.constant(f"{name}.{part}", self.weight(f"{name}.{part}", width)) for part in ("weight", "bias")]
        return self.node(name, "LayerNormalization", source, *scales, axis=-1, epsilon=epsilon)


# From ids to tokens, and which of them a token attends to


def _token_vectors(builder: _Builder) -> str:
    """The vectors of the tokens: word plus position (plus the first token type, BERT), normed: [tokens, width]."""
    architecture = builder.architecture
    words = builder.constant(
        "words", builder.weight("embeddings.word_embeddings.weight", architecture.num_words, architecture.width)
    )
    ids = builder.node("ids", "Transpose", "input_ids", perm=[1, 0])
    _measured(builder, ids)
    positions = _bert_positions(builder) if architecture.kind == "bert" else _mpnet_positions(builder, ids)
    total = builder.node("embeddings/sum", "Add", builder.node("words/used", "Gather", words, ids), positions)
    tokens = builder.node("embeddings/tokens", "Reshape", total, builder.integers(-1, architecture.width))
    return builder.norm("embeddings.LayerNorm", tokens)


def _measured(builder: _Builder, ids: str) -> None:
    """Adds the shapes of a run, int64: `length` is [sequence]; `shape/heads` and `shape/vectors` reshape the matrix of tokens."""
    architecture = builder.architecture
    shape = builder.node("shape", "Shape", ids)
    builder.node("length", "Slice", shape, builder.integers(0), builder.integers(1))
    builder.node("shape/heads", "Concat", shape, builder.integers(architecture.num_heads, architecture.head_width), axis=0)
    builder.node("shape/vectors", "Concat", shape, builder.integers(architecture.width), axis=0)


def _bert_positions(builder: _Builder) -> str:
    """[sequence, 1, width]: a row for each place, plus the first token type, which all tokens of a single text have."""
    types = builder.weight("embeddings.token_type_embeddings.weight", None, builder.architecture.width)
    table = builder.constant("positions", _position_table(builder) + types[0])
    used = builder.node("positions/used", "Slice", table, builder.integers(0), "length")
    return builder.node("positions/column", "Unsqueeze", used, builder.integers(1))


def _mpnet_positions(builder: _Builder, ids: str) -> str:
    """[sequence, batch, width]: tokens take the rows 1, 2, ... of the table; padding, and a <pad> written in a text, take row 0."""
    table = builder.constant("positions", _position_table(builder)[MPNET_PADDING:])
    is_padding = builder.node("padding", "Equal", ids, builder.integer(MPNET_PADDING))
    is_word = builder.node("padding/not", "Cast", builder.node("padding/no", "Not", is_padding), to=TensorProto.INT64)
    counted = builder.node("positions/counted", "CumSum", is_word, builder.integer(0))
    return builder.node("positions/used", "Gather", table, builder.node("positions/places", "Mul", counted, is_word))


def _position_table(builder: _Builder) -> np.ndarray:
    """float32 [num_positions, width]"""
    architecture = builder.architecture
    return builder.weight("embeddings.position_embeddings.weight", architecture.num_positions, architecture.width)


def _score_bias(builder: _Builder) -> str:
    """What every layer adds to its scores: the lowest number for padding and, for MPNet, the bias of each distance.

    [batch, 1, 1, sequence] for BERT, [batch, heads, sequence, sequence] for MPNet. The graph computes it once for all layers.
    """
    mask = builder.node("mask", "Cast", "attention_mask", to=TensorProto.FLOAT)
    mask = builder.node("mask/keys", "Unsqueeze", mask, builder.integers(1, 2))
    padding = builder.node("mask/padding", "Sub", builder.number(1), mask)
    padding = builder.node("mask/bias", "Mul", padding, builder.number(LOWEST))
    if builder.architecture.kind == "bert":
        return padding
    return builder.node("bias", "Add", _distance_bias(builder), padding)


def _distance_bias(builder: _Builder) -> str:
    """[heads, sequence, sequence]: each head adds this to the score of a key j for a query i; it depends on the distance j - i."""
    architecture = builder.architecture
    last = architecture.max_tokens - 1
    buckets = relative_buckets(np.arange(-last, last + 1))
    weight = builder.weight("encoder.relative_attention_bias.weight", NUM_BUCKETS, architecture.num_heads)
    by_distance = builder.constant("distances", np.ascontiguousarray(weight[buckets].T))
    length = builder.node("length/number", "Squeeze", "length", builder.integers(0))
    places = builder.node("places", "Range", builder.integer(0), length, builder.integer(1))
    keys = builder.node("places/keys", "Unsqueeze", places, builder.integers(0))
    queries = builder.node("places/queries", "Unsqueeze", places, builder.integers(1))
    distances = builder.node("places/distances", "Sub", keys, queries)
    columns = builder.node("places/columns", "Add", distances, builder.integer(last))
    return builder.node("distances/bias", "Gather", by_distance, columns, axis=1)


def relative_buckets(distances: np.ndarray) -> np.ndarray:
    """The bucket of each distance, key minus query: int64.

    On each side the first half of the buckets hold one distance each: 0, 1, 2, ...; the others grow by a constant factor up to FAR.
    """
    side = NUM_BUCKETS // 2
    exact = side // 2
    far = np.abs(distances)
    steps = np.log(np.maximum(far, exact) / exact) / math.log(FAR / exact) * (side - exact)
    growing = np.minimum(exact + steps.astype(np.int64), side - 1)
    return np.where(distances > 0, side, 0) + np.where(far < exact, far, growing)


# A layer


def _attended(builder: _Builder, name: str, hidden: str, bias: str) -> str:
    """[tokens, width]: attention; each token plus what it takes from the others, normed."""
    architecture = builder.architecture
    names, width = ATTENTION_NAMES[architecture.kind], architecture.width
    # The weights are scaled instead of the scores: this costs nothing when the graph runs.
    queries = builder.dense(f"{name}.{names.query}", hidden, width, width, scale=architecture.head_width**-0.5)
    keys = builder.dense(f"{name}.{names.key}", hidden, width, width)
    values = builder.dense(f"{name}.{names.value}", hidden, width, width)
    scores = builder.node(f"{name}/scores", "MatMul", _heads(builder, queries), _heads(builder, keys, is_turned=True))
    scores = builder.node(f"{name}/scores/biased", "Add", scores, bias)
    shares = builder.node(f"{name}/shares", "Softmax", scores, axis=-1)
    taken = builder.node(f"{name}/taken", "MatMul", shares, _heads(builder, values))
    taken = builder.node(f"{name}/taken/turned", "Transpose", taken, perm=[2, 0, 1, 3])
    taken = builder.node(f"{name}/taken/tokens", "Reshape", taken, builder.integers(-1, width))
    output = builder.dense(f"{name}.{names.output}", taken, width, width)
    return builder.norm(f"{name}.{names.norm}", builder.node(f"{name}/sum", "Add", output, hidden))


def _heads(builder: _Builder, source: str, *, is_turned: bool = False) -> str:
    """[tokens, width] -> [batch, heads, sequence, head_width]; if turned, with the last two axes exchanged."""
    split = builder.node(f"{source}/heads", "Reshape", source, "shape/heads")
    return builder.node(f"{source}/turned", "Transpose", split, perm=[1, 2, 3, 0] if is_turned else [1, 2, 0, 3])


def _fed_forward(builder: _Builder, name: str, hidden: str) -> str:
    """[tokens, width]: feed-forward; each token plus the outcome of two products with a GELU between them, normed."""
    width, inner_width = builder.architecture.width, builder.architecture.inner_width
    inner = builder.dense(f"{name}.intermediate.dense", hidden, width, inner_width)
    output = builder.dense(f"{name}.output.dense", _gelu(builder, inner), inner_width, width)
    return builder.norm(f"{name}.output.LayerNorm", builder.node(f"{name}/sum", "Add", output, hidden))


def _gelu(builder: _Builder, source: str) -> str:
    """x / 2 (1 + erf(x / sqrt 2)). onnxruntime fuses the operators into one if they are in this order."""
    erf = builder.node(f"{source}/erf", "Erf", builder.node(f"{source}/scaled", "Div", source, builder.number(math.sqrt(2))))
    above = builder.node(f"{source}/above", "Add", erf, builder.number(1))
    doubled = builder.node(f"{source}/doubled", "Mul", source, above)
    return builder.node(f"{source}/gelu", "Mul", doubled, builder.number(0.5))


# From tokens to one vector a text


def _pooled(builder: _Builder, hidden: str) -> str:
    """[tokens, width] -> [batch, width]"""
    vectors = builder.node("vectors", "Reshape", hidden, "shape/vectors")
    return POOLINGS[builder.architecture.pooling](builder, vectors)


def _first(builder: _Builder, vectors: str) -> str:
    """[sequence, batch, width] -> [batch, width]: the vector of each text's first token, [CLS] or <s>."""
    return builder.node("pooled", "Gather", vectors, builder.integer(0), axis=0)


def _mean(builder: _Builder, vectors: str) -> str:
    """[sequence, batch, width] -> [batch, width]: the average without the padding; zeros for a text without tokens."""
    by_text = builder.node("vectors/by_text", "Transpose", vectors, perm=[1, 0, 2])
    row = builder.node("mask/row", "Unsqueeze", "mask", builder.integers(1))
    total = builder.node("total", "Squeeze", builder.node("total/row", "MatMul", row, by_text), builder.integers(1))
    count = builder.node("count", "ReduceSum", "mask", builder.integers(1), keepdims=1)
    return builder.node("pooled", "Div", total, builder.node("count/above_zero", "Max", count, builder.number(MIN_COUNT)))


def _largest(builder: _Builder, vectors: str) -> str:
    """[sequence, batch, width] -> [batch, width]: the largest of each column without the padding."""
    is_token = builder.node("mask/by_position", "Transpose", "attention_mask", perm=[1, 0])
    is_token = builder.node("mask/is_token", "Cast", is_token, to=TensorProto.BOOL)
    is_token = builder.node("mask/is_token/column", "Unsqueeze", is_token, builder.integers(2))
    tokens = builder.node("vectors/tokens", "Where", is_token, vectors, builder.number(NO_TOKEN))
    # Not ReduceMax: its axes became an input in a later opset, so a tool that raises the opset would break the graph.
    place = builder.node("largest/place", "ArgMax", tokens, axis=0, keepdims=1)
    largest = builder.node("largest", "GatherElements", tokens, place, axis=0)
    return builder.node("pooled", "Squeeze", largest, builder.integers(0))


POOLINGS = {"cls": _first, "max": _largest, "mean": _mean}


def _normalised(builder: _Builder, vector: str) -> str:
    """[batch, width]: each vector divided by its length; zeros stay zeros."""
    # Not ReduceL2, for the same reason.
    squares = builder.node("squares", "Mul", vector, vector)
    length = builder.node(
        "squares/root", "Sqrt", builder.node("squares/sum", "ReduceSum", squares, builder.integers(-1), keepdims=1)
    )
    return builder.node("unit", "Div", vector, builder.node("squares/above_zero", "Max", length, builder.number(MIN_LENGTH)))
