"""Records to tensors: plain values go through unchanged, all others are refused with a code, nothing is converted silently."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tasks import codec
from engine.tasks.scoring import inputs
from engine.tasks.scoring.inputs import NUMPY_TYPES, Irregular, Refused

FLOATS = ["tensor(float)", "tensor(double)", "tensor(float16)"]
INTEGERS = [name for name in NUMPY_TYPES if "int" in name]
BOOL, STRING = "tensor(bool)", "tensor(string)"


def column(graph_type: str, *, rank: int = 1, **options: Any) -> inputs.Input:
    return inputs.build_input({"kind": "column", "input": "X", "field": "x", **options}, graph_type, ["N", 1][:rank])


def matrix(graph_type: str, *, features: tuple[str, ...] = ("a", "b"), **options: Any) -> inputs.Input:
    return inputs.build_input(
        {"kind": "matrix", "input": "X", "features": list(features), **options}, graph_type, ["N", len(features)]
    )


def vector(graph_type: str, **options: Any) -> inputs.Input:
    return inputs.build_input({"kind": "vector", "input": "X", "field": "x", **options}, graph_type, ["N", 2])


KINDS = {
    "column": (column, lambda value: {"x": value}),
    "matrix": (matrix, lambda value: {"a": value, "b": value}),
    "vector": (vector, lambda value: {"x": [value, value]}),
}


def outcome(entry: inputs.Input, record: dict[str, Any]) -> Any:
    """The values that a record becomes, or the code with which it is refused; the fast and the careful way must agree."""
    try:
        careful: Any = entry.stack([entry.check(record)])["X"].ravel()[0]
    except Refused as refused:
        careful = refused.fault.code
    try:
        fast = entry.bulk([record, record])["X"].ravel()[0]
    except Irregular:
        return careful
    assert repr(fast) == repr(careful)
    return careful


def outcomes(graph_type: str, text: str, **options: Any) -> set[Any]:
    """What each kind of input makes of a value in JSON, parsed as a block is parsed."""
    value = codec.parse_block(b'{"v":' + text.encode() + b"}\n", 1).records[0]["v"]
    return {repr(outcome(make(graph_type, **options), record(value))) for make, record in KINDS.values()}


def refused(code: str) -> set[str]:
    return {repr(code)}


# Tables of bad values


@pytest.mark.parametrize("text", ['"5.1"', "true", "false", "[1]", "{}", '""', '"nan"'])
@pytest.mark.parametrize("graph_type", FLOATS + INTEGERS)
def test_a_number_is_never_made_from_something_else(graph_type: str, text: str) -> None:
    assert outcomes(graph_type, text) == refused("wrong_type")


@pytest.mark.parametrize("text", ["1", "0", "1.0", '"true"', "[true]", "{}"])
def test_a_boolean_is_never_made_from_something_else(text: str) -> None:
    assert outcomes(BOOL, text) == refused("wrong_type")


@pytest.mark.parametrize("text", ["1", "1.5", "true", '["x"]', "{}", "NaN"])
def test_a_string_is_never_made_from_something_else(text: str) -> None:
    assert outcomes(STRING, text) == refused("wrong_type")


@pytest.mark.parametrize("graph_type", NUMPY_TYPES)
def test_null_and_absent_are_missing_for_every_type(graph_type: str) -> None:
    assert outcomes(graph_type, "null") == refused("missing_field")
    for make, _ in KINDS.values():
        assert outcome(make(graph_type), {"other": 1}) == "missing_field"


@pytest.mark.parametrize(
    ("graph_type", "text"),
    [
        ("tensor(float)", "1e300"),
        ("tensor(float)", "-3.5e38"),
        ("tensor(float16)", "70000"),
        ("tensor(float16)", "1e300"),
        ("tensor(double)", "1" + "0" * 400),
        ("tensor(float)", "1" + "0" * 400),
        ("tensor(float)", "1" + "0" * 40),
        ("tensor(int64)", "9223372036854775808"),
        ("tensor(int64)", "-9223372036854775809"),
        ("tensor(int64)", "99999999999999999999"),
        ("tensor(uint64)", "18446744073709551616"),
        ("tensor(uint64)", "-1"),
        ("tensor(int32)", "2147483648"),
        ("tensor(uint32)", "-1"),
        ("tensor(int16)", "32768"),
        ("tensor(uint16)", "65536"),
        ("tensor(int8)", "-129"),
        ("tensor(uint8)", "256"),
    ],
)
def test_a_number_that_does_not_fit_is_out_of_range(graph_type: str, text: str) -> None:
    assert outcomes(graph_type, text) == refused("out_of_range")


@pytest.mark.parametrize("graph_type", INTEGERS)
def test_an_integer_is_never_cut_from_a_fraction_or_made_of_what_is_no_number(graph_type: str) -> None:
    for text in ("1.7", "-0.5", "NaN", "Infinity"):
        assert outcomes(graph_type, text) <= refused("wrong_type") | refused("out_of_range")


@pytest.mark.parametrize("graph_type", INTEGERS)
def test_an_integral_number_is_an_integer_however_it_is_written(graph_type: str) -> None:
    """JSON has one kind of number: an integer input takes every number that is integral and in range."""
    dtype = NUMPY_TYPES[graph_type]
    assert outcomes(graph_type, "7") == {repr(dtype(7))}
    assert outcomes(graph_type, "7.0") == {repr(dtype(7))}


@pytest.mark.parametrize("graph_type", INTEGERS)
def test_the_limits_of_an_integer_type_are_in_range(graph_type: str) -> None:
    limits = np.iinfo(NUMPY_TYPES[graph_type])
    for value in (limits.min, limits.max):
        assert outcomes(graph_type, str(value)) == {repr(NUMPY_TYPES[graph_type](value))}


@pytest.mark.parametrize("graph_type", FLOATS)
def test_literals_that_are_no_numbers_are_numbers_for_float_inputs(graph_type: str) -> None:
    dtype = NUMPY_TYPES[graph_type]
    for text, value in (("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf), ("3", 3), ("-0.5", -0.5)):
        assert outcomes(graph_type, text) == {repr(dtype(value))}


def test_strings_and_booleans_go_through() -> None:
    for text in ('""', '"nan"', '"None"', '"ä"'):
        assert outcomes(STRING, text) == {repr(json.loads(text))}
    assert outcomes(BOOL, "true") == {repr(np.True_)}


# Coercion


@pytest.mark.parametrize("graph_type", FLOATS)
def test_with_coerce_numeric_strings_become_floats(graph_type: str) -> None:
    assert outcomes(graph_type, '"5.5"', coerce=True) == {repr(NUMPY_TYPES[graph_type](5.5))}
    assert outcomes(graph_type, '"-3"', coerce=True) == {repr(NUMPY_TYPES[graph_type](-3))}


@pytest.mark.parametrize("graph_type", INTEGERS)
def test_with_coerce_integral_strings_become_integers(graph_type: str) -> None:
    dtype = NUMPY_TYPES[graph_type]
    assert outcomes(graph_type, '"7"', coerce=True) == {repr(dtype(7))}
    assert outcomes(graph_type, '"7.5"', coerce=True) == refused("wrong_type")
    assert outcomes(graph_type, '"99999999999999999999999"', coerce=True) == refused("out_of_range")
    limits = np.iinfo(dtype)
    assert outcomes(graph_type, f'"{limits.max}"', coerce=True) == {repr(dtype(limits.max))}


def test_with_coerce_large_integers_in_strings_keep_every_digit() -> None:
    assert outcomes("tensor(int64)", '"9007199254740993"', coerce=True) == {repr(np.int64(9007199254740993))}


def test_with_coerce_a_string_that_overflows_is_out_of_range_too() -> None:
    assert outcomes("tensor(float)", '"1e300"', coerce=True) == refused("out_of_range")
    assert outcomes("tensor(double)", '"1e400"', coerce=True) == refused("out_of_range")


@pytest.mark.parametrize("text", ['"abc"', '""', "true", "[1]", '"1_000"', '"0x10"'])
def test_with_coerce_what_is_not_numeric_is_still_refused(text: str) -> None:
    for graph_type in ("tensor(float)", "tensor(int64)"):
        assert outcomes(graph_type, text, coerce=True) == refused("wrong_type")


def test_with_coerce_numbers_and_booleans_become_their_json_text() -> None:
    for text in ("3", "-1.5", "true", "false"):
        assert outcomes(STRING, text, coerce=True) == {repr(text)}
    assert outcomes(STRING, '"x"', coerce=True) == {repr("x")}
    assert outcomes(STRING, "[1]", coerce=True) == refused("wrong_type")
    assert outcomes(STRING, "null", coerce=True) == refused("missing_field")


# Missing


def test_an_absent_or_null_field_is_its_default() -> None:
    for record in ({}, {"x": None, "a": None, "b": None}):
        for make, _ in KINDS.values():
            assert outcome(make("tensor(float)", missing=2.5), record) == np.float32(2.5)
            assert math.isnan(outcome(make("tensor(float)", missing="nan"), record))
            assert outcome(make("tensor(int64)", missing=3), record) == 3
            assert outcome(make(STRING, missing="unknown"), record) == "unknown"
            assert outcome(make(BOOL, missing=False), record) == np.False_


def test_a_default_of_nan_is_a_text_for_a_string_input() -> None:
    for make, _ in KINDS.values():
        assert outcome(make(STRING, missing="nan"), {}) == "nan"


def test_a_default_does_not_excuse_a_wrong_value() -> None:
    for make, record in KINDS.values():
        assert outcome(make("tensor(float)", missing=1.0), record("x")) == "wrong_type"


def test_a_vector_is_missing_as_a_whole() -> None:
    entry = vector("tensor(float)", missing=[7.0, 8.0])
    assert entry.stack([entry.check({})])["X"].tolist() == [[7.0, 8.0]]
    assert outcome(entry, {"x": [1.0, None]}) == "missing_field"


# Shapes


@pytest.mark.parametrize("graph_type", ["tensor(float)", "tensor(int64)", BOOL, STRING])
def test_every_kind_has_the_shape_and_type_its_graph_wants(graph_type: str) -> None:
    value = {BOOL: True, STRING: "v"}.get(graph_type, 5)
    shapes = {"column": (3,), "matrix": (3, 2), "vector": (3, 2)}
    for kind, (make, record) in KINDS.items():
        entry, records = make(graph_type), [record(value)] * 3
        for array in (entry.bulk(records)["X"], entry.stack([entry.check(one) for one in records])["X"]):
            assert array.shape == shapes[kind]
            assert array.dtype == NUMPY_TYPES[graph_type]
    assert column(graph_type, rank=2).bulk([{"x": value}] * 3)["X"].shape == (3, 1)


def test_a_matrix_takes_its_features_in_the_order_of_its_config() -> None:
    entry, record = matrix("tensor(float)", features=("c", "a", "b")), {"a": 1, "b": 2, "c": 3, "extra": "ignored"}
    assert entry.bulk([record])["X"].tolist() == [[3, 1, 2]]
    assert entry.stack([entry.check(record)])["X"].tolist() == [[3, 1, 2]]


def test_a_matrix_of_one_feature_is_a_matrix() -> None:
    entry = matrix("tensor(float)", features=("a",))
    assert entry.bulk([{"a": 1}, {"a": 2}])["X"].tolist() == [[1], [2]]
    assert entry.stack([entry.check({"a": 1})])["X"].tolist() == [[1]]


def test_a_matrix_without_a_config_takes_its_row_as_one_list_too() -> None:
    entry = matrix("tensor(float)", field="X")
    assert entry.stack([entry.check({"X": [1, 2]}), entry.check({"a": 3, "b": 4})])["X"].tolist() == [[1, 2], [3, 4]]
    assert outcome(entry, {"X": [1]}) == "wrong_length"
    assert outcome(entry, {"X": [1, "2"]}) == "wrong_type"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([1], "wrong_length"),
        ([1, 2, 3], "wrong_length"),
        ([], "wrong_length"),
        (5, "wrong_type"),
        ("ab", "wrong_type"),
        ({"0": 1, "1": 2}, "wrong_type"),
        ([[1, 2], [3, 4]], "wrong_type"),
        (True, "wrong_type"),
        ([None, 1], "missing_field"),
    ],
)
def test_a_vector_is_a_list_of_so_many_values(value: Any, code: str) -> None:
    assert outcome(vector("tensor(float)"), {"x": value}) == code


def reason(entry: inputs.Input, record: dict[str, Any]) -> str:
    with pytest.raises(Refused) as caught:
        entry.check(record)
    return caught.value.fault.reason


def test_a_reason_names_the_field_and_what_would_do() -> None:
    assert reason(column(STRING), {}) == "field 'x' is missing"
    assert reason(column("tensor(float)"), {"x": "5"}) == "field 'x' must be a number, not a string"
    assert reason(column("tensor(int64)"), {"x": True}) == "field 'x' must be an integer, not a boolean"
    assert reason(matrix("tensor(float)"), {"a": 1, "b": 1e300}) == "field 'b' does not fit float32"
    assert reason(vector("tensor(float)"), {"x": [1]}) == "field 'x' has 1 values, the model takes 2"
    assert "x[1]" in reason(vector("tensor(float)"), {"x": [1, "2"]})


CODES = ("wrong_type", "missing_field", "out_of_range")
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(), st.none()),
)


@given(st.sampled_from(list(NUMPY_TYPES)), anything, st.booleans())
def test_anything_at_all_is_taken_exactly_or_refused(graph_type: str, value: Any, coerce: bool) -> None:
    for make, record in KINDS.values():
        found = outcome(make(graph_type, coerce=coerce), record(value))
        if coerce or graph_type in FLOATS or (isinstance(found, str) and found in CODES):
            continue
        assert found == value


# Lists that may be missing, and dates


@pytest.mark.parametrize(("default", "expected"), [("nan", [math.nan] * 2), (3.5, [3.5, 3.5]), ([1.0, 2.0], [1.0, 2.0])])
def test_an_absent_list_is_its_default_on_the_fast_way_too(default: Any, expected: list[float]) -> None:
    entry = vector("tensor(float)", missing=default)
    records = [{"x": [5, 6]}, {"x": None}, {}, {"x": [7.5, 8]}]
    array = entry.bulk(records)["X"]
    assert array.tolist()[::3] == [[5.0, 6.0], [7.5, 8.0]]
    assert np.array_equal(array[1:3], np.array([expected, expected], dtype=np.float32), equal_nan=True)
    assert np.array_equal(entry.bulk([{}])["X"], np.array([expected], dtype=np.float32), equal_nan=True)
    with pytest.raises(Irregular):
        entry.bulk([{"x": [1, None]}, {}])


def period_days(frequency: str, origin: str = "2018-01-07") -> inputs.Input:
    entry = {"kind": "period_days", "input": "day", "field": "date", "origin": origin, "frequency": frequency, "window": 3}
    return inputs.build_input(entry, "tensor(float)", ["N", 3])


@pytest.mark.parametrize(
    ("frequency", "origin", "date", "expected"),
    [
        ("weekly", "2018-01-07", "2018-01-14", [-7.0, 0.0, 7.0]),
        ("daily", "2018-01-07", "2018-01-07", [-2.0, -1.0, 0.0]),
        ("monthly", "2018-01-01", "2018-03-01", [0.0, 31.0, 59.0]),
    ],
)
def test_a_date_becomes_the_days_of_its_last_periods(frequency: str, origin: str, date: str, expected: list[float]) -> None:
    entry = period_days(frequency, origin)
    assert entry.bulk([{"date": date}] * 2)["day"].tolist() == [expected] * 2
    assert entry.stack([entry.check({"date": date})])["day"].tolist() == [expected]


@pytest.mark.parametrize(
    ("frequency", "date", "code"),
    [
        ("weekly", "2018-01-15", "out_of_range"),
        ("monthly", "2018-01-07", "out_of_range"),
        ("daily", "2018-02-30", "wrong_type"),
        ("daily", "7/1/18", "wrong_type"),
        ("daily", 20180107, "wrong_type"),
        ("daily", None, "missing_field"),
    ],
)
def test_what_is_no_first_day_of_a_period_is_refused(frequency: str, date: Any, code: str) -> None:
    with pytest.raises(Refused) as caught:
        period_days(frequency).check({"date": date})
    assert caught.value.fault.code == code
    with pytest.raises(Irregular):
        period_days(frequency).bulk([{"date": date}])
