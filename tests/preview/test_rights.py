"""Who sees what: private datasets are not there for anybody else, in no list and under no address."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.fixtures.hub import hub_of
from tests.fixtures.preview import front_matter
from tests.preview.asking import counts, get, hook, is_quiet, lay_in, refused, rows, until
from tests.publishing import uploads
from tests.publishing.asking import put, read_only, user
from tests.serving import Server, serving

NOTES = {"dataset": "eva/notes", "config": "default", "split": "train"}
Auth = tuple[str, str]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("rooms") / "data", SLUICE_SCORE_REPLICAS="1") as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def eva(rooms: Server) -> Auth:
    """A user with a private upload, `eva/notes`, and a directory with private front matter, `eva/laid`."""
    auth = user(rooms, "eva")
    made = requests.put(f"{rooms.url}/api/datasets/eva/notes", data=b'{"text":"secret"}\n{"text":"more"}\n', auth=auth, timeout=30)
    assert made.status_code == 201, made.text
    lay_in(rooms, "eva/laid", {"README.md": front_matter("private: true"), "train.csv": "a\n1\n"})
    lay_in(rooms, "hidden", {"README.md": front_matter("private: true"), "train.csv": "a\n1\n"})
    for name in ("eva/notes", "eva/laid"):
        assert get(rooms, "/rows", auth=auth, dataset=name, config="default", split="train", wait=30).status_code == 200
    assert get(rooms, "/rows", auth=rooms.auth, dataset="hidden", config="default", split="train", wait=30).status_code == 200
    until(lambda: is_quiet(rooms))
    return auth


@pytest.fixture(scope="module")
def tom(rooms: Server) -> Auth:
    return user(rooms, "tom")


def test_a_private_upload_is_shown_to_its_owner_alone(rooms: Server, eva: Auth, tom: Auth) -> None:
    for auth in (eva, read_only(rooms, eva), rooms.auth):
        answer = get(rooms, "/rows", auth=auth, **NOTES)
        assert answer.status_code == 200, answer.text
        assert answer.json()["rows"][0]["row"] == {"text": "secret"}
        assert answer.headers["Cache-Control"] == "private, max-age=120"
        assert "Authorization" in answer.headers["Vary"]
    unknown = get(rooms, "/rows", dataset="eva/nothing", config="default", split="train")
    for other in (None, tom):
        answer = get(rooms, "/rows", auth=other, **NOTES)
        refused(answer, 404, "DatasetNotFound")
        assert answer.content == unknown.content
        for path in ("/splits", "/first-rows", "/v2/rows", "/size", "/parquet", "/statistics"):
            refused(get(rooms, path, auth=other, **NOTES), 404, "DatasetNotFound")
        assert get(rooms, "/is-valid", auth=other, dataset="eva/notes").json() == {"valid": False}


def test_no_list_names_it_to_others_but_counters_count_it(rooms: Server, eva: Auth, tom: Auth) -> None:
    for path in ("/valid", "/cache-reports", "/queue-dump", "/hf_datasets"):
        for other in (None, tom):
            answer = get(rooms, path, auth=other)
            assert "eva/" not in answer.text
            assert "hidden" not in answer.text
            assert "Authorization" in answer.headers["Vary"]
        assert "eva/notes" in get(rooms, path, auth=eva).text
        assert "hidden" not in get(rooms, path, auth=eva).text
        assert "hidden" in get(rooms, path, auth=rooms.auth).text
        assert get(rooms, path, auth=eva).headers["Cache-Control"].startswith("private")
    assert get(rooms, "/cache").json()["datasets"]["valid"] == 3


def test_its_files_are_not_there_for_others(rooms: Server, eva: Auth, tom: Auth) -> None:
    until(lambda: not get(rooms, "/parquet", auth=eva, dataset="eva/notes").json()["partial"])
    [file] = get(rooms, "/parquet", auth=eva, dataset="eva/notes").json()["parquet_files"]
    assert requests.get(file["url"], auth=eva, timeout=30).status_code == 200
    for other in (None, tom):
        assert requests.get(file["url"], auth=other, timeout=30).status_code == 404


def test_others_cannot_take_it_out_or_have_it_read_again(rooms: Server, eva: Auth, tom: Auth) -> None:
    for other in (None, tom):
        assert hook(rooms, {"remove": "datasets/eva/notes"}, auth=other).json() == {"status": "ok"}
        answer = hook(rooms, NOTES, "/refresh-split", auth=other)
        assert (answer.status_code, answer.json()["error"]) == (400, "the split does not exist")
    assert get(rooms, "/rows", auth=eva, **NOTES).status_code == 200
    assert hook(rooms, NOTES, "/refresh-split", auth=eva).status_code == 200


def test_what_becomes_public_is_shown_to_all_and_what_is_deleted_to_nobody(rooms: Server, eva: Auth) -> None:
    url = f"{rooms.url}/api/datasets/eva/open"
    assert requests.put(url, data=b'{"text":"hello"}\n', auth=eva, timeout=30).status_code == 201
    assert requests.patch(url, json={"visibility": "public"}, auth=eva, timeout=30).status_code == 200
    answer = rows(rooms, "eva/open")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "public, max-age=120"
    assert requests.delete(url, auth=eva, timeout=30).status_code == 204
    refused(get(rooms, "/rows", dataset="eva/open", config="default", split="train"), 404, "DatasetNotFound")
    for auth in (None, eva, rooms.auth):
        for path in ("/valid", "/cache-reports", "/hf_datasets", "/queue-dump-waiting-started"):
            assert "eva/open" not in get(rooms, path, auth=auth).text
        assert get(rooms, "/splits", auth=auth, dataset="eva/open").headers["X-Error-Code"] == "DatasetNotFound"
    assert "eva/open" not in get(rooms, "/queue-dump").text


def test_private_datasets_can_be_hidden_from_everybody(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", DATASETS_ENABLE_PRIVATE="false") as server:
        lay_in(server, "ann/laid", {"README.md": front_matter("private: true"), "train.csv": "a\n1\n"})
        refused(get(server, "/splits", auth=server.auth, dataset="ann/laid"), 404, "DatasetNotFound")


def alike(answer: requests.Response, name: str) -> tuple[int, dict[str, str], str]:
    """An answer without the name that was asked for, and without its date."""
    headers = {key: value.replace(name, "NAME") for key, value in answer.headers.items() if key != "Date"}
    return answer.status_code, headers, answer.text.replace(name, "NAME")


WHERE = "config=default&split=train"
ROUTES = [
    *(f"/{path}?dataset=NAME" for path in ("splits", "is-valid", "size", "parquet")),
    *(f"/{path}?dataset=NAME&{WHERE}" for path in ("rows", "first-rows", "statistics", "size", "parquet")),
    f"/rows?dataset=NAME&{WHERE}&offset=0",
    f"/v2/rows?dataset=NAME&{WHERE}&predict=brandon/HelloWorld",
    f"/v2/rows?dataset=NAME&{WHERE}&predict=brandon/nosuch",
    f"/v2/rows?dataset=NAME&{WHERE}&length=1000",
    f"/rows?dataset=NAME&{WHERE}&wait=1",
    "/assets/NAME/--/default/train/0/image/image.jpg",
    "/parquet/NAME/--/default/train/0000.parquet",
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_to_others_it_is_as_if_it_were_not_there(rooms: Server, eva: Auth, tom: Auth, route: str, method: str) -> None:
    """Status, headers and body are those of a name that nobody has, whatever the request says that it knows already."""
    known = get(rooms, "/rows", auth=eva, **NOTES).headers["ETag"]
    for auth in (None, tom):
        for headers in ({}, {"If-None-Match": known}, {"If-None-Match": "*"}, {"Range": "bytes=0-1"}):
            found = [
                alike(
                    requests.request(method, rooms.url + route.replace("NAME", name), auth=auth, headers=headers, timeout=30), name
                )
                for name in ("eva/notes", "eva/nosuc")
            ]
            assert found[0] == found[1]


def test_hooks_of_others_tell_nothing_of_it(rooms: Server, eva: Auth, tom: Auth) -> None:
    for word in ("add", "update", "remove"):
        for auth in (None, tom):
            answers = [hook(rooms, {word: f"datasets/{name}"}, auth=auth) for name in ("eva/notes", "eva/nosuc")]
            assert alike(answers[0], "eva/notes") == alike(answers[1], "eva/nosuc")
    until(lambda: is_quiet(rooms))
    assert "eva/" not in get(rooms, "/queue-dump").text.replace("eva/nosuc", "")
    assert get(rooms, "/rows", auth=eva, **NOTES).status_code == 200


def reports(server: Server) -> dict[tuple[str, str, str], int]:
    """The counters that anybody may see."""
    found = {path: counts(server, path) for path in ("/queue", "/cache")}
    return {
        (path, sort, status): number
        for path, sorts in found.items()
        for sort, statuses in sorts.items()
        for status, number in statuses.items()
    }


def test_hooks_of_others_leave_the_same_traces_for_what_is_there_and_what_is_not(rooms: Server, eva: Auth, tom: Auth) -> None:
    """In the counters, and in the list of jobs."""
    for auth in (None, tom):
        traces = []
        for name in ("eva/notes", "eva/none"):
            before = reports(rooms)
            for word in ("add", "update", "remove"):
                hook(rooms, {word: f"datasets/{name}"}, auth=auth)
                until(lambda: is_quiet(rooms))
            grown = {key: number - before.get(key, 0) for key, number in reports(rooms).items()}
            traces.append((grown, name in get(rooms, "/queue-dump", auth=auth).text))
        assert traces[0] == traces[1]
    assert "eva/none" in get(rooms, "/queue-dump", auth=rooms.auth).text, "the admin sees all jobs"


def test_a_hub_is_asked_about_what_is_hidden_as_about_what_is_not_there(tmp_path: Path) -> None:
    """So the time of an answer, which the hub's takes most of, is the same. The hub is asked about another name."""
    (tmp_path / "hub").mkdir()
    with hub_of(tmp_path / "hub") as hub, serving(tmp_path / "data", SLUICE_HUB_ENDPOINT=hub.endpoint) as server:
        eva, tom = user(server, "eva"), user(server, "tom")
        assert requests.put(f"{server.url}/api/datasets/eva/notes", data=b'{"n":1}', auth=eva, timeout=30).status_code == 201
        assert get(server, "/rows", auth=eva, wait=30, **NOTES).status_code == 200
        body = {"query": 'select n from "hub://eva/before"'}
        assert requests.post(f"{server.url}/api/query/v1", json=body, auth=tom, timeout=30).status_code == 404
        for name in ("eva/notes", "eva/nosuc"):
            num_asked = len(hub.asked)
            body = {"query": f'select n from "hub://{name}"'}
            assert requests.post(f"{server.url}/api/query/v1", json=body, auth=tom, timeout=30).status_code == 404
            refused(get(server, "/rows", auth=tom, **NOTES | {"dataset": name}), 404, "DatasetNotFound")
            assert len(hub.asked) == num_asked + 1
        assert not [one for one in hub.asked if "notes" in one.path]


