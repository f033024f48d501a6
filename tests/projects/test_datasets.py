"""Datasets of projects: joined of uploads and other datasets, private to their team in preview and queries, chosen, deleted."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.projects.asking import SWE, Client, made, new_project, refused
from tests.projects.files import media
from tests.projects.weeks import wait_until, weekly, weeks
from tests.publishing.asking import user

COMMON = ["Status", "IId", "CreatedAt", "CreatedBy", "StartedAt", "FinishedAt", "Attempt", "Progress", "Warnings", "Error"]
OWN = {"Active", "Uploads", "Datasets", "Types", "Frequency", "Combinations", "Hub"}


def shown(client: Client, iid: int | str) -> dict[str, Any]:
    body: dict[str, Any] = made(client.get(f"/datasets/{iid}"), 200)
    return body


def query(client: Client, text: str) -> requests.Response:
    auth = client.auth or client.server.auth
    assert not isinstance(auth, str)
    return requests.post(client.server.url + "/api/query/v1", json={"query": text}, auth=auth, timeout=60)


def previewed(client: Client, title: str) -> requests.Response:
    auth = client.auth or client.server.auth
    assert not isinstance(auth, str)
    return requests.get(client.server.url + "/splits", params={"dataset": title, "wait": "30"}, auth=auth, timeout=60)


# Made


def test_a_dataset_says_what_it_is_made_of_and_once_it_is_complete_what_is_in_it(client: Client) -> None:
    sold, seen = client.uploaded("Sales", weekly(4)), client.uploaded("Media", media(weeks(4), {"TV": [1, 2, 3, 4]}))
    first = made(client.join([sold, seen]))
    assert list(first)[: len(COMMON)] == COMMON
    assert set(first) == {*COMMON, *OWN}
    assert (first["Uploads"], first["Datasets"], first["Active"], first["Types"]) == ([sold, seen], [], False, None)
    body = client.waited(f"/datasets/{first['IId']}")
    assert set(body) == {*COMMON, *OWN}
    types = {one["DatasetName"]: one for one in body["Types"]}
    assert {name: one["Rows"] for name, one in types.items()} == {"Sales": 4, "Media": 4}
    assert types["Sales"] == {
        "DatasetName": "Sales",
        "Rows": 4,
        "FirstDate": "2018-01-07",
        "LastDate": "2018-01-28",
        "Replaced": 0,
    }
    assert (body["Status"], body["Frequency"]) == ("complete", "weekly")
    assert body["Hub"] == f"hub://admin/{client.project}-dataset-{body['IId']}"
    assert [(one["Country"], one["Region"], one["Grouping"], one["Periods"]) for one in body["Combinations"]] == [
        ("SWE", "all", "all", 4)
    ]


def test_a_dataset_is_extended_by_uploads_whose_rows_replace_older_ones_and_stays_as_it_was(client: Client) -> None:
    old = client.joined([client.uploaded("Sales", weekly(4, units=100))])
    before = shown(client, old)
    later = client.uploaded("Sales", weekly(3, first=3, units=500))
    new = shown(client, client.joined([later], [old]))
    assert (new["Datasets"], new["Uploads"]) == ([old], [later])
    assert [(one["Rows"], one["Replaced"], one["LastDate"]) for one in new["Types"]] == [(6, 1, "2018-02-11")]
    assert client.dates(new["IId"]) == weeks(6)
    assert client.dates(old) == weeks(4)
    assert shown(client, old) == before


def test_what_is_named_more_than_once_counts_where_it_stands_last(client: Client) -> None:
    first, second = client.uploaded("Sales", weekly(2)), client.uploaded("Sales", weekly(2, units=900))
    assert made(client.join([first, second, first]))["Uploads"] == [second, first]


def test_requests_that_cannot_become_a_dataset_are_refused(client: Client) -> None:
    refused(client.post("/datasets", {}), 422, "empty_request")
    refused(client.join([], []), 422, "empty_request")
    many = refused(client.join([1] * 1001), 422, "bad_field")
    assert many["Message"].startswith("upload_ids: List should have at most 1000 items")
    error = refused(client.join([7]), 404, "unknown_upload")
    assert [one["IId"] for one in error["Details"]] == [7]
    refused(client.join([], [3]), 404, "unknown_dataset")
    for body in ({"upload_ids": ["1"]}, {"upload_ids": [0]}, {"upload_ids": [10**400]}, {"upload_ids": 1}, [], {"activate": "yes"}):
        refused(client.post("/datasets", body), 422, "bad_field")
    error = refused(client.post("/datasets", {"upload_ids": [1], "uploads": []}), 422, "unknown_field")
    assert error["Details"][0]["Column"] == "uploads"
    failed = client.waited(f"/datauploads/{made(client.upload('Sales', b'no,table'))['IId']}")
    assert failed["Status"] == "failed"
    error = refused(client.join([failed["IId"]]), 409, "not_complete")
    assert [one["IId"] for one in error["Details"]] == [failed["IId"]]
    assert made(client.get("/datasets"), 200) == []


def test_a_dataset_without_sales_is_failed_and_leaves_no_files(client: Client) -> None:
    seen = client.uploaded("Media", media(weeks(4), {"TV": [1, 2, 3, 4]}))
    client.failed("datasets", client.join([seen]), "sales_missing")
    assert not (client.server.data_dir / "datasets" / client.team / f"{client.project}-dataset-1").exists()
    assert [path.name for path in staged(client)] == []


def staged(client: Client) -> list[Path]:
    folder = client.server.data_dir / "datasets" / ".staging"
    return [path for path in folder.iterdir() if client.project in path.name] if folder.is_dir() else []


# In the catalogue


def of_catalogue(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(
        f"{client.server.url}/api/datasets", auth=client.auth or client.server.auth, timeout=30
    ).json()["datasets"]
    return found


def test_a_dataset_is_previewed_and_queried_by_its_team_alone(client: Client) -> None:
    body = shown(client, client.joined([client.uploaded("Sales", weekly(4))]))
    title = body["Hub"].removeprefix("hub://")
    wait_until(lambda: title in client.but(base="").ask("GET", "/hf_datasets").text)
    assert jobs_of_preview(client, title) == 0, "preview lists a dataset at once, and reads it when somebody asks for it"
    splits = previewed(client, title)
    assert jobs_of_preview(client, title) > 0
    assert splits.ok, splits.text
    assert {(one["config"], one["split"]) for one in splits.json()["splits"]} == {("Sales", "train")}
    rows = query(client, f'SELECT * FROM "{body["Hub"]}/Sales/train"')
    assert rows.status_code == 200, rows.text
    assert len(rows.json()["data"]) == 4
    [listed] = [one for one in of_catalogue(client) if one["dataset"] == body["Hub"]]
    assert listed["rows"] == 4
    stranger = client.but(auth=user(client.server, f"stranger-{client.project}"))
    assert body["Hub"] not in [one["dataset"] for one in of_catalogue(stranger)]
    assert previewed(stranger, title).status_code == 404
    assert query(stranger, f'SELECT * FROM "{body["Hub"]}"').status_code == 404
    assert requests.get(client.server.url + "/splits", params={"dataset": title}, timeout=30).status_code == 404


def jobs_of_preview(client: Client, title: str) -> int:
    with contextlib.closing(sqlite3.connect(client.server.data_dir / "sluice.db")) as database:
        [(number,)] = database.execute("SELECT count(*) FROM job WHERE dataset = ?", (title,))
    return int(number)


def test_nobody_changes_a_dataset_but_through_its_project(client: Client) -> None:
    body = shown(client, client.joined([client.uploaded("Sales", weekly(4))]))
    url = f"{client.server.url}/api/datasets/{client.team}/{client.project}-dataset-"
    for number in (body["IId"], body["IId"] + 1):
        rows = {"data": b'{"a": 1}\n', "headers": {"Content-Type": "application/x-ndjson"}}
        answers = [
            requests.put(f"{url}{number}", auth=client.server.auth, timeout=30, **rows),  # type: ignore[arg-type]
            requests.delete(f"{url}{number}", auth=client.server.auth, timeout=30),
        ]
        assert [answer.status_code for answer in answers] == [403, 403]
    assert client.dates(body["IId"]) == weeks(4)


# Dates


def test_dates_are_those_that_all_combinations_have_in_order(client: Client) -> None:
    sold = [client.uploaded("Sales", weekly(4)), client.uploaded("Sales", weekly(4, first=2, country="NOR"))]
    dataset = client.joined(sold)
    nor = SWE | {"country_code": "NOR"}
    assert client.dates(dataset, "Sales", SWE) == weeks(4)
    assert client.dates(dataset, "sales", nor) == weeks(4, first=2)
    assert client.dates(dataset, "Sales", nor, SWE, nor) == weeks(2, first=2)
    assert client.dates(dataset, "Sales", {"country_code": "SWE"}) == weeks(4)


def test_dates_of_another_type_are_the_weeks_in_which_it_has_rows(client: Client) -> None:
    seen = client.uploaded("Media", media(weeks(2, first=1), {"TV": [1, 2]}))
    dataset = client.joined([client.uploaded("Sales", weekly(4)), seen])
    assert client.dates(dataset, "Media") == weeks(2, first=1)
    assert client.dates(dataset, "Weather") == []


def test_dates_that_cannot_be_told_are_refused(client: Client) -> None:
    dataset = client.joined([client.uploaded("Sales", weekly(4))])
    path = f"/datasets/{dataset}/dates"
    refused(client.post(path, [SWE]), 422, "bad_dataset_name")
    refused(client.post(path, [SWE | {"country_code": "FIN"}], dataset_name="Sales"), 404, "unknown_combination")
    refused(client.post(path, [], dataset_name="Sales"), 422, "bad_field")
    refused(client.post(path, SWE, dataset_name="Sales"), 422, "bad_field")
    refused(client.post(path, [SWE | {"kind": 1}], dataset_name="Sales"), 422, "unknown_field")
    refused(client.post("/datasets/99/dates", [SWE], dataset_name="Sales"), 404, "unknown_dataset")


# Chosen


def test_the_active_dataset_is_the_last_that_was_chosen_by_either_verb_or_by_its_request(client: Client) -> None:
    refused(client.get("/datasets/active"), 404, "no_active_dataset")
    sold = client.uploaded("Sales", weekly(4))
    first, second = client.joined([sold], activate=True), client.joined([sold])
    assert shown(client, "active")["IId"] == first
    answer = made(client.post(f"/datasets/{second}/activate", {"anything": "else"}), 200)
    assert (answer["IId"], answer["Active"]) == (second, True)
    assert made(client.get(), 200)["ActiveDataset"] == second
    assert made(client.patch(f"/datasets/{first}/activate"), 200)["Active"]
    assert [(one["IId"], one["Active"]) for one in made(client.get("/datasets"), 200)] == [(second, False), (first, True)]
    refused(client.post("/datasets/99/activate"), 404, "unknown_dataset")


def test_a_dataset_that_is_not_complete_is_not_made_active(client: Client) -> None:
    seen = client.uploaded("Media", media(weeks(4), {"TV": [1, 2, 3, 4]}))
    failed = client.waited(f"/datasets/{made(client.join([seen], activate=True))['IId']}")
    refused(client.post(f"/datasets/{failed['IId']}/activate"), 409, "not_complete")
    refused(client.get("/datasets/active"), 404, "no_active_dataset")


# Deleted


def test_a_dataset_is_deleted_with_its_files_unless_it_is_active_or_another_was_made_of_it(client: Client) -> None:
    sold = client.uploaded("Sales", weekly(4))
    first = client.joined([sold], activate=True)
    second = client.joined([sold], [first])
    error = refused(client.delete(f"/datasets/{first}"), 409, "in_use")
    assert [(one["Code"], one["IId"]) for one in error["Details"]] == [("active", first), ("used", second)]
    body = shown(client, second)
    title = body["Hub"].removeprefix("hub://")
    assert previewed(client, title).ok
    assert client.delete(f"/datasets/{second}").status_code == 204
    refused(client.get(f"/datasets/{second}"), 404, "unknown_dataset")
    assert not (client.server.data_dir / "datasets" / title).exists()
    wait_until(lambda: previewed(client, title).status_code == 404)
    assert query(client, f'SELECT * FROM "{body["Hub"]}"').status_code == 404
    assert client.joined([sold]) == second + 1, "a number is not used twice"


@pytest.mark.parametrize("kind", ["datauploads", "datasets"])
def test_what_is_finished_cannot_be_cancelled(client: Client, kind: str) -> None:
    sold = client.uploaded("Sales", weekly(4))
    client.joined([sold])
    refused(client.post(f"/{kind}/1/cancel"), 409, "already_finished")
    refused(client.post(f"/{kind}/9/cancel"), 404, "unknown_upload" if kind == "datauploads" else "unknown_dataset")


def test_projects_see_only_their_own_objects(client: Client) -> None:
    sold = client.uploaded("Sales", weekly(4))
    other = new_project(client.server)
    refused(other.join([sold]), 404, "unknown_upload")
    refused(other.get(f"/datauploads/{sold}"), 404, "unknown_upload")
