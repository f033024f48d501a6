"""Dynamically quantised graphs: their records differ a little in a batch, which their owner may allow."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic

from tests.clients import bulk, ndjson
from tests.publishing import uploads
from tests.publishing.asking import predict, put, refused, shown
from tests.publishing.uploads import FLOAT, model, node, value
from tests.serving import Server

SAID = re.compile(
    r"records in a batch get other results than alone \(by up to ([\d.e-]+)(, another class for (\d+) of 64)?; "
    r"a replica runs ([\d,]+) records/s alone, ([\d,]+) in batches of 64\): (.*)"
)
EXAMPLE = {f"x{i}": i / 4 for i in range(4)}


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A network of two layers, whose activations onnxruntime quantises by the range that a batch has."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), f"w{i}") for i, shape in enumerate([(4, 64), (64, 3)])
    ]
    nodes = [node("MatMul", ["X", "w0"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w1"], ["c"])]
    nodes += [node("Softmax", ["c"], ["p"]), node("ArgMax", ["c"], ["label"], axis=1, keepdims=0)]
    outputs = [value("label", uploads.TensorProto.INT64, "N"), value("p", FLOAT, "N", 3)]
    folder = tmp_path_factory.mktemp("quantised")
    (folder / "float.onnx").write_bytes(model(nodes, [value("X", FLOAT, "N", 4)], outputs, weights))
    quantize_dynamic(folder / "float.onnx", folder / "quantised.onnx")
    return (folder / "quantised.onnx").read_bytes()


def warning(server: Server, name: str, graph: bytes, **config: Any) -> list[str]:
    """What the server says of the batches of a graph: difference, with its class, and both speeds, then what it does."""
    answer = put(server, f"admin/{name}", graph, config={"example": EXAMPLE, **config})
    assert answer.status_code in (200, 201), answer.text
    found = SAID.fullmatch(answer.json()["warnings"][0])
    assert found, answer.json()["warnings"]
    return list(found.groups())


def test_without_a_tolerance_records_run_alone_and_the_warning_says_what_that_costs(house: Server, quantised: bytes) -> None:
    difference, _, _, alone, together, result = warning(house, "strict", quantised)
    assert 1e-4 < float(difference) < 1
    assert int(together.replace(",", "")) > int(alone.replace(",", "")) > 0
    assert result == "max_batch_size is set to 1; a config with batch_tolerance allows such a difference"
    assert shown(house, "admin/strict")["max_batch_size"] == 1


def test_a_tolerance_keeps_batches_and_results_within_it(house: Server, quantised: bytes) -> None:
    *_, result = warning(house, "tolerant", quantised, batch_tolerance=0.5)
    assert result == "batch_tolerance 0.5 allows that"
    assert shown(house, "admin/tolerant")["max_batch_size"] == 1024
    random = np.random.default_rng(1)
    records = [dict(zip(EXAMPLE, row, strict=True)) for row in random.uniform(0, 2, (500, 4)).tolist()]
    lines = bulk(house, "admin/tolerant", ndjson(records), "&ordered=true").lines
    alone = [predict(house, "admin/tolerant", **record)["result"]["p"] for record in records[:20]]
    assert np.array([line["result"]["p"] for line in lines[:20]]) == pytest.approx(np.array(alone), abs=0.5)


def test_a_tolerance_that_is_too_small_changes_nothing(house: Server, quantised: bytes) -> None:
    *_, result = warning(house, "narrow", quantised, batch_tolerance=1e-6)
    assert result == "batch_tolerance 1e-06 does not allow that: max_batch_size is set to 1"


def test_a_graph_that_does_not_mix_its_records_needs_no_word(house: Server) -> None:
    answer = put(house, "admin/plain", uploads.times(2), config={"batch_tolerance": 0.01})
    assert (answer.status_code, answer.json().get("warnings")) == (201, None)
    assert shown(house, "admin/plain")["max_batch_size"] == 1024


@pytest.mark.parametrize("tolerance", [0, -1, 1.5, "0.1", True])
def test_a_tolerance_is_a_number_up_to_one(house: Server, tolerance: Any) -> None:
    answer = put(house, "admin/never", uploads.times(2), config={"batch_tolerance": tolerance})
    assert refused(answer, 422).startswith("config.json: field 'batch_tolerance'")


def test_results_of_another_shape_are_never_tolerated(house: Server) -> None:
    """Each record would be shown with the length of its run."""
    entry = {"input": "x", "pad": 0}
    graph = uploads.identities(("x", FLOAT, ("N", "L")))
    answer = put(house, "admin/shapes", graph, config={"inputs": [entry], "batch_tolerance": 1})
    assert "by up to inf" in answer.json()["warnings"][0]
    assert shown(house, "admin/shapes")["max_batch_size"] == 1


def test_models_in_folders_have_their_tolerance_in_config_json(house: Server, quantised: bytes) -> None:
    """What was published is written as it was sent, so the next start reads it again."""
    warning(house, "tolerant", quantised, batch_tolerance=0.5)
    [written] = sorted(Path(house.data_dir, "models/admin/tolerant").glob("*/config.json"))[-1:]
    assert '"batch_tolerance": 0.5' in written.read_text()


def test_a_tolerance_bounds_the_share_of_records_with_another_class(house: Server) -> None:
    """Each record's class is that of the batch: numbers do not tell, because there are none."""
    nodes = [node("ReduceMax", ["X"], ["m"], keepdims=1), node("Equal", ["X", "m"], ["e"]), node("Cast", ["e"], ["label"], to=7)]
    graph = model(nodes, [value("X", FLOAT, "N", 1)], [value("label", uploads.TensorProto.INT64, "N", 1)], [])
    answer = put(house, "admin/classes", graph, config={"example": {"X": 0.5}, "batch_tolerance": 0.05})
    assert answer.status_code == 201, answer.text
    assert "batch_tolerance 0.05 does not allow that" in answer.json()["warnings"][0]
