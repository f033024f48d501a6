"""How queries are let in and how they end: places, deadlines, clients that leave or do not read, replicas that die."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.clients import Raw, answers, spill_files, until
from tests.disks import MIB, fill, small_disk
from tests.query.asking import API, ARROW, NDJSON, Auth, ask, assert_refused, put, rows
from tests.serving import Server, serving

MANY = 200_000
# Tens of MB of lines, of which a client may read as little as it likes.
LONG = 'select n, text from "hub://admin/many"'
# Seconds of work in one statement: 4.8 million pairs of rows.
WORK = ", ".join(f"sum(case when a.text || b.text like '%{n}%y%' then 1 else 0 end) as s{n}" for n in range(8))
HEAVY = f'select {WORK} from "admin/wide" a join "admin/wide" b on a.k = b.k where a.text != ?'
SHORT = 'select n from "admin/wide" where n = 7'
COUNT = 'select count(*) as c from "admin/many"'
RUNNING = 'sluice_queries{state="running"}'
WAITING = 'sluice_queries{state="waiting"}'
JSON_HEAD = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, for replicas are killed here. A user has one place more than there are replicas."""
    with serving(tmp_path_factory.mktemp("busy") / "data", SLUICE_QUERY_PER_USER="3") as running:
        put(running, "admin/many", ({"n": n, "text": f"{n} " + "x" * 100} for n in range(MANY)))
        put(running, "admin/wide", wide())
        yield running


def wide() -> Iterator[dict[str, object]]:
    """Rows that HEAVY joins."""
    return ({"n": n, "k": 1, "text": f"fact {n} " + "y" * (n % 50)} for n in range(2200))


@pytest.fixture(scope="module")
def ann(server: Server) -> Auth:
    return user(server, "ann")


def user(server: Server, name: str) -> Auth:
    made = requests.post(f"{server.url}/api/users", json={"name": name}, auth=server.auth, timeout=30)
    return (name, made.json()["key"])


def query_pids(server: Server) -> list[int]:
    """The replicas that query."""
    return [pid for pid in server.replica_pids() if b'"families": ["query"]' in Path(f"/proc/{pid}/cmdline").read_bytes()]


def cpu_seconds(pid: int) -> float:
    """That a process has used."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def state_of(pid: int) -> str:
    """Of a process: S while it waits."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def heavy(server: Server, **fields: object) -> requests.Response:
    return ask(server, HEAVY, params=["no text"], **fields)


@contextlib.contextmanager
def asked(server: Server, query: str, accept: str = NDJSON, **fields: object) -> Iterator[Raw]:
    """A connection on which a query was sent, and of whose answer nothing was read."""
    body = json.dumps({"query": query, **fields}).encode()
    with Raw(server, receive_buffer_bytes=4096) as client:
        client.ask("POST", API, Content_Length=str(len(body)), Accept=accept, **JSON_HEAD)
        client.send(body)
        yield client


# Who is let in


def test_a_refusal_does_not_wait_for_the_body(server: Server) -> None:
    heads = [
        (401, {"auth": None}, JSON_HEAD),
        (401, {"auth": ("admin", "0" * 32)}, JSON_HEAD),
        (415, {}, {"Content_Type": "text/plain"}),
        (415, {}, {**JSON_HEAD, "Content_Encoding": "br"}),
        (413, {}, {**JSON_HEAD, "Content_Length": str(1 << 30)}),
        (417, {}, {**JSON_HEAD, "Expect": "more"}),
    ]
    for status, options, headers in heads:
        with Raw(server) as client:
            client.ask("POST", API, **{"Content_Length": "100", **headers}, **options)  # type: ignore[arg-type]
            assert client.head().status == status, headers
            assert {"message", "code"} == json.loads(client.rest()).keys()


