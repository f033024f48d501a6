"""How the tests ask for vectors, in either shape of the API, and how they read the answers."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.serving import ROOT, Server

SIMPLE, OPENAI = "/embeddings", "/v1/embeddings"
SURFACES = (SIMPLE, OPENAI)

BERT, MPNET, WIDE = "small-bert", "small-mpnet", "wide-bert"  # models with random weights, written by the tests
MINILM, BASE = "all-MiniLM-L6-v2", "all-mpnet-base-v2"
DIMS = {BERT: 32, MPNET: 32, WIDE: 768, MINILM: 384, BASE: 768}
MAX_TOKENS = {BERT: 36, MPNET: 36, MINILM: 256, BASE: 384}

# The text of the original API's example, and its halves.
SEED_TEXTS = ["Can we mimic the Embeddings API output format from OpenAI?", "I dunno, but we can try."]
SEED_TEXT = " ".join(SEED_TEXTS)
SAME = 1e-5


def has_weights(name: str) -> bool:
    return (ROOT / "models" / "sluice" / name / "1" / "model.onnx").is_file()


def needs(name: str) -> pytest.MarkDecorator:
    """Skip a test when the weights of a shipped model are missing."""
    return pytest.mark.skipif(not has_weights(name), reason=f"no weights of {name}: `make models` fetches them")


def models(*names: str) -> Any:
    """Run a test for each of these models, and skip those whose weights are missing."""
    return pytest.mark.parametrize(
        "model", [pytest.param(name, marks=needs(name) if name in (MINILM, BASE) else ()) for name in names]
    )


# Asking


def post(server: Server, path: str, body: bytes, **options: Any) -> requests.Response:
    """Post any bytes to a path, without credentials unless `auth` gives some."""
    return requests.post(server.url + path, data=body, timeout=120, **options)


def ask(server: Server, texts: Any, model: str = BERT, *, path: str = SIMPLE, auth: Any = None, **keys: Any) -> requests.Response:
    """Send a well-formed request."""
    return requests.post(server.url + path, json={"model": model, "input": texts, **keys}, auth=auth, timeout=120)


def vectors(answer: requests.Response) -> np.ndarray:
    """The vectors of an answer in either shape and encoding: float32 [inputs, dim]. Its indices must be 0, 1, 2, ..."""
    assert answer.status_code == 200, answer.text[:500]
    items = answer.json()["data"]
    assert [item["index"] for item in items] == list(range(len(items)))
    return stacked([item["embedding"] for item in items])


def stacked(embeddings: Sequence[Any]) -> np.ndarray:
    """float32 [inputs, dim], from lists of numbers or from base64."""
    return np.array([floats(one) for one in embeddings], np.float32)


def floats(embedding: Any) -> np.ndarray:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    return np.array(embedding, np.float32)


def num_tokens(answer: requests.Response) -> list[int]:
    return [item["num_tokens"] for item in answer.json()["data"]]


# Checks of answers


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Check that vectors are equal as the contract defines it: each value within 1e-5."""
    assert found.shape == expected.shape
    assert float(np.abs(found - expected).max(initial=0.0)) <= SAME


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The cosine of each row of `one` with the same row of `other`."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.asarray((one * other).sum(axis=-1) / lengths)


def assert_refused(path: str, answer: requests.Response, status: int) -> None:
    """Check a refusal for a reason outside the body: one sentence in the shape of its path, with the headers of its status."""
    assert answer.status_code == status, answer.text[:500]
    assert_refusal(path, status, answer.json(), {name.lower(): value for name, value in answer.headers.items()})


def assert_refusal(path: str, status: int, body: Any, headers: dict[str, str]) -> None:
    """The same check for a body and for headers with names in lower case."""
    assert headers["content-type"] == "application/json"
    if path.startswith("/v1"):
        assert_openai_error(body)
        assert body["error"]["type"] == _openai_type(status)
    else:
        assert list(body) == ["detail"]
        assert isinstance(body["detail"], str)
        assert body["detail"] == DETAILS.get(status, body["detail"])
    if status in (429, 503):
        assert int(headers["retry-after"]) > 0
    if status == 401:
        assert headers["www-authenticate"].startswith("Basic ")


DETAILS = {
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request body too large",
    429: "Too many requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _openai_type(status: int) -> str:
    return "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"


def assert_openai_error(body: Any) -> None:
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code"))


def assert_detail(answer: requests.Response, *expected: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    """Check the faults that /embeddings found in a body, given as (type, loc); returns them."""
    assert answer.status_code == 422, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["detail"]
    faults: list[dict[str, Any]] = answer.json()["detail"]
    assert [(fault["type"], fault["loc"]) for fault in faults] == list(expected)
    return faults


def assert_openai_fault(answer: requests.Response, param: str | None, code: str | None = None, status: int = 400) -> str:
    """Check a fault that /v1/embeddings found in a body; returns its message."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/json"
    assert_openai_error(answer.json())
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    message: str = error["message"]
    return message


# Many texts


class Alone:
    """The vector of each text from a request of its own. Each text is asked for only once."""

    def __init__(self, server: Server, model: str) -> None:
        self._server = server
        self._model = model
        self._session = requests.Session()
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, dim]"""
        return np.array([self._one(text) for text in texts], np.float32)

    def _one(self, text: str) -> np.ndarray:
        if text not in self._known:
            body = {"model": self._model, "input": text}
            self._known[text] = vectors(self._session.post(self._server.url + SIMPLE, json=body, timeout=60))[0]
        return self._known[text]

    def close(self) -> None:
        self._session.close()


WORDS = [
    "the",
    "server",
    "gives",
    "a",
    "vector",
    "for",
    "each",
    "text",
    "and",
    "time",
    "runs",
    "over",
    "all",
    "small",
    "green",
    "rivers",
    "while",
    "nobody",
    "looks",
    "at",
    "them",
    "again",
]


def texts_of(lengths: Sequence[int], seed: int = 3) -> list[str]:
    """Different texts, each with the given number of words."""
    rng = np.random.default_rng(seed)
    return [" ".join([*rng.choice(WORDS, length - 1).tolist(), _letters(i)]) for i, length in enumerate(lengths)]


def _letters(number: int) -> str:
    return chr(ord("a") + number % 26) + (_letters(number // 26 - 1) if number >= 26 else "")


def series(server: Server) -> Iterator[tuple[str, float]]:
    """The value of every series of /metrics, by its name with labels."""
    for line in requests.get(f"{server.url}/metrics", auth=server.auth, timeout=10).text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            yield name, float(value)


def put_names(data_dir: Path, *lines: str) -> None:
    """Write models.txt in the data directory."""
    (data_dir / "models").mkdir(parents=True, exist_ok=True)
    (data_dir / "models" / "models.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")


def is_base64(text: str) -> bool:
    """Whether this is base64 of the standard alphabet, with padding."""
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except binascii.Error:
        return False
