"""Who sees what: private datasets are not there for anybody else, in no list and under no address."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.fixtures.preview import front_matter
from tests.preview.asking import get, hook, is_quiet, lay_in, refused, rows, until
from tests.publishing.asking import read_only, user
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
    assert "eva/open" not in get(rooms, "/queue-dump").text


def test_private_datasets_can_be_hidden_from_everybody(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", DATASETS_ENABLE_PRIVATE="false") as server:
        lay_in(server, "ann/laid", {"README.md": front_matter("private: true"), "train.csv": "a\n1\n"})
        refused(get(server, "/splits", auth=server.auth, dataset="ann/laid"), 404, "DatasetNotFound")
