"""Predictions over a WebSocket: each text message is a record, each answer a text message, in order.

One record of a socket is in flight and MAX_QUEUED more wait here, or fewer that have QUEUED_BYTES together. Beyond that we take
nothing from the socket, and aiohttp stops reading it as soon as it holds 512 KiB. Credentials and the model were checked at the
upgrade. Knows nothing of what a record holds.
"""

import asyncio
import contextlib
import enum
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WebSocketError, WSMsgType, hdrs, web

from engine import metrics
from engine.errors import EngineError
from engine.replicas.blocks import Arguments
from engine.repository.index import Version
from handlers.http.errors import dumps, json_response
from handlers.http.keys import ENGINE
from handlers.streaming.keys import PREDICTIONS, STREAMING_LIMITS

log = logging.getLogger("sluice.websocket")

MAX_QUEUED = 16
# Enough for 16 records of 16 KiB. With one longer record behind them, a socket never holds more than this and the longest line.
QUEUED_BYTES = 256 * 1024
PING_INTERVAL_S = 30.0
# A client gets this long to answer our close, or to finish sending a message that was refused.
CLOSE_TIMEOUT_S = 5.0
LINGER_READ_BYTES = 256 * 1024


class CloseCode(enum.IntEnum):
    """The codes with which we close a socket (RFC 6455, section 7.4.1). aiohttp itself also uses 1002 and 1009."""

    GOING_AWAY = 1001  # the server is draining
    UNSUPPORTED_DATA = 1003  # a binary message
    POLICY_VIOLATION = 1008  # the key was replaced, or its user removed
    INTERNAL_ERROR = 1011


REASONS = {
    CloseCode.GOING_AWAY: b"the server is shutting down",
    CloseCode.INTERNAL_ERROR: b"internal error",
    CloseCode.POLICY_VIOLATION: b"the key is not valid any more",
    CloseCode.UNSUPPORTED_DATA: b"send records as text messages",
}


def is_upgrade(request: web.Request) -> bool:
    return request.method == hdrs.METH_GET and request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket"


@dataclass(frozen=True, slots=True)
class Question:
    """What all records of a socket share.

    title         owner/name of the model, for the log
    find_version  gives the version that answers now, so that a rollback or a deletion holds from the next record on; EngineError
    arguments     what the replica is told of the query parameters
    """

    title: str
    find_version: Callable[[], Version]
    arguments: Arguments