def test_the_page_is_the_same_for_what_is_there_and_what_is_not(rooms: Server, eva: Auth) -> None:
    pages = [requests.get(f"{rooms.url}/datasets/{name}", timeout=30) for name in ("eva/notes", "eva/nosuc")]
    assert alike(pages[0], "eva%2Fnotes") == alike(pages[1], "eva%2Fnosuc")


def test_a_model_of_somebody_else_says_nothing_of_rows(rooms: Server, eva: Auth, tom: Auth) -> None:
    """It is as unknown as one that does not exist; its owner may use it, also with a key that can only read."""
    config = uploads.config(owner="eva", name="times")
    made = put(rooms, "eva/times", uploads.times(2), auth=eva, config=config)
    assert made.status_code == 201, made.text
    lay_in(rooms, "numbers", {"train.csv": "x\n1\n2\n"})
    place = {"dataset": "numbers", "config": "default", "split": "train"}
    assert get(rooms, "/rows", wait=30, **place).status_code == 200
    until(lambda: is_quiet(rooms))
    for auth, status, code in ((tom, 404, "ModelNotFound"), (read_only(rooms, tom), 403, "FullKeyNeeded")):
        answers = [get(rooms, "/v2/rows", auth=auth, predict=f"eva/{name}", **place) for name in ("times", "nosuc")]
        refused(answers[0], status, code)
        assert alike(answers[0], "times") == alike(answers[1], "nosuc")
    for auth in (eva, read_only(rooms, eva), rooms.auth):
        assert get(rooms, "/v2/rows", auth=auth, predict="eva/times", **place).status_code == 200
