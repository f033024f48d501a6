"""One bulk request on its socket: its body is read, scored and answered at the same time.

Moves bytes between the socket and engine/streaming/stream.py, and decides how the exchange ends: cleanly, cut by us, or left by the
client. Knows nothing of what a record holds.
"""

import asyncio
import logging
import time
from typing import Any

from aiohttp import hdrs, web

from engine import heap, metrics
from engine.disk import is_full
from engine.errors import DISK_FULL, INTERNAL, SHUTTING_DOWN, EngineError
from engine.streaming.failures import BAD_ENCODING, IDLE_TIMEOUT, SPILL_FULL, STALLED, TOO_LARGE, StreamFailure
from engine.streaming.stream import Stream
from handlers.http.bodies import content_encoding, decode_step, read_some
from handlers.http.connections import unsent_bytes
from handlers.http.cutting import cut
from handlers.http.encodings import BadEncoding, decoder
from handlers.http.keys import TURN
from handlers.streaming.forms import Forms, body_of, end_of
from handlers.streaming.keys import StreamingLimits

log = logging.getLogger("sluice.bulk")

# The last line of a cut stream gets this long to leave.
CUT_FLUSH_S = 2.0
# The server is about to end and gives a stream one second in all (server/serve.py), so half of it must do for either flush.
LAST_FLUSH_S = 0.5
GUARD_INTERVAL_S = 1.0
# Bytes that are cut into lines before we look again whether the stream has room: all that a read of the socket gives. For a model
# that tokenises each line becomes an object of its own (0.4 us), so 4 KiB of blank lines already take 2 ms.
CUT_BYTES = 1024 * 1024
TEXT_CUT_BYTES = 4 * 1024
# The same of a body that is an array, which must be searched for the ends of its elements: that takes about 20 us for each KiB.
ARRAY_CUT_BYTES = 32 * 1024
# A request header. With the value `true` the answer begins when the whole body has been read, because nginx stops sending the body
# as soon as the answer begins.
ANSWER_LATE = "Answer-After-Upload"
# More than can wait in our buffer when the writer is done, which is 64 KiB and one write of the same size.
FINISH_BUFFER_BYTES = 256 * 1024