class Conversation:
    """One socket from its upgrade to its end."""

    def __init__(self, request: web.Request, question: Question) -> None:
        limits = request.app[STREAMING_LIMITS]
        self._request = request
        self._question = question
        self._engine = request.app[ENGINE]
        self._predictions = request.app[PREDICTIONS]
        self._stall_timeout_s = limits.stall_timeout_s
        # Without aiohttp's heartbeat, which would close a socket that we do not read as one that does not answer. Without
        # compression, which would be work on the event loop. Text stays bytes, since a replica decodes it. `max_msg_size` is the
        # smallest size that aiohttp refuses.
        self._socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            max_msg_size=limits.line_limit_bytes + 1,
            autoping=False,
            compress=False,
            decode_text=False,
        )
        self._records: asyncio.Queue[bytes] = asyncio.Queue(MAX_QUEUED)
        self._num_bytes = 0  # of the records that are not answered
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._was_heard = True  # the client has sent something since our last ping
        self._revoked = asyncio.Event()
        self._num_answered = 0
        self._code: int | None = None  # with which the socket was closed; None when the client just left
        self._kept: socket.socket | None = None  # our own handle on a connection that aiohttp is about to drop

    async def run(self) -> web.StreamResponse:
        """Talk until either side closes. Returns the response, which the handler gives back to aiohttp. EngineError: no upgrade."""
        self._engine.check_open()
        started = time.monotonic()
        try:
            await self._socket.prepare(self._request)
        except web.HTTPBadRequest as error:
            return json_response({"error": error.text}, status=400, headers={"Sec-WebSocket-Version": "13"})
        metrics.request_answered("websocket", self._socket.status, time.monotonic() - started)
        with metrics.WEBSOCKETS.track_inprogress():
            await self._talk()
            await self._linger()
        seconds = time.monotonic() - started
        log.info(
            "websocket closed model=%s records=%d code=%s seconds=%.3f",
            *(self._question.title, self._num_answered, self._code or "-", seconds),
        )
        return self._socket

    def revoke(self) -> None:
        """The caller's key has ended: close the socket, and answer no more records."""
        self._revoked.set()

    async def _talk(self) -> None:
        reader = asyncio.create_task(self._read(), name="websocket read")
        answerer = asyncio.create_task(self._answer_all(), name="websocket answer")
        pinger = asyncio.create_task(self._ping(), name="websocket ping")
        draining = asyncio.create_task(self._engine.draining.wait(), name="websocket draining")
        revoked = asyncio.create_task(self._revoked.wait(), name="websocket revoked")
        tasks = (reader, answerer, pinger, draining, revoked)
        try:
            await asyncio.wait((reader, answerer, draining, revoked), return_when=asyncio.FIRST_COMPLETED)
            code = reader.result() if reader.done() else CloseCode.GOING_AWAY
            if revoked.done():
                code = CloseCode.POLICY_VIOLATION
                answerer.cancel()
            reader.cancel()
            if code is not None and not answerer.done():
                self._code = code
                await self._finish(answerer, code)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, answerer: asyncio.Task[None], code: CloseCode) -> None:
        """Answer the records that were taken from the socket, unless the caller may have no more answers; then close it."""
        if code is CloseCode.POLICY_VIOLATION:
            await self._socket.close(code=code, message=REASONS[code])
            return
        all_answered = asyncio.create_task(self._records.join(), name="websocket finish")
        try:
            await asyncio.wait((all_answered, answerer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            all_answered.cancel()
        await self._socket.close(code=code, message=REASONS[code])

    async def _linger(self) -> None:
        """Read and throw away what a refused client still sends: if we closed now, a reset would overtake our close message."""
        if self._kept is None:
            return
        with self._kept as kept, contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                while await asyncio.get_running_loop().sock_recv(kept, LINGER_READ_BYTES):
                    pass

    # Reading

    async def _read(self) -> CloseCode | None:
        """Take records from the socket. Returns the code to close it with, or None when it is closed already."""
        try:
            while True:
                message = await self._socket.receive()
                self._was_heard = True
                if message.type is WSMsgType.TEXT:
                    await self._take(message.data)
                elif message.type is WSMsgType.BINARY:
                    return CloseCode.UNSUPPORTED_DATA
                elif message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is WSMsgType.ERROR:
                    self._refused(message.data)
                    return None
                elif message.type is not WSMsgType.PONG:
                    self._code = message.data  # the client's code, if it named one
                    return None
        except ConnectionError:
            return None
        except Exception:  # a fault of ours must end this socket, not leave it open and unread
            log.exception("websocket failed")
            return CloseCode.INTERNAL_ERROR

    async def _take(self, record: bytes) -> None:
        """Queue a record, and wait until there is room for another one."""
        await self._records.put(record)
        self._num_bytes += len(record)
        if self._num_bytes >= QUEUED_BYTES:
            self._has_room.clear()
            await self._has_room.wait()

    def _answered(self, record: bytes) -> None:
        self._num_answered += 1
        self._records.task_done()
        self._num_bytes -= len(record)
        if self._num_bytes < QUEUED_BYTES:
            self._has_room.set()

    @property
    def _is_full(self) -> bool:
        return self._records.full() or not self._has_room.is_set()

    def _refused(self, error: BaseException) -> None:
        """Note why aiohttp gave up: a lost connection, a message over the limit, or bytes that are not a WebSocket message.

        After a bad message aiohttp sends its close and drops the connection. We keep a handle on it, so that the close arrives.
        """
        transport = self._request.transport
        if isinstance(error, WebSocketError) and transport is not None:
            self._code = error.code
            self._kept = socket.fromfd(transport.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM)
            self._kept.setblocking(False)

    async def _ping(self) -> None:
        """Ping, so that nothing on the way takes the connection for dead, and abort it when the client does not answer.

        While the queue is full we read nothing, so we could not see an answer and do not expect one.
        """
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            if not self._was_heard and not self._is_full:
                return self._abort()
            self._was_heard = False
            await self._socket.ping()

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    # Answering

    async def _answer_all(self) -> None:
        """Answer one record after the other, as long as the client takes the answers."""
        try:
            while True:
                record = await self._records.get()
                answer = await self._answer(record)
                async with asyncio.timeout(self._stall_timeout_s):
                    await self._socket.send_frame(answer, WSMsgType.TEXT)
                self._answered(record)
        except (ConnectionError, TimeoutError):
            self._abort()

    async def _answer(self, record: bytes) -> bytes:
        """The answer to one record: a result, or the reason why there is none."""
        try:
            return await self._predict(record)
        except EngineError as error:
            metrics.REJECTED.labels(error.code).inc()
            return dumps({"code": error.code, "error": error.message})
        except Exception:  # after a fault of ours the client must not wait for this answer for ever
            log.exception("record failed")
            return dumps({"code": "internal", "error": "internal error"})

    async def _predict(self, record: bytes) -> bytes:
        if not self._engine.is_draining:  # records that were taken before a drain are still answered
            self._predictions.check_capacity(is_stream=False, user=None)
        prediction = await self._predictions.predict(self._question.find_version(), record, self._question.arguments)
        if prediction.code is not None and prediction.body.startswith(b'{"error"'):
            return b'{"code":"%b",' % prediction.code.encode() + prediction.body[1:]  # a message has no status to tell the kind
        return prediction.body
