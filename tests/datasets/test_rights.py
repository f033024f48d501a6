"""Who may read and write a dataset, and that nobody learns of one that he may not read."""

import random
import time
from typing import Any

import pytest
import requests

from tests.clients import Raw, ndjson
from tests.datasets.asking import ask, described, made, post, put, refused, titles, url
from tests.publishing.asking import read_only, user
from tests.serving import Server

Auth = tuple[str, str]
ROWS = [{"n": 1}]
BODY = ndjson(ROWS)


def all_calls(server: Server, title: str, auth: Auth | None) -> dict[str, requests.Response]:
    """Every call on one dataset, none of which changes one that is there."""
    lines = {"Content-Type": "application/x-ndjson"}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "", {}),
        ("GET", "?version=9", {}),
        ("PUT", "", {"data": BODY, "headers": lines | {"If-Match": '"999"'}}),
        ("PUT", "?embed=n:v&model=nothing", {"data": BODY, "headers": lines | {"If-None-Match": "*"}}),
        ("POST", "/rows", {"data": b"nonsense", "headers": lines}),
        ("POST", "/delete", {"json": {"where": "nonsense"}}),
        ("PATCH", "", {"json": {"visibility": "nonsense"}}),
        ("DELETE", "", {"headers": {"If-Match": '"999"'}}),
        ("DELETE", "?version=999", {}),
    ]
    return {
        f"{method} {path}": requests.request(method, url(server, title) + path, auth=auth, timeout=30, **more)
        for method, path, more in calls
    }


def test_a_dataset_of_another_user_answers_as_one_that_does_not_exist(house: Server, eva: Auth, tom: Auth) -> None:
    made(put(house, "eva/secret", ROWS, auth=eva))
    there, absent = all_calls(house, "eva/secret", tom), all_calls(house, "eva/absent", tom)
    for call, answer in there.items():
        assert answer.status_code == 404, call
        assert answer.text.replace("secret", "absent") == absent[call].text
        assert answer.headers.keys() == absent[call].headers.keys()
    assert described(house, "eva/secret")["version"] == 1


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["describe", "append", "query", "preview"])
def test_time_does_not_tell_a_dataset_of_another_user_from_one_that_does_not_exist(house: Server, eva: Auth, how: str) -> None:
    """Of many pairs of questions, asked in a random order, the one about what is hidden takes longer in about half."""
    hidden, missing = f"eva/timed-{how}", f"eva/times-{how}"
    made(put(house, hidden, ROWS, auth=eva))
    where = "config=default&split=train"
    assert requests.get(f"{house.url}/rows?dataset={hidden}&{where}&wait=30", auth=eva, timeout=60).status_code == 200
    coin, longer, num_pairs = random.Random(5), 0, 400
    with requests.Session() as session:
        session.auth = user(house, f"stranger-{how}")

        def ask_about(title: str) -> float:
            method, address, more = {
                "describe": ("GET", url(house, title), {}),
                "append": ("POST", url(house, title) + "/rows", {"data": BODY}),
                "query": ("POST", f"{house.url}/api/query/v1", {"json": {"query": f'select n from "hub://{title}"'}}),
                "preview": ("GET", f"{house.url}/rows?dataset={title}&{where}", {}),
            }[how]
            began = time.perf_counter()
            assert session.request(method, address, timeout=30, **more).status_code == 404
            return time.perf_counter() - began

        for _ in range(num_pairs):
            pair = [hidden, missing]
            coin.shuffle(pair)
            seconds = {title: ask_about(title) for title in pair}
            longer += seconds[hidden] > seconds[missing]
    print(f"{how}: longer in {longer} of {num_pairs}")
    assert abs(longer / num_pairs - 0.5) < 0.1  # four standard deviations


def test_a_list_has_what_the_caller_may_read(house: Server, eva: Auth, tom: Auth) -> None:
    made(put(house, "eva/listed", ROWS, auth=eva))
    made(put(house, "eva/shown", ROWS, auth=eva))
    assert ask("PATCH", house, "eva/shown", eva, {"visibility": "public"}).status_code == 200
    assert {"eva/listed", "eva/shown"} <= set(titles(house, eva))
    assert "eva/shown" in titles(house, tom)
    assert "eva/listed" not in titles(house, tom)
    assert titles(house) == sorted(titles(house), key=lambda title: title.split("/"))
    of_eva = ask("GET", house, "?org=eva", tom).json()["datasets"]
    assert all(one["dataset"].startswith("hub://eva/") for one in of_eva)
    [entry] = [one for one in of_eva if one["dataset"] == "hub://eva/shown"]
    assert list(entry) == ["dataset", "rows", "version", "bytes", "updated_at"]
    assert (entry["rows"], entry["version"]) == (1, 1)
    assert entry["bytes"] > 0


