"""Hooks: what other programs may say, and what it does to the cache and the queue."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.preview.asking import cells, counts, get, hook, is_quiet, lay_in, refused, rows, until
from tests.serving import Server, serving

OK = {"status": "ok"}
NOT_JSON = "the body could not be parsed as a JSON"
INVALID = "the JSON payload is invalid"
BAD_NAME = "the dataset name is invalid"


def jobs(server: Server, status: str = "waiting", sort: str = "datasets") -> list[str]:
    """Names of datasets; the admin is told also of those that nobody has."""
    return [job["dataset_name"] for job in get(server, "/queue-dump", auth=server.auth).json()[sort][status]]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes no jobs, so that what waits can be looked at."""
    with serving(tmp_path_factory.mktemp("idle") / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="0") as server:
        lay_in(server, "glue", {"train.csv": "a\n1\n"})
        lay_in(server, "allenai/c4", {"train.csv": "a\n1\n"})
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="1") as server:
        yield server
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", NOT_JSON),
        (b"{", NOT_JSON),
        (b'{"add":"\xff"}', NOT_JSON),
        (b"[" * 60_000, NOT_JSON),
        (None, INVALID),
        (5, INVALID),
        ("add", INVALID),
        (["add"], INVALID),
        ([], INVALID),
        ({"update": 5}, INVALID),
        ({"add": ["datasets/glue"]}, INVALID),
        ({"add": "datasets/"}, BAD_NAME),
        ({"add": "datasets/../x"}, BAD_NAME),
        ({"add": "datasets/a/b/c"}, BAD_NAME),
        ({"remove": "datasets/a//b"}, BAD_NAME),
        ({"add": "datasets/never-asked", "update": "datasets/../x"}, BAD_NAME),
    ],
)
def test_a_body_that_is_wrong_is_refused_and_nothing_of_it_is_carried_out(idle: Server, body: Any, error: str) -> None:
    before = jobs(idle)
    answer = hook(idle, body)
    assert (answer.status_code, answer.json()) == (400, {"status": "error", "error": error})
    assert jobs(idle) == before


@pytest.mark.parametrize("body", [{}, {"other": 1}, {"add": None}, {"add": "dataset1"}, {"add": "models/x"}, {"update": ""}])
def test_a_body_about_something_else_is_accepted_and_does_nothing(idle: Server, body: Any) -> None:
    before = jobs(idle)
    answer = hook(idle, body)
    assert (answer.status_code, answer.json()) == (200, OK)
    assert jobs(idle) == before


def test_both_words_ask_for_a_job_and_the_same_name_waits_once(idle: Server) -> None:
    for word in ("add", "update", "update"):
        for name in ("glue", "allenai/c4"):
            assert hook(idle, {word: f"datasets/{name}"}).json() == OK
    assert sorted(jobs(idle)) == ["allenai/c4", "glue"]
    assert counts(idle) == {"datasets": {"empty": 2}, "splits": {}}


def test_a_content_type_does_not_matter_and_a_large_body_is_refused(idle: Server) -> None:
    assert hook(idle, {}, Content_Type="text/plain").status_code == 200
    answer = hook(idle, b" " * (64 * 1024 + 1))
    assert answer.status_code == 413
    assert answer.json()["status"] == "error"


def test_add_and_remove_in_one_body_leave_nothing(own: Server) -> None:
    lay_in(own, "glue", {"train.csv": "a\n1\n"})
    assert rows(own, "glue").status_code == 200
    until(lambda: is_quiet(own))
    assert hook(own, {"remove": "datasets/glue", "add": "datasets/glue"}).json() == OK
    assert counts(own) == {"datasets": {}, "splits": {}}
    assert jobs(own) == []
    refused(get(own, "/splits", dataset="glue"), 404, "DatasetNotFound")
    assert jobs(own) == [], "asking for a dataset that was taken out does not bring it back"
    assert get(own, "/is-valid", dataset="glue").json() == {"valid": False}
    assert hook(own, {"update": "datasets/glue"}).json() == OK
    assert rows(own, "glue").status_code == 200


def test_fifty_updates_are_one_waiting_job(idle: Server) -> None:
    for _ in range(50):
        hook(idle, {"update": "datasets/glue"})
    assert jobs(idle).count("glue") == 1


