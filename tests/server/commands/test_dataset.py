"""The command `dataset`, run as people run it: files of four kinds go in, rows come out, and one line says what went wrong."""

import datetime
import gzip
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from tests.clients import ndjson
from tests.datasets.asking import described, made, post, put, rows, titles
from tests.serving import ROOT, Server, serving

ROWS = [{"name": f"x{i}", "n": i} for i in range(50)]
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("dataset") / "data", SLUICE_SCORE_REPLICAS="1") as running:
        yield running


def environment(server: Server) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return plain | {"SLUICE_URL": server.url, "SLUICE_KEY": server.key}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "server", "dataset", *map(str, arguments)]


def dataset(server: Server, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(server),
        timeout=TIMEOUT_S,
        check=False,
    )


def done(server: Server, *arguments: object) -> str:
    """Standard output of a command that ends well."""
    ended = dataset(server, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def failed(server: Server, *arguments: object, code: int = 1) -> str:
    """The one line that says why a command failed."""
    ended = dataset(server, *arguments)
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    [line] = ended.stderr.splitlines()[-1:]
    assert "Traceback" not in ended.stderr
    return line


# Import


def test_files_of_four_kinds_become_one_dataset(house: Server, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,n\n" + "".join(f"{row['name']},{row['n']}\n" for row in ROWS))
    (tmp_path / "b.tsv").write_text("name\tn\nb\t1\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(ndjson([{"name": "c", "n": 2}])))
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    pq.write_table(pa.table({"name": ["d"], "n": [3], "when": pa.array([when])}), tmp_path / "d.parquet")
    files = [tmp_path / name for name in ("a.csv", "b.tsv", "c.jsonl.gz", "d.parquet")]
    ended = dataset(house, "import", "admin/kinds", *files, "--words", "name")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith("hub://admin/kinds version 1: 53 rows added, ")
    columns = {one["name"]: one for one in described(house, "admin/kinds")["columns"]}
    assert (columns["n"]["dtype"], columns["when"]["dtype"], columns["name"]["words"]) == ("int64", "timestamp", True)
    stored = rows(house, "admin/kinds")
    assert [row["name"] for row in stored] == [*(row["name"] for row in ROWS), "b", "c", "d"]
    assert stored[-1]["when"] == when
    answer = requests.get(f"{house.url}/rows?dataset=admin/kinds&config=default&split=train&wait=30", auth=house.auth, timeout=60)
    assert [one["row"]["name"] for one in answer.json()["rows"]] == [row["name"] for row in stored]
    body = {"query": "select n from \"admin/kinds\" where bm25_similarity(name, 'd') > 0"}
    answer = requests.post(f"{house.url}/api/query/v1", json=body, auth=house.auth, timeout=60)
    assert answer.json()["data"] == [{"n": 3}]


def test_columns_of_a_parquet_file_that_begin_with_nulls_keep_their_types(house: Server, tmp_path: Path) -> None:
    """More than the 1,000 rows that decide the types of an upload. A class label and a type that is given come first."""
    nulls: list[Any] = [None] * 1100
    columns = {"n": pa.array([*nulls, 7]), "x": pa.array([*nulls, 1]), "g": pa.array([*nulls, "a"]), "s": pa.array([*nulls, "b"])}
    pq.write_table(pa.table({"i": range(1101), **columns}), tmp_path / "a.parquet")
    done(house, "import", "admin/late", tmp_path / "a.parquet", "--types", "x:float64", "--class-labels", "g")
    found = {one["name"]: one["dtype"] for one in described(house, "admin/late")["columns"]}
    assert found == {"i": "int64", "n": "int64", "x": "float64", "g": "class", "s": "string"}
    done(house, "import", "admin/late", tmp_path / "a.parquet", "--append")
    assert [row["n"] for row in rows(house, "admin/late") if row["n"]] == [7, 7]


def test_append_keeps_the_rows_that_are_there(house: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ndjson(ROWS))
    done(house, "import", "admin/more", tmp_path / "a.jsonl")
    done(house, "import", "admin/more", tmp_path / "a.jsonl", "--append")
    assert rows(house, "admin/more") == ROWS + ROWS
    done(house, "import", "hub://admin/more", tmp_path / "a.jsonl")
    assert rows(house, "admin/more") == ROWS


def test_options_go_to_the_server(house: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ndjson([{"g": "a", "n": 1}, {"g": "b", "n": 2}]) + b"nonsense\n")
    ended = dataset(
        house, "import", "admin/options", tmp_path / "a.jsonl", "--types", "n:float64", "--class-labels", "g",
        "--on-error", "skip", "--split", "test",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "2 rows added, 1 skipped" in ended.stderr
    assert "line 3: " in ended.stderr
    found = described(house, "admin/options")
    assert {one["name"]: one["dtype"] for one in found["columns"]} == {"g": "class", "n": "float64"}
    assert found["splits"] == {"test": 2}


def test_one_line_says_why_an_import_failed_and_nothing_is_stored(house: Server, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(ndjson(ROWS) + b"nonsense\n")
    (tmp_path / "table.xls").write_text("a")
    (tmp_path / "bad.parquet").write_text("no parquet")
    assert "line 51: " in failed(house, "import", "admin/failed", tmp_path / "bad.jsonl")
    assert "none.csv" in failed(house, "import", "admin/failed", tmp_path / "none.csv")
    assert "table.xls" in failed(house, "import", "admin/failed", tmp_path / "table.xls")
    assert "bad.parquet" in failed(house, "import", "admin/failed", tmp_path / "bad.parquet")
    assert "404" in failed(house, "import", "admin/failed", tmp_path / "bad.jsonl", "--append")
    assert "401" in failed(house, "import", "admin/failed", tmp_path / "bad.jsonl", "--key", "0" * 32)
    assert "no answer" in failed(house, "import", "admin/failed", tmp_path / "bad.jsonl", "--url", "http://127.0.0.1:1")
    assert "admin/failed" not in titles(house)


@pytest.mark.parametrize("arguments", [("import", "admin"), ("import", "a/b/c", "f"), ("nonsense",), ("list", "--url", "nowhere")])
def test_a_usage_error_is_64(house: Server, arguments: tuple[str, ...]) -> None:
    failed(house, *arguments, code=64)


def test_an_import_shows_its_progress_on_a_terminal(house: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ndjson({"name": "x" * 100, "n": i} for i in range(40_000)))
    text = on_terminal(house, "import", "admin/progress", tmp_path / "a.jsonl")
    *drawn, last = [line for line in text.split("\r\x1b[K") if line]
    assert drawn
    assert all("% " in line and " rows  " in line for line in drawn)
    assert last.startswith("hub://admin/progress version 1: 40,000 rows added, ")


def on_terminal(server: Server, *arguments: object) -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen(command(*arguments), stderr=theirs, cwd=ROOT, env=environment(server)) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the terminal has no other end any more
                break
            shown += data
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


# The others


def test_list_describe_and_delete_are_the_calls(house: Server) -> None:
    made(put(house, "admin/first", ROWS))
    made(put(house, "admin/second", ROWS))
    made(post(house, "admin/first", ROWS), 200)
    listed = [line.split("\t") for line in done(house, "list").splitlines()]
    assert ["admin/first", "100 rows", "version 2"] in [line[:3] for line in listed]
    assert done(house, "list", "eva") == ""
    assert json.loads(done(house, "describe", "admin/first")) == described(house, "admin/first")
    assert json.loads(done(house, "describe", "admin/first", "--version", "1"))["rows"] == 50
    done(house, "delete", "admin/first", "--version", "1")
    assert len(described(house, "admin/first")["versions"]) == 1
    done(house, "delete", "admin/first")
    assert failed(house, "delete", "admin/first") == 'dataset delete: 404 There is no dataset "hub://admin/first".'


def test_an_export_has_every_row_of_every_split_once(house: Server, tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = [{"name": f"é{i}", "n": i, "list": [i, i + 1]} for i in range(20)]
    made(put(house, "admin/exported", sent))
    made(post(house, "admin/exported", sent[:5], "?split=test"), 200)
    done(house, "export", "admin/exported", tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == sent + sent[:5]
    assert [json.loads(line) for line in done(house, "export", "admin/exported", "-", "--version", "1").splitlines()] == sent
    assert failed(house, "export", "admin/exported", "/nowhere/out.jsonl").endswith(
        "No such file or directory: '/nowhere/out.jsonl'"
    )


def test_an_export_that_fails_leaves_the_file_that_was_there_and_no_other(house: Server, tmp_path: Path) -> None:
    """The rows of the second split are gone from the disk, so the export fails in its middle."""
    made(put(house, "admin/torn", ROWS))
    made(post(house, "admin/torn", ROWS, "?split=test"), 200)
    folder = house.data_dir / "datasets" / "admin" / "torn" / ".sluice" / "segments"
    [*_, last] = json.loads((folder.parent / "versions" / "2.json").read_text())["segments"]
    shutil.rmtree(folder / last["id"])
    (tmp_path / "kept.jsonl").write_text("kept")
    failed(house, "export", "admin/torn", tmp_path / "kept.jsonl")
    failed(house, "export", "admin/torn", tmp_path / "new.jsonl")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept.jsonl", "kept")]


def test_an_export_replaces_a_file_whole_and_leaves_who_may_read_it(house: Server, tmp_path: Path) -> None:
    made(put(house, "admin/replacing", ROWS))
    path = tmp_path / "out.jsonl"
    path.write_text("x" * 100_000)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    done(house, "export", "admin/replacing", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_export_has_more_columns_than_one_query_may_have(house: Server, tmp_path: Path) -> None:
    """1,500 rows, because the server is asked for 1,000 at a time."""
    sent = [{"i": i, 'a "name"': "x", **{f"column {j}": i * j for j in range(600)}, "last, }": None} for i in range(1500)]
    sent[0]["last, }"] = "}"
    made(put(house, "admin/wide", sent))
    done(house, "export", "admin/wide", tmp_path / "out.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == sent
