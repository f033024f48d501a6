"""JSON on the record path: every line is read as if it were alone in its block, and what is written reads back the same."""

import json
import math
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.tasks import codec
from engine.tasks.codec import Fault
from tests.serving import ROOT

# Lines that are records, lines that are not, and lines that make a record only together with the next one.
GOOD = [b'{"a":1}', b'{"a":1.5,"b":"x"}', b"{}", b' {"a":[1,{"b":2}]}\t', b'{"a":"\xc3\xa4"}\r', b'{"a":1,"a":2}', b'{"a":"},{"}']
HOSTILE = [
    b'{"a":1},{"b":2}',
    b'{"a":[{"x":1}',
    b'{"y":2}]}',
    b'{"a":1},5',
    b'5,{"a":1}',
    b'{"a":1},',
    b',{"a":1}',
    b",",
    b'{"a":1}{"a":2}',
    b'{"a":1} {"a":2} 7',
    b"[1,2]",
    b"3",
    b'"x"',
    b"null",
    b"",
    b" \t\r",
    b"]",
    b"[",
    b'{"a":"',
    b'"}',
    b"{'a':1}",
    b'{"a":1,}',
    b"\xff",
    b'{"a":"\xff"}',
    b'{"a":NaN}',
    b'{"a":-Infinity}',
    b'{"a":18446744073709551616}',
    b'{"a":"\\ud800"}',
    b'{"a":1}x',
    b"[" * 3000,
    b'{"a":' * 2000,
]
lines = st.lists(st.one_of(st.sampled_from(GOOD), st.sampled_from(HOSTILE)), min_size=1, max_size=7)


def block_of(block: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in block)


def meaning(block: list[bytes]) -> list[tuple[int, str]]:
    """Each record of a block: the index of its line, and the record or its fault."""
    parsed = codec.parse_block(block_of(block), len(block))
    where = parsed.lines if parsed.lines is not None else list(range(len(block)))
    assert len(where) == len(parsed.records)
    return [(where[i], repr(parsed.faults.get(i, record))) for i, record in enumerate(parsed.records)]


@given(lines)
@example([b'{"a":1},{"b":2}', b'{"a":[{"x":1}', b'{"y":2}]}'])
@example([b'{"a":[{"x":1}', b'{"y":2}]}', b'{"a":1},{"b":2}'])
@example([b'{"a":1},5'])
@example([b'{"a":1}', b'{"b":2},{"c":3}'])
@example([b'{"a":1}', b'{"b":2},"x"'])
def test_a_line_means_in_a_block_what_it_means_alone(block: list[bytes]) -> None:
    alone = [(i, value) for i, line in enumerate(block) for _, value in meaning([line])]
    assert meaning(block) == alone


@given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b" ")), min_size=1, max_size=5))
def test_random_bytes_mean_the_same_alone_and_together(block: list[bytes]) -> None:
    test_a_line_means_in_a_block_what_it_means_alone.hypothesis.inner_test(block)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=3), min_size=1, max_size=8), st.booleans())
def test_a_block_of_plain_records_is_read_as_json_reads_each_line(records: list[dict[str, object]], is_ascii: bool) -> None:
    block = [json.dumps(record, ensure_ascii=is_ascii).encode() for record in records]
    parsed = codec.parse_block(block_of(block), len(block))
    assert parsed.records == records
    assert parsed.lines is None
    assert parsed.faults == {}


def faults_of(*block: bytes) -> list[str | None]:
    parsed = codec.parse_block(block_of(list(block)), len(block))
    return [parsed.faults[i].code if i in parsed.faults else None for i in range(len(parsed.records))]


@pytest.mark.parametrize(
    "line",
    [
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1',
        b'{"a":"\xff"}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"word",
        b'{"a":1} x',
        b'{"a":1},{"b":2}',
        b'{"a":1},5',
        b'{"a":1},"x"',
        b'{"a":-}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":"\\x"}',
    ],
    ids=lambda line: repr(line[:20]),
)
def test_what_is_not_json_is_one_fault_of_its_line(line: bytes) -> None:
    assert faults_of(line) == ["invalid_json"]
    assert faults_of(b'{"a":1}', line, b'{"a":2}') == [None, "invalid_json", None]


@pytest.mark.parametrize("line", [b"[1,2]", b"3", b'"x"', b"null", b"true", b"NaN"])
def test_json_that_is_no_object_is_told_apart(line: bytes) -> None:
    assert faults_of(line) == ["not_an_object"]
    assert faults_of(b'{"a":1}', line, b'{"a":2}') == [None, "not_an_object", None]


