"""Frames: what travels between the server process and a replica.

A frame is a prefix (two little-endian integers: header bytes, payload bytes), a JSON header and a payload of raw bytes. Both
sides use this file; nothing here knows what a header means or where the other side runs.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ujson

Header = dict[str, Any]
Buffer = bytes | bytearray | memoryview

LINE_END = b"\n"

PREFIX = struct.Struct("<IQ")
# Small frames arrive in one read of this size; the payload of a larger one is read straight into its own memory.
SCRATCH_BYTES = 64 * 1024
# Below this one write of a copy is cheaper than a gathering write of pieces.
JOINED_BYTES = 16 * 1024
HEADER_LIMIT_BYTES = 64 * 1024 * 1024


class BrokenFrame(Exception):
    """The other side sent something that is not a frame; the connection is of no more use."""


def encode(header: Header, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """The buffers of one frame, ready for a gathering write; a small payload is joined to its head, a large one not copied."""
    head = ujson.dumps(header).encode()
    payload_bytes = sum(map(len, buffers))
    head = PREFIX.pack(len(head), payload_bytes) + head
    return [b"".join((head, *buffers))] if payload_bytes <= JOINED_BYTES else [head, *buffers]


class FrameReader:
    """Cuts frames out of bytes that arrive in any pieces: ask `buffer()` where to read to, then say `received(n)`."""

    def __init__(self) -> None:
        self._scratch = bytearray(SCRATCH_BYTES)
        self._start = 0
        self._end = 0
        self._large: bytearray | None = None
        self._large_end = 0
        self._large_header = 0

    def buffer(self) -> memoryview:
        """Free memory to read into, never empty."""
        if self._large is not None:
            return memoryview(self._large)[self._large_end :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == SCRATCH_BYTES:
            self._move_to_front()
        return memoryview(self._scratch)[self._end :]

    def received(self, num_bytes: int) -> Iterator[tuple[Header, memoryview]]:
        """Take note of bytes read into `buffer()`; yields every frame that is now whole, as (header, payload)."""
        if self._large is not None:
            self._large_end += num_bytes
            if self._large_end == len(self._large):
                whole, self._large = self._large, None
                yield self._frame(memoryview(whole), self._large_header)
            return
        self._end += num_bytes
        while self._end - self._start >= PREFIX.size:
            header_bytes, payload_bytes = PREFIX.unpack_from(self._scratch, self._start)
            if header_bytes > HEADER_LIMIT_BYTES:
                raise BrokenFrame("header too long")
            body_start = self._start + PREFIX.size
            body_bytes = header_bytes + payload_bytes
            if body_start + body_bytes > self._end:
                if PREFIX.size + body_bytes > SCRATCH_BYTES:
                    self._begin_large(body_start, header_bytes, body_bytes)
                return
            body = memoryview(bytes(self._scratch[body_start : body_start + body_bytes]))
            self._start = body_start + body_bytes
            yield self._frame(body, header_bytes)

    @staticmethod
    def _frame(body: memoryview, header_bytes: int) -> tuple[Header, memoryview]:
        return ujson.loads(bytes(body[:header_bytes])), body[header_bytes:]

    def _begin_large(self, body_start: int, header_bytes: int, body_bytes: int) -> None:
        self._large = bytearray(body_bytes)
        self._large_header = header_bytes
        self._large_end = self._end - body_start
        self._large[: self._large_end] = self._scratch[body_start : self._end]
        self._start = self._end = 0

    def _move_to_front(self) -> None:
        waiting = self._scratch[self._start : self._end]
        self._scratch[: len(waiting)] = waiting
        self._start, self._end = 0, len(waiting)


def cut(payload: memoryview, sizes: Iterable[int]) -> list[memoryview]:
    """The payload in consecutive pieces of these sizes, none of them copied."""
    pieces: list[memoryview] = []
    start = 0
    for size in sizes:
        pieces.append(payload[start : start + size])
        start += size
    return pieces


def receive(connection: socket.socket) -> Iterator[tuple[Header, memoryview]]:
    """Frames of a blocking socket, until the other side closes it."""
    reader = FrameReader()
    while num_bytes := connection.recv_into(reader.buffer()):
        yield from reader.received(num_bytes)


def send(connection: socket.socket, header: Header, buffers: Sequence[Buffer] = ()) -> None:
    """Write one frame to a blocking socket."""
    for buffer in encode(header, buffers):
        connection.sendall(buffer)
