"""Answers: a strict JSON reader takes each of them, and reads exactly the values of the output."""

import base64
import json
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.query import results
from engine.tasks.query.output import OutputColumn, Result
from engine.tasks.query.refusals import Refused
from engine.tasks.query.results import Limits, arrow, encode_json, explanation, ndjson, table

ENOUGH = Limits(rows=10_000, bytes=64 * 1024 * 1024)
VECTOR = pa.list_(pa.float32(), 2)
NAMES = ("fiction", "news")
HINT = "add LIMIT or ask for application/x-ndjson"


def result_of(columns, *batches):
    """`batches` are lists of rows, or exceptions that come in their place."""

    def produce():
        for rows in batches:
            if isinstance(rows, Exception):
                raise rows
            yield pa.record_batch(
                [pa.array([row[i] for row in rows], column.type) for i, column in enumerate(columns)],
                names=[f"c{i}" for i in range(len(columns))],
            )

    return Result(tuple(columns), produce())


def one_column(kind, type, values, names=()):
    return result_of([OutputColumn("x", kind, type, names)], [[value] for value in values])


def strict(text):
    """Read JSON, without the values that JSON does not have."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def rows_of(result, **options):
    body = encode_json(result, **{"as_list": False, "class_labels": "names", "limits": ENOUGH, **options})[1]
    return strict(body)["data"]


TWO_COLUMNS = [OutputColumn("text", "string", pa.string()), OutputColumn("score", "float32", pa.float32())]


def test_the_body_has_its_keys_in_order_and_rows_as_objects_or_columns():
    rows = [["Honey never spoils.", 0.7128910422325134], ["é\n\"'\u2028", None]], [], [[None, -1.5]]
    num_rows, body = encode_json(result_of(TWO_COLUMNS, *rows), as_list=True, class_labels="names", limits=ENOUGH)
    assert num_rows == 3
    assert (
        body
        == (
            '{"message":"Query successful.","tensors":["text","score"],"data":['
            '{"text":"Honey never spoils.","score":0.7128910422325134},'
            '{"text":"é\\n\\"\'\u2028","score":null},{"text":null,"score":-1.5}]}'
        ).encode()
    )
    num_rows, body = encode_json(result_of(TWO_COLUMNS, *rows), as_list=False, class_labels="names", limits=ENOUGH)
    assert num_rows == 3
    assert list(strict(body)) == ["message", "tensors", "data"]
    assert strict(body)["data"] == {
        "text": ["Honey never spoils.", "é\n\"'\u2028", None],
        "score": [0.7128910422325134, None, -1.5],
    }


def test_no_rows_are_an_empty_list_or_empty_columns():
    for batches in ([], [[]]):
        assert encode_json(result_of(TWO_COLUMNS, *batches), as_list=True, class_labels="names", limits=ENOUGH) == (
            0,
            b'{"message":"Query successful.","tensors":["text","score"],"data":[]}',
        )
        assert rows_of(result_of(TWO_COLUMNS, *batches)) == {"text": [], "score": []}


TIMES = [datetime(2026, 11, 23, 5, tzinfo=UTC), datetime(1, 1, 1, 0, 0, 0, 7, tzinfo=UTC), None]


@pytest.mark.parametrize(
    ("kind", "type", "values", "written"),
    [
        ("bool", pa.bool_(), [True, None, False], "[true,null,false]"),
        ("int", pa.int64(), [2**60 + 1, -(2**63), None], "[1152921504606846977,-9223372036854775808,null]"),
        ("float64", pa.float64(), [0.1, 1e300, float("nan"), float("inf"), None], "[0.1,1e+300,null,null,null]"),
        ("float32", pa.float32(), [22.59016227722168, 0.1, float("-inf")], "[22.59016227722168,0.10000000149011612,null]"),
        ("vector", VECTOR, [[0.1, 1e-7], None, [float("nan"), 22.59016227722168]], "[[0.1,1e-7],null,[null,22.590162]]"),
        ("vector", pa.list_(pa.float32()), [[0.1], None, []], "[[0.1],null,[]]"),
        ("bytes", pa.binary(), [b"\x00\xff", b"", None], '["AP8=","",null]'),
        ("timestamp", pa.timestamp("us", "UTC"), TIMES, '["2026-11-23T05:00:00Z","0001-01-01T00:00:00.000007Z",null]'),
        ("date", pa.date32(), [date(9999, 12, 31), None], '["9999-12-31",null]'),
        ("json", pa.string(), ['{"k":[1.50,12345678901234567890]}', None, '"s"'], '[{"k":[1.50,12345678901234567890]},null,"s"]'),
        ("null", pa.null(), [None, None], "[null,null]"),
        ("list<int>", pa.list_(pa.int64()), [[1, None], None, [], [2]], "[[1,null],null,[],[2]]"),
        ("list<json>", pa.list_(pa.string()), [["{}", None], ["1"]], "[[{},null],[1]]"),
        ("list", pa.list_(VECTOR), [[[0.1, 2.0]], None, [None]], "[[[0.1,2.0]],null,[null]]"),
        ("list", pa.list_(pa.list_(pa.date32())), [[[date(2026, 1, 2)], []]], '[[["2026-01-02"],[]]]'),
        ("list", pa.list_(pa.float32()), [[0.1, float("nan")]], "[[0.10000000149011612,null]]"),
        ("list", pa.list_(pa.string()), [["1"]], '[["1"]]'),
    ],
)
def test_values_are_written_as_the_contract_says(kind, type, values, written):
    _, body = encode_json(one_column(kind, type, values), as_list=False, class_labels="names", limits=ENOUGH)
    strict(body)
    assert body == b'{"message":"Query successful.","tensors":["x"],"data":{"x":%b}}' % written.encode()


@pytest.mark.parametrize(("class_labels", "labels"), [("names", ["news", None, "fiction"]), ("ids", [1, None, 0])])
def test_class_labels_are_names_or_ids(class_labels, labels):
    assert rows_of(one_column("class", pa.int64(), [1, None, 0], NAMES), class_labels=class_labels) == {"x": labels}
    grouped = one_column("list", pa.list_(pa.int64()), [[1, None, 0], None], NAMES)
    assert rows_of(grouped, class_labels=class_labels) == {"x": [labels, None]}


@pytest.mark.parametrize(
    "text", ["NaN", '{"a":[NaN,-Infinity,1e999]}', '{"a":\n1}', "[", "1,2", '"\\ud800"', "[" * 3000 + "]" * 3000]
)
def test_json_that_is_not_strict_does_not_spoil_the_answer(text):
    lines = b"".join(ndjson(one_column("json", pa.string(), ["1", text]), class_labels="ids", max_rows=9, elapsed_ms=float))
    assert len(lines.splitlines()) == 3
    for line in lines.splitlines():
        strict(line)


def test_a_sum_with_more_digits_is_written_if_it_fits():
    column = OutputColumn("x", "int", pa.int64())
    fits = pa.record_batch([pa.array([2**62]).cast(pa.decimal128(38))], names=["s"])
    assert rows_of(Result((column,), iter([fits]))) == {"x": [2**62]}
    beyond = pa.record_batch([pa.array([str(2**64)]).cast(pa.decimal128(38))], names=["s"])
    with pytest.raises(Refused, match="too large") as refused:
        rows_of(Result((column,), iter([beyond])))
    assert refused.value.code == "arithmetic_error"


@pytest.mark.parametrize(("kind", "type"), [("timestamp", pa.timestamp("us", "UTC")), ("date", pa.date32())])
def test_times_that_cannot_be_written_are_refused(kind, type):
    with pytest.raises(Refused, match="years 1 to 9999") as refused:
        rows_of(one_column(kind, type, [2**31 - 1 if kind == "date" else 2**62]))
    assert refused.value.code == "arithmetic_error"


VALUES = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(),
        "s": st.none() | st.text(),
        "b": st.none() | st.binary(),
        "v": st.none() | st.lists(st.floats(width=32), min_size=2, max_size=2),
        "t": st.none() | st.datetimes(timezones=st.just(UTC)),
        "l": st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3),
    }
)
WILD = [
    OutputColumn("i", "int", pa.int64()),
    OutputColumn("f", "float64", pa.float64()),
    OutputColumn("s", "string", pa.string()),
    OutputColumn("b", "bytes", pa.binary()),
    OutputColumn("v", "vector", VECTOR),
    OutputColumn("t", "timestamp", pa.timestamp("us", "UTC")),
    OutputColumn("l", "list", pa.list_(pa.string())),
]


def finite(value):
    return value if value is not None and np.isfinite(value) else None


def read_back(row):
    """What the output row means, from the values that were read as JSON."""
    vector = None if row["v"] is None else [None if x is None else float(np.float32(x)) for x in row["v"]]
    data = None if row["b"] is None else base64.b64decode(row["b"], validate=True)
    time = None if row["t"] is None else datetime.fromisoformat(row["t"])
    return {**row, "v": vector, "b": data, "t": time}


@given(st.lists(VALUES, max_size=8), st.integers(0, 8))
@settings(deadline=None)
def test_wild_values_come_back_exactly_in_every_form(rows, cut):
    def result():
        values = [[row[column.name] for column in WILD] for row in rows]
        return result_of(WILD, values[:cut], values[cut:])

    wanted = [{**row, "f": finite(row["f"]), "v": None if row["v"] is None else [*map(finite, row["v"])]} for row in rows]
    _, body = encode_json(result(), as_list=True, class_labels="names", limits=ENOUGH)
    assert [read_back(row) for row in strict(body)["data"]] == wanted
    columns = rows_of(result())
    assert [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] == strict(body)["data"]
    lines = b"".join(ndjson(result(), class_labels="names", max_rows=99, elapsed_ms=float)).split(b"\n")
    assert [strict(line) for line in lines[:-2]] == strict(body)["data"]
    assert strict(table(result(), limits=ENOUGH)[1])["rows"] == [list(row.values()) for row in strict(body)["data"]]
    read = pa.ipc.open_stream(b"".join(arrow(result(), class_labels="names", max_rows=99))).read_all()
    assert read.drop(["f", "v"]).to_pylist() == [{k: v for k, v in row.items() if k not in "fv"} for row in rows]


def test_too_many_rows_or_bytes_are_refused():
    rows = [["a" * 100, 1.0]] * 50
    for limits, what in ((Limits(49, 10**6), "49 rows"), (Limits(50, 4999), "4,999 bytes")):
        for encode in (
            lambda limits: encode_json(result_of(TWO_COLUMNS, rows), as_list=True, class_labels="ids", limits=limits),
            lambda limits: encode_json(result_of(TWO_COLUMNS, rows), as_list=False, class_labels="ids", limits=limits),
            lambda limits: table(result_of(TWO_COLUMNS, rows), limits=limits),
        ):
            with pytest.raises(Refused, match=what) as refused:
                encode(limits)
            assert (refused.value.code, refused.value.hint) == ("result_too_large", HINT)
    assert encode_json(result_of(TWO_COLUMNS, rows), as_list=True, class_labels="ids", limits=Limits(50, 10**6))[0] == 50


def test_no_more_rows_are_computed_once_the_result_is_too_large():
    computed = []

    def batches():
        for i in range(100):
            computed.append(i)
            yield pa.record_batch([pa.array(["a" * 100] * 10)], names=["c"])

    column = OutputColumn("x", "string", pa.string())
    with pytest.raises(Refused, match="3,000 bytes"):
        encode_json(Result((column,), batches()), as_list=True, class_labels="ids", limits=Limits(10_000, 3000))
    assert len(computed) == 3


def test_a_batch_of_large_cells_is_encoded_a_few_rows_at_a_time():
    column = OutputColumn("x", "string", pa.string())
    batch = pa.record_batch([pa.array(["a" * 2**20] * 10)], names=["c"])
    stream = b"".join(arrow(Result((column,), iter([batch])), class_labels="ids", max_rows=10))
    assert [part.num_rows for part in pa.ipc.open_stream(stream)] == [3, 3, 3, 1]


def test_lines_end_with_the_status():
    lines = ndjson(result_of(TWO_COLUMNS, [["a", 1.0]], [["b", 2.0]]), class_labels="names", max_rows=2, elapsed_ms=lambda: 3.14159)
    assert b"".join(lines) == (
        b'{"text":"a","score":1.0}\n{"text":"b","score":2.0}\n{"status":"ok","rows":2,"tensors":["text","score"],"query_ms":3.1}\n'
    )
    assert lines.refused is None
    empty = ndjson(result_of(TWO_COLUMNS), class_labels="names", max_rows=2, elapsed_ms=lambda: 0.0)
    assert b"".join(empty) == b'{"status":"ok","rows":0,"tensors":["text","score"],"query_ms":0.0}\n'


def test_a_refusal_before_the_first_piece_is_raised():
    lines = ndjson(
        result_of(TWO_COLUMNS, [["a", 1.0]], Refused("arithmetic_error", "m")), class_labels="ids", max_rows=9, elapsed_ms=float
    )
    with pytest.raises(Refused, match="m"):
        next(lines)


@pytest.mark.parametrize("ending", [Refused("timeout", "Too late."), [["c", 0.0]] * 3, TimeoutError()])
def test_a_failure_in_the_middle_is_the_last_line_and_all_lines_before_it_are_whole(ending):
    # Three rows of 1 MiB fill two pieces, so the failure comes after them; a fourth row is over the limit of rows.
    rows = [["a" * 2**20, 1.0]] * 3
    lines = ndjson(result_of(TWO_COLUMNS, rows, ending), class_labels="ids", max_rows=5, elapsed_ms=float)
    pieces = []
    try:
        pieces.extend(iter(lambda: next(lines, None), None))
    except TimeoutError:
        pieces.append(lines.failed("timeout", "Too late."))
    else:
        assert lines.refused.code == "timeout" if isinstance(ending, Refused) else "result_too_large"
    assert all(len(piece) <= 2**20 for piece in pieces)
    *before, last = [strict(line) for line in b"".join(pieces).splitlines()]
    assert len(before) == last["rows"] == (5 if isinstance(ending, list) else 3)
    assert list(last) == ["status", "code", "message", "rows"]
    assert last["status"] == "error"


ALL_KINDS = [
    OutputColumn("genre", "class", pa.int64(), NAMES),
    OutputColumn("genres", "list", pa.list_(pa.int64()), NAMES),
    OutputColumn("embedding", "vector", VECTOR),
    OutputColumn("score", "float32", pa.float32()),
]
ROWS = [[1, [0, 1], [0.1, 0.2], 0.5], [None, None, None, None], [0, [], [1, 2], float("nan")]]


@pytest.mark.parametrize("class_labels", ["names", "ids"])
def test_an_arrow_stream_has_the_values_of_the_json(class_labels):
    read = pa.ipc.open_stream(b"".join(arrow(result_of(ALL_KINDS, ROWS[:1], ROWS[1:]), class_labels=class_labels, max_rows=9)))
    assert read.schema.metadata == {b"message": b"Query successful."}
    assert read.schema.field("embedding").type == VECTOR
    values = read.read_all()
    as_json = rows_of(result_of(ALL_KINDS, ROWS), class_labels=class_labels)
    assert values["genre"].to_pylist() == as_json["genre"]
    assert values["genres"].to_pylist() == as_json["genres"]
    vectors = [None if row is None else np.array(row, dtype=np.float32).tolist() for row in as_json["embedding"]]
    assert values["embedding"].to_pylist() == vectors


def test_an_arrow_stream_without_rows_still_has_its_schema():
    read = pa.ipc.open_stream(b"".join(arrow(result_of(ALL_KINDS), class_labels="names", max_rows=9))).read_all()
    assert read.num_rows == 0
    assert read.column_names == ["genre", "genres", "embedding", "score"]


def test_an_arrow_stream_has_batches_of_at_most_8192_rows_in_pieces_of_at_most_a_mebibyte():
    column = OutputColumn("x", "vector", pa.list_(pa.float32(), 64))
    batch = pa.record_batch([pa.FixedSizeListArray.from_arrays(np.arange(20_000 * 64, dtype=np.float32), 64)], names=["c"])
    pieces = list(arrow(Result((column,), iter([batch])), class_labels="names", max_rows=20_000))
    assert all(len(piece) <= 2**20 for piece in pieces)
    batches = list(pa.ipc.open_stream(b"".join(pieces)))
    assert max(part.num_rows for part in batches) <= 8192
    assert pa.concat_arrays([part.column(0) for part in batches]).equals(batch.column(0))


def test_an_arrow_stream_that_fails_has_no_end():
    pieces = []
    with pytest.raises(Refused, match="2 rows"):
        pieces.extend(arrow(result_of(ALL_KINDS, ROWS), class_labels="names", max_rows=2))
    assert not b"".join(pieces).endswith(results.ARROW_END)


def test_the_table_has_columns_rows_and_their_number():
    num_rows, body = table(result_of(TWO_COLUMNS, [["a", 0.5], [None, None]]), limits=ENOUGH)
    assert num_rows == 2
    assert body == b'{"columns":["text","score"],"rows":[["a",0.5],[null,null]],"row_count":2}'
    assert table(result_of(TWO_COLUMNS), limits=ENOUGH)[1] == b'{"columns":["text","score"],"rows":[],"row_count":0}'


def test_a_plan_is_explained():
    body = explanation([{"step": "scan_topk", "rows": 5}], ["LIMIT without ORDER BY"])
    assert body == b'{"message":"Query planned.","plan":[{"step":"scan_topk","rows":5}],"warnings":["LIMIT without ORDER BY"]}'
