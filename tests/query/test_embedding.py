"""Meaning: texts become vectors on the way in (`embed=`) and in a query (`embed('..')`), by the same model."""

import pytest
import requests

from tests import corpora
from tests.clients import ndjson
from tests.query.asking import MINILM, ask, column, has_minilm, put, rows
from tests.serving import Server

pytestmark = [
    pytest.mark.skipif(not has_minilm(), reason=f"no weights of {MINILM}: `make models` fetches them"),
    corpora.needs(corpora.RANDFACTS),
]
QUESTION = "how long do bees live"


@pytest.fixture(scope="module")
def about(server: Server) -> str:
    """A dataset of 500 facts, among them all about bees, with vectors of MiniLM and an index of words."""
    facts = corpora.facts()
    bees = [fact for fact in facts if " bee" in fact.lower()]
    others = [fact for fact in facts if " bee" not in fact.lower()]
    chosen = [*others[: 500 - len(bees)], *bees]
    said = put(server, "admin/about", ({"text": text} for text in chosen), embed="text:embedding", words="text")
    (embedding,) = [one for one in said["columns"] if one["name"] == "embedding"]
    assert (embedding["dtype"], embedding["dim"], embedding["model"]) == ("vector", 384, MINILM)
    return "hub://admin/about"


@pytest.mark.heavy
def test_all_facts_are_embedded_on_the_way_in_and_an_earlier_version_answers_as_before(server: Server) -> None:
    facts = corpora.facts()
    first = put(server, "admin/every-fact", ({"text": text} for text in facts), embed="text:embedding")
    assert (first["version"], first["rows"]) == (1, 7193)
    described = requests.get(f"{server.url}/api/datasets/admin/every-fact", auth=server.auth, timeout=60).json()
    [embedding] = [one for one in described["columns"] if one["name"] == "embedding"]
    assert embedding == {"name": "embedding", "dtype": "vector", "dim": 384, "nulls": 0, "source": "text", "model": MINILM}
    order = f"order by cosine_similarity(embedding, embed('{QUESTION}')) desc limit 20"
    before = rows(server, f'select text from "admin/every-fact" {order}')
    url = f"{server.url}/api/datasets/admin/every-fact/rows"
    body = ndjson({"text": f"{QUESTION} {i}"} for i in range(10))
    more = requests.post(url, data=body, auth=server.auth, timeout=60).json()
    assert (more["version"], more["rows"]) == (2, 7203)
    assert rows(server, f'select text from "admin/every-fact@1" {order}') == before
    assert rows(server, f'select text from "admin/every-fact" {order}') != before


def test_facts_are_found_by_meaning(server: Server, about: str) -> None:
    score = f"cosine_similarity(embedding, embed('{QUESTION}'))"
    found = rows(server, f'select text, {score} as s from "{about}" order by s desc limit 5')
    assert sum("bee" in row["text"].lower() for row in found) >= 4, found
    assert found[0]["s"] > 0.4


def test_one_text_is_embedded_once(server: Server, about: str) -> None:
    text = "a question that was never asked before"
    before = embedded(server)
    score = f"cosine_similarity(embedding, embed('{text}'))"
    query = f'select text, {score} as s from "{about}" where {score} > -1 order by {score} desc limit 5'
    assert len(rows(server, query)) == 5
    assert embedded(server) == before + 1
    assert len(rows(server, query)) == 5
    assert embedded(server) == before + 1, "the vector of a text is kept"


def embedded(server: Server) -> float:
    return server.metric(f'sluice_records_total{{model="sluice/{MINILM}",outcome="result"}}')


def test_the_vector_is_that_of_the_embeddings_surface(server: Server, about: str) -> None:
    body = {"model": MINILM, "input": QUESTION}
    vector = requests.post(f"{server.url}/v1/embeddings", json=body, auth=server.auth, timeout=60).json()["data"][0]["embedding"]
    ours = column(server, f"select cosine_similarity(embedding, embed('{QUESTION}')) as s from \"{about}\"")
    theirs = column(server, f'select cosine_similarity(embedding, ?) as s from "{about}"', params=[vector])
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_text_may_be_a_parameter_and_the_model_may_be_named(server: Server, about: str) -> None:
    query = 'select text from "{}" order by cosine_similarity(embedding, embed({})) desc limit 5'
    expected = rows(server, query.format(about, f"'{QUESTION}'"))
    assert rows(server, query.format(about, "?"), params=[QUESTION]) == expected
    assert rows(server, query.format(about, ":q"), params={"q": QUESTION}) == expected
    assert rows(server, query.format(about, f"'{QUESTION}', '{MINILM}'")) == expected


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ("embed('x', 'nothing-of-this-name')", 404, "model_not_found"),
        (f"embed('{'x' * 33 * 1024}')", 400, "invalid_parameter"),
        ("embed(text)", 400, ""),
        ("embed(1)", 400, ""),
        ("embed(?)", 400, "bad_param"),
    ],
)
def test_texts_that_are_not_embedded(server: Server, about: str, call: str, status: int, code: str) -> None:
    answer = ask(server, f'select text from "{about}" order by cosine_similarity(embedding, {call}) desc limit 5')
    assert answer.status_code == status, answer.text
    assert code in answer.json()["code"]


def test_words_and_meaning_are_joined(server: Server, about: str) -> None:
    """A fact that only its rare word gives away, and one that only its meaning does, are both among the first five."""
    texts = column(server, f'select text from "{about}"')
    words = [set(text.lower().replace(".", "").replace(",", "").split()) for text in texts]
    counts: dict[str, int] = {}
    for each in words:
        for word in each:
            counts[word] = counts.get(word, 0) + 1
    rare, owner = next(
        (word, i) for i, each in enumerate(words) for word in sorted(each) if counts[word] == 1 and word.isalpha() and len(word) > 7
    )
    question = f"how long do bees live {rare}"
    score = f"rrf(cosine_similarity(embedding, embed('{QUESTION}')), bm25_similarity(text, '{rare}'))"
    first = column(server, f'select text from "{about}" order by {score} desc limit 5')
    best = column(server, f"select text from \"{about}\" order by cosine_similarity(embedding, embed('{QUESTION}')) desc limit 1")
    assert texts[owner] in first, question
    assert best[0] in first
