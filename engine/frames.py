"""Frames: the messages between the server process and a replica.

A frame is a prefix (two little-endian integers: header bytes, payload bytes), a JSON header and a payload of raw bytes. Both
sides use this file. Nothing here knows what a header means or where the other side runs.
"""

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ujson

Header = dict[str, Any]
Buffer = bytes | bytearray | memoryview

LINE_END = b"\n"

PREFIX = struct.Struct("<IQ")
# Small frames are read together, this many bytes at most; the rest of a larger frame is read straight into its own memory.
SCRATCH_BYTES = 64 * 1024
# Up to this size, copying the payload behind the header and writing both at once costs less than a gathering write.
JOINED_BYTES = 16 * 1024
HEADER_LIMIT_BYTES = 64 * 1024 * 1024
# The memory of so many large frames is used again, each of this size at most: it is neither filled with zeros nor fetched anew.
KEPT_FRAMES, KEPT_FRAME_BYTES = 4, 2 * 1024 * 1024


class BrokenFrame(Exception):
    """The other side sent something that is not a frame. The connection cannot be used any more."""


def encode(header: Header, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """The buffers of one frame, ready for a gathering write. A small payload is joined to the header, a large one is not copied."""
    head = ujson.dumps(header).encode()
    payload_bytes = sum(map(len, buffers))
    head = PREFIX.pack(len(head), payload_bytes) + head
    return [b"".join((head, *buffers))] if payload_bytes <= JOINED_BYTES else [head, *buffers]


def _is_free(memory: bytearray) -> bool:
    """Whether nothing shows a part of this memory: while a view of it lives, its length cannot change."""
    try:
        memory.append(memory.pop())
    except BufferError:
        return False
    return True


class FrameMemory:
    """Memory for large frames, used again when no view of it lives. A frame takes it out first, so threads may share it."""

    def __init__(self) -> None:
        self._kept: deque[bytearray] = deque(maxlen=KEPT_FRAMES)

    def view(self, num_bytes: int) -> memoryview:
        """So many bytes, of memory that is at most twice as large; nobody gets them again while a view of them lives."""
        if num_bytes > KEPT_FRAME_BYTES:
            return memoryview(bytearray(num_bytes))
        memory = self._take(num_bytes) or bytearray(-(-num_bytes // SCRATCH_BYTES) * SCRATCH_BYTES)
        view = memoryview(memory)[:num_bytes]
        self._kept.append(memory)
        return view

    def _take(self, num_bytes: int) -> bytearray | None:
        with contextlib.suppress(IndexError):  # another thread has taken the last one
            for _ in range(len(self._kept)):
                memory = self._kept.pop()
                if num_bytes <= len(memory) <= 2 * num_bytes and _is_free(memory):
                    return memory
                self._kept.appendleft(memory)
        return None


# All readers of a process share it, so that it does not grow with the replicas.
SHARED_MEMORY = FrameMemory()


class FrameReader:
    """Cuts the bytes that arrive into frames: read into `buffer()`, then call `received(n)` with the number of bytes read."""

    def __init__(self, memory: FrameMemory = SHARED_MEMORY) -> None:
        self._memory = memory
        self._scratch = bytearray(SCRATCH_BYTES)
        self._start = 0
        self._end = 0
        self._large: memoryview | None = None
        self._large_end = 0
        self._large_header = 0

    def buffer(self) -> memoryview:
        """Free memory to read into, never empty."""
        if self._large is not None:
            return self._large[self._large_end :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == SCRATCH_BYTES:
            self._move_to_front()
        return memoryview(self._scratch)[self._end :]

    def received(self, num_bytes: int) -> Iterator[tuple[Header, memoryview]]:
        """Count the bytes read into `buffer()` and yield every frame that is now complete, as (header, payload)."""
        if self._large is not None:
            self._large_end += num_bytes
            if self._large_end == len(self._large):
                whole, self._large = self._large, None
                yield self._frame(whole, self._large_header)
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
        self._large = self._memory.view(body_bytes)
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
    """The frames that arrive on a blocking socket, until the other side closes it."""
    reader = FrameReader()
    while num_bytes := connection.recv_into(reader.buffer()):
        yield from reader.received(num_bytes)


def send(connection: socket.socket, header: Header, buffers: Sequence[Buffer] = ()) -> None:
    """Write one frame to a blocking socket."""
    for buffer in encode(header, buffers):
        connection.sendall(buffer)