def test_several_objects_on_a_line_are_several_records_of_that_line() -> None:
    parsed = codec.parse_block(b'{"a":1}{"a":2} {"a":3}\n\n{"a":4}\r\n', 3)
    assert parsed.records == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]
    assert parsed.lines == [0, 0, 0, 2]
    assert parsed.faults == {}


def test_a_line_of_values_that_are_partly_objects_is_answered_for_each() -> None:
    assert faults_of(b'{"a":1} 7 {"a":2}') == [None, "not_an_object", None]


def test_a_file_that_lost_its_newlines_is_told_how_to_send_it() -> None:
    parsed = codec.parse_block(b'{"a":1}{"a":2}{"a":\n', 1)
    assert parsed.faults[0].reason.endswith("(use --data-binary, one object per line)")


def test_blank_lines_are_no_records_but_are_counted() -> None:
    parsed = codec.parse_block(b'\n \t\r\n{"a":1}\n\n', 4)
    assert parsed.records == [{"a": 1}]
    assert parsed.lines == [2]


def test_values_that_only_some_readers_take_are_read() -> None:
    parsed = codec.parse_block(b'{"a":NaN}\n{"a":-Infinity}\n{"a":340282366920938463463374607431768211456}\n{"a":"\\ud800"}\n', 4)
    first, *others = (record["a"] for record in parsed.records)
    assert math.isnan(first)
    assert others == [-math.inf, 2**128, "\ud800"]


def test_a_reason_is_short_and_one_line() -> None:
    parsed = codec.parse_block(b'{"a":"' + b"x" * 10_000 + b"\n", 1)
    assert len(parsed.faults[0].reason) <= 250
    assert "\n" not in parsed.faults[0].reason


# Single records


def test_a_line_may_hold_many_objects_and_one_more_is_one_fault_of_the_line() -> None:
    line = b"{}" * codec.MAX_LINE_RECORDS
    assert len(codec.parse_block(line + b"\n", 1).records) == codec.MAX_LINE_RECORDS
    parsed = codec.parse_block(b'{"a":1}\n' + line + b"{}\n" + b'{"a":2}\n', 3)
    assert parsed.records[::2] == [{"a": 1}, {"a": 2}]
    assert parsed.lines == [0, 1, 2]
    assert {i: fault.code for i, fault in parsed.faults.items()} == {1: "too_many_records"}


def test_lines_that_share_too_many_records_are_too_much_for_one_block() -> None:
    line = b"{}" * 100 + b"\n"
    assert len(codec.parse_block(line * 163, 163).records) == 16_300
    with pytest.raises(codec.TooManyRecords):
        codec.parse_block(line * 164, 164)
    assert len(codec.parse_block(b"{}\n" * 20_000 + b" \n", 20_001).records) == 20_000


def test_a_single_record_may_stand_on_several_lines() -> None:
    assert codec.parse_object(b'{\n "a": NaN,\r\n "b": 2\n}\n') == {"a": pytest.approx(math.nan, nan_ok=True), "b": 2}


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a":1}{"a":2}', b"\xff", b"[" * 5000])
def test_a_single_body_that_is_not_json_is_a_fault(raw: bytes) -> None:
    fault = codec.parse_object(raw)
    assert isinstance(fault, Fault)
    assert fault.code == "invalid_json"


def test_a_single_body_that_is_an_array_is_told_what_to_do() -> None:
    assert codec.parse_object(b'[{"a":1}]') == Fault("not_an_object", "send one object; for many use ?bulk=true")
    assert isinstance(codec.parse_object(b"3"), Fault)


# Ids


def ids_of(*block: bytes) -> list[bytes | str]:
    """The id of each record of a block, or the code of its fault."""
    raw = block_of(list(block))
    parsed = codec.parse_block(raw, len(block))
    ids, faults = codec.encode_ids(parsed.records, lambda i: raw.split(b"\n")[i])
    return [faults[i].code if i in faults else ids.of(i) for i in range(len(ids.texts))]


@pytest.mark.parametrize(
    "text",
    [
        '"a"',
        "7",
        "-1",
        "1.5",
        "0",
        '"ä\\n\\"\\\\"',
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        '"\\ud800"',
        "9" * 1024,
        '"' + "x" * 1024 + '"',
        '"\\",\\""',
        '"a\\","',
        '","',
    ],
    ids=lambda text: text[:20],
)
def test_an_id_comes_back_as_it_came(text: str) -> None:
    line = f'{{"yhat_id":{text}}}'.encode()
    for block in ([line], [line, b'{"yhat_id":"other"}'], [b'{"yhat_id":"other"}', line, line], [b"{}", line], [line, b"3"]):
        for given_line, encoded in zip(block, ids_of(*block), strict=True):
            if given_line is line:
                assert json.loads(encoded) == json.loads(text)


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(), min_size=1, max_size=6), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
        ),
        min_size=1,
    )
)
@example(['a",', "b"])
def test_any_ids_come_back_as_they_came(values: list[object]) -> None:
    encoded = ids_of(*(json.dumps({"yhat_id": value}).encode() for value in values))
    assert [json.loads(text) for text in encoded] == values


