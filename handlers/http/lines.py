"""Bodies to lines: bytes in, spans of whole lines out.

No I/O inside: the code that reads the socket feeds its bytes to a LineCutter. Lines are cut and counted here, never parsed.
"""

from collections.abc import Iterator

from engine.frames import LINE_END
from engine.replicas.lines import LineSpan

BOM = b"\xef\xbb\xbf"
CARRIAGE_RETURN = b"\r"


class LineCutter:
    """Cuts a body at newlines. An unfinished last line waits for the next bytes; a line over the limit is thrown away as it comes.

    limit_bytes  a longer line becomes one span with a refusal and is never held in memory; what ends a line, LF or CRLF, does
                 not count
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._tail = bytearray()
        self._line = 1  # the number of the unfinished line in the tail
        self._is_skipping = False
        self._is_start = True

    def feed(self, data: bytes) -> Iterator[LineSpan]:
        """Take the next bytes and give spans of the lines that are complete now.

        Only the new bytes are searched for a newline, never the unfinished line, so small pieces cost no more than large ones.
        """
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
        if self._is_too_long(self._tail):
            yield self.refusal("line_too_long")
            self._tail.clear()
            self._is_skipping = True
            self._line -= 1  # the line is counted again when its end is found

    def finish(self) -> Iterator[LineSpan]:
        """The body has ended: a last line without a newline is a line."""
        if self._tail:
            yield from self._lines(bytes(self._tail) + LINE_END, len(self._tail) + 1)
            self._tail.clear()

    def _without_bom(self, data: bytes) -> bytes:
        """The first bytes of the body without a byte order mark; nothing while too few bytes are here to tell."""
        start = bytes(self._tail) + data
        self._tail.clear()
        if len(start) < len(BOM) and BOM.startswith(start):
            self._tail += start
            return b""
        self._is_start = False
        return start.removeprefix(BOM)

    def _lines(self, data: bytes, end: int) -> Iterator[LineSpan]:
        """Spans of data[:end], which ends in a newline. A line can be too long only where more than the limit is left."""
        start = position = 0
        while end - position > self._limit + 1:
            newline = data.rfind(LINE_END, position, position + self._limit + 1)
            if newline < 0 and data.startswith(CARRIAGE_RETURN + LINE_END, position + self._limit):
                newline = position + self._limit + 1
            if newline >= 0:
                position = newline + 1
                continue
            if position > start:
                yield self._span(data, start, position)
            yield self.refusal("line_too_long")
            start = position = data.index(LINE_END, position) + 1
        if end > start:
            yield self._span(data, start, end)

    def _is_too_long(self, line: bytearray) -> bool:
        """Whether an unfinished line is too long, however it ends. One more byte than the limit may be the CR of a CRLF."""
        return len(line) > self._limit + line.endswith(CARRIAGE_RETURN)

    def _span(self, data: bytes, start: int, end: int) -> LineSpan:
        span = LineSpan.counted(data, start, end, self._line)
        self._line += span.num_lines
        return span

    def refusal(self, code: str) -> LineSpan:
        """One line that gets an error whatever it held; the code is one of RECORD_CODES."""
        span = LineSpan(b"", 0, 0, 1, self._line, refusal=code)
        self._line += 1
        return span