def test_everybody_reads_a_public_dataset_and_its_owner_alone_writes_it(house: Server, eva: Auth, tom: Auth) -> None:
    made(put(house, "eva/public", ROWS, auth=eva))
    assert ask("PATCH", house, "eva/public", eva, {"visibility": "public"}).json()["visibility"] == "public"
    assert ask("GET", house, "eva/public", tom).json()["rows"] == 1
    for call, answer in all_calls(house, "eva/public", tom).items():
        if not call.startswith("GET"):
            refused(answer, 403, "forbidden")
    assert ask("PATCH", house, "eva/public", eva, {"visibility": "private"}).status_code == 200
    refused(ask("GET", house, "eva/public", tom), 404, "dataset_not_found")


def test_a_read_only_key_reads_what_its_user_reads_and_writes_nothing(house: Server, eva: Auth) -> None:
    made(put(house, "eva/mine", ROWS, auth=eva))
    reader = read_only(house, eva)
    assert ask("GET", house, "eva/mine", reader).json()["rows"] == 1
    assert "eva/mine" in titles(house, reader)
    for title in ("eva/mine", "eva/absent", "admin/absent"):
        for call, answer in all_calls(house, title, reader).items():
            if not call.startswith("GET"):
                refused(answer, 403, "full_key_needed")


def test_a_request_without_credentials_or_with_wrong_ones_is_401(house: Server, eva: Auth) -> None:
    made(put(house, "eva/closed", ROWS, auth=eva))
    for auth, code in ((None, "no_credentials"), (("eva", "0" * 32), "unauthorized")):
        for answer in all_calls(house, "eva/closed", auth).values():
            refused(answer, 401, code)
        answer = requests.get(url(house), auth=auth, timeout=30)
        refused(answer, 401, code)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="sluice"'


def test_a_bearer_is_as_good_as_basic(house: Server, eva: Auth) -> None:
    made(put(house, "eva/bearer", ROWS, auth=eva))
    answer = requests.get(url(house, "eva/bearer"), headers={"Authorization": f"Bearer {eva[1]}"}, timeout=30)
    assert answer.json()["rows"] == 1


def test_the_admin_does_everything(house: Server, eva: Auth) -> None:
    made(put(house, "eva/visited", ROWS, auth=eva))
    assert made(post(house, "eva/visited", ROWS), 200)["rows"] == 2
    assert described(house, "eva/visited")["versions"][0]["by"] == "admin"
    assert ask("DELETE", house, "eva/visited").status_code == 204


def test_the_name_of_a_user_who_is_gone_is_not_given_away_with_the_datasets(house: Server) -> None:
    made(put(house, "gone/facts", ROWS))
    answer = requests.post(f"{house.url}/api/users", json={"name": "Gone"}, auth=house.auth, timeout=30)
    assert answer.status_code == 409
    assert ask("DELETE", house, "gone/facts").status_code == 204
    assert user(house, "gone")


def test_a_page_of_another_origin_changes_nothing(house: Server) -> None:
    answer = put(house, "admin/foreign", ROWS, Origin="https://elsewhere.example")
    refused(answer, 403, "foreign_origin")


def test_a_key_that_ends_in_the_middle_of_an_upload_ends_it(house: Server) -> None:
    auth = user(house, "ann")
    with Raw(house) as client:
        client.ask("PUT", "/api/datasets/ann/half", auth=auth, Transfer_Encoding="chunked")
        client.chunk(BODY)
        assert client.is_quiet(0.2)
        answer = requests.post(f"{house.url}/api/keys", json={"kind": "full"}, auth=auth, timeout=30)
        assert client.head().status == 401
    assert ask("GET", house, "ann/half", ("ann", answer.json()["key"])).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"visibility":"all"}', b'{"visible":true}', b'{"description":7}'])
def test_a_change_that_cannot_be_is_refused(house: Server, body: bytes) -> None:
    assert put(house, "admin/patched", ROWS).ok
    answer = requests.patch(url(house, "admin/patched"), data=body, auth=house.auth, timeout=30)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("invalid_body", "invalid_parameter", "unknown_field")
