"""Pages of rows, sizes, statistics, and what a model says of each row."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from tests.corpora import PENGUINS, needs, penguins
from tests.fixtures.preview import json_lines, lay
from tests.preview.asking import cells, get, hook, is_quiet, lay_in, refused, rows, until
from tests.serving import Server, serving

PEOPLE = {"dataset": "people", "config": "default", "split": "train"}
PENGUIN = {"dataset": "penguins", "config": "default", "split": "train"}
HELLO = "brandon/HelloWorld"


def prepared(server: Server, name: str) -> None:
    """Wait until all of a dataset is there."""
    assert rows(server, name).status_code == 200
    until(lambda: not get(server, "/size", dataset=name).json()["partial"])
    until(lambda: is_quiet(server))


def test_a_page_has_rows_from_any_place(house: Server) -> None:
    prepared(house, "people")
    answer = get(house, "/v2/rows", offset=140, length=100, **PEOPLE)
    body = answer.json()
    assert list(body) == ["features", "rows", "num_rows_total", "num_rows_per_page", "partial"]
    assert [one["row_idx"] for one in body["rows"]] == list(range(140, 150))
    assert body["rows"][0] == {"row_idx": 140, "row": {"name": "n140", "age": 140}, "truncated_cells": []}
    assert (body["num_rows_total"], body["num_rows_per_page"], body["partial"]) == (150, 100, False)
    assert len(get(house, "/v2/rows", **PEOPLE).json()["rows"]) == 100
    for params in ({"offset": 140, "length": 100}, {"offset": 140}):
        assert get(house, "/rows", **params, **PEOPLE).json() == body
    beyond = get(house, "/v2/rows", offset=1000, **PEOPLE)
    assert (beyond.status_code, beyond.json()["rows"], beyond.json()["num_rows_total"]) == (200, [], 150)


OUTSIDE = {"offset": ("-1", "x", "1.5", "9" * 30), "length": ("0", "101", "٣")}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OUTSIDE.items() for value in values])
@pytest.mark.parametrize("path", ["/v2/rows", "/rows"])
def test_a_page_outside_its_bounds_is_refused(house: Server, path: str, name: str, value: str) -> None:
    refused(get(house, path, **{name: value}, **PEOPLE), 422, "InvalidRequest")


def test_a_split_that_is_not_prepared_shows_its_first_rows(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With nothing to prepare allowed, only the first rows can be had."""
    with serving(
        tmp_path_factory.mktemp("bare") / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_PREVIEW_MAX_PREPARE_BYTES="0"
    ) as server:
        lay_in(server, "people", {"train.csv": "a\n" + "".join(f"{number}\n" for number in range(150))})
        assert rows(server, "people").status_code == 200
        until(lambda: is_quiet(server))
        page = get(server, "/v2/rows", offset=95, length=10, **PEOPLE).json()
        assert [one["row"] for one in page["rows"]] == [{"a": number} for number in range(95, 100)]
        assert page["partial"] is True
        for path, more in (("/v2/rows", {"offset": 120}), ("/statistics", {})):
            assert refused(get(server, path, **more, **PEOPLE), 400, "RowsError")["cause_message"]
        for path in ("/size", "/parquet"):
            body = get(server, path, dataset="people").json()
            [failed] = body["failed"]
            assert list(failed) == ["kind", "dataset", "config", "split", "error"]
            assert (failed["kind"], body["pending"], body["partial"]) == ("split-prepare", [], False)


def test_sizes_are_told_of_the_dataset_its_configs_and_its_splits(house: Server) -> None:
    prepared(house, "people")
    body = get(house, "/size", dataset="people").json()
    assert list(body) == ["size", "pending", "failed", "partial"]
    size = body["size"]
    assert list(size) == ["dataset", "configs", "splits"]
    assert size["dataset"]["num_rows"] == 151
    assert size["dataset"]["estimated_num_rows"] is None
    [config] = size["configs"]
    assert (config["config"], config["num_columns"], config["num_rows"]) == ("default", 2, 151)
    by_split = {one["split"]: one for one in size["splits"]}
    assert {split: one["num_rows"] for split, one in by_split.items()} == {"train": 150, "test": 1}
    assert size["dataset"]["num_bytes_parquet_files"] == sum(one["num_bytes_parquet_files"] for one in by_split.values()) > 0
    assert size["dataset"]["num_bytes_memory"] > 0
    train = get(house, "/size", dataset="people", config="default", split="train").json()["size"]
    assert [one["split"] for one in train["splits"]] == ["train"]
    assert train["dataset"]["num_rows"] == 150


