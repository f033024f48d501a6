"""Advice: warnings about queries that are valid, but whose answer is rarely what the user wants. Knows no rows."""

from engine.tasks.query.bound import (
    Apply,
    Bound,
    BoundQuery,
    Filter,
    Limit,
    LimitBy,
    Node,
    Scan,
    Sort,
    Taken,
    VectorScore,
    WordScore,
)
from engine.tasks.query.score_calls import is_similarity


def warnings_of(rows: BoundQuery) -> list[str]:
    """The warnings about each LIMIT in a chain of SELECTs; the outermost comes first."""
    found: list[str] = []
    node = rows.node
    while not isinstance(node, Scan | Taken) and hasattr(node, "input"):
        if isinstance(node, Limit) and node.number is not None:
            found += _of_limit(node)
        node = node.input
    return list(dict.fromkeys(found))


def _of_limit(limit: Limit) -> list[str]:
    below: Node = limit.input
    while isinstance(below, Filter | LimitBy | Limit):
        below = below.input
    if not isinstance(below, Sort):
        return ["LIMIT without ORDER BY returns the first rows in the order of the source."]
    key = below.keys[0]
    more_is_better = _more_is_better(key.expression)
    if more_is_better is None or more_is_better == key.is_descending:
        return []
    if more_is_better:
        return ["A similarity ordered ASC returns the least similar rows."]
    return ["A distance ordered DESC returns the farthest rows."]


def _more_is_better(key: Bound) -> bool | None:
    """Whether a larger score is better; None if the key is not a score."""
    if isinstance(key, Apply) and key.function == "cosine_distance":
        return False
    return is_similarity(key) if isinstance(key, VectorScore | WordScore) else None
