"""What is too large, too deep or too much: an answer that says so, and a replica that lives on."""

import gzip
import os
from typing import Any

import pyarrow as pa
import pytest

from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import front_matter, gz_bomb, json_lines, lay, parquet

LIMIT = {"record_bytes": 1000}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", 'a,b\n1,2\n3,"' + "x\n" * 1000, "line 3: it is longer than the limit of 1,000 bytes"),
        ("a.csv", "a,b\n1,2\n3," + "x" * 2000, "line 3: it is longer than the limit of 1,000 bytes"),
        ("a.csv", "a" * 2000, "line 1: it is longer than the limit of 1,000 bytes"),
        ("a.jsonl", '{"a": 1}\n{"a": "' + "x" * 2000 + '"}\n', "line 2: it is longer than the limit of 1,000 bytes"),
        ("a.json", '[{"a": 1}, {"a": "' + "x" * 2000 + '"}]', "item 2: it is longer than the limit of 1,000 bytes"),
        ("a.json", '[{"a": 1}, {"a": "' + "x" * 2000, "item 2: it is longer than the limit of 1,000 bytes"),
        ("a.txt", "a\n" + "x" * 2000, "line 2: it is longer than the limit of 1,000 bytes"),
    ],
    ids=["open quote", "csv", "header", "jsonl", "json", "endless json", "text"],
)
def test_a_record_that_is_too_long_is_told_with_its_line(datasets: Datasets, name: str, text: str, message: str) -> None:
    datasets.lay("d", {name: text})
    failure = datasets.failure("d", limits=LIMIT)
    assert (failure["code"], failure["cause_class"], failure["cause_message"]) == ("RowsError", "RecordTooLarge", message)


def test_rows_before_the_end_of_what_is_unpacked_stand_and_prepare_fails(datasets: Datasets) -> None:
    text = "a\n" + "".join(f"{i}\n" for i in range(40))
    datasets.lay("d", {"a.csv.gz": gzip.compress(text.encode() + b"9\n" * 100_000)})
    limits = {"decompressed_bytes": 600_00}
    shown = datasets.rows("d", limits=limits)
    assert len(shown.rows) == 100
    failure = datasets.failure("d", task="prepare", limits=limits)
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "TooManyBytes")


def test_a_bomb_without_a_line_ends_quickly(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv.gz": gz_bomb(20_000_000, b"0")})
    failure = datasets.failure("d", limits={"decompressed_bytes": 10_000_000})
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "TooManyBytes")
    failure = datasets.failure("d")
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "RecordTooLarge")


def test_a_bomb_of_lines_shows_its_first_rows_and_is_not_prepared(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv.gz": gz_bomb(20_000_000, b"0\n")})
    assert len(datasets.rows("d").rows) == 100
    assert datasets.failure("d", task="prepare", limits={"decompressed_bytes": 10_000_000})["cause_class"] == "TooManyBytes"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ",".join(f"c{i}" for i in range(1001)) + "\n1\n"),
        ("a.jsonl", json_lines([{f"c{i}": 1 for i in range(600)}, {f"d{i}": 1 for i in range(600)}])),
        ("a.parquet", parquet(pa.table({f"c{i}": [1] for i in range(1001)}))),
    ],
    ids=["csv", "jsonl", "parquet"],
)
def test_too_many_columns_are_told(datasets: Datasets, name: str, content: Any) -> None:
    datasets.lay("d", {name: content})
    number = "1,200" if name == "a.jsonl" else "1,001"
    for task in ("rows", "prepare"):
        failure = datasets.failure("d", task=task)
        assert failure["code"] == "TooBigContent"
        assert failure["message"] == f"The dataset has {number} columns, the limit is 1,000. Declare fewer or split it."


def test_too_many_configs_and_splits_are_told(datasets: Datasets) -> None:
    many = "\n".join(f"- config_name: c{i}\n  data_files: a.csv" for i in range(1001))
    datasets.lay("d", {"README.md": front_matter(f"configs:\n{many}"), "a.csv": "a\n1\n"})
    message = datasets.failure("d", task="splits")["message"]
    assert message == "The dataset has 1,001 configs, the limit is 1,000. Declare fewer or split it."
    splits = ", ".join(f"{{split: s{i}, path: a.csv}}" for i in range(3001))
    datasets.lay("d", {"README.md": front_matter(f"configs:\n- data_files: [{splits}]")})
    assert datasets.failure("d", task="splits")["message"] == (
        "The dataset has 3,001 splits, the limit is 3,000. Declare fewer or split it."
    )


def test_three_hundred_splits_are_listed(datasets: Datasets) -> None:
    datasets.lay("d", {f"data/s{i:03}-00000-of-00001.csv": "a\n1\n" for i in range(300)})
    assert len(datasets.listed("d")["default"]) == 300


def test_too_many_files_and_too_deep_folders_are_told(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.lay("deep", {"/".join("abcdefghijklmnop") + "/a.csv": "a\n1\n", "README.md": "# x"})
    failure = datasets.failure("deep", task="splits")
    assert (failure["code"], failure["cause_class"]) == ("SplitsNamesError", "TooManyFilesError")
    monkeypatch.setattr("engine.tasks.preview.files.MAX_FILES", 10)
    datasets.lay("many", {f"{i}.csv": "a\n1\n" for i in range(11)})
    assert datasets.failure("many", task="splits")["cause_message"] == "the dataset has more than 10 files"


def test_a_row_group_that_is_too_large_is_told_with_advice(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.preview.parquet_files.MAX_ROW_GROUP_BYTES", 1000)
    datasets.lay("d", {"a.parquet": parquet(pa.table({"a": list(range(1000))}))})
    assert "write the file with smaller row groups" in datasets.failure("d")["cause_message"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", parquet(pa.table({"a": [1]}))[:-20]])
def test_a_broken_parquet_file_is_told(datasets: Datasets, content: bytes) -> None:
    datasets.lay("d", {"a.parquet": content})
    failure = datasets.failure("d")
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "ParserError")


def test_a_parquet_file_without_columns_or_rows_has_none(datasets: Datasets) -> None:
    datasets.lay("none", {"a.parquet": parquet(pa.table({}))})
    datasets.lay("empty", {"a.parquet": parquet(pa.table({"a": pa.array([], pa.int32())}))})
    assert datasets.rows("none").old == {"columns": [], "rows": []}
    shown = datasets.rows("empty")
    assert (shown.types, shown.rows, shown.told["numbers"]["num_examples"]) == ({"a": "INT"}, [], 0)


def test_a_file_that_nobody_lets_us_read_is_an_error(datasets: Datasets) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    folder = datasets.lay("d", {"a.csv": "a\n1\n"})
    os.chmod(folder / "a.csv", 0)
    failure = datasets.failure("d")
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "PermissionError")


def test_what_is_too_large_to_prepare_says_so(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv": "a\n1\n"})
    assert datasets.failure("d", task="prepare", limits={"prepare_bytes": 3})["cause_message"] == (
        "the split has 4 bytes, and at most 3 are prepared"
    )
    assert datasets.failure("d", task="prepare", limits={"prepare_bytes": 0})["cause_message"] == "preparing is switched off"


def test_an_error_message_has_no_path_of_this_machine(datasets: Datasets) -> None:
    lay(datasets.root, "d", {"a.parquet": b"x"})
    failure = datasets.failure("d")
    assert str(datasets.root) not in str(failure)
    assert len(failure["cause_traceback"]) <= 22
    assert all(line.endswith("\n") for line in failure["cause_traceback"])
