"""Rows that are refused or skipped, limits, and options that do not fit the dataset."""

from typing import Any

import pytest

from engine.tasks.ingestion import ingest
from tests.engine.tasks.ingestion.uploads import Dataset, lines, refusal

# Bad rows


@pytest.mark.parametrize(
    ("line", "column"),
    [
        (b"no json", None),
        (b"[1]", None),
        (b"null", None),
        (b'{"n": 1} {"n": 2}', None),
        (b'{"n": 1}, {"n": 2}', None),
        (b'{"n": 1', None),
        (b'{"f": NaN}', None),
        (b'{"f": 1e999}', None),
        (b'{"f": -Infinity}', None),
        (b'{"s": "\\ud800"}', None),
        (b'{"s": "\xff"}', None),
        (b'{"j": ' + b"[" * 5000 + b"]" * 5000 + b"}", None),
        (b'{"j": ' + b"[" * 300 + b"]" * 300 + b"}", "j"),
        (b'{"n": ' + b"9" * 5000 + b"}", None),
        (b'{"n": 9223372036854775808}', "n"),
        (b'{"n": 100000000000000000000}', "n"),
        (b'{"n": -9223372036854775809}', "n"),
        (b'{"n": true}', "n"),
        (b'{"n": "1"}', "n"),
        (b'{"f": false}', "f"),
        (b'{"b": 0}', "b"),
        (b'{"s": 1}', "s"),
        (b'{"v": [1, 2, 3]}', "v"),
        (b'{"v": [1, 2, 3, 4, 5, 6, 7, 1e39]}', "v"),
        (b'{"v": [1, 2, 3, 4, 5, 6, 7, null]}', "v"),
        (b'{"v": [1, 2, 3, 4, 5, 6, 7, true]}', "v"),
        (b'{"v": [1, 2, 3, 4, 5, 6, 7, "8"]}', "v"),
        (b'{"v": {"b64": "AAAA", "dtype": "f32"}}', "v"),
        (b'{"v": {"b64": "AACAfw==", "dtype": "f32"}}', "v"),
        (b'{"v": "x"}', "v"),
        (b'{"l": [1, "a"]}', "l"),
        (b'{"l": 1}', "l"),
        (b'{"l": [9223372036854775808]}', "l"),
        (b'{"unknown": 1}', "unknown"),
        (b'{"": 1}', ""),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_a_bad_row_is_refused_with_its_line_and_column_or_skipped(dataset: Dataset, line: bytes, column: str | None) -> None:
    first = {"n": 1, "f": 1.5, "b": True, "s": "x", "j": {}, "v": [0.5] * 8, "l": [1]}
    body = lines([first]) + b"\n" + line + b"\n" + lines([first])
    report = refusal(dataset, lines([first]), body)
    assert (report["code"], report["line"], report["column"]) == ("bad_row", 4, column)
    assert len(report["message"]) < 250
    told = dataset.upload(lines([first]), body, on_error="skip")
    assert told == {"skipped": 1, "errors": [{"line": 4, "message": report["message"]}]}
    assert dataset.rows == [first] * 3


def test_the_first_bad_line_of_a_block_is_the_one_that_is_named(dataset: Dataset) -> None:
    body = lines([{"n": 1}, {"n": 2}]) + b'{"n": "x"}\nno json\n'
    dataset.upload([{"n": 1}])
    assert refusal(dataset, body)["line"] == 3
    assert refusal(dataset, b"no json\n" + body)["line"] == 1


def test_twenty_skipped_lines_are_told_in_order_and_the_rest_counted(dataset: Dataset) -> None:
    told = dataset.upload(b'{"a": 1}\n' + b'x\n{"a": 2}\n{"a": "x"}\n' * 20, types={"a": "int64"}, on_error="skip")
    assert told["skipped"] == 40
    assert [error["line"] for error in told["errors"]] == [n for i in range(10) for n in (2 + 3 * i, 4 + 3 * i)]
    assert dataset.column("a") == [1] + [2] * 20


def test_integers_of_any_size_are_kept_inside_json(dataset: Dataset) -> None:
    dataset.upload(b'{"j": {"n": 123456789012345678901234567890, "m": -9223372036854775809}}\n')
    assert dataset.column("j") == [{"n": 123456789012345678901234567890, "m": -9223372036854775809}]


# Limits


def test_a_dataset_has_a_thousand_columns(dataset: Dataset) -> None:
    row = {f"c{i}": i for i in range(1000)}
    dataset.upload([row])
    assert dataset.rows == [row]
    assert refusal(dataset, [row, row | {"one more": 1}])["column"] == "one more"


def test_lines_with_names_of_their_own_cost_no_more_than_their_bytes(dataset: Dataset) -> None:
    num_rows = 20_000  # a list of all rows for each of their names would take 3 GB
    told = dataset.upload([{f"field {i}": i} for i in range(num_rows)], on_error="skip")
    assert told["skipped"] == num_rows - 1000
    assert [error["line"] for error in told["errors"]] == list(range(1001, 1021))
    assert dataset.source.table["c999"].to_pylist() == [None] * 999 + [999]


def test_fields_that_few_lines_have_keep_their_rows_types_and_faults(dataset: Dataset) -> None:
    rows: list[dict[str, Any]] = [{"id": i} for i in range(100)]
    rows[3] |= {"a": 1, "v": [0.5] * 8, "s": "x", "g": "news", "null": None}
    rows[70] |= {"a": 2.5, "v": [1.5] * 8, "s": "y", "g": "news"}
    rows[80]["g"] = "poem"
    dataset.upload(rows, class_labels=["g"])
    names = ["id", "a", "v", "s", "g", "null"]
    assert dataset.rows == [{name: row.get(name) for name in names} for row in rows]
    rows[50]["s"] = 5
    report = refusal(dataset, rows)
    assert (report["line"], report["column"]) == (51, "s")


def test_lines_that_would_fill_the_memory_with_nulls_are_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MAX_CELLS", 1000)
    report = refusal(dataset, b"\n" + lines({str(i): i} for i in range(50)))
    assert (report["code"], report["line"]) == ("bad_row", 2)


def test_a_block_need_not_bring_all_columns(dataset: Dataset) -> None:
    dataset.upload([{"a": 1, "g": "x", "b": [1]}], [{"b": [0.5]}, {}], [{"g": "y", "a": 2.5}], class_labels=["g"])
    assert dataset.column("a") == [1.0, None, None, 2.5]
    assert dataset.column("b") == [[1.0], [0.5], None, None]
    assert dataset.column("g") == ["x", None, None, "y"]


def test_a_fraction_of_many_digits_is_no_long_integer(dataset: Dataset) -> None:
    dataset.upload(b'{"x": 0.00012345678901234567890}\n{"x": -0.00012345678901234567890}\n')
    assert dataset.column("x") == [0.00012345678901234567, -0.00012345678901234567]


def test_a_name_has_1_to_200_bytes_and_may_hold_anything(dataset: Dataset) -> None:
    row = {"é" * 100: 1, "a.b": 2, "a": 3, "../x": 4, 'q"\n\u0000': 5, "line": 6, "c0": 7, "A": 8}
    dataset.upload([row])
    assert dataset.rows == [row]
    assert refusal(dataset, [{"é" * 100 + "a": 1}])["line"] == 1
    assert refusal(dataset, [{"": 1}])["column"] == ""


# Options against the dataset


@pytest.mark.parametrize(
    "options",
    [
        {"types": {"n": "string"}},
        {"types": {"n": "int32"}},
        {"types": {"x": "vector(0)"}},
        {"types": {"x": "list<json>"}},
        {"types": {"": "int64"}},
        {"class_labels": ["n"]},
        {"class_labels": ["x"], "types": {"x": "string"}},
        {"words": ["n"]},
        {"words": ["s"]},
        {"embed": [{"source": "n", "column": "e", "model": "m", "dim": 3}]},
        {"embed": [{"source": "s", "column": "n", "model": "m", "dim": 3}]},
        {"embed": [{"source": "s", "column": "v", "model": "m", "dim": 8}]},
        {"embed": [{"source": "s", "column": "e", "model": "m", "dim": 3}, {"source": "s", "column": "e", "model": "k", "dim": 3}]},
    ],
)
def test_options_that_contradict_the_dataset_or_each_other_are_refused(dataset: Dataset, options: dict[str, Any]) -> None:
    dataset.upload([{"n": 1, "s": "x", "v": [0.5] * 8}])
    assert refusal(dataset, [{"n": 1}], **options)["code"] == "invalid_parameter"
