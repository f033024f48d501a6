"""Ranking: the best rows by one score, in an order in which no two rows are equal, and scores fused by rank.

A better score comes first; nulls come last in both directions; rows with equal scores come by row number. Knows no vectors and no
words.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Reciprocal rank fusion: a row at rank r of a score gets 1 / (RRF_CONSTANT + r); ranks begin at 1 and end at MAX_RRF_RANK.
# Source: Cormack, Clarke and Büttcher 2009, which takes 60.
RRF_CONSTANT = 60
MAX_RRF_RANK = 1000
# The largest of so many keys is found in a fraction of the time that putting them into an order takes.
PART_ROWS = 256


def first(scores: Array, k: int, *, is_descending: bool) -> Array:
    """Positions int64 of the first k rows, in order.

    scores  float [N], in row order; NaN is null
    """
    keys = _keys(scores, is_descending)
    chosen = _best(keys, None, k)
    return chosen[_order(keys[chosen], chosen)]


class Best:
    """The k best rows of those seen so far. Several threads may add rows, in any order of rows."""

    def __init__(self, k: int, *, is_descending: bool) -> None:
        self._k = k
        self._is_descending = is_descending
        self._lock = threading.Lock()
        self._keys: Array = np.empty(0, dtype=np.float32)
        self._rows: Array = np.empty(0, dtype=np.int64)

    def add(self, scores: Array, rows: Array) -> None:
        """Take in the scores float [N] of the rows int64 [N]; NaN is null."""
        keys = _keys(scores, self._is_descending)
        with self._lock:
            is_full = len(self._keys) == self._k
            floor = self._keys.min(initial=np.inf) if is_full else _floor(keys, self._k)
            if floor > -np.inf:
                # An equal score with a smaller row number is better.
                contenders = np.flatnonzero(keys >= floor)
                if not len(contenders):
                    return
                keys, rows = keys[contenders], rows[contenders]
            keys, rows = np.concatenate([self._keys, keys]), np.concatenate([self._rows, rows])
            chosen = _best(keys, rows, self._k)
            self._keys, self._rows = keys[chosen], rows[chosen]

    def ordered(self) -> tuple[Array, Array]:
        """Rows int64 and their scores, the best first."""
        order = _order(self._keys, self._rows)
        keys = self._keys[order]
        scores = np.where(np.isneginf(keys), np.nan, keys if self._is_descending else -keys)
        return self._rows[order], scores.astype(keys.dtype) + 0.0


class Ranked(NamedTuple):
    """One score of a fusion.

    scores         float [N], NaN is null
    is_descending  whether the largest score is the best one
    skips_zeros    whether a score of 0 means that nothing was found, as it does in BM25; then the scores descend to it
    """

    scores: Array
    is_descending: bool
    skips_zeros: bool = False


def rrf(rankings: Sequence[Ranked]) -> Array:
    """float32 [N]: for each row the sum of 1 / (60 + rank) over the scores; a row that no score ranks gets 0.

    The scores of all rankings are of the same rows in the same order: the rows that are ranked against each other.
    """
    total = np.zeros(len(rankings[0].scores))
    for scores, is_descending, skips_zeros in rankings:
        positions = first(scores, MAX_RRF_RANK, is_descending=is_descending)
        is_ranked = ~np.isnan(scores[positions])
        if skips_zeros:
            is_ranked &= scores[positions] != 0
        positions = positions[is_ranked]
        total[positions] += 1 / (RRF_CONSTANT + 1 + np.arange(len(positions)))
    return total.astype(np.float32)


def _keys(scores: Array, is_descending: bool) -> Array:
    """What the rows are compared by: larger is better, and a null is below everything."""
    keys = scores.copy() if is_descending else -scores
    return np.fmax(keys, -np.inf, out=keys)  # which takes the number where the other one is NaN


def _best(keys: Array, rows: Array | None, k: int) -> Array:
    """Positions of the k best, in no order. Among rows with the key of the last place those with the smallest numbers are taken.

    rows  int64 [N]: the row numbers; None if they ascend
    """
    if len(keys) <= k:
        return np.arange(len(keys))
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    edge = _edge(keys, k)
    better = np.flatnonzero(keys > edge)
    tied = np.flatnonzero(keys == edge)
    missing = k - len(better)
    if len(tied) > missing and rows is not None:
        tied = tied[np.argpartition(rows[tied], missing - 1)]
    tied = tied[:missing]
    return np.concatenate([better, tied])


def _floor(keys: Array, k: int) -> Any:
    """A key that is not above the k-th largest: as many parts of the keys have a largest key that is not below it."""
    parts = len(keys) // PART_ROWS
    if not 0 < k <= parts:
        return -np.inf
    largest = keys[: parts * PART_ROWS].reshape(parts, PART_ROWS).max(axis=1)
    largest.partition(parts - k)
    return largest[parts - k]


def _edge(keys: Array, k: int) -> Any:
    """The k-th largest key."""
    lowest = keys.min()
    # Nulls, and rows with none of the words, share the lowest key. Partition takes 30 times as long among so many equal keys.
    above = keys[keys > lowest]
    if len(above) < k:
        return lowest
    above.partition(len(above) - k)
    return above[len(above) - k]


def _order(keys: Array, rows: Array) -> Array:
    return np.lexsort((rows, -keys))
