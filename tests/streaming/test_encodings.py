"""Compressed bodies: a complete one is answered in full, and a broken one ends with a cut (streaming.md 3.2)."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.clients import Curled, answers, bulk, curl, ndjson
from tests.serving import Server, serving

HELLO = "brandon/HelloWorld"
MIB = 1024 * 1024
NAMES = [f"n{i}" for i in range(3000)]
BODY = ndjson({"name": name} for name in NAMES)


def packed(server: Server, body: bytes, encoding: str = "gzip", query: str = "&ordered=true") -> Curled:
    return bulk(server, HELLO, body, query, "-H", f"Content-Encoding: {encoding}")


def greetings(done: Curled) -> list[str]:
    return [line["result"]["greeting"] for line in done.lines if "result" in line]


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:5000]) + gzip.compress(BODY[5000:])),
        ("gzip", b"".join(gzip.compress(BODY[i : i + 1000]) for i in range(0, len(BODY), 1000))),
        ("gzip", gzip.compress(b"") + gzip.compress(BODY) + gzip.compress(b"")),
        ("gzip", gzip.compress(BODY, 0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
    ],
    ids=["gzip", "any case", "two members", "many members", "empty members", "stored", "zlib", "raw deflate", "identity"],
)
def test_a_whole_body_gives_all_records(server: Server, encoding: str, body: bytes) -> None:
    """Acceptance 10."""
    done = packed(server, body, encoding)
    assert (done.code, done.status) == (0, 200)
    assert greetings(done) == [f"Hello {name}" for name in NAMES]


def test_a_member_may_end_inside_a_line_and_inside_a_character(server: Server) -> None:
    text = '{"name":"漢字"}\n'.encode()
    body = b"".join(gzip.compress(text[i : i + 1]) for i in range(len(text)))
    assert greetings(packed(server, body)) == ["Hello 漢字"]


def test_an_empty_encoded_body_is_a_clean_empty_answer(server: Server) -> None:
    for body in (b"", gzip.compress(b"")):
        done = packed(server, body)
        assert (done.code, done.body) == (0, b"")


PACKED = gzip.compress(BODY)
BROKEN = {
    "cut inside the data": PACKED[: len(PACKED) // 2],
    "cut inside the head": PACKED[:7],
    "cut after one byte": PACKED[:1],
    "cut before the trailer": PACKED[:-8],
    "cut inside the trailer": PACKED[:-3],
    "bad CRC": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "bad length": PACKED[:-4] + bytes(4),
    "not gzip": BODY,
    "flipped bytes": PACKED[:300] + bytes(byte ^ 0xFF for byte in PACKED[300:340]) + PACKED[340:],
    "garbage after a member": PACKED + b"garbage",
    "second member cut": PACKED + PACKED[:50],
    "second member of one byte": PACKED + PACKED[:1],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_body_ends_with_bad_encoding_and_a_cut(server: Server, kind: str) -> None:
    """Acceptance 10: a broken body must never look like a clean end."""
    done = packed(server, BROKEN[kind])
    assert (done.code, done.status) == (18, 200), done.trace
    *lines, last = done.lines
    check_fatal(last, "bad_encoding", len(lines))
    scored = [line["result"]["greeting"] for line in lines if "result" in line]
    assert scored == [f"Hello {name}" for name in NAMES[: len(scored)]]


def check_fatal(line: dict[str, Any], code: str, num_records: int) -> None:
    """Check that the last line is a fatal error as in streaming.md 2.4."""
    assert list(line) == ["bulk_id", "code", "error", "fatal", "records", "yhat_model"]
    assert (line["code"], line["fatal"], line["records"]) == (code, True, num_records), line
    assert line["error"]


@pytest.mark.parametrize(
    "body",
    [
        zlib.compress(BODY)[:-3],
        raw_deflate(BODY)[:-3],
        zlib.compress(BODY) + b"x",
        b"\xff" * 100,
        zlib.compress(BODY)[:-4] + bytes(4),
    ],
)
def test_broken_deflate_is_bad_encoding(server: Server, body: bytes) -> None:
    done = packed(server, body, "deflate")
    assert done.code == 18
    assert done.lines[-1]["code"] == "bad_encoding"


def test_a_bomb_is_one_error_line_in_constant_memory(server: Server) -> None:
    """Section 4: gzip of 10 GB zeros (here 512 MiB)."""
    before = server.rss_bytes()
    member = gzip.compress(bytes(64 * MIB), 9)
    done = packed(server, member * 8)
    assert done.code == 0
    assert [line["code"] for line in done.lines] == ["line_too_long"]
    assert server.rss_bytes() - before < 16 * MIB


def test_a_bomb_of_newlines_is_read_to_its_end_in_constant_memory(server: Server) -> None:
    before = server.rss_bytes()
    done = packed(server, gzip.compress(b"\n" * 8 * MIB, 9) + gzip.compress(b'{"name":"a"}'))
    assert greetings(done) == ["Hello a"]
    assert server.rss_bytes() - before < 32 * MIB


def test_a_body_that_decodes_to_too_much_is_too_large(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_DECODED_LIMIT_BYTES="100000", SLUICE_SCORE_REPLICAS="1") as server:
        line = b'{"name":"abc"}\n'
        done = packed(server, gzip.compress(line * 10_000))
        assert done.code == 18
        *lines, last = done.lines
        check_fatal(last, "too_large", len(lines))
        assert len(packed(server, gzip.compress(line * 6000)).lines) == 6000
        assert len(bulk(server, HELLO, line * 10_000).lines) == 10_000, "plain bodies have no total limit"


def test_curl_sends_a_gzip_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "records.gz"
    path.write_bytes(gzip.compress(BODY))
    done = curl(f"{server.model(HELLO)}/?bulk=true", "-T", str(path), "-H", "Content-Encoding: gzip", auth=server.auth)
    assert len(answers(done.body)) == len(NAMES)