def test_a_user_who_has_all_places_is_told_before_the_body_and_others_are_answered(server: Server, ann: Auth) -> None:
    with contextlib.ExitStack() as stack:

        def has_all_places() -> bool:
            """Begin one more query; our question may have had the place that an earlier one would have got."""
            client = stack.enter_context(Raw(server))
            client.ask("POST", API, auth=ann, Content_Length="100", **JSON_HEAD)
            return requests.post(server.url + API, data=b"{}", auth=ann, timeout=30).status_code == 429

        until(has_all_places)
        last = stack.enter_context(Raw(server))
        last.ask("POST", API, auth=ann, Content_Length="100", Expect="100-continue", **JSON_HEAD)
        head = last.head()
        assert (head.status, head.headers["retry-after"]) == (429, "1")
        assert json.loads(last.rest())["code"] == "too_many_queries"
        assert rows(server, SHORT) == [{"n": 7}]
    until(lambda: requests.post(server.url + API, data=b"{}", auth=ann, timeout=30).status_code == 400)


def test_more_queries_than_run_and_wait_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_QUERY_REPLICAS="1", SLUICE_QUERY_QUEUE="1") as small:
        put(small, "admin/wide", ({"n": n, "k": 1, "text": f"fact {n}"} for n in range(2200)))
        with ThreadPoolExecutor(8) as callers:
            codes = [answer.status_code for answer in callers.map(lambda _: heavy(small, timeout_ms=500), range(8))]
        assert codes.count(504) >= 2
        assert set(codes) == {504, 429}


def test_a_user_whose_queries_take_long_leaves_a_replica_for_others(server: Server, ann: Auth) -> None:
    """Three of the admin's are open for a minute, two of which run; those of another user are answered meanwhile."""
    put(server, "ann/side", [{"n": 1}], auth=ann)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(asked(server, HEAVY, params=["no text"], timeout_ms=60_000))
        until(lambda: server.metric(RUNNING) == 2 and server.metric(WAITING) == 1)
        for _ in range(3):
            started = time.monotonic()
            assert ask(server, 'select n from "ann/side"', auth=ann).json()["data"] == [{"n": 1}]
            assert time.monotonic() - started < 5
        assert server.metric(RUNNING) == 2, "the long ones still run"
    until(lambda: server.metric(RUNNING) == 0)


def test_what_a_user_may_not_read_is_as_if_it_did_not_exist(server: Server, ann: Auth) -> None:
    one, other = (ask(server, f'select n from "hub://admin/{name}"', auth=ann) for name in ("many", "none"))
    assert (one.status_code, one.text.replace("many", "none")) == (other.status_code, other.text) == (404, other.text)
    assert other.json()["position"] == {"offset": 14, "line": 1, "column": 15}


# Deadlines


def test_a_query_that_passes_its_time_is_answered_and_stopped(server: Server) -> None:
    heavy(server, timeout_ms=1)  # everything is imported
    pids = query_pids(server)

    def seconds() -> float:
        started = time.monotonic()
        body = assert_refused(heavy(server, timeout_ms=50), 504, "timeout")
        assert body["message"] == "The query passed its limit of 50 ms."
        return time.monotonic() - started

    assert any(seconds() < 0.85 for _ in range(3)), "a busy machine is late once or twice"
    assert rows(server, SHORT) == [{"n": 7}]
    assert query_pids(server) == pids, "no replica was killed"


def test_others_are_answered_while_queries_pass_their_time(server: Server, ann: Auth) -> None:
    put(server, "ann/own", [{"n": 1}], auth=ann)
    with ThreadPoolExecutor(2) as callers:
        late = [callers.submit(heavy, server, timeout_ms=300) for _ in range(2)]
        assert ask(server, 'select n from "ann/own"', auth=ann).json()["data"] == [{"n": 1}]
        assert [one.result().status_code for one in late] == [504, 504]


@pytest.mark.parametrize("timeout_ms", [0, 60_001, "5", 1.5, True])
def test_a_time_limit_is_a_number_that_may_be_asked_for(server: Server, timeout_ms: object) -> None:
    assert_refused(ask(server, SHORT, timeout_ms=timeout_ms), 400, "invalid_parameter")


