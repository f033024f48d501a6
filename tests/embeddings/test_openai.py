"""POST /v1/embeddings, OpenAI's shape: every field, and every case in its table of errors (embeddings.md 2.4)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tokenizers import Tokenizer

from tests.embeddings.asking import (
    BASE,
    BERT,
    DIMS,
    MAX_TOKENS,
    MINILM,
    MPNET,
    OPENAI,
    SEED_TEXT,
    SEED_TEXTS,
    ask,
    assert_openai_fault,
    assert_same,
    is_base64,
    models,
    num_tokens,
    post,
    vectors,
)
from tests.embeddings.small_models import SmallModels
from tests.serving import ROOT, Server, serving


def ask_openai(server: Server, inputs: Any, model: str = BERT, **keys: Any) -> requests.Response:
    return ask(server, inputs, model, path=OPENAI, **keys)


def tokenizer_of(server: Server, model: str) -> Tokenizer:
    root = ROOT / "models" / "sluice" if model in (MINILM, BASE) else server.data_dir / "models" / "admin"
    tokenizer = Tokenizer.from_file(str(Path(root, model, "1", "tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def ids_of(server: Server, model: str, text: str, *, specials: bool) -> list[int]:
    ids: list[int] = tokenizer_of(server, model).encode(text, add_special_tokens=specials).ids
    return ids


# Answers


@models(BERT, MINILM)
def test_a_list_of_texts_is_a_list_of_embeddings(server: Server, model: str) -> None:
    answer = ask_openai(server, SEED_TEXTS, model)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["object", "data", "model", "usage"]
    assert (answer.json()["object"], answer.json()["model"]) == ("list", model)
    for i, item in enumerate(answer.json()["data"]):
        assert list(item) == ["object", "index", "embedding"]
        assert (item["object"], item["index"], len(item["embedding"])) == ("embedding", i, DIMS[model])


@models(BERT, MPNET, MINILM)
def test_usage_counts_the_tokens_of_the_other_surface(server: Server, model: str) -> None:
    """Acceptance 13: also for a text that is truncated."""
    texts = [*SEED_TEXTS, "a", "word " * 600]
    usage = ask_openai(server, texts, model).json()["usage"]
    assert usage == {"prompt_tokens": sum(num_tokens(ask(server, texts, model))), "total_tokens": usage["prompt_tokens"]}
    assert ask_openai(server, SEED_TEXT, model).json()["usage"]["prompt_tokens"] == num_tokens(ask(server, SEED_TEXT, model))[0]


@pytest.mark.parametrize("name", [BERT, f"admin/{BERT}", f"sentence-transformers/{BERT}"])
def test_a_model_is_known_by_each_of_its_names_and_named_as_it_was_asked_for(server: Server, name: str) -> None:
    answer = ask_openai(server, SEED_TEXTS, name)
    assert answer.json()["model"] == name
    assert_same(vectors(answer), vectors(ask(server, SEED_TEXTS)))


@models(BERT, MPNET, MINILM)
def test_both_encodings_and_both_surfaces_give_the_same_bits(server: Server, model: str) -> None:
    """Acceptance 12 and 3.4. base64 is not the default here. A text among others may get other last digits than alone."""
    for text in SEED_TEXTS:
        simple = vectors(ask(server, text, model))
        by_default, as_float, as_base64 = (
            ask_openai(server, text, model, **keys) for keys in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"})
        )
        assert all(is_base64(item["embedding"]) for item in as_base64.json()["data"])
        for answer in (by_default, as_float, as_base64):
            assert vectors(answer).tobytes() == simple.tobytes()


@models(BERT, MPNET, MINILM)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_fewer_dimensions_are_the_head_at_length_1(server: Server, model: str, encoding: str) -> None:
    """Acceptance 12."""
    whole = vectors(ask_openai(server, SEED_TEXTS, model))
    for count in (1, 2, 20, DIMS[model] - 1, DIMS[model]):
        head = vectors(ask_openai(server, SEED_TEXTS, model, dimensions=count, encoding_format=encoding))
        assert head.shape == (2, count)
        assert np.linalg.norm(head, axis=1) == pytest.approx([1, 1], abs=1e-5)
        lengths = np.linalg.norm(whole[:, :count], axis=1, keepdims=True)
        assert head == pytest.approx(whole[:, :count] / lengths, abs=1e-6)


def test_fields_that_are_null_are_absent(server: Server) -> None:
    """Clients send absent fields in this way."""
    answer = ask_openai(server, "a", encoding_format=None, dimensions=None, truncate=None, user=None)
    assert vectors(answer).tobytes() == vectors(ask_openai(server, "a")).tobytes()


def test_the_user_and_unknown_fields_are_ignored_and_not_logged(server: Server) -> None:
    for user in ("Mallory-Who-Is-Not-Logged", 3):
        assert ask_openai(server, "a", user=user, temperature=3, extra={"x": []}).status_code == 200
    assert "Mallory" not in server.log


@pytest.mark.parametrize("kind", ["text/plain", "x", ""])
def test_the_content_type_is_not_checked(server: Server, kind: str) -> None:
    body = json.dumps({"model": BERT, "input": "a"}).encode()
    assert post(server, OPENAI, body, headers={"Content-Type": kind}).status_code == 200


def test_the_times_of_a_request_are_told(server: Server) -> None:
    headers = ask_openai(server, SEED_TEXTS).headers
    assert all(float(headers[f"X-{name}-Time"]) >= 0 for name in ("Queue", "Tokenization", "Inference", "Total"))


# Token ids


@models(BERT, MPNET, MINILM, BASE)
def test_the_token_ids_of_a_text_give_its_vector(server: Server, model: str) -> None:
    """Acceptance 14: with and without special tokens, alone and among others."""
    expected = vectors(ask(server, SEED_TEXTS, model))
    bare, whole = ([ids_of(server, model, text, specials=specials) for text in SEED_TEXTS] for specials in (False, True))
    for inputs in (bare, whole, [bare[0], whole[1]]):
        answer = ask_openai(server, inputs, model)
        assert_same(vectors(answer), expected)
        assert answer.json()["usage"]["prompt_tokens"] == sum(min(len(ids), MAX_TOKENS[model]) for ids in whole)
    for ids in (bare[0], whole[0]):
        assert_same(vectors(ask_openai(server, ids, model)), expected[:1])


@models(BERT, MPNET, MINILM)
def test_token_ids_are_embedded_with_dimensions_and_encodings(server: Server, model: str) -> None:
    ids = ids_of(server, model, SEED_TEXT, specials=False)
    text, tokens = (vectors(ask_openai(server, one, model, dimensions=7, encoding_format="base64")) for one in (SEED_TEXT, ids))
    assert_same(tokens, text)


@models(BERT, MPNET, MINILM)
def test_a_long_list_of_tokens_is_cut_and_keeps_its_last_special_token(server: Server, model: str) -> None:
    """Section 4: in the same way as a text is truncated."""
    text = "hello world " * 300
    expected = vectors(ask(server, text, model))
    for specials in (False, True):
        ids = ids_of(server, model, text, specials=specials)
        assert len(ids) > MAX_TOKENS[model]
        answer = ask_openai(server, ids, model)
        assert_same(vectors(answer), expected)
        assert answer.headers["X-Truncated"] == "1"
        assert answer.json()["usage"]["prompt_tokens"] == MAX_TOKENS[model]


@models(BERT, MINILM)
def test_a_list_of_tokens_that_just_fits_is_not_cut(server: Server, model: str) -> None:
    ids = ids_of(server, model, "hello world " * 300, specials=False)[: MAX_TOKENS[model] - 2]
    assert "X-Truncated" not in ask_openai(server, ids, model).headers
    assert ask_openai(server, [*ids, ids[0]], model).headers["X-Truncated"] == "1"
    assert ask_openai(server, ids, model, truncate=False).status_code == 200
    assert_openai_fault(ask_openai(server, [*ids, ids[0]], model, truncate=False), "input", "context_length_exceeded")


def test_two_thousand_lists_of_tokens_are_embedded_in_order(server: Server) -> None:
    """The list is long enough to be divided among the replicas."""
    ids = [[5 + i % 60, 5 + i % 7] * (1 + i % 11) for i in range(2000)]
    some = list(range(0, 2000, 97))
    found = vectors(ask_openai(server, ids, encoding_format="base64"))
    assert_same(found[some], np.concatenate([vectors(ask_openai(server, ids[i])) for i in some]))


@models(BERT, MINILM)
@pytest.mark.parametrize("token", [999_999, -1, 2**31, 2**63])
def test_a_token_id_out_of_range_is_named(server: Server, model: str, token: int) -> None:
    """Acceptance 14: in a short list and in a list that is divided."""
    many = [[[5]] * 2000 + [[token]]] if model == BERT else []
    for inputs in ([5, token], [[5], [token]], *many):
        message = assert_openai_fault(ask_openai(server, inputs, model), "input", "invalid_token")
        assert str(token) in message
        assert "check_embedding_ctx_length=False" in message


def test_a_server_may_refuse_token_ids(tmp_path: Path, small: SmallModels) -> None:
    small.put(tmp_path / "data", f"admin/{BERT}")
    settings = {"SLUICE_REFUSE_TOKEN_IDS": "true", "SLUICE_EMBEDDING_MODELS": BERT, "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path / "data", **settings) as server:
        for inputs in ([5, 6], [[5, 6], [7]]):
            message = assert_openai_fault(ask_openai(server, inputs), "input", "invalid_token")
            assert "this server takes texts only" in message
            assert "check_embedding_ctx_length=False" in message
        assert vectors(ask_openai(server, ["a", "b"])).shape == (2, DIMS[BERT])


def test_a_token_id_of_more_than_64_bits_is_out_of_range(server: Server) -> None:
    assert_openai_fault(ask_openai(server, [2**64]), "input", "invalid_token")


def test_the_first_id_after_the_vocabulary_is_out_of_range(server: Server) -> None:
    size = tokenizer_of(server, BERT).get_vocab_size()
    assert ask_openai(server, [size - 1]).status_code == 200
    assert_openai_fault(ask_openai(server, [size]), "input", "invalid_token")


# Refusals


@pytest.mark.parametrize(
    "body", [b" ", b"no JSON", b"{", b"[]", b"[1]", b'"a"', b"3", b"null", b"true", b'{"a":"\xff"}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_is_400(server: Server, body: bytes) -> None:
    assert_openai_fault(post(server, OPENAI, body), None)


NO_MODEL: list[dict[str, Any]] = [
    {},
    {"input": "a"},
    {"model": None, "input": "a"},
    {"model": 3, "input": "a"},
    {"model": [BERT], "input": "a"},
]


@pytest.mark.parametrize("body", NO_MODEL, ids=range(len(NO_MODEL)))
def test_a_model_that_is_missing_or_no_string_is_400(server: Server, body: dict[str, Any]) -> None:
    assert "'model'" in assert_openai_fault(post(server, OPENAI, json.dumps(body).encode()), "model")


WRONG_INPUTS: list[Any] = [
    None,
    3,
    1.5,
    True,
    {},
    {"text": "a"},
    "",
    [],
    [[]],
    ["a", ""],
    [[5], []],
    ["a", 3],
    [3, "a"],
    ["a", [5]],
    [[5], "a"],
    [5, [5]],
    ["a", None],
    [None],
    [True],
    [5, False],
    [1.0],
    [[1.5]],
    [["a"]],
    [["a", "b"], ["c"]],
    [[[5]]],
    [{}],
]


@pytest.mark.parametrize("value", WRONG_INPUTS, ids=range(len(WRONG_INPUTS)))
def test_an_input_that_is_empty_mixed_or_of_another_type_is_400(server: Server, value: Any) -> None:
    assert "'input" in assert_openai_fault(ask_openai(server, value), "input")


def test_an_input_that_is_missing_is_400(server: Server) -> None:
    assert "'input'" in assert_openai_fault(post(server, OPENAI, b'{"model":"small-bert"}'), "input")


def test_a_wrong_text_in_a_long_list_is_named_by_its_place(server: Server) -> None:
    assert "1999" in assert_openai_fault(ask_openai(server, ["a"] * 1999 + [""]), "input")


@pytest.mark.parametrize("value", ["int8", "", "Float", 3, True, ["float"]])
def test_an_encoding_that_is_none_of_the_two_is_400(server: Server, value: Any) -> None:
    assert "'encoding_format'" in assert_openai_fault(ask_openai(server, "a", encoding_format=value), "encoding_format")


@pytest.mark.parametrize("value", [0, -1, 33, 2**31, 2**64, 1.5, 2.0, True, "8", [8]])
def test_dimensions_that_the_model_has_not_are_400(server: Server, value: Any) -> None:
    assert "'dimensions'" in assert_openai_fault(ask_openai(server, "a", dimensions=value), "dimensions")


@pytest.mark.parametrize("value", [0, 1, "false", []])
def test_truncate_is_true_or_false(server: Server, value: Any) -> None:
    assert "'truncate'" in assert_openai_fault(ask_openai(server, "a", truncate=value), "truncate")


@models(BERT, MINILM)
def test_a_long_text_that_must_not_be_cut_is_400(server: Server, model: str) -> None:
    """Also when it is the last text of a list that is divided."""
    for inputs in ("word " * 600, ["a"] * 500 + ["word " * 600]):
        message = assert_openai_fault(ask_openai(server, inputs, model, truncate=False), "input", "context_length_exceeded")
        assert str(MAX_TOKENS[model]) in message
        assert ask_openai(server, inputs, model, truncate=True).headers["X-Truncated"] == "1"
    assert ask_openai(server, SEED_TEXT[:20], model, truncate=False).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "nowhere",
        "",
        "iris",
        BERT.upper(),
        f"eva/{BERT}",
        f"sentence-transformers/admin/{BERT}",
        "text-embedding-3-small",
        "ä" * 1000,
    ],
)
def test_an_unknown_model_is_404(server: Server, name: str) -> None:
    message = assert_openai_fault(ask_openai(server, "a", name), "model", "model_not_found", 404)
    assert message.startswith(f"The model `{name[:100]}")
    assert message.endswith("` does not exist or you do not have access to it.")


def test_a_name_that_is_not_unicode_is_an_unknown_model(server: Server) -> None:
    answer = post(server, OPENAI, b'{"model":"\\ud800","input":"a"}')
    assert_openai_fault(answer, "model", "model_not_found", 404)


@pytest.mark.parametrize("depth", [10, 254, 255, 500, 990, 1010])
def test_deep_nesting_is_a_fault_of_the_body(server: Server, depth: int) -> None:
    body = b'{"model":"small-bert","input":%b%b}' % (b"[" * depth, b"]" * depth)
    answer = post(server, OPENAI, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("input", None)
