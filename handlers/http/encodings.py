"""Content-Encoding: the decoders of compressed request bodies.

No I/O inside: a reader feeds what the socket gave. Decoded bytes come in small steps, so a small body never becomes large memory.
"""

import zlib
from collections.abc import Iterator

# The most bytes that one step of decompression gives.
DECODE_STEP_BYTES = 64 * 1024

PLAIN = frozenset({"", "identity"})
ENCODINGS = PLAIN | {"gzip", "deflate"}


def decoder(encoding: str) -> "Plain | Inflate":
    """The decoder for a Content-Encoding of ENCODINGS; any other encoding is passed on undecoded."""
    return Inflate(encoding) if encoding in ("gzip", "deflate") else Plain()


class BadEncoding(Exception):
    """The body does not match its Content-Encoding, or ends too early."""


class Plain:
    """The decoder of a body without an encoding: it passes the bytes on."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        pass


class Inflate:
    """The decoder of gzip (any number of members) and of deflate (a zlib stream, or raw deflate, which some clients send)."""

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding == "gzip"
        self._decoder = zlib.decompressobj(31 if self._is_gzip else 15)
        self._is_between = True  # at the start of the body or after a member, where the body may end

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the decoded bytes in steps of at most DECODE_STEP_BYTES. Raises BadEncoding when the data is broken."""
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
            # After a full step the decoder may hold more output although it has consumed all its input.
            is_more = not self._decoder.eof and len(decoded) == DECODE_STEP_BYTES
            if decoded:
                yield decoded

    def finish(self) -> None:
        """The body has ended. Raises BadEncoding when it ended inside a member."""
        if not self._is_between:
            raise BadEncoding("the encoded body is cut short")

    def _choose_deflate(self, data: bytes) -> None:
        """Every zlib stream begins with a byte whose low half is 8; data that begins differently is raw deflate."""
        if not self._is_gzip and self._is_between and data[0] & 0x0F != 8:
            self._decoder = zlib.decompressobj(-15)


def _reason(error: zlib.error) -> str:
    """The message of zlib without its numbers, such as `incorrect header check`."""
    return str(error).rpartition(": ")[2]
