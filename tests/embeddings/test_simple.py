"""POST /embeddings, the shape of the small API: answers, and refusals as FastAPI and pydantic write them (embeddings.md 2.2)."""

import json
import re
import time
import uuid
from typing import Any

import numpy as np
import pydantic
import pytest
import requests

from tests.clients import curl
from tests.embeddings.asking import (
    BASE,
    BERT,
    DIMS,
    MINILM,
    MPNET,
    SEED_TEXT,
    SEED_TEXTS,
    SIMPLE,
    ask,
    assert_detail,
    assert_same,
    models,
    num_tokens,
    post,
    vectors,
)
from tests.serving import Server

VERSION = ".".join(pydantic.VERSION.split(".")[:2])
FINEST = "i-ll-take-the-finest-model-you-ve-got!"


def url_of(kind: str) -> str:
    return f"https://errors.pydantic.dev/{VERSION}/v/{kind}"


# Answers


@models(BERT, MPNET, MINILM, BASE)
def test_one_text_is_one_item(server: Server, model: str) -> None:
    """Acceptance 2."""
    answer = ask(server, SEED_TEXT, model)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["data", "generated", "id", "model"]
    [item] = answer.json()["data"]
    assert list(item) == ["index", "embedding", "num_tokens"]
    assert item["index"] == 0
    assert len(item["embedding"]) == DIMS[model]
    assert all(type(value) is float for value in item["embedding"])
    assert np.linalg.norm(item["embedding"]) == pytest.approx(1, abs=1e-5)
    assert answer.json()["model"] == model


@models(MINILM, BASE)
def test_the_seeds_text_has_26_tokens(server: Server, model: str) -> None:
    """Acceptance 2."""
    assert num_tokens(ask(server, SEED_TEXT, model)) == [26]


@models(BERT, MPNET, MINILM, BASE)
def test_two_texts_are_two_items_each_as_it_is_alone(server: Server, model: str) -> None:
    """Acceptance 3."""
    both = vectors(ask(server, SEED_TEXTS, model))
    assert len(both) == 2
    assert_same(both, np.concatenate([vectors(ask(server, text, model)) for text in SEED_TEXTS]))
    assert np.abs(both[0] - both[1]).max() > 0.01


def test_an_answer_is_stamped_with_local_time_and_a_new_uuid(server: Server) -> None:
    one, other = ask(server, "a").json(), ask(server, "a").json()
    assert re.match(r"^\d{4}-\d\d-\d\d @ \d\d:\d\d:\d\d$", one["generated"])
    assert abs(time.mktime(time.strptime(one["generated"], "%Y-%m-%d @ %H:%M:%S")) - time.time()) < 60
    assert uuid.UUID(one["id"]).version == 4
    assert one["id"] != other["id"]


def test_no_text_is_no_item(server: Server) -> None:
    """Acceptance 15."""
    answer = ask(server, [])
    assert answer.status_code == 200
    assert answer.json()["data"] == []
    assert answer.json()["model"] == BERT


@models(BERT, MPNET, MINILM)
def test_the_empty_text_is_its_special_tokens(server: Server, model: str) -> None:
    """Acceptance 15."""
    answer = ask(server, ["", "a", ""], model)
    assert num_tokens(answer)[::2] == [2, 2]
    assert_same(vectors(ask(server, "", model)), vectors(answer)[2:])


@pytest.mark.parametrize("name", [BERT, f"admin/{BERT}"])
def test_the_model_is_named_as_it_was_asked_for(server: Server, name: str) -> None:
    assert ask(server, "a", name).json()["model"] == name


def test_other_keys_are_ignored(server: Server) -> None:
    """Also the keys of /v1/embeddings: this path has no encodings."""
    plain = vectors(ask(server, "hello world"))
    answer = ask(server, "hello world", dimensions=0, encoding_format="base64", truncate="x", user=3, data=None, **{"": {}})
    assert np.array_equal(vectors(answer), plain)


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=utf-16", "image/png", "x", ""])
def test_the_content_type_is_not_checked(server: Server, kind: str) -> None:
    body = json.dumps({"model": BERT, "input": "ä"}).encode()
    assert post(server, SIMPLE, body, headers={"Content-Type": kind}).status_code == 200


def test_the_seeds_own_curl_call_is_answered(server: Server) -> None:
    body = '{\n        "model": "small-bert",\n        "input": "Can we mimic the Embeddings API output format from OpenAI?"\n    }'
    done = curl(
        server.url + SIMPLE, "-X", "POST", "-H", "accept: application/json", "-H", "Content-Type: application/json", "-d", body
    )
    assert done.status == 200
    assert len(json.loads(done.body)["data"]) == 1


