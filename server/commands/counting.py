"""Counts the lines of a bulk request and of its answer for the command-line client. Bytes in, counts out; no I/O.

Only the last line is parsed. The beginning of a line tells what it is, because the server writes the keys in alphabetical order and
no string inside a line holds a newline: `{"bulk_id":"...","code":` begins an error, `{"bulk_id":"...","summary":` the summary.
"""

import json
import re
from typing import Any

Buffer = bytes | memoryview

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r"
# Every text with a blank line after its first line matches this. One search costs a sixth of four searches, one per character.
_MAYBE_BLANK = re.compile(rb"\n[ \t\r\n]")
_BLANK_LINES = re.compile(rb"(?<=\n)[ \t\r]*\n")


class RecordCounter:
    """Counts the lines of a body that the server must answer: those that are not blank."""

    def __init__(self) -> None:
        self.records = 0
        self.num_bytes = 0
        self._is_open = False  # whether the unfinished line has something on it

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        start, self.num_bytes = self.num_bytes, self.num_bytes + len(data)
        if start < len(BOM):
            data = _without_bom(data, start)
        num_lines = data.count(b"\n")
        if not num_lines:
            self._is_open = self._is_open or bool(data.strip(BLANK))
            return
        first_end, last_end = data.index(b"\n") + 1, data.rfind(b"\n") + 1
        is_first_blank = not self._is_open and not data[:first_end].strip(BLANK + b"\n")
        self.records += num_lines - is_first_blank - _num_blank(data, first_end, last_end)
        self._is_open = bool(data[last_end:].strip(BLANK))

    def finish(self) -> None:
        """The body has ended: count the last line if it has no newline."""
        self.records += self._is_open
        self._is_open = False


def _without_bom(data: bytes, start: int) -> bytes:
    """Bytes that begin at `start` of the body, without the part of a byte order mark that they hold."""
    i = 0
    while start + i < len(BOM) and data[i : i + 1] == BOM[start + i : start + i + 1]:
        i += 1
    return data[i:]


def _num_blank(data: bytes, start: int, end: int) -> int:
    """Number of blank lines in data[start:end], which begins after a newline."""
    if not _MAYBE_BLANK.search(data):
        return 0
    return sum(1 for _ in _BLANK_LINES.finditer(data, start, end))


class AnswerLines:
    """Counts the results and errors in the answer of a stream, and keeps a summary or a fatal error out of them.

    is_divided  whether errors are taken out of the results, to be written elsewhere
    """

    def __init__(self, bulk_id: str, *, is_divided: bool) -> None:
        self._head = b'{"bulk_id":"%b",' % bulk_id.encode()
        self._error_head = self._head + b'"code":'
        self._summary_head = self._head + b'"summary":'
        # Searching for these costs half as much as searching for newlines: a long word lets the search skip.
        self._next = b"\n" + self._head
        self._next_error = b"\n" + self._error_head
        self._is_divided = is_divided
        self._tail = b""
        self.results = 0
        self.errors = 0
        self.summary: dict[str, int] | None = None
        self.failure: str | None = None  # why the server cut the stream

    @property
    def records(self) -> int:
        return self.results + self.errors

    def feed(self, data: bytes) -> tuple[list[Buffer], list[Buffer]]:
        """Take the next bytes of the answer; returns the whole lines in them: the results, and the errors when they are divided."""
        results: list[Buffer] = []
        errors: list[Buffer] = []
        start, end = 0, data.rfind(b"\n") + 1
        if self._tail and end:
            start = data.index(b"\n") + 1
            self._take(self._tail + data[:start], 0, len(self._tail) + start, results, errors)
            self._tail = b""
        if start < end:
            self._take(data, start, end, results, errors)
        self._tail += data[end:]
        return results, errors

    def _take(self, data: bytes, start: int, end: int, results: list[Buffer], errors: list[Buffer]) -> None:
        """Count and divide the whole lines data[start:end]."""
        end = self._without_last(data, start, end)
        begins_with_error = data.startswith(self._error_head, start, end)
        num_errors = begins_with_error + data.count(self._next_error, start, end)
        self.errors += num_errors
        self.results += data.startswith(self._head, start, end) + data.count(self._next, start, end) - num_errors
        lines = memoryview(data)
        while self._is_divided and num_errors:
            error = start if begins_with_error else data.index(self._next_error, start) + 1
            results.append(lines[start:error])
            start = data.index(b"\n", error) + 1
            errors.append(lines[error:start])
            begins_with_error = data.startswith(self._error_head, start, end)
            num_errors -= 1
        results.append(lines[start:end])

    def _without_last(self, data: bytes, start: int, end: int) -> int:
        """The end of the lines, before a summary or a fatal error if the last line is one; that line is kept here."""
        last = max(start, data.rfind(b"\n", start, end - 1) + 1)
        if data.startswith(self._summary_head, last):
            self.summary = json.loads(data[last:end])["summary"]
            return last
        if data.startswith(self._error_head, last) and (reason := fatal_reason(json.loads(data[last:end]))):
            self.failure = reason
            return last
        return end


def fatal_reason(line: dict[str, Any]) -> str | None:
    """Why the server cut the stream, if this line says so. The error of a record has no key `fatal`."""
    return f"{line['error']} ({line['code']})" if line.get("fatal") else None
