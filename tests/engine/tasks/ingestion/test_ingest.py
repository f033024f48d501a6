"""What goes in as lines comes out of the Source of segments.py with the same values, or is refused with its line and column."""

import base64
import contextlib
import json
import math
import struct
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.tasks.ingestion.uploads import Dataset, Refusal, Staged, ask, refusal, vector_of

WORDS = ("alpha", "beta", "gamma")


def packed(numbers: list[float]) -> dict[str, str]:
    return {"b64": base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode(), "dtype": "f32"}


# Types that are found


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([True, False, None], "bool"),
        ([1, -(2**63), 2**63 - 1, None], "int64"),
        ([1, 2.5, None], "float64"),
        ([1e300, -0.0], "float64"),
        (["", "ä\u0000b", "😀", None], "string"),
        ([[1, None], [], None], "list<int64>"),
        ([[1.5, 2], [1]], "list<float64>"),
        ([["a"], ["b", "c"]], "list<string>"),
        ([[True]], "list<bool>"),
        ([[1, 2]] * 2, "list<int64>"),
        ([list(range(8)), [0.5] * 8, None], "vector(8)"),
        ([packed([1, 2, 3]), None, [4, 5, 6]], "vector(3)"),
        ([{"b64": packed([1, 2, 3])["b64"]}], "vector(3)"),
        ([list(range(8)), list(range(9))], "list<int64>"),
        ([list(range(7)), None], "list<int64>"),
        ([[*range(8), None]], "list<int64>"),
        ([{"a": {"b": [1, None, "x"]}}, None], "json"),
        ([[1, "a"], [[1], [2]]], "json"),
        ([[[1, 2], [3, 4]]], "json"),
        ([{"b64": "AAAA", "dtype": "f64"}], "json"),
        ([1, "a", True, [1], {"a": 1}], "json"),
        ([None, None], "json"),
        ([[], []], "json"),
    ],
)
def test_the_values_decide_the_type_and_come_out_as_they_went_in(dataset: Dataset, values: list[Any], dtype: str) -> None:
    dataset.upload([{"x": value} for value in values])
    expected = [struct.unpack("<3f", base64.b64decode(v["b64"])) if dtype == "vector(3)" and type(v) is dict else v for v in values]
    assert dataset.types == {"x": dtype}
    assert dataset.column("x") == [list(v) if type(v) is tuple else v for v in expected]
    assert dataset.columns[0]["nulls"] == values.count(None)


def test_a_missing_key_is_null_and_columns_stand_as_they_first_appear(dataset: Dataset) -> None:
    dataset.upload(b'{"b": 1}\n{"a": "x", "b": null}\n\n  \r\n{"c": true}')
    assert dataset.rows == [{"b": 1, "a": None, "c": None}, {"b": None, "a": "x", "c": None}, {"b": None, "a": None, "c": True}]


def test_an_empty_body_has_the_columns_that_were_asked_for_and_no_segment(dataset: Dataset) -> None:
    dataset.upload(b"", types={"n": "int64"}, class_labels=["genre"])
    assert dataset.types == {"n": "int64", "genre": "class"}
    assert dataset.segments == []
    dataset.upload([{"genre": "news", "n": 1}])
    assert dataset.rows == [{"n": 1, "genre": "news"}]


def test_rows_without_fields_are_rows(dataset: Dataset) -> None:
    dataset.upload([{}, {}], types={"x": "bool"})
    assert dataset.rows == [{"x": None}] * 2


def test_types_come_from_the_first_thousand_rows_and_a_null_column_waits_for_its_first_value(dataset: Dataset) -> None:
    rows = [{"a": 1, "late": None} for _ in range(1000)] + [{"a": 2, "late": "x", "later": [1]}]
    dataset.upload(rows)
    assert dataset.types == {"a": "int64", "late": "string", "later": "list<int64>"}
    assert refusal(dataset, [{"new": 1}] * 1000 + [{"new": "x"}])["line"] == 1001


def test_rows_of_which_none_has_a_field_are_refused(dataset: Dataset) -> None:
    assert refusal(dataset, b"\n{}\n{}\n")["line"] == 2


def test_a_byte_order_mark_before_the_first_line_is_no_fault(dataset: Dataset) -> None:
    dataset.upload(b'\xef\xbb\xbf{"a": 1}\n')
    assert dataset.rows == [{"a": 1}]


def test_the_last_of_equal_keys_counts(dataset: Dataset) -> None:
    dataset.upload(b'{"a": 1, "a": 2}\n')
    assert dataset.rows == [{"a": 2}]


