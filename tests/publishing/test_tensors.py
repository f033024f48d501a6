"""Tensors of any rank, as lists in lists: series, pictures as numbers, lists of any length, ragged lists, one value for a run."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tests.clients import bulk, ndjson
from tests.publishing import uploads
from tests.publishing.asking import predict, put, refused, shown
from tests.publishing.uploads import FLOAT, identities, model, node, numbers, value
from tests.serving import Server

INT64 = TensorProto.INT64


def summed(*shape: Any) -> bytes:
    """x [N,...] -> y [N], the sum of each record's values."""
    axes = numbers("axes", list(range(1, len(shape))))
    return model(
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)], [value("x", FLOAT, *shape)], [value("y", FLOAT, "N")], [axes]
    )


def lengths() -> bytes:
    """x [N,L,2] -> y [N,2], the sums over L, and n [N], the length L of the whole run."""
    nodes = [
        node("ReduceSum", ["x", "one"], ["y"], keepdims=0),
        node("Shape", ["x"], ["shape"]),
        node("ConstantOfShape", ["shape"], ["halves"], value=uploads.helper.make_tensor("v", FLOAT, [1], [0.5])),
        node("ReduceSum", ["halves", "rest"], ["n"], keepdims=0),
    ]
    ends = [value("y", FLOAT, "N", 2), value("n", FLOAT, "N")]
    return model(nodes, [value("x", FLOAT, "N", "L", 2)], ends, [numbers("one", [1]), numbers("rest", [1, 2])])


@pytest.mark.parametrize(
    ("shape", "tensor"),
    [
        (("N", 3, 4, 4), np.arange(48).reshape(3, 4, 4)),
        (("N", 4, 4, 3), np.arange(48).reshape(4, 4, 3)),
        (("N", 5, 2), np.arange(10).reshape(5, 2)),
        (("N", "T", 2), np.arange(6).reshape(3, 2)),
        (("N", "L"), np.arange(7)),
        (("N", "C", "H", "W"), np.arange(24).reshape(2, 3, 4)),
    ],
)
def test_a_graph_of_any_rank_needs_no_config(house: Server, shape: tuple[Any, ...], tensor: np.ndarray) -> None:
    assert put(house, "admin/any", summed(*shape)).status_code == 201
    assert predict(house, "admin/any", x=tensor.tolist())["result"] == {"y": tensor.sum()}
    lines = bulk(house, "admin/any", ndjson({"x": (tensor + i).tolist()} for i in range(200)), "&ordered=true").lines
    assert [line["result"]["y"] for line in lines] == [(tensor + i).sum() for i in range(200)]
    told = shown(house, "admin/any")
    assert told["inputs"] == [{"field": "x", "input": "x", "kind": "tensor"}]
    assert np.array(told["example"]["x"]).ndim == len(shape) - 1


def test_tensors_come_back_as_lists_in_lists(house: Server) -> None:
    tensor = [[[1.5, 2.5], [3, 4]], [[5, 6], [7, 8]]]
    assert put(house, "admin/back", identities(("x", FLOAT, ("N", 2, 2, 2)))).status_code == 201
    assert predict(house, "admin/back", x=tensor)["result"] == {"x_out": tensor}


