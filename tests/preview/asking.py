"""A client of the preview surface, and datasets as people lay them down."""

import json
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.fixtures.preview import Content, lay
from tests.serving import Server

Auth = tuple[str, str]

# Long enough for a loaded machine; every wait ends with an event before it.
WAIT_S = 30
SIX_KEYS = ["status_code", "exception", "message", "cause_exception", "cause_message", "cause_traceback"]


def get(
    server: Server, path: str, auth: Auth | None = None, headers: dict[str, str] | None = None, **params: Any
) -> requests.Response:
    return requests.get(server.url + path, params=params, auth=auth, headers=headers, timeout=WAIT_S + 15, allow_redirects=False)


def lay_in(server: Server, name: str, files: dict[str, Content]) -> Path:
    """Lay a dataset under the first root of a server."""
    return lay(server.data_dir / "datasets", name, files)


def rows(server: Server, name: str, split: str = "train", config: str = "default", **params: Any) -> requests.Response:
    """`/rows`, waiting until it is ready."""
    return get(server, "/rows", dataset=name, config=config, split=split, wait=WAIT_S, **params)


def cells(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [one["row"] for one in answer.json()["rows"]]


def refused(answer: requests.Response, status: int, code: str, message: str | None = None) -> dict[str, Any]:
    """The six keys of an error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Error-Code"] == code, answer.text
    body: dict[str, Any] = answer.json()
    assert list(body) == SIX_KEYS
    assert body["status_code"] == status
    assert body["exception"] == f"Status{status}Error"
    assert message in (None, body["message"])
    return body


def hook(server: Server, body: Any, path: str = "/webhook", auth: Auth | None = None, **headers: str) -> requests.Response:
    """Header names have underscores here."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(server.url + path, data=data, auth=auth, headers=named, timeout=WAIT_S)


def until(holds: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """What `holds` gives, once that is true. For what the server tells no client of: states in its reports."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        select.select([], [], [], 0.02)
    raise AssertionError("it did not come to this")


def counts(server: Server, path: str = "/cache") -> dict[str, dict[str, int]]:
    """The counters of `/cache` or `/queue` that are not 0."""
    body = get(server, path).json()
    return {sort: {status: number for status, number in body[sort].items() if number} for sort in ("datasets", "splits")}


def is_quiet(server: Server) -> bool:
    """Whether no job is left, also none of the Parquet files and statistics."""
    metrics = server.metrics()  # all at one moment, because a job that ends may be followed by one of another kind
    return all(
        metrics.get(f'sluice_jobs{{kind="{kind}",status="{status}"}}', 0.0) == 0
        for kind in ("dataset", "split", "prepare", "statistics", "warm")
        for status in ("waiting", "started")
    )
