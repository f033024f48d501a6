"""What a hub says is not believed: paths, sizes, redirects and lists that are wrong come to nothing and leave no folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.frames import Header
from engine.tasks.families import Families
from engine.tasks.hub import tasks
from tests.fixtures.hub import Hub, hub_of
from tests.fixtures.preview import lay

TASKS = tasks(Families())
TOKEN = "hf_token"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    lay(tmp_path / "hub", "ann/set", {"README.md": "# Set\n", "train.csv": "a\n1\n", "data/more.csv": "a\n2\n"})
    with hub_of(tmp_path / "hub", TOKEN) as hub:
        yield hub


def ask(hub: Hub, task: str, **asked: Any) -> Header:
    answer = TASKS[task]({"endpoint": hub.endpoint, "token": TOKEN, **asked}, memoryview(b""))
    assert isinstance(answer, tuple)
    [told] = answer[0]["parts"]
    return {name: value for name, value in told.items() if name != "size"}


def find(hub: Hub, folder: Path | None, name: str = "ann/set") -> Header:
    return ask(hub, "hub_find", name=name, folder=folder and str(folder))


def listing(root: str, name: str = "ann/set") -> list[list[Any]]:
    found: list[list[Any]] = json.loads((Path(root) / name / ".sluice/hub.json").read_text())
    return found


def told(hub: Hub, siblings: Any, **more: Any) -> None:
    hub.about["ann/set"] = {"sha": "0" * 40, "private": False, "siblings": siblings, **more}


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_dataset_is_found_with_its_files_listed_and_its_readme_here(hub: Hub, tmp_path: Path) -> None:
    found = find(hub, tmp_path / "here")["dataset"]
    assert (found["name"], found["private"], found["revision"]) == ("ann/set", False, hub.revision("ann/set"))
    assert found["root"] == str(tmp_path / "here" / found["revision"])
    assert listing(found["root"]) == [["README.md", 6], ["data/more.csv", 4], ["train.csv", 4]]
    assert everything_in(Path(found["root"])) == {"ann/set/README.md", "ann/set/.sluice/hub.json"}


def test_a_look_up_writes_nothing(hub: Hub, tmp_path: Path) -> None:
    assert find(hub, None)["dataset"]["root"] == ""
    assert find(hub, None, "ann/nothing") == {"dataset": None}
    assert not (tmp_path / "here").exists()


def test_files_are_fetched_once(hub: Hub, tmp_path: Path) -> None:
    found = find(hub, tmp_path / "here")["dataset"]
    asked = {name: found[name] for name in ("name", "root", "revision")}
    files = [["train.csv", 4], ["data/more.csv", 4]]
    assert ask(hub, "hub_fetch", **asked, files=files, head_bytes=0) == {"fetched": 8, "refused": None}
    number = len(hub.asked)
    assert ask(hub, "hub_fetch", **asked, files=files, head_bytes=0) == {"fetched": 0, "refused": None}
    assert len(hub.asked) == number
    assert (Path(found["root"]) / "ann/set/data/more.csv").read_text() == "a\n2\n"


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "a//b",
        ".",
        "..",
        "a/.",
        "",
        "a\0b",
        "a\nb",
        "\ud800",
        "x" * 256,
        "a/" * 600 + "b",
        ".sluice/hub.json",
    ],
)
def test_a_path_that_leaves_the_folder_or_is_none_is_left_out_and_never_fetched(hub: Hub, tmp_path: Path, path: str) -> None:
    told(hub, [{"rfilename": path, "size": 3}, {"rfilename": "train.csv", "size": 4}])
    found = find(hub, tmp_path / "here")["dataset"]
    assert listing(found["root"]) == [["train.csv", 4]]
    asked = {name: found[name] for name in ("name", "root", "revision")}
    answer = ask(hub, "hub_fetch", **asked, files=[[path, 3]], head_bytes=0)
    assert answer["fetched"] == 0
    assert "is not a path inside the dataset" in answer["refused"]
    assert everything_in(tmp_path) <= {f"hub/{one}" for one in everything_in(tmp_path / "hub")} | {
        f"here/{'0' * 40}/ann/set/.sluice/hub.json"
    }


@pytest.mark.parametrize(
    "about",
    [
        None,
        5,
        "x",
        [],
        {"siblings": 5},
        {"siblings": [5, None, {}, {"rfilename": 5}, {"rfilename": "a", "size": "1"}]},
        {"sha": None},
    ],
)
def test_what_is_no_description_of_a_dataset_has_no_files_or_is_an_answer_of_no_hub(hub: Hub, tmp_path: Path, about: Any) -> None:
    hub.about["ann/set"] = about
    answer = find(hub, tmp_path / "here")
    if isinstance(about, dict):
        assert len(answer["dataset"]["revision"]) == 40
        assert answer["dataset"]["private"] is True, "what does not say that it is public is private"
        assert listing(answer["dataset"]["root"]) == []
    else:
        assert list(answer) == ["unreachable"]


@pytest.mark.parametrize("sha", ["../../../etc", "x" * 40, 5, "", "A" * 40])
def test_a_revision_that_is_none_does_not_become_a_path(hub: Hub, tmp_path: Path, sha: Any) -> None:
    told(hub, [], sha=sha)
    found = find(hub, tmp_path / "here")["dataset"]
    assert Path(found["root"]).parent == tmp_path / "here"
    assert len(found["revision"]) == 40


@pytest.mark.parametrize(("body", "reason"), [(b"a\n", "ended before its end"), (b"a\n" * 1000, "longer than it should be")])
def test_a_file_that_has_another_size_than_the_list_says_is_not_kept(hub: Hub, tmp_path: Path, body: bytes, reason: str) -> None:
    found = find(hub, tmp_path / "here")["dataset"]
    hub.bodies["train.csv"] = body
    asked = {name: found[name] for name in ("name", "root", "revision")}
    answer = ask(hub, "hub_fetch", **asked, files=[["train.csv", 4]], head_bytes=0)
    assert reason in answer["unreachable"]
    assert not (Path(found["root"]) / "ann/set/train.csv").exists()


def test_a_file_that_is_a_folder_too_is_refused(hub: Hub, tmp_path: Path) -> None:
    found = find(hub, tmp_path / "here")["dataset"]
    asked = {name: found[name] for name in ("name", "root", "revision")}
    hub.bodies |= {"train.csv": b"a\n1\n", "train.csv/x": b"1"}
    answer = ask(hub, "hub_fetch", **asked, files=[["train.csv", 4], ["train.csv/x", 1]], head_bytes=0)
    assert "a file and a folder at once" in answer["refused"]


def test_a_file_that_the_hub_does_not_give_is_refused(hub: Hub, tmp_path: Path) -> None:
    found = find(hub, tmp_path / "here")["dataset"]
    asked = {name: found[name] for name in ("name", "root", "revision")}
    answer = ask(hub, "hub_fetch", **asked, files=[["nothing.csv", 4]], head_bytes=0)
    assert answer == {"fetched": 0, "refused": "the hub does not give 'nothing.csv' to us"}


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_status_that_is_none_of_a_hub_may_be_another_one_later(hub: Hub, status: int) -> None:
    hub.statuses = [status]
    assert find(hub, None) == {"unreachable": f"it answered with status {status}"}
    assert find(hub, None)["dataset"]["name"] == "ann/set"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_dataset_that_we_may_not_know_of_is_none(hub: Hub, status: int) -> None:
    hub.statuses = [status]
    assert find(hub, None) == {"dataset": None}


def test_a_hub_that_is_not_there_is_said_so_without_its_address(hub: Hub) -> None:
    hub.close()
    [text] = find(hub, None).values()
    assert text == "the connection failed (ConnectionRefusedError)"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("{endpoint}/api/datasets/ann/set?blobs=true", "redirects again and again"),
        ("file:///etc/passwd", "an address that is none"),
        ("http://user:secret@elsewhere.example/", "an address that is none"),
        ("http://[::1/", "an address that is none"),
        ("http://x:99999/", "an address that is none"),
        ("http://ü.example/", "an address that is none"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_not_followed(hub: Hub, location: str, reason: str) -> None:
    hub.location = location.replace("{endpoint}", hub.endpoint)
    assert reason in find(hub, None)["unreachable"]
    assert len(hub.asked) <= 6


def test_the_list_has_names_that_can_be_names_here_and_are_not_known(hub: Hub, tmp_path: Path) -> None:
    for number in range(5):
        lay(tmp_path / "hub", f"bob/set{number}", {"README.md": "# Set\n"})
    lay(tmp_path / "hub", "bob/a b", {"README.md": "# Set\n"})
    answer = ask(hub, "hub_list", known=["bob/set1", "ann/set"], limit=100)
    assert answer == {"names": ["bob/set0", "bob/set2", "bob/set3", "bob/set4"]}
    assert ask(hub, "hub_list", known=[], limit=2) == {"names": ["ann/set", "bob/set0"]}


def test_a_list_that_goes_on_elsewhere_is_not_followed(hub: Hub, tmp_path: Path) -> None:
    for number in range(5):
        lay(tmp_path / "hub", f"bob/set{number}", {"README.md": "# Set\n"})
    hub.next_list = hub.store
    assert ask(hub, "hub_list", known=[], limit=100) == {"unreachable": "its list goes on at another address"}
    assert hub.asked_of_store == []
