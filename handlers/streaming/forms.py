"""The two forms of a stream's body, and the two of its answer: lines of JSON, and record batches of Arrow.

Says how the bytes of a body reach the stream, and what stands at the end of an answer. Knows nothing of sockets.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from aiohttp import hdrs, web

from engine.frames import LINE_END
from engine.streaming.arrow_cutter import ArrowCutter
from engine.streaming.arrow_messages import END_OF_STREAM, BadMessage
from engine.streaming.arrow_stream import ArrowStream
from engine.streaming.failures import BAD_ARROW, StreamFailure
from engine.streaming.stream import Stream
from handlers.http.arrays import BodyCutter
from handlers.http.bodies import NDJSON
from handlers.http.errors import NOT_ACCEPTABLE, EngineError, dumps
from handlers.streaming.keys import StreamingLimits

ARROW = "application/vnd.apache.arrow.stream"
# The media types of lines that Accept may ask for; the lines are the same in all of them.
JSON_TYPES = (NDJSON, "application/json", "application/jsonl", "application/jsonlines")


class Forms(NamedTuple):
    """What a stream takes and what it gives.

    is_arrow_in  the body has record batches
    media_type   of the answer
    """

    is_arrow_in: bool
    media_type: str

    @property
    def is_arrow_out(self) -> bool:
        return self.media_type == ARROW


def forms_of(request: web.Request) -> Forms:
    """What a request sends, as its Content-Type says, and what it wants, as Accept says. EngineError `not_acceptable`.

    Without a word of Accept, the answer has the form of the body.
    """
    is_arrow_in = request.content_type == ARROW
    wanted = _wanted(request.headers.get(hdrs.ACCEPT, ""), (ARROW, *JSON_TYPES))
    forms = Forms(is_arrow_in, wanted or (ARROW if is_arrow_in else NDJSON))
    if forms.is_arrow_out and not is_arrow_in:
        raise EngineError(NOT_ACCEPTABLE, f"lines are answered by lines; to get record batches, send record batches ({ARROW})")
    return forms


def _wanted(accept: str, known: Sequence[str]) -> str | None:
    """The first known media type that Accept names."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((name for name in named if name in known), None)


# The body


class StreamBody(Protocol):
    """Hands what comes from the socket to the stream.

    is_plain  the next bytes are cheap to cut
    """

    @property
    def is_plain(self) -> bool: ...

    def feed(self, data: bytes) -> None:
        """The next decoded bytes. StreamFailure."""
        ...

    def finish(self) -> None:
        """There are no more. StreamFailure."""
        ...


class LineBody:
    """Lines of JSON, or one array of objects."""

    def __init__(self, stream: Stream, limits: StreamingLimits) -> None:
        self._stream = stream
        self._cutter = BodyCutter(limits.line_limit_bytes)

    @property
    def is_plain(self) -> bool:
        return self._cutter.is_plain

    def feed(self, data: bytes) -> None:
        for span in self._cutter.feed(data):
            self._stream.feed(span)

    def finish(self) -> None:
        for span in self._cutter.finish():
            self._stream.feed(span)


# Messages that are shorter than this on average cost more than their bytes, so that fewer of those are looked at in one step.
LEAST_MESSAGE_BYTES = 2048


class ArrowBody:
    """Record batches, behind their schema."""

    def __init__(self, stream: ArrowStream, limits: StreamingLimits) -> None:
        limit, metadata_limit = limits.arrow_batch_limit_bytes, limits.line_limit_bytes
        self._cutter = ArrowCutter(stream, metadata_limit_bytes=metadata_limit, batch_limit_bytes=limit)
        self.is_plain = False

    def feed(self, data: bytes) -> None:
        before = self._cutter.num_messages
        try:
            self._cutter.feed(data)
        except BadMessage as error:
            raise _bad_arrow(error) from None
        self.is_plain = (self._cutter.num_messages - before) * LEAST_MESSAGE_BYTES <= len(data)

    def finish(self) -> None:
        try:
            self._cutter.finish()
        except BadMessage as error:
            raise _bad_arrow(error) from None


def _bad_arrow(error: BadMessage) -> StreamFailure:
    return StreamFailure(BAD_ARROW, f"the body is not an Arrow stream that can be read: {error}")


def body_of(stream: Stream, limits: StreamingLimits) -> StreamBody:
    """What cuts the body of this stream."""
    return ArrowBody(stream, limits) if isinstance(stream, ArrowStream) else LineBody(stream, limits)


# The end of the answer


class LineEnd:
    """The last line of an answer in lines."""

    def summary(self, line: dict[str, Any]) -> bytes:
        """What follows the last result, with counts if there are any."""
        return dumps(line) + LINE_END if line else b""

    def failure(self, line: dict[str, Any], *, is_whole: bool) -> bytes:
        """What says why the stream is cut. If it `is_whole`, all bytes before were sent; else they may end inside a line."""
        return (b"" if is_whole else LINE_END) + dumps(line) + LINE_END


class ArrowEnd:
    """The last line stands in the metadata of a record batch without rows."""

    def __init__(self, stream: ArrowStream) -> None:
        self._stream = stream

    def summary(self, line: dict[str, Any]) -> bytes:
        return self._message(line) + END_OF_STREAM

    def failure(self, line: dict[str, Any], *, is_whole: bool) -> bytes:
        del line["records"]  # they are counted in lines
        return self._message(line) if is_whole else b""

    def _message(self, line: dict[str, Any]) -> bytes:
        opening = self._stream.opening
        return opening.last_message(dumps(line)) if line and opening else b""


def end_of(stream: Stream, forms: Forms) -> LineEnd | ArrowEnd:
    """What ends an answer of this form."""
    return ArrowEnd(stream) if isinstance(stream, ArrowStream) and forms.is_arrow_out else LineEnd()
