"""Datasets that people have laid down as files are queried as those that were uploaded, once preview has prepared them."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
import requests

from engine.roles import Role
from tests.fixtures.hub import hub_of
from tests.fixtures.preview import front_matter, json_lines, lay, parquet
from tests.preview.asking import get, hook, is_quiet, lay_in, until
from tests.preview.test_workers import worker
from tests.projects.people import new_team, set_role
from tests.publishing.asking import user
from tests.query.asking import TIMEOUT_S, Auth, ask, assert_refused, column, put, rows
from tests.serving import Server, serving

ONE = {"SLUICE_SCORE_REPLICAS": "1"}
PEOPLE = "name,age\nann,31\nbob,\neva,52\n"
# Two types of files that share one folder, as projects lay them down: each config has columns of its own.
MEDIA = front_matter(
    """
configs:
- config_name: costs
  data_files: costs/*.csv
- config_name: sales
  data_files:
  - split: train
    path: sales/old.parquet
  - split: test
    path: sales/new.parquet
"""
)
NAMES = 'select name from "hub://people"'


def sold(days: list[int], numbers: list[float]) -> bytes:
    """Days are counted from 1970."""
    return parquet(pa.table({"day": pa.array(days, pa.date32()), "sold": numbers}))


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("laid") / "data"
    root = data_dir / "datasets"
    lay(root, "people", {"train.csv": PEOPLE, "test.csv": "name,age,town\nzoë,1,Paris\n"})
    lay(root, "ann/notes", {"train.jsonl": json_lines([{"n": n, "meta": {"k": n}, "is": n > 1} for n in range(4)])})
    lay(root, "ann/hidden", {"README.md": front_matter("private: true"), "train.csv": "a\n1\n"})
    lay(root, "broken", {"train.csv": "a,b\n1,2\n1,2,3\n"})
    sales = [
        parquet(pa.table({"day": pa.array(days, pa.date32()), "sold": sold})) for days, sold in (([0, 1], [2.5, 3.5]), ([2], [9.0]))
    ]
    files = {"README.md": MEDIA, "costs/a.csv": "channel,cost\ntv,10\n", "costs/b.csv": "channel,cost\nradio,4\n"}
    lay(root, "team/p-dataset-1", {**files, "sales/old.parquet": sales[0], "sales/new.parquet": sales[1]})
    with serving(data_dir, **ONE) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def ann(laid: Server) -> Auth:
    return user(laid, "ann")


@pytest.fixture(scope="module")
def tom(laid: Server) -> Auth:
    return user(laid, "tom")


# Names


@pytest.mark.parametrize("source", ["hub://people", "people", "hub://people/train", "hub://people/default/train", "people/train"])
def test_a_folder_without_an_org_is_a_source(laid: Server, source: str) -> None:
    """The first of these is asked before anybody has prepared anything: the query waits."""
    assert rows(laid, f'select name, age from "{source}"') == [
        {"name": "ann", "age": 31},
        {"name": "bob", "age": None},
        {"name": "eva", "age": 52},
    ]


@pytest.mark.parametrize("source", ["hub://people/test", "hub://people/default/test"])
def test_a_split_of_it_has_columns_of_its_own(laid: Server, source: str) -> None:
    assert rows(laid, f'select * from "{source}"') == [{"name": "zoë", "age": 1, "town": "Paris"}]


@pytest.mark.parametrize("source", ["hub://ann/notes", "ann/notes", "hub://ann/notes/train", "hub://ann/notes/default/train"])
def test_a_folder_of_an_org_is_a_source(laid: Server, source: str) -> None:
    assert rows(laid, f'select n, meta[\'k\'] as k from "{source}" where "is"') == [{"n": 2, "k": 2}, {"n": 3, "k": 3}]


def test_the_source_may_stand_beside_the_text_or_belong_to_a_workspace(laid: Server, ann: Auth) -> None:
    assert column(laid, "select count(*)", dataset="hub://people") == [3]
    url = f"{laid.url}/workspaces/ann/tables/query"
    for text, expected in (("select count(*) from notes", 4), ('select count(*) from "hub://people"', 3)):
        answer = requests.post(url, json={"query": text}, auth=ann, timeout=TIMEOUT_S)
        assert (answer.status_code, answer.json()["rows"]) == (200, [[expected]])


def test_each_config_of_a_dataset_has_its_own_columns(laid: Server) -> None:
    source = "hub://team/p-dataset-1"
    assert rows(laid, f'select * from "{source}/costs/train" order by cost desc') == [
        {"channel": "tv", "cost": 10},
        {"channel": "radio", "cost": 4},
    ]
    assert rows(laid, f'select * from "{source}/sales/train"') == [
        {"day": "1970-01-01", "sold": 2.5},
        {"day": "1970-01-02", "sold": 3.5},
    ]
    assert column(laid, f'select sold from "{source}/sales/test"') == [9.0]
    assert rows(laid, f'select * from "{source}"') == rows(laid, f'select * from "{source}/costs/train"'), (
        "no config: the first one"
    )
    assert assert_refused(ask(laid, f'select sold from "{source}/costs/train"'), 400, "unknown_column")


def test_two_names_are_a_dataset_if_there_is_one_and_else_a_dataset_with_a_split(tmp_path: Path) -> None:
    more = tmp_path / "more"
    lay(more, "eva", {"train.csv": "a\n1\n", "test.csv": "a\n2\n", "validation.csv": "a\n3\n"})
    with serving(tmp_path / "data", **ONE, SLUICE_DATASETS_DIR=str(more)) as server:
        eva, tom = user(server, "eva"), user(server, "tom")
        assert column(server, 'select a from "hub://eva/test"') == [2]
        put(server, "eva/test", [{"a": "uploaded"}], auth=eva)
        lay_in(server, "eva/validation", {"train.csv": "a\nlaid\n"})
        assert column(server, 'select a from "hub://eva/test"', auth=eva) == ["uploaded"]
        assert column(server, 'select a from "hub://eva/validation"') == ["laid"]
        assert column(server, 'select a from "hub://eva/test"', auth=tom) == [2], "what tom may not read is not there for him"


def test_a_folder_inside_a_dataset_is_its_split_and_no_dataset_of_an_org(laid: Server) -> None:
    lay_in(laid, "parts", {"README.md": "# Parts\n", "train/a.csv": "a\n1\n", "test/a.csv": "a\n2\n"})
    assert [column(laid, f'select a from "hub://parts{split}"') for split in ("", "/train", "/test")] == [[1], [1], [2]]


def test_laid_and_uploaded_rows_are_joined(laid: Server) -> None:
    put(laid, "admin/towns", [{"who": "ann", "town": "Rome"}, {"who": "eva", "town": "Oslo"}])
    text = 'select p.age, t.town from "hub://people" p join "hub://admin/towns" t on p.name = t.who'
    answer = ask(laid, text)
    assert answer.json()["data"] == [{"age": 31, "town": "Rome"}, {"age": 52, "town": "Oslo"}]
    people, towns = answer.headers["X-Dataset-Versions"].split(",")
    assert (people.partition("@")[0], towns) == ("people", "admin/towns@1")


# Rights


@pytest.mark.parametrize("source", ["hub://nothing", "hub://people/none", "hub://ann/nothing", "hub://ann/notes/none", "hub://ann"])
def test_what_is_not_there_is_not_found(laid: Server, source: str) -> None:
    answer = ask(laid, f'select n from "{source}"')
    assert assert_refused(answer, 404, "dataset_not_found")["position"]["offset"] == 14


def test_a_private_folder_is_there_for_its_org_and_the_admin_alone(laid: Server, ann: Auth, tom: Auth) -> None:
    text = 'select a from "hub://ann/hidden"'
    for auth in (ann, laid.auth):
        assert column(laid, text, auth=auth) == [1]
    for more in ("", "/train", "/default/train"):
        refused, missing = (ask(laid, f'select a from "hub://ann/{name}{more}"', auth=tom) for name in ("hidden", "hiding"))
        assert refused.status_code == 404
        assert refused.text == missing.text.replace("hiding", "hidden")
    assert ask(laid, text, auth=("ann", "0" * 32)).status_code == 401


def test_a_private_folder_of_a_team_is_there_for_its_members(laid: Server, ann: Auth, tom: Auth) -> None:
    team = new_team(laid)
    lay_in(laid, f"{team}/plan", {"README.md": front_matter("private: true"), "train.csv": "a\n1\n"})
    text = f'select a from "hub://{team}/plan"'
    set_role(laid, team, "ann", Role.OBSERVER)
    assert column(laid, text, auth=ann) == [1]
    assert_refused(ask(laid, text, auth=tom), 404, "dataset_not_found")


def test_what_queries_may_read_is_listed_and_described(laid: Server, ann: Auth, tom: Auth) -> None:
    answer = ask(laid, 'select a from "hub://ann/hidden"', auth=ann)
    version = int(answer.headers["X-Dataset-Versions"].rpartition("@")[2])
    url = f"{laid.url}/api/datasets"
    listed = {one["dataset"]: one for one in requests.get(url, auth=ann, timeout=30).json()["datasets"]}
    hidden = listed["hub://ann/hidden"]
    assert (hidden["rows"], hidden["version"]) == (1, version)
    assert hidden["bytes"] > 0
    assert hidden["updated_at"].endswith("Z")
    assert "hub://people" in listed
    of_org = [one["dataset"] for one in requests.get(url, auth=ann, params={"org": "ann"}, timeout=30).json()["datasets"]]
    assert of_org == [title for title in listed if title.startswith("hub://ann/")]
    described = requests.get(f"{url}/ann/hidden", auth=ann, timeout=30)
    assert described.headers["ETag"] == f'"{version}"'
    assert described.json() == {
        **{"dataset": "hub://ann/hidden", "version": version, "rows": 1, "splits": {"train": 1}},
        "columns": [{"name": "a", "dtype": "int64", "nulls": 0}],
    }
    assert "hub://ann/hidden" not in requests.get(url, auth=tom, timeout=30).text
    refused, missing = (requests.get(f"{url}/ann/{name}", auth=tom, timeout=30) for name in ("hidden", "hiding"))
    assert refused.status_code == 404
    assert refused.text == missing.text.replace("hiding", "hidden")
    assert requests.get(f"{url}/ann/hidden?version=999999", auth=ann, timeout=30).json()["code"] == "version_not_found"


# What is not prepared


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Server]:
    """A server that takes no jobs, and knows the dataset `people`; its replicas are warm."""
    lay(tmp_path / "data" / "datasets", "people", {"train.csv": PEOPLE})
    with serving(tmp_path / "data", **ONE, SLUICE_JOBS_REPLICAS="0") as server:
        assert [one["id"] for one in get(server, "/hf_datasets").json()["datasets"]] == ["people"]
        assert ask(server, 'select n from "hub://nobody/nothing"').status_code == 404
        yield server
        assert "Traceback" not in server.log


def waiting(server: Server, kind: str) -> bool:
    return server.metric(f'sluice_jobs{{kind="{kind}",status="waiting"}}') == 1


def test_a_query_says_that_a_dataset_is_being_processed_when_its_time_is_over(idle: Server) -> None:
    began = time.monotonic()
    answer = ask(idle, NAMES, timeout_ms=1000)
    assert time.monotonic() - began >= 1
    body = assert_refused(answer, 404, "dataset_not_ready")
    assert body["message"] == '"hub://people" is being processed. Retry later.'
    assert body["position"]["offset"] == 17
    assert answer.headers["Retry-After"] == "1"
    assert "SLUICE_JOBS_REPLICAS is 0" in body["hint"], "this server will never do the work itself"
    assert "sluice worker" in body["hint"]
    assert waiting(idle, "dataset"), "the query has asked for the work"


def test_a_query_waits_until_another_process_has_prepared_the_dataset(idle: Server) -> None:
    with ThreadPoolExecutor(1) as callers:
        found = callers.submit(column, idle, NAMES, timeout_ms=60_000)
        until(lambda: waiting(idle, "dataset"))
        with worker(idle, "datasets"), worker(idle, "splits"):
            assert found.result() == ["ann", "bob", "eva"]


def test_a_preparation_that_was_cancelled_is_asked_for_again(idle: Server) -> None:
    with worker(idle, "datasets"), worker(idle, "splits"):
        assert column(idle, NAMES, timeout_ms=60_000) == ["ann", "bob", "eva"]
        until(lambda: is_quiet(idle))
    with closing(sqlite3.connect(idle.data_dir / "sluice.db", isolation_level=None)) as database:  # as a cancelled job leaves it
        database.execute("UPDATE preview_split SET prepare = 'waiting', prepared = NULL")
    assert_refused(ask(idle, NAMES, timeout_ms=1000), 404, "split_not_ready")
    assert waiting(idle, "prepare")
    with worker(idle, "splits"):
        assert column(idle, NAMES, timeout_ms=60_000) == ["ann", "bob", "eva"]


def test_what_cannot_be_read_is_refused_and_says_where_the_reason_is(laid: Server) -> None:
    body = assert_refused(ask(laid, 'select a from "hub://broken"'), 400, "rows_error")
    assert body["message"] == '"hub://broken" cannot be queried: the rows of the split cannot be read.'
    assert body["hint"] == "GET /size?dataset=broken says why."
    [failed] = get(laid, "/size", dataset="broken").json()["failed"]
    assert "line 3" in failed["error"]["cause_message"]


def test_what_may_not_be_prepared_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE, SLUICE_PREVIEW_MAX_PREPARE_BYTES="0") as server:
        lay_in(server, "people", {"train.csv": PEOPLE})
        assert_refused(ask(server, 'select name from "hub://people"'), 400, "rows_error")


def test_a_dataset_of_a_hub_is_fetched_prepared_and_queried(tmp_path: Path) -> None:
    lay(tmp_path / "hub", "ann/people", {"README.md": "# People\n", "train.csv": PEOPLE, "test.csv": "name,age\nzoë,1\n"})
    with hub_of(tmp_path / "hub", "hf_a") as hub, serving(tmp_path / "data", **ONE, SLUICE_HUB_ENDPOINT=hub.endpoint) as server:
        assert column(server, 'select name from "hub://ann/people/test"', timeout_ms=60_000) == ["zoë"]
        assert_refused(ask(server, 'select name from "hub://ann/nothing"'), 404, "dataset_not_found")
        assert "Traceback" not in server.log


# Changes


def test_files_that_change_make_a_new_version_and_only_that_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        lay_in(server, "people", {"train.csv": PEOPLE})
        before = ask(server, 'select name from "hub://people"')
        old = before.headers["X-Dataset-Versions"]
        assert ask(server, f'select name from "hub://{old}"').content == before.content
        lay_in(server, "people", {"train.csv": "name,age\nnew,1.5\n"})
        hook(server, {"update": "datasets/people"})
        until(lambda: is_quiet(server))
        after = ask(server, 'select * from "hub://people"')
        assert after.json()["data"] == [{"name": "new", "age": 1.5}]
        new = after.headers["X-Dataset-Versions"]
        assert int(new.partition("@")[2]) > int(old.partition("@")[2])
        assert column(server, f'select age from "hub://{new}"') == [1.5]
        assert_refused(ask(server, f'select name from "hub://{old}"'), 404, "version_not_found")


def test_rows_of_the_state_before_are_answered_until_the_new_ones_are_prepared(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        lay_in(server, "people", {"train.csv": PEOPLE})
        text = 'select count(*) from "hub://people"'
        assert column(server, text) == [3]
        until(lambda: is_quiet(server))
    with serving(tmp_path / "data", **ONE, SLUICE_JOBS_REPLICAS="0") as server:
        lay_in(server, "people", {"train.csv": "name,age\nnew,1.5\n"})
        hook(server, {"update": "datasets/people"})
        assert column(server, text) == [3], "no job was done since"


def test_what_was_taken_out_of_preview_is_not_found_until_it_is_added(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        lay_in(server, "people", {"train.csv": PEOPLE})
        text = 'select count(*) from "hub://people"'
        assert column(server, text) == [3]
        hook(server, {"remove": "datasets/people"})
        assert_refused(ask(server, text), 404, "dataset_not_found")
        hook(server, {"add": "datasets/people"})
        assert column(server, text) == [3]


def test_an_upload_that_was_deleted_is_not_found(tmp_path: Path) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        put(server, "admin/notes", [{"n": 1}])
        page = get(server, "/rows", server.auth, dataset="admin/notes", config="default", split="train", wait=30)
        assert page.status_code == 200, page.text
        assert requests.delete(f"{server.url}/api/datasets/admin/notes", auth=server.auth, timeout=30).status_code == 204
        assert_refused(ask(server, 'select n from "hub://admin/notes"'), 404, "dataset_not_found")


@pytest.mark.parametrize("name", ["payload.arrow", "rows.parquet"])
def test_prepared_files_that_are_lost_are_made_again_when_the_server_starts(tmp_path: Path, name: str) -> None:
    with serving(tmp_path / "data", **ONE) as server:
        lay_in(server, "people", {"train.csv": PEOPLE})
        before = ask(server, NAMES)
        until(lambda: is_quiet(server))
    [path] = (tmp_path / "data" / "prepared").rglob(name)
    path.unlink()
    with serving(tmp_path / "data", **ONE) as server:
        assert ask(server, NAMES).content == before.content
        assert "prepared files are damaged dataset=people config=default split=train" in server.log