@pytest.mark.parametrize("line", [b"{}", b'{"yhat_id":null}', b'{"yhat_id":""}'])
def test_a_record_without_an_id_gets_one_of_its_own(line: bytes) -> None:
    for block in ([line, line], [line, b'{"yhat_id":"x"}', line]):
        ids = ids_of(*block)
        assert re.fullmatch(rb'"[0-9a-f]{32}"', ids[0])
        assert re.fullmatch(rb'"[0-9a-f]{32}"', ids[-1])
        assert ids[0] != ids[-1]


@pytest.mark.parametrize("text", ["true", "false", "[]", "[1]", "{}", '"' + "x" * 1025 + '"', "9" * 1025, "NaN", "-Infinity"])
def test_what_cannot_be_an_id_is_a_fault_of_that_record_alone(text: str) -> None:
    line = f'{{"yhat_id":{text}}}'.encode()
    before, code, after = ids_of(b'{"yhat_id":"a"}', line, b'{"yhat_id":2}')
    assert (before, code, after) == (b'"a"', "invalid_yhat_id", b"2")


def test_a_number_of_more_digits_than_python_reads_costs_its_own_record_only() -> None:
    before, _, after = ids_of(b'{"yhat_id":"a"}', b'{"yhat_id":' + b"9" * 5000 + b"}", b'{"yhat_id":2}')
    assert (before, after) == (b'"a"', b"2")


def test_what_is_no_record_gets_an_id_for_its_error_line() -> None:
    ids = ids_of(b"3", b'{"yhat_id":"a"}', b"broken")
    assert ids[1] == b'"a"'
    assert re.fullmatch(rb'"[0-9a-f]{32}"', ids[0])


# Columns

awkward = st.text(st.sampled_from(['"', ",", "\\", "a", "\n", "ä", "\u2028", "/", " "]), max_size=6)


@given(st.lists(st.one_of(awkward, st.text(st.characters(), max_size=4)), max_size=8))
@example(['a",', "b"])
@example(['","', '"', "", ",", '\\",', "\\"])
@example(["\ud800", "a"])
def test_strings_are_encoded_each_exactly(values: list[str]) -> None:
    joined = codec.plain_strings(values) if values else None
    encoded = [b'"%b"' % text for text in codec.cut_strings(joined)] if joined else list(map(codec.dumps, values))
    assert [json.loads(text) for text in encoded] == values
    assert not any(b"\n" in text for text in encoded)


FLOATS = {np.dtype(np.float32): 32, np.dtype(np.float64): 64, np.dtype(np.float16): 16}


@given(st.sampled_from(list(FLOATS)).flatmap(lambda dtype: arrays.arrays(dtype, st.integers(1, 6))))
def test_floats_read_back_as_the_same_float_and_what_is_no_number_as_null(values: np.ndarray) -> None:
    for value, text in zip(values, codec.encode_numbers(values), strict=True):
        number = json.loads(text)
        if np.isfinite(value):
            assert values.dtype.type(number) == value
        else:
            assert number is None


