"""What a user may keep, and what happens when the disk is short or full: refused with 507 and a reason, and nothing is lost."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.clients import Raw, is_alive
from tests.disks import MIB, fill, small_disk
from tests.publishing import uploads
from tests.publishing.asking import delete, files, predict, put, refused, shown, user
from tests.publishing.uploads import times
from tests.serving import Server, serving

ONE = {"SLUICE_SCORE_REPLICAS": "1"}
QUOTAS = {
    "SLUICE_USER_MODELS": "2",
    "SLUICE_USER_VERSIONS": "4",
    "SLUICE_USER_BYTES": str(MIB),
    "SLUICE_KEEP_VERSIONS": "3",
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose users may keep 2 models, 4 versions and 1 MiB."""
    with serving(tmp_path_factory.mktemp("narrow") / "data", **ONE, **QUOTAS) as running:
        yield running


def over_quota(answer: requests.Response) -> str:
    reason = refused(answer, 507)
    assert answer.json()["code"] == "quota_exceeded"
    return reason


def full(answer: requests.Response) -> None:
    assert refused(answer, 507) == "the server's disk is full"
    assert answer.json()["code"] == "disk_full"


# Quotas


def test_a_user_keeps_no_more_models_than_it_may_and_the_admin_any_number(narrow: Server) -> None:
    eva = user(narrow, "eva")
    for name in ("one", "two"):
        assert put(narrow, f"eva/{name}", times(2), auth=eva).status_code == 201
    assert over_quota(put(narrow, "eva/three", times(2), auth=eva)) == "eva keeps 2 models, which is the limit: delete one first"
    assert put(narrow, "eva/one", times(3), auth=eva).status_code == 201
    assert delete(narrow, "eva/two", auth=eva).status_code == 200
    assert put(narrow, "eva/three", times(2), auth=eva).status_code == 201
    for name in ("one", "two", "three"):
        assert put(narrow, f"admin/{name}", times(2)).status_code == 201


def test_a_user_keeps_no_more_versions_than_it_may(narrow: Server) -> None:
    """A version that takes the place of the oldest one of its model needs no place."""
    tom = user(narrow, "tom")
    for factor in (1, 2, 3):
        assert put(narrow, "tom/one", times(factor), auth=tom).status_code == 201
    assert put(narrow, "tom/two", times(1), auth=tom).status_code == 201
    assert "4 versions" in over_quota(put(narrow, "tom/two", times(2), auth=tom))
    assert put(narrow, "tom/one", times(4), auth=tom).status_code == 201
    assert (shown(narrow, "tom/one")["versions"], shown(narrow, "tom/two")["versions"]) == ([2, 3, 4], [1])


@pytest.mark.parametrize("is_told", [True, False])
def test_the_models_of_a_user_take_no_more_bytes_than_they_may(narrow: Server, is_told: bool) -> None:
    """Refused before the body comes where its size is told, else while it arrives."""
    name = f"ann{is_told}"
    ann = user(narrow, name)
    with Raw(narrow) as client:
        size = {"Content_Length": str(2 * MIB)} if is_told else {"Transfer_Encoding": "chunked"}
        client.ask("PUT", f"/{name}/models/large", auth=ann, Content_Type="application/octet-stream", **size)
        if not is_told:
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    client.chunk(bytes(MIB // 10))
        assert client.head().status == 507
    assert not [file for file in files(narrow) if file.startswith(name)]
    assert put(narrow, f"{name}/small", times(2), auth=ann).status_code == 201


# The reserve: on every machine


def test_an_upload_that_would_leave_less_than_the_reserve_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        assert put(server, "admin/model", times(2)).status_code == 201
    with serving(tmp_path / "data", **ONE, SLUICE_DISK_RESERVE_BYTES=str(1 << 60)) as server:
        full(put(server, "admin/model", times(3)))
        assert predict(server, "admin/model", x=1)["result"] == {"y": 2}
        assert delete(server, "admin/model").status_code == 200
        assert "Traceback" not in server.log


# A full disk


@pytest.mark.parametrize("inodes", [0, 60])
def test_on_a_full_disk_all_that_writes_is_507_nothing_is_lost_and_deleting_makes_room(tmp_path: Path, inodes: int) -> None:
    settings = {**ONE, "SLUICE_DISK_RESERVE_BYTES": "0"}
    with small_disk(tmp_path / "disk", 64, inodes=inodes) as disk:
        data = disk / "data"
        with serving(data, **settings) as server:
            assert put(server, "admin/model", times(2)).status_code == 201
            assert put(server, "admin/model", times(3)).status_code == 201
            use_up(disk, inodes)
            key = server.key
            full(put(server, "admin/model", times(4)))
            full(put(server, "admin/new", uploads.slow()))
            assert post(server, "users", name="eva").status_code in (201, 507)  # the log of the database may have room left
            assert post(server, "keys", kind="full").status_code == 507
            assert (data / "admin.key").read_text().strip() == key
            record = shown(server, "admin/model")
            assert (record["active_version"], record["versions"]) == (2, [1, 2])
            assert predict(server, "admin/model", x=1)["result"] == {"y": 3}
            assert delete(server, "admin/model", "?version=1").status_code == 200
            assert "Traceback" not in server.log
            assert server.log.count("disk full method=PUT path=/admin/models/new") == 1
            use_up(disk, inodes)
            assert server.stop() == 0
        starts_or_says_what_is_needed(data, settings)
        for filler in disk.glob("filler*"):
            filler.unlink()
        with serving(data, **settings) as server:
            assert server.key == key
            assert predict(server, "admin/model", x=1)["result"] == {"y": 3}
            assert put(server, "admin/model", times(5)).json()["version"] > 2


def use_up(disk: Path, inodes: int) -> None:
    """Leave no byte, or no inode."""
    number = len(list(disk.glob("filler*")))
    with contextlib.suppress(OSError):
        if not inodes:
            fill(disk / f"filler{number}")
        for more in range(inodes):
            (disk / f"filler{number + more}").touch()


def starts_or_says_what_is_needed(data: Path, settings: dict[str, str]) -> None:
    try:
        with serving(data, **settings) as server:
            assert predict(server, "admin/model", x=1)["result"] == {"y": 3}
            assert is_alive(server.process.pid)
    except RuntimeError as error:
        [line] = [line for line in str(error).splitlines()[1:] if line.strip()]
        assert "is full: free at least 1 MiB on it, then start the server again" in line


def post(server: Server, path: str, **body: str) -> requests.Response:
    return requests.post(f"{server.url}/api/{path}", json=body, auth=server.auth, timeout=30)
