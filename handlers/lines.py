"""Bodies to lines: bytes in, segments of whole lines out; and the decoding of compressed bodies before that.

No I/O inside: whoever reads the socket feeds what it got. Lines are cut and counted here, never parsed.
"""

import zlib
from collections.abc import Iterator

from engine.replicas.lines import LINE_END, Segment

BOM = b"\xef\xbb\xbf"
# Output of one step of decompression: a small body must not become large memory.
DECODE_STEP_BYTES = 64 * 1024


class LineCutter:
    """Cuts a body at newlines. The unfinished rest waits for the next bytes; a line over the limit is thrown away as it comes.

    limit_bytes  a longer line is answered with one error and never held in memory
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._tail = bytearray()
        self._line = 1  # number of the line that begins with the tail
        self._is_skipping = False
        self._is_start = True

    def feed(self, data: bytes) -> Iterator[Segment]:
        """Segments of the lines that are whole now. New bytes are searched once, however small the pieces are."""
        if self._is_start:
            data = self._without_bom(data)
        if self._is_skipping:
            end = data.find(LINE_END)
            if end < 0:
                return
            data = data[end + 1 :]
            self._is_skipping = False
            self._line += 1
        last = data.rfind(LINE_END) + 1
        if last:
            yield from self._lines(bytes(self._tail) + data[:last] if self._tail else data, len(self._tail) + last)
            self._tail = bytearray(memoryview(data)[last:])
        else:
            self._tail += data
        if len(self._tail) > self._limit:
            yield self._refusal()
            self._tail.clear()
            self._is_skipping = True
            self._line -= 1  # it counts when its end is found

    def finish(self) -> Iterator[Segment]:
        """The body has ended: a last line without a newline is a line."""
        if self._tail:
            yield from self._lines(bytes(self._tail) + LINE_END, len(self._tail) + 1)
            self._tail.clear()

    def _without_bom(self, data: bytes) -> bytes:
        """The body's first bytes without a byte order mark; nothing while that cannot be told."""
        start = bytes(self._tail) + data
        self._tail.clear()
        if len(start) < len(BOM) and BOM.startswith(start):
            self._tail += start
            return b""
        self._is_start = False
        return start.removeprefix(BOM)

    def _lines(self, data: bytes, end: int) -> Iterator[Segment]:
        """Segments of data[:end], which ends in a newline; only when it is longer than the limit can a line be too long."""
        start = position = 0
        while end - position > self._limit + 1:
            newline = data.rfind(LINE_END, position, position + self._limit + 1)
            if newline >= 0:
                position = newline + 1
                continue
            if position > start:
                yield self._segment(data, start, position)
            yield self._refusal()
            start = position = data.index(LINE_END, position) + 1
        if end > start:
            yield self._segment(data, start, end)

    def _segment(self, data: bytes, start: int, end: int) -> Segment:
        num_lines = data.count(LINE_END, start, end)
        segment = Segment(data, start, end, num_lines, self._line)
        self._line += num_lines
        return segment

    def _refusal(self) -> Segment:
        segment = Segment(b"", 0, 0, 1, self._line, refusal="line_too_long")
        self._line += 1
        return segment


class BadEncoding(Exception):
    """The body is not what its Content-Encoding says, or stops too early."""


class Plain:
    """No encoding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        pass


class Inflate:
    """gzip (any number of members) or deflate (zlib, or raw as some clients send it)."""

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding == "gzip"
        self._decoder = zlib.decompressobj(31 if self._is_gzip else 15)
        self._is_between = True  # at the start, or after a member: the body may end here

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded bytes in small steps. BadEncoding when the data is broken."""
        is_more = False
        while data or is_more:
            if self._decoder.eof:
                if not self._is_gzip:
                    raise BadEncoding("data after the end of the deflate stream")
                self._decoder = zlib.decompressobj(31)
            if data:
                self._choose_deflate(data)
            try:
                decoded = self._decoder.decompress(data, DECODE_STEP_BYTES)
            except zlib.error as error:
                raise BadEncoding(f"the body is not {'gzip' if self._is_gzip else 'deflate'}: {_reason(error)}") from None
            self._is_between = self._decoder.eof
            data = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            # A full step may leave output in the decoder although it took all its input.
            is_more = not self._decoder.eof and len(decoded) == DECODE_STEP_BYTES
            if decoded:
                yield decoded

    def finish(self) -> None:
        """The body has ended. BadEncoding when it ended inside a member."""
        if not self._is_between:
            raise BadEncoding("the encoded body is cut short")

    def _choose_deflate(self, data: bytes) -> None:
        """A first byte whose low half is not 8 cannot begin a zlib stream: then it is raw deflate."""
        if not self._is_gzip and self._is_between and data[0] & 0x0F != 8:
            self._decoder = zlib.decompressobj(-15)


def _reason(error: zlib.error) -> str:
    """zlib's own words without its numbers: `incorrect header check`."""
    return str(error).rpartition(": ")[2]


def decoder(encoding: str) -> Plain | Inflate:
    """For a Content-Encoding of `` , `identity`, `gzip` or `deflate`."""
    return Inflate(encoding) if encoding in ("gzip", "deflate") else Plain()


PLAIN = frozenset({"", "identity"})
ENCODINGS = PLAIN | {"gzip", "deflate"}