# Clients that leave


@pytest.mark.parametrize("leave", [Raw.reset, Raw.close])
def test_a_client_that_leaves_gives_its_place_back_and_ends_its_query(server: Server, leave: object) -> None:
    pids, place = query_pids(server), len(server.log)

    def seconds_to_leave() -> float:
        body = json.dumps({"query": HEAVY, "params": ["no text"], "timeout_ms": 60_000}).encode()
        clients = [Raw(server) for _ in range(3)]
        for client in clients:
            client.ask("POST", API, Content_Length=str(len(body)), **JSON_HEAD)
            client.send(body)
        until(lambda: server.metric(RUNNING) == 2 and server.metric(WAITING) == 1)
        left, started = server.log.count("query left"), time.monotonic()
        for client in clients:
            leave(client)  # type: ignore[operator]
        until(lambda: server.metric(RUNNING) == 0)
        seconds = time.monotonic() - started
        assert rows(server, SHORT) == [{"n": 7}]
        assert server.log.count("query left") == left + 3
        return seconds

    assert any(seconds_to_leave() < 1 for _ in range(3)), "a busy machine is late once or twice"
    assert "Traceback" not in server.log[place:]
    assert query_pids(server) == pids


@pytest.mark.parametrize("is_stuck", [False, True])
def test_a_client_that_leaves_in_the_middle_of_its_answer_leaves_nothing_behind(server: Server, is_stuck: bool) -> None:
    place = len(server.log)
    with asked(server, LONG) as client:
        assert client.head().status == 200
        client.line()
        if is_stuck:  # the server waits for room to write, and learns there that the client is gone
            until(lambda: bool(spill_files(server)))
        client.reset()
    until(lambda: server.metric(RUNNING) == 0 and not spill_files(server))
    assert rows(server, SHORT) == [{"n": 7}]
    assert "Traceback" not in server.log[place:]


# Clients that do not read


@pytest.mark.parametrize("accept", [NDJSON, ARROW])
def test_clients_that_read_nothing_hold_nobody_up_and_get_everything_later(server: Server, accept: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asked(server, LONG, accept)) for _ in range(4)]
        for client in clients:
            assert client.head().status == 200
        started = time.monotonic()
        assert rows(server, SHORT) == [{"n": 7}]
        assert time.monotonic() - started < 5
        until(lambda: bool(spill_files(server)))
        bodies = [client.rest() for client in clients]
        assert all(client.has_ended for client in clients)
    assert len(set(map(_without_time, bodies))) == 1
    if accept == NDJSON:
        *lines, last = answers(bodies[0])
        assert [line["n"] for line in lines] == list(range(MANY))
        assert (last["status"], last["rows"]) == ("ok", MANY)
    until(lambda: not spill_files(server))


def _without_time(body: bytes) -> bytes:
    return body.partition(b'"query_ms"')[0]


def test_a_slow_reader_gets_everything_however_long_it_takes(server: Server) -> None:
    with asked(server, LONG, timeout_ms=5000) as client:
        client.head()
        until(lambda: server.metric("sluice_spill_bytes") > 20_000_000, what="an answer that is ready to be read")
        is_over = time.monotonic() + 5
        while time.monotonic() < is_over:
            client.take(10_000)
            time.sleep(0.05)
        *lines, last = answers(client.rest())
    assert (len(lines), last["status"], last["rows"]) == (MANY, "ok", MANY)


