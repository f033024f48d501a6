"""What an answer holds: outputs as one tensor each, those that no tensor can hold, labels, and fields with lists."""

from typing import Any

import pytest
import requests
from onnx import TensorProto

from tests.publishing import uploads
from tests.publishing.asking import predict, put
from tests.publishing.uploads import DATA, FLOAT, model, node, value
from tests.serving import Server
from tests.tensors.asking import infer, outputs, refused, tensor

ROWS = [[1.0, 1.0, 1.0], [-1.0, 0.5, 2.0]]
# Two tensors for each record, whose lengths are those of the inputs.
PAIR = model(
    [node("SequenceConstruct", ["x", "z"], ["pair"])],
    [value("x", FLOAT, "N", "k"), value("z", FLOAT, "N", "l")],
    [uploads.helper.make_tensor_sequence_value_info("pair", FLOAT, None)],
)


def publish(server: Server, name: str, graph: bytes, **config: Any) -> str:
    assert put(server, name, graph, config=config).status_code in (200, 201)
    return name


# Outputs that no tensor can hold


@pytest.fixture(scope="module")
def targets(tester: Server) -> str:
    """A classifier of two targets, which have two and three classes."""
    return publish(tester, "admin/targets", (DATA / "targets.onnx").read_bytes())


def test_targets_with_different_classes_leave_their_probabilities_out_and_say_so(tester: Server, targets: str) -> None:
    answer = infer(tester, targets, tensor("X", "FP32", [2, 3], ROWS))
    expected = [predict(tester, targets, X=row)["result"]["label"] for row in ROWS]
    assert outputs(answer) == {"label": [label for row in expected for label in row]}
    assert answer.json()["parameters"] == {"outputs_without_tensor": "probabilities"}
    chosen = infer(tester, targets, tensor("X", "FP32", [2, 3], ROWS), outputs=[{"name": "label"}])
    assert outputs(chosen) == outputs(answer)
    assert "parameters" not in chosen.json()


def test_an_output_without_a_tensor_that_is_asked_for_is_refused(tester: Server, targets: str) -> None:
    asked = infer(tester, targets, tensor("X", "FP32", [2, 3], ROWS), outputs=[{"name": "label"}, {"name": "probabilities"}])
    reason = "the model gives 2 arrays for each record, whose shapes differ: [2], [3]"
    assert refused(asked).startswith(f"output 'probabilities' has no form as one tensor: {reason}. Ask for other `outputs`")


def test_ten_thousand_rows_of_such_a_model_are_answered_alike(tester: Server, targets: str) -> None:
    rows = ROWS * 5_000
    answer = infer(tester, targets, tensor("X", "FP32", [len(rows), 3], rows))
    assert outputs(answer)["label"] == outputs(infer(tester, targets, tensor("X", "FP32", [2, 3], ROWS)))["label"] * 5_000
    assert answer.json()["parameters"] == {"outputs_without_tensor": "probabilities"}


def test_a_sequence_has_a_tensor_where_its_parts_are_alike(tester: Server) -> None:
    example = {"x": [1], "z": [2]}
    name = publish(tester, "admin/pair", PAIR, example=example)

    def ask(width: int) -> requests.Response:
        return infer(tester, name, tensor("x", "FP32", [2, 1], [1, 2]), tensor("z", "FP32", [2, width], [3] * 2 * width))

    alike = ask(1)
    assert (alike.json()["outputs"][0]["shape"], outputs(alike)) == ([2, 2, 1], {"pair": [1, 3, 2, 3]})
    assert refused(ask(2)).startswith("output 'pair' has no form as one tensor")


# Labels

CLASSES = {
    "a boolean": (TensorProto.BOOL, [False, True], ["no", "yes"], "BYTES"),
    "a boolean by name": (TensorProto.BOOL, [False, True], {"False": 10, "True": 20}, "INT64"),
    "a word": (TensorProto.STRING, ["n", "y"], {"n": "no", "y": "yes"}, "BYTES"),
    "a word that is a yes or no": (TensorProto.STRING, ["n", "y"], {"n": False, "y": True}, "BOOL"),
    "an integer": (TensorProto.INT64, [0, 1], [False, True], "BOOL"),
    "a number": (TensorProto.FLOAT, [0, 1.5], {"0.0": "none", "1.5": "some"}, "BYTES"),
    "a number beyond 64 bits": (TensorProto.INT64, [0, 1], [2**64, 2**65], "BYTES"),
}