def stopped_replicas(server: Server) -> list[int]:
    """Stop the replicas of jobs, so that a job that is started stays so."""
    pids = [pid for pid in server.replica_pids() if os.getpriority(os.PRIO_PROCESS, pid) == 10]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def go_on(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # the server kills a replica whose job was cancelled
            os.kill(pid, signal.SIGCONT)


def test_an_update_during_a_run_leads_to_exactly_one_more_which_sees_the_new_content(own: Server) -> None:
    lay_in(own, "glue", {"train.csv": "a\n1\n"})
    assert cells(rows(own, "glue")) == [{"a": 1}]
    until(lambda: is_quiet(own))
    pids = stopped_replicas(own)
    hook(own, {"update": "datasets/glue"})
    until(lambda: jobs(own, "started") == ["glue"])
    lay_in(own, "glue", {"train.csv": "a\n22\n"})
    for _ in range(5):
        hook(own, {"update": "datasets/glue"})
    assert (jobs(own, "started"), jobs(own)) == (["glue"], ["glue"])
    go_on(pids)
    until(lambda: is_quiet(own))
    assert jobs(own, "success") == ["glue"] * 3
    assert cells(rows(own, "glue")) == [{"a": 22}]


def test_what_is_removed_while_its_job_runs_does_not_come_back(own: Server) -> None:
    lay_in(own, "glue", {"train.csv": "a\n1\n"})
    assert rows(own, "glue").status_code == 200
    until(lambda: is_quiet(own))
    pids = stopped_replicas(own)
    hook(own, {"update": "datasets/glue"})
    until(lambda: jobs(own, "started") == ["glue"])
    assert hook(own, {"remove": "datasets/glue"}).json() == OK
    assert counts(own) == {"datasets": {}, "splits": {}}
    go_on(pids)
    until(lambda: is_quiet(own))
    assert counts(own) == {"datasets": {}, "splits": {}}
    assert (own.data_dir / "datasets" / "glue" / "train.csv").exists(), "the data itself stays"


def test_a_name_that_is_not_in_the_catalogue_is_looked_for_and_leaves_no_entry(own: Server) -> None:
    assert hook(own, {"add": "datasets/ghost"}).json() == OK
    until(lambda: jobs(own, "error") == ["ghost"])
    assert counts(own) == {"datasets": {}, "splits": {}}


def test_a_dataset_whose_files_are_gone_leaves_the_cache(own: Server) -> None:
    path = lay_in(own, "glue", {"train.csv": "a\n1\n"})
    assert rows(own, "glue").status_code == 200
    until(lambda: is_quiet(own))
    (path / "train.csv").unlink()
    path.rmdir()
    hook(own, {"update": "datasets/glue"})
    until(lambda: jobs(own, "error") == ["glue"])
    assert counts(own) == {"datasets": {}, "splits": {}}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", NOT_JSON),
        (b"[]", INVALID),
        ({}, INVALID),
        ({"dataset": "glue", "config": "default"}, INVALID),
        ({"dataset": "glue", "config": "default", "split": " "}, INVALID),
        ({"dataset": "glue", "config": "default", "split": 5}, INVALID),
        ({"dataset": "glue", "config": "default", "split": "train "}, "the split does not exist"),
        ({"dataset": "glue", "config": "default", "split": "nothing"}, "the split does not exist"),
        ({"dataset": "../x", "config": "default", "split": "train"}, "the split does not exist"),
    ],
)
def test_a_split_that_is_not_cached_cannot_be_refreshed(idle: Server, body: Any, error: str) -> None:
    answer = hook(idle, body, "/refresh-split")
    assert (answer.status_code, answer.json()) == (400, {"status": "error", "error": error})
    assert jobs(idle, sort="splits") == []


def test_a_split_is_read_again(own: Server) -> None:
    lay_in(own, "glue", {"train.csv": "a\n1\n"})
    assert cells(rows(own, "glue")) == [{"a": 1}]
    until(lambda: is_quiet(own))
    lay_in(own, "glue", {"train.csv": "a\n2\n"})
    assert hook(own, {"dataset": "glue", "config": "default", "split": "train"}, "/refresh-split").json() == OK
    until(lambda: len(jobs(own, "success", "splits")) == 2)
    assert cells(rows(own, "glue")) == [{"a": 2}]


def test_a_secret_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    settings = {"SLUICE_WEBHOOK_SECRET": "opensesame", "SLUICE_JOBS_REPLICAS": "0", "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path / "data", **settings) as server:
        for path in ("/webhook", "/refresh-split"):
            for headers in ({}, {"X_Webhook_Secret": "open"}, {"X_Webhook_Secret": ""}):
                answer = hook(server, {"add": "datasets/x"}, path, **headers)
                assert (answer.status_code, answer.json()["status"]) == (401, "error")
        assert hook(server, {"add": "datasets/x"}, X_Webhook_Secret="opensesame").json() == OK
        assert jobs(server) == ["x"]
