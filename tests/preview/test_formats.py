"""Formats as people lay them down, over HTTP: every rule of how files are found, read and typed shows in `/rows` and `/v2/rows`.

All datasets are laid into one server and read once. What each rule does in its corners is in tests/engine/tasks/preview.
"""

import bz2
import gzip
import json
import lzma
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests.engine.tasks.preview.test_columns import ARROW, SHOWN
from tests.fixtures.preview import Content, front_matter, gz_bomb, json_lines, lay, parquet, picture, wav
from tests.preview.asking import cells, get, is_quiet, refused, rows, until
from tests.serving import Server, serving

# Every sort of value in one row, in the order in which it is shown.
WIDE = {
    **{"b": True, "i": 1, "f": 0.5, "t": "zoë", "n": None, "l": [1, 2], "d": {"k": [1]}, "image_url": "http://127.0.0.1:1/x.png"},
    **{"image": [[0, 255], [7, 8]], "img": [[[0, 255, 1], [2, 3, 4]]], "p": 2**40, "q": 2**70},
}
WIDE_TYPES = {
    **{"b": "BOOL", "i": "INT", "f": "FLOAT", "t": "STRING", "n": "JSON", "l": "JSON", "d": "JSON", "image_url": "IMAGE_URL"},
    **{"image": "RELATIVE_IMAGE_URL", "img": "RELATIVE_IMAGE_URL", "p": "INT", "q": "STRING"},
}
# A BOM, CRLF, a byte of cp1252, a newline between quotes, a blank line and a short row.
MESSY = b'\xef\xbb\xbfname,age,note\r\ncaf\xe9,1,"two\r\nlines"\r\n\r\nbob,2\r\nNA,"NaN",x\r\n'
MESSY_ROWS = [
    {"name": "caf\ufffd", "age": 1, "note": "two\r\nlines"},
    {"name": "bob", "age": 2, "note": None},
    {"name": None, "age": None, "note": "x"},
]
PLAIN = "name,age\n" + "".join(f"n{i},{i}\n" for i in range(150))
RECORDS = [{"a": i, "b": f"t{i}", "c": [i, None]} for i in range(120)]
LABELS = "dataset_info: {features: [{name: id, dtype: string}, {name: label, dtype: {class_label: {names: [neg, pos]}}}]}"
CONFIGS = """
configs:
- config_name: second
  data_files: [{split: train, path: "b/1.tsv"}, {split: test, path: "b/2.tsv"}]
- config_name: first
  data_dir: a
  sep: ":"
  encoding: cp1252
"""
A, B = {"a": 1}, {"a": 2}
MOST_UNPACKED = 4_000_000

