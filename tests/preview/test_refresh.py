"""What is shown while a dataset is read again: the old rows, which say that they are old, and then the new ones, never a mix."""

import threading
from typing import Any

import pytest

from tests.fixtures.preview import json_lines, picture
from tests.preview.asking import cells, counts, get, hook, is_quiet, lay_in, refused, rows, until
from tests.preview.preludes import Preludes
from tests.serving import Server

PLACE = {"dataset": "one", "config": "default", "split": "train"}


def numbered(version: str) -> dict[str, str]:
    """A dataset in which every cell names its version."""
    return {"train.jsonl": json_lines([{"version": version, "number": f"{version}{number}"} for number in range(50)])}


def shown(server: Server, preludes: Preludes) -> Any:
    """The dataset `one` in its first version, all of it made; and the answer of `/rows`."""
    lay_in(server, "one", numbered("a"))
    assert rows(server, "one").status_code == 200
    until(lambda: is_quiet(server))
    return rows(server, "one")


def refresh(server: Server, preludes: Preludes) -> None:
    """Begin to read the dataset again, and stop before its rows are read."""
    preludes.shut("split")
    assert hook(server, {"update": "datasets/one"}).status_code == 200
    preludes.wait_for_begun("split")


def test_old_rows_stay_while_new_ones_are_read_and_say_so(preludes: Preludes) -> None:
    server = preludes.server()
    before = shown(server, preludes)
    assert "X-Preview-Status" not in before.headers
    lay_in(server, "one", numbered("b"))
    refresh(server, preludes)
    for path in ("/rows", "/first-rows", "/statistics", "/v2/rows"):
        answer = get(server, path, **PLACE)
        assert (answer.status_code, answer.headers["X-Preview-Status"]) == (200, "stalled"), path
        assert answer.headers["Cache-Control"] == "public, max-age=10"
        assert "X-Error-Code" not in answer.headers
        assert '"b"' not in answer.text
    during = get(server, "/rows", **PLACE)
    assert (during.content, during.headers["ETag"]) == (before.content, before.headers["ETag"])
    assert during.headers["X-Revision"] == before.headers["X-Revision"]
    assert counts(server) == {"datasets": {"valid": 1}, "splits": {"stalled": 1}}
    [item] = get(server, "/cache-reports").json()["splits"]["stalled"]
    assert (item["status"], item["error"]) == ("STALLED", None)
    assert get(server, "/valid").json()["valid"] == ["one"]
    assert get(server, "/is-valid", dataset="one").json() == {"valid": True}
    preludes.open("split")
    until(lambda: is_quiet(server))
    after = get(server, "/rows", **PLACE)
    assert {cell["version"] for cell in cells(after)} == {"b"}
    assert "X-Preview-Status" not in after.headers
    assert after.headers["X-Revision"] != before.headers["X-Revision"]


def test_readers_during_the_swap_see_all_of_the_old_or_all_of_the_new(preludes: Preludes) -> None:
    """Each answer has rows, header and revision of one version, and nobody sees the old one after the new one."""
    server = preludes.server()
    before = shown(server, preludes)
    lay_in(server, "one", numbered("b"))
    refresh(server, preludes)
    seen: list[tuple[frozenset[str], bool, bool]] = []
    is_new = threading.Event()

    def read() -> None:
        while not is_new.is_set():
            answer = get(server, "/rows", **PLACE)
            versions = frozenset(cell["version"] for cell in cells(answer))
            is_old_revision = answer.headers["X-Revision"] == before.headers["X-Revision"]
            seen.append((versions, "X-Preview-Status" in answer.headers, is_old_revision))
            if versions == {"b"}:
                is_new.set()

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    until(lambda: len(seen) > 8)
    preludes.open("split")
    for reader in readers:
        reader.join(60)
    assert set(seen) <= {(frozenset({"a"}), True, True), (frozenset({"b"}), False, False)}
    assert (frozenset({"b"}), False, False) in seen


def test_pictures_of_the_old_rows_are_there_until_the_swap(preludes: Preludes) -> None:
    server = preludes.server()
    lay_in(server, "one", {"README.md": "# One\n", "train/a.png": picture(size=(20, 10))})
    [row] = cells(rows(server, "one"))
    until(lambda: is_quiet(server))
    old = get(server, "/" + row["image"])
    lay_in(server, "one", {"train/a.png": picture(size=(40, 10))})
    refresh(server, preludes)
    during = get(server, "/" + row["image"])
    assert (during.status_code, during.content) == (200, old.content)
    preludes.open("split")
    until(lambda: is_quiet(server))
    assert get(server, "/" + row["image"]).content not in (b"", old.content)


def test_a_dataset_that_is_removed_while_it_is_read_again_is_gone_at_once(preludes: Preludes) -> None:
    server = preludes.server()
    shown(server, preludes)
    refresh(server, preludes)
    assert hook(server, {"remove": "datasets/one"}).status_code == 200
    refused(get(server, "/rows", **PLACE), 404, "DatasetNotFound")
    preludes.clear("split")
    until(lambda: is_quiet(server))
    refused(get(server, "/rows", **PLACE), 404, "DatasetNotFound")
    assert counts(server) == {"datasets": {}, "splits": {}}


FAILING = {
    "JobTimeout": {"task": "wait", "hears": False, "mark": "/dev/null", "time_limit_s": 0.3},
    "JobMemory": {"task": "grow", "bytes": 2**30, "memory_bytes": 2**26},
    "JobCrashed": {"task": "die"},
    "UnexpectedError": {"task": "fail"},
}


@pytest.mark.parametrize("code", FAILING)
def test_old_rows_stay_when_reading_again_fails_in_any_way(preludes: Preludes, code: str) -> None:
    server = preludes.server()
    before = shown(server, preludes)
    preludes.put("split", **FAILING[code])  # type: ignore[arg-type]
    hook(server, {"update": "datasets/one"})
    until(lambda: counts(server)["splits"] == {"error": 1})
    after = get(server, "/rows", **PLACE)
    assert (after.status_code, after.content) == (200, before.content)
    assert (after.headers["X-Preview-Status"], after.headers["X-Error-Code"]) == ("stalled", code)
    [item] = get(server, "/cache-reports").json()["splits"]["error"]
    assert item["error"]["status_code"] == 500
    assert get(server, "/valid").json()["valid"] == ["one"]
    preludes.clear("split")
    hook(server, PLACE, "/refresh-split")
    until(lambda: counts(server)["splits"] == {"valid": 1})
    assert "X-Error-Code" not in get(server, "/rows", **PLACE).headers
