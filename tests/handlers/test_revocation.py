"""A key that was replaced, or whose user was removed, ends at once, also for what was begun with it and still runs."""

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.clients import Raw, spill_files, until
from tests.publishing.asking import OCTETS, put, shown, user
from tests.publishing.uploads import config, slow, times
from tests.query.asking import put as put_rows
from tests.server.commands.test_user import user as command
from tests.serving import Server
from tests.streaming.test_websocket import CLOSE, HANDSHAKE, TEXT, RawSocket

Auth = tuple[str, str]
Ending = Callable[[Server, str], None]
# A change of another process is noticed within a second; the rest is for a slow machine.
SOON_S = 5


def remove(server: Server, name: str) -> None:
    assert command(server.data_dir, "remove", name).returncode == 0


def replace_by_command(server: Server, name: str) -> None:
    done = command(server.data_dir, "key", name)
    assert (done.returncode, len(done.stdout.strip())) == (0, 32)


def replace(server: Server, name: str) -> None:
    url = f"{server.url}/api/users/{name}/keys"
    assert requests.post(url, json={"kind": "full"}, auth=server.auth, timeout=30).status_code == 201


ENDINGS = pytest.mark.parametrize("end", [remove, replace_by_command, replace])
names = iter(f"guest{i}" for i in range(100))


@pytest.fixture
def guest(server: Server) -> Auth:
    return user(server, next(names))


@ENDINGS
def test_a_running_stream_ends_with_a_line_that_says_why(server: Server, guest: Auth, end: Ending) -> None:
    with Raw(server) as client, Raw(server) as other:
        for one, auth in ((client, guest), (other, server.auth)):
            one.ask("POST", "/brandon/models/HelloWorld?bulk=true", auth=auth, Transfer_Encoding="chunked")
            one.chunk(b'{"name":"jim"}\n')
            assert one.head().status == 200
            assert one.line()["result"]
        end(server, guest[0])
        ended = time.monotonic()
        last = client.line()
        assert time.monotonic() - ended < SOON_S
        assert (last["code"], last["fatal"]) == ("key_revoked", True)
        client.rest()
        assert client.was_cut
        other.chunk(b'{"name":"bob"}\n')
        other.end()
        assert len(other.rest().splitlines()) == 1, "nobody else notices"
        assert not other.was_cut


@ENDINGS
def test_an_open_websocket_is_closed_with_1008(server: Server, guest: Auth, end: Ending) -> None:
    with RawSocket(server) as client:
        client.ask("GET", "/brandon/models/HelloWorld", auth=guest, **HANDSHAKE)
        assert client.head().status == 101
        client.frame(TEXT, b'{"name":"jim"}')
        assert client.receive_frame()[0] == TEXT
        end(server, guest[0])
        opcode, payload = client.receive_frame()
        assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, 1008)


@ENDINGS
def test_an_upload_that_is_under_way_is_refused_and_publishes_nothing(server: Server, guest: Auth, end: Ending) -> None:
    graph, name = times(2), guest[0]
    with Raw(server) as client:
        head = {"Content_Length": str(len(graph)), "Content_Type": OCTETS["Content-Type"]}
        client.ask("PUT", f"/{name}/models/late", auth=guest, **head)
        client.send(graph[:-10])
        until(lambda: list((server.data_dir / "models").glob(f"{name}/late/.incoming-*/*")))
        end(server, name)
        assert client.head().status == 401
    until(lambda: not (server.data_dir / "models" / name).exists())
    assert shown(server, f"{name}/late") == {"error": "model not found"}


def test_an_upload_whose_check_outlasts_the_key_publishes_nothing(server: Server, guest: Auth) -> None:
    """The graph takes seconds for its example, and the user is removed meanwhile."""
    graph, name = slow(), guest[0]
    sent = config(
        inputs=[{"kind": "column", "input": "count", "field": "count"}],
        outputs=[{"output": "turned", "as": "turned"}],
        example={"count": 100_000},
    )
    folder = server.data_dir / "models" / name / "slow"

    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(put, server, f"{name}/slow", graph, auth=guest, config=sent)
        until(lambda: list(folder.glob(".incoming-*/config.json")))
        remove(server, name)
        assert answer.result().status_code == 401
    until(lambda: not folder.exists())


