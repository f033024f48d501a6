"""One connection used in both directions at the same time, by one thread: whoever waits for something sends meanwhile.

Blocking calls are made on what is ready only, so that a client which sends everything before it reads anything, a reader that pauses and
a Ctrl-C all meet somebody who listens. Knows descriptors and bytes. Knows nothing of HTTP, but for the chunks of a body.
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


def can_block(fd: int) -> bool:
    """Whether reading or writing may have to wait: a pipe, a socket, a terminal. A file never does."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


class Upload:
    """A body on its way from a descriptor to the connection.

    prepare     what becomes of each piece, and of b"" at the end, before it is sent; it may hold something back
    is_chunked  the body has no length that was told before
    """

    def __init__(self, fd: int, prepare: Callable[[bytes], bytes], *, is_chunked: bool) -> None:
        self.fd = fd
        self.can_block = can_block(fd)
        self.pending = memoryview(b"")  # read and not yet sent
        self.is_read = False  # to its end
        self.error: OSError | None = None  # why it could not be read
        self._prepare = prepare
        self._is_chunked = is_chunked

    def read(self) -> None:
        """Make the next piece pending."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except OSError as error:
            self.error = error
            data = b""
        self.is_read = not data
        piece = self._prepare(data)
        if self._is_chunked:
            piece = (b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"") + (b"" if data else b"0\r\n\r\n")
        self.pending = memoryview(piece)

    def give_up(self) -> None:
        """Nobody takes the rest."""
        self.pending, self.is_read = memoryview(b""), True


class Duplex(io.RawIOBase):
    """What a connection receives, as a file; it sends an upload whenever it is asked for something.

    holds_until  monotonic time until which nothing is sent, unless `release` is called before
    deadline     monotonic time at which waiting ends with TimeoutError; None for never
    """

    def __init__(self, connection: socket.socket, upload: Upload, *, holds_until: float, deadline: float | None) -> None:
        connection.setblocking(False)
        self.deadline = deadline
        self._connection = connection
        self._upload = upload
        self._holds_until = holds_until

    def release(self) -> None:
        """From now on everything may be sent, and there is no deadline."""
        self._holds_until = 0.0
        self.deadline = None

    # As a file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._send()
        while True:
            try:
                return self._connection.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                self.wait(self._connection.fileno(), select.POLLIN)
            except ssl.SSLWantWriteError:
                self.wait(self._connection.fileno(), select.POLLOUT)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks of a socket."""
        return io.BufferedReader(self, READ_BYTES)

    # Both directions

    def wait(self, fd: int, event: int) -> None:
        """Until this descriptor is ready; meanwhile send. TimeoutError at the deadline."""
        while True:
            timeout_s = self._timeout_s()
            found = self._polled({fd: event}, timeout_s)
            self._send()
            if fd in found:
                return
            if not found and self.deadline is not None and time.monotonic() >= self.deadline:
                raise TimeoutError("it takes too long")

    def _polled(self, wanted: dict[int, int], timeout_s: float | None) -> set[int]:
        """Those of the wanted descriptors that are ready, once one is or sending can go on."""
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
        """As much as goes without waiting, but not for ever: somebody may be waiting for us."""
        upload = self._upload
        for _ in range(PIECES_AT_ONCE):
            if not self._may_send() or (not upload.pending and (upload.is_read or not self._can_read())):
                return
            if not upload.pending:
                upload.read()
            try:
                while upload.pending:
                    upload.pending = upload.pending[self._connection.send(upload.pending) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError:  # the other side is gone or wants no more; what it still has to say is read by readinto
                upload.give_up()

    def _can_read(self) -> bool:
        if not self._upload.can_block:
            return True
        poll = select.poll()
        poll.register(self._upload.fd, select.POLLIN)
        return bool(poll.poll(0))


PIECES_AT_ONCE = 4
