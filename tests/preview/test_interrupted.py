"""Jobs of preview whose server, worker or replica is killed or stopped: the work is done once more, and what is shown is right."""

import json
import os
import signal

import pytest
import requests

from tests.preview.asking import cells, counts, get, hook, is_quiet, lay_in, refused, rows, until
from tests.preview.preludes import Preludes
from tests.publishing.asking import put
from tests.serving import ROOT, Server

PLACE = {"dataset": "one", "config": "default", "split": "train"}


def job_replicas(server: Server) -> list[int]:
    return [pid for pid in server.replica_pids() if os.getpriority(os.PRIO_PROCESS, pid) == 10]


def attempts(preludes: Preludes, kind: str) -> list[int]:
    return [row["attempts"] for row in preludes.ask("SELECT attempts FROM job WHERE kind = ? ORDER BY id", kind)]


def is_all_there(server: Server) -> bool:
    assert [one["a"] for one in cells(rows(server, "one"))] == [1, 2]
    until(lambda: is_quiet(server))
    assert get(server, "/statistics", **PLACE).json()["num_examples"] == 2
    assert len(get(server, "/parquet", **PLACE).json()["parquet_files"]) == 1
    return True


@pytest.mark.parametrize("kind", ["dataset", "split", "prepare", "statistics"])
def test_a_job_whose_server_is_killed_runs_again_and_ends(preludes: Preludes, kind: str) -> None:
    server = preludes.server()
    preludes.shut(kind)
    lay_in(server, "one", {"train.csv": "a\n1\n2\n"})
    get(server, "/splits", dataset="one")
    preludes.wait_for_begun(kind)
    server.stop(signal.SIGKILL)
    again = preludes.server()
    preludes.wait_for_begun(kind, 2)
    preludes.open(kind)
    assert is_all_there(again)
    assert attempts(preludes, kind) == [2]
    assert "Traceback" not in again.log


@pytest.mark.parametrize("kind", ["split", "prepare"])
def test_a_job_whose_replica_is_killed_runs_again_and_ends(preludes: Preludes, kind: str) -> None:
    server = preludes.server()
    preludes.shut(kind)
    lay_in(server, "one", {"train.csv": "a\n1\n2\n"})
    get(server, "/splits", dataset="one")
    preludes.wait_for_begun(kind)
    for pid in job_replicas(server):
        os.kill(pid, signal.SIGKILL)
    preludes.wait_for_begun(kind, 2)
    preludes.open(kind)
    assert is_all_there(server)
    assert attempts(preludes, kind) == [2]
    assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", ["dataset", "statistics"])
def test_a_job_whose_worker_is_killed_is_done_by_another_one(preludes: Preludes, kind: str) -> None:
    server = preludes.server(SLUICE_JOBS_REPLICAS="0")
    queue = "datasets" if kind == "dataset" else "splits"
    preludes.worker("splits" if kind == "dataset" else "datasets")
    first = preludes.worker(queue)
    preludes.shut(kind)
    lay_in(server, "one", {"train.csv": "a\n1\n2\n"})
    get(server, "/splits", dataset="one")
    preludes.wait_for_begun(kind)
    first.kill()
    first.wait()
    preludes.grow_silent()
    preludes.worker(queue)
    preludes.wait_for_begun(kind, 2)
    preludes.open(kind)
    assert is_all_there(server)
    assert attempts(preludes, kind) == [2]


def test_a_job_whose_server_is_killed_three_times_is_an_error(preludes: Preludes) -> None:
    server = preludes.server()
    preludes.shut("split")
    lay_in(server, "one", {"train.csv": "a\n1\n"})
    get(server, "/splits", dataset="one")
    for number in range(1, 4):
        preludes.wait_for_begun("split", number)
        server.stop(signal.SIGKILL)
        server = preludes.server()
    refused(rows(server, "one"), 500, "JobCrashed", "The worker died 3 times on this job.")
    assert counts(server) == {"datasets": {"valid": 1}, "splits": {"error": 1}}