# Name -> files, and what the first rows of `train` are.
CASES: dict[str, tuple[dict[str, Content], list[dict[str, Any]]]] = {
    "csv-messy": ({"train.csv": MESSY}, MESSY_ROWS),
    "csv-semicolon": ({"train.csv": "a;b\n1;x\n"}, [{"a": 1, "b": "x"}]),
    "csv-names": ({"train.csv": "a,a,\n1,2,3\n"}, [{"a": 1, "a.1": 2, "Unnamed: 2": 3}]),
    "csv-numbers": ({"train.csv": "a,b\n007,.5\n+5,1\n"}, [{"a": "007", "b": 0.5}, {"a": "+5", "b": 1.0}]),
    "csv-empty": ({"train.csv": ""}, []),
    "csv-header": ({"train.csv": "a,b\n"}, []),
    "tsv": ({"train.tsv": "a,x\tb\n1\t2\n"}, [{"a,x": 1, "b": 2}]),
    "jsonl": ({"train.jsonl": '{"a": 1}\n\n{"b": "x"}\n'}, [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
    "json-field": ({"train.json": json.dumps({"about": "x", "rows": [A, B]})}, [A, B]),
    "json-lines": ({"train.json": json_lines([A, B])}, [A, B]),
    "text": ({"train.txt": "one\r\n\ntwo"}, [{"text": "one"}, {"text": ""}, {"text": "two"}]),
    "parquet": ({"train.parquet": parquet(pa.table({"a": [1, 2]}))}, [A, B]),
    "labels": (
        {"README.md": front_matter(LABELS), "train.csv": "id,label\n007,pos\n8,0\n9,\n"},
        [{"id": "007", "label": 1}, {"id": "8", "label": 0}, {"id": "9", "label": None}],
    ),
    "most-files": ({"train-1.csv": "a\n1\n", "train-2.csv": "a\n2\n", "train.jsonl": '{"b": 9}\n'}, [A, B]),
    "tie": ({"train.csv": "b\n9\n", "train.jsonl": '{"a": 1}\n'}, [A]),
    "numbered": (
        {"README.md": "# N\n", "data/train-00001-of-00002.csv": "a\n2\n", "data/train-00000-of-00002.csv": "a\n1\n"},
        [A, B],
    ),
    "all-train": ({"things.csv": "a\n1\n"}, [A]),
    "left-out": ({"train.csv": "a\n1\n", "notes.csv": "a\n9\n"}, [A]),
    "hidden": ({"train.csv": "a\n1\n", ".hidden/train.csv": "a\n9\n"}, [A]),
    "ann+b@example.org/signs": ({"train.csv": "a\n1\n"}, [A]),
}
# Pairs that must show and prepare the same.
TWINS: dict[str, tuple[dict[str, Content], dict[str, Content]]] = {
    "gz": ({"train.csv": PLAIN}, {"train.csv.gz": gzip.compress(PLAIN.encode())}),
    "bz2": ({"train.csv": PLAIN}, {"train.csv.bz2": bz2.compress(PLAIN.encode())}),
    "xz": ({"train.csv": PLAIN}, {"train.csv.xz": lzma.compress(PLAIN.encode())}),
    "gz-messy": ({"train.csv": MESSY}, {"train.csv.gz": gzip.compress(MESSY)}),
    "array": ({"train.jsonl": json_lines(RECORDS)}, {"train.json": json.dumps(RECORDS)}),
}
OTHERS: dict[str, dict[str, Content]] = {
    "wide": {"train.jsonl": json_lines([WIDE])},
    "configs": {
        "README.md": front_matter(CONFIGS),
        "a/x.csv": "a:b\ncaf\xe9:1\n".encode("cp1252"),
        "b/1.tsv": "a\n1\n",
        "b/2.tsv": "a\n2\n",
    },
    "order": {f"{word}.csv": "a\n1\n" for word in ("zoo-test", "my_val", "train", "other_train2")},
    "folders": {"README.md": "# F\n", "test/a.csv": "a\n1\n", "train/a.csv": "a\n2\n", "dev/a.csv": "a\n3\n"},
    "animals": {"README.md": "# A\n", **{f"train/{one}/{i}.png": picture() for one in ("cat", "ant") for i in range(2)}},
    "described": {"README.md": "# D\n", "train/a.png": picture(), "train/metadata.jsonl": '{"file_name": "a.png", "n": 5}\n'},
    "songs": {"README.md": "# S\n", "train/a.wav": wav(), "train/b.wav": b"RIFF broken"},
    "bytes": {"train.parquet": parquet(pa.table({"p": [picture(), b"none"], "s": [{"bytes": wav(), "path": "x.wav"}, None]}))},
    "gz-bomb": {"train.csv.gz": gz_bomb(2 * MOST_UNPACKED)},
    "arrow": {"train.parquet": parquet(ARROW)},
    "huge-cell": {"train.jsonl": json_lines([{"a": "x" * 10_000_000, "b": 1}])},
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"SLUICE_SCORE_REPLICAS": "1", "SLUICE_PREVIEW_MAX_DECOMPRESSED_BYTES": str(MOST_UNPACKED)}
    with serving(tmp_path_factory.mktemp("shelf") / "data", **settings) as server:
        root = server.data_dir / "datasets"
        laid = {name: files for name, (files, _) in CASES.items()} | OTHERS
        for name, (first, second) in TWINS.items():
            laid |= {f"{name}-first": first, f"{name}-second": second}
        for name, files in laid.items():
            lay(root, name, files)
            get(server, "/splits", dataset=name)
        until(lambda: is_quiet(server), 120)
        yield server
        assert "Traceback" not in server.log


def prepared(server: Server, name: str, split: str = "train", config: str = "default") -> list[dict[str, Any]]:
    """All rows, as they were prepared."""
    place = {"dataset": name, "config": config, "split": split}
    found: list[dict[str, Any]] = []
    while True:
        page = get(server, "/v2/rows", offset=len(found), **place).json()
        assert page["partial"] is False, page
        found += [one["row"] for one in page["rows"]]
        if len(found) == page["num_rows_total"]:
            return found


def types(server: Server, name: str, **place: Any) -> dict[str, str]:
    return {one["column"]["name"]: one["column"]["type"] for one in rows(server, name, **place).json()["columns"]}


def listed(server: Server, name: str) -> list[tuple[str, str]]:
    return [(one["config"], one["split"]) for one in get(server, "/splits", dataset=name).json()["splits"]]


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_as_its_format_says_and_its_prepared_rows_are_the_same(shelf: Server, name: str) -> None:
    wanted = CASES[name][1]
    assert cells(rows(shelf, name)) == wanted
    assert prepared(shelf, name) == wanted


@pytest.mark.parametrize("name", TWINS)
def test_another_form_of_the_same_rows_shows_the_same(shelf: Server, name: str) -> None:
    shown = [cells(rows(shelf, f"{name}-{one}")) for one in ("first", "second")]
    assert shown[0] == shown[1] != []
    assert prepared(shelf, f"{name}-first") == prepared(shelf, f"{name}-second")
    assert prepared(shelf, f"{name}-first")[: len(shown[0])] == shown[0]


def test_one_wide_row_has_every_type(shelf: Server) -> None:
    assert types(shelf, "wide") == WIDE_TYPES
    [row] = cells(rows(shelf, "wide"))
    pictures = {name: f"assets/wide/--/default/train/0/{name}/image.jpg" for name in ("image", "img")}
    assert row == WIDE | pictures | {"q": str(2**70)}
    for path in pictures.values():
        assert get(shelf, f"/{path}").headers["Content-Type"] == "image/jpeg"
    place = {"dataset": "wide", "config": "default", "split": "train"}
    first, page = get(shelf, "/first-rows", **place).json(), get(shelf, "/v2/rows", **place).json()
    assert (page["rows"], page["features"]) == (first["rows"], first["features"])


def test_every_arrow_type_is_shown(shelf: Server) -> None:
    assert cells(rows(shelf, "arrow"))[0] == SHOWN
    assert prepared(shelf, "arrow")[0] == SHOWN


def test_configs_of_the_readme_come_in_their_order_each_with_its_own_format(shelf: Server) -> None:
    assert listed(shelf, "configs") == [("second", "train"), ("second", "test"), ("first", "train")]
    assert cells(rows(shelf, "configs", config="second")) == [A]
    assert cells(rows(shelf, "configs", "test", "second")) == [B]
    assert cells(rows(shelf, "configs", config="first")) == [{"a": "café", "b": 1}]


@pytest.mark.parametrize(
    ("name", "splits"), [("order", ["train", "validation", "test"]), ("folders", ["train", "validation", "test"])]
)
def test_splits_come_from_words_in_names_and_in_their_order(shelf: Server, name: str, splits: list[str]) -> None:
    assert [split for _, split in listed(shelf, name)] == splits


def test_folders_of_pictures_are_their_labels(shelf: Server) -> None:
    answer = rows(shelf, "animals")
    [label] = [one["column"] for one in answer.json()["columns"] if one["column"]["name"] == "label"]
    assert (label["type"], label["labels"]) == ("CLASS_LABEL", ["ant", "cat"])
    assert [row["label"] for row in cells(answer)] == [0, 0, 1, 1]


def test_metadata_adds_columns_to_pictures(shelf: Server) -> None:
    assert cells(rows(shelf, "described")) == [{"image": "assets/described/--/default/train/0/image/image.jpg", "n": 5}]


def test_sounds_have_sources_and_a_broken_one_is_null(shelf: Server) -> None:
    assert types(shelf, "songs") == {"audio": "AUDIO_RELATIVE_SOURCES"}
    first, second = (row["audio"] for row in cells(rows(shelf, "songs")))
    assert first[-1] == {"src": "assets/songs/--/default/train/0/audio/audio.wav", "type": "audio/wav"}
    assert second is None


def test_bytes_of_pictures_and_sounds_are_shown_as_such(shelf: Server) -> None:
    assert types(shelf, "bytes") == {"p": "JSON", "s": "AUDIO_RELATIVE_SOURCES"}, "one of the bytes is no picture"
    assert [bool(row["s"]) for row in cells(rows(shelf, "bytes"))] == [True, False]


def test_a_bomb_of_lines_shows_its_first_rows_and_is_not_prepared(shelf: Server) -> None:
    assert len(cells(rows(shelf, "gz-bomb"))) == 100
    [failed] = get(shelf, "/parquet", dataset="gz-bomb").json()["failed"]
    assert failed["error"]["cause_exception"] == "TooManyBytes"
    page = get(shelf, "/v2/rows", dataset="gz-bomb", config="default", split="train", offset=200)
    refused(page, 400, "RowsError")


def test_a_cell_of_ten_megabytes_is_cut_and_named(shelf: Server) -> None:
    answer = rows(shelf, "huge-cell")
    [row] = answer.json()["rows"]
    assert (row["row"]["a"], row["row"]["b"], row["truncated_cells"]) == ("x" * 100, 1, ["a"])
    assert answer.headers["X-Preview-Truncated"] == "cells"
