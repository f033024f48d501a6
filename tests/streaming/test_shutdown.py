"""SIGTERM: running streams may finish, new requests are refused, and no process or file stays (acceptance 17, streaming.md 3.8)."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.clients import Raw, answers, curl, health, is_alive, until
from tests.serving import Server, serving
from tests.streaming import graphs

HELLO = "brandon/HelloWorld"


def term(server: Server, number: int = signal.SIGTERM) -> None:
    server.process.send_signal(number)
    until(lambda: "server draining" in server.log)


def feed_slowly(client: subprocess.Popen[bytes]) -> None:
    """Send a record every 20 ms as long as curl takes them."""
    assert client.stdin is not None
    pause = threading.Event()
    with contextlib.suppress(BrokenPipeError):
        while client.poll() is None:
            client.stdin.write(b'{"name":"a"}\n')
            pause.wait(0.02)


def wait(server: Server, pids: list[int], within_s: float = 10) -> None:
    """Wait for the server: it must end with exit code 0, and its replicas must be gone."""
    assert server.process.wait(within_s) == 0
    assert server.stop() == 0
    until(lambda: not any(map(is_alive, pids)), 5)
    assert "server stopped" in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once_with_exit_code_0(tmp_path: Path, number: int) -> None:
    def seconds(folder: Path) -> float:
        with serving(folder / "data") as server:
            pids = server.replica_pids()
            started = time.monotonic()
            term(server, number)
            wait(server, pids)
            return time.monotonic() - started

    assert any(seconds(tmp_path / str(run)) < 3 for run in range(3)), "a busy machine is late once or twice"


def test_a_stream_ends_cleanly_within_the_drain_time_and_new_requests_are_503(tmp_path: Path) -> None:
    """Acceptance 17."""
    with serving(tmp_path / "data", SLUICE_DRAIN_S="20") as server:
        pids = server.replica_pids()
        with Raw(server) as client:
            client.begin(HELLO)
            client.head()
            client.chunk(b'{"name":"a"}\n')
            client.line()
            term(server)
            for path in (f"{HELLO.replace('/', '/models/')}?bulk=true", HELLO.replace("/", "/models/")):
                refused = curl(f"{server.url}/{path}", "-d", '{"name":"a"}', auth=server.auth)
                assert (refused.status, refused.body) == (503, b'{"error":"shutting down"}')
                assert "Retry-After: 5" in refused.trace
            checked = curl(f"{server.url}/healthcheck")
            assert (checked.status, checked.body) == (503, b"draining")
            assert curl(server.model(HELLO), auth=server.auth).status == 503
            for i in range(50):
                client.chunk(b'{"name":"%d"}\n' % i * 100)
            client.end()
            assert len(answers(client.rest())) == 5000
            assert client.has_ended
        wait(server, pids, 10)


def test_an_upload_that_is_too_long_ends_with_shutting_down_and_curl_fails(tmp_path: Path) -> None:
    """Acceptance 17. curl goes on sending after the server has ended the stream, and fails (55) once the connection is closed."""
    with serving(tmp_path / "data", SLUICE_DRAIN_S="1") as server:
        pids = server.replica_pids()
        command = ["curl", "-sS", "-N", "-T", "-", "--user", ":".join(server.auth), f"{server.model(HELLO)}/?bulk=true"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as client:
            feeder = threading.Thread(target=feed_slowly, args=(client,))
            feeder.start()
            until(lambda: server.metric('sluice_records_total{model="brandon/HelloWorld",outcome="result"}'))
            term(server)
            assert client.stdout is not None
            body = client.stdout.read()
            client.wait(20)
            feeder.join()
            *lines, last = answers(body)
            assert list(last) == ["bulk_id", "code", "error", "fatal", "records", "yhat_model"]
            assert (last["code"], last["fatal"], last["records"]) == ("shutting_down", True, len(lines))
            assert client.returncode in (18, 55, 56)
        wait(server, pids)
    assert "stream failed" in server.log
    assert "reason=shutting_down" in server.log


def test_a_stream_that_is_too_long_ends_with_shutting_down_and_curl_exits_18(tmp_path: Path) -> None:
    """Acceptance 17: the client has sent everything, and the model is slow."""
    with serving(graphs.write_all(tmp_path / "data"), SLUICE_DRAIN_S="1", SLUICE_SCORE_REPLICAS="1") as server:
        pids = server.replica_pids()
        command = [
            "curl",
            "-sS",
            "--data-binary",
            "@-",
            "--user",
            ":".join(server.auth),
            f"{server.model('tester/turns')}?bulk=true",
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin is not None
            client.stdin.write(b'{"count":2000}\n' * 30_000)  # a minute of work for the model
            client.stdin.close()
            client.stdin = None
            until(lambda: server.metric('sluice_records_total{model="tester/turns",outcome="result"}'))
            term(server)
            body, _ = client.communicate(timeout=30)
            *lines, last = answers(body)
            assert (last["code"], last["fatal"], last["records"]) == ("shutting_down", True, len(lines))
            assert client.returncode == 18
        wait(server, pids)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_DRAIN_S="60") as server:
        pids = server.replica_pids()
        with Raw(server) as client:
            client.begin(HELLO)
            client.head()
            term(server)
            assert health(server)["status"] == "draining"
            server.process.send_signal(signal.SIGTERM)
            assert [line["code"] for line in answers(client.rest())] == ["shutting_down"]
            assert client.was_cut
        wait(server, pids)


def test_a_client_that_never_reads_cannot_hold_the_end_up(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_DRAIN_S="1") as server:
        pids = server.replica_pids()
        with Raw(server, receive_buffer_bytes=4096) as client:
            client.begin(HELLO)
            for _ in range(30):
                client.chunk(b'{"name":"abcdefghijklmnopqrstuvwxyz"}\n' * 2000)
            term(server)
            wait(server, pids, 15)
        assert list((server.data_dir / "spill").iterdir()) == []


AWKWARD_DRAIN_S = 1


def test_whatever_clients_do_the_process_ends_two_seconds_after_the_drain_time(tmp_path: Path) -> None:
    """Each of them once held the end up: by 5 s, 10 s, 12 s or 60 s."""
    runs = (_seconds_to_end_whatever_clients_do(tmp_path / str(run)) for run in range(3))
    assert any(seconds < AWKWARD_DRAIN_S + 2 for seconds in runs), "a busy machine is late once or twice"


def _seconds_to_end_whatever_clients_do(folder: Path) -> float:
    with (
        serving(graphs.write_all(folder / "data"), SLUICE_DRAIN_S=str(AWKWARD_DRAIN_S)) as server,
        contextlib.ExitStack() as stack,
    ):
        pids = server.replica_pids()
        for awkward in (
            idle_websocket,
            websocket_that_never_reads,
            cut_stream,
            half_a_record,
            half_an_upload,
            half_a_head,
            never_reads,
        ):
            client = stack.enter_context(Raw(server, receive_buffer_bytes=4096, timeout_s=5))
            awkward(client)
        until(lambda: health(server)["streams"] == 1)
        started = time.monotonic()
        term(server)
        wait(server, pids, 10)
        seconds = time.monotonic() - started
    assert list((server.data_dir / "spill").iterdir()) == []
    assert not list((server.data_dir / "models").glob("*/*/.incoming*"))
    return seconds


def open_websocket(client: Raw) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    client.ask("GET", "/brandon/models/HelloWorld", **upgrade, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    assert client.head().status == 101


def idle_websocket(client: Raw) -> None:
    """It does not answer the close."""
    open_websocket(client)


def websocket_that_never_reads(client: Raw) -> None:
    open_websocket(client)
    record = b'{"name":"%s"}' % (b"x" * 60_000)
    frame = b"\x81\xfe" + len(record).to_bytes(2) + bytes(4) + record
    with contextlib.suppress(TimeoutError):
        client.socket.settimeout(0.5)
        for _ in range(200):
            client.send(frame)


def cut_stream(client: Raw) -> None:
    """The server has said its last word; the client does not close."""
    client.begin(HELLO, Content_Encoding="gzip")
    client.chunk(b"this is not gzip")
    client.head()
    client.rest()


def half_a_record(client: Raw) -> None:
    client.ask("POST", "/brandon/models/HelloWorld", Content_Length="100")
    client.send(b'{"name":')


def half_an_upload(client: Raw) -> None:
    client.ask("PUT", "/admin/models/half", Content_Type="application/octet-stream", Content_Length="1000")
    client.send(b"x" * 500)


def half_a_head(client: Raw) -> None:
    client.send(b"POST /brandon/models/HelloWorld HTTP/1.1\r\nHost: s")


def never_reads(client: Raw) -> None:
    client.begin(HELLO)
    for _ in range(30):
        client.chunk(b'{"name":"abcdefghijklmnopqrstuvwxyz"}\n' * 2000)


def test_queued_singles_are_answered_before_the_end(tmp_path: Path) -> None:
    """streaming.md 3.8: single predictions that wait are still answered."""
    with serving(graphs.write_all(tmp_path / "data"), SLUICE_SCORE_REPLICAS="1") as server:
        pids, body = server.replica_pids(), b'{"count":500000}'
        assert curl(server.model("tester/turns"), "-d", '{"count":1}', auth=server.auth).status == 200
        os.kill(pids[0], signal.SIGSTOP)  # it has the first one then, and the others wait
        clients = [Raw(server) for _ in range(3)]
        for client in clients:
            client.ask("POST", "/tester/models/turns", Content_Length=str(len(body)))
            client.send(body)
            until(lambda: server.metric('sluice_queue_seconds_count{lane="interactive"}') == 2)
        until(lambda: server.metric('sluice_queue_blocks{lane="interactive"}') == 2)
        term(server)
        os.kill(pids[0], signal.SIGCONT)
        assert [client.head().status for client in clients] == [200] * 3
        for client in clients:
            client.close()
        wait(server, pids)


def test_a_server_starts_again_on_the_data_of_a_killed_one(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        key = server.key
        server.stop(signal.SIGKILL)
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        assert server.key == key
        assert curl(server.model(HELLO), "-d", '{"name":"a"}', auth=server.auth).status == 200