def test_a_server_that_was_killed_shows_the_old_rows_at_once(preludes: Preludes) -> None:
    server = preludes.server()
    lay_in(server, "one", {"train.csv": "a\n1\n2\n"})
    before = rows(server, "one")
    until(lambda: is_quiet(server))
    preludes.shut("split")
    hook(server, {"update": "datasets/one"})
    preludes.wait_for_begun("split")
    server.stop(signal.SIGKILL)
    again = preludes.server()
    during = get(again, "/rows", **PLACE)
    assert (during.status_code, during.content, during.headers["X-Preview-Status"]) == (200, before.content, "stalled")
    preludes.open("split")
    until(lambda: is_quiet(again))
    assert "X-Preview-Status" not in get(again, "/rows", **PLACE).headers


def test_a_worker_that_was_stopped_for_two_minutes_and_continues_writes_nothing(preludes: Preludes) -> None:
    """It has read the old rows before it was stopped; another one has read the new ones meanwhile."""
    server = preludes.server(SLUICE_JOBS_REPLICAS="0")
    preludes.worker("datasets")
    stopped = preludes.worker("splits")
    preludes.hold_end("split")
    lay_in(server, "one", {"train.csv": "a\n1\n"})
    get(server, "/splits", dataset="one")
    preludes.wait_for_held("split")
    stopped.send_signal(signal.SIGSTOP)
    lay_in(server, "one", {"train.csv": "a\n22\n"})
    preludes.grow_silent()
    preludes.release_end("split")
    preludes.worker("splits")
    after = rows(server, "one")
    assert cells(after) == [{"a": 22}]
    until(lambda: is_quiet(server))
    stopped.send_signal(signal.SIGCONT)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(30) == 0
    assert get(server, "/rows", **PLACE).content == after.content
    assert attempts(preludes, "split") == [2]
    assert counts(server, "/queue")["splits"] == {"success": 1}


def put_rows(server: Server, number: int) -> None:
    lines = b"".join(b'{"n": %d}\n' % number for _ in range(number))
    answer = requests.put(f"{server.url}/api/datasets/admin/notes", data=lines, auth=server.auth, timeout=30)
    assert answer.status_code in (200, 201), answer.text


@pytest.mark.parametrize("kind", ["dataset", "split"])
def test_rows_that_an_upload_replaces_while_they_are_read_are_read_again(preludes: Preludes, kind: str) -> None:
    """Also when the files of the old ones are gone by then, and nobody looks for changes."""
    server = preludes.server(SLUICE_DATASETS_WATCH="false", SLUICE_DATASET_VERSIONS="1")
    put_rows(server, 1)
    preludes.hold_end(kind)
    place = PLACE | {"dataset": "admin/notes"}
    get(server, "/splits", server.auth, dataset="admin/notes")
    preludes.wait_for_held(kind)
    put_rows(server, 3)
    preludes.release_end(kind)
    until(lambda: is_quiet(server))
    assert [one["n"] for one in cells(get(server, "/rows", server.auth, **place))] == [3, 3, 3]
    assert get(server, "/v2/rows", server.auth, **place).json()["num_rows_total"] == 3
    assert get(server, "/statistics", server.auth, **place).json()["num_examples"] == 3
    assert "Traceback" not in server.log


def test_what_a_job_had_prepared_that_was_killed_is_swept(preludes: Preludes) -> None:
    server = preludes.server()
    preludes.hold_end("prepare")
    lay_in(server, "one", {"train.csv": "a\n1\n2\n"})
    assert rows(server, "one").status_code == 200
    preludes.wait_for_held("prepare")
    staging = server.data_dir / "prepared" / ".staging"
    [left] = staging.iterdir()
    server.stop(signal.SIGKILL)
    preludes.release_end("prepare")
    again = preludes.server()
    assert is_all_there(again)
    until(lambda: not left.exists())
    again.stop()


# Two workers, and turns


def test_two_workers_take_each_job_once(preludes: Preludes) -> None:
    server = preludes.server(SLUICE_JOBS_REPLICAS="0")
    names = [f"set{number}" for number in range(10)]
    for name in names:
        lay_in(server, name, {f"{split}.csv": f"a\n{name}\n" for split in ("train", "validation", "test")})
        assert hook(server, {"add": f"datasets/{name}"}).status_code == 200
    for queue in ("datasets", "datasets", "splits", "splits"):
        preludes.worker(queue)
    until(lambda: counts(server) == {"datasets": {"valid": 10}, "splits": {"valid": 30}}, 60)
    until(lambda: is_quiet(server), 60)
    assert counts(server, "/queue") == {"datasets": {"success": 10}, "splits": {"success": 30}}
    assert set(attempts(preludes, "split")) == {1}
    assert len({row["worker"] for row in preludes.ask("SELECT worker FROM job WHERE kind = 'split'")}) == 2
    for name in names:
        assert cells(rows(server, name, "test")) == [{"a": name}]