FAULTS = {
    "missing_field": [{}, {"x": None}, {"x": [[1, 2], None]}, {"x": [[1, None], [1, 2]]}],
    "wrong_type": [{"x": 1}, {"x": "a"}, {"x": [1, 2]}, {"x": [[1, "2"], [1, 2]]}, {"x": [[1, True], [1, 2]]}, {"x": [[[1], 2]]}],
    "wrong_length": [{"x": [[1]]}, {"x": [[1, 2, 3]]}, {"x": [[1, 2], [3]]}],
    "out_of_range": [{"x": [[1, 1e300]]}],
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_record_with_another_shape_or_type_is_refused_and_its_neighbours_are_not(house: Server, code: str) -> None:
    put(house, "admin/series", summed("N", "T", 2))
    good = {"x": [[1, 2], [3, 4]]}
    for bad in FAULTS[code]:
        lines = bulk(house, "admin/series", ndjson([good, bad, good]), "&ordered=true").lines
        assert [line.get("code") for line in lines] == [None, code, None], bad
        assert [line["result"] for line in (lines[0], lines[2])] == [{"y": 10}] * 2
        assert predict(house, "admin/series", **bad)["code"] == code


def test_a_refusal_says_where(house: Server) -> None:
    put(house, "admin/series", summed("N", "T", 2))
    assert predict(house, "admin/series", x=[[1, 2], [3, "a"]])["error"] == "field 'x[1][1]' must be a number, not a string"
    assert predict(house, "admin/series", x=[[1, 2], [3]])["error"] == "field 'x[1]' has 1 values, the model takes 2"
    put(house, "admin/any", summed("N", "A", "B"))
    assert predict(house, "admin/any", x=[[1, 2], [3]])["error"] == "field 'x' has lists of different lengths"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=30))
def test_records_of_mixed_lengths_share_a_stream_and_none_sees_another(house: Server, rows: list[list[int]]) -> None:
    """Without a pad value each length has runs of its own: a result says how long the tensor of its run was."""
    put(house, "admin/mixed", lengths())
    body = ndjson({"x": [[item, 1] for item in row], "yhat_id": i} for i, row in enumerate(rows))
    lines = bulk(house, "admin/mixed", body, "&ordered=true").lines
    assert [line["result"] for line in lines] == [{"n": len(row), "y": [sum(row), len(row)]} for row in rows]
    assert [line["yhat_id"] for line in lines] == list(range(len(rows)))


# Ragged lists


def test_a_pad_value_fills_ragged_lists(house: Server) -> None:
    entry = {"kind": "tensor", "input": "x", "field": "steps", "pad": 0}
    assert put(house, "admin/ragged", summed("N", "A", "B"), config={"inputs": [entry]}).json().get("warnings") is None
    records = [{"steps": [[1, 2, 3], [4]]}, {"steps": [[5]]}, {"steps": []}, {"steps": [[], [6, 7]]}]
    lines = bulk(house, "admin/ragged", ndjson(records), "&ordered=true").lines
    assert [line["result"]["y"] for line in lines] == [10, 5, 0, 13]
    assert predict(house, "admin/ragged", **records[3])["result"] == {"y": 13}


def test_a_pad_that_changes_results_keeps_records_alone(house: Server) -> None:
    """The sum of the ones that stand where a graph does not look at its values: the padding of a neighbour counts."""
    entry = {"kind": "tensor", "input": "x", "field": "x", "pad": 0}
    answer = put(house, "admin/counting", lengths(), config={"inputs": [entry]})
    assert "max_batch_size is set to 1" in answer.json()["warnings"][0]
    lines = bulk(house, "admin/counting", ndjson([{"x": [[1, 1]]}, {"x": [[1, 1], [2, 2]]}]), "&ordered=true").lines
    assert [line["result"]["n"] for line in lines] == [1, 2]


def test_a_pad_can_be_a_word_or_nan(house: Server) -> None:
    words = identities(("w", TensorProto.STRING, ("N", "L")))
    entry = {"input": "w", "pad": "-"}
    assert put(house, "admin/words", words, config={"inputs": [entry], "max_batch_size": 8}).status_code == 201
    assert predict(house, "admin/words", w=["a", "b"])["result"] == {"w_out": ["a", "b"]}
    entry = {"kind": "tensor", "input": "x", "field": "x", "pad": "nan"}
    assert put(house, "admin/nan", summed("N", "L"), config={"inputs": [entry]}).status_code == 201
    assert predict(house, "admin/nan", x=[1, 2])["result"] == {"y": 3}


def test_one_long_list_does_not_pad_a_whole_block(house: Server) -> None:
    """1,000 short records beside one of 20,000 values would become 20 million values."""
    put(house, "admin/wide", summed("N", "L"), config={"inputs": [{"input": "x", "pad": 0}]})
    body = ndjson([{"x": [1] * (20_000 if i == 500 else 2)} for i in range(1000)])
    lines = bulk(house, "admin/wide", body, "&ordered=true").lines
    assert [line["result"]["y"] for line in lines] == [20_000 if i == 500 else 2 for i in range(1000)]


