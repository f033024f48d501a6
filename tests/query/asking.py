"""How the tests of queries send rows and ask for them, and how they read the answers."""

import base64
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import requests

from tests.clients import ndjson
from tests.query.statements import Table
from tests.serving import ROOT, Server

API = "/api/query/v1"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
MINILM = "all-MiniLM-L6-v2"
TIMEOUT_S = 120

Auth = tuple[str, str]
Rows = list[dict[str, Any]]


def has_minilm() -> bool:
    return (ROOT / f"models/sluice/{MINILM}/1/model.onnx").is_file()


# Rows in


def put(server: Server, name: str, rows: Iterable[dict[str, Any]] | bytes, *, auth: Auth | None = None, **options: str) -> Any:
    """Make or replace the dataset `org/name`, and give what the server says of it."""
    body = rows if isinstance(rows, bytes) else ndjson(rows)
    url = f"{server.url}/api/datasets/{name}"
    answer = requests.put(url, data=body, params=options, headers={"Content-Type": NDJSON}, auth=auth or server.auth, timeout=600)
    assert answer.status_code in (200, 201), answer.text[:1000]
    return answer.json()


def put_table(server: Server, table: Table) -> Any:
    """Make one of the small datasets of tql.yaml, of the org `admin`."""
    return put(server, f"admin/{table.name}", table.rows, **table.options)


def delete_rows(server: Server, name: str, where: str, *params: Any) -> Any:
    url = f"{server.url}/api/datasets/{name}/delete"
    answer = requests.post(url, json={"where": where, "params": list(params)}, auth=server.auth, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


# Questions


def ask(server: Server, query: str, *, accept: str | None = None, auth: Auth | None = None, **fields: Any) -> requests.Response:
    """Send one query; `fields` are the other fields of the body."""
    headers = {"Accept": accept} if accept else {}
    body = {"query": query, **fields}
    return requests.post(server.url + API, json=body, headers=headers, auth=auth or server.auth, timeout=TIMEOUT_S)


def answered(server: Server, query: str, **fields: Any) -> dict[str, Any]:
    """The body of an answer in JSON, which must be a good one."""
    answer = ask(server, query, **fields)
    assert answer.status_code == 200, answer.text[:1000]
    body = strict_json(answer.content)
    assert list(body) == ["message", "tensors", "data"]
    return body


def rows(server: Server, query: str, **fields: Any) -> Rows:
    """The rows of an answer."""
    found: Rows = answered(server, query, **fields)["data"]
    return found


def column(server: Server, query: str, **fields: Any) -> list[Any]:
    """The values of an answer with one column."""
    return [value for row in rows(server, query, **fields) for value in row.values()]


def strict_json(body: bytes) -> Any:
    """JSON as its standard has it: no NaN and no infinities, UTF-8."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(body.decode("utf-8"), parse_constant=refuse)


# Refusals


def assert_refused(answer: requests.Response, status: int, *codes: str) -> dict[str, Any]:
    """Check the form of a refusal, and that it has one of these codes; gives its body."""
    assert answer.status_code == status, answer.text[:1000]
    body: dict[str, Any] = strict_json(answer.content)
    assert body.keys() <= {"message", "code", "position", "hint"}
    assert list(body)[:2] == ["message", "code"]
    assert not codes or body["code"] in codes, body
    return body


# Vectors


def literal(vector: Any) -> str:
    """A vector as the seed's snippet writes it into a text."""
    return f"ARRAY[{','.join(str(number) for number in np.asarray(vector, np.float32).tolist())}]"


def b64(vector: Any) -> dict[str, str]:
    """A vector as a parameter of float32 bytes."""
    return {"b64": base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode(), "dtype": "f32"}


def unit_vectors(count: int, dim: int, seed: int = 7) -> np.ndarray:
    """float32 [count, dim], seeded, each of norm 1."""
    found = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)
