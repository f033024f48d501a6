"""The WebSocket of a model: one record per message, answers in order, and every way in which a conversation can end."""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from engine.errors import no_credentials, unauthorized
from tests.clients import Raw, basic, open_files, until
from tests.serving import Server, serving
from tests.streaming import graphs

HELLO = "brandon/HelloWorld"
TURNS = "tester/turns"
MIB = 1024 * 1024
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": base64.b64encode(bytes(16)).decode(),
}
TIMEOUT_S = 30


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    with serving(graphs.write_all(tmp_path / "data"), SLUICE_SCORE_REPLICAS="1") as server:
        yield server


@asynccontextmanager
async def connected(server: Server, model: str, query: str = "", **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket of aiohttp's client, opened as the admin."""
    async with (
        asyncio.timeout(TIMEOUT_S),
        aiohttp.ClientSession(headers={"Authorization": basic(server.auth)}) as session,
        session.ws_connect(server.model(model) + query, max_msg_size=0, **options) as client,
    ):
        yield client


async def answers(client: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    return [json.loads(await client.receive_str()) for _ in range(count)]


async def closed(client: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code with which the server closes. No other message may come before."""
    message = await client.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return client.close_code


class RawSocket(Raw):
    """A WebSocket by hand, which can send any frame and shows every frame that it receives."""

    def open(self, model: str) -> None:
        self.ask("GET", f"/{model.replace('/', '/models/')}", **HANDSHAKE)
        assert self.head().status == 101

    def frame(self, opcode: int, data: bytes = b"", *, is_last: bool = True, bits: int = 0) -> None:
        self.send(framed(opcode, data, is_last=is_last, bits=bits))

    def receive_frame(self) -> tuple[int, bytes]:
        """The opcode and payload of the next frame; (0, b"") at the end of the connection."""
        while (frame := self._whole_frame()) is None:
            if not self._receive():
                return 0, b""
        return frame

    def _whole_frame(self) -> tuple[int, bytes] | None:
        data = self._received
        if len(data) < 2:
            return None
        size, start = data[1] & 127, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        if len(data) < start + size:
            return None
        opcode, payload = data[0] & 15, bytes(data[start : start + size])
        del data[: start + size]
        return opcode, payload


def framed(opcode: int, data: bytes, *, is_last: bool = True, bits: int = 0) -> bytes:
    """The bytes of one client frame, masked with zeros."""
    first = (0x80 if is_last else 0) | bits | opcode
    size = len(data)
    length = (
        bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
    )
    return bytes([first]) + length + bytes(4) + data


def close_code(frame: tuple[int, bytes]) -> int:
    assert frame[0] == CLOSE, frame
    return int.from_bytes(frame[1][:2])


def upgrade(server: Server, path: str, **options: Any) -> tuple[int, dict[str, str], Any]:
    """The status, headers and JSON of a refused upgrade."""
    with Raw(server) as client:
        headers = HANDSHAKE | options.pop("headers", {})
        client.ask("GET", path, **options, **{name: value for name, value in headers.items() if value})
        head = client.head()
        return head.status, head.headers, json.loads(client.rest())


# A conversation


async def test_100_messages_have_100_answers_in_order_and_a_bad_one_an_error(server: Server) -> None:
    """Acceptance 28."""
    async with connected(server, HELLO) as client:
        for i in range(100):
            await client.send_str("no record" if i == 50 else json.dumps({"name": f"n{i}", "yhat_id": i}))
        found = await answers(client, 100)
        assert found.pop(50)["code"] == "invalid_json"
        expected = [i for i in range(100) if i != 50]
        assert [one["yhat_id"] for one in found] == expected
        assert [one["result"]["greeting"] for one in found] == [f"Hello n{i}" for i in expected]


async def test_an_answer_has_the_shape_of_a_single_prediction(server: Server) -> None:
    async with connected(server, HELLO, "/") as client:
        await client.send_str('{"name": "Kermit", "yhat_id": "x"}')
        expected = '{"result":{"greeting":"Hello Kermit"},"version":1,"yhat_id":"x","yhat_model":"HelloWorld"}'
        assert await client.receive_str() == expected
        await client.send_str('{"name": "漢 \\u0000 \\" ü"}')
        assert (await answers(client, 1))[0]["result"]["greeting"] == 'Hello 漢 \0 " ü'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ("  \n ", "invalid_json"),
        ("{", "invalid_json"),
        ('{"name":"a"}{"name":"b"}', "invalid_json"),
        ("[1,2]", "not_an_object"),
        ("3", "not_an_object"),
        ("{}", "missing_field"),
        ('{"name":3}', "wrong_type"),
        ('{"name":"a","yhat_id":true}', "invalid_yhat_id"),
    ],
)
async def test_a_bad_message_is_answered_with_an_error_and_the_socket_lives(server: Server, text: str, code: str) -> None:
    async with connected(server, HELLO) as client:
        await client.send_str(text)
        await client.send_str('{"name":"after"}')
        error, after = await answers(client, 2)
        is_record = code not in ("invalid_json", "not_an_object")
        assert list(error) == (["code", "error", "yhat_id", "yhat_model"] if is_record else ["code", "error"])
        assert error["code"] == code
        assert after["result"] == {"greeting": "Hello after"}


async def test_a_record_over_several_lines_or_frames_is_one_record(server: Server) -> None:
    async with connected(server, HELLO) as client:
        await client.send_str('{\n "name":\n "a"\n}')
        assert (await answers(client, 1))[0]["result"] == {"greeting": "Hello a"}
    with RawSocket(server) as raw:
        raw.open(HELLO)
        raw.frame(TEXT, b'{"na', is_last=False)
        raw.frame(PING, b"between")
        raw.frame(0, b'me":"b"', is_last=False)
        raw.frame(0, b"}")
        assert raw.receive_frame() == (PONG, b"between")
        opcode, payload = raw.receive_frame()
        assert (opcode, json.loads(payload)["result"]) == (TEXT, {"greeting": "Hello b"})


async def test_a_message_that_is_not_utf_8_is_an_error_like_others(server: Server) -> None:
    with RawSocket(server) as raw:
        raw.open(HELLO)
        raw.frame(TEXT, b'{"name":"\xff"}')
        raw.frame(TEXT, b'{"name":"a"}')
        codes = [json.loads(raw.receive_frame()[1]).get("code") for _ in range(2)]
        assert codes == ["invalid_json", None]


async def test_query_parameters_are_honoured(tester: Server) -> None:
    record = json.dumps({"flag": True, "small": 1, "exact": 0.5, "wide": 2, "three": [1, 2, 3]})
    async with (
        connected(tester, "tester/kinds") as plain,
        connected(tester, "tester/kinds", "?non_vectorized=true&x=1") as unwrapped,
    ):
        for client, wide in ((plain, [2.0]), (unwrapped, 2.0)):
            await client.send_str(record)
            assert (await answers(client, 1))[0]["result"]["wide"] == wide


async def test_a_kept_version_answers_when_it_is_asked_for(tmp_path: Path) -> None:
    data_dir = graphs.write_all(tmp_path / "data")
    folder = data_dir / "models" / "tester" / "pick"
    shutil.copytree(folder / "1", folder / "2")
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        for query, version in (("", 2), ("?version=1", 1), ("?version=2", 2)):
            async with connected(server, "tester/pick", query) as client:
                await client.send_str('{"place":0}')
                assert (await answers(client, 1))[0]["version"] == version
        assert upgrade(server, "/tester/models/pick?version=9")[0] == 404


# The upgrade


@pytest.mark.parametrize(
    ("path", "auth", "status", "error"),
    [
        ("/brandon/models/HelloWorld", None, 401, no_credentials().message),
        ("/brandon/models/HelloWorld", ("admin", "wrong"), 401, unauthorized().message),
        ("/brandon/models/nothing", ("admin", "wrong"), 401, unauthorized().message),
        ("/brandon/models/nothing", True, 404, "model not found"),
        ("/tester/models/unread", True, 503, "no instances of model found"),
        ("/api/models/x", True, 404, None),
    ],
)
def test_an_upgrade_is_refused_with_a_status(tester: Server, path: str, auth: Any, status: int, error: str | None) -> None:
    found, headers, body = upgrade(tester, path, auth=auth)
    assert found == status
    assert "upgrade" not in headers
    assert error is None or body == {"error": error}
    assert ("www-authenticate" in headers) == (status == 401)


def test_a_read_only_key_on_anothers_model_is_refused(server: Server) -> None:
    key = requests.post(f"{server.url}/api/users", auth=server.auth, json={"name": "wilma"}, timeout=10).json()["key"]
    made = requests.post(f"{server.url}/api/keys", auth=("wilma", key), json={"kind": "read_only"}, timeout=10)
    assert upgrade(server, "/brandon/models/HelloWorld", auth=("wilma", made.json()["key"]))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "short"},
        {"Sec_WebSocket_Version": "12"},
        {"Sec_WebSocket_Version": ""},
        {"Connection": "close"},
    ],
)
def test_what_is_no_handshake_is_400(server: Server, headers: dict[str, str]) -> None:
    status, answered, body = upgrade(server, "/brandon/models/HelloWorld", headers=headers)
    assert (status, list(body)) == (400, ["error"])
    assert answered["sec-websocket-version"] == "13"


def test_a_get_without_upgrade_or_with_another_is_the_status_of_the_model(server: Server) -> None:
    for headers in ({}, {"Upgrade": "h2c"}):
        found = requests.get(server.model(HELLO), auth=server.auth, headers=headers, timeout=10)
        assert (found.status_code, found.json()["status"]) == (200, "OK")


async def test_a_key_in_a_subprotocol_comes_into_no_log(server: Server) -> None:
    async with connected(server, HELLO, protocols=["bearer", "s3cret-of-a-browser"]) as client:
        await client.send_str('{"name":"a"}')
        await client.receive()
        assert client.protocol is None
    assert "s3cret" not in server.log


# Limits


async def test_a_message_of_the_limit_is_answered_and_a_longer_one_closes_with_1009(server: Server) -> None:
    exact = json.dumps({"name": "x" * (MIB - len('{"name": ""}'))})
    assert len(exact) == MIB
    async with connected(server, HELLO) as client:
        await client.send_str(exact)
        assert len((await answers(client, 1))[0]["result"]["greeting"]) > MIB - 20
        await client.send_str(exact + " ")
        assert await closed(client) == 1009


@pytest.mark.parametrize("num_bytes", [5 * MIB, 40 * MIB])
async def test_the_close_reaches_a_client_that_is_still_sending(server: Server, num_bytes: int) -> None:
    async with connected(server, HELLO) as client:
        await client.send_str("x" * num_bytes)
        assert await closed(client) == 1009


async def test_the_limit_is_that_of_lines_and_counts_whole_messages(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_LINE_LIMIT_BYTES="1000", SLUICE_SCORE_REPLICAS="1") as server, RawSocket(server) as raw:
        raw.open(HELLO)
        for i in range(4):
            raw.frame(TEXT if i == 0 else 0, b"x" * 300, is_last=False)
        assert close_code(raw.receive_frame()) == 1009


async def test_a_binary_message_closes_with_1003_after_what_came_before_was_answered(server: Server) -> None:
    async with connected(server, HELLO) as client:
        for i in range(10):
            await client.send_str(json.dumps({"name": "a", "yhat_id": i}))
        await client.send_bytes(b'{"name":"b"}')
        await client.send_str('{"name":"c"}')
        assert [one["yhat_id"] for one in await answers(client, 10)] == list(range(10))
        assert await closed(client) == 1003


def test_what_breaks_the_protocol_closes_with_1002(server: Server) -> None:
    for opcode, bits in ((3, 0), (TEXT, 0x40), (0, 0)):
        with RawSocket(server) as raw:
            raw.open(HELLO)
            raw.frame(opcode, b"{}", bits=bits)
            assert close_code(raw.receive_frame()) == 1002


def test_a_socket_with_a_long_record_waiting_is_not_read(own: Server) -> None:
    """One record is with the replica, aiohttp has one and half a MiB, and the kernel's buffers hold the rest."""
    before = own.rss_bytes()
    padding = b" " * (MIB - 64)
    with RawSocket(own) as raw, stopped_replica(own) as let_go:
        raw.open(HELLO)
        raw.socket.settimeout(1)
        num_sent = 0
        while num_sent < 100 and _can_send(raw, framed(TEXT, b'{"name":"a","yhat_id":%d}' % num_sent + padding)):
            num_sent += 1
        assert 2 <= num_sent < 17
        assert own.rss_bytes() - before < 8 * MIB
        let_go()
        raw.socket.settimeout(TIMEOUT_S)
        for i in range(num_sent):
            opcode, payload = raw.receive_frame()
            assert (opcode, json.loads(payload)["yhat_id"]) == (TEXT, i)


def _can_send(raw: RawSocket, data: bytes) -> bool:
    try:
        raw.send(data)
    except TimeoutError:
        return False
    return True


async def test_a_refusal_for_want_of_room_is_an_answer_and_the_socket_lives(tmp_path: Path) -> None:
    record = '{"name":"a"}'
    with serving(tmp_path / "data", SLUICE_MAX_QUEUED="1", SLUICE_SCORE_REPLICAS="1") as server, stopped_replica(server) as let_go:
        async with connected(server, HELLO) as first, connected(server, HELLO) as second, connected(server, HELLO) as third:
            await first.send_str(record)
            # Once a single prediction that was sent later has to wait, the replica has the first record.
            single = asyncio.to_thread(requests.post, server.model(HELLO), data=record, auth=server.auth, timeout=TIMEOUT_S)
            waiting = asyncio.create_task(single)
            assert await asyncio.to_thread(until, lambda: _num_waiting(server) == 1)
            for client in (second, third):
                await client.send_str(record)
                assert await answers(client, 1) == [{"code": "too_many_requests", "error": "too many requests"}]
            let_go()
            assert "result" in (await answers(first, 1))[0]
            assert (await waiting).status_code == 200
            await third.send_str(record)
            assert (await answers(third, 1))[0]["result"] == {"greeting": "Hello a"}
            assert server.metric('sluice_rejected_total{reason="too_many_requests"}') == 2


def _num_waiting(server: Server) -> float:
    return server.metric('sluice_queue_blocks{lane="interactive"}')


@contextmanager
def stopped_replica(server: Server) -> Iterator[Callable[[], None]]:
    """Stop the only replica until the end of the block."""
    [pid] = server.replica_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield lambda: os.kill(pid, signal.SIGCONT)
    finally:
        os.kill(pid, signal.SIGCONT)


# Ends


async def test_a_drain_closes_an_idle_socket_with_1001(own: Server) -> None:
    async with connected(own, HELLO) as client:
        await client.send_str('{"name":"a"}')
        await answers(client, 1)
        own.process.send_signal(signal.SIGTERM)
        assert await closed(client) == 1001
    assert own.process.wait(20) == 0
    own.stop()
    assert "Traceback" not in own.log


async def test_a_drain_answers_what_was_taken_before_it_closes(own: Server) -> None:
    async with connected(own, TURNS) as client:
        for i in range(6):
            await client.send_str(json.dumps({"count": 100_000, "yhat_id": i}))
        await answers(client, 1)
        own.process.send_signal(signal.SIGTERM)
        found = await answers(client, 5)
        assert [(one["yhat_id"], one["result"]) for one in found] == [(i, {"turned": 100_000}) for i in range(1, 6)]
        assert await closed(client) == 1001
    assert own.process.wait(20) == 0
    own.stop()
    assert "Traceback" not in own.log


async def test_a_draining_server_opens_no_socket(own: Server) -> None:
    with Raw(own) as stream:
        stream.begin(HELLO)
        stream.head()
        own.process.send_signal(signal.SIGTERM)
        until(lambda: requests.get(f"{own.url}/healthcheck", timeout=10).text == "draining")
        status, headers, body = upgrade(own, "/brandon/models/HelloWorld")
        assert (status, headers["retry-after"], body) == (503, "5", {"error": "shutting down"})
        stream.end()
        stream.rest()
    assert own.process.wait(20) == 0
    own.stop()


async def test_clients_that_leave_in_every_way_leave_nothing_behind(own: Server) -> None:
    files = open_files(own)
    record = b'{"count":20000}'
    for way in range(40):
        with RawSocket(own) as raw:
            raw.open(TURNS)
            for _ in range(way % 30):
                raw.frame(TEXT, record)
            match way % 5:
                case 0:
                    raw.frame(CLOSE, struct.pack("!H", 1000))
                case 1:
                    raw.reset()
                case 2:
                    raw.send(framed(TEXT, record)[:7])
                case 3:
                    raw.receive_frame()
                    raw.reset()
                case 4:
                    raw.socket.shutdown(socket.SHUT_WR)
    until(lambda: own.metric("sluice_websockets") == 0, what="every socket was closed")
    until(lambda: open_files(own) <= files + 1, what="the files are closed")
    assert own.log.count("websocket closed") == 40
    assert "Traceback" not in own.log
    assert "Task " not in own.log
    async with connected(own, HELLO) as client:
        await client.send_str('{"name":"a"}')
        assert len(await answers(client, 1)) == 1


async def test_a_client_that_takes_no_answers_is_dropped_after_the_stall_timeout(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_STALL_TIMEOUT_S="1", SLUICE_SCORE_REPLICAS="1") as server:
        with RawSocket(server, receive_buffer_bytes=4096) as raw:
            raw.open(HELLO)
            raw.socket.settimeout(0.2)
            record = framed(TEXT, json.dumps({"name": "x" * (MIB - 100)}).encode())
            with pytest.raises((TimeoutError, ConnectionError)):
                raw.send(record * 200)
            until(lambda: server.metric("sluice_websockets") == 0, 20, "the socket was dropped")
        assert "Traceback" not in server.log


def test_a_user_has_a_number_of_sockets_and_others_have_theirs(tmp_path: Path) -> None:
    settings = {"SLUICE_MAX_WEBSOCKETS_PER_USER": "2", "SLUICE_ANONYMOUS": "streaming", "SLUICE_SCORE_REPLICAS": "1"}
    path = "/brandon/models/HelloWorld"
    with serving(tmp_path / "data", **settings) as server:
        with RawSocket(server) as one, RawSocket(server) as other:
            one.open(HELLO)
            other.open(HELLO)
            status, headers, body = upgrade(server, path)
            assert (status, headers["retry-after"], body) == (429, "1", {"error": "too many WebSockets"})
            assert opens(server, path, None)
        until(lambda: opens(server, path, server.auth))


def opens(server: Server, path: str, auth: tuple[str, str] | None) -> bool:
    with Raw(server) as client:
        client.ask("GET", path, auth=auth, **HANDSHAKE)
        return client.head().status == 101


def test_sockets_that_send_long_records_and_never_read_take_little_memory(tmp_path: Path) -> None:
    """Each may hold two records of a MiB, and what aiohttp reads ahead."""
    record = framed(TEXT, json.dumps({"name": "x" * (MIB - 100)}).encode())
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_STALL_TIMEOUT_S="10") as server, ExitStack() as stack:
        files, before = open_files(server), server.rss_bytes()
        for _ in range(20):
            raw = stack.enter_context(RawSocket(server, receive_buffer_bytes=4096))
            raw.open(HELLO)
            raw.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                raw.send(record * 40)
        assert server.rss_bytes() - before < 20 * 6 * MIB
        until(lambda: server.metric("sluice_websockets") == 0, 60, "the sockets were dropped")
        until(lambda: open_files(server) <= files)


async def test_metrics_count_the_upgrade_the_open_sockets_and_the_records(own: Server) -> None:
    async with connected(own, HELLO) as client:
        await client.send_str('{"name":"a"}')
        await client.send_str("{}")
        await answers(client, 2)
        assert own.metric("sluice_websockets") == 1
        assert own.metric('sluice_requests_total{status="101",surface="websocket"}') == 1
        for outcome in ("result", "error"):
            assert own.metric(f'sluice_records_total{{model="{HELLO}",outcome="{outcome}"}}') == 1
    until(lambda: own.metric("sluice_websockets") == 0)
    assert own.metric('sluice_requests_total{status="101",surface="streaming"}') == 0


@pytest.mark.heavy
def test_a_silent_client_is_asked_every_30_seconds_and_dropped_when_it_does_not_answer(server: Server) -> None:
    started = time.monotonic()
    with RawSocket(server, timeout_s=45) as silent, RawSocket(server, timeout_s=45) as polite:
        silent.open(HELLO)
        polite.open(HELLO)
        for raw in (silent, polite):
            assert raw.receive_frame() == (PING, b"")
        assert 29 < time.monotonic() - started < 35
        polite.frame(PONG)
        assert silent.receive_frame() == (0, b"")
        assert 59 < time.monotonic() - started < 65
        assert polite.receive_frame() == (PING, b"")


@pytest.mark.heavy
def test_a_client_that_waits_for_slow_answers_is_not_taken_for_dead(tester: Server) -> None:
    """The client has sent more than the server has read, so its answer to a ping would wait behind that for a long time."""
    with RawSocket(tester, timeout_s=30) as raw:
        raw.open(TURNS)
        raw.send(framed(TEXT, b'{"count":100000}') * 4_000)
        started = time.monotonic()
        while time.monotonic() - started < 50:
            assert raw.receive_frame()[0] in (TEXT, PING)