UPLOADED = {"dataset": "admin/facts", "config": "default", "split": "train"}


def put(server: Server, name: str, rows: list[dict[str, Any]]) -> None:
    url = f"{server.url}/api/datasets/{name}"
    answer = requests.put(url, data=json_lines(rows).encode(), auth=server.auth, timeout=30)
    assert answer.status_code in (200, 201), answer.text


def test_the_size_of_an_uploaded_split_is_told_with_its_bytes_in_memory(house: Server) -> None:
    put(house, "admin/facts", [{"text": "x" * 100, "v": [0.5] * 16} for _ in range(200)])
    assert get(house, "/rows", house.auth, wait=30, **UPLOADED).status_code == 200
    until(lambda: not get(house, "/size", house.auth, dataset="admin/facts").json()["partial"])
    [split] = get(house, "/size", house.auth, dataset="admin/facts").json()["size"]["splits"]
    exact = 200 * (100 + 4) + 200 * 16 * 4
    assert exact <= split["num_bytes_memory"] < exact + 2000
    assert split["num_bytes_parquet_files"] > 0


def test_a_page_of_rows_that_were_replaced_a_moment_ago_does_not_fail(tmp_path: Path) -> None:
    """Only one version is kept, and preview has not yet seen the new one: the first rows are there, and others are asked for."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_DATASET_VERSIONS="1") as server:
        put(server, "admin/facts", [{"n": n} for n in range(150)])
        assert get(server, "/rows", server.auth, wait=30, **UPLOADED).status_code == 200
        until(lambda: is_quiet(server))
        put(server, "admin/facts", [{"n": -n} for n in range(150)])
        page = get(server, "/v2/rows", server.auth, offset=0, length=3, **UPLOADED)
        assert page.status_code == 200, page.text
        assert page.json()["partial"] is True
        late = get(server, "/v2/rows", server.auth, offset=149, wait=30, **UPLOADED)
        assert [one["row"] for one in late.json()["rows"]] == [{"n": -149}]


@pytest.mark.heavy
def test_pages_and_queries_go_on_while_a_dataset_is_prepared_again_and_again(tmp_path: Path) -> None:
    """Long enough for several sweeps of the files that were replaced."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:

        def lay_again(number: int) -> None:
            lay_in(server, "people", {"train.csv": "n\n" + f"{number}\n" * 20_000})
            hook(server, {"update": "datasets/people"})

        lay_again(0)
        prepared(server, "people")
        is_over = threading.Event()
        with ThreadPoolExecutor(2) as readers:
            asked = readers.submit(query_whole, server, is_over)
            paged = readers.submit(pages_whole, server, is_over)
            for number in range(1, 40):
                lay_again(number)
                until(lambda: is_quiet(server), 60)
            is_over.set()
            asked.result()
            paged.result()
        until(lambda: len(list((server.data_dir / "prepared").rglob("rows.parquet"))) == 1, 60)
        assert "Traceback" not in server.log


def query_whole(server: Server, is_over: threading.Event) -> None:
    """Ask for many rows, which are of one state each time."""
    body = {"query": 'select n from "hub://people" limit 10000'}
    while not is_over.is_set():
        answer = requests.post(f"{server.url}/api/query/v1", json=body, auth=server.auth, timeout=60)
        assert answer.status_code == 200, answer.text
        assert len({one["n"] for one in answer.json()["data"]}) == 1


def pages_whole(server: Server, is_over: threading.Event) -> None:
    """Read pages from near the end, which are of one state each."""
    while not is_over.is_set():
        answer = get(server, "/v2/rows", offset=19_900, wait=30, **PEOPLE)
        assert answer.status_code == 200, answer.text
        assert len({one["row"]["n"] for one in answer.json()["rows"]}) == 1


