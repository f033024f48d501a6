"""A client of one project: it sends files, joins, fits and attributes, and waits until the jobs have ended."""

import dataclasses
import datetime
import itertools
import json
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from tests.projects.files import Sheet
from tests.serving import Server

# Both are answered by the same handlers.
BASES = ("/api/v1/api", "/v1")
# Long enough for a loaded machine; every wait ends with an event before it.
WAIT_S = 180
# The words that end an object of each kind, by its path below the project.
DONE = {
    "datauploads": "complete",
    "datasets": "complete",
    "attributionset": "complete",
    "models": "completed",
    "attributions": "completed",
}
ENDS = {"complete", "completed", "failed", "cancelled"}
SWE = {"country_code": "SWE", "region_code": "all", "grouping": "all"}
# A fit of a second: no variational step and no chains.
MAP: dict[str, Any] = {"epochs": 0, "samples": 8, "inference": "map"}

# A name and a key, or a token.
Auth = tuple[str, str] | str
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Client:
    """Somebody who works on one project. Without `auth` it is the admin, whose team `admin` has all projects unless told."""

    server: Server
    project: str = "demo"
    team: str = "admin"
    auth: Auth | None = None
    base: str = BASES[0]

    def but(self, **changes: Any) -> "Client":
        return dataclasses.replace(self, **changes)

    # Requests

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """A request below the base. `more` is what requests takes."""
        auth = self.auth or self.server.auth
        headers = dict(more.pop("headers", {}))
        if isinstance(auth, str):
            headers["Authorization"] = f"Bearer {auth}"
        more |= {"auth": None if isinstance(auth, str) else auth, "timeout": WAIT_S, "allow_redirects": False}
        return requests.request(method, self.server.url + self.base + path, headers=headers, **more)

    def of_project(self, method: str, path: str = "", **more: Any) -> requests.Response:
        return self.ask(method, f"/projects/{self.team}/{self.project}{path}", **more)

    def get(self, path: str = "", **params: Any) -> requests.Response:
        return self.of_project("GET", path, params=params)

    def post(self, path: str, body: Any = None, **params: Any) -> requests.Response:
        return self.of_project("POST", path, json=body, params=params)

    def patch(self, path: str, body: Any = None) -> requests.Response:
        return self.of_project("PATCH", path, json=body)

    def delete(self, path: str = "") -> requests.Response:
        return self.of_project("DELETE", path)

    # Objects

    def waited(self, path: str) -> dict[str, Any]:
        """What the server says of an object, such as `/models/3`, once its job has ended."""
        deadline = time.monotonic() + WAIT_S
        while (body := made(self.get(path), 200))["Status"] not in ENDS:
            assert time.monotonic() < deadline, body
            select.select([], [], [], 0.05)
        return body

    def done(self, kind: str, answer: requests.Response) -> dict[str, Any]:
        """An object that was asked for with success, once its job has ended with success."""
        body = self.waited(f"/{kind}/{made(answer)['IId']}")
        assert body["Status"] == DONE[kind], body
        return body

    def failed(self, kind: str, answer: requests.Response, code: str) -> dict[str, Any]:
        """The `Error` of an object whose job failed."""
        body = self.waited(f"/{kind}/{made(answer)['IId']}")
        assert body["Status"] == "failed", body
        error = checked(body["Error"])
        assert error["Code"] == code, body
        return error

    def upload(self, name: str, content: bytes | Sheet, file_name: str = "some.csv") -> requests.Response:
        body = content.csv() if isinstance(content, Sheet) else content
        return self.of_project("POST", "/datauploads", params={"dataset_name": name}, files={"file": (file_name, body)})

    def uploaded(self, name: str, content: bytes | Sheet, file_name: str = "some.csv") -> int:
        iid: int = self.done("datauploads", self.upload(name, content, file_name))["IId"]
        return iid

    def join(self, uploads: Sequence[int], datasets: Sequence[int] = (), **more: Any) -> requests.Response:
        return self.post("/datasets", {"upload_ids": list(uploads), "dataset_ids": list(datasets), **more})

    def joined(self, uploads: Sequence[int], datasets: Sequence[int] = (), **more: Any) -> int:
        iid: int = self.done("datasets", self.join(uploads, datasets, **more))["IId"]
        return iid

    def dataset(self, sheets: Mapping[str, Sheet | bytes], **more: Any) -> int:
        """A dataset of these files, by type."""
        return self.joined([self.uploaded(name, sheet) for name, sheet in sheets.items()], **more)

    def dates(self, dataset: int, name: str = "Sales", *combinations: dict[str, str]) -> list[str]:
        answer = self.post(f"/datasets/{dataset}/dates", list(combinations) or [SWE], dataset_name=name)
        found: list[str] = made(answer, 200)
        return found

    def build(self, dataset: int, graph: Any = None, *, held_out: int = 0, detail: Any = None, **params: Any) -> requests.Response:
        """Ask for a model; a MAP fit of all dates unless told. `detail` changes `model_detail`."""
        dates = self.dates(dataset)
        split = len(dates) - held_out
        told = {"dataset_id": dataset, "train_dates": dates[:split], "eval_dates": dates[split:], "modelling_combination": SWE}
        body: dict[str, Any] = {"model_param": {**MAP, **params}, "model_detail": told | (detail or {})}
        if graph is not None:
            body["graph_detail"] = {"graph": {"nodes": graph["nodes"], "edges": graph["edges"]}}
        return self.post("/build/model", body)

    def built(self, dataset: int, graph: Any = None, **more: Any) -> dict[str, Any]:
        return self.done("models", self.build(dataset, graph, **more))

    def refit(self, model: int, dataset: int, *, held_out: int = 0, detail: Any = None, **params: Any) -> requests.Response:
        dates = self.dates(dataset)
        split = len(dates) - held_out
        told = {"dataset_id": dataset, "train_dates": dates[:split], "eval_dates": dates[split:]} | (detail or {})
        return self.post(f"/models/{model}/refit", {"model_detail": told, "model_param": {**MAP, **params}})

    def attribution(self, model: int, dataset: int, first: str, last: str, samples: int = 20) -> requests.Response:
        body = {"model_id": model, "dataset_id": dataset, "start_date": first, "end_date": last, "samples": samples}
        return self.post("/attributions", body)

    def attributed(self, model: int, dataset: int, first: str, last: str, samples: int = 20) -> dict[str, Any]:
        return self.done("attributions", self.attribution(model, dataset, first, last, samples))

    def aligned(self, attributions: Sequence[int], **more: Any) -> dict[str, Any]:
        answer = self.post("/attributionset_align_dates", {"attributionjob_ids": list(attributions), **more})
        return self.done("attributionset", answer)

    def query(self, text: str) -> requests.Response:
        """A query; it waits until its sources are prepared."""
        return self.but(base="").ask("POST", "/api/query/v1", json={"query": text, "timeout_ms": 30_000})

    def by_date(self, attribution: int, **params: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = made(self.get(f"/attributions/{attribution}/dates", **params), 200)
        return rows


def new_project(server: Server, team: str = "admin", auth: Auth | None = None, base: str = BASES[0]) -> Client:
    """A client of a project of its own."""
    project = f"project-{next(_NUMBERS)}"
    client = Client(server, project, team, auth, base)
    made(client.ask("POST", f"/projects/{team}", json={"id": project, "name": f"Project {project}"}))
    return client


def in_days(number: int) -> str:
    """The date in as many days, in UTC."""
    return str(datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=number))