def test_an_answer_that_cannot_be_kept_passes_its_time_and_is_cut(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SPILL_LIMIT_BYTES="1000000") as small:
        put(small, "admin/many", ({"n": n, "text": f"{n} " + "x" * 1000} for n in range(MANY // 10)))
        rows(small, COUNT)
        with asked(small, LONG, timeout_ms=3000) as client:
            client.head()
            time.sleep(3)  # until its time is over, of which nothing can be seen from outside
            *lines, last = answers(client.rest())
            assert client.was_cut
        assert (last["status"], last["code"], last["rows"]) == ("error", "timeout", len(lines))
        assert 0 < len(lines) < MANY // 10
        assert [line["n"] for line in lines] == list(range(len(lines)))


def test_answers_that_a_short_disk_cannot_keep_wait_for_their_readers_and_hold_up_no_other_user(tmp_path: Path) -> None:
    """A file of the spill needs 64 MiB, so the two replicas wait for the clients of the admin."""
    with small_disk(tmp_path / "disk", 96) as disk, serving(disk / "data", SLUICE_DISK_RESERVE_BYTES="0") as server:
        ann = user(server, "ann")
        put(server, "ann/own", [{"n": 1}], auth=ann)
        put(server, "admin/many", ({"n": n, "text": f"{n} " + "x" * 1000} for n in range(20_000)))
        fill(disk / "filler", shutil.disk_usage(disk).free - 8 * MIB)
        with asked(server, LONG, timeout_ms=60_000) as one, asked(server, LONG, timeout_ms=60_000) as other:
            assert [client.head().status for client in (one, other)] == [200, 200]
            until(lambda: all(state == "S" for state in map(state_of, query_pids(server))), what="replicas that wait")
            started = time.monotonic()
            assert ask(server, 'select n from "ann/own"', auth=ann).json()["data"] == [{"n": 1}]
            assert time.monotonic() - started < 5
            for client in (one, other):
                *lines, last = answers(client.rest())
                assert (len(lines), last["status"]) == (20_000, "ok")
        until(lambda: not spill_files(server))
        assert "Traceback" not in server.log


# Versions


def test_a_long_answer_is_of_one_version_whatever_becomes_of_the_dataset_meanwhile(tmp_path: Path) -> None:
    """The spill is too small for the answer, so the replica reads the old files while the dataset is replaced and deleted."""
    with serving(tmp_path / "data", SLUICE_SPILL_LIMIT_BYTES="1000000", SLUICE_DATASET_VERSIONS="1") as small:
        old = [{"n": n, "text": f"{n} " + "x" * 1000} for n in range(20_000)]
        put(small, "admin/many", old)
        segments = small.data_dir / "datasets" / "admin" / "many" / ".sluice" / "segments"
        [segment] = segments.iterdir()
        with asked(small, LONG, timeout_ms=60_000) as client:
            assert client.head().headers["x-dataset-versions"] == "admin/many@1"
            until(lambda: small.metric("sluice_spill_bytes") >= 1_000_000)
            put(small, "admin/many", [{"n": -1, "text": "new"}])
            assert rows(small, LONG) == [{"n": -1, "text": "new"}]
            requests.delete(f"{small.url}/api/datasets/admin/many", auth=small.auth, timeout=30).raise_for_status()
            *lines, last = answers(client.rest())
        assert lines == old
        assert (last["status"], last["rows"]) == ("ok", len(old))
        until(lambda: not segment.exists(), what="the end of files that nobody reads")


# Deaths


def test_a_query_whose_replica_dies_is_refused_and_never_done_again(server: Server) -> None:
    place, pids = len(server.log), query_pids(server)
    with ThreadPoolExecutor(1) as callers:
        answer = callers.submit(heavy, server, timeout_ms=60_000)
        before = {pid: cpu_seconds(pid) for pid in pids}
        until(lambda: any(cpu_seconds(pid) > seconds + 0.1 for pid, seconds in before.items()), what="work on the query")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert_refused(answer.result(), 422, "out_of_memory")
    # A query that is given to a replica whose death nobody has seen yet would share its end.
    until(lambda: server.log[place:].count("replica died name=query") == len(pids))
    assert rows(server, SHORT) == [{"n": 7}], "the replicas are back"
    assert server.log[place:].count("replica died name=query") == len(pids), "the query is not done again"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps little of an answer that nobody reads, so that its replica is never done with a long one."""
    with serving(tmp_path_factory.mktemp("narrow") / "data", SLUICE_SPILL_LIMIT_BYTES="1000000") as running:
        put(running, "admin/many", ({"n": n, "text": f"{n} " + "x" * 1000} for n in range(MANY // 10)))
        yield running


def test_an_answer_whose_replica_dies_in_the_middle_is_cut_and_says_so(narrow: Server) -> None:
    rows(narrow, COUNT)
    with asked(narrow, LONG) as client:
        client.head()
        for pid in query_pids(narrow):
            os.kill(pid, signal.SIGKILL)
        *lines, last = answers(client.rest())
        assert client.was_cut
    assert (last["status"], last["code"], last["rows"]) == ("error", "out_of_memory", len(lines))
    assert [line["n"] for line in lines] == list(range(len(lines)))


def test_an_arrow_answer_whose_replica_dies_in_the_middle_is_cut(narrow: Server) -> None:
    until(lambda: len(query_pids(narrow)) >= 2)
    rows(narrow, COUNT)
    with asked(narrow, LONG, ARROW) as client:
        client.head()
        for pid in query_pids(narrow):
            os.kill(pid, signal.SIGKILL)
        body = client.rest()
        assert client.was_cut
    assert b'"status"' not in body


def test_a_query_that_takes_more_memory_than_it_may_is_refused(server: Server) -> None:
    pids = until(lambda: pids if len(pids := query_pids(server)) >= 2 else [])
    text = 'select count(distinct a.text || b.text) as c from "admin/wide" a join "admin/wide" b on a.k = b.k'
    assert_refused(ask(server, text, timeout_ms=60_000), 422, "out_of_memory")
    assert rows(server, SHORT) == [{"n": 7}]
    assert set(query_pids(server)) & set(pids)


# What a query leaves


def test_replicas_that_query_start_with_the_first_dataset_and_load_no_models(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as fresh:
        assert query_pids(fresh) == []
        put(fresh, "admin/one", [{"n": 1}])
        pids = until(lambda: query_pids(fresh))
        assert rows(fresh, 'select n from "admin/one"') == [{"n": 1}]
        assert "onnxruntime" not in Path(f"/proc/{pids[0]}/maps").read_text()
        others = set(fresh.replica_pids()) - set(pids)
        assert not any("_duckdb" in Path(f"/proc/{pid}/maps").read_text() for pid in others)
        fresh.stop()
        with serving(tmp_path / "data") as again:
            until(lambda: len(query_pids(again)) == 2)


def test_the_log_tells_of_a_query_without_its_text_and_its_values(server: Server) -> None:
    place = len(server.log)
    ask(server, "select n from \"admin/wide\" where text = 'a secret text' and text != ?", params=["a secret value"])
    ask(server, "select secret_column from \"admin/wide\" where text = 'a secret text'")
    told = until(lambda: server.log[place:] if server.log[place:].count("sluice.query query ") == 2 else "")
    assert "secret" not in told
    assert "query answered user=admin" in told
    assert "query refused user=admin" in told


def test_a_server_that_drains_refuses_queries(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_DRAIN_S="20") as ending:
        put(ending, "admin/wide", ({"n": n, "k": 1, "text": f"fact {n}"} for n in range(2200)))
        heavy(ending, timeout_ms=1)
        thread = threading.Thread(target=heavy, args=(ending,), kwargs={"timeout_ms": 1500})
        thread.start()
        until(lambda: ending.metric(RUNNING) == 1)
        ending.process.send_signal(signal.SIGTERM)
        until(lambda: "server draining" in ending.log)
        with contextlib.suppress(requests.ConnectionError):  # it may have ended already
            assert_refused(ask(ending, SHORT), 503, "shutting_down")
        thread.join()
