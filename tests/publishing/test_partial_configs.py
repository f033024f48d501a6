"""A config may leave out whatever the graph tells, and its sender hears of all of its faults at once."""

from typing import Any

import pytest

from tests.clients import bulk, ndjson
from tests.publishing import uploads
from tests.publishing.asking import predict, put, refused, shown
from tests.publishing.uploads import DATA, FLOAT, identities, model, times, value
from tests.serving import Server


def test_the_advice_for_a_graph_of_single_records_works_as_written(house: Server) -> None:
    graph = identities(("X", FLOAT, (1, 3)))
    reason = refused(put(house, "admin/fixed", graph), 422)
    assert reason.endswith('or send a config with "max_batch_size": 1')
    assert put(house, "admin/fixed", graph, config={"max_batch_size": 1}).status_code == 201
    lines = bulk(house, "admin/fixed", ndjson({"x0": i, "x1": 2, "x2": 3} for i in range(3)), "&ordered=true").lines
    assert [line["result"] for line in lines] == [{"X_out": [i, 2, 3]} for i in range(3)]


def test_the_same_advice_works_for_a_graph_that_fails_in_batches(house: Server) -> None:
    shape = uploads.numbers("shape", [1, 1])
    nodes = [uploads.node("Reshape", ["x", "shape"], ["row"]), uploads.node("Squeeze", ["row", "one"], ["y"])]
    graph = model(nodes, [uploads.X], [uploads.Y], [shape, uploads.numbers("one", [1])])
    reason = refused(put(house, "admin/lonely", graph), 422)
    assert reason.startswith('a batch of 2 records fails (a config with "max_batch_size": 1 runs them one at a time)')
    assert put(house, "admin/lonely", graph, config={"max_batch_size": 1}).status_code == 201
    assert predict(house, "admin/lonely", x=3)["result"] == {"y": 3}


PASSENGER = {"age": 2.5, "fare": 0, "sex": "f", "town": "York"}


@pytest.mark.parametrize(
    ("given", "record", "result"),
    [
        ({}, PASSENGER, "yes"),
        ({"description": "who survives"}, PASSENGER, "yes"),
        ({"inputs": [{"input": "town", "missing": "Hull"}]}, PASSENGER | {"town": None}, "yes"),
        ({"inputs": [{"input": "age", "field": "years", "coerce": True}]}, PASSENGER | {"years": "-2.5"}, "no"),
        ({"outputs": [{"output": "output_label"}]}, PASSENGER | {"age": -2.5}, "no"),
    ],
)
def test_what_a_config_leaves_out_is_derived(house: Server, given: dict[str, Any], record: dict[str, Any], result: str) -> None:
    answer = put(house, "admin/partial", (DATA / "mixed.onnx").read_bytes(), config=given)
    assert answer.status_code in (200, 201), answer.text
    assert predict(house, "admin/partial", **record)["result"]["output_label"] == result
    told = shown(house, "admin/partial")
    assert {entry["input"] for entry in told["inputs"]} == {"age", "fare", "sex", "town"}
    assert set(predict(house, "admin/partial", **told["example"])) == {"result", "version", "yhat_id", "yhat_model"}


def test_the_same_graph_with_an_empty_config_is_the_same_version(house: Server) -> None:
    version = put(house, "admin/same", times(3)).json()["version"]
    again = put(house, "admin/same", times(3), config={})
    assert (again.status_code, again.json()["version"]) == (200, version)


def test_an_entry_without_a_kind_gives_several_columns_one_field_if_it_names_one(house: Server) -> None:
    assert put(house, "admin/rows", uploads.row(3), config={"inputs": [{"input": "X", "field": "measures"}]}).status_code == 201
    assert predict(house, "admin/rows", measures=[1, 2, 3])["result"] == {"y": 6}
    named = {"inputs": [{"input": "X", "features": ["a", "b", "c"]}]}
    assert put(house, "admin/rows", uploads.row(3), config=named).status_code == 201
    assert predict(house, "admin/rows", a=1, b=2, c=3)["result"] == {"y": 6}