class BulkExchange:
    """The body of one bulk request and the body of its answer, on one connection."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, stream: Stream, limits: StreamingLimits, forms: Forms
    ) -> None:
        self._request = request
        self._response = response
        self._stream = stream
        self._limits = limits
        self._decoder = decoder(content_encoding(request))
        self._body = body_of(stream, limits)
        self._end = end_of(stream, forms)
        self._cut_bytes = TEXT_CUT_BYTES if stream.model.tokens else CUT_BYTES
        self._written_bytes = 0
        self._started = time.monotonic()
        self._has_client_left = False
        self._is_flushed = False
        # A schema that the model cannot read is refused with a status, so the answer to record batches begins with its opening.
        self._begins_late = forms.is_arrow_in
        self._answers_late = request.headers.get(ANSWER_LATE, "").strip().lower() == "true"
        self._num_sent = 0  # records whose answers were written to the socket, of a stream that failed

    async def run(self, *, with_summary: bool) -> None:
        """Run until the stream has ended, failed or was left. The client is told how by `end`, which no longer needs the stream."""
        # After `100 Continue` the head waits for the first bytes of the body. If HAProxy 2.6 reads both at once, it takes the end
        # of the one for the end of the other, and gives its client an empty answer that looks complete.
        if not self._answers_late and not self._begins_late and hdrs.EXPECT not in self._request.headers:
            await self._begin()
        reader = asyncio.create_task(self._read(), name=f"read {self._stream.bulk_id}")
        writer = asyncio.create_task(self._write(with_summary, reader), name=f"write {self._stream.bulk_id}")
        guard = asyncio.create_task(self._guard(), name=f"guard {self._stream.bulk_id}")
        broken = asyncio.create_task(self._stream.broken.wait(), name=f"broken {self._stream.bulk_id}")
        tasks = (reader, writer, guard, broken)
        try:
            await asyncio.wait((writer, broken), return_when=asyncio.FIRST_COMPLETED)
            # Results from before a failure are still sent, if the client takes them in time.
            await asyncio.wait((writer,), timeout=self._flush_s)
            self._is_flushed = writer.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._stream.failure is not None:
            self._num_sent = await self._stream.num_returned()

    async def _begin(self) -> None:
        """Send the head of the answer, once."""
        if not self._response.prepared:
            await self._response.prepare(self._request)

    # Reading

    async def _read(self) -> None:
        """Feed the body to the stream as fast as it has room. Decides what each way in which a body can break off means."""
        stream = self._stream
        try:
            await self._read_body()
        except BadEncoding as error:
            stream.body_ended(StreamFailure(BAD_ENCODING, str(error)))
        except web.RequestPayloadError:
            stream.body_ended(StreamFailure(BAD_ENCODING, "the chunks of the body are broken"))
        except TimeoutError:
            stream.body_ended(StreamFailure(IDLE_TIMEOUT))
        except StreamFailure as failure:
            stream.body_ended(failure)
            stream.offer()  # what came before in the same bytes
        except ConnectionError as error:
            error.__traceback__ = None  # the request keeps the error, and with it all that the frames of its traceback hold
            self._leave()
        except Exception:  # a fault of ours must cut this stream, or its client would wait for ever
            log.exception("reading failed bulk_id=%s", stream.bulk_id)
            stream.fail(StreamFailure(INTERNAL))

    async def _read_body(self) -> None:
        stream = self._stream
        idle_timeout_s = self._limits.idle_timeout_s or None
        while True:
            async with asyncio.timeout(idle_timeout_s):
                data = await read_some(self._request)
            if not self._answers_late and not self._begins_late:
                await self._begin()
            if not data:
                break
            self._decoder.feed(data)
            while self._decoder.has_more and not stream.has_left:
                await self._take(await decode_step(self._request, self._decoder))
            if stream.has_left:
                return
        self._decoder.finish()
        self._body.finish()
        stream.body_ended()
        stream.offer()

    async def _take(self, decoded: bytes) -> None:
        """Cut the next bytes of the body into lines for the stream, as it has room for them."""
        stream = self._stream
        stream.counts.bytes_in += len(decoded)
        if stream.counts.bytes_in > self._limits.decoded_limit_bytes and "Content-Encoding" in self._request.headers:
            raise StreamFailure(TOO_LARGE, f"the body decodes to more than {self._limits.decoded_limit_bytes} bytes")
        start = 0
        while start < len(decoded):
            is_plain = self._body.is_plain
            end = start + (self._cut_bytes if is_plain else min(self._cut_bytes, ARRAY_CUT_BYTES))
            self._body.feed(decoded[start:end])
            start = end
            stream.offer()
            await stream.room(self._taken_bytes)
            if not is_plain:  # the event loop goes on after each step, and one array at a time takes a step
                async with self._request.app[TURN]:
                    await asyncio.sleep(0)

    # Writing

    async def _write(self, with_summary: bool, reader: asyncio.Task[None]) -> None:
        """Send the outbox until the stream closes it and the client has taken nearly everything, so that _finish need not wait.

        A late answer waits for the reader to end; until then the results wait in the outbox, most of them in the spill.
        """
        stream = self._stream
        try:
            if self._answers_late:
                await asyncio.wait((reader,))
            while (piece := await stream.outbox.get()) is not None:
                await self._begin()  # a late answer, or one without a body
                self._written_bytes += len(piece)
                await self._response.write(piece)
                stream.counts.bytes_out += len(piece)
                stream.taken()
            if stream.failure is None or not self._begins_late:
                await self._begin()
            if stream.failure is None and not self._has_client_left and (last := self._last(with_summary=with_summary)):
                await self._response.write(last)
            if self._response.prepared:
                await self._request.writer.drain()
        except ConnectionError:
            self._leave()
        except Exception as error:  # a full disk or a fault of ours; the missing results must never look like a clean end
            stream.fail(self._fault(error))

    def _fault(self, error: Exception) -> StreamFailure:
        """Log why results are missing, and tell what the client hears of it."""
        if is_full(error):
            log.error("disk full, stream cut bulk_id=%s reason=%s", self._stream.bulk_id, error.__class__.__name__)
            return StreamFailure(DISK_FULL, "the server's disk is full")
        log.error("writing failed bulk_id=%s", self._stream.bulk_id, exc_info=error)
        return StreamFailure(INTERNAL)

    def _taken_bytes(self) -> int:
        """Bytes of the answer that the client's side has acknowledged: they are neither in our buffer nor in the kernel's.

        The kernel's buffer must be counted as well. The kernel makes room for us in steps of megabytes, so by our own buffer alone
        a client that takes 10 KB a second would seem to take nothing.
        """
        transport = self._request.transport
        if transport is None:
            return self._written_bytes
        return self._written_bytes - transport.get_write_buffer_size() - unsent_bytes(transport)

    async def _guard(self) -> None:
        """Watch for a client that is gone or takes nothing. No event tells of either, so we look at intervals."""
        interval_s = min(GUARD_INTERVAL_S, self._limits.stall_timeout_s / 4)
        taken, since = self._taken_bytes(), time.monotonic()
        while True:
            await asyncio.sleep(interval_s)
            if self._request.transport is None or self._request.transport.is_closing():
                return self._leave()
            if self._stream.outbox.is_full and not self._response.prepared:  # the client can take nothing yet
                self._stream.fail(StreamFailure(DISK_FULL if self._stream.outbox.is_disk_short else SPILL_FULL))
            now = time.monotonic()
            if self._taken_bytes() != taken or not self._must_be_taken():
                taken, since = self._taken_bytes(), now
            elif now - since > self._limits.stall_timeout_s:
                self._stream.fail(self._stall())

    def _must_be_taken(self) -> bool:
        """Whether nothing more can happen until the client takes bytes."""
        is_output_waiting = self._written_bytes > self._taken_bytes()
        return is_output_waiting and (self._stream.is_body_ended or self._stream.outbox.is_full)

    def _stall(self) -> StreamFailure:
        return StreamFailure(STALLED if self._stream.is_body_ended else SPILL_FULL)

    def _leave(self) -> None:
        self._has_client_left = True
        self._stream.leave()

    # Ends

    async def end(self) -> web.StreamResponse:
        """Tell the client how the stream has ended. Returns the response, which the handler gives back to aiohttp."""
        if self._has_client_left:
            self._note("left")
        elif self._stream.failure is not None:
            self._note("failed")
            if self._begins_late and not self._response.prepared:
                raise EngineError(self._stream.failure.code, self._stream.failure.message)
            await cut(self._request, self._response, self._last_line(self._stream.failure), flush_s=self._flush_s)
        else:
            await self._finish()
            return self._response
        asyncio.get_running_loop().call_soon(heap.give_back)  # when what waited for the client is freed
        return self._response

    async def _finish(self) -> None:
        """The clean end: the whole body was read and every record answered."""
        if self._request.transport is not None:  # with this much room, writing the closing chunk never waits for the client
            self._request.transport.set_write_buffer_limits(high=FINISH_BUFFER_BYTES)
        try:
            await self._response.write_eof()
        except ConnectionError:
            self._note("left")
        else:
            self._note("ended")

    @property
    def _flush_s(self) -> float:
        """How long a client may take to read what it gets before a cut."""
        failure = self._stream.failure
        return LAST_FLUSH_S if failure is not None and failure.code is SHUTTING_DOWN else CUT_FLUSH_S

    def _last_line(self, failure: StreamFailure) -> bytes:
        """The line that says why the stream is cut."""
        stream = self._stream
        line = {
            "bulk_id": stream.bulk_id,
            "code": failure.code,
            "error": failure.message,
            "fatal": True,
            "records": self._num_sent,
            "yhat_model": stream.model.name,
        }
        return self._end.failure(line, is_whole=self._is_flushed)

    def _last(self, *, with_summary: bool) -> bytes:
        """What follows the last result of an answer that was not cut."""
        return self._end.summary(self._summary() if with_summary else {})

    def _summary(self) -> dict[str, Any]:
        stream, counts = self._stream, self._stream.counts
        summary = {
            "bytes_in": counts.bytes_in,
            "bytes_out": counts.bytes_out,
            "errors": counts.errors,
            "records": counts.records,
            "results": counts.results,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        return {"bulk_id": stream.bulk_id, "summary": summary, "version": stream.model.version, "yhat_model": stream.model.name}

    def _note(self, outcome: str) -> None:
        """Log and count how the stream ended: `ended`, `failed` or `left`."""
        stream, counts = self._stream, self._stream.counts
        metrics.STREAMS_ENDED.labels(outcome).inc()
        metrics.BYTES.labels("in").inc(counts.bytes_in)
        metrics.BYTES.labels("out").inc(counts.bytes_out)
        log.info(
            "stream %s bulk_id=%s model=%s results=%d errors=%d bytes_in=%d bytes_out=%d seconds=%.3f reason=%s",
            *(outcome, stream.bulk_id, stream.model.key, counts.results, counts.errors, counts.bytes_in, counts.bytes_out),
            *(time.monotonic() - self._started, stream.failure.code if stream.failure else "-"),
        )
