"""Files of JSON: lines with one object each, or one long array that is read item by item. Knows no types of columns."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from engine.tasks import codec
from engine.tasks.preview.csv_files import Records
from engine.tasks.preview.failures import JSONDecodeError, ParserError
from engine.tasks.preview.lines import BOM, byte_lines, too_large
from engine.tasks.preview.values import text as text_of

CHUNK_BYTES = 256 * 1024
_BLANKS = b" \t\r\n"
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SCALAR = re.compile(rb'[^\[\]{},:" \t\r\n]++')
# All up to the next bracket, or up to a string whose end is not here yet.
_RUN = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)


def line_records(opened: Callable[[], BinaryIO], max_bytes: int, names: dict[str, None]) -> Records:
    """One object a line; blank lines hold nothing. JSONDecodeError, RecordTooLarge."""
    with opened() as file:
        for number, line in byte_lines(file, max_bytes):
            if line.strip(_BLANKS):
                record = parsed_object(line, f"line {number}")
                names.update(dict.fromkeys(record))
                yield number, len(line), record


def file_records(opened: Callable[[], BinaryIO], wanted: str | None, max_bytes: int, names: dict[str, None]) -> Records:
    """The objects of an array, which may be the value of a field; or of lines. ParserError, JSONDecodeError, RecordTooLarge.

    wanted  the field that has the array, or None
    """
    with opened() as file:
        text = _Window(file)
        shape = _shape(text, wanted)
    if shape.is_lines:
        yield from line_records(opened, max_bytes, names)
        return
    with opened() as file:
        text = _Window(file)
        if shape.field is not None:
            _enter_field(text, shape.field)
        if text.peek():
            for number, item in enumerate(_items(text, max_bytes), 1):
                record = parsed_object(item, f"item {number}")
                names.update(dict.fromkeys(record))
                yield number, len(item), record


def parsed_object(raw: bytes, where: str) -> dict[str, Any]:
    """The object that a text holds. JSONDecodeError."""
    try:
        value = codec.parse_exactly(raw)
    except codec.NotJson as error:
        raise JSONDecodeError(f"{where}: {error.reason} (byte {error.offset + 1})") from None
    except RecursionError:
        value = _shallow(raw, where)
    if type(value) is not dict:
        raise JSONDecodeError(f"{where}: it is not an object")
    if b"\\u" in raw and not all(name.isascii() for name in value):  # half a surrogate pair can only come as an escape
        return {text_of(name): one for name, one in value.items()}
    return value


def _shallow(raw: bytes, where: str) -> dict[str, Any]:
    """An object that is nested too deeply for a parser: its deep values stay the texts that they are."""
    text = _Window.of(raw)
    record: dict[str, Any] = {}
    try:
        for name in _members(text):
            text.mark()
            text.skip_value()
            member = text.marked()
            try:
                record[name] = codec.parse_exactly(member)
            except RecursionError:
                record[name] = member.decode(errors="replace")
    except codec.NotJson as error:
        raise JSONDecodeError(f"{where}: {error.reason}") from None
    return record


@dataclass(frozen=True, slots=True)
class _Shape:
    """is_lines: one object after the other; field: the one that has the array, None for an array on its own."""

    is_lines: bool
    field: str | None = None


def _shape(text: "_Window", wanted: str | None) -> _Shape:
    """What a file holds. ParserError."""
    first = text.peek()
    if first == b"[" or not first:
        return _Shape(False)
    if first != b"{":
        raise JSONDecodeError("byte 1: it is neither an array nor an object")
    lists = []
    for name in _members(text):
        if text.peek() == b"[":
            lists.append(name)
            if name == wanted:
                return _Shape(False, name)
        text.skip_value()
    if text.peek() or (not lists and wanted is None):
        return _Shape(True)
    if wanted is not None:
        raise ParserError(f"the object has no array in the field {wanted[:100]!r}")
    if len(lists) > 1:
        raise ParserError(f"several fields have arrays: declare one of them as `field`, such as {lists[0][:100]!r}")
    return _Shape(False, lists[0])


def _enter_field(text: "_Window", wanted: str) -> None:
    for name in _members(text):
        if name == wanted and text.peek() == b"[":
            return
        text.skip_value()
    raise ParserError(f"the object has no array in the field {wanted[:100]!r}")


def _members(text: "_Window") -> Iterator[str]:
    """The names of an object; whoever asks for the next has skipped the value of the last. JSONDecodeError."""
    text.expect(b"{")
    if text.peek() == b"}":
        text.expect(b"}")
        return
    while True:
        text.peek()
        text.mark()
        text.skip_value()
        name = text.marked()
        text.expect(b":")
        text.peek()
        yield _name(name)
        if text.peek() == b"}":
            text.expect(b"}")
            return
        text.expect(b",")


def _name(raw: bytes) -> str:
    try:
        name = codec.parse_exactly(raw)
    except (codec.NotJson, RecursionError):
        name = None
    if not isinstance(name, str):
        raise JSONDecodeError(f"{raw[:100].decode(errors='replace')!r} cannot name a member")
    return name


def _items(text: "_Window", max_bytes: int) -> Iterator[bytes]:
    """The text of each item of an array. JSONDecodeError, RecordTooLarge."""
    text.expect(b"[")
    if text.peek() == b"]":
        return
    number = 0
    while True:
        number += 1
        text.peek()
        text.mark()
        if not text.skip_value(max_bytes):
            raise too_large("item", number, max_bytes)
        yield text.marked()
        if text.peek() == b"]":
            return
        text.expect(b",", f"item {number}")


class _Window:
    """A part of a file, moved on as it is read. What is behind the mark, or behind the place if there is none, is forgotten."""

    def __init__(self, file: BinaryIO | None, data: bytes = b"") -> None:
        self._file = cast(io.BufferedReader, file) if file else None
        self._data = data
        self._at = 0
        self._mark: int | None = None
        self._passed = 0
        if file is not None and self._fill() and self._data.startswith(BOM):
            self._at = len(BOM)

    @classmethod
    def of(cls, data: bytes) -> "_Window":
        return cls(None, data)

    def _fill(self) -> bool:
        """Read more; False at the end. The window doubles, so that a long value is copied a few times, not at each read."""
        keep = self._at if self._mark is None else self._mark
        more = self._file.read1(max(CHUNK_BYTES, len(self._data) - keep)) if self._file else b""
        if not more:
            return False
        self._data = self._data[keep:] + more
        self._passed += keep
        self._at -= keep
        self._mark = None if self._mark is None else 0
        return True

    def peek(self) -> bytes:
        """The next byte that is no blank, without passing it; empty at the end."""
        while True:
            found = _SPACE.match(self._data, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._data):
                return self._data[self._at : self._at + 1]
            if not self._fill():
                return b""

    def expect(self, byte: bytes, where: str = "") -> None:
        """Pass this byte. JSONDecodeError."""
        found = self.peek()
        if found != byte:
            place = where or f"byte {self._passed + self._at + 1}"
            what = f"there is {found.decode('latin-1')!r}" if found else "the file ends"
            raise JSONDecodeError(f"{place}: {what} in place of {byte.decode()!r}")
        self._at += 1

    def mark(self) -> None:
        self._mark = self._at

    def marked(self) -> bytes:
        """The bytes from the mark to here; the mark is taken away."""
        data = self._data[self._mark : self._at]
        self._mark = None
        return data

    def skip_value(self, max_bytes: int | None = None) -> bool:
        """Pass one value; False if it is longer than allowed. JSONDecodeError."""
        depth = 0
        start = self._passed + self._at
        while True:
            step = self._step(depth)
            depth += step or 0
            if max_bytes is not None and self._passed + self._at - start > max_bytes:
                return False
            if step is None:
                if max_bytes is not None and self._passed + len(self._data) - start > max_bytes:
                    return False
                if not self._fill():
                    raise JSONDecodeError("the file ends within a value")
            elif depth == 0:
                return True

    def _step(self, depth: int) -> int | None:
        """Pass a scalar (0) or a bracket (1 or -1), with what is before it; None if the rest of it is not here yet."""
        if depth:
            run = _RUN.match(self._data, self._at)
            self._at = run.end() if run else self._at
        byte = self._data[self._at : self._at + 1]
        if byte in (b"[", b"{", b"]", b"}") and (depth or byte in b"[{"):
            self._at += 1
            return 1 if byte in b"[{" else -1
        if depth or not byte:
            return None
        found = (_STRING if byte == b'"' else _SCALAR).match(self._data, self._at)
        # A number may go on in what is not here yet.
        if found is None or (byte != b'"' and found.end() == len(self._data) and self._fill()):
            if byte != b'"' and found is None:
                raise JSONDecodeError(
                    f"byte {self._passed + self._at + 1}: there is {byte.decode('latin-1')!r} in place of a value"
                )
            return None
        self._at = found.end()
        return 0