def started(server: Server, sort: str = "splits") -> list[str]:
    return [job["dataset_name"] for job in get(server, "/queue-dump-waiting-started").json()[sort]["started"]]


@pytest.mark.parametrize("most", [1, 2])
def test_of_one_dataset_no_more_jobs_are_started_than_the_setting_says(preludes: Preludes, most: int) -> None:
    server = preludes.server(MAX_JOBS_PER_DATASET=str(most), SLUICE_JOBS_REPLICAS="4")
    preludes.shut("split")
    for name in ("one", "two"):
        lay_in(server, name, {f"{split}.csv": "a\n1\n" for split in ("train", "validation", "test")})
        get(server, "/splits", dataset=name)
    preludes.wait_for_begun("split", min(4, 2 * most))
    for number in range(min(4, 2 * most) + 1, 7):
        assert max(map(started(server).count, ("one", "two"))) <= most
        preludes.let_through("split")
        preludes.wait_for_begun("split", number)
    preludes.open("split")
    until(lambda: counts(server)["splits"] == {"valid": 6})


def test_a_dataset_that_comes_late_does_not_wait_behind_the_300_splits_of_another(preludes: Preludes) -> None:
    server = preludes.server(SLUICE_JOBS_REPLICAS="1")
    preludes.shut("split")
    lay_in(server, "many", {"README.md": "# Many\n"} | {f"data/part{number}-00000-of-00001.csv": "a\n1\n" for number in range(300)})
    get(server, "/splits", dataset="many")
    preludes.wait_for_begun("split")
    assert counts(server, "/queue")["splits"] == {"started": 1, "waiting": 299}
    lay_in(server, "late", {"train.csv": "a\n1\n"})
    refused(get(server, "/splits", dataset="late"), 404, "DatasetNotReady")
    preludes.let_through("split")
    until(lambda: counts(server)["datasets"] == {"valid": 2})
    taken = preludes.ask("SELECT kind FROM job WHERE dataset = 'many' AND started_at IS NOT NULL ORDER BY id")
    assert [row["kind"] for row in taken][:2] == ["dataset", "split"]
    assert len(taken) <= 4, "of the other dataset, at most its second split and the Parquet file of its first came before"
    preludes.open("split")
    assert rows(server, "late").status_code == 200
    assert counts(server, "/queue")["splits"]["waiting"] > 250


# Gates


def test_a_closed_gate_of_memory_leaves_work_waiting_and_those_who_ask_are_told_so(preludes: Preludes) -> None:
    closed = preludes.server(SLUICE_MAX_MEMORY_PCT="1")
    lay_in(closed, "one", {"train.csv": "a\n1\n2\n"})
    answer = get(closed, "/rows", wait=1, **PLACE)
    refused(answer, 404, "DatasetNotReady", "The dataset is being processed. Retry later.")
    assert (answer.headers["X-Queue-Position"], answer.headers["Retry-After"]) == ("0", "1")
    assert counts(closed, "/queue") == {"datasets": {"waiting": 1}, "splits": {}}
    closed.stop()
    assert is_all_there(preludes.server(SLUICE_MAX_MEMORY_PCT="0"))


def test_a_check_of_a_published_model_does_not_wait_behind_jobs_of_preview(preludes: Preludes) -> None:
    server = preludes.server()
    preludes.shut("split")
    for name in ("one", "two"):
        lay_in(server, name, {"train.csv": "a\n1\n"})
        get(server, "/splits", dataset=name)
    preludes.wait_for_begun("split", 2)
    folder = ROOT / "models/sluice/iris"
    config = json.loads((folder / "config.json").read_text()) | {"owner": "admin", "name": "flowers"}
    answer = put(server, "admin/flowers", (folder / "1/model.onnx").read_bytes(), config=config)
    assert answer.status_code == 201, answer.text
    assert counts(server, "/queue")["splits"] == {"started": 2}
