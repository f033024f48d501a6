"""How a dataset goes from one state to the next, and what is shown meanwhile."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.preview import lay
from tests.preview.asking import cells, counts, get, hook, is_quiet, lay_in, refused, rows, until
from tests.serving import Server, serving

GOOD = "name,age\n" + "".join(f"n{number},{number}\n" for number in range(5))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="1") as server:
        yield server
        assert "Traceback" not in server.log


def test_a_good_dataset_that_was_made_bad_shows_its_old_rows(own: Server) -> None:
    lay_in(own, "one", {"train.csv": GOOD})
    before = rows(own, "one")
    assert len(cells(before)) == 5
    until(lambda: is_quiet(own))
    lay_in(own, "one", {"train.csv": "a,b\n1,2\n1,2,3\n"})
    hook(own, {"update": "datasets/one"})
    until(lambda: counts(own)["splits"] == {"error": 1})
    after = rows(own, "one")
    assert after.content == before.content
    assert after.headers["X-Preview-Status"] == "stalled"
    assert after.headers["X-Error-Code"] == "RowsError"
    assert after.headers["Cache-Control"] == "public, max-age=10"
    page = get(own, "/v2/rows", dataset="one", config="default", split="train", offset=4)
    assert [one["row"]["name"] for one in page.json()["rows"]] == ["n4"]
    assert (page.headers["X-Preview-Status"], page.headers["X-Error-Code"]) == ("stalled", "RowsError")
    [report] = get(own, "/cache-reports").json()["splits"]["error"]
    assert report["error"]["cause_exception"] == "ParserError"
    assert get(own, "/is-valid", dataset="one").json() == {"valid": True}
    assert get(own, "/valid").json()["valid"] == ["one"]
    lay_in(own, "one", {"train.csv": GOOD + "last,9\n"})
    hook(own, {"update": "datasets/one"})
    until(lambda: counts(own)["splits"] == {"valid": 1})
    assert len(cells(rows(own, "one"))) == 6
    assert "X-Preview-Status" not in rows(own, "one").headers


def test_a_listing_that_fails_leaves_the_old_one(own: Server) -> None:
    folder = lay_in(own, "one", {"train.csv": GOOD})
    assert rows(own, "one").status_code == 200
    until(lambda: is_quiet(own))
    (folder / "README.md").write_text("---\nconfigs: [*x]\n---\n")
    hook(own, {"update": "datasets/one"})
    until(lambda: counts(own)["datasets"] == {"error": 1})
    answer = get(own, "/splits", dataset="one")
    assert (answer.status_code, answer.headers["X-Preview-Status"]) == (200, "stalled")
    assert answer.headers["X-Error-Code"] == "InfoError"
    assert get(own, "/hf-datasets-count-by-cache-status").json()["canonical"] == {"valid": 0, "error": 1, "missing": 0}


def test_a_split_that_is_listed_no_more_is_gone(own: Server) -> None:
    folder = lay_in(own, "one", {"train.csv": GOOD, "test.csv": GOOD})
    assert rows(own, "one", "test").status_code == 200
    until(lambda: is_quiet(own))
    (folder / "test.csv").unlink()
    hook(own, {"update": "datasets/one"})
    until(lambda: is_quiet(own) and counts(own)["splits"] == {"valid": 1})
    refused(get(own, "/rows", dataset="one", config="default", split="test"), 404, "SplitNotFound")
    assert [one["split"] for one in get(own, "/splits", dataset="one").json()["splits"]] == ["train"]


def test_what_is_declared_is_told_before_it_is_read_and_what_is_not_afterwards(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="1") as server:
        lay_in(server, "one", {"train.csv": GOOD})
        assert rows(server, "one").status_code == 200
        until(lambda: is_quiet(server))
        [split] = get(server, "/splits", dataset="one").json()["splits"]
        assert list(split) == ["dataset", "config", "split", "num_bytes", "num_examples"]
        assert (split["num_bytes"], split["num_examples"]) == (len(GOOD), 5)


def test_too_few_bytes_for_all_rows_show_some(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", ROWS_MAX_BYTES="400") as server:
        lay_in(server, "many", {"train.csv": "a\n" + "".join("x" * 50 + "\n" for _ in range(10))})
        lay_in(server, "long", {"train.csv": "a\n" + "".join("x" * 1000 + "\n" for _ in range(10))})
        many, long = rows(server, "many"), rows(server, "long")
        assert 1 < len(cells(many)) < 10
        assert len(many.content) <= 400
        assert many.headers["X-Preview-Truncated"] == "rows"
        [item] = long.json()["rows"]
        assert len(item["row"]["a"]) == 100
        assert item["truncated_cells"] == ["a"]
        assert long.headers["X-Preview-Truncated"] == "cells, rows"


def test_the_state_outlives_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        lay_in(server, "one", {"train.csv": GOOD})
        before = rows(server, "one")
        until(lambda: is_quiet(server))
        server.stop()
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="0") as server:
        after = get(server, "/rows", dataset="one", config="default", split="train")
        assert (after.content, after.headers["ETag"]) == (before.content, before.headers["ETag"])
        assert get(server, "/valid").json()["valid"] == ["one"]


def test_what_was_removed_while_the_server_was_not_there_is_shown_by_no_list_after_its_start(tmp_path: Path) -> None:
    """As when it was killed between the removal of a dataset and the news of it. What another root has lost may come back."""
    settings = {"SLUICE_SCORE_REPLICAS": "1", "SLUICE_DATASETS_WATCH": "false", "SLUICE_DATASETS_DIR": str(tmp_path / "more")}
    with serving(tmp_path / "data", **settings) as server:
        folders = [lay_in(server, "gone", {"train.csv": GOOD}), lay_in(server, "ann/gone", {"train.csv": GOOD})]
        folders.append(lay(tmp_path / "more", "away", {"train.csv": GOOD}))
        lay_in(server, "kept", {"train.csv": GOOD})
        for name in ("gone", "ann/gone", "away", "kept"):
            assert rows(server, name).status_code == 200
        server.stop(signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder)
    with serving(tmp_path / "data", SLUICE_JOBS_REPLICAS="0", **settings) as server:
        assert [one["id"] for one in get(server, "/hf_datasets").json()["datasets"]] == ["kept"]
        until(lambda: get(server, "/valid").json()["valid"] == ["away", "kept"])
        assert counts(server)["datasets"] == {"valid": 2}
        refused(get(server, "/splits", dataset="gone"), 404, "DatasetNotFound")


def test_a_folder_that_was_removed_by_hand_a_moment_ago_is_not_found(tmp_path: Path) -> None:
    """Also before the next scan; and who waits does not make jobs that find nothing, one after the other."""
    folder = lay(tmp_path / "data" / "datasets", "one", {"train.csv": GOOD})
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        assert [one["id"] for one in get(server, "/hf_datasets").json()["datasets"]] == ["one"]
        shutil.rmtree(folder)
        refused(get(server, "/splits", dataset="one", wait=2), 404, "DatasetNotFound")
        assert counts(server, "/queue") == {"datasets": {}, "splits": {}}


def test_the_second_root_is_read_and_the_first_one_wins(tmp_path: Path) -> None:
    data_dir, more = tmp_path / "data", tmp_path / "more"
    for root, value in ((data_dir / "datasets", "first"), (more, "second")):
        (root / "both").mkdir(parents=True)
        (root / "both" / "train.csv").write_text(f"a\n{value}\n")
    (more / "only").mkdir()
    (more / "only" / "train.csv").write_text("a\nsecond\n")
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1", SLUICE_DATASETS_DIR=str(more)) as server:
        assert cells(rows(server, "both")) == [{"a": "first"}]
        assert cells(rows(server, "only")) == [{"a": "second"}]
        assert "hidden by one of the same name" in server.log


@pytest.mark.heavy
def test_files_that_change_are_read_again_by_themselves_and_a_dataset_that_is_gone_leaves(own: Server) -> None:
    """The server looks every 30 seconds, and believes what it has seen twice."""
    folder = lay_in(own, "one", {"train.csv": "a\n1\n"})
    assert cells(rows(own, "one")) == [{"a": 1}]
    lay_in(own, "one", {"train.csv": "a\n22\n"})
    until(lambda: cells(rows(own, "one")) == [{"a": 22}], 120)
    (folder / "train.csv").unlink()
    folder.rmdir()
    until(lambda: counts(own) == {"datasets": {}, "splits": {}}, 120)
    until(lambda: not list((own.data_dir / "prepared").rglob("*.parquet")), 60)
