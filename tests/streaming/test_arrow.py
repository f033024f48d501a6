"""Record batches in, record batches out: the answers that lines have, in the types of the model, whoever writes and reads them."""

import gzip
import io
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import bulk, curl, ndjson
from tests.serving import ROOT, Server, serving
from tests.streaming import graphs
from tests.streaming.arrow import ARROW, answered, batches_of, body_of, flowers, send, table_of

IRIS = "sluice/iris"
PENGUINS = "sluice/penguins"
SHIPPED = ["brandon/HelloWorld", IRIS, "sluice/wine", "sluice/diabetes", PENGUINS, "sluice/language"]
MEASURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def example(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "models" / model / "config.json").read_text())["example"]
    return found


def as_row(line: dict[str, Any]) -> dict[str, Any]:
    """What the row of an answer must hold, from the line that answers the same record."""
    result = line.get("result")
    results = result if isinstance(result, dict) else {"result": result}
    return {"yhat_id": line["yhat_id"], **results, "code": line.get("code"), "error": line.get("error")}


def is_alike(one: Any, other: Any) -> bool:
    """JSON has the shortest digits that give the same float32."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-6 * max(1.0, abs(one))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_alike(one[key], other[key]) for key in one)
    return bool(one == other)


def check_like_lines(server: Server, model: str, records: list[dict[str, Any]], table: pa.Table, **how: Any) -> None:
    """The rows of an answer say what the lines for the same records say."""
    lines = bulk(server, model, ndjson(records), "&ordered=true").lines
    rows = answered(server, model, table, **how).to_pylist()
    assert len(rows) == len(lines)
    for line, row in zip(lines, rows, strict=True):
        wanted = as_row(line)
        if line.get("code"):
            assert {name: row[name] for name in ("yhat_id", "code", "error")} == {
                name: wanted[name] for name in ("yhat_id", "code", "error")
            }
            assert {value for name, value in row.items() if name not in wanted} == {None}
        else:
            assert is_alike(wanted, row), (wanted, row)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The models of graphs.py. To `tester`, a replica that imports pyarrow on a busy machine would look like one that hangs."""
    data_dir = graphs.write_all(tmp_path_factory.mktemp("patient") / "data")
    with serving(data_dir, SLUICE_MODEL_FAULTS="1000") as running:
        yield running


# Answers


@pytest.mark.parametrize("model", SHIPPED)
def test_rows_have_the_results_that_lines_have(server: Server, model: str) -> None:
    records = [example(model) | {"yhat_id": f"a{i}"} for i in range(30)]
    check_like_lines(server, model, records, pa.Table.from_pylist(records), rows_of_a_batch=7)


def test_the_answer_says_what_all_rows_share_beside_them(server: Server) -> None:
    done = send(server, IRIS, body_of(flowers(10), 4), "&ordered=true&times=iso")
    schema = pa.ipc.open_stream(done.body).schema
    assert schema.names == ["yhat_id", "label", "probabilities", "code", "error"]
    assert [str(kind) for kind in schema.types] == ["int64", "string", "fixed_size_list<item: float>[3]", "string", "string"]
    assert f"X-Bulk-Id: {schema.metadata[b'bulk_id'].decode()}" in done.trace
    assert (schema.metadata[b"version"], schema.metadata[b"yhat_model"]) == (b"1", b"iris")
    assert f"Content-Type: {ARROW}" in done.trace.partition("HTTP/1.1 200")[2]
    first = 1
    for batch, metadata in batches_of(done.body):
        assert int(metadata["line"]) == first
        assert metadata["start_time"] <= metadata["end_time"]
        assert metadata["end_time"].endswith("Z")
        first += batch.num_rows
    assert first == 11


def test_a_summary_is_the_last_batch_which_has_no_rows(server: Server) -> None:
    body = body_of(flowers(1000), 100)
    *_, (last, metadata) = batches_of(send(server, IRIS, body, "&summary=true").body)
    line = json.loads(metadata["last_line"])
    assert last.num_rows == 0
    assert (line["summary"]["records"], line["summary"]["results"], line["summary"]["errors"]) == (1000, 1000, 0)
    assert line["summary"]["bytes_in"] == len(body)


