"""Content-Encoding: the decoders of compressed request bodies.

No I/O inside: a reader feeds what the socket gave and takes the decoded bytes in steps. A step does little work whatever the body
holds, so the reader can let the event loop go on between two steps, and a small body never becomes large memory.
"""

import zlib

# What one step does at most. Each number bounds another way to make a step long: 64 KiB of zeros are decoded in about 0.2 ms,
# 16 KiB of blocks that each bring a table of their own in about 1.5 ms, and 64 members of one byte in about 0.2 ms.
DECODE_STEP_BYTES = 64 * 1024
STEP_INPUT_BYTES = 16 * 1024
STEP_MEMBERS = 64
# The bytes that a new gzip member is given first; it gets twice as much each time it has taken all. zlib copies what it was given
# after the end of a member, so a small member must not be given a large body.
FIRST_INPUT_BYTES = 512
# More members without content than this, one after the other, are no body that somebody wants to send. A file that was put
# together from others (`cat *.gz`), or that ends with an empty member, has a few.
MAX_EMPTY_MEMBERS = 16

PLAIN = frozenset({"", "identity"})
ENCODINGS = PLAIN | {"gzip", "deflate"}


def decoder(encoding: str) -> "Plain | Inflate":
    """The decoder for a Content-Encoding of ENCODINGS; any other encoding is passed on undecoded."""
    return Inflate(encoding) if encoding in ("gzip", "deflate") else Plain()


class BadEncoding(Exception):
    """The body does not match its Content-Encoding, or ends too early."""


class Plain:
    """The decoder of a body without an encoding: it passes the bytes on.

    has_more  whether there is a next step before more bytes are fed
    """

    has_more = False

    def feed(self, data: bytes) -> None:
        self._data = data
        self.has_more = True

    def step(self) -> bytes:
        self.has_more = False
        return self._data

    def finish(self) -> None:
        pass


class Inflate:
    """The decoder of gzip (any number of members) and of deflate (a zlib stream, or raw deflate, which some clients send).

    has_more  whether there is a next step before more bytes are fed
    """

    def __init__(self, encoding: str) -> None:
        self.has_more = False
        self._is_gzip = encoding == "gzip"
        self._decoder = zlib.decompressobj(31 if self._is_gzip else 15)
        self._is_between = True  # at the start of the body or after a member, where the body may end
        self._is_full = False  # the last call gave as much as it might: there may be more output without more input
        self._is_member_empty = True
        self._num_empty = 0  # empty members, one after the other, up to this place
        self._input_bytes = FIRST_INPUT_BYTES
        self._data = memoryview(b"")
        self._fault: BadEncoding | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body; those before must have been decoded (`has_more` is false)."""
        self._data = memoryview(data)
        self.has_more = bool(data)

    def step(self) -> bytes:
        """The next decoded bytes, at most DECODE_STEP_BYTES; none if the input of this step has no content.

        Raises BadEncoding when the data is broken, after it gave what comes before that.
        """
        if self._fault is not None:
            raise self._fault
        pieces: list[bytes] = []
        room, num_members = DECODE_STEP_BYTES, 0
        end = max(0, len(self._data) - STEP_INPUT_BYTES)  # what must be left of the input
        while room and num_members < STEP_MEMBERS and (len(self._data) > end or self._is_full):
            try:
                decoded = self._decompress(len(self._data) - end, room)
            except BadEncoding as fault:
                self._fault = fault
                break
            pieces.append(decoded)
            room -= len(decoded)
            num_members += self._decoder.eof
        self.has_more = bool(self._data) or self._is_full or self._fault is not None
        return b"".join(pieces)

    def finish(self) -> None:
        """The body has ended. Raises BadEncoding when it ended inside a member."""
        if not self._is_between:
            raise BadEncoding("the encoded body is cut short")

    def _decompress(self, num_bytes: int, room: int) -> bytes:
        """Decode some of the next `num_bytes` bytes, all of one member, to at most `room` bytes."""
        if self._decoder.eof:
            self._next_member()
        if self._data:
            self._choose_deflate()
        given = self._data[: min(num_bytes, self._input_bytes)]
        try:
            decoded = self._decoder.decompress(given, room)
        except zlib.error as error:
            raise BadEncoding(f"the body is not {'gzip' if self._is_gzip else 'deflate'}: {_reason(error)}") from None
        self._is_between = self._decoder.eof
        left = len(self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail)
        self._data = self._data[len(given) - left :]
        self._is_full = not self._decoder.eof and len(decoded) == room
        self._is_member_empty = self._is_member_empty and not decoded
        self._input_bytes = min(2 * self._input_bytes, STEP_INPUT_BYTES)
        return decoded

    def _next_member(self) -> None:
        """Begin another member. Raises BadEncoding where no other may follow."""
        if not self._is_gzip:
            raise BadEncoding("data after the end of the deflate stream")
        self._num_empty = self._num_empty + 1 if self._is_member_empty else 0
        if self._num_empty > MAX_EMPTY_MEMBERS:
            raise BadEncoding(f"more than {MAX_EMPTY_MEMBERS} gzip members without content follow each other")
        self._decoder = zlib.decompressobj(31)
        self._is_member_empty = True
        self._input_bytes = FIRST_INPUT_BYTES

    def _choose_deflate(self) -> None:
        """Every zlib stream begins with a byte whose low half is 8; data that begins differently is raw deflate."""
        if not self._is_gzip and self._is_between and self._data[0] & 0x0F != 8:
            self._decoder = zlib.decompressobj(-15)


def _reason(error: zlib.error) -> str:
    """The message of zlib without its numbers, such as `incorrect header check`."""
    return str(error).rpartition(": ")[2]
