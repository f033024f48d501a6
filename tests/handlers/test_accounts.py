"""Small bodies of the accounts surface: their limit, and their encodings."""

import gzip
import json
from collections.abc import Iterator

import pytest
import requests

from tests.serving import Server

LIMIT = 64 * 1024


def post(server: Server, body: bytes | Iterator[bytes], encoding: str = "") -> tuple[int, str]:
    headers = {"Content-Encoding": encoding} if encoding else {}
    answer = requests.post(f"{server.url}/api/users", data=body, auth=server.auth, headers=headers, timeout=30)
    return answer.status_code, answer.text


def pieces(num_bytes: int) -> Iterator[bytes]:
    for _ in range(num_bytes // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("body", [b" " * (LIMIT + 1), pieces(2 * LIMIT)], ids=["with its length", "in chunks"])
def test_a_body_over_64_kib_is_refused(server: Server, body: bytes | Iterator[bytes]) -> None:
    assert post(server, body) == (413, '{"error":"body larger than 65536 bytes"}')


def test_a_small_body_that_decodes_to_more_is_refused(server: Server) -> None:
    assert post(server, gzip.compress(b" " * (LIMIT + 1)), "gzip") == (413, '{"error":"body larger than 65536 bytes"}')


def test_a_body_of_64_kib_is_read(server: Server) -> None:
    status, text = post(server, b" " * LIMIT)
    assert status == 400
    assert json.loads(text)["error"].startswith("could not decode body: ")


def test_a_body_is_decoded_as_everywhere(server: Server) -> None:
    status, text = post(server, gzip.compress(b'{"name":"gzipped"}'), "gzip")
    assert (status, json.loads(text)["name"]) == (201, "gzipped")
    assert post(server, b'{"name":"other"}', "br") == (
        415,
        '{"error":"Content-Encoding must be gzip, deflate or identity"}',
    )
