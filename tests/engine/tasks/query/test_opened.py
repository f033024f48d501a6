"""A replica opens the files of a version once, and lets go of what it does not use."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.tasks.query import opened
from engine.tasks.query.opened import OpenedSources
from engine.tasks.query.segments import PAYLOAD


def grant(root: Path, version: int, values: list[int]) -> dict[str, Any]:
    """One version of one segment with a column of whole numbers."""
    folder = root / f"s{version}"
    folder.mkdir(exist_ok=True)
    with pa.OSFile(str(folder / PAYLOAD), "wb") as file, pa.ipc.new_file(file, pa.schema([("c0", pa.int64())])) as writer:
        writer.write_table(pa.table({"c0": pa.array(values, pa.int64())}))
    columns = [{"number": 0, "name": "n", "dtype": "int64"}]
    title = f"ann/facts@{version}"
    return {"title": title, "folder": str(root), "columns": columns, "segments": [{"id": folder.name, "rows": len(values)}]}


def test_a_version_is_opened_once_and_another_version_is_another_source(tmp_path: Path) -> None:
    sources = OpenedSources()
    first, second = grant(tmp_path, 1, [1, 2]), grant(tmp_path, 2, [3])
    one = sources.granted(first)
    assert sources.granted(dict(first)) is one
    assert sources.granted(second).table["c0"].to_pylist() == [3]
    assert one.table["c0"].to_pylist() == [1, 2]


def test_a_part_of_a_version_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    sources = OpenedSources()
    whole = grant(tmp_path, 1, [1, 2])
    whole["segments"] += grant(tmp_path, 2, [3])["segments"]
    assert sources.granted(whole).num_rows == 3
    assert sources.granted({**whole, "segments": whole["segments"][:1]}).num_rows == 2


def test_what_was_not_used_for_longest_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "MAX_KEPT", 2)
    sources = OpenedSources()
    grants = [grant(tmp_path, version, [version]) for version in (1, 2, 3)]
    found = [sources.granted(one) for one in grants]
    assert [sources.granted(one) is old for one, old in zip(grants[::-1], found[::-1], strict=True)] == [True, True, False]


def test_a_deleted_dataset_is_let_go_by_queries_of_others(tmp_path: Path) -> None:
    sources = OpenedSources()
    gone, other = grant(tmp_path, 1, [1]), grant(tmp_path, 2, [2])
    one = sources.granted(gone)
    shutil.rmtree(tmp_path / "s1")
    sources.granted(other)
    grant(tmp_path, 1, [1])
    assert sources.granted(gone) is not one
