"""A command-line client finds its server and its key in a flag, then in the environment, then in the local data directory."""

import argparse
import contextlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from server.commands.remote import BadRemote, Remote, add_arguments, find_remote
from tests.clients import basic
from tests.serving import Server


def found(arguments: str, **environment: str) -> Remote:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return find_remote(parser.parse_args(arguments.split()), environment)


def test_a_flag_takes_precedence_over_the_environment_and_that_over_the_default() -> None:
    environment = {"SLUICE_URL": "http://there:1", "SLUICE_USER": "eva", "SLUICE_KEY": "k1"}
    assert found("", **environment) == Remote(found("--url http://there:1").url, "eva", "k1")
    flags = found("--url http://here:2 --user bob --key k2", **environment)
    assert (flags.url.geturl(), flags.user, flags.key) == ("http://here:2", "bob", "k2")
    assert found("", SLUICE_DATA_DIR="/nowhere").url.geturl() == "http://127.0.0.1:9000"
    assert found("", SLUICE_URL=" ", SLUICE_USER="", SLUICE_DATA_DIR="/nowhere").user == "admin"


def test_the_admins_key_is_read_only_for_the_admin_and_a_server_on_this_machine(server: Server) -> None:
    data = {"SLUICE_DATA_DIR": str(server.data_dir)}
    for url in (server.url, f"http://localhost:{server.port}"):
        assert found(f"--url {url}", **data).key == server.key
    for arguments in ("--url http://example.org", "--url http://10.0.0.1:9000", "--user eva"):
        assert found(arguments, **data).key is None
        assert found(arguments, **data).headers == {}
    assert found("--key mine", **data).key == "mine"
    assert found("", SLUICE_DATA_DIR="/nowhere").key is None


def test_the_admins_key_goes_to_no_server_that_does_not_prove_itself(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"SLUICE_DATA_DIR": str(server.data_dir)}
    with stranger(b'{"proof":"' + b"0" * 64 + b'"}') as (url, asked):
        assert found(f"--url {url}", **data).key is None
    assert server.key.encode() not in asked[0]
    assert b"Authorization" not in asked[0]
    assert "does not show" in capsys.readouterr().err
    for answer in (b"", b"[]", b'{"proof":1}', b"<html>"):
        with stranger(answer) as (url, _):
            assert found(f"--url {url}", **data).key is None
    (tmp_path / "admin.key").write_text("0" * 32)
    assert found(f"--url {server.url}", SLUICE_DATA_DIR=str(tmp_path)).key is None, "another directory than the server's"


def test_a_stranger_cannot_pass_on_the_proof_of_the_real_server(server: Server) -> None:
    """The proof names the port on which the server was asked."""

    def passed_on(asked: bytes) -> bytes:
        path = asked.split(b" ")[1].decode()
        return requests.get(server.url + path, timeout=30).content

    with stranger(passed_on) as (url, _):
        assert found(f"--url {url}", SLUICE_DATA_DIR=str(server.data_dir)).key is None


@contextlib.contextmanager
def stranger(answer: bytes | Callable[[bytes], bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A program that listens in place of the server and answers one request; what it was asked is in the list."""
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65536))
            body = answer if isinstance(answer, bytes) else answer(asked[0])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        served = thread.submit(serve)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        served.result(timeout=30)


def test_a_path_under_the_address_is_kept_and_names_are_quoted() -> None:
    assert found("--url http://x/sluice/").path("a b", "models", "c/d") == "/sluice/a%20b/models/c%2Fd"
    assert found("--url http://eva:secret@[::1]:90?q#f").url.geturl() == "http://[::1]:90"


def test_credentials_are_basic() -> None:
    assert found("--user eva --key k").headers == {"Authorization": basic(("eva", "k"))}


@pytest.mark.parametrize("url", ["here", "ftp://x", "http://", "http://x:99999", "http://[", "//x:1"])
def test_a_bad_address_is_refused(url: str) -> None:
    with pytest.raises(BadRemote):
        found(f"--url {url}")
