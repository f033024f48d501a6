"""A graph alone, a form with config and tensors, and what skl2onnx makes: each becomes a model that answers."""

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.clients import bulk, curl, ndjson
from tests.publishing import uploads
from tests.publishing.asking import OCTETS, files, predict, put, shown
from tests.publishing.uploads import config, times
from tests.serving import Server


def test_a_form_brings_config_and_tensors(house: Server) -> None:
    graph, tensors = uploads.external("weights.bin"), struct.pack("<f", 5)
    answer = put(house, "admin/form", graph, data=("weights.bin", tensors), config=config(outputs=[{"output": "y", "as": None}]))
    assert (answer.status_code, predict(house, "admin/form", x=2)["result"]) == (201, 10)
    assert files(house, "admin/form") == ["1", "1/config.json", "1/model.onnx", "1/weights.bin"]


def test_curl_publishes_with_and_without_a_trailing_slash(house: Server, tmp_path: Path) -> None:
    path = tmp_path / "double.onnx"
    path.write_bytes(times(2))
    for i, end in enumerate(("", "/")):
        done = curl(
            house.model("admin/curled") + end, "-T", str(path), "-H", f"Content-Type: {OCTETS['Content-Type']}", auth=house.auth
        )
        assert (done.code, done.status) == (0, 201 if i == 0 else 200), done.body


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("matrix_zipmap", {"x0": 2.5, "x1": 0, "x2": 0}, {"output_label": "yes"}),
        ("matrix_zipmap", {"X": [2.5, 0, 0]}, {"output_label": "yes"}),
        ("matrix_plain", {"X": [-2.5, 0, 0]}, {"label": "no"}),
        ("mixed", {"age": 2.5, "fare": 0, "sex": "f", "town": "York"}, {"output_label": "yes"}),
        ("words", {"text": "good film"}, {"output_label": 1}),
    ],
)
def test_what_skl2onnx_makes_works_without_a_config(
    house: Server, name: str, record: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = put(house, f"admin/{name}", (uploads.DATA / f"{name}.onnx").read_bytes())
    assert answer.status_code in (200, 201), answer.text
    result = predict(house, f"admin/{name}", **record)["result"]
    assert expected.items() <= result.items()
    probabilities = result.get("output_probability", result.get("probabilities"))
    values = probabilities.values() if isinstance(probabilities, dict) else probabilities
    assert sum(values) == pytest.approx(1, abs=1e-4)
    [line] = bulk(house, f"admin/{name}", ndjson([record])).lines
    assert line["result"] == result


def test_a_list_and_fields_may_share_a_stream(house: Server) -> None:
    put(house, "admin/row", uploads.row(3))
    fields = {"x0": 1, "x1": 1, "x2": 1}
    body = ndjson([{"X": [1, 2, 3]}, fields, {"X": [1, 2]}, {"x0": 1}, fields | {"X": [7, 7, 7]}])
    lines = bulk(house, "admin/row", body, "&ordered=true").lines
    expected = [{"y": 6}, {"y": 3}, "wrong_length", "missing_field", {"y": 3}]
    assert [line.get("result", line.get("code")) for line in lines] == expected
    for record, result in ((fields | {"X": [7, 7, 7]}, {"y": 3}), ({"X": [7, 7, 7]}, {"y": 21})):
        lines = bulk(house, "admin/row", ndjson([record] * 100)).lines
        assert [line["result"] for line in lines] == [result] * 100


def test_a_graph_that_mixes_its_records_gets_them_one_by_one(house: Server) -> None:
    answer = put(house, "admin/mean", uploads.mean())
    assert answer.status_code == 201
    assert "max_batch_size is set to 1" in answer.json()["warnings"][0]
    assert shown(house, "admin/mean")["max_batch_size"] == 1
    lines = bulk(house, "admin/mean", ndjson({"x": i} for i in range(50))).lines
    assert [line["result"] for line in lines] == [{"y": 0}] * 50
