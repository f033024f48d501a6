"""Vectors: the scores of mapped rows, and the best k of them. Exact, one slab of rows after the other.

Between two slabs a query can be stopped, and threads share the slabs: numpy computes without the interpreter's lock. Knows no text
of a query and no files; what a score is stands in comparing.py, and which one is better in ranking.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from engine.tasks.query.comparing import Metric, Side, compare, constant, estimate_squared_l2, squared_l2_error
from engine.tasks.query.ranking import Best, first
from engine.tasks.query.segments import Vectors
from engine.tasks.query.stopping import Control

# The vectors float32 [rows, dim] of each segment and their norms float32 [rows], NaN for a null: Source.vectors.
Segments = Sequence[tuple[Vectors, Vectors]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

# Rows that are scored at once. A slab of 384 numbers for each row is 25 MB of a file and takes 1 to 4 ms.
SLAB_ROWS = 16_384
# The same for distances, which take longer, and for gathered rows, which are copied.
SMALL_SLAB_ROWS = 4_096
# Two threads end at about the same time when there are so many slabs; so slabs are smaller where there are few rows.
FEW_SLABS = 8
# Fewer slabs than these are done before the other thread is awake.
SHARED_SLABS = 3
# Below this share of the rows, gathering them costs less than scoring all rows.
GATHERED_SHARE = 0.15

Part = TypeVar("Part")


class _Slab(NamedTuple):
    """Neighbouring rows of one segment. `first_row` is the row number of the first of them in the source."""

    segment: int
    part: slice
    first_row: int


class VectorScan(NamedTuple):
    """The rows of a vector column, to be compared with one vector or, row by row, with another column of the same source."""

    metric: Metric
    segments: Segments
    other: Side | Segments

    @classmethod
    def of(cls, metric: Metric, segments: Segments, query: Vectors | Segments) -> "VectorScan":
        """query  float32 [dim], or the other column"""
        return cls(metric, segments, constant(metric, query) if isinstance(query, np.ndarray) else query)

    @property
    def num_rows(self) -> int:
        return int(_starts(self.segments)[-1])

    def scores(self, rows: Rows | None, control: Control) -> Vectors:
        """float32 [N]: the score of each row, in row order, or of each of `rows`; NaN is null.

        rows  row numbers in any order, -1 for a row that is null; None for all rows
        """
        if rows is not None and len(rows) < GATHERED_SHARE * self.num_rows:
            return self.score_gathered(rows, control)
        found = self._score_all(control)
        return found if rows is None else np.append(found, np.float32(np.nan))[rows]

    def top_k(self, k: int, rows: Rows | None, control: Control, *, is_descending: bool) -> tuple[Rows, Vectors]:
        """Row numbers int64 and scores float32 of the first k rows, in order: nulls last, ties by row number.

        rows  row numbers to choose from, ascending; None for all rows
        """
        if self.metric == "l2_norm" and not is_descending and isinstance(self.other, Side):
            nearest = _nearest(self, k, rows, control)
            if nearest is not None:
                return nearest
        best = Best(k, is_descending=is_descending)
        self.walk(self._score, best.add, rows, control)
        return best.ordered()

    def _score(self, left: Side, right: Side) -> Vectors:
        return compare(self.metric, left, right)

    def _score_all(self, control: Control) -> Vectors:
        found = np.empty(self.num_rows, dtype=np.float32)

        def keep(scores: Vectors, rows: Rows) -> None:
            found[rows[0] : rows[-1] + 1] = scores

        self.walk(self._score, keep, None, control)
        return found

    def score_gathered(self, rows: Rows, control: Control) -> Vectors:
        """float32 [N], in the order of `rows`."""
        found = np.empty(len(rows), dtype=np.float32)

        def keep(part: slice) -> None:
            found[part] = self._score(*self._gathered(rows[part]))

        _share(_slices(len(rows), SMALL_SLAB_ROWS), keep, control)
        return found

    def walk(
        self, score: Callable[[Side, Side], Any], keep: Callable[[Any, Rows], None], rows: Rows | None, control: Control
    ) -> None:
        """Call `keep` with the scores and the row numbers of each slab, in any order, from several threads.

        rows  row numbers to be scored, ascending; None for all rows
        """
        if rows is not None and len(rows) < GATHERED_SHARE * self.num_rows:
            wanted = rows
            parts = _slices(len(wanted), SMALL_SLAB_ROWS)
            _share(parts, lambda part: keep(score(*self._gathered(wanted[part])), wanted[part]), control)
            return

        def visit(slab: _Slab) -> None:
            first_row, end = slab.first_row, slab.first_row + slab.part.stop - slab.part.start
            if rows is None:
                keep(score(*self._mapped(slab)), np.arange(first_row, end))
                return
            left, right = np.searchsorted(rows, (first_row, end))
            if left < right:
                keep(score(*self._mapped(slab))[rows[left:right] - first_row], rows[left:right])

        _share(self._slabs(is_shared=control.helper is not None), visit, control)

    def _slabs(self, *, is_shared: bool) -> Iterator[_Slab]:
        size = SLAB_ROWS if self.metric in ("cosine_similarity", "dot") else SMALL_SLAB_ROWS
        if is_shared:
            size = min(size, max(SMALL_SLAB_ROWS, self.num_rows // FEW_SLABS))
        for segment, start in enumerate(_starts(self.segments)[:-1]):
            for part in _slices(len(self.segments[segment][0]), size):
                yield _Slab(segment, part, int(start) + part.start)

    def _mapped(self, slab: _Slab) -> tuple[Side, Side]:
        return _part(self.segments, slab), self.other if isinstance(self.other, Side) else _part(self.other, slab)

    def _gathered(self, rows: Rows) -> tuple[Side, Side]:
        return gather(self.segments, rows), self.other if isinstance(self.other, Side) else gather(self.other, rows)


def constant_score(metric: Metric, left: Vectors, right: Vectors) -> float:
    """The score of two vectors float32 [dim], as the double that is equal to it; NaN if it is beyond float32."""
    row = left[np.newaxis]
    with np.errstate(over="ignore"):  # the same norm as a file of norms has, so that a stored vector has the same score
        norms = np.sqrt(np.einsum("ij,ij->i", row, row, dtype=np.float64)).astype(np.float32)
    return float(compare(metric, Side(row, norms), constant(metric, right))[0])


def gather(segments: Segments, rows: Rows) -> Side:
    """A copy of the vectors float32 [N, dim] and the norms float32 [N] of these rows, in any order; -1 gives zeros and NaN."""
    starts = _starts(segments)
    if len(segments) == 1 and len(rows) and rows.min() >= 0:
        return Side(np.take(segments[0][0], rows, axis=0), np.take(segments[0][1], rows))
    dim = segments[0][0].shape[1] if segments else 0
    side = Side(np.zeros((len(rows), dim), dtype=np.float32), np.full(len(rows), np.nan, dtype=np.float32))
    owners = np.searchsorted(starts, rows, side="right") - 1
    for owner in np.unique(owners[owners >= 0]):
        wanted = np.flatnonzero(owners == owner)
        local = rows[wanted] - starts[owner]
        side.vectors[wanted], side.norms[wanted] = segments[owner][0][local], segments[owner][1][local]
    return side


def _nearest(scan: VectorScan, k: int, rows: Rows | None, control: Control) -> tuple[Rows, Vectors] | None:
    """The k nearest rows, from candidates that an estimate has chosen. None if the estimate cannot tell them from the others."""
    num_candidates = max(4 * k, k + 64)
    query = scan.other
    if k < 1 or num_candidates >= scan.num_rows or not isinstance(query, Side):
        return None
    candidates = Best(num_candidates, is_descending=False)
    scan.walk(estimate_squared_l2, candidates.add, rows, control)
    chosen, estimates = candidates.ordered()
    chosen = np.sort(chosen)
    distances = scan.score_gathered(chosen, control)
    places = first(distances, k, is_descending=False)
    if len(chosen) == num_candidates and not _is_certain(scan, query, distances[places], estimates[-1]):
        return None
    return chosen[places], distances[places]


def _is_certain(scan: VectorScan, query: Side, distances: Vectors, worst_estimate: float) -> bool:
    """Whether each row that is not a candidate is farther than the last of the nearest rows, also after rounding to float32."""
    if np.isnan(worst_estimate):
        return True  # some candidates are nulls, so every other row is null as well
    largest = max(float(np.nanmax(norms, initial=0.0)) for _, norms in scan.segments)
    error = squared_l2_error(len(query.vectors), largest, query.norms)
    return bool(float(distances[-1]) ** 2 * (1 + 2.0**-22) + error < worst_estimate)


def _part(segments: Segments, slab: _Slab) -> Side:
    vectors, norms = segments[slab.segment]
    return Side(vectors[slab.part], norms[slab.part])


def _starts(segments: Segments) -> Rows:
    """int64 [segments + 1]: where each segment begins, and the number of rows."""
    return np.cumsum([0, *(len(vectors) for vectors, _ in segments)], dtype=np.int64)


def _slices(num_rows: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def _share(parts: Iterable[Part], visit: Callable[[Part], None], control: Control) -> None:
    """Visit each part, with the helper if the query has one. Raises what `control.check` or a visit raised."""
    everything = list(parts)
    waiting = iter(everything)

    def work() -> None:
        for part in waiting:  # a thread's step of a list's iterator is never interrupted by another thread's
            control.check()
            visit(part)

    if control.helper is None or len(everything) < SHARED_SLABS:
        work()
        return
    with control.helper.sharing(work):
        try:
            work()
        except BaseException:  # whatever ends this thread ends the helper, which finds nothing more to do
            for _ in waiting:
                pass
            raise
