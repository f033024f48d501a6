"""Preview with workers beside the server, and the words of make about its queue and cache."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.preview.asking import cells, counts, get, hook, is_quiet, lay_in, refused, until
from tests.serving import ROOT, Server, clean_environment, serving

OPEN = {"MAX_LOAD_PCT": "0", "MAX_MEMORY_PCT": "0", "WORKER_SLEEP_SECONDS": "0.1"}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Server]:
    """A server that takes no jobs itself."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="0") as server:
        yield server


@contextmanager
def worker(server: Server, queue: str, **settings: str) -> Iterator[None]:
    names = {"SLUICE_DATA_DIR": str(server.data_dir), "WORKER_QUEUE": queue}
    environment = {**clean_environment(), **OPEN, **names, **settings}
    process = subprocess.Popen([sys.executable, "-m", "server", "worker"], cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(15) == 0


def command(server: Server, *words: str) -> str:
    line = [sys.executable, "-m", "server", "--data-dir", str(server.data_dir), *words]
    return subprocess.run(line, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=True).stdout


def test_one_worker_lists_and_another_one_reads(alone: Server) -> None:
    lay_in(alone, "people", {"train.csv": "name,age\nann,1\nbob,2\n", "test.csv": "name,age\neva,3\n"})
    refused(get(alone, "/splits", dataset="people"), 404, "DatasetNotReady")
    with worker(alone, "datasets"):
        until(lambda: counts(alone) == {"datasets": {"valid": 1}, "splits": {"empty": 2}})
        assert get(alone, "/is-valid", dataset="people").json() == {"valid": False}
        splits = get(alone, "/splits", dataset="people").json()["splits"]
        assert [(one["split"], one["num_bytes"], one["num_examples"]) for one in splits] == [
            ("train", None, None),
            ("test", None, None),
        ]
        answer = get(alone, "/rows", dataset="people", config="default", split="train")
        refused(answer, 404, "SplitNotReady", "The split is being processed. Retry later.")
        assert counts(alone, "/queue") == {"datasets": {"success": 1}, "splits": {"waiting": 2}}
    with worker(alone, "splits"):
        answer = get(alone, "/rows", dataset="people", config="default", split="train", wait=30)
        assert cells(answer) == [{"name": "ann", "age": 1}, {"name": "bob", "age": 2}]
        assert [one["column"]["type"] for one in answer.json()["columns"]] == ["STRING", "INT"]
        until(lambda: counts(alone, "/queue") == {"datasets": {"success": 1}, "splits": {"success": 2}})
        assert get(alone, "/is-valid", dataset="people").json() == {"valid": True}
        until(lambda: is_quiet(alone))
        assert get(alone, "/v2/rows", dataset="people", config="default", split="test").json()["partial"] is False


def test_warming_queues_what_is_missing_and_cleaning_forgets_what_was_read(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_WORKER_SLEEP_SECONDS="0.1") as server:
        lay_in(server, "one", {"train.csv": "a\n1\n"})
        lay_in(server, "ann+b@example.org/two", {"train.csv": "a\n2\n"})
        command(server, "warm")
        until(lambda: counts(server) == {"datasets": {"valid": 2}, "splits": {"valid": 2}})
        hook(server, {"remove": "datasets/one"})
        until(lambda: is_quiet(server))
        command(server, "clean-cache")
        until(lambda: counts(server) == {"datasets": {}, "splits": {}})
        assert counts(server, "/queue")["datasets"] == {"success": 2}
        command(server, "clean-queues")
        until(lambda: counts(server, "/queue") == {"datasets": {}, "splits": {}})
        refused(get(server, "/splits", dataset="one"), 404, "DatasetNotFound")
        assert get(server, "/splits", dataset="ann+b@example.org/two", wait=30).status_code == 200
        command(server, "warm")
        until(lambda: get(server, "/is-valid", dataset="one").json() == {"valid": True})
        assert (server.data_dir / "datasets" / "one" / "train.csv").exists()


def words_of_make(server: Server, *words: str) -> str:
    """As a person types them, with the environment of the tests."""
    line = ["make", "--no-print-directory", "--old-file", f"{sys.prefix}/installed", f"VENV={sys.prefix}", *words]
    environment = clean_environment() | {"SLUICE_DATA_DIR": str(server.data_dir)}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_words_of_make_do_what_they_say(alone: Server) -> None:
    lay_in(alone, "one", {"train.csv": "a\n1\n"})
    words_of_make(alone, "warm")
    assert alone.metric('sluice_jobs{kind="warm",status="waiting"}') == 1
    for word, left in (("cancel-started-jobs", 1), ("cancel-waiting-jobs", 0)):
        words_of_make(alone, word)
        until(lambda: alone.metric('sluice_jobs{kind="warm",status="waiting"}') == left)  # noqa: B023
    for word, cached in (("clean-queues", 1), ("clean-cache", 0), ("clean", 0)):
        refused(get(alone, "/splits", dataset="one"), 404, "DatasetNotReady")
        words_of_make(alone, word)
        until(lambda: counts(alone)["datasets"].get("empty", 0) == cached)  # noqa: B023
        is_empty = counts(alone, "/queue") == {"datasets": {}, "splits": {}}
        assert is_empty or word == "clean-cache"
    assert (alone.data_dir / "datasets" / "one" / "train.csv").exists()


@pytest.mark.parametrize(("word", "program"), [("run", "-m server"), ("watch", "-m server watch"), ("worker", "-m server worker")])
def test_the_words_of_make_that_go_on_start_their_program(alone: Server, word: str, program: str) -> None:
    assert words_of_make(alone, "--dry-run", word).rstrip().endswith(program)


def test_waiting_jobs_can_be_cancelled(alone: Server) -> None:
    lay_in(alone, "one", {"train.csv": "a\n1\n"})
    refused(get(alone, "/splits", dataset="one"), 404, "DatasetNotReady")
    command(alone, "cancel-jobs", "waiting")
    until(lambda: counts(alone, "/queue") == {"datasets": {"cancelled": 1}, "splits": {}})
    refused(get(alone, "/splits", dataset="one"), 404, "DatasetNotReady")
    assert counts(alone, "/queue") == {"datasets": {"waiting": 1, "cancelled": 1}, "splits": {}}, "asking starts the work again"
