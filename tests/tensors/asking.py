"""Requests of the Open Inference Protocol, as a client without a library sends them."""

from typing import Any

import requests

from tests.serving import Server

IRIS = "sluice/iris"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]


def tensor(name: str, datatype: str, shape: list[int], data: Any, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data} | ({"parameters": parameters} if parameters else {})


def flowers(data: Any = None, shape: list[int] | None = None, datatype: str = "FP32") -> dict[str, Any]:
    return tensor("X", datatype, shape or [3, 4], ROWS if data is None else data)


def infer(
    server: Server, model: str, *inputs: dict[str, Any], auth: Any = True, version: str = "", **more: Any
) -> requests.Response:
    path = f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"
    body = {"inputs": list(inputs), **more}
    return requests.post(server.url + path, json=body, auth=server.auth if auth is True else auth, timeout=60)


def outputs(answer: requests.Response) -> dict[str, Any]:
    """The data of each output of an answer in JSON."""
    assert answer.status_code == 200, answer.text
    return {one["name"]: one["data"] for one in answer.json()["outputs"]}


def refused(answer: requests.Response, status: int = 400) -> str:
    """The message of a refusal, which is an object with this one key."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    [(key, message)] = answer.json().items()
    assert key == "error"
    return str(message)
