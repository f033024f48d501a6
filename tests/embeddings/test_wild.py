"""Random bodies: whatever a client sends, the answer has the shape of its path and is never a fault of the server."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients import Raw, until
from tests.embeddings.asking import (
    BERT,
    DIMS,
    MPNET,
    OPENAI,
    SIMPLE,
    SURFACES,
    ask,
    assert_openai_error,
    assert_same,
    floats,
    vectors,
)
from tests.serving import Server

TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(categories=["Cs", "L"]), max_size=3),
    st.sampled_from(["", "\0", "hello", "b " * 99]),
)
NAMES = st.one_of(
    st.sampled_from([BERT, MPNET, f"admin/{BERT}", f"sentence-transformers/{BERT}", "nowhere"]),
    st.text(max_size=9),
    st.text(st.characters(categories=["Cs", "L"]), max_size=3),
)
NUMBERS = st.one_of(st.integers(-5, 90), st.integers(), st.floats(), st.sampled_from([2**31, 2**63, 2**64, 10**400, -0.0, 1e308]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
IDS = st.lists(st.integers(-1, 85), max_size=50)
INPUTS = st.one_of(TEXTS, st.lists(TEXTS, max_size=5), IDS, st.lists(IDS, max_size=4), VALUES)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "encoding_format": st.one_of(st.sampled_from(["float", "base64"]), VALUES),
    "dimensions": st.one_of(st.integers(0, 33), VALUES),
    "truncate": st.one_of(st.booleans(), VALUES),
    "user": VALUES,
    "else": VALUES,
}
BODIES = st.one_of(
    st.fixed_dictionaries({"model": st.just(BERT), "input": INPUTS}, optional=FIELDS),
    st.fixed_dictionaries({}, optional={"model": st.one_of(NAMES, NUMBERS, st.none()), "input": INPUTS, **FIELDS}),
    VALUES,
)


@st.composite
def raw_bodies(draw: st.DrawFn) -> bytes:
    """JSON as Python writes it (with NaN and with escapes), sometimes damaged, or no JSON at all."""
    body = json.dumps(draw(BODIES)).encode()
    how = draw(st.sampled_from(["whole", "whole", "whole", "cut", "changed", "twice", "other"]))
    if how == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if how == "changed":
        place = draw(st.integers(0, len(body) - 1))
        return body[:place] + draw(st.binary(max_size=3)) + body[place + 1 :]
    if how == "twice":
        return body + body
    return draw(st.binary(max_size=40)) if how == "other" else body


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        yield opened


@settings(max_examples=300, deadline=None)
@given(raw_bodies())
def test_any_body_has_an_answer_in_the_shape_of_its_surface(server: Server, session: requests.Session, body: bytes) -> None:
    for path in SURFACES:
        answer = session.post(server.url + path, data=body, timeout=30)
        assert answer.headers["Content-Type"] == "application/json"
        assert_shape(path, answer)


def assert_shape(path: str, answer: requests.Response) -> None:
    """Check for a 200 with vectors, or a refusal that is not a fault of the server."""
    parsed = answer.json()
    if answer.status_code == 200:
        assert list(parsed) == (["data", "generated", "id", "model"] if path == SIMPLE else ["object", "data", "model", "usage"])
        for i, item in enumerate(parsed["data"]):
            assert item["index"] == i
            assert 1 <= len(floats(item["embedding"])) <= DIMS[BERT]
    elif path == SIMPLE:
        assert answer.status_code == 422
        assert list(parsed) == ["detail"]
        for fault in parsed["detail"]:
            assert {"type", "loc", "msg", "input"} <= set(fault)
            assert fault["loc"][0] == "body"
            assert isinstance(fault["msg"], str)
    else:
        assert answer.status_code in (400, 404)
        assert_openai_error(parsed)
        assert parsed["error"]["type"] == "invalid_request_error"
        assert (answer.status_code == 404) is (parsed["error"]["code"] == "model_not_found")


def test_good_wild_and_leaving_clients_do_not_disturb_each_other(server: Server) -> None:
    """Every good request gets its own vectors, every bad request gets its refusal, and the server is idle at the end."""
    texts = [f"{'hello ' * (i % 9)}{chr(97 + i)}" for i in range(26)]
    expected = vectors(ask(server, texts))

    def good(rng: random.Random) -> None:
        some = [rng.randrange(26) for _ in range(rng.choice([1, 5, 700]))]
        path = rng.choice(SURFACES)
        assert_same(vectors(ask(server, [texts[i] for i in some], path=path)), expected[some])

    def bad(rng: random.Random) -> None:
        path = rng.choice(SURFACES)
        body = rng.choice([b"{", b"[]", b'{"model":"small-bert","input":[["a"]]}', b'{"model":"nowhere","input":"a"}'])
        assert_shape(path, requests.post(server.url + path, data=body, timeout=60))

    def leaving(rng: random.Random) -> None:
        body = json.dumps({"model": BERT, "input": ["hello " * 30] * 1000}).encode()
        with Raw(server) as client:
            client.ask("POST", rng.choice(SURFACES), auth=None, Content_Length=str(len(body)))
            client.send(body[: rng.choice([0, 100, len(body)])])
            rng.choice([Raw.close, Raw.reset])(client)

    with ThreadPoolExecutor(24) as threads:
        work = [threads.submit(kind, random.Random(i)) for i in range(60) for kind in (good, bad, leaving)]
        for each in work:
            each.result()
    until(lambda: server.metric('sluice_queue_blocks{lane="bulk"}') == 0)
    until(lambda: server.metric('sluice_queue_blocks{lane="interactive"}') == 0)
    assert ask(server, "a", path=OPENAI).status_code == 200
