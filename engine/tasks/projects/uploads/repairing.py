"""Bytes that should be UTF-8 as bytes that are: what is not UTF-8 becomes U+FFFD, which no cell may hold. Knows no file format."""

import codecs
import io
from pathlib import Path

PIECE_BYTES = 256 * 1024


class RepairedFile(io.RawIOBase):
    """A file as it is read from start to end."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a part of the buffer; 0 at the end. One byte may become three, so that what has no room waits."""
        while not self._ready:
            piece = self._file.read(PIECE_BYTES)
            self._ready = memoryview(self._decoder.decode(piece, final=not piece).encode())
            if not piece:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def position(self) -> int:
        """How much of the file was read."""
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()
