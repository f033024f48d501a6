"""Prepared rows are the rows that are shown, also where later ones make columns wider; and what is said of them is true."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.tasks.query.segments import PAYLOAD, ROWS, Source
from tests import corpora
from tests.engine.tasks.preview.asking import Datasets, run
from tests.fixtures.preview import front_matter, json_lines, parquet


def texts(name: str, cells: list[object], before: int = 1500) -> str:
    """A csv whose first cells are ones."""
    return f"k,{name}\n" + "".join(f"{i},1\n" for i in range(before)) + "".join(f"k,{cell}\n" for cell in cells)


@pytest.mark.parametrize(
    ("cells", "kind", "last"),
    [
        (["2.5"], "FLOAT", 2.5),
        (["x", "2.5"], "STRING", "2.5"),
        (["007"], "STRING", "007"),
        ([""], "INT", None),
        ([2**70], "STRING", str(2**70)),
    ],
)
def test_later_rows_of_csv_make_a_column_wider(datasets: Datasets, cells: list[object], kind: str, last: object) -> None:
    datasets.lay("d", {"a.csv": texts("a", cells)})
    assert datasets.rows("d").types["a"] == "INT"
    prepared = datasets.prepare("d")
    widened = prepared.told["widened"]
    assert (widened["a"]["type"] if kind != "INT" else widened.get("a")) == (kind if kind != "INT" else None)
    again = datasets.rows("d", widened=widened)
    assert again.types["a"] == kind
    assert prepared.rows()[:100] == again.rows
    assert prepared.rows()[-1]["a"] == last
    assert datasets.prepare("d", widened=widened).told["widened"] == widened


def test_integers_of_jsonl_become_floats_and_anything_else_fails_with_its_line(datasets: Datasets) -> None:
    ones = [{"a": 1} for _ in range(1500)]
    datasets.lay("float", {"a.jsonl": json_lines([*ones, {"a": 0.5}])})
    prepared = datasets.prepare("float")
    assert prepared.told["widened"]["a"]["type"] == "FLOAT"
    assert prepared.rows()[:100] == datasets.rows("float", widened=prepared.told["widened"]).rows
    datasets.lay("text", {"a.jsonl": json_lines([*ones, {"a": "x"}])})
    failure = datasets.failure("text", task="prepare")
    assert (failure["code"], failure["cause_class"]) == ("RowsError", "ParserError")
    assert failure["cause_message"] == "line 1501: the value of 'a' does not fit the rows before"


def test_a_column_that_only_later_rows_have_is_there_after_a_refresh(datasets: Datasets) -> None:
    rows = [{"a": 1, "n": None} for _ in range(1500)]
    datasets.lay("d", {"a.jsonl": json_lines([*rows, {"a": 2, "b": "x", "n": 5}])})
    prepared = datasets.prepare("d")
    again = datasets.rows("d", widened=prepared.told["widened"])
    assert again.types == {"a": "INT", "n": "INT", "b": "STRING"}
    assert prepared.rows()[:100] == again.rows
    assert prepared.rows()[-1] == {"a": 2, "n": 5, "b": "x"}


def test_lists_and_labels_that_later_rows_break_are_stored_in_another_way_and_shown_in_the_same(datasets: Datasets) -> None:
    rows = [{"a": [1], "label": 0} for _ in range(1500)] + [{"a": ["x", {}], "label": -1}]
    features = "dataset_info: {features: [{name: label, dtype: {class_label: {names: [bad, good]}}}]}"
    datasets.lay("d", {"README.md": front_matter(features), "a.jsonl": json_lines(rows)})
    shown = datasets.rows("d")
    assert shown.told["columns"][0]["dtype"] == "list<int64>"
    prepared = datasets.prepare("d")
    assert {one["name"]: one["dtype"] for one in prepared.told["columns"]} == {"a": "json", "label": "int64"}
    assert prepared.rows() == rows
    assert datasets.rows("d", widened=prepared.told["widened"]).types == shown.types


def test_short_rows_far_down_are_read_by_the_careful_reader_without_losing_any(datasets: Datasets) -> None:
    rows = [f"{i},{i}\n" for i in range(60_000)]
    rows[50_000] = "50000\n"
    datasets.lay("d", {"a.csv": "a,b\n" + "".join(rows)})
    prepared = datasets.prepare("d")
    assert prepared.told["numbers"]["num_examples"] == 60_000
    assert [one["row"] for one in prepared.page(49_999, 3)[1]["rows"]] == [
        {"a": 49_999, "b": 49_999},
        {"a": 50_000, "b": None},
        {"a": 50_001, "b": 50_001},
    ]


def test_a_long_row_far_down_fails_with_its_line(datasets: Datasets) -> None:
    rows = [f"{i},{i}\n" for i in range(60_000)]
    rows[50_000] = "1,2,3\n"
    datasets.lay("d", {"a.csv": "a,b\n" + "".join(rows)})
    failure = datasets.failure("d", task="prepare")
    assert failure["cause_message"] == "line 50002: expected 2 fields, saw 3"


def test_a_segment_is_what_queries_read(datasets: Datasets) -> None:
    features = "dataset_info: {features: [{name: label, dtype: {class_label: {names: [bad, good]}}}]}"
    datasets.lay("d", {"README.md": front_matter(features), "a.csv": "label,x,t\n1,0.5,a\n0,,b\n"})
    prepared = datasets.prepare("d")
    [segment] = prepared.told["segments"]
    folder = Path(prepared.asked["staging"]) / "segments"
    assert {path.name for path in (folder / segment["id"]).iterdir()} == {ROWS, PAYLOAD}
    assert (segment["rows"], segment["nulls"]) == (2, [0, 1, 0])
    assert [one["nulls"] for one in prepared.told["segment_columns"]] == [0, 1, 0]
    columns = [{key: value for key, value in one.items() if key != "nulls"} for one in prepared.told["segment_columns"]]
    source = Source.granted({"title": "d@1", "folder": str(folder), "columns": columns, "segments": [segment]})
    assert source.table.to_pydict() == {"c0": [1, 0], "c1": [0.5, None], "c2": ["a", "b"]}
    assert source.columns[0].names == ("bad", "good")
    numbers = prepared.told["numbers"]
    assert numbers["parquet_bytes"] == (folder / segment["id"] / ROWS).stat().st_size
    assert (numbers["num_bytes"], numbers["num_examples"], numbers["num_columns"]) == (23, 2, 3)
    assert numbers["memory_bytes"] > 0


def test_a_million_rows_are_one_segment_and_the_next_is_another(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.ingestion.segment_files.SEGMENT_ROWS", 1000)
    datasets.lay("d", {"a.csv": "a\n" + "".join(f"{i}\n" for i in range(2500))})
    prepared = datasets.prepare("d")
    assert [one["rows"] for one in prepared.told["segments"]] == [1000, 1000, 500]
    assert [one["row"]["a"] for one in prepared.page(950, 100)[1]["rows"]] == list(range(950, 1050))
    assert prepared.statistics()["a"][1]["max"] == 2499


def test_large_cells_make_small_row_groups(datasets: Datasets) -> None:
    datasets.lay("d", {"a.jsonl": json_lines([{"a": "x" * 1_000_000} for _ in range(40)])})
    prepared = datasets.prepare("d")
    [segment] = prepared.told["segments"]
    with pq.ParquetFile(Path(prepared.asked["staging"]) / "segments" / segment["id"] / ROWS) as file:
        assert file.num_row_groups >= 3
        assert file.metadata.num_rows == 40


def test_a_disk_without_room_is_told(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tasks.preview.prepare.LEAST_FREE_BYTES", 2**62)
    datasets.lay("d", {"a.csv": "a\n1\n"})
    told, _ = run("prepare", **datasets.asked("d", "default", "train"), staging=str(datasets.new_staging()))
    assert told == {"full": True}


# Pages


def test_a_page_beyond_the_end_has_no_rows(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv": "a\n1\n"})
    told, body, _ = datasets.prepare("d").page(5)
    assert (told["num_rows"], body["rows"], body["num_rows_total"]) == (0, [], 1)


def test_source_parquet_is_paged_without_preparing_it(datasets: Datasets) -> None:
    tables = [pa.table({"a": range(start, start + 1000)}) for start in (0, 1000, 2000)]
    datasets.lay("d", {f"train-{i}.parquet": parquet(table, row_group_size=100) for i, table in enumerate(tables)})
    asked = {**datasets.asked("d", "default", "train"), "segments": None}
    told, bodies = run("page", **asked, offset=1950, length=100)
    assert [one["row"]["a"] for one in json.loads(bytes(bodies[0]))["rows"]] == list(range(1950, 2050))
    assert told["num_rows_total"] == 3000
    assert datasets.rows("d").told["numbers"]["num_examples"] == 3000
    datasets.lay("csv", {"a.csv": "a\n1\n"})
    told, _ = run("page", **{**asked, "name": "csv"}, offset=0, length=100)
    assert told["failure"]["cause_class"] == "UnsupportedError"


def test_records_are_uncut_rows_with_labels_by_name(datasets: Datasets) -> None:
    features = "dataset_info: {features: [{name: label, dtype: {class_label: {names: [bad, good]}}}]}"
    datasets.lay(
        "d", {"README.md": front_matter(features), "a.jsonl": json_lines([{"label": 1, "t": "x" * 500}, {"label": 0, "t": "y"}])}
    )
    told, body, lines = datasets.prepare("d").page(records=True, limits={"rows_max_bytes": 400})
    assert body["rows"][0]["row"]["t"] == "x" * 100
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"label": "good", "t": "x" * 500, "yhat_id": 0},
        {"label": "bad", "t": "y", "yhat_id": 1},
    ]
    assert (told["records"], told["records_size"]) == ([0, 1], len(lines))


def test_segments_that_ingestion_wrote_are_paged_as_they_are(datasets: Datasets) -> None:
    identity = "0" * 32
    version = {
        "columns": [{"name": "label", "dtype": "class", "names": ["no", "yes"]}, {"name": "j", "dtype": "json", "names": []}]
    }
    path = f".sluice/segments/{identity}/rows.parquet"
    readme = front_matter(f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path:\n    - {path}")
    rows = parquet(pa.table({"label": [1, None], "j": ['{"a":1}', "[2]"]}))
    datasets.lay("d", {"README.md": readme, path: rows, ".sluice/HEAD": "3", ".sluice/versions/3.json": json.dumps(version)})
    shown = datasets.rows("d")
    assert shown.told["segments"] == [identity]
    assert shown.types == {"label": "CLASS_LABEL", "j": "JSON"}
    assert shown.rows == [{"label": 1, "j": {"a": 1}}, {"label": None, "j": [2]}]
    told, bodies = run("page", **datasets.asked("d", "default", "train"), segments=None, offset=0, length=10)
    assert told["num_rows_total"] == 2
    assert json.loads(bytes(bodies[0]))["rows"] == shown.modern["rows"]


@corpora.needs(corpora.RANDFACTS)
def test_every_fact_is_a_row(datasets: Datasets) -> None:
    datasets.lay("facts", {"safe.txt": "\n".join(corpora.facts()) + "\n"})
    prepared = datasets.prepare("facts")
    assert prepared.told["numbers"]["num_examples"] == 7193
    assert [one["row"]["text"] for one in prepared.page(7100)[1]["rows"]] == list(corpora.facts()[7100:])
    assert prepared.statistics()["text"][0] == "string_text"
