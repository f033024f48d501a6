"""Types of columns, and how their cells are shown."""

import datetime
import decimal
import json
from typing import Any

import pyarrow as pa
import pytest

from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import front_matter, json_lines, parquet, picture, wav

GREY = [[0, 255], [7, 8]]
RGB = [[[0, 255, 1], [2, 3, 4]]]


@pytest.mark.parametrize(
    ("values", "kind", "shown"),
    [
        ([True, None, False], "BOOL", [True, None, False]),
        ([1, None, 2**40], "INT", [1, None, 2**40]),
        ([1, 2.5], "FLOAT", [1.0, 2.5]),
        (["a", None, ""], "STRING", ["a", None, ""]),
        ([2**70, 1], "STRING", [str(2**70), "1"]),
        ([None, None], "JSON", [None, None]),
        ([1, "a"], "JSON", [1, "a"]),
        ([True, 1], "JSON", [True, 1]),
        ([[1, 2], []], "JSON", [[1, 2], []]),
        ([[1, "a"], [None]], "JSON", [[1, "a"], [None]]),
        ([{"x": {"y": 1}}, {}], "JSON", [{"x": {"y": 1}}, {}]),
        ([2**70, 1.5], "JSON", [str(2**70), 1.5]),
    ],
    ids=str,
)
def test_types_come_from_values(datasets: Datasets, values: list[Any], kind: str, shown: list[Any]) -> None:
    datasets.lay("d", {"a.jsonl": json_lines([{"a": value} for value in values])})
    answer = datasets.rows("d")
    assert (answer.types, answer.column("a")) == ({"a": kind}, shown)
    assert [row["a"] for row in datasets.prepare("d").rows()] == shown


def test_one_wide_file_has_all_of_them(datasets: Datasets) -> None:
    row = {
        **{"b": True, "i": 1, "f": 0.5, "t": "x", "n": None, "l": [1, 2], "d": {"k": [1]}, "image_url": "http://h/x.png"},
        **{"image": GREY, "img": RGB, "p": 2**40, "q": 2**70},
    }
    datasets.lay("d", {"a.jsonl": json_lines([row])})
    shown = datasets.rows("d")
    assert shown.types == {
        **{"b": "BOOL", "i": "INT", "f": "FLOAT", "t": "STRING", "n": "JSON", "l": "JSON", "d": "JSON", "image_url": "IMAGE_URL"},
        **{"image": "RELATIVE_IMAGE_URL", "img": "RELATIVE_IMAGE_URL", "p": "INT", "q": "STRING"},
    }
    [cells] = shown.rows
    assert cells["image"] == "assets/d/--/default/train/0/image/image.jpg"
    assert cells["img"] == "assets/d/--/default/train/0/img/image.jpg"
    assert {key: cells[key] for key in ("image_url", "p", "q", "l", "d", "n")} == {
        **{"image_url": "http://h/x.png", "p": 2**40, "q": str(2**70), "l": [1, 2], "d": {"k": [1]}, "n": None},
    }
    features = {one["name"]: one["type"] for one in shown.modern["features"]}
    assert features["l"] == {"_type": "List", "feature": {"dtype": "int64", "_type": "Value"}}
    assert features["d"] == {"k": {"_type": "List", "feature": {"dtype": "int64", "_type": "Value"}}}
    assert features["img"] == {"_type": "Image"}
    assert datasets.prepare("d").page()[1]["rows"] == shown.modern["rows"]


@pytest.mark.parametrize("matrix", [[[256]], [[-1]], [[0.5]], [[True]], [[1], [1, 2]], [[]], [], [1, 2], [[[1]]], "x"], ids=str)
def test_lists_that_are_no_bytes_are_no_picture(datasets: Datasets, matrix: Any) -> None:
    datasets.lay("d", {"a.jsonl": json_lines([{"image": matrix}])})
    assert datasets.rows("d").types["image"] in ("JSON", "STRING")