def test_curl_with_its_form_header_is_answered(server: Server) -> None:
    done = curl(server.url + SIMPLE, "-d", '{"model":"small-bert","input":["a","b"]}')
    assert len(json.loads(done.body)["data"]) == 2


def test_the_times_of_a_request_are_told(server: Server) -> None:
    """In milliseconds, also for a list that is divided."""
    for texts in ("hello", ["hello world"] * 2000):
        headers = ask(server, texts).headers
        queue, tokenise, infer, total = (
            float(headers[f"X-{name}-Time"]) for name in ("Queue", "Tokenization", "Inference", "Total")
        )
        assert 0 <= queue <= total < 60_000
        assert tokenise > 0
        assert infer > 0
        if isinstance(texts, str):
            assert tokenise + infer <= total + 0.01


def test_floats_are_the_shortest_that_give_the_same_float32(server: Server) -> None:
    text = ask(server, SEED_TEXTS).text
    for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text.partition("generated")[0]):
        shortest = np.format_float_scientific(np.float32(number), unique=True, trim="-")
        assert len(re.sub(r"[-.]|e.*", "", number).strip("0")) <= len(re.sub(r"[-.]|e.*", "", shortest).strip("0"))


# Refusals


def test_an_unknown_model_is_refused_word_for_word(server: Server) -> None:
    """Acceptance 4."""
    answer = ask(server, "...", FINEST)
    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [
            {
                "ctx": {"error": {}},
                "input": FINEST,
                "loc": ["body", "model"],
                "msg": f"Assertion failed, Model `{FINEST}` has not been specified and is not available.",
                "type": "assertion_error",
                "url": url_of("assertion_error"),
            }
        ]
    }


@pytest.mark.parametrize(
    "name",
    ["", " ", "iris", "sluice/iris", BERT.upper(), f"sentence-transformers/{BERT}", f"admin/{BERT}/", "ä\n`", "x" * 100_000],
)
def test_a_model_of_any_other_name_is_refused(server: Server, name: str) -> None:
    """Only /v1/embeddings accepts names with `sentence-transformers/`. The refusal repeats the beginning of a long name."""
    [fault] = assert_detail(ask(server, "a", name), ("assertion_error", ["body", "model"]))
    shown = name if len(name) <= 200 else name[:200] + "..."
    assert fault["input"] == (name if len(name) <= 200 else name[: len(fault["input"]) - 3] + "...")
    assert fault["msg"] == f"Assertion failed, Model `{shown}` has not been specified and is not available."


def test_a_name_that_is_not_unicode_is_an_unknown_model(server: Server) -> None:
    assert_detail(post(server, SIMPLE, b'{"model":"\\ud800","input":"a"}'), ("assertion_error", ["body", "model"]))


MISSING = [("missing", ["body", "model"]), ("missing", ["body", "input"])]
NO_INPUT = [("string_type", ["body", "input", "str"]), ("list_type", ["body", "input", "list[str]"])]
NO_OBJECT = [("model_attributes_type", ["body"])]


def bad_item(*places: int) -> list[tuple[str, list[Any]]]:
    return [("string_type", ["body", "input", "str"]), *(("string_type", ["body", "input", "list[str]", i]) for i in places)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, MISSING),
        ({"other": 1}, MISSING),
        ({"model": BERT}, MISSING[1:]),
        ({"input": "a"}, MISSING[:1]),
        ({"model": BERT, "input": 3}, NO_INPUT),
        ({"model": BERT, "input": 1.5}, NO_INPUT),
        ({"model": BERT, "input": None}, NO_INPUT),
        ({"model": BERT, "input": True}, NO_INPUT),
        ({"model": BERT, "input": {"text": "a"}}, NO_INPUT),
        ({"model": BERT, "input": 10**400}, NO_INPUT),
        ({"model": BERT, "input": ["a", 3]}, bad_item(1)),
        ({"model": BERT, "input": ["a", None, "b", ["c"], {}]}, bad_item(1, 3, 4)),
        ({"model": BERT, "input": [["a"]]}, bad_item(0)),
        ({"model": BERT, "input": [101, 7592, 102]}, bad_item(0, 1, 2)),
        ({"model": BERT, "input": [[101, 102]]}, bad_item(0)),
        ({"model": 3, "input": "a"}, [("string_type", ["body", "model"])]),
        ({"model": None, "input": "a"}, [("string_type", ["body", "model"])]),
        ({"model": [BERT], "input": "a"}, [("string_type", ["body", "model"])]),
        ({"model": FINEST, "input": 3}, [("assertion_error", ["body", "model"]), *NO_INPUT]),
        ({"model": FINEST}, [("assertion_error", ["body", "model"]), ("missing", ["body", "input"])]),
        ({"model": 3}, [("string_type", ["body", "model"]), ("missing", ["body", "input"])]),
        ([], NO_OBJECT),
        ([{"model": BERT, "input": "a"}], NO_OBJECT),
        ("text", NO_OBJECT),
        (3, NO_OBJECT),
        (True, NO_OBJECT),
        (None, NO_OBJECT),
    ],
)
def test_every_fault_of_shape_is_told_at_once_as_pydantic_tells_it(server: Server, body: Any, expected: list[Any]) -> None:
    """Acceptance 5: the type, place and words of each fault, the value that was sent, and a link to its documentation."""
    for fault in assert_detail(post(server, SIMPLE, json.dumps(body).encode()), *expected):
        assert set(fault) - {"ctx"} == {"type", "loc", "msg", "input", "url"}
        assert fault["url"] == url_of(fault["type"])
        assert fault["input"] == value_at(body, fault)
        assert fault["msg"].startswith(WORDS_OF[fault["type"]])


