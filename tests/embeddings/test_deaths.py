"""Killed replicas, clients that leave or never read, a server that stops, and what each process loads (acceptance 24, 25)."""

import json
import os
import random
import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.clients import Raw, curl, health, is_alive, open_files, until
from tests.embeddings.asking import (
    BERT,
    MINILM,
    OPENAI,
    SIMPLE,
    SURFACES,
    WIDE,
    Alone,
    ask,
    assert_refusal,
    assert_refused,
    assert_same,
    models,
    post,
    series,
    texts_of,
    vectors,
)
from tests.embeddings.small_models import WIDE as WIDE_SIZES
from tests.embeddings.small_models import SmallModels
from tests.serving import Server, serving

MIB = 1024 * 1024
RESTARTS = 'sluice_replica_restarts_total{pool="score"}'
HEAVY = "heavy-bert"  # takes about a second for two thousand long texts
HEAVY_SIZES = {"num_hidden_layers": 12, "hidden_size": 128}
WAITING = 'sluice_queue_blocks{lane="bulk"}'


SERVED = f"{HEAVY},{BERT},{WIDE},{MINILM}"


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[Server]:
    """A server whose replicas are killed and whose clients leave. It keeps running."""
    data_dir = small_data(tmp_path_factory.mktemp("abused") / "data", small)
    with serving(data_dir, SLUICE_EMBEDDING_MODELS=SERVED, SLUICE_STALL_TIMEOUT_S="1") as server:
        until(lambda: ask(server, "a", HEAVY).status_code == 200)
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
def own(tmp_path: Path, small: SmallModels) -> Iterator[Server]:
    """A server for one test, which stops it or reads its memory."""
    data_dir = small_data(tmp_path / "data", small)
    with serving(data_dir, SLUICE_EMBEDDING_MODELS=SERVED, SLUICE_STALL_TIMEOUT_S="1") as server:
        # A text that came before would open the model once more, in the replica that is about to have it.
        until(lambda: server.metric(f'sluice_model_loads_total{{model="admin/{HEAVY}",outcome="loaded"}}') == 2)
        until(lambda: ask(server, "a", HEAVY).status_code == 200)
        yield server


def small_data(data_dir: Path, small: SmallModels) -> Path:
    small.put(data_dir, f"admin/{HEAVY}", sizes=HEAVY_SIZES)
    small.put(data_dir, f"admin/{BERT}")
    small.put(data_dir, f"admin/{WIDE}", sizes=WIDE_SIZES)
    return data_dir


def embedded(server: Server, model: str = HEAVY) -> float:
    title = f"{'sluice' if model == MINILM else 'admin'}/{model}"
    return server.metric(f'sluice_records_total{{model="{title}",outcome="result"}}')


# Replicas


def kill_oldest(server: Server) -> int:
    """Kill the oldest replica; returns its process id."""
    pid = server.replica_pids()[0]
    os.kill(pid, signal.SIGKILL)
    return pid


@models(BERT, MINILM)
def test_killed_replicas_cost_no_request(abused: Server, model: str) -> None:
    """Acceptance 24: 50 requests at once, small and large, in both shapes, while replicas die at work."""
    rng = random.Random(4)
    pool = texts_of([rng.randint(1, 8) for _ in range(100)])
    alone = Alone(abused, model)
    expected = dict(zip(pool, alone(pool), strict=True))
    alone.close()
    before = abused.metric(RESTARTS)
    done = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        """Kill one replica after the other, each at work, once all are back and the work of the last one is surely done."""
        while not done.is_set() and len(killed) < 3:
            wanted = embedded(abused, model) + 100
            until(lambda wanted=wanted: done.is_set() or embedded(abused, model) > wanted)  # type: ignore[misc]
            killed.append(kill_oldest(abused))
            until(lambda: killed[-1] not in abused.replica_pids() and health(abused)["replicas"]["score"] == 2)

    def one(number: int) -> None:
        rng = random.Random(number)
        for _ in range(2):
            texts = [rng.choice(pool) for _ in range(rng.choice([1, 3, 20, 400 if model == BERT else 20]))]
            assert_same(vectors(ask(abused, texts, model, path=SURFACES[number % 2])), np.array([expected[text] for text in texts]))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(50) as threads:
            list(threads.map(one, range(50)))
    finally:
        done.set()
        killer.join()
    assert killed
    until(lambda: abused.metric(RESTARTS) == before + len(killed))