@pytest.mark.parametrize("rows_of_a_batch", [1, 63, 2048, 100_000])
@pytest.mark.parametrize("query", ["", "&ordered=true"])
def test_batches_of_any_size_are_answered_row_by_row(server: Server, rows_of_a_batch: int, query: str) -> None:
    """The largest is cut by a replica; the smallest travel together."""
    count = 3000 if rows_of_a_batch == 1 else 200_000
    found = answered(server, IRIS, flowers(count), query, rows_of_a_batch=rows_of_a_batch)
    ids = found["yhat_id"].to_pylist()
    assert (ids if query else sorted(ids)) == list(range(count))
    assert found["code"].null_count == count


def test_a_model_that_is_slow_gets_a_large_batch_in_small_blocks(patient: Server) -> None:
    """A row takes about 0.1 ms; the text that the model does not read makes the batch too large to travel once for each block."""
    count = 5000
    table = pa.table({"count": pa.array([100] * count), "yhat_id": range(count), "more": ["x" * 100] * count})
    blocks = patient.metric("sluice_block_records_count")
    found = answered(patient, "tester/turns", table)
    assert found["yhat_id"].to_pylist() == list(range(count))
    assert set(found["turned"].to_pylist()) == {100}
    assert patient.metric("sluice_block_records_count") - blocks > 5


@pytest.mark.parametrize("table", [flowers(0), flowers(3).select([]).slice(0, 0), pa.table({"x": pa.array([], pa.int8())})])
def test_no_rows_are_an_empty_table_with_its_columns(server: Server, table: pa.Table) -> None:
    found = answered(server, IRIS, table)
    assert found.num_rows == 0
    assert found.schema.names == ["yhat_id", "label", "probabilities", "code", "error"]


# Ids


def test_rows_without_ids_get_ids_and_texts_that_are_empty_too(server: Server) -> None:
    ids = answered(server, IRIS, flowers(5000).drop_columns("yhat_id"))["yhat_id"].to_pylist()
    assert len(set(ids)) == 5000
    assert {len(one) for one in ids} == {32}
    some = answered(server, IRIS, flowers(4).set_column(4, "yhat_id", pa.array(["a", "", None, "é"])))["yhat_id"].to_pylist()
    assert (some[0], some[3]) == ("a", "é")
    assert [len(one) for one in some[1:3]] == [32, 32]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (pa.array([1, None, 3], pa.uint8()), pa.uint8()),
        (pa.array([0.5, 1.5, None], pa.float32()), pa.float32()),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.string()),
        (pa.array(["a", "b", "a"], pa.large_string()), pa.string()),
        (pa.array(["a", "b", "a longer text than a view holds"], pa.string_view()), pa.string()),
    ],
)
def test_ids_come_back_in_their_type(server: Server, given: pa.Array, kind: pa.DataType) -> None:
    found = answered(server, IRIS, flowers(3).set_column(4, "yhat_id", given))["yhat_id"]
    assert found.type == kind
    assert found.to_pylist() == given.to_pylist()


def test_an_id_that_is_too_long_is_an_error_of_its_row(server: Server) -> None:
    found = answered(server, IRIS, flowers(3).set_column(4, "yhat_id", pa.array(["a", "x" * 1025, "é" * 1024])))
    assert found["code"].to_pylist() == [None, "invalid_yhat_id", None]
    assert found["yhat_id"][2].as_py() == "é" * 1024


def test_ids_that_are_neither_texts_nor_numbers_are_refused(server: Server) -> None:
    done = send(server, IRIS, body_of(flowers(2).set_column(4, "yhat_id", pa.array([True, False]))))
    assert done.status == 400
    assert done.body == b'{"error":"the column \'yhat_id\' has the type bool, and ids are strings or numbers"}'


# Rows that cannot be scored


