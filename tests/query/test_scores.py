"""Scores are those of numpy in float64, and the best rows are those of brute force, whatever stands around them."""

import numpy as np
import pytest

from tests.query.asking import ask, column, literal, put, rows
from tests.serving import Server

METRICS = {
    "cosine_similarity": lambda v, q: (v @ q) / (np.linalg.norm(v, axis=1) * np.linalg.norm(q)),
    "dot": lambda v, q: v @ q,
    "l2_norm": lambda v, q: np.linalg.norm(v - q, axis=1),
    "l1_norm": lambda v, q: np.abs(v - q).sum(axis=1),
    "linf_norm": lambda v, q: np.abs(v - q).max(axis=1),
}


@pytest.mark.parametrize("metric", METRICS)
def test_scores_equal_those_of_numpy(server: Server, facts: str, vectors: np.ndarray, metric: str) -> None:
    query = vectors[5] * np.float32(0.75)
    expected = METRICS[metric](vectors.astype(np.float64), query.astype(np.float64))
    found = column(server, f'select {metric}(embedding, {literal(query)}) as s from "{facts}"')
    assert np.abs(np.array(found) - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max())
    assert all(score == float(np.float32(score)) for score in found), "a score is a float32"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_the_best_rows_are_those_of_the_full_order(
    server: Server, facts: str, vectors: np.ndarray, metric: str, direction: str
) -> None:
    score = f"{metric}(embedding, {literal(vectors[8])})"
    every = rows(server, f'select n, {score} as s from "{facts}"')
    every.sort(key=lambda row: (row["s"] if direction == "asc" else -row["s"], row["n"]))
    best = rows(server, f'select n, {score} as s from "{facts}" order by s {direction} limit 20')
    assert best == every[:20]


def test_close_vectors_far_from_zero_keep_their_order(server: Server) -> None:
    """Norm 1e4, 1e-3 apart: the square of a distance computed from norms has no digit left."""
    random = np.random.default_rng(3)
    centre = random.standard_normal(64)
    centre *= 1e4 / np.linalg.norm(centre)
    steps = random.standard_normal((500, 64))
    steps *= np.linspace(1e-3, 0.5, 500)[random.permutation(500), None] / np.linalg.norm(steps, axis=1, keepdims=True)
    stored, query = (centre + steps).astype(np.float32), centre.astype(np.float32)
    put(server, "admin/close", ({"n": i, "v": vector} for i, vector in enumerate(stored.tolist())))
    distances = np.linalg.norm(stored.astype(np.float64) - query.astype(np.float64), axis=1)
    expected = np.lexsort((np.arange(500), distances.astype(np.float32)))[:25].tolist()
    assert column(server, f'select n from "admin/close" order by l2_norm(v - {literal(query)}) limit 25') == expected


def test_ties_come_by_row_number_and_pages_make_the_whole(server: Server) -> None:
    kinds = np.eye(8, dtype=np.float32)
    put(server, "admin/ties", ({"n": i, "v": kinds[i % 8].tolist()} for i in range(1000)))
    score = f"cosine_similarity(v, {literal([1, 1, 0.5, 0.5, 0, 0, -1, -1])})"
    query = f'select n, {score} as s from "admin/ties" order by s desc'
    whole = rows(server, f"{query} limit 1000")
    assert [(-row["s"], row["n"]) for row in whole] == sorted((-row["s"], row["n"]) for row in whole)
    pages = [rows(server, f"{query} limit 10 offset {10 * i}") for i in range(100)]
    assert [row for page in pages for row in page] == whole


@pytest.mark.parametrize("condition", ["part = 7", "part < 40", "n % 3 = 0 and part != 1", "false", "doc in ('d1', 'd2')"])
def test_the_best_of_some_rows(server: Server, facts: str, vectors: np.ndarray, condition: str) -> None:
    """A filter that keeps few rows gathers them, another one masks all scores: both are the order of the rows that it keeps."""
    score = f"cosine_similarity(embedding, {literal(vectors[11])}) as s"
    every = rows(server, f'select n, {score} from "{facts}" order by s desc limit 1000')
    kept = set(column(server, f'select n from "{facts}" where {condition}'))
    found = rows(server, f'select n, {score} from "{facts}" where {condition} order by s desc limit 10')
    assert found == [row for row in every if row["n"] in kept][:10]


def test_a_condition_on_the_score_itself(server: Server, facts: str, vectors: np.ndarray) -> None:
    score = f"cosine_similarity(embedding, {literal(vectors[11])})"
    every = rows(server, f'select n, {score} as s from "{facts}" order by s desc limit 1000')
    found = rows(server, f'select n, {score} as s from "{facts}" where s > 0.05 and part < 25 order by s desc limit 30')
    assert found == [row for row in every if row["s"] > 0.05 and row["n"] % 50 < 25][:30]


def test_zero_and_null_vectors(server: Server) -> None:
    rows_ = [{"n": 0, "v": [0.0] * 8}, {"n": 1, "v": None}, {"n": 2, "v": [1.0] + [0.0] * 7}]
    put(server, "admin/holes", rows_)
    one, zero = literal([1] + [0] * 7), literal([0] * 8)
    assert column(server, f'select cosine_similarity(v, {one}) as s from "admin/holes"') == [0.0, None, 1.0]
    assert column(server, f'select cosine_similarity(v, {zero}) as s from "admin/holes"') == [0.0, None, 0.0]
    assert column(server, f'select n from "admin/holes" order by cosine_similarity(v, {one}) asc') == [0, 2, 1]
    assert column(server, f'select n from "admin/holes" order by l2_norm(v, {one}) desc') == [0, 2, 1]
    assert b"-0.0" not in ask(server, f'select dot(v, {literal([-0.0] * 8)}) as s from "admin/holes"').content
