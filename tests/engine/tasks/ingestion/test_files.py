"""Files of people become lines that say the same."""

import csv
import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.ingestion import files
from engine.tasks.ingestion.files import FileLines


def read(path: Path) -> tuple[list[Any], dict[str, Any]]:
    """The rows of a file by its lines, and what the last part says."""
    reader = FileLines()
    rows: list[Any] = []
    part = 0
    while True:
        told, pieces = reader.answer({"source": str(path), "part": part})
        assert "refused" not in told, told
        found = [json.loads(line) for line in b"".join(map(bytes, pieces)).splitlines()]
        assert len(found) == told["rows"]
        rows += found
        if told["is_last"]:
            return rows, told
        part += 1


def refusal(path: Path) -> str:
    told, _ = FileLines().answer({"source": str(path), "part": 0})
    return str(told["refused"])


def written(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz"])
def test_the_cells_of_a_csv_file_get_the_type_that_the_whole_column_has(tmp_path: Path, name: str) -> None:
    text = 'n,f,b,s,zip,e\n1,1,true,a,01234,\n-2,2.5,False,"b,""c""\nd",12,\n,1e3,,,,\n'
    rows, told = read(written(tmp_path / name, text))
    assert rows == [
        {"n": 1, "f": 1.0, "b": True, "s": "a", "zip": "01234", "e": None},
        {"n": -2, "f": 2.5, "b": False, "s": 'b,"c"\nd', "zip": "12", "e": None},
        {"n": None, "f": 1000.0, "b": None, "s": None, "zip": None, "e": None},
    ]
    assert (told["done"], told["types"]) == (1.0, {})


def test_a_late_cell_widens_the_column_from_its_first_row_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PART_BYTES", 100)
    path = written(tmp_path / "a.csv", "x,y\n" + "1,1\n" * 200 + "2.5,late\n")
    rows, _ = read(path)
    assert rows[0] == {"x": 1.0, "y": "1"}
    assert isinstance(rows[0]["x"], float)
    assert rows[-1] == {"x": 2.5, "y": "late"}
    assert len(rows) == 201


def test_an_empty_text_in_quotes_is_a_text(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.tsv", 'a\tb\n""\tx\n\ty\n'))[0] == [{"a": "", "b": "x"}, {"a": None, "b": "y"}]


def test_integers_beyond_18_digits_stay_as_they_are_written(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.csv", "x\n12345678901234567890\n"))[0] == [{"x": "12345678901234567890"}]


def test_a_csv_file_without_rows_has_no_lines(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.csv", "x,y\n"))[0] == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson.gz", "a.jsonl.gz"])
def test_json_lines_go_on_as_they_are(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PART_BYTES", 50)
    rows = [{"x": "y" * (i % 120)} for i in range(30)]
    assert read(written(tmp_path / name, "\n".join(map(json.dumps, rows))))[0] == rows


def test_the_values_of_a_parquet_file_become_json(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([2**60, None]),
        "f": pa.array([0.5, float("nan")]),
        "f32": pa.array([0.1, None], pa.float32()),
        "s": pa.array(["ä", None]).dictionary_encode(),
        "t": pa.array([datetime(2026, 1, 1, 5, tzinfo=UTC), None], pa.timestamp("ns", "Europe/Berlin")),
        "naive": pa.array([datetime(2026, 1, 1, 5, 0, 0, 5), None]),
        "d": pa.array([date(2026, 1, 1), None]),
        "raw": pa.array([b"\xff", None]),
        "dec": pa.array([Decimal("1.50"), None]),
        "v": pa.array([[0.5, 1.5], None], pa.list_(pa.float32(), 2)),
        "o": pa.array([{"a": [1], "b": None}, None]),
        "u": pa.array([2**64 - 1, None], pa.uint64()),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    rows, told = read(tmp_path / "a.parquet")
    first = {"i": 2**60, "f": 0.5, "s": "ä", "t": "2026-01-01T05:00:00Z", "naive": "2026-01-01T05:00:00.000005Z"}
    rest = {"d": "2026-01-01", "raw": "/w==", "dec": "1.50", "v": [0.5, 1.5], "o": {"a": [1], "b": None}, "u": 2**64 - 1}
    assert rows == [first | {"f32": pytest.approx(0.1)} | rest, dict.fromkeys(columns)]
    assert told["types"] == {"t": "timestamp", "naive": "timestamp", "d": "date", "raw": "bytes"}


def test_a_parquet_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PARQUET_ROWS", 10)
    pq.write_table(pa.table({"i": list(range(95))}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0] == [{"i": i} for i in range(95)]


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.text(alphabet="ab,\"\n\r\t '1é."), min_size=1, max_size=5))
def test_any_texts_in_quotes_pass_through_a_csv_file(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["x"], ["one text, so that all are"], *([value] for value in values)])
    assert [row["x"] for row in read(path)[0][1:]] == values


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.xlsx", b"", "the name ends in none of"),
        ("missing.csv", None, "No such file"),
        ("a.parquet", b"PAR1 no", "cannot be read"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv", b"x,x\n1,2\n", "two columns have the same name"),
        ("a.csv", b"x,y\n1\n", "cannot be read"),
        ("a.csv", b"x\n\xff\n", "cannot be read"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 1000)[:-9], "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str, data: bytes | None, reason: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    text = refusal(tmp_path / name)
    assert reason in text
    assert "\n" not in text


def test_a_parquet_file_tells_the_types_of_columns_whose_first_rows_are_null(tmp_path: Path) -> None:
    nothing: list[Any] = [None] * 40
    columns = {
        "i": pa.array([*nothing, 1], pa.int32()),
        "big": pa.array([*nothing, 1], pa.uint64()),
        "x": pa.array([*[float("nan")] * 40, 1.5]),
        "is": pa.array([*nothing, True]),
        "s": pa.array([*nothing, "a"], pa.dictionary(pa.int8(), pa.string())),
        "l": pa.array([*nothing, [1]], pa.list_(pa.int64())),
        "deep": pa.array([*nothing, [[1]]], pa.list_(pa.list_(pa.int64()))),
        "t": pa.array([*nothing, datetime(2026, 1, 1)]),
        "early": pa.array([1, *nothing]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    _, told = read(tmp_path / "a.parquet")
    assert told["late_types"] == {"i": "int64", "x": "float64", "is": "bool", "s": "string", "l": "list<int64>"}
    assert told["types"] == {"t": "timestamp"}