@pytest.mark.parametrize("path", SURFACES)
def test_a_list_whose_replicas_are_all_killed_is_answered(abused: Server, path: str) -> None:
    texts = [f"{'hello ' * (i % 30)}{chr(97 + i % 26)}" for i in range(1500)]
    expected = vectors(ask(abused, texts, HEAVY))
    before = embedded(abused)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(ask, abused, texts, HEAVY, path=path)
        until(lambda: embedded(abused) > before)
        for pid in abused.replica_pids():
            os.kill(pid, signal.SIGKILL)
        assert_same(vectors(answer.result()), expected)


def both(server: Server) -> list[int]:
    """The process ids of two running replicas, the older one first."""
    pids: list[int] = until(lambda: len(found := server.replica_pids()) == 2 and health(server)["replicas"]["score"] == 2 and found)
    return pids


def kill_and_wait(server: Server, *pids: int) -> None:
    """Kill replicas, and wait until the server has noticed."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(re.search(rf"replica died .*pid={pid} ", server.log) for pid in pids))


@pytest.mark.parametrize("path", SURFACES)
def test_a_text_that_comes_while_all_replicas_are_dead_waits_for_new_ones(abused: Server, path: str) -> None:
    kill_and_wait(abused, *both(abused))
    assert ask(abused, "a", path=path).status_code == 200


def test_a_text_is_answered_when_both_replicas_are_killed_under_it(own: Server) -> None:
    """Section 4: both replicas are frozen, so that the server sees one death after the other as if all were killed at once."""
    fed, loads = (
        'sluice_queue_seconds_count{lane="interactive"}',
        f'sluice_model_loads_total{{model="admin/{HEAVY}",outcome="loaded"}}',
    )
    for i, path in enumerate((*SURFACES, *SURFACES)):
        until(lambda i=i: own.metric(loads) == 2 * i + 2)  # type: ignore[misc]
        pids, num_fed = both(own), own.metric(fed)
        with ThreadPoolExecutor(1) as thread:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            answer = thread.submit(ask, own, "a", HEAVY, path=path)
            until(lambda num_fed=num_fed: own.metric(fed) > num_fed)  # type: ignore[misc]
            for pid in pids:
                kill_and_wait(own, pid)
            assert answer.result().status_code == 200


def test_the_first_listed_model_is_open_in_every_replica(abused: Server) -> None:
    """3.1. Also in replicas that are started after a death."""
    loads = f'sluice_model_loads_total{{model="admin/{HEAVY}",outcome="loaded"}}'
    until(lambda: len(abused.replica_pids()) == health(abused)["replicas"]["score"] == 2)
    before = abused.metric(loads)
    assert before >= 2
    kill_oldest(abused)
    until(lambda: abused.metric(loads) == before + 1)


# Clients


@pytest.mark.parametrize("leave", [Raw.close, Raw.reset])
def test_what_waits_for_a_client_that_left_is_dropped(abused: Server, leave: object) -> None:
    """Section 4: the server does not embed the rest of a list that nobody waits for."""
    body = json.dumps({"model": HEAVY, "input": ["b " * 34] * 2048}).encode()
    before = embedded(abused)
    with Raw(abused) as client:
        client.ask("POST", OPENAI, auth=None, Content_Length=str(len(body)))
        client.send(body)
        until(lambda: embedded(abused) > before)
        leave(client)  # type: ignore[operator]
    until(lambda: abused.metric(WAITING) == 0, 10)
    assert embedded(abused) - before < 2000
    assert ask(abused, "a", HEAVY).status_code == 200


def test_a_client_that_left_before_its_large_body_was_read_by_a_replica_is_dropped(abused: Server) -> None:
    """A body over SLUICE_INTERACTIVE_BYTES waits in the bulk lane, as the texts of a long list do."""
    body = json.dumps({"model": HEAVY, "input": ["b " * 34] * 2048}).encode()
    with Raw(abused) as client:
        for _ in range(6):
            with Raw(abused) as other:
                other.ask("POST", SIMPLE, auth=None, Content_Length=str(len(body)))
                other.send(body)
        client.ask("POST", SIMPLE, auth=None, Content_Length="2")
        client.send(b"{}")
        assert client.head().status == 422
    until(lambda: abused.metric(WAITING) == 0, 10)
    until(lambda: ask(abused, "a", HEAVY).status_code == 200)


def test_clients_that_leave_give_their_places_back(tmp_path: Path, small: SmallModels) -> None:
    settings = {"SLUICE_EMBEDDING_MODELS": HEAVY, "SLUICE_EMBED_MAX_REQUESTS": "2", "SLUICE_SCORE_REPLICAS": "1"}
    body = json.dumps({"model": HEAVY, "input": ["b " * 34] * 2048}).encode()
    with serving(small_data(tmp_path / "data", small), **settings) as server:
        files = open_files(server)
        for _ in range(4):
            with Raw(server) as one, Raw(server) as other:
                for client in (one, other):
                    client.ask("POST", SIMPLE, auth=None, Content_Length=str(len(body)))
                    client.send(body)
                until(lambda: server.metric(WAITING) == 2)  # a request takes its place when its body is here
                until(lambda: ask(server, "a", HEAVY).status_code == 429)
            until(lambda: ask(server, "a", HEAVY).status_code == 200, 5)
        until(lambda: open_files(server) <= files)


def never_read(server: Server, path: str, body: bytes) -> Raw:
    client = Raw(server, receive_buffer_bytes=4096)
    client.ask("POST", path, auth=None, Content_Length=str(len(body)))
    client.send(body)
    return client


def is_cut(client: Raw) -> bool:
    """Whether the server has closed the connection. The test finds out by sending, without reading."""
    try:
        client.socket.send(b" ")
    except OSError:
        return True
    return False


def test_an_answer_that_nobody_reads_does_not_stay(own: Server) -> None:
    """The answer is cut when the client has read nothing for SLUICE_STALL_TIMEOUT_S; other clients are answered meanwhile.

    Four answers of 19 MB each, then four more, which must fit into the memory of the first four: the allocator may keep it.
    """
    body = json.dumps({"model": WIDE, "input": ["a"] * 2048}).encode()
    before = own.rss_bytes()
    for path in SURFACES:
        clients = [never_read(own, path, body) for _ in range(4)]
        until(lambda: own.rss_bytes() - before > 60 * MIB)
        assert ask(own, "a", path=path).status_code == 200
        for client in clients:
            until(lambda client=client: is_cut(client))  # type: ignore[misc]
            client.close()
    assert own.rss_bytes("VmHWM") - before < 120 * MIB


@pytest.mark.parametrize(
    "body",
    [
        {"other": "x" * 8 * MIB},
        {"model": "x" * 8 * MIB, "input": "a"},
        {"model": WIDE, "input": [{"text": "x" * 100_000}] * 80},
        {"model": WIDE, "input": {"x" * 8 * MIB: 1}},
        {"model": WIDE, "input": ["x" * 2 * MIB] * 4},
        {"model": WIDE, "input": 1, "deep": json.loads("[" * 400 + "]" * 400)},
    ],
    ids=["missing", "model", "items", "name", "long", "deep"],
)
def test_a_refusal_repeats_only_the_beginning_of_what_was_sent(abused: Server, body: dict[str, Any]) -> None:
    answer = post(abused, SIMPLE, json.dumps(body).encode())
    assert answer.status_code == 422
    assert len(answer.content) < 200_000
    assert all({"type", "loc", "msg", "input"} <= fault.keys() for fault in answer.json()["detail"])


def test_a_short_body_is_repeated_whole(abused: Server) -> None:
    body = {"input": [1, "two", {"three": None}], "x": "y" * 1000}
    faults = post(abused, SIMPLE, json.dumps(body).encode()).json()["detail"]
    assert [fault["input"] for fault in faults if fault["type"] == "missing"] == [body]


def test_a_slow_reader_gets_all_of_its_answer(abused: Server, tmp_path: Path) -> None:
    """It needs longer than the stall timeout, but it reads something all the time."""
    body = json.dumps({"model": WIDE, "input": ["a"] * 1024}).encode()
    out = tmp_path / "answer"
    done = curl(abused.url + OPENAI, "--data-binary", "@-", "--limit-rate", "4M", "-o", str(out), data=body)
    assert (done.code, done.status) == (0, 200)
    answer = json.loads(out.read_bytes())
    assert len(answer["data"]) == 1024
    assert answer["usage"]["prompt_tokens"] == 3 * 1024


def test_a_client_that_ends_its_sending_side_early_hurts_nobody(abused: Server) -> None:
    with Raw(abused) as client:
        client.ask("POST", SIMPLE, auth=None, Content_Length="100")
        client.send(b"{")
        client.socket.shutdown(socket.SHUT_WR)
    until(lambda: ask(abused, "a").status_code == 200)
    assert "Traceback" not in abused.log


# The end of the server


def test_a_draining_server_says_so_in_both_shapes(own: Server) -> None:
    """503 with Retry-After, also in place of 100 Continue. A list that the server accepted before is answered."""
    with Raw(own) as stream, Raw(own) as kept, ThreadPoolExecutor(1) as thread:
        stream.begin(f"admin/{BERT}")
        assert stream.head().status == 200
        before = embedded(own)
        answer = thread.submit(ask, own, ["b " * 34] * 1000, HEAVY)
        until(lambda: embedded(own) > before)
        own.process.send_signal(signal.SIGTERM)
        until(lambda: health(own)["status"] == "draining")
        for path in SURFACES:
            assert_refused(path, ask(own, "a", path=path), 503)
            with Raw(own) as client:
                client.ask("POST", path, auth=None, Expect="100-continue", Content_Length="10")
                head = client.head()
                assert head.status == 503
                assert_refusal(path, 503, json.loads(client.rest()), head.headers)
        kept.ask("GET", "/models", auth=None)
        assert kept.head().status == 200
        assert len(answer.result().json()["data"]) == 1000
        stream.end()
        stream.rest()
    assert own.process.wait(20) == 0


@pytest.mark.parametrize("path", SURFACES)
def test_a_list_that_is_being_embedded_at_the_end_is_answered(own: Server, path: str) -> None:
    before = embedded(own)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(ask, own, ["b " * 34] * 1000, HEAVY, path=path)
        until(lambda: embedded(own) > before)
        own.process.send_signal(signal.SIGTERM)
        assert len(answer.result().json()["data"]) == 1000
    assert own.process.wait(20) == 0
    assert "Traceback" not in own.log


def test_replicas_that_embed_end_with_a_killed_server(own: Server) -> None:
    pids = own.replica_pids()
    before = embedded(own)
    body = json.dumps({"model": HEAVY, "input": ["b " * 34] * 2048}).encode()
    with Raw(own) as client:
        client.ask("POST", SIMPLE, auth=None, Content_Length=str(len(body)))
        client.send(body)
        until(lambda: embedded(own) > before)
        own.stop(signal.SIGKILL)
    for pid in pids:
        until(lambda pid=pid: not is_alive(pid), 10)  # type: ignore[misc]


# What each process holds


@pytest.mark.parametrize("name", ["onnxruntime", "tokenizers", "numpy"])
def test_the_server_process_has_no_library_of_models(server: Server, name: str) -> None:
    """Acceptance 25: not even after requests of every kind. A replica has these libraries."""
    for path in SURFACES:
        ask(server, ["a"] * 2000, path=path)
        ask(server, "a", path=path)
    assert name not in Path(f"/proc/{server.process.pid}/maps").read_text()
    assert any(name in Path(f"/proc/{pid}/maps").read_text() for pid in server.replica_pids())


def test_what_was_embedded_is_counted(server: Server) -> None:
    """/metrics counts a short list, a long list, and refusals by surface and reason."""
    counted = f'sluice_records_total{{model="admin/{BERT}",outcome="result"}}'
    seen = dict(series(server))
    ask(server, ["a"] * 3)
    ask(server, ["hello " * 20] * 2000)
    assert ask(server, "a", "nowhere", path=OPENAI).status_code == 404
    now = dict(series(server))
    assert now[counted] - seen.get(counted, 0) == 2003
    answered = 'sluice_requests_total{status="200",surface="embeddings"}'
    assert now[answered] - seen.get(answered, 0) == 2
    refused = 'sluice_rejected_total{reason="model_not_found"}'
    assert now[refused] - seen.get(refused, 0) == 1
    for stage in ("tokenise", "infer", "encode"):
        assert now[f'sluice_block_seconds_sum{{model="admin/{BERT}",stage="{stage}"}}'] > 0


def test_the_health_of_the_server_is_that_of_its_replicas(server: Server) -> None:
    assert requests.get(f"{server.url}/healthcheck", timeout=30).text == "ok"
