"""Bodies that may be one JSON array instead of lines: each element of the array becomes a line.

Only strings, brackets and commas are looked at, and nothing is kept but what an unfinished line holds, so an array may have any
number of elements. Whether an element is JSON is for a replica to say.
"""

import re
from collections.abc import Iterator

from engine.frames import LINE_END
from engine.replicas.lines import LineSpan
from handlers.http.lines import BOM, CARRIAGE_RETURN, LineCutter

BLANK = b" \t\r\n"
# Blanks after the first bracket that are kept until it is known what follows.
MAX_HELD_BYTES = 64 * 1024

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# What stands before the next bracket inside an element; a quote that ends the match begins a string that these bytes do not end.
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
# The same between elements, where commas count.
_BETWEEN = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")


class ArrayOpener:
    """Puts a newline in place of each comma between the elements of an array, after its first bracket.

    rest  what follows the array; None while it is open
    """

    def __init__(self) -> None:
        self.rest: bytes | None = None
        self._depth = 1
        self._is_in_string = False
        self._is_escaped = False  # the bytes before ended with a backslash in a string

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the array, each element on a line of its own."""
        # Between values a CR is a blank like any other. In a string it is as wrong as the newline was.
        plain = data.replace(LINE_END, CARRIAGE_RETURN)
        lines: list[bytes] = []
        start = position = 0
        while position < len(plain) and self.rest is None:
            position, is_end = self._next(plain, position)
            if is_end:
                lines.append(plain[start : position - 1])
                start = position
                self.rest = data[position:] if not self._depth else None
        if self.rest is None:
            lines.append(plain[start:])
        else:
            lines.append(b"")
        return LINE_END.join(lines)

    def _next(self, data: bytes, position: int) -> tuple[int, bool]:
        """The position after the next byte that matters, and whether that byte ends an element."""
        if self._is_in_string:
            return self._after_string(data, position), False
        found = (_INSIDE if self._depth > 1 else _BETWEEN).match(data, position)
        end = found.end() if found else position
        byte = data[end : end + 1]
        if byte == b'"':
            self._is_in_string = True
        elif byte in (b"[", b"{"):
            self._depth += 1
        elif byte in (b"]", b"}"):
            self._depth -= 1
            return end + 1, not self._depth
        return end + len(byte), byte == b","

    def _after_string(self, data: bytes, position: int) -> int:
        """The position after the string that earlier bytes began, or the end of these."""
        position += self._is_escaped
        self._is_escaped = False
        found = _REST_OF_STRING.match(data, position)
        end = found.end() if found else position
        if end == len(data):
            return end
        self._is_in_string = data[end : end + 1] != b'"'
        self._is_escaped = self._is_in_string
        return end + 1


class BodyCutter:
    """Cuts a body of lines, or of one array of objects, into spans of lines.

    A body is an array if it begins with a bracket before an object, or with an empty array. Any other body is lines.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._lines = LineCutter(limit_bytes)
        self._opener: ArrayOpener | None = None
        self._held = bytearray()
        self.is_plain = False  # whatever comes now is lines

    def feed(self, data: bytes) -> Iterator[LineSpan]:
        """Take the next bytes and give spans of the lines that are complete now."""
        if self.is_plain:
            return self._lines.feed(data)
        if self._opener is not None:
            return self._feed_array(self._opener, data)
        return self._begin(data)

    def _begin(self, data: bytes) -> Iterator[LineSpan]:
        """The first bytes of the body, until they tell what it is."""
        self._held += data
        start = bytes(self._held)
        first = _NOT_BLANK.search(start, len(BOM) if start.startswith(BOM) else 0)
        if first is None or BOM.startswith(start):
            return self._release() if len(start) > MAX_HELD_BYTES else iter(())
        second = _NOT_BLANK.search(start, first.end())
        if first[0] == b"[" and second is None:
            return self._release() if len(start) > MAX_HELD_BYTES else iter(())
        if first[0] == b"[" and second is not None and second[0] in (b"{", b"]"):
            self._held.clear()
            self._opener = ArrayOpener()
            return self._feed_array(self._opener, start[first.end() :])
        return self._release()

    def _release(self) -> Iterator[LineSpan]:
        held = bytes(self._held)
        self._held.clear()
        self.is_plain = True
        return self._lines.feed(held)

    def _feed_array(self, opener: ArrayOpener, data: bytes) -> Iterator[LineSpan]:
        yield from self._lines.feed(opener.feed(data))
        if opener.rest is not None:
            self.is_plain, self._opener = True, None
            yield from self._lines.feed(opener.rest)

    def finish(self) -> Iterator[LineSpan]:
        """The body has ended: a last line without a newline is a line, and an array without its last bracket gets an error."""
        if self._held:
            yield from self._release()
        yield from self._lines.finish()
        if self._opener is not None:
            yield self._lines.refusal("array_not_closed")
