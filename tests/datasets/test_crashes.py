"""The server dies, the client leaves or the disk is full in the middle of a change: it has happened, or it has not."""

import contextlib
import gzip
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.clients import Raw, ndjson, until
from tests.datasets.asking import (
    ask,
    delete_rows,
    described,
    folder,
    home,
    leftovers,
    made,
    post,
    put,
    refused,
    rows,
    titles,
    version_file,
)
from tests.datasets.killing import arm, disarm, killing
from tests.disks import MIB, fill, small_disk
from tests.publishing.asking import user
from tests.serving import Server, serving

ONE = {"SLUICE_SCORE_REPLICAS": "1"}
OLD = [{"text": f"Old {i}.", "n": i} for i in range(20)]
NEW = [{"text": f"New {i}.", "n": i} for i in range(10)]
BODY = ndjson(NEW)

Change = Callable[[Server], requests.Response]
CHANGES: dict[str, Change] = {
    "append": lambda server: post(server, "admin/facts", NEW),
    "replace": lambda server: put(server, "admin/facts", NEW),
    "create": lambda server: put(server, "admin/other", NEW),
    "cut": lambda server: delete_rows(server, "admin/facts", "n < 10"),
    "delete": lambda server: ask("DELETE", server, "admin/facts"),
    "forget": lambda server: ask("DELETE", server, "admin/facts?version=1"),
}


# An upload is cut