# Types that are asked for


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-23T05:00:00Z", datetime(2026, 11, 23, 5, tzinfo=UTC)),
        ("2026-11-23t05:00:00.5z", datetime(2026, 11, 23, 5, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-23 05:00:00+02:00", datetime(2026, 11, 23, 3, tzinfo=UTC)),
        ("2026-11-23T05:00:00.123456789-00:30", datetime(2026, 11, 23, 5, 30, 0, 123_456, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_of_rfc_3339_becomes_its_instant_in_utc(dataset: Dataset, text: str, instant: datetime) -> None:
    dataset.upload([{"t": text}, {"t": None}], types={"t": "timestamp"})
    assert dataset.column("t") == [instant, None]


INSTANTS = st.datetimes(
    datetime(2, 1, 1),
    datetime(9998, 12, 31),
    timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
        lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
    ),
)


@settings(max_examples=25, deadline=None)
@given(instants=st.lists(st.none() | INSTANTS, min_size=1, max_size=5), is_careful=st.booleans())
def test_any_instant_comes_out_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, instants: list[datetime | None], is_careful: bool
) -> None:
    dataset = Dataset(tmp_path_factory.mktemp("dataset"))
    texts = [None if one is None else one.isoformat() for one in instants]
    if is_careful:  # one small letter is enough to have all of them read one by one
        texts.append("2026-11-23t05:00:00Z")
    dataset.upload([{"t": text} for text in texts], types={"t": "timestamp"})
    assert dataset.column("t")[: len(instants)] == instants


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-23",
        "2026-11-23T05:00:00",
        "2026-02-30T05:00:00Z",
        "2026-11-23T05:00:60Z",
        "2026-11-23T05:00:00+25:00",
        "0001-01-01T00:00:00+10:00",
        "9999-12-31T23:59:59-23:59",
        "2026-11-23T05:00Z",
        "２０２６-11-23T05:00:00Z",
        1_700_000_000,
    ],
)
def test_what_is_no_time_of_rfc_3339_is_refused(dataset: Dataset, value: Any) -> None:
    report = refusal(dataset, [{"t": "2026-11-23T05:00:00Z"}, {"t": value}], types={"t": "timestamp"})
    assert (report["code"], report["line"], report["column"]) == ("bad_row", 2, "t")


def test_a_time_is_a_string_unless_asked_for(dataset: Dataset) -> None:
    dataset.upload([{"t": "2026-11-23T05:00:00Z"}])
    assert dataset.types == {"t": "string"}


def test_dates_bytes_and_json_are_there_when_asked_for(dataset: Dataset) -> None:
    types = {"d": "date", "b": "bytes", "j": "json", "f": "float64", "v": "vector(2)", "l": "list<float64>"}
    dataset.upload([{"d": "2024-02-29", "b": "AP8=", "j": 1, "f": 2**70, "v": [1, 2], "l": [1]}, {"j": "x"}], types=types)
    first = {"d": date(2024, 2, 29), "b": b"\x00\xff", "j": 1, "f": float(2**70), "v": [1.0, 2.0], "l": [1.0]}
    assert dataset.types == types
    assert dataset.rows == [first, dict.fromkeys(first) | {"j": "x"}]


def test_labels_are_numbered_as_they_appear_and_appends_add_to_them(dataset: Dataset) -> None:
    dataset.upload([{"g": "news"}, {"g": None}, {"g": "fiction"}], [{"g": "news"}, {"g": ""}], class_labels=["g"])
    dataset.upload([{"g": "poem"}, {"g": "fiction"}])
    assert dataset.infos[0].names == ("news", "fiction", "", "poem")
    assert dataset.source.table["c0"].to_pylist() == [0, None, 1, 0, 2, 3, 1]


def test_the_label_too_many_is_refused_with_its_line(dataset: Dataset) -> None:
    rows = [{"g": str(i)} for i in range(1000)]
    dataset.upload(rows, class_labels=["g"])
    report = refusal(dataset, [{"g": "7"}], [{"g": "8"}, {"g": "one more"}])
    assert (report["code"], report["line"], report["column"]) == ("bad_row", 3, "g")


# Widening


def test_integers_widen_to_floats_across_blocks_in_both_directions(dataset: Dataset) -> None:
    dataset.upload([{"a": 1, "b": [1]}], [{"a": 2.5, "b": [0.5, 1]}], [{"a": 3, "b": [2, None]}])
    assert dataset.types == {"a": "float64", "b": "list<float64>"}
    assert dataset.rows == [{"a": 1.0, "b": [1.0]}, {"a": 2.5, "b": [0.5, 1.0]}, {"a": 3.0, "b": [2.0, None]}]


@pytest.mark.parametrize("types", [{"a": "int64"}, {}])
def test_integers_do_not_widen_where_the_type_was_asked_for_or_stands_in_the_dataset(dataset: Dataset, types: Any) -> None:
    dataset.upload([{"a": 1}], types=types)
    report = refusal(dataset, [{"a": 1}, {"a": 1.5}])
    assert report == {"code": "bad_row", "message": '"a" is a float, the column has int64.', "line": 2, "column": "a"}


def test_an_integer_fits_a_column_of_floats(dataset: Dataset) -> None:
    dataset.upload([{"a": 1.5}], [{"a": 2**60}])
    assert dataset.column("a") == [1.5, float(2**60)]


# Vectors from texts, and words


EMBED = [{"source": "text", "column": "embedding", "model": "m", "dim": 4}]


