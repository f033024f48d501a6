"""A client that publishes, asks what came of it, and changes or deletes it."""

import json
import os
from pathlib import Path
from typing import Any

import requests

from tests.serving import Server

OCTETS = {"Content-Type": "application/octet-stream"}
# The limit of the server that the tests of publishing share.
LIMIT_BYTES = 1024 * 1024


def put(
    server: Server, model: str, graph: bytes, *, auth: tuple[str, str] | None = None, timeout_s: float = 60, **parts: Any
) -> requests.Response:
    """Publish a graph. With parts (`config` an object, `data` a name and bytes, `tokenizer` bytes) it is sent as a form."""
    url, auth = server.model(model), auth or server.auth
    if not parts:
        return requests.put(url, data=graph, headers=OCTETS, auth=auth, timeout=timeout_s)
    files: list[Any] = [("model", ("some.onnx", graph))]
    for name, part in parts.items():
        text = json.dumps(part) if name == "config" else part
        files.append((name, text if isinstance(text, tuple) else (name, text)))
    return requests.put(url, files=files, auth=auth, timeout=timeout_s)


def patch(server: Server, model: str, auth: tuple[str, str] | None = None, **changes: Any) -> requests.Response:
    return requests.patch(f"{server.url}/api/models/{model}", json=changes, auth=auth or server.auth, timeout=30)


def delete(server: Server, model: str, query: str = "", auth: tuple[str, str] | None = None) -> requests.Response:
    return requests.delete(server.model(model) + query, auth=auth or server.auth, timeout=30)


def predict(server: Server, model: str, query: str = "", auth: tuple[str, str] | None = None, **record: Any) -> Any:
    """The answer to one record."""
    return requests.post(f"{server.model(model)}{query}", json=record, auth=auth or server.auth, timeout=30).json()


def shown(server: Server, model: str) -> dict[str, Any]:
    """The record of a model, or the refusal in its place."""
    answer: dict[str, Any] = requests.get(f"{server.url}/api/models/{model}", auth=server.auth, timeout=30).json()
    return answer


def files(server: Server, model: str = "") -> list[str]:
    """Every file and folder under data/models/MODEL, including hidden ones."""
    root = server.data_dir / "models" / model
    found = [Path(folder, name) for folder, folders, names in os.walk(root) for name in (*folders, *names)]  # some vanish
    return sorted(str(path.relative_to(root)) for path in found)


def refused(answer: requests.Response, status: int) -> str:
    """The reason of a refusal. It must not name a path."""
    assert answer.status_code == status, answer.text
    reason: str = answer.json()["error"]
    assert "/tmp" not in reason
    assert "incoming" not in reason
    return reason


def user(server: Server, name: str) -> tuple[str, str]:
    """Add a user; returns its name and its full key."""
    made = requests.post(f"{server.url}/api/users", json={"name": name}, auth=server.auth, timeout=30)
    assert made.status_code == 201, made.text
    return name, made.json()["key"]


def read_only(server: Server, auth: tuple[str, str]) -> tuple[str, str]:
    made = requests.post(f"{server.url}/api/keys", json={"kind": "read_only"}, auth=auth, timeout=30)
    return auth[0], made.json()["key"]
