"""Tensors to JSON: each output is shown as its config says, a piece for each record, and reads back as what the model gave."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.tasks.scoring import outputs
from engine.tasks.scoring.columns import join_columns
from engine.tasks.scoring.outputs import WrongCount, result_columns

F32 = np.float32


def texts(values: dict[str, Any], entries: list[dict[str, Any]], num_records: int, *, unwrap: bool = False) -> list[str]:
    """The JSON text of each record's result, for outputs with these values and config entries."""
    types = {"i": "tensor(int64)", "f": "tensor(float)", "b": "tensor(bool)", "O": "tensor(string)"}
    built = [
        outputs.build_encoder(
            entry, types[value.dtype.kind] if isinstance(value := values[entry["output"]], np.ndarray) else "seq(map)"
        )
        for entry in entries
    ]
    columns = result_columns(built, [values[entry["output"]] for entry in entries], num_records, unwrap=unwrap)
    return join_columns(columns, b"", b"\n").decode().split("\n")[:-1]


def shown(value: Any, num_records: int, *, unwrap: bool = False, **options: Any) -> list[Any]:
    """The result of each record for a single output without a key."""
    return [json.loads(text) for text in texts({"y": value}, [{"output": "y", "as": None, **options}], num_records, unwrap=unwrap)]


# Plain values


def test_a_vector_gives_each_record_a_bare_value() -> None:
    assert shown(np.array([1, 2, 3]), 3) == [1, 2, 3]
    assert shown(np.array([True, False]), 2) == [True, False]
    assert shown(np.array(["a", 'b",', "ä\n"], object), 3) == ["a", 'b",', "ä\n"]


def test_floats_have_the_shortest_digits_and_what_is_no_number_is_null() -> None:
    entry = [{"output": "y", "as": None}]
    assert texts({"y": np.array([0.1, np.nan, np.inf, 1e-7], F32)}, entry, 4) == ["0.1", "null", "null", "1e-7"]
    assert texts({"y": np.array([[0.1, -np.inf], [0.2, 1 / 3]], F32)}, entry, 2) == ["[0.1,null]", "[0.2,0.33333334]"]
    assert texts({"y": np.array([1 / 3])}, entry, 1) == ["0.3333333333333333"]


def test_rows_are_lists_and_rows_of_one_are_squeezed_to_their_value() -> None:
    values = np.array([[1.5], [2.5]], F32)
    assert shown(values, 2) == [1.5, 2.5]
    assert shown(values, 2, squeeze=False) == [[1.5], [2.5]]
    assert shown(values, 2, squeeze=False, unwrap=True) == [1.5, 2.5]
    assert shown(np.array([["a"], ["b"]], object), 2) == ["a", "b"]
    assert shown(np.array([["a"], ["b"]], object), 2, squeeze=False) == [["a"], ["b"]]
    assert shown(np.array([[1, 2], [3, 4]]), 2) == [[1, 2], [3, 4]]
    assert shown(np.array([["a", "b"], ["c", "d"]], object), 2) == [["a", "b"], ["c", "d"]]
    assert shown(np.array([[True, False]]), 1) == [[True, False]]


@given(st.data(), st.sampled_from([np.int64, np.float32, np.bool_, np.int8]))
def test_tensors_of_any_shape_read_back_record_by_record(data: st.DataObject, dtype: type) -> None:
    elements = {"elements": st.floats(-100, 100, width=32)} if dtype is np.float32 else {}
    value = data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=4, max_side=3), **elements))
    found = shown(value, value.shape[0], squeeze=False)
    assert np.array(found, dtype).tolist() == value.tolist()


def test_three_axes_are_lists_of_lists() -> None:
    value = np.arange(12).reshape(2, 3, 2)
    assert shown(value, 2) == value.tolist()
    assert shown(value.astype(F32), 2) == value.tolist()
    assert shown(np.arange(2).reshape(2, 1, 1), 2, squeeze=False) == [[[0]], [[1]]]


def test_empty_rows_are_empty_lists() -> None:
    assert shown(np.zeros((2, 0), F32), 2) == [[], []]
    assert shown(np.zeros((2, 3, 0), F32), 2) == [[[], [], []]] * 2


def test_the_batch_may_be_on_another_axis() -> None:
    value = np.arange(6).reshape(2, 3)
    assert shown(value, 3, axis=1) == [[0, 3], [1, 4], [2, 5]]
    assert shown(value[:1], 3, axis=1) == [0, 1, 2]
    assert shown(np.arange(12).reshape(2, 3, 2), 2, axis=2) == np.arange(12).reshape(2, 3, 2).transpose(2, 0, 1).tolist()


@pytest.mark.parametrize(
    "value", [np.array([1, 2, 3]), np.array(5), np.zeros((3, 2)), [{"a": 1.0}] * 3], ids=lambda value: type(value).__name__
)
def test_another_number_of_results_than_records_is_an_error(value: Any) -> None:
    with pytest.raises(WrongCount):
        shown(value, 2)


# Labels


def test_an_integer_is_shown_as_its_label() -> None:
    assert shown(np.array([2, 0]), 2, labels=["a", "b", "c"]) == ["c", "a"]
    assert shown(np.array([[2], [0]]), 2, labels=["a", 'b"', "c"]) == ["c", "a"]
    assert shown(np.array([7, -1]), 2, labels={"7": "seven", "-1": "minus one"}) == ["seven", "minus one"]
    assert shown(np.array([0, 1]), 2, labels=[False, 2.5]) == [False, 2.5]