@pytest.mark.parametrize("num_bytes", [0, 1, 20, len(BODY) // 2, len(BODY) - 1])
def test_an_upload_that_is_cut_stores_nothing(house: Server, num_bytes: int) -> None:
    """The client leaves after some bytes: of a body with a length, of one in chunks, or inside a gzip member."""
    put(house, "admin/cut", OLD)
    before = described(house, "admin/cut")
    packed = gzip.compress(BODY)
    for body, headers in (
        (BODY, {"Content_Length": str(len(BODY))}),
        (packed[: num_bytes * len(packed) // len(BODY)], {"Content_Length": str(len(packed)), "Content_Encoding": "gzip"}),
    ):
        with Raw(house) as client:
            client.ask("POST", "/api/datasets/admin/cut/rows", **headers)
            client.send(body[:num_bytes])
    with Raw(house) as client:
        client.ask("POST", "/api/datasets/admin/cut/rows", Transfer_Encoding="chunked")
        if num_bytes:
            client.chunk(BODY[:num_bytes])
    until(lambda: leftovers(house, "admin/cut") == [])
    assert described(house, "admin/cut") == before


def test_a_gzip_body_that_ends_too_early_is_refused(house: Server) -> None:
    packed = gzip.compress(BODY)
    refused(put(house, "admin/early", packed[:-5], Content_Encoding="gzip"), 400, "invalid_body")
    assert not folder(house, "admin/early").exists()


def test_a_server_that_is_killed_in_the_middle_of_an_upload_has_the_old_version(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        made(put(server, "admin/facts", OLD))
        with Raw(server) as client:
            client.ask("POST", "/api/datasets/admin/facts/rows", Transfer_Encoding="chunked")
            for _ in range(40):
                client.chunk(ndjson({"text": "x" * 1000, "n": i} for i in range(60)))
            until(lambda: list((home(server, "admin/facts") / "staging").glob("*/*.arrow")))
            server.stop(signal.SIGKILL)
    with serving(tmp_path / "data", **ONE) as server:
        assert leftovers(server, "admin/facts") == []
        assert rows(server, "admin/facts") == OLD
        assert made(post(server, "admin/facts", NEW), 200)["version"] == 2
        assert "Traceback" not in server.log


# A change is cut


STEPS = [
    ("append", "os.rename segments/"),
    ("append", "os.rename versions/2.json"),
    ("append", "os.rename README.md"),
    ("append", "os.rename .sluice/HEAD"),
    ("cut", "os.rename .sluice/HEAD"),
    ("delete", "shutil.rmtree"),
    ("forget", "shutil.rmtree"),
]


@pytest.mark.parametrize(("what", "before"), STEPS)
def test_a_server_that_is_killed_at_a_step_of_a_change_has_it_or_not(tmp_path: Path, what: str, before: str) -> None:
    event, _, path = before.partition(" ")
    assert _is_killed(tmp_path, what, killing(tmp_path, before=path or event))


@pytest.mark.heavy
@pytest.mark.parametrize("what", CHANGES)
def test_a_server_that_is_killed_at_any_step_of_a_change_has_it_or_not(tmp_path: Path, what: str) -> None:
    """Until the change comes to its end, the server is killed one step later each time."""
    steps = 0
    while _is_killed(tmp_path / str(steps), what, killing(tmp_path, after=steps)):
        steps += 1
    assert steps >= 3


def _is_killed(tmp_path: Path, what: str, settings: dict[str, str]) -> bool:
    """Whether a server dies during a change; then its data must be those before the change, or those after it."""
    tmp_path.mkdir(exist_ok=True)
    settings = settings | {"KILL_ARMED": str(tmp_path / "armed")}
    with serving(tmp_path / "data", **ONE, **settings) as server:
        made(put(server, "admin/facts", OLD, "?words=text"))
        if what == "forget":
            made(put(server, "admin/facts", OLD), 200)
        arm(tmp_path)
        try:
            CHANGES[what](server)
        except requests.ConnectionError:
            server.process.wait(30)
        is_dead = server.process.poll() is not None
    disarm(tmp_path)
    with serving(tmp_path / "data", **ONE) as server:
        _check_whole(server, what, was_answered=not is_dead)
        assert not list((server.data_dir / "datasets").rglob(".*.new"))
        assert "Traceback" not in server.log
    return is_dead


def _check_whole(server: Server, what: str, *, was_answered: bool) -> None:
    """The state before or after the change, and nothing else on disk."""
    outcomes = {
        "append": [OLD, OLD + NEW],
        "replace": [OLD, NEW],
        "create": [None, NEW],
        "cut": [OLD, OLD[10:]],
        "delete": [OLD, None],
        "forget": [OLD, OLD],
    }[what]
    title = "admin/other" if what == "create" else "admin/facts"
    found = rows(server, title) if title in titles(server) else None
    assert found in ([outcomes[1]] if was_answered else outcomes)
    if found is None:
        assert not folder(server, title).exists()
        return
    assert leftovers(server, title) == []
    version = described(server, title)
    named = {segment["id"] for segment in version_file(server, title)["segments"]}
    card = (folder(server, title) / "README.md").read_text()
    assert card.count("rows.parquet") == len(named)
    assert all(segment in card for segment in named)
    kept = sorted(int(path.stem) for path in (home(server, title) / "versions").glob("*.json"))
    assert kept == sorted(one["version"] for one in version["versions"])
    assert made(post(server, title, NEW), 200)["version"] == version["version"] + 1


# Merges


def append_many(server: Server, count: int) -> None:
    """One more segment than there may be, after which the server merges some."""
    made(put(server, "admin/facts", [{"n": 0}]))
    for n in range(1, count):
        made(post(server, "admin/facts", [{"n": n}]), 200)


def check_merged(server: Server) -> None:
    until(lambda: server.metric('sluice_jobs_total{kind="merge",outcome="success"}') == 1)
    assert [row["n"] for row in rows(server, "admin/facts")] == list(range(17))
    assert len(version_file(server, "admin/facts")["segments"]) == 1
    assert described(server, "admin/facts")["versions"][0]["what"] == "merge"
    assert (described(server, "admin/facts")["version"], leftovers(server, "admin/facts")) == (18, [])
    assert "Traceback" not in server.log


def test_a_server_that_is_killed_in_the_middle_of_a_merge_merges_after_its_start(tmp_path: Path) -> None:
    arm(tmp_path)
    with serving(tmp_path / "data", **ONE, **killing(tmp_path, before="versions/18.json")) as server:
        with contextlib.suppress(requests.ConnectionError):
            append_many(server, 17)
        assert server.process.wait(30) == -signal.SIGKILL
    with serving(tmp_path / "data", **ONE) as server:
        check_merged(server)


def test_a_server_that_takes_no_other_jobs_merges(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE, SLUICE_JOBS_REPLICAS="0") as server:
        append_many(server, 17)
        check_merged(server)


def test_a_merge_waits_in_the_queue_until_a_server_takes_jobs(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE, SLUICE_MAX_MEMORY_PCT="1") as server:
        append_many(server, 17)
        until(lambda: server.metric('sluice_jobs{kind="merge",status="waiting"}') == 1)
    with serving(tmp_path / "data", **ONE) as server:
        check_merged(server)


def test_a_merge_that_fails_leaves_the_dataset_as_it_was(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE, SLUICE_MAX_MEMORY_PCT="1") as server:
        append_many(server, 17)
        lost = version_file(server, "admin/facts")["segments"][3]["id"]
        (home(server, "admin/facts") / "segments" / lost / "rows.parquet").unlink()
    with serving(tmp_path / "data", **ONE) as server:
        until(lambda: server.metric('sluice_jobs_total{kind="merge",outcome="error"}') == 1)
        assert "segments not merged dataset=admin/facts reason=FileNotFoundError" in server.log
        assert (described(server, "admin/facts")["version"], leftovers(server, "admin/facts")) == (17, [])


# Replicas die


def test_sidecars_that_are_missing_are_made_again_when_the_server_starts(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        made(put(server, "admin/facts", [{"text": "a b", "v": [0.5] * 8}, {"text": None, "v": None}], "?words=text"))
        [segment] = (home(server, "admin/facts") / "segments").iterdir()
        before = {path.name: path.read_bytes() for path in segment.iterdir()}
    for path in segment.iterdir():
        if path.name != "rows.parquet":
            path.unlink()
    assert len(before) == 5
    with serving(tmp_path / "data", **ONE) as server:
        until(lambda: "segment mended" in server.log)
        assert {path.name: path.read_bytes() for path in segment.iterdir()} == before


def test_sidecars_that_are_cut_short_are_made_again_when_the_server_starts(tmp_path: Path) -> None:
    """Nothing that we do leaves them so, but a disk or a person may."""
    with serving(tmp_path / "data", **ONE) as server:
        made(put(server, "admin/facts", [{"text": "a b", "v": [0.5] * 8}, {"text": None, "v": None}], "?words=text"))
        [segment] = (home(server, "admin/facts") / "segments").iterdir()
        before = {path.name: path.read_bytes() for path in segment.iterdir()}
    for i, name in enumerate(sorted({*before} - {"rows.parquet"})):
        (segment / name).write_bytes(before[name][: -4 if i else 0])
    with serving(tmp_path / "data", **ONE) as server:
        until(lambda: "segment mended" in server.log)
        assert "files=4" in server.log
        assert {path.name: path.read_bytes() for path in segment.iterdir()} == before
    with serving(tmp_path / "data", **ONE) as server:
        assert "segment mended" not in server.log


def test_a_segment_that_cannot_be_mended_holds_up_no_other(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        made(put(server, "admin/facts", OLD))
        made(post(server, "admin/facts", NEW), 200)
        segments = home(server, "admin/facts") / "segments"
        damaged, other = (one["id"] for one in version_file(server, "admin/facts")["segments"])
    for segment in (damaged, other):
        (segments / segment / "payload.arrow").unlink()
    (segments / damaged / "rows.parquet").write_bytes(b"nonsense")
    with serving(tmp_path / "data", **ONE) as server:
        until(lambda: f"segment mended dataset=admin/facts segment={other}" in server.log)
        assert f"segment not mended dataset=admin/facts segment={damaged} reason=ArrowInvalid" in server.log
        for outcome in ("success", "error"):  # a job is counted once its end is in the database, and the log is written before
            until(lambda outcome=outcome: server.metric(f'sluice_jobs_total{{kind="mend",outcome="{outcome}"}}') == 1)  # type: ignore[misc]
        assert (segments / other / "payload.arrow").exists()


def test_the_catalogue_is_corrected_from_what_is_on_disk(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        for name in ("one", "two", "damaged"):
            made(put(server, f"admin/{name}", OLD))
        made(put(server, "admin/two", NEW), 200)
    (home(server, "admin/two") / "HEAD").write_text("1\n")
    (home(server, "admin/damaged") / "HEAD").write_text("nonsense\n")
    for path in sorted(folder(server, "admin/one").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with serving(tmp_path / "data", **ONE) as server:
        assert titles(server) == ["admin/two"]
        assert described(server, "admin/two")["version"] == 1
        assert rows(server, "admin/two") == OLD
        refused(put(server, "admin/damaged", NEW), 409, "dataset_exists")


# Room


def full(answer: requests.Response) -> None:
    assert refused(answer, 507, "disk_full")["message"] == "the server's disk is full"


def test_an_upload_that_would_leave_less_than_the_reserve_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE, SLUICE_DISK_RESERVE_BYTES=str(1 << 60)) as server:
        full(put(server, "admin/facts", NEW))
        assert not folder(server, "admin/facts").exists()


def test_on_a_full_disk_an_upload_is_507_and_nothing_is_lost(tmp_path: Path) -> None:
    settings = {**ONE, "SLUICE_DISK_RESERVE_BYTES": "0"}
    with small_disk(tmp_path / "disk", 64) as disk, serving(disk / "data", **settings) as server:
        made(put(server, "admin/facts", OLD))
        before = described(server, "admin/facts")
        fill(disk / "filler", 44 * MIB)
        large = [{"text": f"{i} " + "".join(chr(33 + (i * j) % 90) for j in range(900)), "n": i} for i in range(30_000)]
        full(post(server, "admin/facts", large))
        until(lambda: leftovers(server, "admin/facts") == [])
        fill(disk / "more")
        full(post(server, "admin/facts", NEW))
        full(put(server, "admin/new", NEW))
        assert described(server, "admin/facts") == before
        assert rows(server, "admin/facts") == OLD
        (disk / "more").unlink()
        assert made(post(server, "admin/facts", NEW), 200)["rows"] == 30


def test_a_user_keeps_no_more_datasets_and_bytes_than_it_may(tmp_path: Path) -> None:
    quotas = {"SLUICE_USER_DATASETS": "2", "SLUICE_USER_DATASET_BYTES": "100000"}
    with serving(tmp_path / "data", **ONE, **quotas) as server:
        eva = user(server, "eva")
        made(put(server, "eva/one", NEW, auth=eva))
        made(put(server, "eva/two", NEW, auth=eva))
        assert "2 datasets" in refused(put(server, "eva/three", NEW, auth=eva), 507, "quota_exceeded")["message"]
        refused(post(server, "eva/one", NEW * 1000, auth=eva), 507, "quota_exceeded")
        made(post(server, "eva/one", NEW, auth=eva), 200)
        made(put(server, "eva/three", NEW * 1000))  # the admin sends it


def test_a_user_who_keeps_as_many_bytes_as_it_may_can_still_delete_rows(tmp_path: Path) -> None:
    """The versions before keep their rows, so a deletion takes room; deletions without an end are refused at last."""
    with serving(tmp_path / "data", **ONE, SLUICE_USER_DATASET_BYTES="100000") as server:
        eva = user(server, "eva")
        lines = [{"n": i, "text": random.Random(i).randbytes(500).hex()} for i in range(32)]
        made(put(server, "eva/one", lines, auth=eva))
        refused(post(server, "eva/one", lines, auth=eva), 507, "quota_exceeded")
        answers = [delete_rows(server, "eva/one", f"n = {i}", auth=eva) for i in range(9)]
        codes = [answer.status_code for answer in answers]
        assert codes[:2] == [200, 200]
        refused(answers[-1], 507, "quota_exceeded")
        assert 100_000 < sum(path.stat().st_size for path in home(server, "eva/one").glob("segments/*/*")) <= 200_000


# Slow


def test_an_upload_that_drips_is_ended_and_leaves_places_for_others(tmp_path: Path) -> None:
    limits = {"SLUICE_UPLOAD_TIMEOUT_S": "2", "SLUICE_MAX_UPLOADS_PER_USER": "1"}
    with serving(tmp_path / "data", **ONE, **limits) as server:
        eva = user(server, "eva")
        with Raw(server) as client:
            client.ask("PUT", "/api/datasets/eva/drips", auth=eva, Transfer_Encoding="chunked")
            client.chunk(BODY)
            assert client.is_quiet(0.2)
            answer = put(server, "eva/more", NEW, auth=eva)
            assert answer.headers["Retry-After"] == "5"
            refused(answer, 429, "too_many_requests")
            made(put(server, "admin/mine", NEW))
            while client.is_quiet(0.1):
                client.chunk(BODY)
            assert client.head().status == 503
        until(lambda: not folder(server, "eva/drips").exists())
        made(put(server, "eva/more", NEW, auth=eva))