ARROW = pa.table(
    {
        "u8": pa.array([1, None], pa.uint8()),
        "u64": pa.array([2**64 - 1, 0], pa.uint64()),
        "f16": pa.array([0.5, None], pa.float16()),
        "f32": pa.array([0.5, float("nan")], pa.float32()),
        "flag": [True, None],
        "text": pa.array(["x", None], pa.large_string()),
        "word": pa.array(["x", None]).dictionary_encode(),
        "raw": [b"\x00\xff", None],
        "day": [datetime.date(2020, 1, 2), None],
        "at": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5), None], pa.timestamp("ns")),
        "utc": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5, 6), None], pa.timestamp("us", "UTC")),
        "here": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5), None], pa.timestamp("s", "Europe/Paris")),
        "clock": [datetime.time(1, 2, 3), None],
        "span": [datetime.timedelta(days=1, seconds=2), None],
        "money": [decimal.Decimal("1.20"), None],
        "list": [[1, None], None],
        "floats": pa.array([[0.5], [1]], pa.list_(pa.float32(), 1)),
        "struct": [{"a": 1, "b.c": [b"x"]}, None],
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "far": pa.array([2**60, None], pa.timestamp("us")),
        "nothing": pa.nulls(2),
        "moments": pa.array([[1_000_000_000], [2]], pa.list_(pa.timestamp("ns"), 1)),
        "named": pa.array([[("k", 1_000_000_000)], None], pa.map_(pa.string(), pa.timestamp("ns"))),
        "dot.ted": [1, 2],
    }
)
SHOWN = {
    **{"u8": 1, "u64": 2**64 - 1, "f16": 0.5, "f32": 0.5, "flag": True, "text": "x", "word": "x", "raw": "AP8="},
    **{"day": "2020-01-02", "at": "2020-01-02T03:04:05", "utc": "2020-01-02T03:04:05.000006+00:00"},
    **{"here": "2020-01-02T04:04:05+01:00", "clock": "01:02:03", "span": "P1DT0H0M2S", "money": "1.20"},
    **{"list": [1, None], "floats": [0.5], "struct": {"a": 1, "b.c": ["eA=="]}, "map": [["k", 1]]},
    **{"far": str(2**60), "nothing": None, "moments": ["1970-01-01T00:00:01"], "named": [["k", "1970-01-01T00:00:01"]]},
    **{"dot.ted": 1},
}


def test_every_arrow_type_is_shown_and_prepared_rows_are_the_same(datasets: Datasets) -> None:
    datasets.lay("d", {"a.parquet": parquet(ARROW)})
    shown = datasets.rows("d")
    assert shown.rows[0] == SHOWN
    second = {"floats": [1.0], "dot.ted": 2, "u64": 0, "moments": ["1970-01-01T00:00:00"]}
    assert shown.rows[1] == {name: second.get(name) for name in SHOWN}
    assert [name for name, kind in shown.types.items() if kind != "JSON"] == [
        *("u8", "u64", "f16", "f32", "flag", "text", "word", "dot.ted")
    ]
    prepared = datasets.prepare("d")
    assert prepared.rows() == shown.rows
    assert [one["dtype"] for one in prepared.told["columns"] if one["name"] in ("raw", "day", "utc", "list", "u64")] == [
        *("json", "bytes", "date", "timestamp", "list<int64>")
    ]


def test_columns_of_parquet_with_the_same_name_are_told_apart(datasets: Datasets) -> None:
    table = pa.table([pa.array([1]), pa.array(["x"]), pa.array([2.5])], names=["a", "a", ""])
    datasets.lay("d", {"a.parquet": parquet(table)})
    shown = datasets.rows("d")
    assert (shown.types, shown.rows) == ({"a": "INT", "a.1": "STRING", "": "FLOAT"}, [{"a": 1, "a.1": "x", "": 2.5}])
    assert datasets.prepare("d").rows() == shown.rows


def test_features_of_parquet_have_the_words_of_arrow(datasets: Datasets) -> None:
    datasets.lay("d", {"a.parquet": parquet(ARROW.select(["u8", "f32", "at", "struct", "money", "text"]))})
    features = {one["name"]: one["type"] for one in datasets.rows("d").modern["features"]}
    assert features == {
        "u8": {"dtype": "uint8", "_type": "Value"},
        "f32": {"dtype": "float32", "_type": "Value"},
        "at": {"dtype": "timestamp[ns]", "_type": "Value"},
        "struct": {
            "a": {"dtype": "int64", "_type": "Value"},
            "b.c": {"feature": {"dtype": "binary", "_type": "Value"}, "_type": "List"},
        },
        "money": {"dtype": "decimal128(3, 2)", "_type": "Value"},
        "text": {"dtype": "string", "_type": "Value"},
    }


DECLARED = """
dataset_info:
  features:
  - {name: id, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': neg, '1': pos}}}
  - {name: list, sequence: int64}
  - name: rows
    list:
    - {name: x, dtype: float32}
  - {name: missing, dtype: int32}
"""


