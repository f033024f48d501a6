"""Reports about all datasets."""

import re
from pathlib import Path

import pytest

from tests.fixtures.preview import front_matter
from tests.preview.asking import SIX_KEYS, get, hook, lay_in, rows, until
from tests.serving import Server, serving

CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
JOB_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}000")
CACHE = ["empty", "error", "stalled", "valid"]
JOBS = ["waiting", "started", "success", "error", "cancelled"]
SUMS = ["valid", "error", "missing"]
EMPTY = {
    "/cache": {"datasets": dict.fromkeys(CACHE, 0), "splits": dict.fromkeys(CACHE, 0)},
    "/cache-reports": {"datasets": {key: [] for key in CACHE}, "splits": {key: [] for key in CACHE}},
    "/valid": {"valid": []},
    "/hf-datasets-count-by-cache-status": {"canonical": dict.fromkeys(SUMS, 0), "community": dict.fromkeys(SUMS, 0)},
    "/queue": {"datasets": dict.fromkeys(JOBS, 0), "splits": dict.fromkeys(JOBS, 0)},
    "/queue-dump": {"datasets": {key: [] for key in JOBS}, "splits": {key: [] for key in JOBS}},
    "/queue-dump-waiting-started": {"datasets": {key: [] for key in JOBS[:2]}, "splits": {key: [] for key in JOBS[:2]}},
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with serving(tmp_path_factory.mktemp("empty") / "data", SLUICE_SCORE_REPLICAS="1") as server:
        yield server


@pytest.mark.parametrize("path", EMPTY)
def test_an_empty_server_has_zeros_and_empty_lists_with_their_keys_in_order(empty: Server, path: str) -> None:
    answer = get(empty, path)
    assert answer.status_code == 200
    body = answer.json()
    assert CREATED.fullmatch(body.pop("created_at"))
    assert body == EMPTY[path]
    assert list(body) == list(EMPTY[path])
    for key, value in EMPTY[path].items():
        assert list(body[key]) == list(value)


def test_an_empty_server_has_no_datasets(empty: Server) -> None:
    assert get(empty, "/hf_datasets").json() == {"datasets": []}


def test_the_catalogue_shows_what_the_cards_say(house: Server) -> None:
    listed = until(lambda: get(house, "/hf_datasets").json()["datasets"])
    names = [one["id"] for one in listed]
    assert names == sorted(names)
    people = next(one for one in listed if one["id"] == "people")
    assert list(people) == ["id", "tags", "citation", "description", "paperswithcode_id", "downloads"]
    assert people["tags"] == ["languages:en", "licenses:mit", "task_categories:text-classification", "small"]
    assert (people["description"], people["citation"], people["paperswithcode_id"]) == ("People by name.", None, None)


def test_downloads_count_answers_with_data(house: Server) -> None:
    def downloads() -> int:
        return next(one["downloads"] for one in get(house, "/hf_datasets").json()["datasets"] if one["id"] == "people")

    before = downloads()
    assert get(house, "/splits", dataset="people").status_code == 200
    assert rows(house, "people").status_code == 200
    assert rows(house, "people", "other").status_code == 404
    assert downloads() == before + 2


def test_downloads_outlive_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        lay_in(server, "people", {"train.csv": "a\n1\n"})
        assert rows(server, "people").status_code == 200
        assert server.stop() == 0
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        assert [one["downloads"] for one in get(server, "/hf_datasets").json()["datasets"]] == [1]


def test_valid_means_that_rows_can_be_had(house: Server) -> None:
    rows(house, "broken")
    valid = get(house, "/valid").json()["valid"]
    assert valid[0] == "people"
    assert "broken" not in valid
    assert get(house, "/is-valid", dataset="people").json() == {"valid": True}
    for name in ("broken", "nothing", "../x"):
        assert get(house, "/is-valid", dataset=name).json() == {"valid": False}


def test_a_report_names_each_split_with_its_error(house: Server) -> None:
    rows(house, "broken")
    report = get(house, "/cache-reports").json()
    assert {"dataset": "broken", "status": "VALID", "error": None} in report["datasets"]["valid"]
    [broken] = [one for one in report["splits"]["error"] if one["dataset"] == "broken"]
    assert list(broken) == ["dataset", "config", "split", "status", "error"]
    assert (broken["config"], broken["split"], broken["status"]) == ("default", "train", "ERROR")
    assert list(broken["error"]) == SIX_KEYS
    assert broken["error"]["cause_exception"] == "ParserError"


def test_a_config_that_cannot_be_listed_is_reported_and_the_others_are_shown(house: Server) -> None:
    card = front_matter("configs:\n- config_name: good\n  data_files: train.csv\n- config_name: bad\n  data_files: nothing.csv")
    lay_in(house, "half", {"README.md": card, "train.csv": "a\n1\n"})
    assert rows(house, "half", config="good").status_code == 200
    [bad] = [one for one in get(house, "/cache-reports").json()["splits"]["error"] if one["dataset"] == "half"]
    assert (bad["config"], bad["split"], bad["error"]["message"]) == ("bad", None, "Cannot get the split names for the dataset.")
    assert [one["config"] for one in get(house, "/splits", dataset="half").json()["splits"]] == ["good"]
    assert get(house, "/rows", dataset="half", config="bad", split="train").headers["X-Error-Code"] == "SplitsNamesError"


def test_what_is_of_the_catalogue_and_how_much_of_it_is_cached(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        lay_in(server, "good", {"train.csv": "a\n1\n"})
        lay_in(server, "ann/bad", {"train.csv": "a\n1,2\n"})
        lay_in(server, "ann/worse", {"README.md": front_matter("viewer: false")})
        lay_in(server, "waiting", {"train.csv": "a\n1\n"})
        for name in ("good", "ann/bad", "ann/worse"):
            rows(server, name)
        get(server, "/is-valid", dataset="waiting")
        body = get(server, "/hf-datasets-count-by-cache-status").json()
        assert body["canonical"]["valid"] == 1
        assert body["community"] == {"valid": 0, "error": 2, "missing": 0}


def test_the_queue_tells_what_was_done_and_when(house: Server) -> None:
    dump = get(house, "/queue-dump").json()
    [job] = [one for one in dump["datasets"]["success"] if one["dataset_name"] == "people"]
    assert list(job) == ["dataset_name", "status", "created_at", "started_at", "finished_at"]
    assert job["status"] == "SUCCESS"
    jobs = [one for one in dump["splits"]["success"] if one["dataset_name"] == "people"]
    assert [one["split_name"] for one in jobs[:2]] == ["train", "test"]
    assert list(jobs[0]) == ["dataset_name", "config_name", "split_name", "status", "created_at", "started_at", "finished_at"]
    for one in (job, *jobs):
        times = [one["created_at"], one["started_at"], one["finished_at"]]
        assert all(JOB_TIME.fullmatch(time) for time in times)
        assert times == sorted(times)
    assert "success" not in get(house, "/queue-dump-waiting-started").json()["datasets"]


def test_pages_of_the_queue_say_that_there_is_more(house: Server) -> None:
    whole = get(house, "/queue-dump").json()
    assert "truncated" not in whole
    page = get(house, "/queue-dump", limit=1, offset=1).json()
    assert page["truncated"] is True
    assert sum(len(jobs) for jobs in page["splits"].values()) == 1


def test_a_job_that_waits_has_no_times_but_one_and_words_may_be_lower_case(tmp_path: Path) -> None:
    settings = {"SLUICE_JOBS_REPLICAS": "0", "SLUICE_PREVIEW_STATUS_CASE": "lower", "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path / "data", **settings) as server:
        assert hook(server, {"add": "datasets/ann/unknown"}).status_code == 200
        [job] = get(server, "/queue-dump-waiting-started", auth=server.auth).json()["datasets"]["waiting"]
        assert (job["dataset_name"], job["status"], job["started_at"], job["finished_at"]) == ("ann/unknown", "waiting", None, None)
