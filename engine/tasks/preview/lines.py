"""Lines of text out of bytes: clean UTF-8, cut at newlines, none longer than allowed.

Knows nothing of what a line holds.
"""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO, cast

from engine.tasks.preview.failures import ParserError, RecordTooLarge

BOM = b"\xef\xbb\xbf"
CHUNK_BYTES = 256 * 1024


def byte_lines(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The number of each line, from 1, and the line without its end; the BOM is left out. RecordTooLarge."""
    number = 0
    while line := file.readline(max_bytes + 2):
        number += 1
        if number == 1:
            line = line.removeprefix(BOM)
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) > max_bytes:
            raise too_large("line", number, max_bytes)
        yield number, line


def too_large(what: str, number: int, max_bytes: int) -> RecordTooLarge:
    return RecordTooLarge(f"{what} {number}: it is longer than the limit of {max_bytes:,} bytes")


def decoder(encoding: str | None) -> codecs.IncrementalDecoder:
    """From bytes to text; bytes that the encoding does not have become U+FFFD. ParserError for an encoding that does not exist."""
    try:
        name = codecs.lookup(encoding or "utf-8").name
        made = codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)("replace")
        if isinstance(made.decode(b""), str):
            return made
    except (LookupError, ValueError, TypeError, AssertionError):  # hex, for one, only encodes strictly and asserts it
        pass
    raise ParserError(f"the encoding {str(encoding)[:40]!r} is not known")


class CleanText(io.RawIOBase):
    """A file in any encoding, as UTF-8 without a BOM and without a bad byte."""

    def __init__(self, file: io.BufferedReader, encoding: str | None) -> None:
        self._file = file
        self._decoder = decoder(encoding)
        self._ready = b""
        self._is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._ready and not self._is_at_end:
            data = self._file.read1(CHUNK_BYTES)
            self._is_at_end = not data
            text = self._decoder.decode(data, final=self._is_at_end)
            # A decoder of UTF-7, for one, makes halves of surrogate pairs.
            self._ready = text.encode("utf-8", "replace")
        part, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(part)] = part
        return len(part)


def clean(file: BinaryIO, encoding: str | None) -> BinaryIO:
    """The file as a stream of clean UTF-8. ParserError for an unknown encoding."""
    # read1: what a read gives before an error must not be lost with it
    return io.BufferedReader(CleanText(cast(io.BufferedReader, file), encoding), CHUNK_BYTES)
