"""Scores and the best rows agree with numpy in float64, whatever the segments, threads and filters are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.query import vectors
from engine.tasks.query.helping import Helper
from engine.tasks.query.ranking import Best, Ranked, first, rrf
from engine.tasks.query.vectors import VectorScan, constant_score, gather

METRICS = ("cosine_similarity", "dot", "l2_norm", "l1_norm", "linf_norm")


class Stopped(Exception):
    pass


class Running:
    """A query that is stopped after some looks at its flag."""

    def __init__(self, helper=None, num_checks=None):
        self.helper = helper
        self.num_checks_left = num_checks

    def check(self):
        if self.num_checks_left is not None:
            self.num_checks_left -= 1
            if self.num_checks_left < 0:
                raise Stopped


HELPER = Helper()
ONE, TWO = Running(), Running(HELPER)


def segments_of(*parts, nulls=()):
    """Segments with the norms that a file of norms would hold; `nulls` are row numbers of the whole."""
    segments, start = [], 0
    for part in parts:
        part = np.asarray(part, dtype=np.float32).copy()
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(part.astype(np.float64), axis=1).astype(np.float32)
        for row in nulls:
            if start <= row < start + len(part):
                part[row - start], norms[row - start] = 0, np.nan
        segments.append((part, norms))
        start += len(part)
    return segments


def scores(metric, segments, query, *, rows=None, control):
    return VectorScan.of(metric, segments, query).scores(rows, control)


def top_k(metric, segments, query, k, *, is_descending, rows=None, control):
    return VectorScan.of(metric, segments, query).top_k(k, rows, control, is_descending=is_descending)


def expected(metric, rows, query, nulls=()):
    """float64: what the scores should be, in plain numpy; NaN for null."""
    left, right = np.asarray(rows, dtype=np.float64), np.asarray(query, dtype=np.float64)
    if metric == "cosine_similarity":
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=-1)
        found = np.divide((left * right).sum(axis=1), lengths, out=np.zeros(len(left)), where=lengths != 0)
    elif metric == "dot":
        found = (left * right).sum(axis=1)
    else:
        found = np.linalg.norm(left - right, ord={"l2_norm": 2, "l1_norm": 1, "linf_norm": np.inf}[metric], axis=1)
    found[list(nulls)] = np.nan
    return found


def full_order(found, is_descending):
    """All rows in order: nulls last, ties by row number."""
    keys = np.where(np.isnan(found), np.inf, -found if is_descending else found)
    return np.lexsort((np.arange(len(found)), keys))


@pytest.fixture
def small_slabs(monkeypatch):
    """Slabs of a few rows, so that small data has many of them."""
    monkeypatch.setattr(vectors, "SLAB_ROWS", 7)
    monkeypatch.setattr(vectors, "SMALL_SLAB_ROWS", 5)


@pytest.fixture
def data():
    random = np.random.default_rng(3)
    rows = random.standard_normal((100, 12)).astype(np.float32)
    return rows, random.standard_normal(12).astype(np.float32)


@pytest.mark.parametrize("control", [ONE, TWO])
@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_those_of_float64(metric, control, data, small_slabs):
    rows, query = data
    rows[17] = 0
    segments = segments_of(rows[:40], rows[40:40], rows[40:], nulls=[5, 99])
    found = scores(metric, segments, query, control=control)
    assert found.dtype == np.float32
    wanted = expected(metric, rows, query, nulls=[5, 99])
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    some = np.array([99, 3, 3, -1, 41])
    np.testing.assert_array_equal(
        scores(metric, segments, query, rows=some, control=control), [*found[[99, 3, 3]], np.nan, found[41]]
    )


def test_the_cosine_of_a_row_does_not_depend_on_the_rows_beside_it(data):
    """A slab of ordinary rows takes a shorter way than one with a zero vector, or with one near the ends of float32."""
    rows, query = data
    rows = np.concatenate([rows * 10.0**power for power in (-20, 0, 3)]).astype(np.float32)
    alone = scores("cosine_similarity", segments_of(rows, nulls=[7]), query, control=ONE)
    for other in (np.zeros(12), np.full(12, 1e-35), np.full(12, 1e35)):
        beside = scores("cosine_similarity", segments_of(np.vstack([rows, other]), nulls=[7]), query, control=ONE)
        np.testing.assert_array_equal(beside[:-1], alone)


@pytest.mark.parametrize("k", [1, 5, 40, 200])
@pytest.mark.parametrize("is_descending", [True, False])
def test_the_best_of_many_rows_are_those_of_the_full_order(k, is_descending):
    """Many rows are looked at in parts first; here many tie, and some are null."""
    found = np.random.default_rng(k).integers(0, 500, 10_000).astype(np.float32)
    found[::97] = np.nan
    best = Best(k, is_descending=is_descending)
    for start in (4_000, 0, 7_000):
        part = slice(start, {4_000: 7_000, 0: 4_000, 7_000: 10_000}[start])
        best.add(found[part], np.arange(part.start, part.stop))
    np.testing.assert_array_equal(best.ordered()[0], full_order(found, is_descending)[:k])


@pytest.mark.parametrize("metric", METRICS)
def test_two_columns_are_compared_row_by_row(metric, data, small_slabs):
    rows, _ = data
    others = rows[::-1].copy()
    others[4] = 0
    left, right = segments_of(rows[:33], rows[33:], nulls=[1]), segments_of(others[:33], others[33:], nulls=[98])
    found = scores(metric, left, right, control=TWO)
    np.testing.assert_allclose(found, expected(metric, rows, others, nulls=[1, 98]), rtol=1e-6, atol=1e-6)
    chosen, best = top_k(metric, left, right, 7, is_descending=True, control=ONE)
    assert chosen.tolist() == full_order(found, True)[:7].tolist()
    np.testing.assert_array_equal(best, found[chosen])


@pytest.mark.parametrize("share", [None, 0.05, 0.6])
@pytest.mark.parametrize("is_descending", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_the_first_rows_are_those_of_the_full_order_and_pages_concatenate(metric, is_descending, share, data, small_slabs):
    rows, query = data
    segments = segments_of(rows[:40], rows[40:], nulls=[2, 41, 80])
    chosen = np.arange(100) if share is None else np.arange(0, 100, round(1 / share))
    found = scores(metric, segments, query, control=ONE)
    order = chosen[full_order(found[chosen], is_descending)]
    for k in (0, 1, 3, len(chosen), len(chosen) + 5):
        for control in (ONE, TWO):
            filtered = None if share is None else chosen
            best, values = top_k(metric, segments, query, k, is_descending=is_descending, rows=filtered, control=control)
            assert best.tolist() == order[:k].tolist()
            np.testing.assert_array_equal(values, found[best])


@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0]), min_size=1, max_size=60),
    nulls=st.sets(st.integers(0, 59)),
    k=st.integers(1, 70),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    metric=st.sampled_from(METRICS),
    is_descending=st.booleans(),
)
@settings(deadline=None)
def test_ties_come_by_row_number_however_the_rows_are_cut_into_segments(values, nulls, k, cuts, metric, is_descending):
    rows = np.array(values, dtype=np.float32)[:, None] * np.ones(3, dtype=np.float32)
    nulls = [row for row in nulls if row < len(rows)]
    segments = segments_of(*np.split(rows, sorted(cut for cut in cuts if cut < len(rows))), nulls=nulls)
    found = expected(metric, rows, np.ones(3), nulls).astype(np.float32).round(4)
    best, _ = top_k(metric, segments, np.ones(3, dtype=np.float32), k, is_descending=is_descending, control=TWO)
    assert best.tolist() == full_order(found, is_descending)[:k].tolist()


@pytest.mark.parametrize("dim", [3, 384, 1000])
@pytest.mark.parametrize("metric", METRICS)
def test_equal_vectors_have_equal_scores_wherever_they_lie(metric, dim):
    # A product of a matrix and a vector does not have this property: its last rows are summed in another order.
    random = np.random.default_rng(0)
    row, query = random.standard_normal((2, dim)).astype(np.float32)
    found = [scores(metric, segments_of(*[[row] * n] * 2), query, control=ONE) for n in (1, 2, 3, 4, 5, 63, 1001)]
    gathered = scores(metric, segments_of([row] * 1001), query, rows=np.arange(500, 503), control=ONE)
    assert len(set(np.concatenate([*found, gathered]).tolist())) == 1
    for row, query in random.standard_normal((100, 2, dim)).astype(np.float32):
        assert constant_score(metric, row, query) == scores(metric, segments_of([row]), query, control=ONE)[0]


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_l2_has_the_order_of_brute_force_for_long_vectors_that_are_close(k):
    # Norms of 1e4 and distances of about 1e-3: the expansion |v|^2 + |q|^2 - 2 v.q has an error of about 10 here.
    random = np.random.default_rng(1)
    centre = random.standard_normal(64)
    centre *= 1e4 / np.linalg.norm(centre)
    steps = random.standard_normal((5000, 64))
    rows = (centre + steps * (1e-3 * np.arange(1, 5001) / np.linalg.norm(steps, axis=1))[:, None]).astype(np.float32)
    query = centre.astype(np.float32)
    best, distances = top_k("l2_norm", segments_of(rows[:3000], rows[3000:]), query, k, is_descending=False, control=TWO)
    wanted = expected("l2_norm", rows, query).astype(np.float32)
    assert best.tolist() == full_order(wanted, False)[:k].tolist()
    np.testing.assert_array_equal(distances, wanted[best])


def test_l2_finds_the_nearest_rows_through_candidates(data):
    # Many rows at very different distances: the estimate is certain, and only the candidates are computed by difference.
    random = np.random.default_rng(2)
    rows = random.standard_normal((20_000, 16)).astype(np.float32)
    segments = segments_of(rows[:1], rows[1:], nulls=range(0, 20_000, 3))
    query = rows[1]
    wanted = expected("l2_norm", rows, query, range(0, 20_000, 3)).astype(np.float32)
    for filtered in (None, np.arange(0, 20_000, 2), np.arange(0, 20_000, 50)):
        order = full_order(wanted if filtered is None else wanted[filtered], False)[:25]
        best, _ = top_k("l2_norm", segments, query, 25, is_descending=False, rows=filtered, control=TWO)
        assert best.tolist() == (order if filtered is None else filtered[order]).tolist()


@pytest.mark.parametrize("size", [1e-40, 1e-25, 1e25, 1e37])
def test_cosine_holds_at_the_ends_of_float32(size):
    random = np.random.default_rng(4)
    rows = (random.standard_normal((10, 8)) * size).astype(np.float32)
    query = (random.standard_normal(8) * size).astype(np.float32)
    wanted = expected("cosine_similarity", rows, query)
    np.testing.assert_allclose(scores("cosine_similarity", segments_of(rows), query, control=ONE), wanted, atol=1e-6)
    both = segments_of(rows), segments_of(np.tile(query, (10, 1)))
    np.testing.assert_allclose(scores("cosine_similarity", *both, control=ONE), wanted, atol=1e-6)


def test_a_score_beyond_float32_is_null_and_comes_last():
    segments = segments_of([[3e38, 3e38], [1, 1], [-3e38, -3e38]])
    query = np.array([3e38, 3e38], dtype=np.float32)
    assert np.isnan(scores("dot", segments, query, control=ONE)).all()
    assert constant_score("cosine_similarity", query, query) == 1
    best, values = top_k("l1_norm", segments, query, 3, is_descending=True, control=ONE)
    assert best.tolist() == [0, 1, 2]
    assert values[0] == 0
    assert np.isnan(values[1:]).all()


def test_cosine_is_clipped_zero_for_zero_vectors_and_never_minus_zero():
    random = np.random.default_rng(5)
    row = random.standard_normal(384).astype(np.float32)
    segments = segments_of([row, -row, row * 0, np.abs(row)])
    found = scores("cosine_similarity", segments, row, control=ONE)
    assert (np.abs(found) <= 1).all()
    assert found[2] == 0
    zeros = scores("cosine_similarity", segments, np.zeros(384, dtype=np.float32), control=ONE)
    minus = scores("dot", segments_of([[0.0], [1.0]]), np.array([-0.0], dtype=np.float32), control=ONE)
    assert not np.signbit(np.concatenate([zeros, minus])).any()
    assert not zeros.any()


def test_a_segment_without_the_column_has_nulls():
    absent = np.broadcast_to(np.float32(0), (3, 2)), np.full(3, np.nan, dtype=np.float32)
    segments = [absent, *segments_of([[1, 0], [0, 1]])]
    query = np.array([1, 0], dtype=np.float32)
    for metric in METRICS:
        best, values = top_k(metric, segments, query, 4, is_descending=metric in METRICS[:2], control=TWO)
        assert best.tolist() == [3, 4, 0, 1]
        assert np.isnan(values).tolist() == [False, False, True, True]
    assert gather(segments, np.array([4, 0, -1])).vectors.tolist() == [[0, 1], [0, 0], [0, 0]]


def test_no_rows_give_no_scores():
    query = np.ones(2, dtype=np.float32)
    for segments in ([], segments_of(np.empty((0, 2)))):
        assert scores("dot", segments, query, control=TWO).tolist() == []
        assert top_k("l2_norm", segments, query, 5, is_descending=False, control=TWO)[0].tolist() == []
    assert (
        top_k("dot", segments_of([[1, 2]]), query, 5, is_descending=True, rows=np.array([], dtype=int), control=ONE)[0].tolist()
        == []
    )


@pytest.mark.parametrize("helper", [None, HELPER])
def test_a_query_stops_between_two_slabs(helper, data, small_slabs):
    rows, query = data
    with pytest.raises(Stopped):
        scores("dot", segments_of(rows), query, control=Running(helper, num_checks=4))
    with pytest.raises(Stopped):
        top_k("l2_norm", segments_of(rows), query, 3, is_descending=False, control=Running(helper, num_checks=17))


def test_one_score_ranks_its_first_rows_with_nulls_last_and_ties_by_row_number():
    found = np.array([1, np.nan, 3, 1, 3], dtype=np.float32)
    assert first(found, 5, is_descending=True).tolist() == [2, 4, 0, 3, 1]
    assert first(found, 3, is_descending=False).tolist() == [0, 3, 2]


def plain_rrf(rankings):
    total = [0.0] * len(rankings[0][0])
    for found, is_descending, skips_zeros in rankings:
        rows = [i for i, score in enumerate(found) if not np.isnan(score) and not (skips_zeros and score == 0)]
        rows.sort(key=lambda i: (-found[i] if is_descending else found[i], i))
        for rank, row in enumerate(rows[:1000], 1):
            total[row] += 1 / (60 + rank)
    return np.array(total, dtype=np.float32)


def test_rrf_is_the_sum_of_reciprocal_ranks():
    random = np.random.default_rng(6)
    cosine, words, distance = random.integers(0, 900, (3, 3000)).astype(np.float32)
    cosine[::7] = np.nan
    words[words < 500] = 0
    rankings = [Ranked(cosine, True), Ranked(words, True, skips_zeros=True), Ranked(distance, False)]
    np.testing.assert_array_equal(rrf(rankings), plain_rrf(rankings))
    nothing = np.array([np.nan, 0], dtype=np.float32)
    assert rrf([Ranked(nothing, True, True), Ranked(nothing, True, True)]).tolist() == [0, 0]