# Penguins


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("birds") / "data"
    lay(data_dir / "datasets", "penguins", {"penguins.csv": penguins()})
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        prepared(server, "penguins")
        yield server
        assert "Traceback" not in server.log


@needs(PENGUINS)
def test_penguins_have_types_and_nulls(birds: Server) -> None:
    answer = rows(birds, "penguins")
    types = {one["column"]["name"]: one["column"]["type"] for one in answer.json()["columns"]}
    assert (types["bill_length_mm"], types["flipper_length_mm"], types["species"]) == ("FLOAT", "INT", "STRING")
    assert cells(answer)[3]["bill_length_mm"] is None
    first = get(birds, "/first-rows", **PENGUIN).json()
    assert len(first["features"]) == 8
    assert first["truncated"] is True
    [split] = get(birds, "/splits", dataset="penguins").json()["splits"]
    assert split["num_examples"] == 344


@needs(PENGUINS)
def test_penguins_have_pages_and_a_parquet_file(birds: Server) -> None:
    page = get(birds, "/rows", offset=300, length=100, **PENGUIN).json()
    assert page == get(birds, "/v2/rows", offset=300, length=100, **PENGUIN).json()
    assert (len(page["rows"]), page["num_rows_total"]) == (44, 344)
    [file] = get(birds, "/parquet", dataset="penguins").json()["parquet_files"]
    assert pq.read_table(io.BytesIO(requests.get(file["url"], timeout=30).content)).num_rows == 344


@needs(PENGUINS)
def test_penguins_have_statistics(birds: Server) -> None:
    body = get(birds, "/statistics", **PENGUIN).json()
    assert (list(body), body["num_examples"], body["partial"]) == (["num_examples", "statistics", "partial"], 344, False)
    columns = {one["column_name"]: one for one in body["statistics"]}
    bill = columns["bill_length_mm"]["column_statistics"]
    assert columns["bill_length_mm"]["column_type"] == "float"
    numbers = {name: bill[name] for name in ("nan_count", "min", "max", "mean", "median", "std")}
    assert numbers == {"nan_count": 2, "min": 32.1, "max": 59.6, "mean": 43.92193, "median": 44.45, "std": 5.45958}
    assert bill["histogram"]["hist"] == [9, 40, 57, 48, 49, 55, 61, 16, 5, 2]
    assert columns["island"]["column_statistics"]["frequencies"] == {"Biscoe": 168, "Dream": 124, "Torgersen": 52}


# Predictions


def test_a_model_says_something_of_each_row(house: Server) -> None:
    prepared(house, "people")
    answer = get(house, "/v2/rows", auth=house.auth, offset=20, length=100, predict=HELLO, **PEOPLE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert body["features"][-1] == {
        "feature_idx": 2,
        "name": f"predict:{HELLO}",
        "type": {"_type": "Prediction", "model": HELLO, "version": 1},
    }
    assert len(body["rows"]) == 100
    for one in body["rows"]:
        assert f"n{one['row_idx']}" in str(one["row"][f"predict:{HELLO}"])


def test_a_row_that_a_model_cannot_take_has_an_error_in_its_cell(house: Server) -> None:
    lay_in(house, "nameless", {"train.csv": "name,age\nann,1\n,2\n"})
    prepared(house, "nameless")
    body = get(house, "/v2/rows", auth=house.auth, dataset="nameless", config="default", split="train", predict=HELLO).json()
    good, bad = (one["row"][f"predict:{HELLO}"] for one in body["rows"])
    assert "ann" in str(good)
    assert list(bad) == ["error"]


def test_a_prediction_needs_a_credential_and_a_model(house: Server) -> None:
    prepared(house, "people")
    refused(get(house, "/v2/rows", predict=HELLO, **PEOPLE), 401, "NoCredentials")
    for model in ("brandon/Nothing", "nothing", "../x", "a/b/c"):
        answer = get(house, "/v2/rows", auth=house.auth, predict=model, **PEOPLE)
        refused(answer, 404, "ModelNotFound")
