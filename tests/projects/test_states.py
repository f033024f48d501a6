"""How objects stand while servers and replicas die, while people cancel, and when the jobs are long forgotten."""

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import MIB, fill, small_disk
from tests.projects.asking import Client, made, new_project, refused
from tests.projects.weeks import PATH, GatedFile, answer_on, connected, folders, form, head, wait_until, weekly
from tests.publishing.asking import user
from tests.serving import Server, serving

# A server that begins no job, so that a test can put a gate before one.
WAITING = {"SLUICE_JOBS_REPLICAS": "0", "SLUICE_SCORE_REPLICAS": "1"}
WORKING = {"SLUICE_JOBS_REPLICAS": "1", "SLUICE_SCORE_REPLICAS": "1"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A project with one upload that waits, on a server that has stopped. Tests copy what is in its data directory."""
    with serving(tmp_path_factory.mktemp("sent") / "data", **WAITING) as server:
        client = new_project(server)
        assert made(client.upload("Sales", weekly(4)))["Status"] == "pending"
        server.stop()
    return client


# A server on which the job of the upload 1 stands at a gate.
Gated = tuple[Server, Client, GatedFile]


@pytest.fixture
def gated(sent: Client, data_dir: Path) -> Iterator[Gated]:
    shutil.copytree(sent.server.data_dir, data_dir)
    gate = GatedFile(data_dir)
    with serving(data_dir, **WORKING) as server:
        client = sent.but(server=server)
        wait_until(lambda: upload(client)["Status"] == "processing")
        yield server, client, gate


def upload(client: Client) -> dict[str, object]:
    body: dict[str, object] = made(client.get(f"{PATH}/1"), 200)
    return body


def readers(server: Server) -> list[int]:
    """Process ids of the replicas that stand at a gate."""
    found = []
    for pid in server.replica_pids():
        with contextlib.suppress(OSError):
            if "wait_for_partner" in Path(f"/proc/{pid}/wchan").read_text():
                found.append(pid)
    return found


def test_a_killed_server_takes_its_job_up_again_and_the_upload_ends_as_it_would_have(gated: Gated, data_dir: Path) -> None:
    server, client, gate = gated
    assert upload(client)["Attempt"] == 1
    server.stop(signal.SIGKILL)
    gate.open()
    with serving(data_dir, **WORKING) as server:
        body = client.but(server=server).waited(f"{PATH}/1")
        assert (body["Status"], body["Attempt"], body["Rows"], body["Error"]) == ("complete", 2, 4, None)


def test_a_stopped_server_goes_on_with_its_job_as_if_it_had_not_begun_it(gated: Gated, data_dir: Path) -> None:
    server, client, gate = gated
    server.stop()
    gate.open()
    with serving(data_dir, **WORKING) as server:
        body = client.but(server=server).waited(f"{PATH}/1")
        assert (body["Status"], body["Attempt"]) == ("complete", 1)


def test_a_replica_that_is_killed_costs_one_attempt(gated: Gated) -> None:
    server, client, gate = gated
    wait_until(lambda: readers(server))
    [pid] = readers(server)
    gate.open()
    os.kill(pid, signal.SIGKILL)
    body = client.waited(f"{PATH}/1")
    assert (body["Status"], body["Attempt"], body["Rows"]) == ("complete", 2, 4)


def test_a_third_death_is_told_in_the_words_of_the_surface(gated: Gated) -> None:
    server, client, gate = gated
    dead: set[int] = set()
    for _ in range(3):
        wait_until(lambda: set(readers(server)) - dead)
        [pid] = set(readers(server)) - dead
        dead.add(pid)
        os.kill(pid, signal.SIGKILL)
    body = client.waited(f"{PATH}/1")
    assert (body["Status"], body["Attempt"]) == ("failed", 3)
    assert body["Error"]["Code"] == "job_crashed"
    assert body["Error"]["Details"] == []
    gate.open()
    client.uploaded("Sales", weekly(2))


def test_cancelling_kills_the_replica_and_others_go_on(gated: Gated) -> None:
    server, client, _ = gated
    wait_until(lambda: readers(server))
    [pid] = readers(server)
    waiting = made(client.upload("Sales", weekly(3)))
    answer = made(client.post(f"{PATH}/1/cancel"), 200)
    assert (answer["Status"], answer["Attempt"], answer["Progress"]) == ("cancelled", 1, None)
    wait_until(lambda: pid not in server.replica_pids(), seconds=12)
    assert client.waited(f"{PATH}/{waiting['IId']}")["Status"] == "complete"
    assert upload(client) == answer
    refused(client.post(f"{PATH}/1/cancel"), 409, "already_finished")


def test_an_upload_that_is_deleted_while_it_is_read_is_gone_with_its_file(gated: Gated) -> None:
    server, client, _ = gated
    assert client.delete(f"{PATH}/1").status_code == 204
    assert folders(server) == set()
    refused(client.get(f"{PATH}/1"), 404, "unknown_upload")
    client.uploaded("Sales", weekly(2))


def test_a_project_that_is_deleted_while_it_works_is_gone_also_after_a_kill(gated: Gated, data_dir: Path) -> None:
    server, client, _ = gated
    assert client.delete().status_code == 202
    refused(client.get(), 404, "unknown_project")
    server.stop(signal.SIGKILL)
    with serving(data_dir, **WORKING) as server:
        again = client.but(server=server)
        refused(again.get(), 404, "unknown_project")
        wait_until(lambda: not folders(server))
        wait_until(lambda: again.ask("POST", "/projects/admin", json={"id": again.project, "name": "New"}).status_code == 201)
        assert made(again.get(PATH), 200) == []
        assert made(again.upload("Sales", weekly(2)))["IId"] == 2


def test_a_job_that_finds_the_disk_full_says_so_and_another_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 40) as disk:
        reserve = {"SLUICE_DISK_RESERVE_BYTES": str(20 * MIB)}
        with serving(disk / "data", **WAITING, **reserve) as server:
            client = new_project(server)
            made(client.upload("Sales", weekly(4)))
            server.stop()
        fill(disk / "full", 20 * MIB)
        with serving(disk / "data", **WORKING, **reserve) as server:
            client = client.but(server=server)
            body = client.waited(f"{PATH}/1")
            assert (body["Status"], body["Error"]["Code"]) == ("failed", "storage_full")
            (disk / "full").unlink()
            client.uploaded("Sales", weekly(4))


def test_the_projects_of_a_team_keep_as_many_bytes_as_they_may_and_those_of_the_admin_any_number(data_dir: Path) -> None:
    with serving(data_dir, **WORKING) as server:
        client = new_project(server, "eva", user(server, "eva"))
        client.joined([client.uploaded("Sales", weekly(4))])
        server.stop()
    kept = sum(path.stat().st_size for name in ("uploads", "datasets") for path in (data_dir / name).rglob("*") if path.is_file())
    with serving(data_dir, **WORKING, SLUICE_TEAM_PROJECT_BYTES=str(kept + 100)) as server:
        client = client.but(server=server)
        refused(client.upload("Sales", weekly(4)), 507, "quota_exceeded")
        with connected(server) as connection:  # its head does not say how long it is
            body = form(weekly(4).csv())
            connection.sendall(head(client) + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
            assert answer_on(connection)[0] == 507
        last = made(client.upload("Sales", b"x" * 100))["IId"]
        assert client.waited(f"{PATH}/{last}")["Status"] == "failed"
        refused(client.join([1]), 507, "quota_exceeded")
        new_project(server).uploaded("Sales", weekly(4))
        assert client.delete(f"{PATH}/{last}").status_code == 204
        client.joined([1])


def test_a_start_removes_what_attempts_and_uploads_have_left_that_belongs_to_nobody(data_dir: Path) -> None:
    left = [
        data_dir / "uploads" / ("0" * 32),
        data_dir / "uploads" / ".1.gone",
        data_dir / "datasets" / ".staging" / "a.b-dataset-1.1",
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").write_text("left")
    with serving(data_dir, **WAITING):
        assert [folder for folder in left if folder.exists()] == []


def test_an_object_keeps_how_it_stands_when_its_job_was_pruned_and_the_server_started_again(data_dir: Path) -> None:
    with serving(data_dir, **WORKING) as server:
        client = new_project(server)
        client.joined([client.uploaded("Sales", weekly(4))], activate=True)
        before = [made(client.get(path), 200) for path in (f"{PATH}/1", "/datasets/1")]
        server.stop()
    with contextlib.closing(sqlite3.connect(data_dir / "sluice.db")) as database, database:
        assert database.execute("DELETE FROM job").rowcount > 1
    with serving(data_dir, **WORKING) as server:
        client = client.but(server=server)
        assert [made(client.get(path), 200) for path in (f"{PATH}/1", "/datasets/1")] == before
        assert client.dates(1)[0] == "2018-01-07"