def test_a_row_that_cannot_be_scored_says_why_and_its_neighbours_are_unharmed(server: Server) -> None:
    """Nulls, and a number that is too large for float32: with the words that lines have."""
    table = flowers(20_000)
    values = table["sepal_width"].to_pylist()
    values[7], values[9_000], values[19_999] = None, 1e300, None
    table = table.set_column(1, "sepal_width", pa.array(values))
    found = answered(server, IRIS, table)
    codes = dict.fromkeys((7, 19_999), "missing_field") | {9_000: "out_of_range"}
    assert {i: code for i, code in enumerate(found["code"].to_pylist()) if code} == codes
    assert found["error"][7].as_py() == "field 'sepal_width' is null, and the model needs a number"
    assert found["label"].null_count == 3
    assert found["yhat_id"].to_pylist() == list(range(20_000))


def test_a_field_that_is_absent_or_of_another_type_is_an_error_of_each_row(server: Server) -> None:
    found = answered(server, IRIS, flowers(5).drop_columns("sepal_width"))
    assert set(found["error"].to_pylist()) == {"field 'sepal_width' is missing"}
    found = answered(server, IRIS, flowers(2).set_column(1, "sepal_width", pa.array(["5.1", "a"])))
    assert found["error"].to_pylist() == ["field 'sepal_width' must be a number, not a string"] * 2


def test_the_summary_counts_errors(server: Server) -> None:
    body = body_of(flowers(5).drop_columns("sepal_width"))
    *_, (_, metadata) = batches_of(send(server, IRIS, body, "&summary=true").body)
    assert json.loads(metadata["last_line"])["summary"]["errors"] == 5


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_lines_refuse_rows_refuse_in_the_same_words(server: Server, data: st.DataObject) -> None:
    """Penguins takes numbers and texts, some of which may be absent."""
    usual = example(PENGUINS)
    values = {name: st.just(value) | st.none() for name, value in usual.items()}
    numbers = st.integers(-5, 5) | st.floats(width=32, allow_nan=False, allow_infinity=False)
    for name, value in usual.items():
        if not isinstance(value, str):
            values[name] |= numbers
        else:
            values[name] |= st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    absent = data.draw(st.sets(st.sampled_from(sorted(usual)), max_size=1))
    columns = st.fixed_dictionaries({name: value for name, value in values.items() if name not in absent})
    records = data.draw(st.lists(columns, min_size=1, max_size=20))
    records = [{**one, "yhat_id": str(i)} for i, one in enumerate(records)]
    kinds = {name: pa.string() if isinstance(value, str) else pa.float64() for name, value in usual.items()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in records[0]])
    check_like_lines(server, PENGUINS, records, pa.Table.from_pylist(records, schema), rows_of_a_batch=7)


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_row_that_kills_replicas_gets_one_error_and_its_mates_get_results(patient: Server, place: int) -> None:
    table = pa.table({"divisor": [-1 if i == place else 2 for i in range(8)], "yhat_id": range(8)})
    found = answered(patient, "tester/divide", table)
    assert found["code"].to_pylist() == ["model_failed" if i == place else None for i in range(8)]
    assert found["yhat_id"].to_pylist() == list(range(8))
    assert set(found["quotient"].to_pylist()) == {-(2**62), None}


def test_only_the_rows_on_which_the_model_raises_fail(patient: Server) -> None:
    table = pa.table({"place": [9 if i % 7 == 0 else i % 2 for i in range(64)], "yhat_id": range(64)})
    found = answered(patient, "tester/pick", table)
    assert [i for i, code in enumerate(found["code"].to_pylist()) if code] == list(range(0, 64, 7))


def test_a_row_that_is_too_long_is_an_error_of_its_row(server: Server) -> None:
    found = answered(server, "brandon/HelloWorld", pa.table({"name": ["a", "x" * (2 << 20), "b"]}))
    assert found["code"].to_pylist() == [None, "line_too_long", None]
    assert found["greeting"].to_pylist() == ["Hello a", None, "Hello b"]


# Types


