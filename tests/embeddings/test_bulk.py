"""Embedding models on the streaming paths: streams, single records, WebSockets, with encodings and dimensions (acceptance 17)."""

import asyncio
import json
from typing import Any

import aiohttp
import numpy as np
import pytest
import requests

from tests.clients import Raw, basic, bulk, by_id, curl, ndjson
from tests.embeddings.asking import (
    BERT,
    DIMS,
    MAX_TOKENS,
    MINILM,
    MPNET,
    SEED_TEXT,
    ask,
    assert_same,
    floats,
    models,
    num_tokens,
    stacked,
    texts_of,
    vectors,
)
from tests.serving import Server


def title(model: str) -> str:
    return f"{'sluice' if model == MINILM else 'admin'}/{model}"


def records(texts: list[str]) -> bytes:
    return ndjson({"text": text, "yhat_id": i} for i, text in enumerate(texts))


def single(server: Server, record: Any, model: str = BERT, query: str = "") -> requests.Response:
    return requests.post(server.model(title(model)) + query, json=record, auth=server.auth, timeout=30)


# Streams


@models(BERT, MPNET, MINILM)
def test_a_thousand_texts_are_streamed_and_have_the_vectors_of_the_other_surface(server: Server, model: str) -> None:
    """Acceptance 17."""
    texts = texts_of([1 + i * 7 % (12 if model == MINILM else 40) for i in range(1000)])
    lines = by_id(bulk(server, title(model), records(texts)).body)
    assert sorted(lines) == list(range(1000))
    results = [lines[i]["result"] for i in range(1000)]
    answer = ask(server, texts, model)
    assert_same(stacked([result["embedding"] for result in results]), vectors(answer))
    assert [result["num_tokens"] for result in results] == num_tokens(answer)


@models(BERT, MINILM)
@pytest.mark.parametrize("ordered", ["", "&ordered=true"])
@pytest.mark.parametrize(
    "query", ["&encoding_format=base64", "&dimensions=9", "&encoding_format=base64&dimensions=9", "&encoding_format=float"]
)
def test_encodings_and_dimensions_are_parameters(server: Server, model: str, query: str, ordered: str) -> None:
    texts = texts_of([1 + i % 9 for i in range(100)])
    lines = bulk(server, title(model), records(texts), query + ordered).lines
    ids = [line["yhat_id"] for line in lines]
    assert sorted(ids) == list(range(100))
    assert not ordered or ids == list(range(100))
    results = [line["result"] for line in sorted(lines, key=lambda line: line["yhat_id"])]
    assert all(isinstance(result["embedding"], str if "base64" in query else list) for result in results)
    keys = {"dimensions": 9} if "dimensions" in query else {}
    assert_same(
        stacked([result["embedding"] for result in results]), vectors(ask(server, texts, model, path="/v1/embeddings", **keys))
    )


def test_an_ordered_stream_of_every_length_is_in_order(server: Server) -> None:
    texts = [f"{'hello ' * (i * 7 % 40)}{chr(97 + i % 26)}" for i in range(1000)]
    lines = bulk(server, title(BERT), records(texts), "&ordered=true").lines
    assert [line["yhat_id"] for line in lines] == list(range(1000))
    assert_same(stacked([line["result"]["embedding"] for line in lines]), vectors(ask(server, texts)))


@pytest.mark.parametrize("ordered", ["", "&ordered=true"])
def test_a_record_without_a_text_is_one_error_line(server: Server, ordered: str) -> None:
    """Acceptance 17."""
    odd: list[tuple[Any, str]] = [
        ({"text": 3}, "wrong_type"),
        ({"text": None}, "missing_field"),
        ({}, "missing_field"),
        ({"text": ["a"]}, "wrong_type"),
        ({"text": True}, "wrong_type"),
        ({"Text": "a"}, "missing_field"),
    ]
    body = b"".join(
        ndjson([{"text": "hello", "yhat_id": f"good{i}"}, {**record, "yhat_id": f"bad{i}"}]) for i, (record, _) in enumerate(odd)
    )
    lines = by_id(bulk(server, title(BERT), body, ordered).body)
    assert len(lines) == 2 * len(odd)
    for i, (_, code) in enumerate(odd):
        assert lines[f"bad{i}"]["code"] == code
        assert lines[f"bad{i}"]["line"] == 2 * i + 2
        assert "result" in lines[f"good{i}"]
    for body in (b"not json\n", b"[1]\n", b'"a"\n'):
        [line] = bulk(server, title(BERT), body, ordered).lines
        assert line["code"] in ("invalid_json", "not_an_object")


