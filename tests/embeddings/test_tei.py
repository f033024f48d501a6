"""The shape of Text Embeddings Inference: /embed, /info and /health, with huggingface_hub's client and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.clients import until
from tests.embeddings.asking import BERT, DIMS, MAX_TOKENS, MPNET, SEED_TEXTS, Alone, ask, assert_same, cosines, stacked, vectors
from tests.publishing.asking import user
from tests.serving import Server, serving

FIRST = BERT  # the first of the server's list that is not one of those that ship
MODEL = f"?model={FIRST}"


def embed(server: Server, inputs: Any, query: str = MODEL, **more: Any) -> requests.Response:
    return requests.post(f"{server.url}/embed{query}", json={"inputs": inputs, **more}, timeout=60)


def found(answer: requests.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return stacked(answer.json())


def refused(answer: requests.Response, status: int, kind: str = "Validation") -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "error_type"}
    assert answer.json()["error_type"] == kind
    return str(answer.json()["error"])


def test_the_client_of_huggingface_gets_the_vectors_of_the_other_shapes(server: Server, alone: Any) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    client = hub.InferenceClient(model=f"{server.url}/embed{MODEL}")
    expected: Alone = alone(FIRST)
    one = client.feature_extraction(SEED_TEXTS[0])
    assert_same(one, expected(SEED_TEXTS[:1]))
    assert_same(client.feature_extraction(SEED_TEXTS, normalize=True, truncate=True), expected(SEED_TEXTS))
    with pytest.raises(Exception, match="truncation_direction"):
        client.feature_extraction("a", truncation_direction="left")


def test_one_text_and_lists_of_texts_and_of_token_ids(server: Server) -> None:
    assert_same(found(embed(server, SEED_TEXTS[0])), vectors(ask(server, SEED_TEXTS[0], FIRST)))
    assert_same(found(embed(server, SEED_TEXTS)), vectors(ask(server, SEED_TEXTS, FIRST)))
    ids = [[5, 6, 7], [8]]
    openai = requests.post(f"{server.url}/v1/embeddings", json={"model": FIRST, "input": ids}, timeout=60)
    assert_same(found(embed(server, ids)), vectors(openai))


def test_a_long_list_is_divided_and_comes_back_in_order(server: Server) -> None:
    texts = [f"text {i} " * (i % 7 + 1) for i in range(1500)]
    assert_same(found(embed(server, texts)), vectors(ask(server, texts, FIRST)))


def test_without_a_model_the_first_one_answers_and_info_names_it(server: Server) -> None:
    told = requests.get(f"{server.url}/info", timeout=30).json()
    names = list(requests.get(f"{server.url}/models", timeout=30).json()["data"]["models"])
    assert told["model_id"] == names[0]
    told = requests.get(f"{server.url}/info{MODEL}", timeout=30).json()
    assert (told["model_id"], told["max_input_length"], told["max_client_batch_size"]) == (FIRST, MAX_TOKENS[FIRST], 2048)
    assert (told["auto_truncate"], told["model_dtype"]) == (True, "float32")
    assert found(embed(server, "a", f"?model={MPNET}")).shape == (1, DIMS[MPNET])


def test_long_texts_are_cut_unless_they_must_not_be(server: Server) -> None:
    text = "a " * 200
    assert_same(found(embed(server, text)), vectors(ask(server, text, FIRST)))
    assert "tokens that the model takes" in refused(embed(server, text, truncate=False), 400)


def test_vectors_have_length_1_unless_they_are_wanted_as_they_are(server: Server) -> None:
    unit, plain = found(embed(server, SEED_TEXTS)), found(embed(server, SEED_TEXTS, normalize=False))
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert np.allclose(cosines(unit, plain), 1, atol=1e-6)
    short = found(embed(server, SEED_TEXTS, dimensions=8))
    assert short.shape == (2, 8)
    assert np.allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "'inputs' is missing"),
        ({"inputs": None}, "'inputs' is missing"),
        ({"inputs": []}, "'inputs' is empty"),
        ({"inputs": ""}, "'inputs' is empty"),
        ({"inputs": ["a", ""]}, "'inputs[1]' is empty"),
        ({"inputs": ["a", 1]}, "'inputs[1]' is not a string"),
        ({"inputs": "a", "truncate": "yes"}, "'truncate' must be true or false"),
        ({"inputs": "a", "normalize": 1}, "'normalize' must be true or false"),
        ({"inputs": "a", "dimensions": 0}, "'dimensions' must be between 1 and"),
        ({"inputs": "a", "prompt_name": "query"}, "'prompt_name' must be absent"),
        ({"inputs": "a", "truncation_direction": "Left"}, "'truncation_direction' must be 'Right'"),
        ([], "The body must be a JSON object with 'inputs'"),
    ],
)
def test_a_wrong_field_is_named(server: Server, body: Any, message: str) -> None:
    assert refused(requests.post(f"{server.url}/embed{MODEL}", json=body, timeout=30), 400).startswith(message)


def test_refusals_have_the_shape_of_that_server(server: Server) -> None:
    assert refused(embed(server, "a", "?model=nothing"), 404, "NotFound") == "There is no model `nothing`."
    assert refused(requests.get(f"{server.url}/embed", timeout=30), 405)
    wrong = requests.post(f"{server.url}/embed", json={"inputs": "a"}, auth=("admin", "0" * 32), timeout=30)
    assert refused(wrong, 401, "Unauthorized")
    assert (
        found(requests.post(f"{server.url}/embed{MODEL}", json={"inputs": "a"}, auth=user(server, "tei-user"), timeout=30)).shape[0]
        == 1
    )


def health(server: Server, query: str = "", **headers: str) -> requests.Response:
    return requests.get(f"{server.url}/health{query}", headers=headers, timeout=30)


def test_health_is_empty_and_200_while_the_model_can_embed(server: Server) -> None:
    answer = until(lambda: (found := health(server)).status_code == 200 and found, what="a replica has opened the first model")
    assert (answer.status_code, answer.content) == (200, b"")
    assert health(server, MODEL, Authorization="Bearer wrong").status_code == 200


def test_health_is_503_where_embed_finds_no_model(server: Server, tmp_path: Path) -> None:
    unknown = "?model=nothing"
    assert refused(health(server, unknown), 503, "Unhealthy") == "There is no embedding model."
    assert refused(embed(server, "a", unknown), 404, "NotFound")
    with serving(tmp_path / "data", SLUICE_EMBEDDING_MODELS="nothing", SLUICE_SCORE_REPLICAS="1") as empty:
        assert requests.get(f"{empty.url}/healthcheck", timeout=30).status_code == 200
        assert refused(health(empty), 503, "Unhealthy") == "There is no embedding model."
        assert refused(embed(empty, "a", ""), 404, "NotFound") == "There is no embedding model."
