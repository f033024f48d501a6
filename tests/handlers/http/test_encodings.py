"""Decoding of bodies: a compressed body in any pieces is the body, and whatever is broken is told from an end."""

import contextlib
import gzip
import time
import zlib
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.http.encodings import (
    DECODE_STEP_BYTES,
    ENCODINGS,
    MAX_EMPTY_MEMBERS,
    STEP_INPUT_BYTES,
    STEP_MEMBERS,
    BadEncoding,
    Inflate,
    Plain,
    decoder,
)
from tests.handlers.http.pieces import cuts, pieces_of


def steps_of(unpack: Plain | Inflate, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What each step gives, to the end of the pieces."""
    for piece in pieces:
        unpack.feed(piece)
        while unpack.has_more:
            yield unpack.step()


def decode(pieces: Iterable[bytes], encoding: str) -> bytes:
    unpack = decoder(encoding)
    decoded = b"".join(steps_of(unpack, pieces))
    unpack.finish()
    return decoded


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(body) + compressor.flush()


COMPRESSORS = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
}
contents = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, count: piece * count, st.binary(min_size=1, max_size=9), st.integers(1, 30_000)),
)


@given(contents, cuts, st.sampled_from(sorted(COMPRESSORS)))
def test_a_compressed_body_in_any_pieces_is_the_body(body: bytes, positions: list[int], name: str) -> None:
    encoding, compress = COMPRESSORS[name]
    assert decode(pieces_of(compress(body), positions), encoding) == body


@pytest.mark.parametrize("name", sorted(COMPRESSORS))
def test_a_body_around_the_size_of_a_step_is_whole(name: str) -> None:
    encoding, compress = COMPRESSORS[name]
    for size in (*range(DECODE_STEP_BYTES - 3, DECODE_STEP_BYTES + 4), *range(DECODE_STEP_BYTES + 250, DECODE_STEP_BYTES + 270)):
        for content in (b"\n", b"abc"):
            body = (content * size)[:size]
            assert decode([compress(body)], encoding) == body


@given(st.lists(contents, min_size=1, max_size=4), cuts)
def test_gzip_members_follow_each_other_cut_anywhere(bodies: list[bytes], positions: list[int]) -> None:
    assert decode(pieces_of(b"".join(map(gzip.compress, bodies)), positions), "gzip") == b"".join(bodies)


@given(contents, st.data(), st.sampled_from(sorted(COMPRESSORS)))
def test_a_compressed_body_cut_short_anywhere_is_never_an_end(body: bytes, data: st.DataObject, name: str) -> None:
    encoding, compress = COMPRESSORS[name]
    whole = compress(body)
    end = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(BadEncoding):
        decode([whole[:end]], encoding)


def test_a_second_gzip_member_cut_short_is_no_end_either() -> None:
    with pytest.raises(BadEncoding, match="cut short"):
        decode([gzip.compress(b"one\n"), gzip.compress(b"two\n")[:-1]], "gzip")


def test_nothing_at_all_is_an_empty_body_in_every_encoding() -> None:
    for encoding in ENCODINGS:
        assert decode([], encoding) == b""


@pytest.mark.parametrize("position", [-1, -5])
def test_a_wrong_check_sum_or_length_is_bad(position: int) -> None:
    whole = bytearray(gzip.compress(b"hello\n" * 100))
    whole[position] ^= 0xFF
    with pytest.raises(BadEncoding, match="not gzip"):
        decode([bytes(whole)], "gzip")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_was_never_compressed_is_bad(encoding: str) -> None:
    with pytest.raises(BadEncoding):
        decode([b'{"a":1}\n{"a":2}\n'], encoding)


def test_bytes_after_a_gzip_member_that_are_no_member_are_bad() -> None:
    with pytest.raises(BadEncoding):
        decode([gzip.compress(b"a") + b"garbage"], "gzip")


def test_bytes_after_a_deflate_stream_are_bad() -> None:
    with pytest.raises(BadEncoding, match="after the end"):
        decode([zlib.compress(b"a"), b"x"], "deflate")


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]), cuts)
def test_random_bytes_end_in_bad_encoding_or_in_a_body_and_nothing_else(body: bytes, encoding: str, positions: list[int]) -> None:
    with contextlib.suppress(BadEncoding):
        decode(pieces_of(body, positions), encoding)


def test_a_small_body_becomes_large_memory_one_step_at_a_time() -> None:
    bomb = gzip.compress(bytes(10 * 1024 * 1024))
    steps = list(steps_of(Inflate("gzip"), [bomb]))
    assert max(map(len, steps)) <= DECODE_STEP_BYTES
    assert sum(map(len, steps)) == 10 * 1024 * 1024


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_one_step_takes_few_members(content: bytes) -> None:
    """The body brings content between its empty members, so that it is not refused."""
    member = gzip.compress(content) + gzip.compress(b"a")
    assert len(list(steps_of(Inflate("gzip"), [member * 1000]))) >= 2000 // STEP_MEMBERS


def test_one_step_takes_little_input_even_when_that_has_no_content() -> None:
    head = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 1024 * 1024  # a file name that does not end
    steps = list(steps_of(Inflate("gzip"), [head]))
    assert steps == [b""] * len(steps)
    assert len(steps) >= len(head) // STEP_INPUT_BYTES


def test_many_small_members_in_one_piece_are_not_copied_again_and_again() -> None:
    piece = gzip.compress(b"\n")
    started = time.thread_time()
    assert decode([piece * 20_000], "gzip") == b"\n" * 20_000
    linear_s = time.thread_time() - started
    started = time.thread_time()
    assert decode([piece * 160_000], "gzip") == b"\n" * 160_000
    assert time.thread_time() - started < 24 * linear_s  # the factor is 8 if the time is linear, 64 if it is quadratic


def test_a_few_empty_members_are_a_body_and_many_in_a_row_are_refused() -> None:
    empty, full = gzip.compress(b""), gzip.compress(b"a")
    row = empty * MAX_EMPTY_MEMBERS
    assert decode([row + full + row + full + row], "gzip") == b"aa"
    for body in (row + empty + full, full + row + empty + full):
        with pytest.raises(BadEncoding, match="without content"):
            decode([body[:7], body[7:]], "gzip")


def test_what_comes_before_a_fault_is_given_before_it_is_told() -> None:
    steps = steps_of(Inflate("gzip"), [gzip.compress(b"a") + b"garbage"])
    assert next(steps) == b"a"
    with pytest.raises(BadEncoding):
        next(steps)


def test_the_reason_is_in_words_not_in_zlibs_numbers() -> None:
    with pytest.raises(BadEncoding, match=r"^the body is not gzip: incorrect header check$"):
        decode([b"plain text"], "gzip")


def test_no_encoding_and_identity_change_nothing() -> None:
    for encoding in ("", "identity"):
        assert type(decoder(encoding)) is Plain
        assert decode([b"a", b"", b"b"], encoding) == b"ab"