@models(BERT, MINILM)
def test_a_text_that_was_cut_says_so_in_its_line(server: Server, model: str) -> None:
    lines = by_id(bulk(server, title(model), records(["a", "b " * 400, "c"])).body)
    assert lines[1]["result"]["truncated"] is True
    assert lines[1]["result"]["num_tokens"] == MAX_TOKENS[model]
    assert all("truncated" not in lines[i]["result"] for i in (0, 2))


@models(BERT, MINILM)
def test_odd_texts_have_the_same_vectors_in_a_stream(server: Server, model: str) -> None:
    texts = ["", " ", "\0", "中文", "🙂", "\ud800", "\u2028", "a\nb", "A", "hello"]
    lines = by_id(bulk(server, title(model), records(texts)).body)
    assert_same(stacked([lines[i]["result"]["embedding"] for i in range(len(texts))]), vectors(ask(server, texts, model)))


@pytest.mark.parametrize(
    "query",
    [
        "encoding_format=int8",
        "encoding_format=",
        "dimensions=0",
        "dimensions=33",
        "dimensions=-1",
        "dimensions=x",
        "dimensions=",
        "dimensions=1.0",
    ],
)
def test_a_parameter_that_cannot_be_is_400_before_the_body_comes(server: Server, query: str) -> None:
    answer = single(server, {"text": "a"}, query=f"?{query}")
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert query.partition("=")[0] in answer.json()["error"]
    with Raw(server) as client:
        client.ask("POST", f"/admin/models/{BERT}?bulk=true&{query}", Expect="100-continue", Content_Length="100000")
        head = client.head()
        assert (head.status, head.headers["connection"]) == (400, "close")


def test_other_models_do_not_know_these_parameters(server: Server) -> None:
    """streaming.md 2.1: unknown parameters are ignored."""
    assert bulk(server, "brandon/HelloWorld", b'{"name":"a"}', "&encoding_format=int8&dimensions=0").status == 200


def test_a_stream_needs_a_key_where_embedding_needs_none(server: Server) -> None:
    assert curl(f"{server.model(title(BERT))}?bulk=true", "-d", '{"text":"a"}').status == 401


def test_the_summary_counts_texts(server: Server) -> None:
    *lines, last = bulk(server, title(BERT), records(["a"] * 50) + b'{"text":3}\n', "&summary=true").lines
    assert len(lines) == 51
    assert (last["summary"]["results"], last["summary"]["errors"]) == (50, 1)


def test_a_stream_keeps_its_answers_apart_from_its_neighbours(server: Server) -> None:
    """The texts of two streams and of a list go through the same replicas."""
    texts = [f"{'hello ' * (i % 30)}{chr(97 + i % 26)}" for i in range(600)]
    expected = vectors(ask(server, texts))
    with Raw(server) as one, Raw(server) as other:
        for client, query in ((one, ""), (other, "&encoding_format=base64")):
            client.begin(title(BERT), query)
            client.chunk(records(texts))
            client.end()
        assert_same(vectors(ask(server, texts[::-1])), expected[::-1])
        for client in (one, other):
            assert client.head().status == 200
            lines = by_id(client.rest())
            assert_same(stacked([lines[i]["result"]["embedding"] for i in range(600)]), expected)


# One record


