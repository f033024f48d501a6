"""Requests with tensors: what is taken, what is refused and why, and that one request costs no other."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import until
from tests.serving import Server, serving
from tests.streaming import graphs
from tests.tensors.asking import IRIS, ROWS, flowers, infer, outputs, refused, tensor

TURNED = 'sluice_records_total{model="tester/turns",outcome="result"}'
FLAT = [value for row in ROWS for value in row]
KINDS = [
    tensor("flag", "BOOL", [2], [True, False]),
    tensor("small", "INT8", [2], [-128, 127]),
    tensor("exact", "FP64", [2], [0.1, 1e300]),
    tensor("wide", "FP32", [2, 1], [1, 2.5]),
    tensor("three", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]]),
]


def test_data_may_be_flat_or_nested_and_integers_stand_for_floats(server: Server) -> None:
    expected = outputs(infer(server, IRIS, flowers()))
    assert outputs(infer(server, IRIS, flowers(FLAT))) == expected
    assert outputs(infer(server, IRIS, flowers(datatype="FP64"))) == expected
    whole = outputs(infer(server, IRIS, flowers([[5, 3, 1, 0]], [1, 4], "INT32")))
    assert whole == outputs(infer(server, IRIS, flowers([[5, 3, 1, 0]], [1, 4])))


def test_every_type_of_a_graph_comes_back_as_it_is(tester: Server) -> None:
    answer = infer(tester, "tester/kinds", *KINDS)
    assert outputs(answer) == {one["name"]: np.ravel(one["data"]).tolist() for one in KINDS}
    told = {one["name"]: (one["datatype"], one["shape"]) for one in answer.json()["outputs"]}
    assert told == {one["name"]: (one["datatype"], one["shape"]) for one in KINDS}


def test_a_model_whose_result_is_one_bare_value_gives_one_output(server: Server) -> None:
    features = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    row = [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0]
    record = dict(zip(features, row, strict=True))
    result = requests.post(server.model("sluice/diabetes"), json=record, auth=server.auth, timeout=30).json()["result"]
    assert outputs(infer(server, "sluice/diabetes", tensor("X", "FP32", [1, 10], row))) == {"progression": [result]}


BAD: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "no inputs": ([], {}, "`inputs` must be a list of objects with name, datatype, shape and data"),
    "another input": (
        [tensor("Y", "FP32", [1, 4], FLAT[:4])],
        {},
        "there is no input 'Y': the model takes X (FP32 [-1, 4]); or fields",
    ),
    "twice": ([flowers(), flowers()], {}, "input 'X' is there twice"),
    "too few columns": ([flowers(FLAT, [4, 3])], {}, "input 'X' has the shape [4, 3], and the model takes [-1, 4]"),
    "a record without rows": ([flowers(FLAT[:4], [4])], {}, "input 'X' has the shape [4], and the model takes [-1, 4]"),
    "no rows": ([flowers([], [0, 4])], {}, "the inputs have no rows"),
    "fewer values": ([flowers(FLAT[:-1])], {}, "input 'X' has 11 values, and its shape needs 12"),
    "no shape": ([flowers() | {"shape": 3}], {}, "`shape` of input 'X' must be a list of numbers"),
    "a negative shape": ([flowers() | {"shape": [-1, 4]}], {}, "`shape` of input 'X' must be a list of numbers"),
    "no datatype": ([flowers(datatype="float32")], {}, "`datatype` of input 'X' must be one of BOOL, UINT8"),
    "strings": ([flowers(["a"] * 12, datatype="BYTES")], {}, "input 'X' is BYTES, and the model takes FP32"),
    "a string": ([flowers([*FLAT[:-1], "2"])], {}, "field 'X[11]' must be a number, not a string"),
    "a null": ([flowers([None, *FLAT[1:]])], {}, "field 'X[0]' is null"),
    "too large": ([flowers([1e300, *FLAT[1:]])], {}, "field 'X[0]' does not fit float32"),
    "too large as FP64": ([flowers([1e300, *FLAT[1:]], datatype="FP64")], {}, "input 'X' has a value that does not fit FP32"),
    "another output": ([flowers()], {"outputs": [{"name": "y"}]}, "there is no output 'y': the model gives label, probabilities"),
    "outputs that are none": ([flowers()], {"outputs": [1]}, "`outputs` must be a list of objects with a `name`"),
    "an id": ([flowers()], {"id": 7}, "`id` must be a string"),
    "a sequence": ([flowers()], {"parameters": {"sequence_id": 7}}, "this server does not know the parameter `sequence_id`"),
    "classes": (
        [flowers()],
        {"outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        "this server does not know the parameter `classification`",
    ),
    "rows that differ": (
        [tensor("sepal_length", "FP32", [2], [1, 2]), tensor("sepal_width", "FP32", [3], [1, 2, 3])],
        {},
        "all inputs need as many rows (the first number of `shape`): 'sepal_length' has 2, 'sepal_width' has 3",
    ),
    "a field that is missing": ([tensor("sepal_length", "FP32", [2], [1, 2])], {}, "row 0: field 'sepal_width' is missing"),
    "binary data that are not there": (
        [tensor("X", "FP32", [1, 4], None, binary_data_size=16)],
        {},
        "`binary_data_size` of input 'X'",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_request_that_the_model_cannot_take_says_what_it_takes(server: Server, kind: str) -> None:
    inputs, more, message = BAD[kind]
    assert refused(infer(server, IRIS, *inputs, **more)).startswith(message)


def post(server: Server, body: bytes, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(f"{server.url}/v2/models/{IRIS}/infer", data=body, headers=named, auth=server.auth, timeout=60)


def test_a_body_that_cannot_be_read_says_why(server: Server) -> None:
    assert refused(post(server, b"")).startswith("the request is not JSON")
    assert refused(post(server, b"[]")) == "the request must be a JSON object with `inputs`"
    long = {"Inference_Header_Content_Length": "99"}
    assert refused(post(server, b"{}", **long)) == "Inference-Header-Content-Length is larger than the body"
    assert refused(post(server, b"{}", Inference_Header_Content_Length="-1")).endswith("must be a number of bytes")
    head = json.dumps({"inputs": [flowers() | {"parameters": {"binary_data_size": 48}}]}).encode()
    sized = {"Inference_Header_Content_Length": str(len(head))}
    assert post(server, head + bytes(48), **sized).status_code == 200
    assert refused(post(server, head + bytes(49), **sized)) == "the body has 1 bytes that belong to no input"
    assert refused(post(server, head + bytes(40), **sized)).startswith("`binary_data_size` of input 'X'")
    assert refused(post(server, b"x" * (8 * 1024 * 1024 + 1)), 413).startswith("body larger than")


def test_texts_in_raw_bytes_are_checked_to_the_last_one(server: Server) -> None:
    def ask(raw: bytes, count: int) -> requests.Response:
        one = {"name": "name", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [one]}).encode()
        url = f"{server.url}/v2/models/brandon/HelloWorld/infer"
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return requests.post(url, data=head + raw, headers=headers, auth=server.auth, timeout=30)

    assert outputs(ask(b"\x01\0\0\0a\x00\0\0\0", 2)) == {"greeting": ["Hello a", "Hello "]}
    assert refused(ask(b"\x01\0\0\0a", 2)) == "input 'name' has 1 elements, and its shape needs 2"
    assert refused(ask(b"\x05\0\0\0a", 1)) == "input 'name' ends inside element 0, which has 5 bytes"
    assert refused(ask(b"\x05\0", 1)) == "input 'name' ends inside the length of an element"
    assert refused(ask(b"\x01\0\0\0\xff", 1)) == "input 'name' is not UTF-8 in element 0"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.sampled_from(["", "X", "FP32", "BYTES", "é"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id"]), inner, max_size=5
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_any_json_is_answered_with_a_refusal(server: Server, value: Any) -> None:
    assert post(server, json.dumps(value).encode()).status_code == 400


def test_versions_and_models_that_are_not_there_are_404(server: Server) -> None:
    for model, version in ((IRIS, "2"), (IRIS, "x"), (IRIS, "9" * 30), ("sluice/none", ""), ("sluice/-", "")):
        assert refused(infer(server, model, flowers(), version=version), 404) == "model not found"
    assert infer(server, IRIS, flowers(), version="1").status_code == 200


def test_a_model_that_fails_on_a_row_fails_the_request_alone(tester: Server) -> None:
    def pick(*places: int) -> requests.Response:
        return infer(tester, "tester/pick", tensor("place", "INT64", [len(places)], places))

    assert outputs(pick(0, 1, 2))
    assert refused(pick(0, 7), 500).startswith("the model failed: ")
    assert outputs(pick(2))


@pytest.mark.parametrize(("divisor", "message"), [(-1, "the model's process died on this request")])
def test_a_row_that_kills_replicas_is_told_so_and_others_are_answered(tester: Server, divisor: int, message: str) -> None:
    def divide(value: int) -> requests.Response:
        return infer(tester, "tester/divide", tensor("divisor", "INT64", [1], [value]))

    assert refused(divide(divisor), 500) == message
    assert outputs(divide(2)) == {"quotient": [-(2**62)]}


def test_a_request_of_many_rows_keeps_nobody_waiting(tester: Server) -> None:
    """One replica; about a millisecond for each of the 2,000 rows. Single requests are answered between its blocks."""
    rows = [1_000] * 2_000
    found: list[requests.Response] = []
    many = threading.Thread(target=lambda: found.append(infer(tester, "tester/turns", tensor("count", "INT64", [len(rows)], rows))))
    before = tester.metric(TURNED)
    many.start()
    try:
        until(lambda: tester.metric(TURNED) > before, what="the first rows of the long request")
        for _ in range(5):
            assert outputs(infer(tester, "brandon/HelloWorld", tensor("name", "BYTES", [1], ["a"]))) == {"greeting": ["Hello a"]}
            assert many.is_alive()
    finally:
        many.join(60)
    assert outputs(found[0]) == {"turned": rows}


def test_with_streaming_open_no_key_is_needed_for_shared_models(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_ANONYMOUS="streaming", SLUICE_SCORE_REPLICAS="1") as server:
        assert outputs(infer(server, IRIS, flowers(), auth=None))["label"] == ["setosa", "virginica", "versicolor"]
        assert requests.get(f"{server.url}/v2/models/{IRIS}", timeout=30).status_code == 200
        assert infer(server, IRIS, flowers(), auth=("admin", "x")).status_code == 401


def test_a_row_that_takes_too_long_is_given_up_and_others_are_answered(tmp_path: Path) -> None:
    limits = {"SLUICE_SCORE_REPLICAS": "1", "SLUICE_BLOCK_TIMEOUT_S": "2"}
    with serving(graphs.write_all(tmp_path / "data"), **limits) as server:
        hangs = infer(server, "tester/turns", tensor("count", "INT64", [1], [graphs.FOREVER]))
        assert refused(hangs, 503) == "the model did not answer in time"
        assert outputs(infer(server, "tester/turns", tensor("count", "INT64", [1], [1]))) == {"turned": [1]}


@pytest.mark.heavy
def test_a_model_that_costs_too_many_replicas_goes_offline_for_tensors_too(tmp_path: Path) -> None:
    limits = {"SLUICE_SCORE_REPLICAS": "2", "SLUICE_MODEL_FAULTS": "3"}
    with serving(graphs.write_all(tmp_path / "data"), **limits) as server:
        deadly = tensor("divisor", "INT64", [1], [-1])
        until(lambda: infer(server, "tester/divide", deadly).status_code == 503, what="the version goes offline")
        offline = infer(server, "tester/divide", tensor("divisor", "INT64", [1], [1]))
        assert offline.json()["code"] == "model_offline"
        assert infer(server, IRIS, flowers()).status_code == 200
        assert requests.get(f"{server.url}/v2/models/tester/divide/ready", auth=server.auth, timeout=30).status_code == 503


def test_the_number_of_requests_is_limited_before_their_bodies_are_read(tmp_path: Path) -> None:
    limits = {"SLUICE_SCORE_REPLICAS": "1", "SLUICE_MAX_QUEUED": "1"}
    with serving(graphs.write_all(tmp_path / "data"), **limits) as server:
        rows = [1_000] * 2_000
        many = threading.Thread(target=lambda: infer(server, "tester/turns", tensor("count", "INT64", [len(rows)], rows)))
        many.start()
        try:
            until(lambda: server.metric(TURNED) > 0, what="the first rows of the long request")
            full = infer(server, IRIS, flowers())
        finally:
            many.join(60)
        assert refused(full, 429) == "too many requests"
        assert full.headers["Retry-After"] == "1"
        assert infer(server, IRIS, flowers()).status_code == 200
