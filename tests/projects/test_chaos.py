"""Several people who do everything at once, in any order, to one project: no call fails, and what is kept is what is told.

Which calls there are and how they meet differs from run to run; what must hold afterwards does not.
"""

import contextlib
import random
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.engine.tasks.projects import sets
from tests.projects.asking import DONE, MAP, Client, new_project
from tests.projects.files import Sheet
from tests.projects.weeks import wait_until
from tests.serving import Server, serving

PEOPLE, CALLS_EACH = 6, 150
KINDS = tuple(DONE)
TV = sets.star(sets.node("tv", "media"))
COMBINATION = {"country_code": "SWE"}


class Person:
    """Somebody who does one thing after the other to objects that are there, or were."""

    def __init__(self, client: Client, sheets: dict[str, Sheet], dates: list[str], seed: int) -> None:
        self._client = client
        self._sheets = sheets
        self._dates = dates
        self._random = random.Random(seed)

    def work(self) -> list[int]:
        """The statuses of the answers."""
        calls: list[Callable[[], requests.Response]] = [
            self._upload,
            self._join,
            self._build,
            self._refit,
            self._attribute,
            self._align,
            *[lambda: self._change("POST", "/cancel"), lambda: self._change("DELETE")] * 2,
            lambda: self._change("POST", "/activate"),
            lambda: self._change("GET"),
        ]
        return [self._random.choice(calls)().status_code for _ in range(CALLS_EACH)]

    def _one_of(self, kind: str) -> int:
        """The number of an object of a kind; 1 where there is none."""
        return int(self._random.choice([one["IId"] for one in self._client.get(f"/{kind}", limit=20).json()] or [1]))

    def _upload(self) -> requests.Response:
        return self._client.upload("Sales", self._sheets["Sales"])

    def _join(self) -> requests.Response:
        return self._client.join([self._one_of("datauploads")], [self._one_of("datasets")], activate=self._random.random() < 0.2)

    def _build(self) -> requests.Response:
        detail = {"dataset_id": self._one_of("datasets"), "train_dates": self._dates, "activate": self._random.random() < 0.5}
        body = {"model_param": MAP, "model_detail": detail | {"modelling_combination": COMBINATION}, "graph_detail": {"graph": TV}}
        return self._client.post("/build/model", body)

    def _refit(self) -> requests.Response:
        detail = {"dataset_id": self._one_of("datasets"), "train_dates": self._dates[5:]}
        return self._client.post(f"/models/{self._one_of('models')}/refit", {"model_param": MAP, "model_detail": detail})

    def _attribute(self) -> requests.Response:
        model, dataset = self._one_of("models"), self._one_of("datasets")
        return self._client.attribution(model, dataset, self._dates[0], self._dates[9], samples=5)

    def _align(self) -> requests.Response:
        return self._client.post("/attributionset_align_dates", {"attributionjob_ids": [self._one_of("attributions")]})

    def _change(self, method: str, what: str = "") -> requests.Response:
        kind = self._random.choice(KINDS)
        return self._client.of_project(method, f"/{kind}/{self._one_of(kind)}{what}")


@pytest.mark.heavy
def test_what_is_kept_is_what_is_told_whatever_people_do_at_once(tmp_path: Path, plain: dict[str, Sheet]) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="3") as server:
        client = new_project(server)
        dataset = client.dataset(plain)
        client.built(dataset, TV)
        people = [Person(client, plain, client.dates(dataset), seed) for seed in range(PEOPLE)]
        with ThreadPoolExecutor(PEOPLE) as threads:
            statuses = {status for found in threads.map(Person.work, people) for status in found}
        assert statuses <= {200, 201, 204, 404, 409, 429}
        wait_until(lambda: not unfinished(client), 180)
        with contextlib.suppress(AssertionError):  # what differs says more than that it does
            wait_until(lambda: set(kept(server)) == set(told(client)))
        assert set(kept(server)) == set(told(client))
        assert client.delete().status_code == 202
        wait_until(lambda: not rows(server, "SELECT id FROM project"), 60)
        assert (list(kept(server)), rows(server, "SELECT id FROM graph")) == ([], [])
        assert "Traceback" not in server.log


def unfinished(client: Client) -> list[str]:
    states = [one["Status"] for kind in KINDS for one in client.get(f"/{kind}", limit=1000).json()]
    return [state for state in states if state in ("pending", "processing", "running")]


def told(client: Client) -> Iterator[str]:
    """The folders and graphs that objects have, as the server tells of them."""
    for kind, word in (("datasets", "dataset"), ("attributions", "attribution"), ("models", "model")):
        for one in client.get(f"/{kind}", limit=1000).json():
            if one["Status"] == DONE[kind]:
                yield f"{client.team}/{client.project}-{word}-{one['IId']}"
            if kind == "models":
                yield f"graph {one['GraphInstance']['Graph']['Id']}"
    uploads = client.get("/datauploads", limit=1000).json()
    yield f"{len(uploads)} uploads"


def kept(server: Server) -> Iterator[str]:
    """The same, as the disk and the database have it, with whatever else lies beside."""
    for name in ("datasets", "models"):
        for path in (server.data_dir / name).glob("*/*"):
            yield f"{path.parent.name}/{path.name}"
    yield from (f"graph {number}" for (number,) in rows(server, "SELECT id FROM graph"))
    if uploads := list((server.data_dir / "uploads").iterdir()):
        yield f"{len(uploads)} uploads"


def rows(server: Server, statement: str) -> list[tuple[int, ...]]:
    with contextlib.closing(sqlite3.connect(server.data_dir / "sluice.db")) as database:
        return list(database.execute(statement))
