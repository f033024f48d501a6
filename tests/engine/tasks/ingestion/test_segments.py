"""Sealed segments: their files, their sidecars made again, neighbours merged, rows deleted, uploads that were cut short."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.ingestion import segment_files
from engine.tasks.query import words
from engine.tasks.query.segments import PAYLOAD_ROWS
from tests.engine.tasks.ingestion.uploads import Dataset, Refusal, Staged, ask, lines

EMBED = [{"source": "text", "column": "embedding", "model": "m", "dim": 4}]
OPTIONS: dict[str, Any] = {
    "embed": EMBED,
    "words": ["text"],
    "class_labels": ["genre"],
    "types": {"when": "timestamp", "day": "date", "raw": "bytes"},
}


def row(i: int) -> dict[str, Any]:
    """A row with every type; each column is null in some rows."""
    whole = {
        "text": f"Honey number {i} never spoils, ä",
        "genre": f"g{i % 5}",
        "when": f"2026-11-23T05:00:{i % 60:02}Z",
        "day": f"2026-11-{1 + i % 28:02}",
        "raw": "AAE=",
        "flag": i % 2 == 0,
        "n": i,
        "f": i / 3,
        "list": [i, None, -i],
        "flags": [True, None],
        "names": ["a", None, "b" * (i % 4)],
        "json": {"i": [i]},
        "vector": [i + 0.5] * 8,
    }
    return {name: value for place, (name, value) in enumerate(whole.items()) if (i + place) % 7}


NUM_ROWS = 250
BATCH_ROWS = 100


@pytest.fixture
def filled(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Two segments; the first has three record batches, which have fewer rows here."""
    monkeypatch.setattr(segment_files, "PAYLOAD_ROWS", BATCH_ROWS)
    dataset.upload([row(i) for i in range(NUM_ROWS)], **OPTIONS)
    dataset.upload([{"text": "one more", "extra.column": 1}], [row(7)])
    return dataset


def test_the_rows_of_a_segment_are_a_parquet_file_with_all_columns_by_their_names(filled: Dataset) -> None:
    file = pq.ParquetFile(filled.segment().folder / "rows.parquet")
    assert file.metadata.num_rows == NUM_ROWS
    assert file.schema_arrow.names == [info.name for info in filled.infos if info.name != "extra.column"]
    assert file.schema_arrow.field("vector").type.list_size == 8
    chunks = [file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns)]
    assert {chunk.compression for chunk in chunks} == {"ZSTD"}
    assert {chunk.path_in_schema.split(".")[0] for chunk in chunks if not chunk.has_dictionary_page} >= {"vector", "embedding"}


def test_the_payload_has_small_batches_and_no_vectors(filled: Dataset) -> None:
    with pa.memory_map(str(filled.segment().folder / "payload.arrow")) as source:
        file = pa.ipc.open_file(source)
        sizes = [file.get_batch(i).num_rows for i in range(file.num_record_batches)]
    assert sizes == [BATCH_ROWS, BATCH_ROWS, NUM_ROWS - 2 * BATCH_ROWS]
    vectors = {info.field for info in filled.infos if info.dtype == "vector"}
    assert not vectors & set(file.schema.names)


def test_a_batch_has_as_many_rows_as_segments_say(dataset: Dataset) -> None:
    dataset.upload([{"i": i} for i in range(PAYLOAD_ROWS - 1)], [{"i": i} for i in range(PAYLOAD_ROWS + 2)])
    assert [chunk.num_rows for chunk in dataset.source.table.to_batches()] == [PAYLOAD_ROWS, PAYLOAD_ROWS, 1]


def test_norms_are_those_of_the_vectors_and_nan_for_null(dataset: Dataset) -> None:
    dataset.upload([{"v": [3.0, 4.0]}, {"v": [0.0, 0.0]}, {"v": None}, {"v": [1e30, 1e30]}], types={"v": "vector(2)"})
    [(vectors, norms)] = dataset.source.vectors(dataset.infos[0])
    assert vectors.tolist() == [[3, 4], [0, 0], [0, 0], [np.float32(1e30)] * 2]
    np.testing.assert_allclose(norms, [5, 0, np.nan, np.sqrt(2) * 1e30], rtol=1e-6)