@given(arrays.arrays(np.float32, st.integers(1, 6), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_floats_are_written_in_the_shortest_digits(values: np.ndarray) -> None:
    for value, text in zip(values, codec.encode_numbers(values), strict=True):
        digits = re.sub(rb"[-.]|e.*", b"", text).strip(b"0")
        shortest = re.sub(r"[-.]|e.*", "", np.format_float_scientific(value, unique=True, trim="-")).strip("0")
        assert len(digits) == len(shortest)


def test_a_tenth_is_written_as_a_tenth_whatever_its_width() -> None:
    for dtype in (np.float32, np.float64):
        assert codec.encode_numbers(np.array([0.1, np.nan, -np.inf, 5], dtype)) == [b"0.1", b"null", b"null", b"5.0"]
        assert codec.encode_rows(np.array([[0.1, np.nan], [1 / 3, np.inf]], dtype))[0] == b"0.1,null"


DTYPES = [np.float32, np.float64, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.bool_]


@given(st.data(), st.sampled_from(DTYPES))
def test_rows_of_any_shape_and_order_in_memory_are_encoded_each_exactly(data: st.DataObject, dtype: type) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=4, max_side=4))
    elements = {"elements": st.floats(-1e6, 1e6, width=32)} if np.dtype(dtype).kind == "f" else {}
    values = data.draw(arrays.arrays(dtype, shape, **elements))
    values = data.draw(
        st.sampled_from([values, values[::-1], np.asfortranarray(values), values.astype(values.dtype.newbyteorder())])
    )
    rows = codec.encode_rows(values)
    assert [np.array(json.loads(b"[" + row + b"]"), dtype).tolist() for row in rows] == values.tolist()
    assert not any(b" " in row for row in rows)


@pytest.mark.parametrize("dtype", [*DTYPES, np.float16])
def test_numbers_of_every_type_are_encoded(dtype: type) -> None:
    values = np.array([0, 1, 1, 0], dtype)
    assert [json.loads(text) for text in codec.encode_numbers(values)] == values.tolist()
    assert codec.encode_numbers(values[:0]) == []
    assert [json.loads(text) for text in codec.encode_numbers(values[::2])] == values[::2].tolist()


def test_anything_else_is_encoded_compactly() -> None:
    assert codec.dumps({"a": [1, "/"], "b": None}) == b'{"a":[1,"/"],"b":null}'
    assert json.loads(codec.dumps({"a": "\ud800", "b": 2**70})) == {"a": "\ud800", "b": 2**70}
    assert codec.dumps({1: 0.5}) == b'{"1":0.5}'


def test_short_texts_take_little_memory() -> None:
    """orjson leaves 4 KiB with each of them."""
    tracemalloc.start()
    texts = [codec.dumps({"a": number}) for number in range(1000)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(texts) == 1000
    assert taken < 200_000


@given(st.lists(st.recursive(st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(), st.lists)))
def test_each_value_is_one_line(values: list[object]) -> None:
    written = codec.encode_lines(values)
    assert [json.loads(line) for line in written.split(b"\n")[:-1]] == values
    assert written.endswith(b"\n") == bool(values)


def test_json_texts_are_written_as_they_are_unless_they_are_not_strict() -> None:
    assert codec.dumps(codec.as_written(['{"a":1.50}', None, "12345678901234567890"])) == b'[{"a":1.50},null,12345678901234567890]'
    assert codec.dumps(codec.as_written(["[NaN,1e999,\n2]", "1,2", '"x"'])) == b'[[null,null,2],null,"x"]'
    assert codec.as_written([]) == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANYTHING)
@example(["a" * 4, {"b": [1, 2, 3, 4], "\ud800": "\ud800"}, [[], {}] * 3])
def test_a_value_that_is_encoded_in_pieces_has_the_same_bytes(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PIECE_SIZE", 3)
        in_pieces = codec.dumps_large(value)
    assert json.loads(in_pieces) == json.loads(codec.dumps(value))


def test_a_value_for_which_there_is_no_memory_says_so() -> None:
    program = (
        "from engine.tasks import codec\nfrom engine.tasks.__main__ import limited\nraw = b'[' + b'{},' * 2_000_000 + b'1]'\n"
        "with limited(100 << 20):\n    try:\n        codec.parse_exactly(raw)\n    except MemoryError:\n        print('no memory')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "no memory\n"


def test_a_long_list_is_encoded_without_much_memory_ahead() -> None:
    """orjson would reserve half a gibibyte, and end the process where a limit refuses that."""
    program = (
        "from engine.tasks import codec\nfrom engine.tasks.__main__ import limited\n"
        "value = {'a': [1] * 2_000_000, 'b': 'x' * 20_000_000}\n"
        "with limited(150 << 20):\n    print(len(codec.dumps_large(value)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == len('{"a":[],"b":""}') + 2 * 2_000_000 - 1 + 20_000_000