@pytest.mark.parametrize(
    "kind",
    [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64(), pa.decimal128(10, 2), pa.decimal256(40, 3)],
    ids=str,
)
def test_numbers_of_every_type_are_numbers(server: Server, kind: pa.DataType) -> None:
    values = [5, 3, 1, 2]
    wanted = answered(server, IRIS, pa.table({name: [float(value)] for name, value in zip(MEASURES, values, strict=True)}))
    cells = [Decimal(value) if pa.types.is_decimal(kind) else value for value in values]
    given = pa.table({name: pa.array([cell]).cast(kind) for name, cell in zip(MEASURES, cells, strict=True)})
    assert answered(server, IRIS, given).drop_columns("yhat_id").equals(wanted.drop_columns("yhat_id"))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str)
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_texts_of_every_type_are_texts(server: Server, kind: pa.DataType, compression: str | None) -> None:
    names = ["Kermit", "Zoë 日本 🐸", "a name that is longer than twelve bytes", "Kermit"] * 10
    found = answered(server, "brandon/HelloWorld", pa.table({"name": pa.array(names).cast(kind)}), compression=compression)
    assert found["greeting"].to_pylist() == [f"Hello {name}" for name in names]


def greeted(server: Server, column: pa.Array) -> str:
    return str(answered(server, "brandon/HelloWorld", pa.table({"name": column}))["greeting"][0])


def test_times_are_texts_in_iso_8601_and_those_with_a_zone_in_utc(server: Server) -> None:
    moment = datetime(2026, 1, 7, 12, 30)
    assert greeted(server, pa.array([moment], pa.timestamp("s"))) == "Hello 2026-01-07T12:30:00"
    berlin = pa.array([moment], pa.timestamp("s")).cast(pa.timestamp("s", "Europe/Berlin"))
    assert greeted(server, berlin) == "Hello 2026-01-07T12:30:00Z"
    assert greeted(server, pa.array([moment.date()], pa.date32())) == "Hello 2026-01-07"


def test_a_categorical_of_polars_is_its_texts(server: Server) -> None:
    frame = pl.DataFrame({"name": pl.Series(["Kermit", "a name that is longer than twelve bytes", "Kermit"], dtype=pl.Categorical)})
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    done = send(server, "brandon/HelloWorld", sink.getvalue(), "&ordered=true")
    assert table_of(done.body)["greeting"].to_pylist() == [f"Hello {name}" for name in frame["name"]]


def test_a_dictionary_that_grows_or_changes_between_batches_is_followed(server: Server) -> None:
    sink = pa.BufferOutputStream()
    schema = pa.schema([("name", pa.dictionary(pa.int32(), pa.string()))])
    given = [["a", "b"], ["a", "b", "c"], ["x", "y"], ["x"]]
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as writer:
        for values in given:
            indices = pa.array(range(len(values)), pa.int32())
            writer.write_batch(pa.record_batch([pa.DictionaryArray.from_arrays(indices, values)], schema=schema))
    done = send(server, "brandon/HelloWorld", sink.getvalue().to_pybytes(), "&ordered=true")
    assert table_of(done.body)["greeting"].to_pylist() == [f"Hello {one}" for values in given for one in values]


def test_columns_that_the_model_does_not_read_may_have_any_type(server: Server) -> None:
    more = pa.array([{"a": [1]}, None], pa.struct([("a", pa.list_(pa.int8()))]))
    found = answered(server, IRIS, flowers(2, more=more, dates=pa.array([0, 1], pa.timestamp("ns", "Europe/Berlin"))))
    assert found["code"].null_count == 2


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (
            pa.array([[{"a": 1}]], pa.list_(pa.struct([("a", pa.int8())]))),
            "the column 'name' has the type list<item: struct<a: int8>>",
        ),
        (pa.array([1], pa.duration("s")), "the column 'name' has the type duration[s], which no model reads"),
        (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int16()), pa.array(["a"])), "the column 'name' has the type run_end"),
    ],
)
def test_types_that_no_model_reads_are_refused_before_a_row_is_scored(server: Server, column: pa.Array, told: str) -> None:
    done = send(server, "brandon/HelloWorld", body_of(pa.table({"name": column})))
    assert done.status == 400
    assert told in json.loads(done.body)["error"]


def test_a_column_that_comes_twice_is_refused(server: Server) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["name", "name"])
    done = send(server, "brandon/HelloWorld", body_of(table))
    assert (done.status, done.body) == (400, b'{"error":"the column \'name\' comes twice"}')