def test_a_replaced_key_of_the_other_kind_ends_nothing(server: Server, guest: Auth) -> None:
    with Raw(server) as client:
        client.ask("POST", "/brandon/models/HelloWorld?bulk=true", auth=guest, Transfer_Encoding="chunked")
        assert command(server.data_dir, "key", guest[0], "--kind", "read_only").returncode == 0
        time.sleep(2)  # two rounds of the watch
        client.chunk(b'{"name":"jim"}\n')
        client.end()
        assert client.head().status == 200
        assert len(client.rest().splitlines()) == 1
        assert not client.was_cut


# Long answers

LONG_ROWS = [{"n": n, "text": f"{n} " + "x" * 1000} for n in range(20_000)]
REFUSED = 'sluice_rejected_total{reason="unauthorized"}'


@ENDINGS
def test_a_long_answer_of_a_query_is_cut_with_a_line_that_says_why(server: Server, guest: Auth, end: Ending) -> None:
    """Its client has read one line, and its rows wait in the spill."""
    put_rows(server, f"{guest[0]}/many", LONG_ROWS, auth=guest)
    body = json.dumps({"query": f'select n, text from "{guest[0]}/many"', "format": "ndjson"}).encode()
    with Raw(server, receive_buffer_bytes=4096) as client:
        client.ask("POST", "/api/query/v1", auth=guest, Content_Length=str(len(body)), Content_Type="application/json")
        client.send(body)
        assert client.head().status == 200
        first, before = client.line(), server.metric(REFUSED)
        end(server, guest[0])
        until(lambda: server.metric(REFUSED) > before, SOON_S)
        *lines, last, _ = client.rest().split(b"\n")
        assert client.was_cut
    told = json.loads(last)
    assert (told["status"], told["code"]) == ("error", "unauthorized")
    assert told["rows"] < len(LONG_ROWS)
    whole = [first, *map(json.loads, lines[: told["rows"] - 1])]
    assert whole == LONG_ROWS[: told["rows"]]
    assert len(lines) - len(whole) in (-1, 0), "what was sent may end inside a row"
    until(lambda: not spill_files(server))


def test_a_file_of_a_private_dataset_breaks_off_with_the_key(server: Server, guest: Auth) -> None:
    texts = random.Random(3)
    put_rows(server, f"{guest[0]}/file", ({"text": texts.randbytes(1000).hex()} for _ in range(20_000)), auth=guest)
    with Raw(server, receive_buffer_bytes=4096) as client:
        until(lambda: _parquet(server, guest))
        client.ask("GET", f"/parquet/{guest[0]}/file/--/default/train/0000.parquet", auth=guest)
        head = client.head()
        assert (head.status, int(head.headers["content-length"]) > 10_000_000) == (200, True)
        client.take(10_000)
        replace(server, guest[0])
        client.rest()
        assert client.was_cut


def _parquet(server: Server, auth: Auth) -> Any:
    """The Parquet files of a dataset, once they are prepared."""
    url = f"{server.url}/parquet?dataset={auth[0]}/file&wait=10"
    found = requests.get(url, auth=auth, timeout=30).json()
    return found.get("parquet_files") if not found.get("partial", True) else None


# A new key for a user who lost theirs


def test_the_admin_gives_a_new_key_to_a_user_who_lost_theirs(server: Server, guest: Auth) -> None:
    url, name = f"{server.url}/api/users/{guest[0]}/keys", guest[0]
    made = requests.post(url, json={"kind": "full"}, auth=server.auth, timeout=30)
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    assert {"kind": "full", "name": name} == {key: made.json()[key] for key in ("kind", "name")}
    for key, status in ((guest[1], 401), (made.json()["key"], 200)):
        assert requests.get(f"{server.url}/api/models", auth=(name, key), timeout=30).status_code == status
    unknown = requests.post(f"{server.url}/api/users/nobody/keys", json={"kind": "full"}, auth=server.auth, timeout=30)
    assert (unknown.status_code, unknown.json()) == (422, {"error": "there is no user 'nobody'"})


def test_the_command_gives_a_new_key_and_refuses_a_user_that_is_not_there(server: Server, guest: Auth) -> None:
    key = command(server.data_dir, "key", guest[0]).stdout.strip()
    assert requests.get(f"{server.url}/models", auth=(guest[0], key), timeout=30).status_code == 200
    done = command(server.data_dir, "key", "nobody")
    assert (done.returncode, done.stderr) == (1, "user: there is no user 'nobody'\n")