@pytest.mark.parametrize("shape", [("N",), ("N", 1)])
@pytest.mark.parametrize("kind", CLASSES)
def test_labels_are_those_of_results_in_json_and_the_metadata_have_their_datatype(
    tester: Server, kind: str, shape: tuple[str | int, ...]
) -> None:
    graph_type, values, labels, datatype = CLASSES[kind]
    graph = uploads.identities(("class", graph_type, shape))
    entry = {"output": "class_out", "as": "label", "labels": labels}
    name = publish(tester, "admin/labels", graph, outputs=[entry], example={"class": values[0]})
    shown = [predict(tester, name, **{"class": value})["result"]["label"] for value in values]
    given = {TensorProto.BOOL: "BOOL", TensorProto.STRING: "BYTES", TensorProto.INT64: "INT64", TensorProto.FLOAT: "FP32"}
    answer = infer(tester, name, tensor("class", given[graph_type], [2, *shape[1:]], values))
    assert outputs(answer) == {"label": [str(one) if type(one) is int and one > 2**63 else one for one in shown]}
    told = requests.get(f"{tester.url}/v2/models/{name}", auth=tester.auth, timeout=30).json()["outputs"]
    assert told == [{"name": "label", "datatype": datatype, "shape": [-1]}]
    assert {key: answer.json()["outputs"][0][key] for key in ("datatype", "shape")} == {"datatype": datatype, "shape": [2]}


def test_a_class_without_a_label_that_the_labels_type_cannot_hold_is_refused(tester: Server) -> None:
    entry = {"output": "class_out", "as": "label", "labels": {"a": False, "b": True}}
    graph = uploads.identities(("class", TensorProto.STRING, ("N",)))
    name = publish(tester, "admin/labels", graph, outputs=[entry], example={"class": "a"})
    assert outputs(infer(tester, name, tensor("class", "BYTES", [2], ["b", "a"]))) == {"label": [True, False]}
    asked = infer(tester, name, tensor("class", "BYTES", [2], ["b", "c"]))
    assert "the model gives the class 'c', for which the config has no label" in refused(asked)


# Fields with lists


def test_a_list_of_one_value_is_a_list(tester: Server) -> None:
    """The field and the input have other names, so that the tensor is read as a field of records."""
    graph = uploads.identities(("x", FLOAT, ("N", 1)), ("n", FLOAT, ("N",)))
    inputs = [{"kind": "vector", "input": "x", "field": "list"}, {"kind": "column", "input": "n", "field": "number"}]
    name = publish(tester, "admin/lists", graph, inputs=inputs, example={"list": [1], "number": 2})
    result = predict(tester, name, list=[3], number=4)["result"]
    number = tensor("number", "FP32", [1, 1], [4])
    assert outputs(infer(tester, name, tensor("list", "FP32", [1, 1], [3]), number)) == {
        key: [value] for key, value in result.items()
    }
    assert "field 'list' must be a list" in refused(infer(tester, name, tensor("list", "FP32", [1], [3]), number))


def test_a_list_of_one_value_beside_a_text_is_as_the_metadata_say(tester: Server) -> None:
    graph = model(
        [node("Identity", ["x"], ["y"]), node("Identity", ["days"], ["last"])],
        [value("x", FLOAT, "N", 1), value("days", FLOAT, "N", 1)],
        [value("y", FLOAT, "N", 1), value("last", FLOAT, "N", 1)],
    )
    period = {"kind": "period_days", "input": "days", "field": "period", "origin": "2026-01-01", "frequency": "daily", "window": 1}
    inputs = [{"kind": "vector", "input": "x", "field": "list"}, period]
    name = publish(tester, "admin/period", graph, inputs=inputs, example={"list": [1], "period": "2026-01-03"})
    told = requests.get(f"{tester.url}/v2/models/{name}", auth=tester.auth, timeout=30).json()["inputs"]
    shapes = {one["name"]: one["shape"] for one in told}
    assert shapes == {"list": [-1, 1], "period": [-1]}
    asked = infer(tester, name, tensor("list", "FP32", [2, 1], [3, 5]), tensor("period", "BYTES", [2], ["2026-01-03"] * 2))
    assert outputs(asked)["y"] == [3, 5]
