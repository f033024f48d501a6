"""Clients that people use: OpenAI's official client, with and without async, requests with a session, and curl (acceptance 11)."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import openai
import pytest
import requests
from tokenizers import Tokenizer

from tests.clients import curl
from tests.embeddings.asking import (
    BERT,
    DIMS,
    MINILM,
    MPNET,
    OPENAI,
    SEED_TEXT,
    SEED_TEXTS,
    ask,
    assert_same,
    floats,
    models,
    stacked,
    vectors,
)
from tests.serving import ROOT, Server


def client_of(server: Server, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(**{"base_url": server.url + "/v1", "api_key": "x", "max_retries": 0, "timeout": 60} | options)


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with client_of(server) as opened:
        yield opened


@pytest.fixture
async def async_client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0, timeout=60) as opened:
        yield opened


def found(answer: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    assert answer.object == "list"
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    assert {item.object for item in answer.data} <= {"embedding"}
    return stacked([item.embedding for item in answer.data])


# openai


@models(BERT, MINILM)
def test_openai_embeds_a_text_and_a_list(server: Server, client: openai.OpenAI, model: str) -> None:
    one = client.embeddings.create(model=model, input=SEED_TEXT)
    assert_same(found(one), vectors(ask(server, SEED_TEXT, model)))
    assert one.model == model
    assert one.usage.prompt_tokens == one.usage.total_tokens > 0
    assert_same(found(client.embeddings.create(model=model, input=SEED_TEXTS)), vectors(ask(server, SEED_TEXTS, model)))


@models(BERT, MINILM)
def test_openai_gets_the_same_bits_by_every_encoding(client: openai.OpenAI, model: str) -> None:
    """By default the client asks for base64 and decodes it itself. A text among others may get other last digits than alone."""
    for text in SEED_TEXTS:
        by_default = found(client.embeddings.create(model=model, input=text))
        as_float = found(client.embeddings.create(model=model, input=text, encoding_format="float"))
        as_base64 = client.embeddings.create(model=model, input=text, encoding_format="base64")
        raw = [floats(item.embedding) for item in as_base64.data]
        assert by_default.tobytes() == as_float.tobytes() == np.array(raw).tobytes()


@models(BERT, MINILM)
def test_openai_asks_for_fewer_dimensions(client: openai.OpenAI, model: str) -> None:
    count = 64 if model == MINILM else 16
    head = found(client.embeddings.create(model=model, input=SEED_TEXTS, dimensions=count))
    assert head.shape == (2, count)
    assert np.linalg.norm(head, axis=1) == pytest.approx([1, 1], abs=1e-5)


@models(BERT, MINILM)
def test_openai_sends_token_ids(server: Server, client: openai.OpenAI, model: str) -> None:
    folder = ROOT / "models" / "sluice" if model == MINILM else server.data_dir / "models" / "admin"
    ids = Tokenizer.from_file(str(folder / model / "1" / "tokenizer.json")).encode(SEED_TEXTS[1], add_special_tokens=False)
    ids = [token for token, is_word in zip(ids.ids, ids.attention_mask, strict=True) if is_word]
    expected = vectors(ask(server, SEED_TEXTS[1], model))
    assert_same(found(client.embeddings.create(model=model, input=ids)), expected)
    assert_same(found(client.embeddings.create(model=model, input=[ids, ids])), np.concatenate([expected, expected]))


def test_openai_sends_fields_of_ours_and_of_its_own(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=BERT, input="a", user="me", extra_body={"truncate": False}, extra_query={"x": "y"})
    assert len(answer.data) == 1


def test_openai_lists_and_retrieves_models(client: openai.OpenAI) -> None:
    listed = list(client.models.list())
    assert [model.id for model in listed if model.id in (BERT, MPNET)] == [BERT, MPNET]
    for model in listed:
        assert client.models.retrieve(model.id) == model
    named = client.models.retrieve(f"sentence-transformers/{BERT}")
    assert (named.object, named.owned_by) == ("model", "admin")


def test_openai_raises_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="nowhere", input="a")
    assert (caught.value.code, caught.value.param, caught.value.type) == ("model_not_found", "model", "invalid_request_error")
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nowhere")
    with pytest.raises(openai.NotFoundError):
        client.post("/embeddings/x", cast_to=object)


@pytest.mark.parametrize(
    ("keys", "param", "code"),
    [
        ({"input": ""}, "input", None),
        ({"input": []}, "input", None),
        ({"input": "a", "dimensions": 33}, "dimensions", None),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", None),
        ({"input": [999_999]}, "input", "invalid_token"),
        ({"input": ["a"] * 2049}, "input", "too_many_inputs"),
        ({"input": "a " * 100, "extra_body": {"truncate": False}}, "input", "context_length_exceeded"),
    ],
)
def test_openai_raises_bad_request(client: openai.OpenAI, keys: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=BERT, **keys)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_openai_raises_authentication_error(server: Server) -> None:
    with client_of(server, api_key="0" * 32) as client:
        for call in (client.models.list, lambda: client.embeddings.create(model=BERT, input="a")):
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            assert caught.value.code == "invalid_api_key"


def test_openai_uses_a_real_key_and_a_base_url_with_a_slash(server: Server) -> None:
    with client_of(server, api_key=server.key, base_url=server.url + "/v1/") as client:
        assert len(client.embeddings.create(model=BERT, input="a").data) == 1


def test_openai_shows_the_raw_answer(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model=BERT, input="b " * 100)
    assert raw.headers["X-Truncated"] == "1"
    assert len(raw.parse().data) == 1


def test_openai_embeds_2048_texts(client: openai.OpenAI) -> None:
    assert found(client.embeddings.create(model=BERT, input=["a"] * 2048)).shape == (2048, DIMS[BERT])


async def test_async_openai_embeds_many_at_once(server: Server, async_client: openai.AsyncOpenAI) -> None:
    texts = [f"{'hello ' * (i % 5)}{chr(97 + i % 26)}" for i in range(60)]
    answers = await asyncio.gather(*(async_client.embeddings.create(model=BERT, input=text) for text in texts))
    assert_same(np.concatenate([found(answer) for answer in answers]), vectors(await asyncio.to_thread(ask, server, texts)))


@models(BERT, MINILM)
async def test_async_openai_does_what_the_other_does(async_client: openai.AsyncOpenAI, model: str) -> None:
    by_default = found(await async_client.embeddings.create(model=model, input=SEED_TEXTS))
    as_float = found(
        await async_client.embeddings.create(model=model, input=SEED_TEXTS, encoding_format="float", dimensions=DIMS[model])
    )
    assert_same(by_default, as_float)
    assert model in [listed.id async for listed in async_client.models.list()]
    assert (await async_client.models.retrieve(model)).id == model


async def test_async_openai_raises_the_same_errors(server: Server, async_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await async_client.embeddings.create(model="nowhere", input="a")
    with pytest.raises(openai.BadRequestError):
        await async_client.embeddings.create(model=BERT, input="")
    with pytest.raises(openai.AuthenticationError):
        await async_client.with_options(api_key="f" * 32).models.list()


# requests and curl


def test_the_seeds_python_calls_work_with_a_session(server: Server) -> None:
    with requests.Session() as session:
        for _ in range(3):
            answer = session.post(server.url + "/embeddings", json={"model": BERT, "input": SEED_TEXTS}, timeout=30)
            assert answer.status_code == 200
            assert len(answer.json()["data"]) == 2


def test_curl_speaks_to_the_shape_of_openai(server: Server) -> None:
    body = json.dumps({"model": BERT, "input": SEED_TEXT, "encoding_format": "base64"})
    bearer = "Authorization: Bearer sk-something"
    done = curl(server.url + OPENAI, "-H", "Content-Type: application/json", "-H", bearer, "-d", body)
    assert done.status == 200
    [item] = json.loads(done.body)["data"]
    assert len(base64.b64decode(item["embedding"])) == 4 * DIMS[BERT]


def test_curl_sends_a_large_file_after_asking_first(server: Server, tmp_path: Any) -> None:
    path = tmp_path / "body"
    path.write_text(json.dumps({"model": BERT, "input": ["word " * 200] * 2000}))
    assert path.stat().st_size > 1024 * 1024
    done = curl(server.url + OPENAI, "-H", "Expect: 100-continue", "--data-binary", f"@{path}")
    assert (done.code, done.status) == (0, 200)
    assert "100 Continue" in done.trace
    assert len(json.loads(done.body)["data"]) == 2000
    refused = curl(server.url + OPENAI, "-H", "Expect: 100-continue", "--data-binary", f"@{path}", auth=("admin", "0" * 32))
    assert (refused.code, refused.status) == (0, 401)
    assert "100 Continue" not in refused.trace