# Forms: what goes in and what comes out


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/html, application/json;q=0.9"])
def test_rows_are_answered_by_lines_where_accept_asks_for_lines(server: Server, accept: str) -> None:
    table = flowers(3000)
    found = answered(server, IRIS, table)["label"].to_pylist()
    done = send(server, IRIS, body_of(table, 500), "&ordered=true&summary=true", "-H", f"Accept: {accept}")
    *lines, last = done.lines
    assert [line["result"]["label"] for line in lines] == found
    assert [line["yhat_id"] for line in lines] == list(range(3000))
    assert last["summary"]["records"] == 3000
    refused = send(server, IRIS, body_of(table.drop_columns("sepal_width").slice(0, 2)), "&ordered=true", "-H", f"Accept: {accept}")
    assert [(line["code"], line["line"]) for line in refused.lines] == [("missing_field", 1), ("missing_field", 2)]


def test_lines_are_not_answered_by_rows(server: Server) -> None:
    done = bulk(server, IRIS, b"{}\n", "", "-H", f"Accept: {ARROW}")
    assert done.status == 406
    assert json.loads(done.body)["error"].startswith("lines are answered by lines; to get record batches, send record batches")


def test_vectors_come_as_vectors_and_not_as_base64(server: Server) -> None:
    model, table = "sluice/all-MiniLM-L6-v2", pa.table({"text": ["How old are you?", "guten Morgen"]})
    if not (ROOT / "models" / model / "1" / "model.onnx").exists():
        pytest.skip("the embedding model is not fetched")
    found = answered(server, model, table, "&ordered=true&dimensions=64")
    assert [str(kind) for kind in found.schema.types[1:4]] == ["fixed_size_list<item: float>[64]", "int32", "bool"]
    lines = bulk(server, model, ndjson({"text": text} for text in table["text"].to_pylist()), "&ordered=true&dimensions=64").lines
    for line, vector in zip(lines, found["embedding"].to_pylist(), strict=True):
        assert sum(a * b for a, b in zip(line["result"]["embedding"], vector, strict=True)) == pytest.approx(1, abs=1e-5)
    done = send(server, model, body_of(table), "&encoding_format=base64")
    assert (done.status, json.loads(done.body)["error"][:24]) == (400, "encoding_format=base64 i")


def test_credentials_are_asked_for_before_the_body(server: Server) -> None:
    done = curl(f"{server.model(IRIS)}/?bulk=true", "--data-binary", "@-", "-H", f"Content-Type: {ARROW}", data=body_of(flowers(3)))
    assert done.status == 401


def test_a_gzipped_body_is_taken(server: Server) -> None:
    done = send(server, IRIS, gzip.compress(body_of(flowers(500))), "", "-H", "Content-Encoding: gzip")
    assert table_of(done.body).num_rows == 500


# Tools


def test_polars_writes_and_reads_streams(server: Server) -> None:
    frame = pl.DataFrame({name: [5.1, 3.3, 1.2] for name in MEASURES} | {"yhat_id": ["a", "b", "c"], "kind": ["x", "y", "x"]})
    body = io.BytesIO()
    frame.with_columns(pl.col("kind").cast(pl.Categorical)).write_ipc_stream(body)
    done = send(server, IRIS, body.getvalue(), "&ordered=true&summary=true")
    found = pl.read_ipc_stream(io.BytesIO(done.body))
    assert found["yhat_id"].to_list() == ["a", "b", "c"]
    assert found["probabilities"].dtype == pl.Array(pl.Float32, 3)


def test_duckdb_writes_and_reads_streams(server: Server) -> None:
    columns = ", ".join(f"(i % 50) / 10 AS {name}" for name in MEASURES)
    table = duckdb.sql(f"SELECT {columns}, i AS yhat_id FROM range(5000) AS t(i)").to_arrow_table()
    scored = duckdb.from_arrow(answered(server, IRIS, table))
    assert scored.aggregate("count(DISTINCT yhat_id), count(label), count(code)").fetchall() == [(5000, 5000, 0)]
