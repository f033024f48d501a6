"""Connections: how many may be open, and the end of those that a client holds for nothing.

A request has time limits of its own. This file deals with what lies around requests: a head that does not come, an answer that
nobody reads, and more connections than the server can have. Knows sockets and bytes. Knows nothing of what a request asks for.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import sys
import termios
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, cast

from aiohttp import ClientConnectionResetError, web

from engine import metrics
from engine.errors import Code, EngineError, Kind

log = logging.getLogger("sluice.connections")

TOO_MANY_CONNECTIONS = Code("too_many_connections", Kind.UNAVAILABLE, "SLUICE_MAX_CONNECTIONS connections are open")

# Connections beyond the limit that are still accepted. They get one answer each: /healthcheck, or a 503 that says why.
NUM_SPARE = 32
# What a connection gets that finds no spare place either.
NO_PLACE = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
# A connection without a request for this long may be closed to make room. A client that is busy asks again much sooner.
IDLE_S = 5.0
# A search for idle connections takes about a millisecond for 4,096 of them, so we do not search for each refused connection anew.
SEARCH_INTERVAL_S = 0.25
# We look at all connections this often, or four times within the shortest time limit. A look costs 1 to 3 microseconds, so we let
# others go on after this number of them.
LOOK_INTERVAL_S = 5.0
LOOKS_AT_ONCE = 256
# What is told of a request that is no HTTP.
REASON_CHARACTERS = 200
# struct tcp_info of Linux 4.1 and later: tcpi_bytes_acked is the u64 at byte 120.
TCP_INFO_BYTES = 128
ACKED_BYTES = slice(120, 128)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What connections are held to. Settings of server/config.py, by the same names."""

    max_connections: int
    head_timeout_s: float
    stall_timeout_s: float


class Connections:
    """Every open connection of the server."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._next_search_at = 0.0

    def factory(self, server: web.Server, **options: Any) -> "Callable[[], Connection]":
        """What makes the protocol of each new connection.

        options  as aiohttp.web.RequestHandler takes them
        """
        loop = asyncio.get_running_loop()
        return lambda: Connection(self, server, loop=loop, **options)

    async def watch(self) -> None:
        """End connections that are over a time limit, for ever. No event tells of what does not happen, so we look at intervals."""
        interval_s = min(LOOK_INTERVAL_S, self.limits.head_timeout_s / 4, self.limits.stall_timeout_s / 4)
        while True:
            await asyncio.sleep(interval_s)
            for i, connection in enumerate(list(self._open), 1):
                try:
                    connection.look(self.limits)
                except Exception:  # a fault of ours with one connection must not end the watch over all others
                    log.exception("looking at a connection failed")
                if i % LOOKS_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def admit(self, connection: "Connection") -> bool:
        """Find a place for a new connection. False when even the spare places are taken."""
        if len(self._open) >= self.limits.max_connections:
            self._make_room()
        connection.is_spare = len(self._open) >= self.limits.max_connections
        if len(self._open) >= self.limits.max_connections + NUM_SPARE:
            metrics.CONNECTIONS_ENDED.labels("refused").inc()
            return False
        self._open.add(connection)
        return True

    def forget(self, connection: "Connection") -> None:
        self._open.discard(connection)

    def levels(self) -> metrics.Levels:
        return {metrics.CONNECTIONS: {(): len(self._open)}}

    def _make_room(self) -> None:
        """Close those that have had no request for the longest time, and for IDLE_S at least: up to a hundredth of all."""
        now = time.monotonic()
        if now < self._next_search_at:
            return
        self._next_search_at = now + SEARCH_INTERVAL_S
        idle = [(since, id(one), one) for one in self._open if (since := one.idle_since) is not None and now - since > IDLE_S]
        for _, _, connection in sorted(idle)[: 1 + self.limits.max_connections // 100]:
            connection.end("idle")
            self.forget(connection)


# Called for every piece that a client sends, so we do not look it up each time.
_take_bytes = web.RequestHandler.data_received
# The work on one request, which aiohttp's loop over the requests of a connection makes a task of.
_HANDLE_REQUEST = web.RequestHandler._handle_request.__code__


class Connection(web.RequestHandler):
    """One connection. aiohttp does the HTTP; this class knows since when we wait for the client.

    is_spare    the connection was accepted beyond the limit
    is_guarded  the request that runs watches for itself whether its client reads
    """

    __slots__ = ("_acked_at", "_acked_bytes", "_connections", "_head_began_at", "_line", "is_guarded", "is_spare")

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        if sys.version_info < (3, 12):
            self._loop = cast(asyncio.AbstractEventLoop, _InOneTask(self._loop))
        self.is_spare = False
        self.is_guarded = False
        self._connections = connections
        self._line: asyncio.Transport | None = None  # aiohttp lets go of its own reference before everything has been sent
        self._head_began_at: float | None = time.monotonic()  # None while we do not wait for the rest of a head
        self._acked_bytes: int | None = None  # at the last look, if bytes waited then
        self._acked_at = 0.0

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        line = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from it
        if not self._connections.admit(self):
            line.write(NO_PLACE)
            line.close()
            return
        self._line = line
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.forget(self)
        self._line = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        _take_bytes(self, data)
        if self._messages:
            self._head_began_at = None
        elif data and self._waiter is not None and self._head_began_at is None:
            self._head_began_at = time.monotonic()  # aiohttp waits for a request, and this is not a whole head

    async def _drain_helper(self) -> None:
        """Wait until there is room to write.

        aiohttp lets everybody who waits for room await one future, so that cancelling one of them cancels the others, and all that
        will write to this connection later. Here each can be cancelled alone.
        """
        if self.transport is None:
            raise ClientConnectionResetError("Connection lost")
        if not self._paused:
            return
        if self._drain_waiter is None:
            self._drain_waiter = self._loop.create_future()
            self._drain_waiter.add_done_callback(_note_error)
        await asyncio.shield(self._drain_waiter)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no HTTP.

        aiohttp would repeat all that it could not read, in escapes: up to five times what one read of the socket gives.
        """
        reason = message.partition("\n")[0][:REASON_CHARACTERS] if message else None
        response = super().handle_error(request, status, exc, reason)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    # What the client has let us wait for

    @property
    def idle_since(self) -> float | None:
        """Since when the connection has waited for a request, on the monotonic clock; None while it answers one."""
        if self._waiter is None or self._messages:
            return None
        # aiohttp sets this time when the connection opens and after each answer. Its loop has the monotonic clock, too.
        return self._next_keepalive_close_time - self.keepalive_timeout

    def look(self, limits: ConnectionLimits) -> None:
        """End the connection if it is over a time limit."""
        now = time.monotonic()
        began_at = self._head_began_at
        if began_at is not None and self._waiter is not None and now - began_at > limits.head_timeout_s:
            self.end("slow_head")
        elif not self.is_guarded and self._is_stalled(now, limits.stall_timeout_s):
            self.end("stalled")

    def end(self, reason: str) -> None:
        """Drop the connection, with what the client has not read."""
        if self._line is not None:
            metrics.CONNECTIONS_ENDED.labels(reason).inc()
            self._line.abort()

    def _is_stalled(self, now: float, timeout_s: float) -> bool:
        """Whether bytes have waited for the client all this time, and it has taken none."""
        if self._line is None or not self._line.get_write_buffer_size() + unsent_bytes(self._line):
            self._acked_bytes = None
            return False
        acked_bytes = _acked_bytes(self._line)
        if acked_bytes != self._acked_bytes:
            self._acked_bytes, self._acked_at = acked_bytes, now
        return now - self._acked_at > timeout_s


