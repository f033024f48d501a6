"""Frames arrive complete, however the socket cuts them."""

import socket
import threading
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine import frames
from engine.frames import (
    HEADER_LIMIT_BYTES,
    JOINED_BYTES,
    KEPT_FRAME_BYTES,
    PREFIX,
    SCRATCH_BYTES,
    BrokenFrame,
    FrameMemory,
    FrameReader,
    Header,
)

Frame = tuple[Header, bytes]

headers = st.dictionaries(
    st.text(max_size=5), st.one_of(st.integers(-9, 9), st.text(max_size=9), st.lists(st.integers(0, 99), max_size=5))
)
payloads = st.one_of(
    st.binary(max_size=50),
    st.builds(lambda data, count: data * count, st.binary(min_size=1, max_size=9), st.integers(1, 12_000)),
)
around_scratch = [b"x" * (SCRATCH_BYTES - PREFIX.size - 2 + more) for more in (-1, 0, 1)]


def encoded(items: Iterable[Frame]) -> bytes:
    return b"".join(bytes(buffer) for header, payload in items for buffer in frames.encode(header, [payload]))


def read(data: bytes, sizes: list[int]) -> list[Frame]:
    """The frames that a reader finds in these bytes when they arrive in pieces of these sizes, repeated."""
    reader, found, position, turn = FrameReader(), [], 0, 0
    while position < len(data):
        room = reader.buffer()
        assert len(room) > 0
        size = min(len(room), sizes[turn % len(sizes)], len(data) - position)
        room[:size] = data[position : position + size]
        room.release()
        position += size
        turn += 1
        found += [(header, bytes(payload)) for header, payload in reader.received(size)]
    return found


@given(st.lists(st.tuples(headers, payloads), max_size=8), st.lists(st.integers(50, 90_000), min_size=1, max_size=10))
@example([({}, payload) for payload in around_scratch], [SCRATCH_BYTES])
@example([({}, b"a"), ({}, around_scratch[1]), ({}, b"b")], [SCRATCH_BYTES - 1, 1])
def test_frames_in_any_pieces_are_the_frames_that_were_sent(items: list[Frame], sizes: list[int]) -> None:
    assert read(encoded(items), sizes) == items


@given(st.lists(st.tuples(headers, st.binary(max_size=40)), max_size=6))
def test_frames_byte_by_byte_are_the_frames_that_were_sent(items: list[Frame]) -> None:
    assert read(encoded(items), [1]) == items


@pytest.mark.parametrize("payload", around_scratch, ids=len)
def test_a_frame_around_the_size_of_the_scratch_comes_through_behind_another(payload: bytes) -> None:
    items = [({"first": 1}, b"abc"), ({}, payload), ({"last": 1}, b"")]
    for size in (1000, SCRATCH_BYTES - 1, SCRATCH_BYTES, 2 * SCRATCH_BYTES):
        assert read(encoded(items), [size]) == items


def test_a_large_frame_is_read_straight_into_its_own_memory() -> None:
    reader, payload = FrameReader(), b"x" * (10 * SCRATCH_BYTES)
    data = encoded([({}, payload)])
    reader.buffer()[:SCRATCH_BYTES] = data[:SCRATCH_BYTES]
    assert list(reader.received(SCRATCH_BYTES)) == []
    room = reader.buffer()
    assert len(room) == len(data) - SCRATCH_BYTES
    room[:] = data[SCRATCH_BYTES:]
    [(header, whole)] = reader.received(len(room))
    assert header == {}
    assert whole == payload


def read_large(reader: FrameReader, payload: bytes) -> memoryview:
    """The payload of one large frame, in the memory that the reader has given it."""
    data, found = memoryview(encoded([({}, payload)])), []
    while data:
        room = reader.buffer()
        size = min(len(room), len(data))
        room[:size] = data[:size]
        room.release()
        found += reader.received(size)
        data = data[size:]
    [(_, whole)] = found
    return whole


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(SCRATCH_BYTES, 6 * SCRATCH_BYTES), st.integers(0, 5)), min_size=1, max_size=8))
@example([(KEPT_FRAME_BYTES + more, 1) for more in (-2, -1, 0, 1, -2, -2)])
def test_large_payloads_stay_what_they_were_until_the_last_view_of_them_is_gone(frames_read: list[tuple[int, int]]) -> None:
    """Each is looked at, by a part of it alone, until as many later ones have arrived as its second number says."""
    reader, views = FrameReader(FrameMemory()), []
    for turn, (size, held) in enumerate(frames_read):
        views = [view for view in views if view[0] >= turn]
        views.append((turn + held, turn % 251, read_large(reader, bytes([turn % 251]) * size)[size // 2 :]))
        for _, value, part in views:
            assert part == bytes([value]) * len(part)


def test_the_memory_of_a_large_frame_is_used_again_when_nobody_reads_it() -> None:
    reader = FrameReader(FrameMemory())
    first = read_large(reader, b"a" * 5 * SCRATCH_BYTES)
    second = read_large(reader, b"b" * 5 * SCRATCH_BYTES)
    memory = first.obj
    assert second.obj is not memory
    first.release()
    third = read_large(reader, b"c" * 4 * SCRATCH_BYTES)
    assert third.obj is memory
    third.release()
    assert read_large(reader, b"d" * SCRATCH_BYTES).obj is not memory  # a small answer that waits must not hold much more


def test_a_payload_stays_what_it_was_while_later_frames_arrive() -> None:
    reader, kept = FrameReader(), []
    for i in range(50):
        data = encoded([({"i": i}, bytes([i]) * 5000)])
        reader.buffer()[: len(data)] = data
        kept += list(reader.received(len(data)))
    assert [bytes(payload) for _, payload in kept] == [bytes([i]) * 5000 for i in range(50)]


@pytest.mark.parametrize("size", [1, JOINED_BYTES - 1, JOINED_BYTES, JOINED_BYTES + 1, 3 * JOINED_BYTES])
def test_several_buffers_of_any_kind_travel_as_one_payload(size: int) -> None:
    buffers = [b"a" * size, memoryview(b"bb" * size)[size:], bytearray(b"c"), b""]
    assert read(b"".join(map(bytes, frames.encode({"n": 1}, buffers))), [999]) == [({"n": 1}, b"a" * size + b"b" * size + b"c")]


def test_a_large_payload_is_not_copied() -> None:
    payload = memoryview(bytes(JOINED_BYTES + 1))
    assert frames.encode({}, [payload])[1] is payload


def test_an_absurd_header_is_a_broken_frame() -> None:
    reader = FrameReader()
    reader.buffer()[: PREFIX.size] = PREFIX.pack(HEADER_LIMIT_BYTES + 1, 0)
    with pytest.raises(BrokenFrame):
        list(reader.received(PREFIX.size))


def test_two_ends_of_a_socket_exchange_frames_until_one_closes() -> None:
    ours, theirs = socket.socketpair()
    items = [({"i": i}, bytes([i]) * (i * i * 1000)) for i in range(12)]

    def send_all() -> None:
        with ours:
            for header, payload in items:
                frames.send(ours, header, [payload[:10], payload[10:]])

    sender = threading.Thread(target=send_all)
    sender.start()
    with theirs:
        received = [(header, bytes(payload)) for header, payload in frames.receive(theirs)]
    sender.join()
    assert received == items
