"""Versions: described, kept for a while, merged, deleted; and a dataset that is deleted is gone."""

from tests.clients import until
from tests.datasets.asking import ask, described, folder, home, leftovers, made, post, put, refused, rows, titles, version_file
from tests.serving import Server

FACTS = [{"text": f"Fact number {i}.", "n": i} for i in range(5)]


def test_a_description_has_exactly_these_keys(house: Server) -> None:
    made(put(house, "admin/shown", FACTS, "?words=text"))
    found = described(house, "admin/shown")
    assert list(found) == ["dataset", "version", "rows", "visibility", "splits", "columns", "versions"]
    assert found["dataset"] == "hub://admin/shown"
    assert {"name": "text", "dtype": "string", "nulls": 0, "words": True} in found["columns"]
    [version] = found["versions"]
    assert list(version) == ["version", "rows", "created_at", "by", "what"]
    assert (version["by"], version["what"]) == ("admin", "create")
    assert version["created_at"].endswith("Z")


def test_an_earlier_version_is_described_as_it_was(house: Server) -> None:
    made(put(house, "admin/earlier", FACTS))
    made(post(house, "admin/earlier", [{"more": 1}]), 200)
    answer = ask("GET", house, "admin/earlier?version=1")
    assert (answer.headers["ETag"], answer.json()["rows"], len(answer.json()["columns"])) == ('"1"', 5, 2)
    refused(ask("GET", house, "admin/earlier?version=9"), 404, "version_not_found")
    refused(ask("GET", house, "admin/earlier?version=x"), 400, "invalid_parameter")


def test_the_newest_versions_are_kept_with_the_segments_they_name(house: Server) -> None:
    """The server of these tests keeps five versions."""
    for i in range(7):
        put(house, "admin/kept", [{"n": i}])
    assert [one["version"] for one in described(house, "admin/kept")["versions"]] == [7, 6, 5, 4, 3]
    assert len(list((home(house, "admin/kept") / "segments").iterdir())) == 5
    assert rows(house, "admin/kept", 3) == [{"n": 2}]
    refused(ask("GET", house, "admin/kept?version=2"), 404, "version_not_found")


def test_a_version_is_deleted_unless_it_is_the_current_one(house: Server) -> None:
    made(put(house, "admin/deleted", FACTS))
    made(put(house, "admin/deleted", FACTS[:2]), 200)
    refused(ask("DELETE", house, "admin/deleted?version=2"), 400, "invalid_parameter")
    refused(ask("DELETE", house, "admin/deleted?version=7"), 404, "version_not_found")
    assert ask("DELETE", house, "admin/deleted?version=1").status_code == 204
    assert [one["version"] for one in described(house, "admin/deleted")["versions"]] == [2]
    assert leftovers(house, "admin/deleted") == []
    assert len(list((home(house, "admin/deleted") / "segments").iterdir())) == 1


def test_a_dataset_that_is_deleted_is_gone_and_its_name_is_free(house: Server) -> None:
    made(put(house, "admin/gone", FACTS))
    assert ask("PATCH", house, "admin/gone", change={"visibility": "public", "description": "Old."}).status_code == 200
    answer = ask("DELETE", house, "admin/gone")
    assert (answer.status_code, answer.content) == (204, b"")
    refused(ask("DELETE", house, "admin/gone"), 404, "dataset_not_found")
    assert "admin/gone" not in titles(house)
    assert not folder(house, "admin/gone").exists()
    made(put(house, "admin/gone", FACTS))
    assert (described(house, "admin/gone")["visibility"], described(house, "admin/gone")["version"]) == ("private", 1)


def test_many_appends_are_merged_into_fewer_segments_with_the_same_rows(house: Server) -> None:
    made(put(house, "admin/drops", [{"n": 0, "t": "a"}], "?words=t"))
    for i in range(1, 17):
        version = made(post(house, "admin/drops", [{"n": i, "t": "b"}]), 200)["version"]
    until(lambda: described(house, "admin/drops")["versions"][0]["what"] == "merge")
    assert rows(house, "admin/drops") == [{"n": i, "t": "b" if i else "a"} for i in range(17)]
    assert len(version_file(house, "admin/drops")["segments"]) <= 9
    assert described(house, "admin/drops")["columns"][0]["nulls"] == 0
    assert rows(house, "admin/drops", version) == rows(house, "admin/drops")
    # A merge changes no row, so who knows the version before it knows the dataset.
    made(post(house, "admin/drops", [{"n": 17, "t": "c"}], If_Match=f'"{version}"'), 200)
    until(lambda: leftovers(house, "admin/drops") == [])


def test_a_description_is_told_and_stands_in_the_card(house: Server) -> None:
    made(put(house, "admin/told", FACTS))
    changed = ask("PATCH", house, "admin/told", change={"description": "Facts about numbers."}).json()
    assert changed["description"] == "Facts about numbers."
    assert "Facts about numbers." in (folder(house, "admin/told") / "README.md").read_text()
    made(post(house, "admin/told", FACTS), 200)
    assert "Facts about numbers." in (folder(house, "admin/told") / "README.md").read_text()
