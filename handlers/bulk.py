"""One bulk request on its socket: reading, scoring and writing at the same time.

Moves bytes between the socket and engine/stream.py, and decides how the exchange ends: clean, cut, or left by the client.
"""

import asyncio
import fcntl
import logging
import sys
import termios
import time
from dataclasses import dataclass

from aiohttp import web

from engine import metrics
from engine.errors import STREAM_CODES
from engine.streaming.stream import Stream, StreamFailure
from handlers.http.errors import dumps
from handlers.http.lines import BadEncoding, LineCutter, decoder

log = logging.getLogger("sluice.bulk")

NDJSON = "application/x-ndjson"
# What Accept may ask for; the lines are the same.
JSON_TYPES = ("application/x-ndjson", "application/json", "application/jsonl", "application/jsonlines")
# A cut stream's last line gets this long to reach the client, and the client this long to notice before the socket is gone.
CUT_FLUSH_S = 2.0
CUT_LINGER_S = 10.0
GUARD_INTERVAL_S = 1.0
FRAMING_CHECK_S = 1.0
# More than what can wait in our buffer when the writer is done: 64 KiB, and one write of as much again.
FINISH_BUFFER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """What a bulk request is held to. Settings of server/config.py, by the same names; 0 s = never for the idle timeout."""

    line_limit_bytes: int
    decoded_limit_bytes: int
    idle_timeout_s: float
    stall_timeout_s: float