WORDS_OF = {
    "missing": "Field required",
    "string_type": "Input should be a valid string",
    "list_type": "Input should be a valid list",
    "model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
    "assertion_error": "Assertion failed, Model `",
}


def value_at(body: Any, fault: dict[str, Any]) -> Any:
    """The value in the body at the place of the fault; for a missing field, the whole body."""
    places = [place for place in fault["loc"][1:] if place not in ("str", "list[str]")]
    if fault["type"] == "missing":
        places.pop()
    for place in places:
        body = body[place]
    return body


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b"no JSON", 0),
        (b"{", 1),
        (b'{"model": "x", "input": }', 24),
        (b'{"model":"a"} x', 14),
        (b"{'model':'a'}", 1),
        ('{"ä":1,}'.encode(), 8),
        (b'{"model":"\xff"}', 10),
        (b"\x1f\x8b\x08", 1),
        (b'{"model":"a","input":"b\n"}', 23),
        (b"model=a&input=b", 0),
        (b"[" * 100_000, 0),
    ],
    ids=range(11),
)
def test_what_is_not_json_is_told_with_its_place_in_bytes(server: Server, body: bytes, offset: int) -> None:
    """Acceptance 5."""
    [fault] = assert_detail(post(server, SIMPLE, body), ("json_invalid", ["body", offset]))
    assert (fault["msg"], fault["input"], list(fault["ctx"])) == ("JSON decode error", {}, ["error"])
    assert isinstance(fault["ctx"]["error"], str)
    assert fault["ctx"]["error"]


def test_json_in_python_words_is_read_as_a_fault_of_shape(server: Server) -> None:
    """NaN is not a string. In the answer it is null, because JSON cannot express it."""
    for word in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        faults = assert_detail(post(server, SIMPLE, b'{"model":"small-bert","input":%b}' % word), *NO_INPUT)
        assert [fault["input"] for fault in faults] == [None, None]


@pytest.mark.parametrize("depth", [10, 250, 254, 255, 256, 500, 990, 1010])
def test_deep_nesting_is_a_fault_of_the_body(server: Server, depth: int) -> None:
    body = b'{"model":"small-bert","input":%b%b}' % (b"[" * depth, b"]" * depth)
    answer = post(server, SIMPLE, body)
    assert answer.status_code == 422
    assert answer.text.startswith('{"detail":[{')
    assert answer.text.endswith("}]}")


def test_a_byte_order_mark_and_space_around_the_body_are_nothing(server: Server) -> None:
    body = b'\xef\xbb\xbf\r\n {"model":"small-bert","input":"a"}\n\n'
    assert post(server, SIMPLE, body).status_code == 200


def test_the_last_of_two_equal_keys_counts(server: Server) -> None:
    answer = post(server, SIMPLE, b'{"model":"nowhere","model":"small-bert","input":3,"input":"hello"}')
    assert_same(vectors(answer), vectors(ask(server, "hello")))


def test_a_connection_goes_on_after_a_refusal(server: Server) -> None:
    with requests.Session() as session:
        for _ in range(3):
            assert session.post(server.url + SIMPLE, data=b"{}", timeout=30).status_code == 422
            assert session.post(server.url + SIMPLE, json={"model": BERT, "input": "a"}, timeout=30).status_code == 200
        [pool] = session.adapters["http://"].poolmanager.pools._container.values()  # type: ignore[attr-defined]
        assert pool.num_connections == 1