# Answers


def made(answer: requests.Response, status: int = 201) -> Any:
    """The body of an answer that has this status."""
    assert answer.status_code == status, f"{answer.status_code} {answer.request.method} {answer.url}\n{answer.text[:2000]}"
    return strict_json(answer.content)


def refused(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """The error object of a refusal, in the shape of this surface."""
    assert answer.status_code == status, f"{answer.status_code} {answer.request.method} {answer.url}\n{answer.text[:2000]}"
    body = strict_json(answer.content)
    assert list(body) == ["Error"]
    error = checked(body["Error"])
    assert error["Code"] == code, error
    return error


def checked(error: Any) -> dict[str, Any]:
    """An error object, once its shape is as it must be. It may tell nothing of what the server is made of."""
    assert list(error) == ["Code", "Message", "Details", "DetailsTotal"], error
    assert isinstance(error["Code"], str)
    assert error["Message"]
    assert all(isinstance(one, dict) for one in error["Details"])
    assert error["DetailsTotal"] >= len(error["Details"])
    assert_tells_nothing_of_us(json.dumps(error))
    found: dict[str, Any] = error
    return found


# What no answer may tell: the places and parts that the server is made of.
OURS = (
    "/tmp/",
    "/dev/shm/",
    "data/uploads",
    "site-packages",
    "engine.tasks",
    "sqlite",
    "select ",
    "insert into",
    "traceback",
    ".py",
)


def assert_tells_nothing_of_us(text: str) -> None:
    lowered = text.lower()
    assert not [word for word in OURS if word in lowered], text[:2000]


def strict_json(body: bytes) -> Any:
    """JSON as its standard has it: no NaN and no infinities, UTF-8."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(body.decode("utf-8"), parse_constant=refuse)


def codes(details: Sequence[Mapping[str, Any]]) -> set[str]:
    """The codes of Details or of Warnings."""
    return {str(one["Code"]) for one in details}
