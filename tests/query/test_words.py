"""Words: BM25 in Lucene's form and the fusion of ranks, against ten lines of Python each."""

import math
import re
from collections import Counter

import numpy as np
import pytest

from tests.query.asking import column, literal, put, rows
from tests.serving import Server

K1, B = 1.2, 0.75
QUESTIONS = ["the", "bees", "water of the world", "Honey BEES honey", "nothingofthis", "2", "the the and", "", "don't stop"]


def words_of(text: str | None) -> list[str]:
    """Lower case, runs of letters and digits."""
    return re.findall(r"[^\W_]+", (text or "").lower())


def bm25(texts: list[str], question: str) -> list[float]:
    documents = [Counter(words_of(text)) for text in texts]
    mean = sum(map(Counter.total, documents)) / len(documents)
    found = [0.0] * len(documents)
    for word in words_of(question):
        holders = sum(word in document for document in documents)
        weight = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        for i, document in enumerate(documents):
            found[i] += weight * document[word] / (document[word] + K1 * (1 - B + B * document.total() / mean))
    return found


def rrf(*scores: list[float | None], skips_zero: tuple[bool, ...]) -> list[float]:
    found = [0.0] * len(scores[0])
    for values, skips in zip(scores, skips_zero, strict=True):
        kept = [i for i, value in enumerate(values) if value is not None and not (skips and value == 0)]
        kept.sort(key=lambda i: (-values[i], i))
        for rank, i in enumerate(kept[:1000], start=1):
            found[i] += 1 / (60 + rank)
    return found


@pytest.mark.parametrize("question", QUESTIONS)
def test_bm25_has_lucenes_form(server: Server, facts: str, texts: list[str], question: str) -> None:
    found = column(server, f'select bm25_similarity(text, ?) as s from "{facts}"', params=[question])
    assert found == pytest.approx(bm25(texts, question), abs=1e-4)


def test_weights_are_those_of_all_rows_whatever_the_filter(server: Server, facts: str, texts: list[str]) -> None:
    expected = bm25(texts, "the world")
    found = rows(server, f"select n, bm25_similarity(text, 'the world') as s from \"{facts}\" where part = 3 order by s desc")
    assert {row["n"] for row in found} == set(range(3, 1000, 50))
    assert [row["s"] for row in found] == pytest.approx([expected[row["n"]] for row in found], abs=1e-4)


def test_ranks_are_joined(server: Server, facts: str, texts: list[str], vectors: np.ndarray) -> None:
    cosine = (vectors @ vectors[30]).tolist()
    expected = rrf(cosine, bm25(texts, "the world"), skips_zero=(False, True))
    score = f"rrf(cosine_similarity(embedding, {literal(vectors[30])}), bm25_similarity(text, 'the world'))"
    found = rows(server, f'select n, {score} as s from "{facts}" order by s desc limit 50')
    assert [row["n"] for row in found] == sorted(range(1000), key=lambda i: (-expected[i], i))[:50]
    assert [row["s"] for row in found] == pytest.approx([expected[row["n"]] for row in found], abs=1e-6)


def test_a_distance_is_ranked_from_its_small_end_among_the_rows_that_are_left(
    server: Server, facts: str, texts: list[str], vectors: np.ndarray
) -> None:
    kept = [i for i in range(1000) if i % 50 < 10]
    distance = np.linalg.norm(vectors - vectors[30], axis=1)
    words = bm25(texts, "the")
    expected = rrf([-float(distance[i]) for i in kept], [words[i] for i in kept], skips_zero=(False, True))
    score = f"rrf(l2_norm(embedding, {literal(vectors[30])}), bm25_similarity(text, 'the'))"
    found = rows(server, f'select n, {score} as s from "{facts}" where part < 10 order by s desc limit 20')
    best = sorted(range(len(kept)), key=lambda i: (-expected[i], i))[:20]
    assert [row["n"] for row in found] == [kept[i] for i in best]


def test_words_of_other_scripts_and_empty_texts(server: Server) -> None:
    texts = ["Größe und Maß", "ΑΒΓ αβγ", "中文 字", "snake_case CamelCase 3.14", "", "naïve—bees’ honey", "Größe"]
    put(server, "admin/scripts", [{"text": text} for text in [*texts, None]], words="text")
    for question in ("größe", "ΑΒΓ", "中文", "case", "camelcase", "14", "bees", "naïve", "honey größe"):
        found = column(server, f"select bm25_similarity(text, '{question}') as s from \"admin/scripts\"")
        assert [score is not None and score > 0 for score in found[:7]] == [score > 0 for score in bm25(texts, question)], question