class Exchange:
    """Request body in, response body out, on one connection."""

    def __init__(self, request: web.Request, response: web.StreamResponse, stream: Stream, options: BulkOptions) -> None:
        self._request = request
        self._response = response
        self._stream = stream
        self._options = options
        self._decoder = decoder(request.headers.get("Content-Encoding", "").strip().lower())
        self._cutter = LineCutter(options.line_limit_bytes)
        self._written_bytes = 0
        self._started = time.monotonic()
        self._has_client_left = False
        self._is_flushed = False

    async def run(self, *, with_summary: bool) -> web.StreamResponse:
        """Until the stream has ended, failed or was left; the response to give back to the framework."""
        await self._response.prepare(self._request)
        reader = asyncio.create_task(self._read(), name=f"read {self._stream.bulk_id}")
        writer = asyncio.create_task(self._write(with_summary), name=f"write {self._stream.bulk_id}")
        guard = asyncio.create_task(self._guard(), name=f"guard {self._stream.bulk_id}")
        broken = asyncio.create_task(self._stream.broken.wait(), name=f"broken {self._stream.bulk_id}")
        tasks = (reader, writer, guard, broken)
        try:
            await asyncio.wait((writer, broken), return_when=asyncio.FIRST_COMPLETED)
            # What was answered before a failure still goes out, if the client takes it.
            await asyncio.wait((writer,), timeout=CUT_FLUSH_S)
            self._is_flushed = writer.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return await self._end()

    # Reading

    async def _read(self) -> None:
        """The body into the stream, as fast as the stream has room. Every way it can break off is decided here."""
        stream = self._stream
        try:
            await self._read_body()
        except BadEncoding as error:
            stream.body_ended(StreamFailure("bad_encoding", str(error)))
        except web.RequestPayloadError:
            stream.body_ended(StreamFailure("bad_encoding", "the chunks of the body are broken"))
        except TimeoutError:
            stream.body_ended(StreamFailure("idle_timeout", STREAM_CODES["idle_timeout"]))
        except StreamFailure as failure:
            stream.body_ended(failure)
        except ConnectionError:
            self._leave()
        except Exception:  # a fault of ours must end this stream as a cut, not as a silence
            log.exception("reading failed bulk_id=%s", stream.bulk_id)
            stream.fail(StreamFailure("internal", STREAM_CODES["internal"]))

    async def _read_body(self) -> None:
        stream = self._stream
        idle_timeout_s = self._options.idle_timeout_s or None
        while True:
            async with asyncio.timeout(idle_timeout_s):
                data = await read_some(self._request)
            if not data:
                break
            for decoded in self._decoder.feed(data):
                self._take(decoded)
                await stream.room(self._taken_bytes)
            if stream.departed:
                return
        self._decoder.finish()
        for segment in self._cutter.finish():
            stream.feed(segment)
        stream.body_ended()
        stream.offer()

    def _take(self, decoded: bytes) -> None:
        stream = self._stream
        stream.counts.bytes_in += len(decoded)
        if stream.counts.bytes_in > self._options.decoded_limit_bytes and "Content-Encoding" in self._request.headers:
            raise StreamFailure("too_large", f"the body decodes to more than {self._options.decoded_limit_bytes} bytes")
        for segment in self._cutter.feed(decoded):
            stream.feed(segment)
        stream.offer()

    # Writing

    async def _write(self, with_summary: bool) -> None:
        """The outbox into the socket, until the stream closes it and the client has taken nearly all: _finish must not wait."""
        stream = self._stream
        try:
            while (piece := await stream.outbox.get()) is not None:
                self._written_bytes += len(piece)
                await self._response.write(piece)
                stream.counts.bytes_out += len(piece)
                stream.taken()
            if with_summary and stream.failure is None and not self._has_client_left:
                await self._response.write(self._summary())
            await self._request.writer.drain()
        except ConnectionError:
            self._leave()
        except Exception:  # a full disk, a fault of ours: what is missing must never look like a clean end
            log.exception("writing failed bulk_id=%s", stream.bulk_id)
            stream.fail(StreamFailure("internal", STREAM_CODES["internal"]))

    def _taken_bytes(self) -> int:
        """Bytes that the client's side has acknowledged: not in our buffer, not in the kernel's.

        The kernel's counts: it frees room in steps of megabytes, and a client that takes 10 KB a second would seem to take nothing.
        """
        transport = self._request.transport
        if transport is None:
            return self._written_bytes
        return self._written_bytes - transport.get_write_buffer_size() - unsent_bytes(transport)

    async def _guard(self) -> None:
        """Watch for a client that is gone or takes nothing: no event tells of either."""
        interval_s = min(GUARD_INTERVAL_S, self._options.stall_timeout_s / 4)
        taken, since = self._taken_bytes(), time.monotonic()
        while True:
            await asyncio.sleep(interval_s)  # a wait by nature: it looks for what does not happen
            if self._request.transport is None or self._request.transport.is_closing():
                return self._leave()
            now = time.monotonic()
            if self._taken_bytes() != taken or not self._must_be_taken():
                taken, since = self._taken_bytes(), now
            elif now - since > self._options.stall_timeout_s:
                self._stream.fail(self._stall())

    def _must_be_taken(self) -> bool:
        """Whether the stream can go on only if the client takes bytes."""
        is_output_waiting = self._written_bytes > self._taken_bytes()
        return is_output_waiting and (self._stream.is_body_ended or self._stream.outbox.is_full)

    def _stall(self) -> StreamFailure:
        code = "stalled" if self._stream.is_body_ended else "spill_full"
        return StreamFailure(code, STREAM_CODES[code])

    def _leave(self) -> None:
        self._has_client_left = True
        self._stream.leave()

    # Ends

    async def _end(self) -> web.StreamResponse:
        if self._has_client_left:
            self._note("left")
        elif self._stream.failure is not None:
            self._note("failed")
            await self._cut(self._stream.failure)
        else:
            await self._finish()
        return self._response

    async def _finish(self) -> None:
        """The clean end: everything was read, everything was answered."""
        if self._request.transport is not None:  # room for the closing chunk, which then waits for nobody
            self._request.transport.set_write_buffer_limits(high=FINISH_BUFFER_BYTES)
        try:
            await self._response.write_eof()
        except ConnectionError:
            self._note("left")
        else:
            self._note("ended")

    async def _cut(self, failure: StreamFailure) -> None:
        """One last line that says why, and then no closing chunk: every client can tell this from an end.

        The sending side is shut before the socket is dropped, so that the line arrives: a reset would overtake it.
        """
        transport = self._request.transport
        if transport is None:
            return
        try:
            async with asyncio.timeout(CUT_FLUSH_S):
                transport.set_write_buffer_limits(high=0)
                await self._response.write(self._last_line(failure))
                await self._request.writer.drain()
            transport.write_eof()
            async with asyncio.timeout(CUT_LINGER_S):
                while await read_some(self._request):
                    pass  # what the client still sends; closing over it would be a reset
                while not transport.is_closing():  # noqa: ASYNC110 - the framework tells nobody of a lost connection
                    await asyncio.sleep(0.05)  # the client has sent all: it closes as soon as it has seen the end
        except (ConnectionError, TimeoutError, web.RequestPayloadError):
            pass  # it does not read, or is gone: nothing more can be said
        transport.abort()

    def _last_line(self, failure: StreamFailure) -> bytes:
        stream = self._stream
        line = {
            "bulk_id": stream.bulk_id,
            "code": failure.code,
            "error": failure.message,
            "fatal": True,
            "records": stream.counts.records,
            "yhat_model": stream.model.name,
        }
        # Bytes that were not all taken may end inside a line.
        return (b"" if self._is_flushed else b"\n") + dumps(line) + b"\n"

    def _summary(self) -> bytes:
        stream, counts = self._stream, self._stream.counts
        summary = {
            "bytes_in": counts.bytes_in,
            "bytes_out": counts.bytes_out,
            "errors": counts.errors,
            "records": counts.records,
            "results": counts.results,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        line = {"bulk_id": stream.bulk_id, "summary": summary, "version": stream.model.version, "yhat_model": stream.model.name}
        return dumps(line) + b"\n"

    def _note(self, outcome: str) -> None:
        """One line of log and the counters, whatever the end."""
        stream, counts = self._stream, self._stream.counts
        metrics.STREAMS_ENDED.labels(outcome).inc()
        metrics.BYTES.labels("in").inc(counts.bytes_in)
        metrics.BYTES.labels("out").inc(counts.bytes_out)
        log.info(
            "stream %s bulk_id=%s model=%s results=%d errors=%d bytes_in=%d bytes_out=%d seconds=%.3f reason=%s",
            *(outcome, stream.bulk_id, stream.model.key, counts.results, counts.errors, counts.bytes_in, counts.bytes_out),
            *(time.monotonic() - self._started, stream.failure.code if stream.failure else "-"),
        )


async def read_some(request: web.Request) -> bytes:
    """What the socket has, at least a byte; nothing at the end of the body. RequestPayloadError when its framing is broken.

    The framework takes garbage in place of a chunk for a new, bad request and never tells the body that waits: we look for that.
    """
    while True:
        try:
            async with asyncio.timeout(FRAMING_CHECK_S):
                return await request.content.readany()
        except TimeoutError:
            if request.protocol._messages and not request.content.is_eof():
                raise web.RequestPayloadError("the chunks of the body are broken") from None


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes of a TCP connection in the kernel, not yet acknowledged by the other side; 0 where the system does not tell."""
    connection = transport.get_extra_info("socket")
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
    except (OSError, AttributeError):
        return 0


def media_type(accept: str) -> str:
    """The answer's type: the first of ours that Accept names."""
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((name for name in wanted if name in JSON_TYPES), NDJSON)
