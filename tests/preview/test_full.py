"""What is answered when the queue is full, when too many wait, when the database fails, and when a model hangs."""

import asyncio
import os
import signal
from collections.abc import Iterator

import aiohttp
import pytest

from engine.preview.tasks import MAX_WAITING
from engine.store.jobs import job_time
from tests.preview.asking import counts, get, hook, is_quiet, lay_in, refused, rows, until
from tests.preview.preludes import Preludes
from tests.serving import Server

PLACE = {"dataset": "one", "config": "default", "split": "train"}


@pytest.fixture
def idle(preludes: Preludes) -> Iterator[Server]:
    """A server that takes no jobs, with one dataset that nobody has asked for."""
    server = preludes.server(SLUICE_JOBS_REPLICAS="0")
    lay_in(server, "one", {"train.csv": "a\n1\n"})
    yield server
    assert "Traceback" not in server.log


def fill_queue(preludes: Preludes, number: int) -> None:
    """So many jobs wait, of datasets that do not exist."""
    preludes.ask(
        "WITH RECURSIVE named (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM named WHERE n < ?) "
        "INSERT INTO job (kind, key, party, dataset, priority, created_at) "
        "SELECT 'dataset', 'filler ' || n, 'x' || n, 'x' || n, 0, ? FROM named",
        number,
        job_time(),
    )


def test_a_full_queue_refuses_hooks_and_starts_nothing_for_those_who_ask(preludes: Preludes, idle: Server) -> None:
    assert hook(idle, {"add": "datasets/one"}).status_code == 200
    preludes.ask("INSERT INTO preview_split (dataset, config, split, place, status) VALUES ('one', 'default', 'train', 0, 'empty')")
    lay_in(idle, "two", {"train.csv": "a\n1\n"})
    fill_queue(preludes, MAX_WAITING - 2)
    assert hook(idle, {"add": "datasets/last"}).status_code == 200
    for body, path in (({"add": "datasets/two"}, "/webhook"), (PLACE, "/refresh-split")):
        answer = hook(idle, body, path)
        assert (answer.status_code, answer.json()) == (429, {"status": "error", "error": "too many jobs wait"})
        assert int(answer.headers["Retry-After"]) > 0
    answer = get(idle, "/splits", dataset="two")
    refused(answer, 404, "DatasetNotReady")
    assert counts(idle, "/queue")["datasets"] == {"waiting": MAX_WAITING}
    assert hook(idle, {"remove": "datasets/one"}).status_code == 200, "what takes work away is carried out"
    assert hook(idle, {"add": "datasets/two"}).status_code == 200
    assert counts(idle, "/queue")["datasets"] == {"waiting": MAX_WAITING, "cancelled": 1}


def test_a_long_queue_is_dumped_in_pages(preludes: Preludes, idle: Server) -> None:
    fill_queue(preludes, 12_000)
    dump = get(idle, "/queue-dump-waiting-started", auth=idle.auth).json()
    assert (len(dump["datasets"]["waiting"]), dump["truncated"]) == (10_000, True)
    rest = get(idle, "/queue-dump-waiting-started", auth=idle.auth, offset=10_000).json()
    assert (len(rest["datasets"]["waiting"]), rest["truncated"]) == (2_000, True), "this is not all either"
    answer = get(idle, "/splits", dataset="one")
    refused(answer, 404, "DatasetNotReady")
    assert (answer.headers["X-Queue-Position"], answer.headers["Retry-After"]) == ("12000", "5")


async def test_the_101st_who_waits_is_answered_at_once(idle: Server) -> None:
    """The others are answered when something happens, or when their time is over."""
    address = f"{idle.url}/splits?dataset=one&wait=30"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> tuple[int, str]:
            async with session.get(address) as answer:
                return answer.status, answer.headers["X-Error-Code"]

        waiting = {asyncio.create_task(ask()) for _ in range(101)}
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result() for one in done] == [(404, "DatasetNotReady")]
        assert await ask() == (404, "DatasetNotReady")
        assert not any(one.done() for one in waiting)
        async with session.post(f"{idle.url}/webhook", json={"remove": "datasets/one"}) as answer:
            assert answer.status == 200
        assert {await one for one in waiting} == {(404, "DatasetNotFound")}


def test_a_database_that_fails_is_an_application_error(preludes: Preludes) -> None:
    server = preludes.server(SLUICE_JOBS_REPLICAS="0")
    lay_in(server, "one", {"train.csv": "a\n1\n"})
    assert hook(server, {"add": "datasets/one"}).status_code == 200
    preludes.ask("ALTER TABLE job RENAME TO gone")
    answer = hook(server, {"update": "datasets/one"})
    assert (answer.status_code, answer.json()) == (500, {"status": "error", "error": "application error"})
    assert (answer.headers["Cache-Control"], answer.headers["Access-Control-Allow-Origin"]) == ("no-store", "*")
    assert "hook not carried out path=/webhook" in server.log
    for path in ("/splits", "/rows", "/queue", "/queue-dump"):
        answer = get(server, path, **PLACE)
        body = refused(answer, 500, "UnexpectedError", "Unexpected error.")
        assert "job" not in str(body), "what the database said is for the log"
        assert answer.headers["Cache-Control"] == "no-store"
    assert get(server, "/cache").status_code == 200
    preludes.ask("ALTER TABLE gone RENAME TO job")
    assert hook(server, {"add": "datasets/one"}).status_code == 200
    assert counts(server, "/queue")["datasets"] == {"waiting": 1}


def test_a_model_that_gives_no_answer_in_time_is_504(preludes: Preludes) -> None:
    server = preludes.server(TEST_PREDICT_LIMIT_S="1.5")
    lay_in(server, "one", {"train.csv": "name\nann\n"})
    assert rows(server, "one").status_code == 200
    until(lambda: is_quiet(server))
    asked = {"predict": "brandon/HelloWorld", **PLACE}
    until(lambda: get(server, "/v2/rows", auth=server.auth, **asked).status_code == 200)  # a cold start may take longer than that
    scoring = server.replica_pids()[0]
    os.kill(scoring, signal.SIGSTOP)
    answer = get(server, "/v2/rows", auth=server.auth, **asked)
    refused(answer, 504, "PredictionTimeout", "The model gave no answer in time.")
    assert answer.headers["Cache-Control"] == "no-store"
    assert get(server, "/v2/rows", **PLACE).status_code == 200
    os.kill(scoring, signal.SIGCONT)
    until(lambda: get(server, "/v2/rows", auth=server.auth, **asked).status_code == 200)
