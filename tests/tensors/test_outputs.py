"""What an answer holds: outputs as one tensor each, those that no tensor can hold, labels, and fields with lists."""

from typing import Any

import pytest
import requests

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