def test_several_inputs_with_columns_take_a_list_each(house: Server) -> None:
    assert put(house, "admin/pair", identities(("a", FLOAT, ("N", 2)), ("b", FLOAT, ("N", 3)))).status_code == 201
    assert predict(house, "admin/pair", a=[1, 2], b=[3, 4, 5])["result"] == {"a_out": [1, 2], "b_out": [3, 4, 5]}


def test_all_faults_of_a_config_come_in_one_answer(house: Server) -> None:
    given = {
        "colour": "red",
        "max_batch_size": 0,
        "inputs": [{"input": "Z", "kind": "column"}, {"kind": "matrix", "input": "X", "features": ["a", "b"], "shape": 3}],
        "outputs": [{"output": "y", "as": "k"}, {"output": "z", "as": "k"}],
        "owner": "eva",
    }
    reason = refused(put(house, "admin/faulty", uploads.row(4), config=given), 422)
    for fault in (
        "config.json: field 'colour': extra inputs are not permitted",
        "config.json: field 'max_batch_size'",
        "config.json: field 'inputs.1.matrix.shape'",
        "config.json: two outputs have the same 'as'",
        "config.json: it names eva/faulty, but the path names admin/faulty",
        "the graph has no input 'Z'; it has 'X'",
        "the graph has no output 'z'; it has 'y'",
    ):
        assert fault in reason
    assert reason.startswith("(1) ")
    assert "(7) " in reason
    assert "(8) " not in reason


def test_the_faults_of_outputs_and_of_the_example_come_in_one_answer(house: Server) -> None:
    outputs = [{"output": "y", "labels": ["a"]}, {"output": "z"}]
    given = {"outputs": outputs, "example": {"x0": "one", "x1": 2}}
    reason = refused(put(house, "admin/faulty", uploads.row(2), config=given), 422)
    assert reason == (
        "(1) the example is refused: field 'x0' must be a number, not a string; "
        "(2) output 'y' is a tensor(float), and a list of labels names integers; (3) the graph has no output 'z'; it has 'y'"
    )


def test_of_very_many_faults_the_first_are_told(house: Server) -> None:
    reason = refused(put(house, "admin/faulty", times(1), config={f"key{i}" + "y" * 1000: i for i in range(500)}), 422)
    assert reason.endswith("; and 480 more")
    assert len(reason) < 12_000


def test_an_embedding_model_hears_what_it_lacks(house: Server) -> None:
    reason = refused(put(house, "admin/vectors", times(1), config={"task": "embed"}), 422)
    for lacking in ("dim and max_tokens", "one input of kind 'text'", "one output, 'as' embedding"):
        assert f"task 'embed' needs {lacking}" in reason


@pytest.mark.parametrize("kind", ["colum", 3, ["column"]])
def test_a_kind_that_does_not_exist_is_answered_with_those_that_do(house: Server, kind: Any) -> None:
    reason = refused(put(house, "admin/kind", times(1), config={"inputs": [{"kind": kind, "input": "x", "field": "x"}]}), 422)
    assert "column, matrix, vector, tensor, period_days and text" in reason


def test_a_graph_of_a_type_that_no_record_has_is_refused_with_or_without_a_config(house: Server) -> None:
    graph = identities(("a", uploads.TensorProto.BFLOAT16, ("N",)))
    for parts in ({}, {"config": {"max_batch_size": 4}}):
        assert refused(put(house, "admin/half", graph, **parts), 422) == "input 'a' is a tensor(bfloat16), which no record can give"


def test_the_values_of_a_derived_input_can_have_a_default(house: Server) -> None:
    graph = model([uploads.node("Add", ["x", "b"], ["y"])], [uploads.X, value("b", FLOAT, "N")], [uploads.Y])
    assert put(house, "admin/default", graph, config={"inputs": [{"input": "b", "missing": 0}]}).status_code == 201
    assert predict(house, "admin/default", x=2)["result"] == {"y": 2}
    assert predict(house, "admin/default", x=2, b=5)["result"] == {"y": 7}
