"""Files of JSON: lines, arrays, and arrays in a field."""

import json

import pytest

from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import front_matter, json_lines

ROWS = [{"a": i, "b": f"t{i}", "c": [i, {"d": ']}\\"'}]} for i in range(250)]


def test_keys_are_united_over_rows_and_a_missing_one_is_null(datasets: Datasets) -> None:
    datasets.lay("d", {"a.jsonl": '{"a": 1}\n\n  \n{"b": "x", "a": null}\n'})
    assert datasets.rows("d").rows == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 3: "),
        ("5", "line 3: it is not an object"),
        ("[1]", "line 3: it is not an object"),
        ('{"a": 1} {"a": 2}', "line 3: Extra data"),
        ('{"a": tru}', "line 3: Expecting value (byte 7)"),
    ],
)
def test_a_bad_line_is_told_with_its_number(datasets: Datasets, line: str, message: str) -> None:
    datasets.lay("d", {"a.jsonl": f'{{"a": 1}}\n\n{line}\n'})
    failure = datasets.failure("d")
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "JSONDecodeError")
    assert failure["cause_message"].startswith(message)


def test_nan_huge_integers_bad_bytes_and_half_characters_are_no_errors(datasets: Datasets) -> None:
    line = (
        b'{"a": NaN, "b": 1180591620717411303424, "c": "\xe9", "d": "\\ud800", "e": [1e400, -Infinity, 1180591620717411303424]}\n'
    )
    datasets.lay("d", {"a.jsonl": line})
    row = {"a": None, "b": "1180591620717411303424", "c": "\ufffd", "d": "\ufffd", "e": [None, None, "1180591620717411303424"]}
    assert datasets.rows("d").rows == [row]
    assert datasets.prepare("d").rows() == [row]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"about": {"x": [1]}, "rows": ROWS, "version": 3}),
        "\ufeff" + json.dumps({"rows": ROWS}, indent=1),
        json_lines(ROWS),
        json_lines(ROWS) + "\n",
    ],
    ids=["array", "indented", "field", "bom", "lines", "lines and blank"],
)
def test_json_is_an_array_or_has_one_or_is_lines(datasets: Datasets, text: str) -> None:
    datasets.lay("lines", {"a.jsonl": json_lines(ROWS)})
    datasets.lay("d", {"a.json": text})
    assert datasets.rows("d").rows == datasets.rows("lines").rows
    assert datasets.prepare("d").rows() == ROWS


def test_the_field_with_the_array_can_be_declared(datasets: Datasets) -> None:
    readme = front_matter("configs:\n- data_files: a.json\n  field: second")
    text = json.dumps({"first": [{"a": 1}], "second": [{"a": 2}]})
    datasets.lay("d", {"README.md": readme, "a.json": text})
    assert datasets.rows("d").rows == [{"a": 2}]
    datasets.lay("two", {"a.json": text})
    assert "declare one of them as `field`" in datasets.failure("two")["cause_message"]


@pytest.mark.parametrize("text", ["[]", "", "  \n", '{"rows": []}'])
def test_no_items_are_no_rows(datasets: Datasets, text: str) -> None:
    datasets.lay("d", {"a.json": text})
    assert datasets.rows("d").rows == []


def test_one_object_without_an_array_is_one_row(datasets: Datasets) -> None:
    datasets.lay("d", {"a.json": '{"a": 1}'})
    assert datasets.rows("d").rows == [{"a": 1}]


@pytest.mark.parametrize(
    "text", ['[{"a": 1}', '[{"a": 1},', '[{"a": 1} {"a": 2}]', "[5]", '"x"', '{"a": [}', "{5: 6}", "[1, 2", "[{]}]", "]"]
)
def test_broken_json_is_an_error(datasets: Datasets, text: str) -> None:
    datasets.lay("d", {"a.json": text})
    failure = datasets.failure("d")
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "JSONDecodeError")


def test_items_longer_than_a_window_are_read(datasets: Datasets) -> None:
    rows = [{"a": "x" * 700_000}, {"a": 'y"]' * 300_000}, {"a": "z"}]
    datasets.lay("d", {"a.json": json.dumps(rows)})
    assert datasets.prepare("d").told["numbers"]["num_examples"] == 3
    assert datasets.rows("d").column("a")[0][:3] == "xxx"


def test_values_nested_deeply_are_shown_as_their_text(datasets: Datasets) -> None:
    deep, deeper, fine = "[" * 100 + "]" * 100, '{"a":' * 5000 + "1" + "}" * 5000, "[" * 64 + "]" * 64
    datasets.lay("d", {"a.jsonl": f'{{"k": 1, "a": {deep}, "b": {deeper}, "c": {fine}}}\n'})
    [row] = datasets.rows("d", limits={"rows_max_bytes": 10_000_000}).rows
    assert (row["k"], row["a"], row["b"], row["c"]) == (1, deep, deeper, json.loads(fine))
    assert datasets.prepare("d").rows()[0]["a"] == deep


def test_text_has_a_row_for_each_line(datasets: Datasets) -> None:
    datasets.lay("d", {"a.txt": b"\xef\xbb\xbfone\r\n\n\xe9two"})
    assert datasets.rows("d").rows == [{"text": "one"}, {"text": ""}, {"text": "\ufffdtwo"}]
    assert datasets.rows("d").types == {"text": "STRING"}