def test_a_record_that_would_be_padded_beyond_the_limit_is_refused(house: Server) -> None:
    put(house, "admin/square", summed("N", "A", "B"), config={"inputs": [{"input": "x", "pad": 0}]})
    answer = predict(house, "admin/square", x=[[1] * 50_000, *[[]] * 1000])
    assert (answer["code"], answer["error"]) == ("wrong_length", "field 'x' has more than 4,194,304 values when it is padded")


# One value for a run


def test_a_scalar_of_the_graph_is_a_field_and_records_that_differ_in_it_do_not_share_a_run(house: Server) -> None:
    graph = model([node("Mul", ["x", "factor"], ["y"])], [uploads.X, value("factor", FLOAT)], [uploads.Y])
    assert put(house, "admin/scaled", graph).status_code == 201
    records = [{"x": i, "factor": i % 3} for i in range(50)]
    lines = bulk(house, "admin/scaled", ndjson([*records, {"x": 1}, {"x": 1, "factor": "2"}]), "&ordered=true").lines
    assert [line["result"]["y"] for line in lines[:50]] == [i * (i % 3) for i in range(50)]
    assert [line["code"] for line in lines[50:]] == ["missing_field", "wrong_type"]


def test_a_graph_without_an_axis_for_records_runs_them_one_by_one(house: Server) -> None:
    graph = model([node("Mul", ["x", "x"], ["y"])], [value("x", FLOAT)], [value("y", FLOAT)])
    assert put(house, "admin/lone", graph).status_code == 201
    assert shown(house, "admin/lone")["max_batch_size"] == 1
    lines = bulk(house, "admin/lone", ndjson({"x": i} for i in range(20)), "&ordered=true").lines
    assert [line["result"] for line in lines] == [{"y": i * i} for i in range(20)]


# Limits

VECTOR = {"kind": "vector", "input": "x"}


@pytest.mark.parametrize(
    ("graph", "config", "reason"),
    [
        (summed("N", 3, 300, 300), None, "the example of its inputs would be too large: send a config with an example"),
        (
            summed("N", 2, 2),
            {"inputs": [{"kind": "vector", "input": "x"}]},
            "input 'x' has 3 axes, config gives it a vector: the kind",
        ),
        (
            summed("N", "L"),
            {"inputs": [{"kind": "vector", "input": "x"}]},
            "input 'x' has no fixed number of columns: the kind 'tensor'",
        ),
        (summed("N", "L"), {"inputs": [{"kind": "tensor", "input": "x", "pad": "a"}]}, "input 'x': field 'pad' must be a number"),
        (summed("N", "L"), {"inputs": [{"kind": "tensor", "input": "x", "missing": 0}]}, "input 'x': 'missing' of a tensor is one"),
        (summed("N", "L", 10**8), {"inputs": [{"input": "x", "pad": 0}]}, "input 'x': more than 4,194,304 values would be filled"),
        (identities(("x", FLOAT, ())), {"inputs": [{"kind": "tensor", "input": "x"}]}, "input 'x' has no axis for records"),
        (summed(3, 4, 4), None, "input 'x' takes batches of 3 only: export the graph with an open first axis"),
    ],
)
def test_limits_are_named(house: Server, graph: bytes, config: dict[str, Any] | None, reason: str) -> None:
    parts = {} if config is None else {"config": config}
    assert refused(put(house, "admin/limits", graph, **parts), 422).startswith(reason)


def test_a_tensor_with_a_default_may_be_absent(house: Server) -> None:
    entry = {"kind": "tensor", "input": "x", "missing": 1}
    assert put(house, "admin/default", summed("N", 2, 3), config={"inputs": [entry]}).status_code == 201
    lines = bulk(house, "admin/default", ndjson([{}, {"x": None}, {"x": [[1, 2, 3], [4, 5, 6]]}]), "&ordered=true").lines
    assert [line["result"]["y"] for line in lines] == [6, 6, 21]