def test_declared_features_decide_alone(datasets: Datasets) -> None:
    rows = [{"id": 7, "label": label, "list": [1], "rows": [{"x": 1}]} for label in (1, "neg", -1, "0", None, 9, "odd")]
    datasets.lay("d", {"README.md": front_matter(DECLARED), "a.jsonl": json_lines(rows)})
    shown = datasets.rows("d")
    assert shown.types == {"id": "STRING", "label": "CLASS_LABEL", "list": "JSON", "rows": "JSON", "missing": "INT"}
    assert shown.old["columns"][1]["column"]["labels"] == ["neg", "pos"]
    assert shown.column("label") == [1, 0, -1, 0, None, -1, -1]
    assert shown.rows[0] == {"id": "7", "label": 1, "list": [1], "rows": [{"x": 1}], "missing": None}
    assert shown.modern["features"][3]["type"] == {"feature": {"x": {"dtype": "float32", "_type": "Value"}}, "_type": "List"}
    assert datasets.prepare("d").rows() == shown.rows


def test_labels_are_numbers_of_the_csv_or_names(datasets: Datasets) -> None:
    datasets.lay("d", {"README.md": front_matter(DECLARED), "a.csv": "id,label\n007,1\n8,pos\n"})
    assert [(row["id"], row["label"]) for row in datasets.rows("d").rows] == [("007", 1), ("8", 1)]


def test_one_odd_cell_of_a_declared_column_is_shown_as_its_text(datasets: Datasets) -> None:
    readme = front_matter("dataset_info: {features: [{name: a, dtype: int64}]}")
    datasets.lay("d", {"README.md": readme, "a.jsonl": json_lines([{"a": 1}, {"a": "odd"}])})
    assert datasets.rows("d").column("a") == [1, "odd"]


@pytest.mark.parametrize(
    "features", ["5", "[{dtype: int64}]", "[{name: a}]", "[{name: a, dtype: {class_label: {names: {'1': x}}}}]"]
)
def test_features_that_cannot_be_read_are_told(datasets: Datasets, features: str) -> None:
    datasets.lay("d", {"README.md": front_matter(f"dataset_info: {{features: {features}}}"), "a.csv": "a\n1\n"})
    failure = datasets.failure("d")
    assert (failure["code"], failure["cause_class"]) == ("InfoError", "ParserError")


def test_what_the_writer_of_a_parquet_file_noted_is_declared(datasets: Datasets) -> None:
    noted = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "pic": {"_type": "Image"}}}}
    table = pa.table({"label": [0, 1], "pic": [{"bytes": picture(), "path": None}, None]})
    datasets.lay("d", {"a.parquet": parquet(table.replace_schema_metadata({"huggingface": json.dumps(noted)}))})
    shown = datasets.rows("d")
    assert shown.types == {"label": "CLASS_LABEL", "pic": "RELATIVE_IMAGE_URL"}
    assert shown.column("pic") == ["assets/d/--/default/train/0/pic/image.jpg", None]


def test_bytes_and_objects_that_are_pictures_or_sounds_are_shown_as_such(datasets: Datasets) -> None:
    table = pa.table(
        {
            "raw": [picture(), picture("L")],
            "pic": [{"bytes": picture(), "path": "x.png"}, None],
            "tone": [{"bytes": wav(), "path": "x.wav"}, {"bytes": None, "path": "y.wav"}],
            "half": [picture(), b"no picture"],
        }
    )
    datasets.lay("d", {"a.parquet": parquet(table)})
    shown = datasets.rows("d")
    picture_type, sound_type = "RELATIVE_IMAGE_URL", "AUDIO_RELATIVE_SOURCES"
    assert shown.types == {"raw": picture_type, "pic": picture_type, "tone": sound_type, "half": "JSON"}
    assert shown.column("tone")[1] is None
    assert shown.old["rows"][1]["truncated_cells"] == ["tone"]
    assert datasets.prepare("d").page()[1]["rows"] == shown.modern["rows"]


def test_pictures_in_lists_have_the_hash_of_their_place_in_their_names(datasets: Datasets) -> None:
    readme = front_matter("dataset_info: {features: [{name: a, sequence: image}]}")
    table = pa.table({"a": [[{"bytes": picture(), "path": None}, {"bytes": b"broken", "path": None}], []]})
    datasets.lay("d", {"README.md": readme, "a.parquet": parquet(table)})
    shown = datasets.rows("d")
    [[address, lost], nothing] = shown.column("a")
    assert (lost, nothing) == (None, [])
    assert address.startswith("assets/d/--/default/train/0/a/image-")
    assert len(address) == len("assets/d/--/default/train/0/a/image-12345678.jpg")
    assert shown.old["rows"][0]["truncated_cells"] == ["a"]
