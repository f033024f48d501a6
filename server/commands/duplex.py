"""One connection used in both directions at the same time, by one thread: while it waits for anything, it sends.

A descriptor that could block is read or written only when it is ready. So a program that pauses, or that feeds us all its records
before it reads a result, holds up nothing else. Knows descriptors and bytes. Knows nothing of HTTP except the chunks of a body.
"""

import io
import os
import select
import socket
import ssl
import stat
import time
from collections.abc import Callable
from typing import Any

READ_BYTES = 256 * 1024
# How an answer begins that asks for the body.
CONTINUE = b"HTTP/1.1 100"
# We send up to this many pieces before we look again at what was received.
PIECES_AT_ONCE = 4


def can_block(fd: int) -> bool:
    """Whether reading or writing may have to wait: a pipe, a socket, a terminal. A file never does."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


class Upload:
    """A body on its way from a descriptor to the connection.

    num_bytes  its length, if the head of the request announced one; None sends the body in chunks
    prepare    called with each piece, and with b"" at the end; returns the bytes to send, and may keep some back for later
    """

    def __init__(self, fd: int, prepare: Callable[[bytes], bytes], *, num_bytes: int | None) -> None:
        self.fd = fd
        self.can_block = can_block(fd)
        self.pending = memoryview(b"")  # already read, not yet sent
        self.is_read = False  # whether it was read to its end
        self.error: str | None = None  # why it could not be read to its end
        self._prepare = prepare
        self._num_left = num_bytes

    def read(self) -> None:
        """Read the next piece into `pending`."""
        try:
            data = os.read(self.fd, READ_BYTES if self._num_left is None else min(READ_BYTES, self._num_left))
        except OSError as error:
            self.error = str(error)
            return
        if self._num_left is None:
            self.pending = memoryview(_chunk(self._prepare(data), is_last=not data))
        elif not data and self._num_left:
            self.error = f"it is {self._num_left} bytes shorter than it was"
        else:
            self.pending = memoryview(self._prepare(data))
            self._num_left -= len(data)
        self.is_read = not data

    def give_up(self) -> None:
        """Drop what was not sent: nobody will take it."""
        self.pending, self.is_read = memoryview(b""), True


def _chunk(data: bytes, *, is_last: bool) -> bytes:
    chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return chunk + b"0\r\n\r\n" if is_last else chunk


class Duplex(io.RawIOBase):
    """What a connection receives, as a file. Every read also sends a part of the upload.

    holds_until  monotonic time until which nothing is sent, unless `release` is called before
    deadline     monotonic time after which waiting raises TimeoutError; None for no deadline
    """

    def __init__(self, connection: socket.socket, upload: Upload, *, holds_until: float, deadline: float | None) -> None:
        connection.setblocking(False)
        self.deadline = deadline
        self._connection = connection
        self._upload = upload
        self._holds_until = holds_until

    def release(self) -> None:
        """Allow everything to be sent, and remove the deadline."""
        self._holds_until = 0.0
        self.deadline = None

    # As a file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._send()
        while True:
            try:
                num_bytes = self._connection.recv_into(buffer)
                if self._holds_until and bytes(buffer[: len(CONTINUE)]) == CONTINUE:
                    self._holds_until = 0.0  # the server wants the body, and answers when it comes
                return num_bytes
            except (BlockingIOError, ssl.SSLWantReadError):
                self.wait(self._connection.fileno(), select.POLLIN)
            except ssl.SSLWantWriteError:
                self.wait(self._connection.fileno(), select.POLLOUT)

    def makefile(self, mode: str) -> io.BufferedReader:
        """http.client calls this to read from a socket."""
        return io.BufferedReader(self, READ_BYTES)

    # Both directions

    def wait(self, fd: int, event: int) -> None:
        """Send until this descriptor is ready. TimeoutError at the deadline."""
        while True:
            timeout_s = self._timeout_s()
            found = self._polled({fd: event}, timeout_s)
            self._send()
            if fd in found:
                return
            if not found and self.deadline is not None and time.monotonic() >= self.deadline:
                raise TimeoutError("the answer takes too long")

    def _polled(self, wanted: dict[int, int], timeout_s: float | None) -> set[int]:
        """Wait until a wanted descriptor is ready or sending can go on; returns the wanted descriptors that are ready."""
        poll = select.poll()
        events = dict(wanted)
        for fd, event in self._sending_waits_for():
            events[fd] = events.get(fd, 0) | event
        for fd, event in events.items():
            poll.register(fd, event)
        ready = dict(poll.poll(None if timeout_s is None else timeout_s * 1000))
        over = select.POLLERR | select.POLLHUP | select.POLLNVAL
        return {fd for fd, event in wanted.items() if ready.get(fd, 0) & (event | over)}

    def _timeout_s(self) -> float | None:
        times = [one for one in (self._holds_until or None, self.deadline) if one is not None]
        now = time.monotonic()
        later = [one - now for one in times if one > now]
        return min(later) if later else None if self.deadline is None else 0.0

    # Sending

    def _sending_waits_for(self) -> list[tuple[int, int]]:
        if not self._may_send():
            return []
        if self._upload.pending:
            return [(self._connection.fileno(), select.POLLOUT)]
        return [] if self._upload.is_read else [(self._upload.fd, select.POLLIN)]

    def _may_send(self) -> bool:
        return time.monotonic() >= self._holds_until

    def _send(self) -> None:
        """Send what can be sent without waiting, but at most PIECES_AT_ONCE pieces, so that the caller gets its turn."""
        upload = self._upload
        try:
            for _ in range(PIECES_AT_ONCE):
                if not self._may_send() or not self._has_piece():
                    return
                while upload.pending:
                    upload.pending = upload.pending[self._connection.send(upload.pending) :]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError:  # the other side is gone or wants no more; readinto still reads what it has sent
            upload.give_up()

    def _has_piece(self) -> bool:
        """Whether there is something to send, read now if that does not have to wait."""
        upload = self._upload
        if not upload.pending and not upload.is_read and self._can_read():
            upload.read()
            if upload.error:
                upload.give_up()
                self._connection.shutdown(socket.SHUT_RDWR)  # we cannot finish the body, so we want no answer to it
        return bool(upload.pending)

    def _can_read(self) -> bool:
        if not self._upload.can_block:
            return True
        poll = select.poll()
        poll.register(self._upload.fd, select.POLLIN)
        return bool(poll.poll(0))