def test_a_segment_tells_its_rows_bytes_and_nulls(filled: Dataset) -> None:
    first, second = filled.segments
    assert (first["rows"], second["rows"]) == (NUM_ROWS, 2)
    assert first["bytes"] == sum(path.stat().st_size for path in filled.segment().folder.iterdir())
    texts = filled.column("text")[:NUM_ROWS]
    assert first["nulls"][filled.source.column("text").number] == texts.count(None)
    assert [len(first["nulls"]), len(second["nulls"])] == [len(filled.infos) - 1, len(filled.infos)]


def test_an_append_adds_a_column_that_is_null_before(filled: Dataset) -> None:
    assert filled.column("extra.column") == [None] * NUM_ROWS + [1, None]


# Mending


def mend(dataset: Dataset, i: int = 0) -> list[str]:
    told, _ = ask("mend", folder=str(dataset.segment(i).folder), columns=dataset.columns)
    return list(told["made"])


def test_sidecars_that_were_deleted_are_made_again_to_the_byte(filled: Dataset) -> None:
    before = filled.files()
    for path in filled.folder.rglob("*"):
        if path.is_file() and path.name != "rows.parquet":
            path.unlink()
    made = mend(filled, 0) + mend(filled, 1)
    assert {Path(name).suffix for name in made} == {".arrow", ".f32", ".norm", ".words"}
    assert filled.files() == before


@pytest.mark.parametrize("kind", ["payload.arrow", "*.f32", "*.norm", "*.words"])
def test_only_what_is_missing_is_made(filled: Dataset, kind: str) -> None:
    before = filled.files()
    missing = list(filled.segment().folder.glob(kind))
    for path in missing:
        path.unlink()
    assert sorted(mend(filled)) == sorted(path.name for path in missing)
    assert filled.files() == before
    assert mend(filled) == []


def test_what_an_interrupted_mending_left_is_cleared(filled: Dataset) -> None:
    before = filled.files()
    folder = filled.segment().folder
    (folder / "payload.arrow").unlink()
    (folder / ".mending").mkdir()
    (folder / ".mending" / "payload.arrow").write_bytes(b"half")
    assert mend(filled) == ["payload.arrow"]
    assert filled.files() == before


def test_a_segment_is_not_mended_for_columns_that_are_younger(filled: Dataset) -> None:
    dataset_wide = [*filled.columns, {**filled.columns[1], "number": len(filled.columns), "name": "young"}]
    told, _ = ask("mend", folder=str(filled.segment().folder), columns=dataset_wide)
    assert told["made"] == []


