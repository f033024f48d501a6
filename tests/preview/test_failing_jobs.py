"""Jobs that take too long, need too much memory, end their process or fail otherwise, as those see it who ask for the data."""

from typing import Any

import pytest

from tests.preview.asking import counts, get, hook, is_quiet, lay_in, refused, rows, until
from tests.preview.preludes import Preludes
from tests.serving import Server

PLACE = {"dataset": "one", "config": "default", "split": "train"}
# What a replica does before its own work, with the code and the message that people see.
TIME = {"task": "wait", "hears": False, "mark": "/dev/null", "time_limit_s": 0.3}
MEMORY = {"task": "grow", "bytes": 2**30, "memory_bytes": 2**26}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "JobTimeout": (TIME, "The job took longer than 300 s."),
    "JobMemory": (MEMORY, "The job needed more than 512 MiB."),
    "JobCrashed": ({"task": "die"}, "The worker died 3 times on this job."),
    "UnexpectedError": ({"task": "fail"}, "Unexpected error."),
}


def failing(preludes: Preludes, kind: str, code: str) -> Server:
    server = preludes.server()
    preludes.put(kind, **CASES[code][0])
    lay_in(server, "one", {"train.csv": "a\n1\n", "test.csv": "a\n2\n"})
    return server


def attempts(preludes: Preludes, kind: str) -> list[int]:
    return [row["attempts"] for row in preludes.ask("SELECT attempts FROM job WHERE kind = ? AND status = 'error'", kind)]


@pytest.mark.parametrize("code", CASES)
def test_a_listing_that_comes_to_nothing_is_a_stored_error(preludes: Preludes, code: str) -> None:
    server = failing(preludes, "dataset", code)
    answer = get(server, "/splits", dataset="one", wait=30)
    body = refused(answer, 500, code, CASES[code][1])
    assert answer.headers["Cache-Control"] == "no-store"
    assert body["cause_traceback"] == []
    if code == "UnexpectedError":
        assert (body["cause_exception"], body["cause_message"]) == ("LookupError", "a bug")
    else:
        assert (body["cause_exception"], body["cause_message"]) == (body["exception"], body["message"])
    refused(rows(server, "one"), 500, code)
    assert counts(server) == {"datasets": {"error": 1}, "splits": {}}
    assert get(server, "/is-valid", dataset="one").json() == {"valid": False}
    assert attempts(preludes, "dataset") == [3 if code == "JobCrashed" else 1]
    preludes.clear("dataset")
    refused(get(server, "/splits", dataset="one"), 500, code)
    assert counts(server, "/queue")["datasets"] == {"error": 1}, "asking for a stored error starts nothing"
    hook(server, {"update": "datasets/one"})
    until(lambda: counts(server)["datasets"] == {"valid": 1})
    assert rows(server, "one").status_code == 200


@pytest.mark.parametrize("code", CASES)
def test_rows_that_come_to_nothing_are_a_stored_error_of_their_split(preludes: Preludes, code: str) -> None:
    server = failing(preludes, "split", code)
    refused(rows(server, "one"), 500, code, CASES[code][1])
    refused(get(server, "/first-rows", wait=30, **PLACE), 500, code)
    assert get(server, "/splits", dataset="one").status_code == 200
    until(lambda: counts(server) == {"datasets": {"valid": 1}, "splits": {"error": 2}})
    [error] = {item["error"]["message"] for item in get(server, "/cache-reports").json()["splits"]["error"]}
    assert error == CASES[code][1]
    assert get(server, "/hf-datasets-count-by-cache-status").json()["canonical"] == {"valid": 0, "error": 1, "missing": 0}
    preludes.clear("split")
    assert hook(server, PLACE, "/refresh-split").status_code == 200
    until(lambda: counts(server)["splits"] == {"valid": 1, "error": 1})
    assert rows(server, "one").status_code == 200
    refused(rows(server, "one", "test"), 500, code)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *(("prepare", code) for code in ("JobTimeout", "JobMemory", "JobCrashed")),
        *(("statistics", code) for code in ("JobTimeout", "UnexpectedError")),
    ],
)
def test_what_comes_after_the_rows_fails_by_itself(preludes: Preludes, kind: str, code: str) -> None:
    """Rows stay valid. What needs the failed part says why it is not there."""
    server = failing(preludes, kind, code)
    assert rows(server, "one").status_code == 200
    until(lambda: is_quiet(server))
    assert counts(server) == {"datasets": {"valid": 1}, "splits": {"valid": 2}}
    statistics = refused(get(server, "/statistics", **PLACE), 400, "RowsError")
    text = CASES[code][1] if code != "JobTimeout" else "The job took longer than 3600 s."
    assert statistics["cause_message"] == ("a bug" if code == "UnexpectedError" else text)
    parquet = get(server, "/parquet", **PLACE).json()
    if kind == "statistics":
        assert (len(parquet["parquet_files"]), parquet["failed"]) == (1, [])
        return
    assert (parquet["parquet_files"], parquet["partial"]) == ([], False)
    [failed] = parquet["failed"]
    assert (failed["kind"], failed["error"]["message"]) == ("split-prepare", text)
    assert get(server, "/size", dataset="one").json()["failed"][0]["error"]["message"] == text


def test_a_job_that_ends_its_process_does_not_hold_up_others(preludes: Preludes) -> None:
    server = failing(preludes, "split", "JobCrashed")
    refused(rows(server, "one"), 500, "JobCrashed")
    refused(rows(server, "one", "test"), 500, "JobCrashed")
    preludes.clear("split")
    lay_in(server, "two", {"train.csv": "a\n1\n"})
    assert rows(server, "two").status_code == 200
