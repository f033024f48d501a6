"""Packed files, unpacked as they are read, and no further than a cap: a small file can hold terabytes of zeros.

Knows no formats of data and no folders.
"""

import bz2
import gzip
import io
import lzma
import zlib
from typing import BinaryIO, cast

from engine.tasks.preview.failures import TooManyBytes

SUFFIXES = (".gz", ".bz2", ".xz")
BUFFER_BYTES = 256 * 1024
# A header of xz may ask for 1.5 GiB to unpack the first byte.
XZ_MEMORY_BYTES = 96 * 1024 * 1024
# What the libraries raise for a damaged file; gzip.BadGzipFile and many more are OSErrors.
DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError)


def without_suffix(name: str) -> tuple[str, str]:
    """The name in lower case, and the suffix of its packing or an empty text."""
    name = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix), suffix


def unpacked(file: BinaryIO, name: str, max_bytes: int) -> BinaryIO:
    """The content of a file, by the suffix of its name. TooManyBytes comes out of a read beyond `max_bytes` of a packed one."""
    suffix = without_suffix(name)[1]
    if not suffix:
        return file
    openers = {".gz": lambda: gzip.GzipFile(fileobj=file), ".bz2": lambda: bz2.BZ2File(file), ".xz": lambda: _Xz(file)}
    return io.BufferedReader(_Capped(cast(BinaryIO, openers[suffix]()), file, max_bytes), BUFFER_BYTES)


class _Capped(io.RawIOBase):
    """As many bytes of the content of a packed file as are allowed; closing this closes the packed file."""

    def __init__(self, file: BinaryIO, packed: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._packed = packed
        self._max = max_bytes
        self._left = max_bytes

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._packed.close()
        super().close()

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._file.read(min(len(view), self._left) or 1)
        if data and not self._left:
            raise TooManyBytes(f"the file has more than {self._max:,} bytes when it is unpacked")
        self._left -= len(data)
        view[: len(data)] = data
        return len(data)


class _Xz:
    """The content of an xz file, read with a bound on memory, which lzma.LZMAFile cannot have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""
        self._stream: lzma.LZMADecompressor | None = None

    def read(self, size: int) -> bytes:
        """At least one byte, but at the end of the file. lzma.LZMAError, EOFError."""
        while True:
            packed = self._rest or (self._file.read(BUFFER_BYTES) if self._stream is None or self._stream.needs_input else b"")
            self._rest = b""
            if self._stream is None:
                packed = packed.lstrip(b"\0")  # padding between streams
                if not packed:
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=XZ_MEMORY_BYTES)
            elif not packed and self._stream.needs_input:
                raise EOFError("the file ends before its packed content does")
            data = self._stream.decompress(packed, size)
            if self._stream.eof:
                self._rest, self._stream = self._stream.unused_data, None
            if data:
                return data
