"""An embedding model of a user that takes all memory: other embedding models and predictions are served as before."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from tokenizers import Tokenizer, normalizers

from tests.clients import until
from tests.embeddings.asking import BERT, put_names
from tests.embeddings.small_models import SmallModels
from tests.serving import Server, serving
from tests.streaming.test_harm import FLOWER, SETTINGS, called_all_the_time, latencies_of, p99

SWELLS = "tester/swells"
# Forty of these become four gigabytes. No example has one, so the fingerprint of the model is right.
SWELLING, HARM = "~", "~" * 40


def put_swelling(small: SmallModels, data_dir: Path) -> None:
    """A model whose tokenizer makes each `~` a hundred, four times over."""
    path = small.put(data_dir, SWELLS) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    swelling = [normalizers.Replace(SWELLING, SWELLING * 100)] * 4
    tokenizer.normalizer = normalizers.Sequence([*swelling, *filter(None, [tokenizer.normalizer])])
    tokenizer.save(str(path))


def embedding(server: Server) -> Callable[[requests.Session], requests.Response]:
    body = {"model": BERT, "input": "hello world"}
    return lambda session: session.post(f"{server.url}/embeddings", json=body, timeout=60)


def prediction(server: Server) -> Callable[[requests.Session], requests.Response]:
    return lambda session: session.post(server.model("sluice/iris"), json=FLOWER, timeout=60)


@pytest.mark.heavy
def test_neighbours_are_served_as_before_while_an_embedding_model_does_harm(tmp_path: Path, small: SmallModels) -> None:
    data_dir = tmp_path / "data"
    small.put(data_dir, f"admin/{BERT}")
    put_swelling(small, data_dir)
    put_names(data_dir, BERT, SWELLS)
    with serving(data_dir, **SETTINGS, SLUICE_SCORE_REPLICAS="2") as server:
        until(lambda: server.metric('sluice_replicas{pool="score",state="ready"}') == 2)
        asks = {"embeddings": embedding(server), "predictions": prediction(server)}
        for ask in asks.values():
            latencies_of(server, ask, 2)
        quiet = {name: latencies_of(server, ask, 5) for name, ask in asks.items()}

        def harm() -> requests.Response:
            return requests.post(f"{server.url}/embeddings", json={"model": SWELLS, "input": HARM}, auth=server.auth, timeout=60)

        with called_all_the_time(harm) as answers:
            time.sleep(10)  # until the first harm was noticed
            busy = {name: latencies_of(server, ask, 8) for name, ask in asks.items()}
    for name in asks:
        print(
            f"{name}: quiet p99 {p99(quiet[name]) * 1000:.1f} ms, busy p99 {p99(busy[name]) * 1000:.1f} ms, {max(busy[name]):.3f} s"
        )
    print({answer.status_code for answer in answers}, len(answers), answers[-1].text[:200])
    assert all(answer.status_code >= 400 for answer in answers)
    for name in asks:
        assert p99(busy[name]) < 3 * p99(quiet[name])
