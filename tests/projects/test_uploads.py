"""Uploads: a file is on the disk before it has a number, and nothing is kept of one that was refused or cut off."""

import select
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from engine.roles import Role
from tests.disks import MIB, fill, small_disk
from tests.projects.asking import Client, in_days, made, new_project, refused
from tests.projects.people import later, new_member, new_team
from tests.projects.weeks import PATH, answer_on, connected, files, folders, form, head, received, wait_until, weekly
from tests.publishing.asking import user
from tests.serving import Server, serving

COMMON = ["Status", "IId", "CreatedAt", "CreatedBy", "StartedAt", "FinishedAt", "Attempt", "Progress", "Warnings", "Error"]
OWN = {"upload_id", "DatasetName", "FileName", "Bytes", "Layout", "Rows", "Frequency", "Combinations", "FirstDate", "LastDate"}
LIMIT_BYTES = 100_000
SMALL = {
    "SLUICE_PROJECT_UPLOAD_LIMIT_BYTES": str(LIMIT_BYTES),
    "SLUICE_IDLE_TIMEOUT_S": "20",
    "SLUICE_JOBS_REPLICAS": "0",
    "SLUICE_JOBS_PER_TEAM": "5",
    "SLUICE_SCORE_REPLICAS": "1",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for small files, on which a team has five jobs, none ever begun."""
    with serving(tmp_path_factory.mktemp("small") / "data", **SMALL) as running:
        yield running


@pytest.fixture
def empty(small: Server) -> Iterator[Client]:
    """A project of that server, and no job of its team; what the test leaves is removed."""
    client = new_project(small)
    yield client
    made_empty = client.delete()
    assert made_empty.status_code == 202
    wait_until(lambda: not folders(small))


# Taken


def test_a_file_is_on_the_disk_when_it_is_answered_and_its_answer_has_all_fields_from_the_first_one_on(empty: Client) -> None:
    content = weekly(3).csv()
    body = made(empty.upload("Sales", content, "week one.csv"))
    assert list(body)[: len(COMMON)] == COMMON
    assert set(body) == {*COMMON, *OWN}
    assert (body["upload_id"], body["IId"], body["Status"], body["Attempt"]) == (1, 1, "pending", 0)
    assert (body["DatasetName"], body["FileName"], body["Bytes"]) == ("Sales", "week one.csv", len(content))
    assert (body["CreatedBy"], body["Layout"], body["Rows"], body["Error"], body["Warnings"]) == ("admin", None, None, None, [])
    [path] = files(empty.server)
    assert path.read_bytes() == content
    assert made(empty.get(f"{PATH}/1"), 200) == body


def test_a_file_is_read_and_its_upload_says_what_is_in_it(client: Client) -> None:
    body = client.done("datauploads", client.upload("sales", weekly(5)))
    assert set(body) == {*COMMON, *OWN}
    assert (body["DatasetName"], body["Layout"], body["Rows"], body["Frequency"]) == ("Sales", "long", 5, "weekly")
    assert (body["FirstDate"], body["LastDate"], body["Attempt"]) == ("2018-01-07", "2018-02-04", 1)
    assert body["CreatedAt"] <= body["StartedAt"] <= body["FinishedAt"]
    [combination] = body["Combinations"]
    assert (combination["Country"], combination["Periods"]) == ("SWE", 5)


def test_ten_files_that_come_at_once_get_ten_numbers_and_two_projects_count_each_for_itself(client: Client) -> None:
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: client.upload("Sales", weekly(2)), range(10)))
    assert sorted(made(answer)["IId"] for answer in answers) == list(range(1, 11))
    other = new_project(client.server)
    assert made(other.upload("Sales", weekly(2)))["IId"] == 1
    listed = made(client.get(PATH, limit=3), 200)
    assert [one["IId"] for one in listed] == [10, 9, 8]
    assert set(listed[0]) == {*COMMON, "upload_id", "DatasetName", "FileName", "Bytes"}
    assert [one["IId"] for one in made(client.get(PATH, before=3), 200)] == [2, 1]


@pytest.mark.parametrize("number", ["0", "1001", "x", "-1", "1.5"])
def test_a_list_of_no_length_is_refused(client: Client, number: str) -> None:
    refused(client.get(PATH, limit=number), 422, "bad_field")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (r"C:\\data\\s.csv", "s.csv"),
        ("../../etc/passwd", "passwd"),
        ("", ""),
        ("x" * 300, "x" * 255),
        ("räksmörgås.csv", "räksmörgås.csv"),
    ],
)
def test_the_name_of_a_file_is_kept_without_folders_and_reaches_no_path(empty: Client, sent: str, kept: str) -> None:
    body = form(b"1", file_name=sent)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = empty.of_project("POST", PATH, params={"dataset_name": "Sales"}, data=body, headers=headers)
    assert made(answer)["FileName"] == kept
    assert [path.name for path in files(empty.server)] == ["file"]


def test_names_of_types_are_taken_in_any_case_of_letters_and_other_names_as_they_are(empty: Client) -> None:
    for sent, shown in (("customer experience", "Customer Experience"), ("MEDIA", "Media"), ("my Own-data_1", "my Own-data_1")):
        assert made(empty.upload(sent, b"1"))["DatasetName"] == shown


# Refused


@pytest.mark.parametrize("name", [None, "", "1x", "a/b", "a.b", "x" * 41, "é"])
def test_what_is_no_name_of_a_type_is_refused(empty: Client, name: str | None) -> None:
    params = {} if name is None else {"dataset_name": name}
    refused(empty.of_project("POST", PATH, params=params, files={"file": b"1"}), 422, "bad_dataset_name")


HEADERS = {"Content-Type": "multipart/form-data; boundary=x"}
WHOLE = form(b"1,2,3")


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"Country,Date\n", {"Content-Type": "text/csv"}, "no_file"),
        (b"", {}, "no_file"),
        (b"--x--\r\n", HEADERS, "no_file"),
        (b"", HEADERS, "no_file"),
        (WHOLE[:-20], HEADERS, "no_file"),
        (form(b"x" * 100)[:-20], HEADERS, "no_file"),
        (form(b"x" * 100_000)[:-20], HEADERS, "no_file"),
        (form(b"x" * 100)[:-9], HEADERS, "no_file"),
        (b"garbage" + WHOLE[:30], HEADERS, "no_file"),
        (WHOLE, {"Content-Type": "multipart/form-data"}, "no_file"),
        (form(b"1", name="data"), HEADERS, "extra_file"),
        (WHOLE[: -len("--x--\r\n")] + form(b"2"), HEADERS, "extra_file"),
        (WHOLE[: -len("--x--\r\n")] + form(b"2", name="other"), HEADERS, "extra_file"),
        (form(b"1", name="note", file_name=None), HEADERS, "unknown_field"),
    ],
)
def test_what_is_not_a_form_with_one_file_is_refused_and_nothing_is_kept(
    empty: Client, body: bytes, headers: dict[str, str], code: str
) -> None:
    answer = empty.of_project("POST", PATH, params={"dataset_name": "Sales"}, data=body, headers=headers)
    refused(answer, 422, code)
    assert folders(empty.server) == set()
    assert made(empty.get(PATH), 200) == []


def test_a_form_with_an_encoding_is_refused(empty: Client) -> None:
    headers = {**HEADERS, "Content-Encoding": "gzip"}
    answer = empty.of_project("POST", PATH, params={"dataset_name": "Sales"}, data=WHOLE, headers=headers)
    refused(answer, 415, "unsupported_media_type")


def test_a_file_of_the_largest_size_is_taken_and_of_a_larger_one_nothing_is_kept(empty: Client) -> None:
    assert made(empty.upload("Sales", b"x" * LIMIT_BYTES))["Bytes"] == LIMIT_BYTES
    kept = folders(empty.server)
    refused(empty.upload("Sales", b"x" * (LIMIT_BYTES + 1)), 413, "file_too_large")
    refused(empty.upload("Sales", b"x" * (LIMIT_BYTES + 2 * MIB)), 413, "file_too_large")
    assert folders(empty.server) == kept


def test_a_file_without_a_known_length_is_cut_off_at_the_limit(empty: Client) -> None:
    def chunks() -> Iterator[bytes]:
        whole = form(b"x" * (LIMIT_BYTES + 1))
        yield from (whole[start : start + 10_000] for start in range(0, len(whole), 10_000))

    answer = empty.of_project("POST", PATH, params={"dataset_name": "Sales"}, data=chunks(), headers=HEADERS)
    refused(answer, 413, "file_too_large")
    assert folders(empty.server) == set()


def test_a_client_that_asks_first_is_refused_before_it_sends_the_file(empty: Client) -> None:
    with connected(empty.server) as connection:
        connection.sendall(head(empty, length=10 * MIB, more="Expect: 100-continue"))
        status, body = answer_on(connection)
        assert (status, body["Error"]["Code"]) == (413, "file_too_large")
    with connected(empty.server) as connection:
        connection.sendall(head(empty, length=len(WHOLE), more="Expect: 100-continue"))
        assert received(connection).startswith(b"HTTP/1.1 100")
        connection.sendall(WHOLE)
        assert answer_on(connection)[0] == 201


def test_a_team_sends_no_more_than_it_may_have_jobs_counting_files_that_are_on_their_way(empty: Client) -> None:
    for _ in range(4):
        made(empty.upload("Sales", b"1"))
    with connected(empty.server) as slow:
        slow.sendall(head(empty, length=len(WHOLE)) + WHOLE[:60])
        wait_until(lambda: len(folders(empty.server)) == 5)
        answer = empty.upload("Sales", b"1")
        refused(answer, 429, "too_many_jobs")
        assert int(answer.headers["Retry-After"]) > 0
        slow.sendall(WHOLE[60:])
        assert answer_on(slow)[0] == 201
    refused(empty.upload("Sales", b"1"), 429, "too_many_jobs")
    made(empty.post(f"{PATH}/5/cancel"), 200)
    assert made(empty.upload("Sales", b"1"))["IId"] == 6


# Cut off


def test_a_slow_file_stops_nobody_else_and_is_taken_when_it_has_come(empty: Client) -> None:
    with connected(empty.server) as slow:
        slow.sendall(head(empty, length=len(WHOLE)))
        for i in range(0, len(WHOLE), 20):
            assert made(empty.get(PATH), 200) == []
            slow.sendall(WHOLE[i : i + 20])
        status, body = answer_on(slow)
        assert (status, body["Bytes"]) == (201, len(b"1,2,3"))


def test_of_a_sender_who_stops_nothing_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **SMALL | {"SLUICE_IDLE_TIMEOUT_S": "1"}) as server:
        client = new_project(server)
        with connected(server) as slow:
            slow.sendall(head(client) + b"50\r\n" + WHOLE[:0x50] + b"\r\n")
            status, body = answer_on(slow)
            assert (status, body["Error"]["Code"]) == (503, "timed_out")
        assert folders(server) == set()


def test_of_a_sender_who_leaves_nothing_is_kept(empty: Client) -> None:
    with connected(empty.server) as slow:
        slow.sendall(head(empty, length=len(WHOLE)) + WHOLE[:60])
        wait_until(lambda: len(folders(empty.server)) == 1)
        slow.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: folders(empty.server) == set())
    assert made(empty.get(PATH), 200) == []


def test_of_a_sender_whose_token_is_revoked_meanwhile_nothing_is_kept(empty: Client) -> None:
    token = made(empty.ask("POST", "/user/access_tokens", json={"name": "ci", "expires_at": in_days(30)}))
    sender = empty.but(auth=token["Token"])
    with begun(sender) as slow:
        assert empty.ask("DELETE", f"/user/access_tokens/{token['IId']}").ok
        assert code_on(slow) == (401, "token_revoked")
    assert folders(empty.server) == set()
    assert sender.get().status_code == 401


def test_of_a_sender_whose_token_expires_meanwhile_nothing_is_kept(empty: Client) -> None:
    token = made(empty.ask("POST", "/user/access_tokens", json={"name": "ci", "expires_at": later(6)}))
    with begun(empty.but(auth=token["Token"])) as slow:
        while not select.select([slow], [], [], 0.1)[0]:
            slow.sendall(b"1")
        assert code_on(slow) == (401, "token_expired")
    assert folders(empty.server) == set()


def test_a_sender_who_loses_the_role_meanwhile_is_told_the_role_and_not_that_the_key_is_wrong(empty: Client) -> None:
    team = new_team(empty.server)
    sender = empty.but(team=team, auth=new_member(empty.server, team, Role.DATA_MANAGER))
    made(empty.ask("POST", f"/projects/{team}", json={"id": empty.project, "name": "Demo"}))
    members = f"/team/teams/{team}/members/{sender.auth[0]}"  # type: ignore[index]
    with begun(sender) as slow:
        assert empty.ask("PATCH", members, json={"role": "Member"}).ok
        assert code_on(slow) == (403, "role_too_low")
    assert empty.ask("PATCH", members, json={"role": "DataManager"}).ok
    with begun(sender) as slow:
        assert empty.ask("DELETE", members).ok
        assert code_on(slow) == (404, "unknown_team")
    assert folders(empty.server) == set()


@contextmanager
def begun(sender: Client) -> Iterator[socket.socket]:
    """A file that somebody has begun to send."""
    with connected(sender.server) as slow:
        slow.sendall(head(sender, length=LIMIT_BYTES) + WHOLE[: -len(",3\r\n--x--\r\n")])
        wait_until(lambda: len(folders(sender.server)) == 1)
        yield slow


def code_on(connection: socket.socket) -> tuple[int, str]:
    status, body = answer_on(connection)
    return status, body["Error"]["Code"]


# The disk, and crashes


def test_a_full_disk_is_told_and_nothing_is_kept_and_there_is_room_again_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 40) as disk:
        settings = {"SLUICE_DISK_RESERVE_BYTES": str(MIB), "SLUICE_JOBS_REPLICAS": "0", "SLUICE_SCORE_REPLICAS": "1"}
        with serving(disk / "data", **settings) as server:
            client = new_project(server)
            refused(client.upload("Sales", b"x" * (39 * MIB)), 507, "storage_full")
            fill(disk / "full", 37 * MIB)
            refused(client.upload("Sales", b"x" * (4 * MIB)), 507, "storage_full")
            assert folders(server) == set()
            (disk / "full").unlink()
            made(client.upload("Sales", b"x" * (4 * MIB)))


def test_a_start_after_a_kill_keeps_what_was_answered_and_removes_what_was_not(tmp_path: Path) -> None:
    settings = {"SLUICE_JOBS_REPLICAS": "0", "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path / "data", **settings) as server:
        client = new_project(server)
        made(client.upload("Sales", weekly(2)))
        kept = folders(server)
        with connected(server) as slow:
            slow.sendall(head(client, length=len(WHOLE)) + WHOLE[:60])
            wait_until(lambda: len(folders(server)) == 2)
            server.stop(signal.SIGKILL)
    with serving(tmp_path / "data", **settings) as server:
        assert folders(server) == kept
        assert made(client.but(server=server).get(f"{PATH}/1"), 200)["Status"] == "pending"


# Read, or not


def test_a_file_with_faults_says_what_is_wrong_and_where(client: Client) -> None:
    sheet = weekly(3).changed(3, "Date", "7/1/18").changed(4, "UnitsSold", "many")
    error = client.failed("datauploads", client.upload("Sales", sheet, "Sales.csv"), "invalid_file")
    assert "Sales.csv" in error["Message"]
    assert [(one["Code"], one["Row"], one["Column"]) for one in error["Details"]] == [
        ("bad_date", 3, "Date"),
        ("bad_number", 4, "UnitsSold"),
    ]
    assert error["DetailsTotal"] == 2


def test_more_rows_than_the_setting_allows_are_refused_by_the_job(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_PROJECT_UPLOAD_LIMIT_ROWS="4", SLUICE_SCORE_REPLICAS="1") as server:
        client = new_project(server)
        client.uploaded("Sales", weekly(4))
        error = client.failed("datauploads", client.upload("Sales", weekly(5)), "invalid_file")
        assert {one["Code"] for one in error["Details"]} == {"too_many_rows"}


def test_an_upload_is_deleted_with_its_file_unless_a_dataset_was_made_of_it(client: Client) -> None:
    used, unused = client.uploaded("Sales", weekly(3)), client.uploaded("Sales", weekly(3))
    dataset = client.joined([used])
    kept = folders(client.server)
    error = refused(client.delete(f"{PATH}/{used}"), 409, "in_use")
    assert [(one["Kind"], one["IId"]) for one in error["Details"]] == [("dataset", dataset)]
    assert client.delete(f"{PATH}/{unused}").status_code == 204
    assert len(kept - folders(client.server)) == 1
    refused(client.get(f"{PATH}/{unused}"), 404, "unknown_upload")
    refused(client.delete(f"{PATH}/{unused}"), 404, "unknown_upload")
    assert client.delete(f"/datasets/{dataset}").status_code == 204
    assert client.delete(f"{PATH}/{used}").status_code == 204


def test_others_do_not_find_the_uploads_of_a_team(client: Client) -> None:
    made(client.upload("Sales", weekly(2)))
    stranger = client.but(auth=user(client.server, "stranger-of-uploads"))
    refused(stranger.get(f"{PATH}/1"), 404, "unknown_team")
    refused(stranger.upload("Sales", weekly(2)), 404, "unknown_team")


def test_a_number_that_is_none_is_not_found(client: Client) -> None:
    for number in ("x", "1.5", "-1", "9" * 30, "0"):
        assert client.get(f"{PATH}/{number}").status_code == 404


def test_a_trailing_slash_changes_nothing(client: Client) -> None:
    answer = client.of_project("POST", PATH + "/", params={"dataset_name": "Sales"}, files={"file": b"1"})
    assert made(answer)["IId"] == 1
    assert requests.get(answer.url.partition("?")[0] + "1/", auth=client.server.auth, timeout=30).ok
