"""Datasets of a hub, as a stand-in serves them: the same answers as of a local directory, and the token is seen only there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fixtures.hub import Hub, hub_of
from tests.fixtures.preview import Content, front_matter, json_lines, lay, picture
from tests.preview.asking import cells, counts, get, hook, is_quiet, refused, rows, until
from tests.preview.preludes import Preludes
from tests.preview.test_workers import command, worker
from tests.serving import Server, serving

TOKEN = "hf_open-sesame"
CONFIGS = """
configs:
- config_name: clean
  data_files: [{split: train, path: "clean/*.csv"}]
- config_name: raw
  data_files: raw/all.jsonl
license: mit
"""
DATASETS: dict[str, dict[str, Content]] = {
    "people": {"README.md": "# People\n", "train.csv": "name,age\nann,31\nbob,\n", "test.csv": "name,age\neva,1\n"},
    "ann/sets": {
        "README.md": front_matter(CONFIGS),
        "clean/a.csv": "a,b\n1,x\n",
        "clean/b.csv": "a,b\n2.5,y\n",
        "raw/all.jsonl": json_lines([{"n": number, "deep": {"a": [number]}} for number in range(120)]),
    },
    "ann/pics": {"README.md": "# Pictures\n", "train/cat/a.png": picture(size=(20, 10)), "train/dog/ü b.png": picture(size=(5, 4))},
    "secret": {"README.md": "# Secret\n", "train.csv": "a\n1\n"},
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "hub"
    for name, files in DATASETS.items():
        lay(folder, name, files)
    with hub_of(folder, TOKEN) as hub:
        hub.private.add("secret")
        yield hub


@pytest.fixture
def server(tmp_path: Path, hub: Hub) -> Iterator[Server]:
    settings = {"SLUICE_HUB_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "SLUICE_WORKER_SLEEP_SECONDS": "0.1"}
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", **settings) as server:
        yield server
        assert "Traceback" not in server.log
        assert TOKEN not in server.log


def everything(server: Server, name: str) -> dict[str, Any]:
    """All answers about a dataset, without what differs between two servers: addresses, runs, the sizes of Parquet files."""
    assert get(server, "/splits", dataset=name, wait=30).status_code == 200
    found: dict[str, Any] = {}
    listed = get(server, "/splits", dataset=name).json()["splits"]
    for one in listed:
        place = {"dataset": name, "config": one["config"], "split": one["split"]}
        assert get(server, "/rows", wait=30, **place).status_code == 200
    until(lambda: is_quiet(server))
    for path in ("/splits", "/size", "/parquet"):
        found[path] = _alike(server, get(server, path, dataset=name))
    for one in listed:
        place = {"dataset": name, "config": one["config"], "split": one["split"]}
        for path in ("/rows", "/first-rows", "/v2/rows", "/statistics"):
            found[f"{path} {one['config']} {one['split']}"] = _alike(server, get(server, path, **place))
    return found


def _alike(server: Server, answer: requests.Response) -> Any:
    assert answer.status_code == 200, answer.text
    text = re.sub(r"\?v=[0-9-]+", "", answer.text.replace(server.url, ""))
    return re.sub(r'"(size|num_bytes_parquet_files)":\d+', r'"\1":0', text)


@pytest.mark.parametrize("name", ["people", "ann/sets", "ann/pics"])
def test_a_dataset_of_the_hub_has_the_answers_of_a_local_directory(tmp_path: Path, hub: Hub, server: Server, name: str) -> None:
    with serving(tmp_path / "local", SLUICE_SCORE_REPLICAS="1") as local:
        lay(local.data_dir / "datasets", name, DATASETS[name])
        wanted = everything(local, name)
    assert everything(server, name) == wanted
    assert get(server, "/splits", dataset=name).headers["X-Revision"] == hub.revision(name)


def test_a_picture_of_the_hub_is_shown(server: Server) -> None:
    [first, second] = cells(rows(server, "ann/pics"))
    for row in (first, second):
        assert get(server, "/" + row["image"]).headers["Content-Type"] == "image/jpeg"


def test_the_token_goes_to_the_endpoint_and_to_no_other_address(hub: Hub, server: Server) -> None:
    assert rows(server, "people").status_code == 200
    until(lambda: is_quiet(server))
    assert {one.token for one in hub.asked} == {f"Bearer {TOKEN}"}
    assert hub.asked_of_store
    assert {one.token for one in hub.asked_of_store} == {None}


def test_without_an_endpoint_nobody_is_asked(tmp_path: Path, hub: Hub) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", HF_TOKEN=TOKEN) as server:
        refused(get(server, "/splits", dataset="people", wait=5), 404, "DatasetNotFound")
        hook(server, {"add": "datasets/people"})
        until(lambda: counts(server, "/queue")["datasets"] == {"error": 1})
        assert server.metric('sluice_replicas{pool="hub",state="ready"}') == 0
    assert hub.asked == []


def test_a_name_that_the_hub_does_not_know_is_not_found_and_is_not_asked_for_again(hub: Hub, server: Server) -> None:
    for _ in range(5):
        refused(get(server, "/splits", dataset="ann/nothing", wait=5), 404, "DatasetNotFound")
    assert [one.path for one in hub.asked] == ["/api/datasets/ann/nothing?blobs=true"]
    assert counts(server, "/queue") == {"datasets": {}, "splits": {}}
    for name in ("../x", "a/b/c", "%2e%2e", "a b", "x?y=1"):
        refused(get(server, "/splits", dataset=name), 404, "DatasetNotFound")
    assert len(hub.asked) == 1, "what cannot be a name is not asked for"


def test_a_private_dataset_of_the_hub_is_for_the_admin_alone(server: Server) -> None:
    place = {"dataset": "secret", "config": "default", "split": "train"}
    refused(get(server, "/rows", wait=5, **place), 404, "DatasetNotFound")
    answer = get(server, "/rows", auth=server.auth, wait=30, **place)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, max-age=120")
    refused(get(server, "/rows", **place), 404, "DatasetNotFound")
    for path in ("/valid", "/cache-reports", "/queue-dump"):
        assert "secret" not in get(server, path).text
        assert "secret" in get(server, path, auth=server.auth).text


def test_a_dataset_that_was_laid_down_comes_before_one_of_the_hub(server: Server) -> None:
    lay(server.data_dir / "datasets", "people", {"train.csv": "name\nlocal\n"})
    assert cells(rows(server, "people")) == [{"name": "local"}]


def test_a_hook_brings_a_new_revision_and_the_old_rows_stay_until_then(hub: Hub, server: Server) -> None:
    before = rows(server, "people")
    until(lambda: is_quiet(server))
    (hub.folder / "people/train.csv").write_text("name,age\nnew,1\n")
    assert rows(server, "people").content == before.content
    hook(server, {"update": "datasets/people"})
    until(lambda: is_quiet(server))
    after = rows(server, "people")
    assert cells(after) == [{"name": "new", "age": 1}]
    assert after.headers["X-Revision"] == hub.revision("people") != before.headers["X-Revision"]


def test_what_the_hub_has_no_more_is_gone(hub: Hub, server: Server) -> None:
    assert rows(server, "people").status_code == 200
    until(lambda: is_quiet(server))
    (hub.folder / "people/README.md").unlink()
    hook(server, {"update": "datasets/people"})
    until(lambda: counts(server) == {"datasets": {}, "splits": {}})


# Large splits


LINE = "0123456789" * 10 + "\n"


@pytest.fixture
def narrow(tmp_path: Path, hub: Hub) -> Iterator[Server]:
    """A server that fetches no split whole that is larger than 10,000 bytes."""
    settings = {"SLUICE_HUB_ENDPOINT": hub.endpoint, "MAX_SIZE_FALLBACK": "10000"}
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", **settings) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_of_a_large_split_of_lines_the_first_rows_are_fetched(hub: Hub, narrow: Server, takes_ranges: bool) -> None:
    hub.takes_ranges = takes_ranges
    content = "text\n" + LINE * 100_000
    lay(hub.folder, "large", {"README.md": "# Large\n", "train.csv": content})
    answer = rows(narrow, "large")
    assert len(cells(answer)) == 100
    [asked] = [one for one in hub.asked_of_store if "train.csv" in one.path]
    assert asked.range == "bytes=0-8388607"
    [here] = (narrow.data_dir / "hub").rglob("train.csv")
    assert here.stat().st_size == 8 * 1024 * 1024
    [split] = get(narrow, "/splits", dataset="large").json()["splits"]
    assert split["num_bytes"] == len(content)
    until(lambda: is_quiet(narrow))
    reason = f"the split has {len(content):,} bytes, and at most 10,000 are fetched from the hub"
    [failed] = get(narrow, "/parquet", dataset="large").json()["failed"]
    assert failed["error"]["cause_message"] == reason
    assert refused(get(narrow, "/statistics", dataset="large", config="default", split="train"), 400, "RowsError")


def test_of_a_large_split_with_few_long_rows_those_are_shown_that_are_whole(hub: Hub, narrow: Server) -> None:
    long = "x" * 1_000_000
    lines = "".join(f'{{"n":{number},"text":"{long}"}}\n' for number in range(20))
    lay(hub.folder, "large", {"README.md": "# Large\n", "train.jsonl": lines})
    answer = rows(narrow, "large")
    shown = [row["n"] for row in cells(answer)]
    assert shown == list(range(len(shown)))
    assert 1 <= len(shown) <= 8
    assert "rows" in answer.headers["X-Preview-Truncated"]


def test_a_large_split_of_another_format_is_not_fetched(hub: Hub, narrow: Server) -> None:
    lay(hub.folder, "large", {"README.md": "# Large\n", "train.json": "[" + ",".join(['{"a":1}'] * 5000) + "]"})
    body = refused(rows(narrow, "large"), 400, "RowsError", "Cannot get the first rows for the split.")
    assert body["cause_exception"] == "TooLargeToFetch"
    assert body["cause_message"] == "the split has 40,001 bytes, and at most 10,000 are fetched from the hub"
    assert not any("train.json" in one.path for one in hub.asked_of_store)


# A hub that does not answer


def test_a_hub_that_does_not_answer_is_asked_again(hub: Hub, server: Server) -> None:
    assert get(server, "/is-valid", dataset="people").json() == {"valid": False}  # looked up now, and known for a while
    hub.statuses = [503]
    refused(get(server, "/splits", dataset="people"), 404, "DatasetNotReady")
    until(lambda: counts(server, "/queue")["datasets"].get("error") == 1)
    assert rows(server, "people").status_code == 200
    assert counts(server)["datasets"] == {"valid": 1}


def test_a_job_waits_longer_each_time_and_then_gives_up(preludes: Preludes, hub: Hub) -> None:
    server = preludes.server(SLUICE_HUB_ENDPOINT=hub.endpoint)
    assert get(server, "/is-valid", dataset="people").json() == {"valid": False}
    hub.statuses = [503] * 100
    waited = []
    refused(get(server, "/splits", dataset="people"), 404, "DatasetNotReady")
    for number in range(1, 4):
        until(lambda done=number: counts(server, "/queue")["datasets"].get("error") == done)  # type: ignore[misc]
        select = (
            "SELECT round((julianday(not_before) - julianday(created_at)) * 86400) AS seconds FROM job ORDER BY id DESC LIMIT 1"
        )
        waited += [row["seconds"] for row in preludes.ask(select)]
        refused(get(server, "/splits", dataset="people"), 404, "DatasetNotReady")
        moved = "strftime('%Y-%m-%dT%H:%M:%f000', {}, '-1 day')"
        times = ", ".join(f"{name} = {moved.format(name)}" for name in ("not_before", "created_at"))
        preludes.ask(f"UPDATE job SET {times} WHERE status = 'waiting'")
    assert waited == [1, 7, 70]
    until(lambda: counts(server)["datasets"] == {"error": 1})
    body = refused(get(server, "/splits", dataset="people"), 400, "SplitsNamesError")
    assert (body["cause_exception"], body["cause_message"]) == (
        "ConnectionError",
        "the hub did not answer: it answered with status 503",
    )
    assert hub.endpoint not in body["cause_message"]


def test_while_the_hub_is_down_what_is_cached_is_shown(hub: Hub, server: Server) -> None:
    before = rows(server, "people")
    until(lambda: is_quiet(server))
    hub.close()
    assert rows(server, "people").content == before.content
    refused(get(server, "/splits", dataset="other", wait=5), 404, "DatasetNotFound")


# Warming, and workers


def test_warming_asks_the_hub_for_its_list(hub: Hub, server: Server) -> None:
    command(server, "warm")
    until(lambda: counts(server, "/queue")["datasets"] == {} and is_quiet(server))
    assert counts(server) == {"datasets": {}, "splits": {}}
    command(server, "warm", "--hub")
    until(lambda: counts(server)["datasets"] == {"valid": 4})
    assert "secret" not in get(server, "/valid").text
    assert sum(one.path.startswith("/api/datasets?") for one in hub.asked) == 2


def test_workers_fetch_by_themselves(tmp_path: Path, hub: Hub) -> None:
    settings = {"SLUICE_HUB_ENDPOINT": hub.endpoint}
    with (
        serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="0", **settings) as server,
        worker(server, "datasets", **settings),
        worker(server, "splits", **settings),
    ):
        assert cells(rows(server, "people"))[0] == {"name": "ann", "age": 31}
        until(lambda: is_quiet(server))


@pytest.mark.heavy
def test_files_of_an_old_revision_are_swept(hub: Hub, server: Server) -> None:
    """Ten minutes after they were fetched."""
    assert rows(server, "people").status_code == 200
    until(lambda: is_quiet(server))
    [old] = (server.data_dir / "hub").iterdir()
    (hub.folder / "people/train.csv").write_text("name,age\nnew,1\n")
    os.utime(old, (0, 0))
    hook(server, {"update": "datasets/people"})
    until(lambda: not old.exists(), 60)
    [new] = (server.data_dir / "hub").iterdir()
    assert new.name == hub.revision("people")
    assert rows(server, "people").status_code == 200
