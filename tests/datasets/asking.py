"""A client of the datasets surface, and a look at what the server keeps on disk."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import requests

from tests.clients import ndjson
from tests.serving import Server

Auth = tuple[str, str]


def url(server: Server, title: str = "") -> str:
    return f"{server.url}/api/datasets" + (f"/{title}" if title else "")


def put(server: Server, title: str, rows: Iterable[Any] | bytes, query: str = "", auth: Auth | None = None, **headers: str) -> Any:
    return _send("PUT", server, title + query, rows, auth, headers)


def post(server: Server, title: str, rows: Iterable[Any] | bytes, query: str = "", auth: Auth | None = None, **headers: str) -> Any:
    return _send("POST", server, f"{title}/rows{query}", rows, auth, headers)


def _send(method: str, server: Server, path: str, rows: Any, auth: Auth | None, headers: dict[str, str]) -> requests.Response:
    """Header names have underscores here."""
    body = rows if isinstance(rows, bytes) else ndjson(rows)
    named = {"Content-Type": "application/x-ndjson"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, url(server, path), data=body, headers=named, auth=auth or server.auth, timeout=60)


def ask(
    method: str, server: Server, path: str = "", auth: Auth | None = None, change: Any = None, **headers: str
) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, url(server, path), json=change, headers=named, auth=auth or server.auth, timeout=60)


def delete_rows(
    server: Server, title: str, where: str, params: Any = None, auth: Auth | None = None, **headers: str
) -> requests.Response:
    body = {"where": where} | ({} if params is None else {"params": params})
    return ask("POST", server, f"{title}/delete", auth, body, **headers)


def made(answer: requests.Response, status: int = 201) -> dict[str, Any]:
    """The answer to an upload that was accepted."""
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["ETag"] == f'"{found["version"]}"'
    return found


def refused(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """A refusal. It must not name a path of the server."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert list(body)[:2] == ["message", "code"]
    assert ".sluice" not in answer.text
    assert "/tmp" not in answer.text
    return body


def described(server: Server, title: str, query: str = "") -> dict[str, Any]:
    answer = ask("GET", server, title + query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def titles(server: Server, auth: Auth | None = None) -> list[str]:
    return [one["dataset"].removeprefix("hub://") for one in ask("GET", server, auth=auth).json()["datasets"]]


# On disk


def folder(server: Server, title: str) -> Path:
    return server.data_dir / "datasets" / title


def home(server: Server, title: str) -> Path:
    return folder(server, title) / ".sluice"


def version_file(server: Server, title: str, number: int | None = None) -> dict[str, Any]:
    number = int((home(server, title) / "HEAD").read_text()) if number is None else number
    found: dict[str, Any] = json.loads((home(server, title) / "versions" / f"{number}.json").read_text())
    return found


def rows(server: Server, title: str, number: int | None = None) -> list[dict[str, Any]]:
    """The rows of a version, as its Parquet files have them; null for a column that is younger than a segment."""
    version = version_file(server, title, number)
    names = [column["name"] for column in version["columns"]]
    found: list[dict[str, Any]] = []
    for segment in version["segments"]:
        table = pq.read_table(home(server, title) / "segments" / segment["id"] / "rows.parquet", partitioning=None)
        found += [dict.fromkeys(names) | row for row in table.to_pylist()]
    return found


def leftovers(server: Server, title: str) -> list[str]:
    """Files of a dataset that belong to no version: staging, and segments that nobody names."""
    base = home(server, title)
    if not base.exists():
        return []
    versions = [json.loads(path.read_text()) for path in (base / "versions").glob("*.json")]
    named = {segment["id"] for version in versions for segment in version["segments"]}
    found = [*(base / "staging").glob("*"), *(path for path in (base / "segments").glob("*") if path.name not in named)]
    return sorted(str(path.relative_to(base)) for path in found)