def test_a_boolean_or_a_string_may_have_a_label_too() -> None:
    assert shown(np.array([True, False]), 2, labels=["no", "yes"]) == ["yes", "no"]
    assert shown(np.array(["x", "y"], object), 2, labels={"x": "ex"}) == ["ex", "y"]


@pytest.mark.parametrize("labels", [["a", "b"], {"0": "a", "1": "b"}], ids=["list", "map"])
def test_an_integer_without_a_label_is_shown_as_it_is(labels: Any) -> None:
    assert shown(np.array([1, 7, -1, -2]), 4, labels=labels) == ["b", 7, -1, -2]


def test_a_float_has_no_label() -> None:
    assert shown(np.array([1.0, 0.5], F32), 2, labels=["a", "b"]) == [1.0, 0.5]


# Objects


def test_rows_may_be_objects_with_the_labels_as_keys_in_alphabetical_order() -> None:
    value = np.array([[0.1, 0.2, 0.3]], F32)
    entry = [{"output": "y", "as": None, "labels": ["c", 'a"', "b"], "form": "object"}]
    assert texts({"y": value}, entry, 1) == ['{"a\\"":0.2,"b":0.3,"c":0.1}']
    assert shown(value, 1, labels={"0": "x", "2": "z"}, form="object") == [{"x": 0.1, "1": 0.2, "z": 0.3}]
    assert shown(value, 1, labels=["x"], form="object") == [{"x": 0.1, "1": 0.2, "2": 0.3}]
    assert shown(np.array([["p", "q"]], object), 1, labels=[1, 2], form="object") == [{"1": "p", "2": "q"}]


def test_objects_of_several_records_do_not_mix() -> None:
    value = np.arange(6, dtype=F32).reshape(3, 2)
    assert shown(value, 3, labels=["a", "b"], form="object") == [{"a": 0, "b": 1}, {"a": 2, "b": 3}, {"a": 4, "b": 5}]


def test_maps_of_a_zipmap_are_an_object_for_each_record() -> None:
    assert shown([{"a": 0.5, "b": 1.5}, {"a": 2.0, "b": float("nan")}], 2) == [{"a": 0.5, "b": 1.5}, {"a": 2.0, "b": None}]
    assert shown([{0: 0.5, 1: 1.5}], 1) == [{"0": 0.5, "1": 1.5}]


def test_maps_of_a_zipmap_have_the_shortest_digits_of_their_float32() -> None:
    """onnxruntime returns these values as Python floats, but the graph's type, map(..., float), has 32 bits."""
    entry = outputs.build_encoder({"output": "y", "as": None}, "seq(map(int64,tensor(float)))")
    columns = entry.columns([{0: float(F32(0.1)), 1: float(F32(0.9))}], 1, unwrap=False)
    assert join_columns(columns, b"", b"") == b'{"0":0.1,"1":0.9}'


# Several outputs


def test_several_outputs_are_an_object_with_keys_in_alphabetical_order() -> None:
    values = {"p": np.array([[0.5, 0.5], [0.25, 0.75]], F32), "l": np.array([0, 1]), "m": [{"k": 1.0}, {"k": 2.0}]}
    entries = [
        {"output": "p", "as": "probabilities", "labels": ["y", "x"], "form": "object"},
        {"output": "l", "as": "label", "labels": ["y", "x"]},
        {"output": "m", "as": "a map"},
    ]
    assert texts(values, entries, 2) == [
        '{"a map":{"k":1.0},"label":"y","probabilities":{"x":0.5,"y":0.5}}',
        '{"a map":{"k":2.0},"label":"x","probabilities":{"x":0.75,"y":0.25}}',
    ]


def test_one_output_with_a_key_is_an_object_of_one() -> None:
    assert texts({"y": np.array(["a"], object)}, [{"output": "y", "as": "greeting"}], 1) == ['{"greeting":"a"}']


def test_unwrapping_reaches_every_output_at_the_top_level_only() -> None:
    values = {"a": np.array([[1.5]], F32), "b": np.array([[1, 2]]), "c": np.array([[[7]]])}
    entries = [{"output": name, "as": name, "squeeze": False} for name in "abc"]
    assert texts(values, entries, 1) == ['{"a":[1.5],"b":[1,2],"c":[[7]]}']
    [unwrapped] = texts(values, entries, 1, unwrap=True)
    assert json.loads(unwrapped)["a"] == 1.5
    assert json.loads(unwrapped)["b"] == [1, 2]


@given(st.lists(st.text(st.sampled_from(['"', ",", "\\", "a", "{"]), max_size=4), min_size=1, max_size=6))
def test_strings_of_a_model_read_back_exactly(values: list[str]) -> None:
    assert shown(np.array(values, object), len(values)) == values
    assert shown(np.array([[value, value] for value in values], object), len(values)) == [[value, value] for value in values]
    assert shown(np.array([[value, value] for value in values], object), len(values), labels=["p", "q"], form="object") == [
        {"p": value, "q": value} for value in values
    ]