def test_texts_become_vectors_behind_their_column_in_this_upload_and_in_appends(dataset: Dataset) -> None:
    dataset.upload([{"text": "abc", "n": 1}, {"text": None, "n": 2}], [{"n": 3}, {"text": 'quoted "ä"\n', "n": 4}], embed=EMBED)
    dataset.upload([{"text": "x"}], [{"n": 5}], [{"text": None}])
    assert [(info.name, info.dim, info.source, info.model) for info in dataset.infos] == [
        ("text", 0, None, None),
        ("embedding", 4, "text", "m"),
        ("n", 0, None, None),
    ]
    texts = dataset.column("text")
    assert dataset.column("embedding") == [None if text is None else vector_of(text, 4) for text in texts]
    assert texts == ["abc", None, None, 'quoted "ä"\n', "x", None, None]


def test_skipped_rows_have_no_text_to_embed(dataset: Dataset) -> None:
    dataset.upload(
        b'{"text": "a", "n": 1}\n{"text": "bb", "n": "x"}\n{"text": "ccc", "n": 2}\n',
        embed=EMBED,
        types={"n": "int64"},
        on_error="skip",
    )
    assert dataset.column("embedding") == [vector_of("a", 4), vector_of("ccc", 4)]


def test_rows_cannot_bring_a_vector_that_is_computed(dataset: Dataset) -> None:
    report = refusal(dataset, [{"text": "a", "embedding": [1, 2, 3, 4]}], embed=EMBED)
    assert (report["line"], report["column"]) == (1, "embedding")


def test_a_text_to_embed_or_to_index_is_a_string(dataset: Dataset) -> None:
    assert refusal(dataset, [{"text": 1}], embed=EMBED)["column"] == "text"
    assert refusal(dataset, [{"text": 1}], words=["text"])["column"] == "text"


def test_vectors_may_come_as_the_base64_that_models_give(dataset: Dataset, tmp_path: Path) -> None:
    numbers = [1.5, -2.0, 0.0, 3.0]
    line = json.dumps(packed(numbers)["b64"]).encode() + b"\n"
    staged = Staged(tmp_path / "staged")
    where = {"staging": str(staged.folder), "number": 0}
    options = {"embed": EMBED}
    told, data = ask(
        "ingest", b'{"text": "a"}\n{}\n{"text": "b"}\n', **where, first_line=1, schema=None, existing=[], options=options
    )
    assert data == b'"a"\n"b"\n'
    ask("vectors", line * 2, **where, column=told["texts"][0]["column"], dim=4, lines=2, form="base64")
    sealed, _ = ask("seal", staging=where["staging"], blocks=[0], schema=told["schema"], existing=[])
    dataset.take(staged.folder, sealed)
    assert dataset.column("embedding") == [numbers, None, numbers]


# Anything


JSON_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
JSON = st.recursive(
    JSON_SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)
COLUMNS = st.sampled_from(
    [
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        st.lists(st.text(), max_size=3),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=9, max_size=9),
        st.dictionaries(st.text(), JSON, max_size=3),
        st.lists(JSON, max_size=3),
    ]
)
NAMES = st.text(min_size=1, max_size=50)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows whose columns have one type each; any value may be null, any key missing."""
    columns = draw(st.dictionaries(NAMES, COLUMNS, min_size=1, max_size=5))
    row = st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in columns.items()})
    return draw(st.lists(row, min_size=1, max_size=6).filter(any))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=tables(), appended=st.booleans())
def test_any_rows_come_out_equal_by_value(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], appended: bool
) -> None:
    dataset = Dataset(tmp_path_factory.mktemp("dataset"))
    dataset.upload(rows)
    if appended:
        dataset.upload(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    expected = [{name: row.get(name) for name in names} for row in rows] * (2 if appended else 1)
    assert same(dataset.rows, expected)


def same(got: Any, expected: Any) -> bool:
    """Equal by value, with -0.0 and booleans told apart from 0.0 and integers."""
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(same(got[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(expected, float):
        return got == expected and math.copysign(1, got) == math.copysign(1, expected)
    return got == expected and isinstance(got, bool) == isinstance(expected, bool)


def read(line: bytes) -> Any:
    """What a line of JSON says; None for any other line."""
    with contextlib.suppress(ValueError):
        return json.loads(line)
    return None


@settings(max_examples=25, deadline=None)
@given(
    raw=st.binary(max_size=200)
    | st.text(alphabet='{}[]":,\\ntrue0123456789.eE-+ \r\n\ud800', max_size=200).map(lambda text: text.encode(errors="replace"))
)
def test_any_bytes_are_rows_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    dataset = Dataset(tmp_path_factory.mktemp("dataset"))
    try:
        told = dataset.upload(raw, on_error="skip")
    except Refusal:
        with pytest.raises(Refusal, match=r"None of the first lines has a field\."):  # rows such as `{}` make no dataset
            Dataset(tmp_path_factory.mktemp("dataset")).upload(raw, on_error="skip")
        assert not any(isinstance(row, dict) and row for row in map(read, raw.split(b"\n")))
        return
    assert len(dataset.rows if dataset.columns else []) <= raw.count(b"\n") + 1
    assert all(error["line"] <= raw.count(b"\n") + 1 for error in told["errors"])
