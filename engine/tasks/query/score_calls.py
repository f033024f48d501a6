"""Functions that give scores: of vectors, of words, and fused by rank; and embed(...), which gives a vector.

Knows no SQL and computes nothing but the score of two constants.
"""

from engine.tasks.query import tree
from engine.tasks.query.bound import Apply, Bound, Field, Score, Value, VectorScore, WordScore, apply
from engine.tasks.query.constants import as_vector, vector_of_value, vector_value
from engine.tasks.query.context import Context
from engine.tasks.query.datatypes import FLOAT32, NULL, STRING, vector_of
from engine.tasks.query.refusals import Refused
from engine.tasks.query.vectors import constant_score

# Function -> metric. A cosine distance is 1 - cosine.
METRICS = {
    "cosine_similarity": "cosine_similarity",
    "cosine_distance": "cosine_similarity",
    "dot": "dot",
    "dot_product": "dot",
    "inner_product": "dot",
    "l2_norm": "l2_norm",
    "l2_distance": "l2_norm",
    "euclidean_distance": "l2_norm",
    "l1_norm": "l1_norm",
    "l1_distance": "l1_norm",
    "manhattan_distance": "l1_norm",
    "linf_norm": "linf_norm",
}
# Of a text that has no vector yet, while a query is only planned.
UNKNOWN_DIM = 0
# The metrics of which less is better. As functions they also take one vector, and give its length.
DISTANCES = {"l2_norm", "l1_norm", "linf_norm"}


def bind_metric(context: Context, node: tree.Call) -> Bound:
    """`l2_norm(a, b)`, `l2_norm(a - b)` or `l2_norm(a)`."""
    written = node.arguments
    if node.name in DISTANCES and len(written) == 1 and isinstance(written[0], tree.Binary) and written[0].operator == "-":
        written = (written[0].left, written[0].right)
    if len(written) > 2 or (len(written) == 1 and node.name not in DISTANCES) or not written:
        raise Refused("type_mismatch", f"{node.name} takes two vectors.", at=node.at)
    left = _vector(context, written[0], node)
    right = _vector(context, written[1], node) if len(written) == 2 else _zeros_like(left)
    score = _score(METRICS[node.name], left, right, node.at)
    return apply("cosine_distance", (score,), FLOAT32) if node.name == "cosine_distance" else score


def _vector(context: Context, written: tree.Expression, node: tree.Call) -> Bound:
    value = context.bind(written)
    if isinstance(value, Value):
        value = as_vector(value, written.at)
    if value.type.name != "vector" and value.type != NULL:
        raise Refused("type_mismatch", f"{node.name} takes vectors, and this is {value.type}.", at=_offset(written, node))
    return value


def _offset(written: tree.Expression, node: tree.Call) -> int | None:
    return node.at if written.at is None else written.at


def _zeros_like(vector: Bound) -> Bound:
    return vector if vector.type == NULL else vector_value([0.0] * vector.type.dim)


def _score(metric: str, left: Bound, right: Bound, at: int | None) -> Bound:
    if NULL in (left.type, right.type) or any(isinstance(side, Value) and side.value is None for side in (left, right)):
        return Value(None, FLOAT32)
    if left.type.dim != right.type.dim and UNKNOWN_DIM not in (left.type.dim, right.type.dim):
        message = f"{_called(left)} has {left.type.dim} dimensions, {_called(right, is_second=True)} has {right.type.dim}."
        raise Refused("dimension_mismatch", message[0].upper() + message[1:] if message.startswith("the ") else message, at=at)
    if isinstance(left, Value) and isinstance(right, Value):
        return _constant_score(metric, left, right)
    if isinstance(left, Value):
        left, right = right, left
    if isinstance(left, Field) and left.scan is not None and (isinstance(right, Value) or _is_beside(left, right)):
        return VectorScore(metric, left, right)  # type: ignore[arg-type]  # a Field, if it is no Value
    return apply("vector_score", (Value(metric, STRING), left, right), FLOAT32)


def _is_beside(left: Field, right: Bound) -> bool:
    return isinstance(right, Field) and right.scan is left.scan


def _constant_score(metric: str, left: Value, right: Value) -> Value:
    if not left.value or not right.value:
        return Value(None, FLOAT32)
    score = constant_score(metric, vector_of_value(left), vector_of_value(right))  # type: ignore[arg-type]  # of METRICS
    return Value(None if score != score else score, FLOAT32)


def _called(vector: Bound, *, is_second: bool = False) -> str:
    if isinstance(vector, Field) and vector.column is not None:
        return vector.column.name
    return "the other vector" if is_second and isinstance(vector, Field) else "the vector"


def bind_embed(context: Context, node: tree.Call) -> Bound:
    """The vector of a text, which was computed before the query began."""
    words = [context.bind(argument) for argument in node.arguments]
    if not 1 <= len(words) <= 2 or any(not isinstance(word, Value) or word.type != STRING for word in words):
        raise Refused("type_mismatch", "embed takes a text, and the name of a model if you like.", at=node.at)
    text, model = (*(word.value for word in words if isinstance(word, Value)), None)[:2]
    if context.given.embedded is None:
        return Value(b"", vector_of(UNKNOWN_DIM))
    if (text, model) not in context.given.embedded:
        raise Refused("invalid_parameter", "The text of embed(...) has no vector.", at=node.at)
    return vector_value(context.given.embedded[text, model], node.at)


def bind_bm25(context: Context, node: tree.Call) -> Bound:
    arguments = [context.bind(argument) for argument in node.arguments]
    if len(arguments) != 2 or not isinstance(arguments[1], Value) or arguments[1].type != STRING:
        raise Refused("type_mismatch", "bm25_similarity takes a column and a text.", at=node.at)
    column = arguments[0]
    if not isinstance(column, Field) or column.column is None or not column.column.words:
        hint = "Create the dataset with words=COLUMN, for a text column."
        raise Refused("unsupported", "bm25_similarity needs a column that has a word index.", at=node.at, hint=hint)
    return WordScore(column, arguments[1].value)


def bind_rrf(context: Context, node: tree.Call) -> Bound:
    scores = tuple(_ranked(context.bind(argument), argument.at or node.at) for argument in node.arguments)
    if not 2 <= len(scores) <= 4:
        raise Refused("type_mismatch", "rrf takes 2 to 4 scores.", at=node.at)
    return context.fuse(scores)


def _ranked(argument: Bound, at: int | None) -> tuple[Score, bool]:
    """The score, and whether its largest value is the best one."""
    if isinstance(argument, Apply) and argument.function == "cosine_distance":
        argument = argument.arguments[0]
    if not isinstance(argument, VectorScore | WordScore):
        hint = "Write the scores themselves, such as rrf(cosine_similarity(a, b), bm25_similarity(c, 'd'))."
        raise Refused("type_mismatch", "rrf takes scores of stored columns.", at=at, hint=hint)
    return argument, is_similarity(argument)


def is_similarity(score: Score) -> bool:
    """Whether a larger score is better; for a distance, a smaller one is."""
    return isinstance(score, WordScore) or score.metric not in DISTANCES
