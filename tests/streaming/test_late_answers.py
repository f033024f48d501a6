"""`Answer-After-Upload: true`: the answer begins when the body has ended, for proxies that cannot send and receive at once."""

import json
import socket
import threading
from pathlib import Path

import pytest

from tests.clients import Raw, by_id, curl, health, ndjson, spill_files, until
from tests.serving import Server, serving

HELLO = "brandon/HelloWorld"
MIB = 1024 * 1024


@pytest.mark.parametrize(("value", "is_late"), [("true", True), ("True", True), ("false", False), ("later", False)])
def test_the_answer_begins_after_the_upload_only_if_the_header_says_true(server: Server, value: str, is_late: bool) -> None:
    with Raw(server) as client:
        client.begin(HELLO, Answer_After_Upload=value)
        client.chunk(b'{"name":"a"}\n')
        client.socket.settimeout(0.5 if is_late else 30)
        if is_late:
            with pytest.raises(TimeoutError):
                client.head()
            client.socket.settimeout(30)
            client.end()
        assert client.head().status == 200
        assert client.line()["result"] == {"greeting": "Hello a"}


@pytest.mark.parametrize("query", ["", "&ordered=true"])
def test_results_that_wait_for_the_end_of_the_upload_are_all_there(tmp_path: Path, query: str) -> None:
    records = ndjson({"name": "a" * 100, "yhat_id": i} for i in range(100_000))
    (tmp_path / "records").write_bytes(records)
    with serving(tmp_path / "data") as server:
        url = f"{server.model(HELLO)}/?bulk=true{query}"
        done = curl(url, "-T", str(tmp_path / "records"), "-H", "Answer-After-Upload: true", auth=server.auth)
        assert (done.code, done.status) == (0, 200)
        found = list(by_id(done.body))
        assert (found if query else sorted(found)) == list(range(100_000))
        until(lambda: health(server)["streams"] == 0 and not spill_files(server))


def test_results_that_outgrow_the_spill_before_the_upload_ends_cut_the_stream(tmp_path: Path) -> None:
    def send(client: Raw) -> None:
        records = b'{"name":"a"}\n' * 20_000
        try:
            while True:
                client.chunk(records)
        except OSError:
            pass  # the server has closed the connection

    with serving(tmp_path / "data", SLUICE_SPILL_LIMIT_BYTES=str(4 * MIB)) as server, Raw(server) as client:
        client.begin(HELLO, Answer_After_Upload="true")
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        assert client.head().status == 200
        last = client.rest().splitlines()[-1]
        client.socket.shutdown(socket.SHUT_RDWR)
        sender.join(30)
        assert (json.loads(last)["code"], json.loads(last)["fatal"]) == ("spill_full", True)
        assert client.was_cut
        assert "reason=spill_full" in server.log
        until(lambda: health(server)["streams"] == 0 and not spill_files(server))


def test_a_client_that_leaves_before_its_answer_began_leaves_nothing(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO, Answer_After_Upload="true")
        client.chunk(b'{"name":"a"}\n')
        until(lambda: health(server)["streams"] == 1)
        client.reset()
    until(lambda: health(server)["streams"] == 0)
    assert "Traceback" not in server.log


def test_after_100_continue_the_head_waits_for_the_first_results(server: Server) -> None:
    """A proxy must be able to tell the two heads apart: HAProxy 2.6 made an empty answer of every second upload."""
    with Raw(server) as client:
        client.begin(HELLO, Expect="100-continue")
        assert client.head().status == 100
        assert client.is_quiet(0.5)
        client.chunk(b'{"name":"a"}\n')
        assert client.head().status == 200
        assert client.line()["result"] == {"greeting": "Hello a"}
        client.end()
        assert client.rest() == b""
        assert client.has_ended


def test_after_100_continue_an_empty_body_is_answered(server: Server) -> None:
    with Raw(server) as client:
        client.begin(HELLO, Expect="100-continue")
        assert client.head().status == 100
        client.end()
        assert client.head().status == 200
        assert client.rest() == b""
        assert client.has_ended
