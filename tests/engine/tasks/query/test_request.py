"""The fields of a body: what each may hold, and what is said of anything else."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tasks.query.refusals import Refused
from engine.tasks.query.request import Request, read_condition, read_request, read_table_request


def read(**fields: Any) -> Request:
    return read_request(json.dumps({"query": "select 1", **fields}).encode())


def refusal(body: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        read_request(body)
    assert caught.value.at is None
    return caught.value


def test_a_body_with_a_text_alone_has_the_defaults() -> None:
    assert read_request(memoryview(b'{"query": "select 1"}')) == Request("select 1", True, None, None, None, False, None, "names")


def test_a_body_may_have_every_field() -> None:
    request = read(
        as_list=False, params=[1], dataset="hub://org/name", timeout_ms=50, explain="analyze", format="arrow", class_labels="ids"
    )
    assert request == Request("select 1", False, [1], "org/name", 50, "analyze", "arrow", "ids")


def test_null_means_the_default() -> None:
    names = ("as_list", "params", "dataset", "timeout_ms", "explain", "format", "class_labels")
    assert read(**dict.fromkeys(names)) == Request("select 1")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_body"),
        (b"select 1", "invalid_body"),
        (b"[]", "invalid_body"),
        (b'"select 1"', "invalid_body"),
        (b'{"query": "select 1"', "invalid_body"),
        (b'{"query": "select \xff"}', "invalid_body"),
        (b'{"query": "select \\ud800"}', "invalid_body"),
        (b"[" * 100_000, "invalid_body"),
        (b"{}", "invalid_parameter"),
        (b'{"query": null}', "invalid_parameter"),
        (b'{"query": ""}', "invalid_parameter"),
        (b'{"query": " \\n"}', "invalid_parameter"),
        (b'{"query": 1}', "invalid_parameter"),
        (b'{"query": ["select 1"]}', "invalid_parameter"),
    ],
)
def test_a_body_is_an_object_with_a_text(body: bytes, code: str) -> None:
    assert refusal(body).code == code


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("querry", 'Did you mean "query"?'),
        ("asList", 'Did you mean "as_list"?'),
        ("parameters", 'Did you mean "params"?'),
        ("zzz", None),
        ("\ud800", None),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(name: str, hint: str | None) -> None:
    refused = refusal(json.dumps({"query": "select 1", name: 1}).encode())
    assert (refused.code, refused.hint) == ("unknown_field", hint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("as_list", 1),
        ("as_list", "true"),
        ("dataset", 1),
        ("timeout_ms", 0),
        ("timeout_ms", 1.5),
        ("timeout_ms", True),
        ("timeout_ms", "50"),
        ("explain", True),
        ("explain", 0),
        ("explain", "plans"),
        ("format", "csv"),
        ("format", ["json"]),
        ("class_labels", "name"),
        ("class_labels", 1),
        ("params", 1),
        ("params", "x"),
    ],
)
def test_a_field_of_another_kind_is_refused(name: str, value: Any) -> None:
    refused = refusal(json.dumps({"query": "select 1", name: value}).encode())
    assert refused.code == "invalid_parameter"
    assert name in refused.message


@pytest.mark.parametrize("name", ["", "hub://", "/etc/passwd", "s3://b/k", "../x", "hub://o/..", "o/n/a/b/c"])
def test_the_dataset_has_the_form_of_a_source(name: str) -> None:
    refused = refusal(json.dumps({"query": "select 1", "dataset": name}).encode())
    assert (refused.code, refused.message) == ("bad_name", "A source is hub://org/name.")


def test_the_table_request_has_three_fields() -> None:
    assert read_table_request(b'{"query": "select ?", "params": [1], "timeout_ms": 9}') == Request(
        "select ?", params=[1], timeout_ms=9
    )
    with pytest.raises(Refused) as caught:
        read_table_request(b'{"query": "select 1", "as_list": true}')
    assert caught.value.code == "unknown_field"


# Parameters


@pytest.mark.parametrize(
    "params", [[], {}, [1, "x", None, True, 1.5], {"x": [1, 2], "größe": ["a"]}, [[[1, 2], [3, 4]], [], -(2**63)]]
)
def test_values_stay_as_they_are(params: Any) -> None:
    assert read(params=params).params == params


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_vector_in_base64_is_float32(numbers: list[float]) -> None:
    vector = np.array(numbers, dtype="<f4")
    encoded = {"b64": base64.b64encode(vector.tobytes()).decode()}
    params = read(params={"x": encoded, "y": encoded | {"dtype": "f32"}}).params
    assert isinstance(params, dict)
    for value in params.values():
        assert value.dtype == np.float32
        assert np.array_equal(value, vector)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"b64": 1},
        {"b64": "AACAPw==", "dtype": "f64"},
        {"b64": "AACAPw==", "size": 1},
        {"dtype": "f32"},
        {"b64": ""},
        {"b64": "AACAPw"},
        {"b64": "AACA Pw=="},
        {"b64": "AACAPwA="},
        {"b64": base64.b64encode(np.array([1, np.nan], dtype="<f4").tobytes()).decode()},
        {"b64": base64.b64encode(np.array([np.inf], dtype="<f4").tobytes()).decode()},
    ],
)
def test_an_object_that_is_no_vector_is_refused(value: Any) -> None:
    refused = refusal(json.dumps({"query": "select ?", "params": [value]}).encode())
    assert refused.code == "bad_vector"
    assert "Parameter 1" in refused.message


@pytest.mark.parametrize(
    "params",
    [
        '{"__v0": 1}', '{"a b": 1}', '{"": 1}', '{"1": 1}', '{"\\ud800": 1}', '["\\ud800"]', "[NaN]", "[[1.5, NaN]]",
        "[[1, Infinity]]", "[9223372036854775808]", "[[1, 9223372036854775808]]", "[[[[1]]]]", '[[{"b64": ""}]]',
    ],
)  # fmt: skip
def test_values_that_nothing_can_take_are_refused(params: str) -> None:
    assert refusal(f'{{"query": "select ?", "params": {params}}}'.encode()).code == "bad_param"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_body_gives_anything_but_a_request_or_a_refusal(value: Any) -> None:
    for body in (value, {"query": value}, {"query": "select 1", "params": value}):
        try:
            found: Any = read_request(json.dumps(body).encode())
        except Refused as refused:
            found = refused.report()
        assert found


def test_a_body_that_is_no_object_is_told_what_to_send() -> None:
    for read_body, field in ((read_request, "query"), (read_table_request, "query"), (read_condition, "where")):
        with pytest.raises(Refused) as caught:
            read_body(b"[1]")
        assert f'"{field}"' in str(caught.value.hint)