@models(BERT, MPNET, MINILM)
def test_one_record_has_the_vector_of_the_other_surface(server: Server, model: str) -> None:
    answer = single(server, {"text": SEED_TEXT, "yhat_id": "x"}, model)
    assert answer.status_code == 200
    assert list(answer.json()) == ["result", "version", "yhat_id", "yhat_model"]
    result = answer.json()["result"]
    expected = ask(server, SEED_TEXT, model)
    assert floats(result["embedding"]).tobytes() == vectors(expected).tobytes()
    assert result["num_tokens"] == num_tokens(expected)[0]


@models(BERT, MINILM)
def test_one_record_is_encoded_and_cut_as_asked(server: Server, model: str) -> None:
    for query in ("?encoding_format=base64", "?dimensions=5", "?encoding_format=base64&dimensions=5"):
        found = single(server, {"text": SEED_TEXT}, model, query).json()["result"]["embedding"]
        keys = {"dimensions": 5} if "dimensions" in query else {}
        assert isinstance(found, str) is ("base64" in query)
        assert floats(found).tobytes() == vectors(ask(server, SEED_TEXT, model, path="/v1/embeddings", **keys)).tobytes()


@pytest.mark.parametrize(
    ("record", "code"), [({"text": 3}, "wrong_type"), ({}, "missing_field"), ({"text": None}, "missing_field")]
)
def test_one_record_without_a_text_is_422(server: Server, record: Any, code: str) -> None:
    answer = single(server, record)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_one_record_that_is_cut_says_so(server: Server) -> None:
    assert single(server, {"text": "b " * 100}).json()["result"]["truncated"] is True


def test_non_vectorized_leaves_a_vector_alone(server: Server) -> None:
    assert len(single(server, {"text": "a"}, query="?non_vectorized=true").json()["result"]["embedding"]) == DIMS[BERT]
    assert len(single(server, {"text": "a"}, query="?non_vectorized=true&dimensions=1").json()["result"]["embedding"]) == 1


def test_the_status_of_an_embedding_model_is_ok(server: Server) -> None:
    assert requests.get(server.model(title(BERT)), auth=server.auth, timeout=30).json()["status"] == "OK"
    checked = requests.get(f"{server.url}/api/models/{title(BERT)}/check", auth=server.auth, timeout=30).json()
    assert (checked["Status"], checked["Online"]) == ("online", True)


# A WebSocket


@models(BERT, MINILM)
async def test_a_websocket_embeds_one_text_a_message(server: Server, model: str) -> None:
    texts = ["hello", "", SEED_TEXT, "b " * 400]
    expected = vectors(await asyncio.to_thread(ask, server, texts, model, path="/embeddings"))
    headers = {"Authorization": basic(server.auth)}
    for query, dimensions in (("", None), ("?encoding_format=base64", None), ("?encoding_format=base64&dimensions=6", 6)):
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.ws_connect(server.model(title(model)) + query) as socket,
        ):
            for text in texts:
                await socket.send_str(json.dumps({"text": text}))
            results = [json.loads(await socket.receive_str(timeout=30))["result"] for _ in texts]
        assert all(isinstance(result["embedding"], str) is bool(query) for result in results)
        found = stacked([result["embedding"] for result in results])
        head = expected[:, :dimensions]
        assert_same(found, head / np.linalg.norm(head, axis=1, keepdims=True))
        assert [result.get("truncated") for result in results] == [None, None, None if model == MINILM else True, True]


async def test_a_websocket_answers_a_wrong_record_and_goes_on(server: Server) -> None:
    headers = {"Authorization": basic(server.auth)}
    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(server.model(title(BERT))) as socket:
        for record in ('{"text":3}', "no json", '{"text":"a"}'):
            await socket.send_str(record)
        codes = [json.loads(await socket.receive_str(timeout=30)).get("code") for _ in range(3)]
    assert codes == ["wrong_type", "invalid_json", None]


@pytest.mark.parametrize("query", ["?encoding_format=int8", "?dimensions=0", "?dimensions=33"])
async def test_a_websocket_with_a_wrong_parameter_is_not_opened(server: Server, query: str) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": basic(server.auth)}) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(server.model(title(BERT)) + query)
        assert refused.value.status == 400
