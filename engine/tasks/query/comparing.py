"""Comparing vectors: the score of each row of one side with the other side, in numpy.

A score is a float32; NaN stands for null: one side is null, or the score is beyond float32. Equal vectors have equal scores
wherever they lie, so that they tie. That is why all products are `np.vecdot`, which takes one row at a time: in a product of
a matrix and a vector the last rows of the matrix are summed in another order, and their last digits differ.

Cosine is 0 where one side is a zero vector. Distances are computed by difference, in float64. Knows no segments and no threads.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from engine.tasks.query.segments import Vectors

Metric = Literal["cosine_similarity", "dot", "l2_norm", "l1_norm", "linf_norm"]
Doubles = np.ndarray[Any, np.dtype[np.float64]]

# The differences of this many rows fit into the cache of a core.
DIFFERENCE_ROWS = 256
# A product of two norms between these is far from the ends of float32, and so is the dot product.
SMALLEST_LENGTHS, LARGEST_LENGTHS = 1e-30, 1e30


class Side(NamedTuple):
    """One side of a comparison: many vectors, or one that all rows of the other side are compared with.

    vectors  float32 [N, dim] or [dim]
    norms    float32 [N], or one number; NaN for a null
    """

    vectors: Vectors
    norms: Any


def constant(metric: Metric, vector: Vectors) -> Side:
    """One vector float32 [dim] as a side. For cosine it gets length 1, so that no product of two long vectors leaves float32."""
    exact = vector.astype(np.float64)
    norm = float(np.linalg.norm(exact))
    if metric == "cosine_similarity" and norm > 0:
        return Side((exact / norm).astype(np.float32), 1.0)
    return Side(np.ascontiguousarray(vector, dtype=np.float32), norm)


def compare(metric: Metric, left: Side, right: Side) -> Vectors:
    """float32 [N]: the scores of the N rows of the left side; the right side has N rows, or is one vector."""
    with np.errstate(all="ignore"):
        if metric == "cosine_similarity":
            if right.vectors.ndim == 1 and right.norms == 1 and _are_ordinary(left.norms):
                return _cosine_of_ordinary(left, right)
            scores = _cosine(left, right)
        elif metric == "dot":
            scores = np.vecdot(left.vectors, right.vectors)
        else:
            scores = _distances(metric, left.vectors, right.vectors)
    scores[np.isnan(left.norms) | np.isnan(right.norms) | ~np.isfinite(scores)] = np.nan
    return scores + np.float32(0)  # -0.0 becomes 0.0


def estimate_squared_l2(left: Side, right: Side) -> Doubles:
    """float64 [N]: about the squared distance of each row from one vector, as |v|^2 + |q|^2 - 2 v.q; NaN for null.

    It is off by up to `squared_l2_error`. Minus infinity where the product is beyond float32, so that the row is looked at.
    """
    with np.errstate(all="ignore"):
        norms = np.asarray(left.norms, dtype=np.float64)
        estimates = norms * norms + right.norms**2 - 2.0 * np.vecdot(left.vectors, right.vectors)
    estimates[~np.isfinite(estimates) & ~np.isnan(norms)] = -np.inf
    return estimates


def squared_l2_error(dim: int, largest_norm: float, query_norm: float) -> float:
    """How far an estimate may be from the squared distance. A sum of more products has a larger error."""
    return (8 + dim / 32) * 2.0**-24 * (largest_norm**2 + query_norm**2)


def _are_ordinary(norms: Vectors) -> bool:
    """Whether every norm float32 [N] is far from 0 and from the ends of float32, or is that of a null."""
    return bool(len(norms) and np.fmin.reduce(norms) >= SMALLEST_LENGTHS and np.fmax.reduce(norms) <= LARGEST_LENGTHS)


def _cosine_of_ordinary(left: Side, right: Side) -> Vectors:
    """The same as `_cosine` to the last bit, in a fifth of its time, where the right side is one vector of length 1.

    A quotient of two float32 is the same whether it is rounded at once or from a float64.
    """
    scores = np.vecdot(left.vectors, right.vectors)
    np.divide(scores, left.norms, out=scores)
    np.clip(scores, -1, 1, out=scores)
    return np.add(scores, np.float32(0), out=scores)


def _cosine(left: Side, right: Side) -> Vectors:
    dots = np.vecdot(left.vectors, right.vectors)
    lengths = np.asarray(left.norms, dtype=np.float64) * right.norms
    scores = np.zeros_like(dots)
    np.divide(dots, lengths, out=scores, where=lengths != 0, casting="same_kind")
    extreme = np.flatnonzero(((lengths < SMALLEST_LENGTHS) & (lengths != 0)) | (lengths > LARGEST_LENGTHS))
    if len(extreme):
        others = right.vectors if right.vectors.ndim == 1 else right.vectors[extreme]
        scores[extreme] = _cosine_of_doubles(left.vectors[extreme].astype(np.float64), others.astype(np.float64))
    return np.clip(scores, -1, 1, out=scores)


def _cosine_of_doubles(left: Doubles, right: Doubles) -> Doubles:
    lengths = np.sqrt(np.vecdot(left, left)) * np.sqrt(np.vecdot(right, right))
    return np.where(lengths == 0, 0.0, np.vecdot(left, right) / lengths)


def _distances(metric: Metric, left: Vectors, right: Vectors) -> Vectors:
    distances = np.empty(len(left), dtype=np.float32)
    for start in range(0, len(left), DIFFERENCE_ROWS):
        rows = slice(start, start + DIFFERENCE_ROWS)
        differences = left[rows].astype(np.float64)
        differences -= right if right.ndim == 1 else right[rows]
        distances[rows] = _lengths(metric, differences)
    return distances


def _lengths(metric: Metric, differences: Doubles) -> Doubles:
    """float64 [N]; may change the differences."""
    if metric == "l2_norm":
        return np.sqrt(np.vecdot(differences, differences))
    np.abs(differences, out=differences)
    return differences.sum(axis=1) if metric == "l1_norm" else differences.max(axis=1)