CELLS = st.fixed_dictionaries(
    {},
    optional={
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "b": st.none() | st.booleans(),
        "s": st.none() | st.text(max_size=5),
        "l": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3),
        "lb": st.none() | st.lists(st.none() | st.booleans(), max_size=3),
        "v": st.none() | st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    },
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(CELLS, min_size=1, max_size=20))
def test_any_rows_are_mended_to_the_byte(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    dataset = Dataset(tmp_path_factory.mktemp("dataset"))
    types = {"i": "int64", "b": "bool", "s": "string", "l": "list<int64>", "lb": "list<bool>", "v": "vector(3)"}
    dataset.upload(rows, types=types, words=["s"])
    before = dataset.files()
    for path in dataset.segment().folder.iterdir():
        if path.name != "rows.parquet":
            path.unlink()
    mend(dataset)
    assert dataset.files() == before


# Merging and deleting


def rewritten(dataset: Dataset, task: str, tmp_path: Path, payload: bytes = b"") -> dict[str, Any]:
    staging = tmp_path / task
    staging.mkdir(exist_ok=True)
    segments = [{"id": one["id"], "rows": one["rows"]} for one in dataset.segments]
    where = {"staging": str(staging), "folder": str(dataset.folder)}
    told, _ = ask(task, payload, **where, segments=segments, columns=dataset.columns)
    for segment in told["segments"]:
        if (staging / "segments" / segment["id"]).exists():
            (staging / "segments" / segment["id"]).rename(dataset.folder / segment["id"])
    dataset.segments = told["segments"]
    return told


def test_merged_segments_have_the_same_rows_in_one(filled: Dataset, tmp_path: Path) -> None:
    before = filled.rows
    filled.upload([{"text": None}, row(3)])
    filled.upload([row(5)])
    after = [*before, *filled.rows[len(before) :]]
    told = rewritten(filled, "merge", tmp_path)
    assert [segment["rows"] for segment in told["segments"]] == [len(after)]
    assert filled.rows == after
    assert mend(filled) == []


def test_merging_keeps_a_column_away_that_none_of_the_segments_has(dataset: Dataset, tmp_path: Path) -> None:
    dataset.upload([{"a": 1}])
    dataset.upload([{"a": 2}])
    old = list(dataset.segments)
    dataset.upload([{"v": [0.5] * 8}])
    dataset.segments = old
    rewritten(dataset, "merge", tmp_path)
    assert not list(dataset.segment().folder.glob("*.f32"))
    assert dataset.rows == [{"a": 1, "v": None}, {"a": 2, "v": None}]


def numbers(*rows: int) -> bytes:
    return np.array(rows, "<i8").tobytes()


def test_a_delete_leaves_exactly_the_other_rows_in_order(filled: Dataset, tmp_path: Path) -> None:
    before = filled.rows
    deleted = [*range(80, 170), NUM_ROWS - 1]
    ids = [segment["id"] for segment in filled.segments]
    told = rewritten(filled, "cut", tmp_path, numbers(*deleted))
    assert told["deleted"] == len(deleted)
    assert told["segments"][0]["was"] == ids[0]
    assert told["segments"][1] == {"id": ids[1], "rows": 2, "was": None}
    gone = set(deleted)
    assert filled.rows == [row for i, row in enumerate(before) if i not in gone]
    assert mend(filled) == []


def test_a_segment_that_lost_all_rows_is_gone_and_one_that_lost_none_is_untouched(dataset: Dataset, tmp_path: Path) -> None:
    for i in range(3):
        dataset.upload([{"i": 2 * i}, {"i": 2 * i + 1}])
    ids = [segment["id"] for segment in dataset.segments]
    told = rewritten(dataset, "cut", tmp_path, numbers(2, 3, 4))
    assert [segment.get("was") for segment in told["segments"]] == [None, ids[2]]
    assert dataset.column("i") == [0, 1, 5]
    assert rewritten(dataset, "cut", tmp_path, numbers())["deleted"] == 0
    assert rewritten(dataset, "cut", tmp_path, numbers(0, 1, 2))["segments"] == []


@pytest.mark.parametrize("rows", [(-1,), (2,), (1, 0), (1, 1)])
def test_row_numbers_that_cannot_be_are_a_fault_of_ours(dataset: Dataset, tmp_path: Path, rows: tuple[int, ...]) -> None:
    dataset.upload([{"i": 1}, {"i": 2}])
    with pytest.raises(ValueError, match="row numbers"):
        rewritten(dataset, "cut", tmp_path, numbers(*rows))


# Sizes


def test_a_segment_has_a_limit_and_the_rest_goes_into_the_next(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "SEGMENT_ROWS", 10_000)
    dataset.upload([{"i": i} for i in range(9_000)], [{"i": i} for i in range(9_000, 25_000)])
    assert [segment["rows"] for segment in dataset.segments] == [10_000, 10_000, 5_000]
    assert dataset.column("i") == list(range(25_000))


def test_large_cells_make_small_batches(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "PIECE_BYTES", 10_000)
    rows = [{"s": str(i) * 2_000} for i in range(9)]
    dataset.upload(rows[:4], rows[4:5], rows[5:])
    assert dataset.source.table["c0"].num_chunks > 2
    assert dataset.rows == rows
    before = dataset.files()
    (dataset.segment().folder / "payload.arrow").unlink()
    mend(dataset)
    assert dataset.files() == before


def test_wide_rows_that_are_nearly_empty_are_written_in_small_batches(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "PIECE_BYTES", 100_000)
    dataset.upload([{f"c{i}": i for i in range(500)}])
    dataset.upload(b"{}\n" * 100)
    assert dataset.rows[1:] == [dict.fromkeys(dataset.types)] * 100
    assert max(chunk.num_rows for chunk in dataset.segment(1).payload.to_batches()) < 50


@pytest.mark.heavy
def test_a_million_rows_fill_a_segment(dataset: Dataset) -> None:
    block = lines({"i": i} for i in range(50_000))
    dataset.upload(*[block] * 21)
    assert [segment["rows"] for segment in dataset.segments] == [1_000_000, 50_000]
    assert dataset.source.num_rows == 1_050_000


# Uploads beside each other, and uploads that were cut short


def test_an_upload_can_be_sealed_again_behind_columns_and_labels_that_came_meanwhile(dataset: Dataset, tmp_path: Path) -> None:
    staged = Staged(tmp_path / "slow")
    staged.ingest([lines([{"mine": 1, "g": "b"}, {"shared": 1, "g": "c"}])], [], {"class_labels": ["g"]})
    staged.seal([])
    dataset.upload([{"theirs": "x", "g": "a"}, {"shared": 0.5, "g": "b"}], class_labels=["g"])
    dataset.take(staged.folder, staged.seal(dataset.columns))
    assert [info.number for info in dataset.infos] == [0, 1, 2, 3]
    assert dataset.types == {"theirs": "string", "g": "class", "shared": "float64", "mine": "int64"}
    assert dataset.column("g") == ["a", "b", "b", "c"]
    assert dataset.column("shared") == [None, 0.5, None, 1.0]
    assert dataset.column("mine") == [None, None, 1, None]


def test_an_upload_whose_column_got_another_type_meanwhile_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    staged = Staged(tmp_path / "slow")
    staged.ingest([lines([{"a": "x"}])], [], {})
    dataset.upload([{"a": 1}])
    with pytest.raises(Refusal) as caught:
        staged.seal(dataset.columns)
    assert (caught.value.report["code"], caught.value.report["column"]) == ("type_mismatch", "a")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_torn_block_makes_no_segment(tmp_path: Path, share: float) -> None:
    staged = Staged(tmp_path / "torn")
    staged.ingest([lines([{"a": i} for i in range(1000)])] * 2, [], {})
    path = staged.folder / "1.arrow"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises((pa.ArrowInvalid, OSError)):
        staged.seal([])
    assert not (staged.folder / "segments").exists()


def test_vectors_that_are_missing_or_torn_make_no_segment(tmp_path: Path) -> None:
    staged = Staged(tmp_path / "torn")
    staged.ingest([lines([{"text": "abc"}])], [], {"embed": EMBED})
    [path] = staged.folder.glob("*.f32")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="3 numbers"):
        staged.seal([])
    path.unlink()
    with pytest.raises(FileNotFoundError):
        staged.seal([])


def test_sealing_again_leaves_nothing_of_the_first_attempt(tmp_path: Path) -> None:
    staged = Staged(tmp_path / "again")
    staged.ingest([lines([{"a": 1}])], [], {})
    staged.seal([])
    sealed = staged.seal([])
    assert [path.name for path in (staged.folder / "segments").iterdir()] == [sealed["segments"][0]["id"]]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no device that is always full")
    (tmp_path / "0.arrow").symlink_to(full)
    options: dict[str, Any] = {}
    told, _ = ask("ingest", b'{"a": 1}\n', staging=str(tmp_path), number=0, first_line=1, schema=None, existing=[], options=options)
    assert told == {"full": True}


def test_the_word_index_finds_words_in_appended_and_merged_segments(filled: Dataset, tmp_path: Path) -> None:
    column = next(info for info in filled.infos if info.words)
    rewritten(filled, "merge", tmp_path)
    index = words.WordIndex(filled.segment().folder / f"{column.field}.words")
    rows, _ = index.find("more")
    assert rows.tolist() == [NUM_ROWS]