class _InOneTask:
    """The event loop of a connection that answers each request in its own task.

    Up to Python 3.11 aiohttp makes another task for each request, and waits for it; on later ones such a task begins at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time = loop.time
        self.call_at = loop.call_at
        self.create_future = loop.create_future
        self._loop = loop

    def create_task(self, work: "CoroutineType[Any, Any, Any]") -> Awaitable[Any]:
        return work if work.cr_code is _HANDLE_REQUEST else self._loop.create_task(work)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def _note_error(waiter: "asyncio.Future[None]") -> None:
    """Look at how a future ended. asyncio logs an error that nobody has looked at, and all who waited may have been cancelled."""
    if not waiter.cancelled():
        waiter.exception()


def has_more(request: web.Request) -> bool:
    """Whether the client has sent more requests behind this one. Those that wait for nothing are answered without a pause."""
    return bool(getattr(request.protocol, "_messages", None))


def is_spare(request: web.Request) -> bool:
    """Whether the connection of a request was accepted beyond the limit."""
    return getattr(request.protocol, "is_spare", False)


def check_spare(request: web.Request) -> None:
    """EngineError `too_many_connections`: on a connection beyond the limit only /healthcheck is answered."""
    if request.path.rstrip("/") != "/healthcheck":
        raise EngineError(TOO_MANY_CONNECTIONS, "too many connections", retry_after_s=1)


@contextlib.contextmanager
def guarding(request: web.Request) -> Iterator[None]:
    """While the context is open, the request itself watches whether its client reads."""
    connection = request.protocol
    if not isinstance(connection, Connection):  # the application runs in another server of aiohttp, which watches nothing
        yield
        return
    connection.is_guarded = True
    try:
        yield
    finally:
        connection.is_guarded = False


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the kernel holds because the client's side has not acknowledged them; 0 where the system does not tell."""
    connection = transport.get_extra_info("socket")
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
    except (OSError, AttributeError, ValueError):  # ValueError for a socket that was closed meanwhile
        return 0


def _acked_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the client's side has acknowledged since the connection opened. Where the system does not tell, what it has left.

    The bytes that wait would be a bad measure of their own: a sender that fills its buffer again at once always has the same.
    """
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        if len(info) == TCP_INFO_BYTES:
            return int.from_bytes(info[ACKED_BYTES], sys.byteorder)
    return -transport.get_write_buffer_size() - unsent_bytes(transport)
