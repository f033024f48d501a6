"""Messages of an Arrow stream, as far as the server process looks into them: what one is, how long its body is, how many rows.

Every message is `0xFFFFFFFF`, the length of its metadata, the metadata (a flatbuffer) and a body. Only a few fields of the metadata
are read, each within the bytes that are there. Nothing is allocated by what a message says. Replicas read the rest.

Source: Apache Arrow, "Encapsulated message format", with Message.fbs and Schema.fbs.
"""

import enum
import struct
from dataclasses import dataclass

from engine.frames import Buffer

CONTINUATION = b"\xff\xff\xff\xff"
# Before the metadata: the continuation and the length of the metadata. A length of 0 ends the stream.
PREFIX = struct.Struct("<4si")
END_OF_STREAM = PREFIX.pack(CONTINUATION, 0)
# A body has at most so many buffers, so that looking at all of them takes a few milliseconds: enough for 5,000 columns of texts.
MAX_BUFFERS = 16 * 1024
# A row takes at least one bit, or a batch of a few bytes could ask for any number of error rows.
ROWS_PER_BYTE = 8
FREE_ROWS = 64

# With this key in the custom metadata of an old message pyarrow decompresses its buffers, whatever they claim.
OLD_COMPRESSION = b"ARROW:experimental_compression"

_INT16 = struct.Struct("<h")
_INT32 = struct.Struct("<i")
_UINT16 = struct.Struct("<H")
_UINT32 = struct.Struct("<I")
_INT64 = struct.Struct("<q")
_BUFFER = struct.Struct("<qq")
# Fields of a table: Message, DictionaryBatch, RecordBatch.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DICTIONARY_ID, _DICTIONARY_DATA, _IS_DELTA = 0, 1, 2
_NUM_ROWS, _BUFFERS, _COMPRESSION = 0, 2, 3


class BadMessage(ValueError):
    """The bytes are not a message of an Arrow stream, or one that is not taken; says why."""


class MessageKind(enum.IntEnum):
    """What a message is: the numbers of MessageHeader in Message.fbs."""

    SCHEMA = 1
    DICTIONARY = 2
    RECORDS = 3


@dataclass(frozen=True, slots=True)
class MessageHead:
    """What the metadata of a message say.

    body_bytes     length of the body
    num_rows       of a record batch, else 0
    dictionary     id of the dictionary that a dictionary batch is part of
    is_delta       whether it adds to that dictionary, and does not replace it
    buffers        offset and length of each buffer in the body
    is_compressed  each buffer begins with its length before it was compressed
    """

    kind: MessageKind
    body_bytes: int
    num_rows: int = 0
    dictionary: int = 0
    is_delta: bool = False
    buffers: tuple[tuple[int, int], ...] = ()
    is_compressed: bool = False


def read_head(metadata: bytes) -> MessageHead:
    """What the metadata of a message say. BadMessage."""
    if OLD_COMPRESSION in metadata:
        raise BadMessage("compression as Arrow 0.17 had it is not taken")
    try:
        return _read_head(metadata)
    except struct.error:
        raise BadMessage("the metadata of a message point outside of themselves") from None


def decoded_bytes(head: MessageHead, body: Buffer) -> int:
    """Bytes of all buffers once they are decompressed, as the body claims it. BadMessage if a claim makes no sense."""
    if not head.is_compressed:
        return sum(length for _, length in head.buffers)
    total = 0
    for offset, length in head.buffers:
        if not length:
            continue
        if length < _INT64.size:
            raise BadMessage("a compressed buffer is too short for its length")
        [claimed] = _INT64.unpack_from(body, offset)
        if claimed < -1:
            raise BadMessage("a compressed buffer claims a negative length")
        total += length - _INT64.size if claimed == -1 else claimed
    return total


class _Table:
    """A table of a flatbuffer. Raises struct.error where it points outside of the bytes."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._fields = position - _read(_INT32, data, position)
        self._size = _read(_UINT16, data, self._fields)

    def _place(self, field: int) -> int:
        """The position of a field's value; 0 if the table does not have it."""
        entry = 4 + 2 * field
        offset = _read(_UINT16, self._data, self._fields + entry) if entry + 2 <= self._size else 0
        return self._position + offset if offset else 0

    def number(self, field: int, kind: struct.Struct) -> int:
        place = self._place(field)
        return _read(kind, self._data, place) if place else 0

    def flag(self, field: int) -> bool:
        place = self._place(field)
        return bool(place and _read(struct.Struct("<B"), self._data, place))

    def table(self, field: int) -> "_Table | None":
        place = self._place(field)
        return _Table(self._data, place + _read(_UINT32, self._data, place)) if place else None

    def pairs(self, field: int) -> tuple[tuple[int, int], ...]:
        """A vector of structs of two 64-bit integers. BadMessage if they are too many."""
        place = self._place(field)
        if not place:
            return ()
        start = place + _read(_UINT32, self._data, place)
        count = _read(_UINT32, self._data, start)
        if count > MAX_BUFFERS:
            raise BadMessage(f"a message has more than {MAX_BUFFERS:,} buffers")
        start += _UINT32.size
        end = start + count * _BUFFER.size
        if end > len(self._data):
            raise struct.error
        return tuple(_BUFFER.iter_unpack(self._data[start:end]))


def _read(kind: struct.Struct, data: bytes, position: int) -> int:
    """One integer. `unpack_from` would count a negative position from the end."""
    if position < 0:
        raise struct.error
    value: int = kind.unpack_from(data, position)[0]
    return value


def _read_head(metadata: bytes) -> MessageHead:
    message = _Table(metadata, _read(_UINT32, metadata, 0))
    kind = message.number(_HEADER_TYPE, struct.Struct("<B"))
    body_bytes = message.number(_BODY_LENGTH, _INT64)
    header = message.table(_HEADER)
    if header is None or kind not in MessageKind.__members__.values():
        raise BadMessage("a message is neither a schema nor a dictionary nor a record batch")
    if body_bytes < 0:
        raise BadMessage("a message has a body of negative length")
    if kind == MessageKind.SCHEMA:
        return MessageHead(MessageKind.SCHEMA, body_bytes)
    if kind == MessageKind.DICTIONARY:
        return _dictionary(header, body_bytes)
    return _records(header, MessageKind.RECORDS, body_bytes)


def _dictionary(header: _Table, body_bytes: int) -> MessageHead:
    data = header.table(_DICTIONARY_DATA)
    if data is None:
        raise BadMessage("a dictionary has no values")
    head = _records(data, MessageKind.DICTIONARY, body_bytes)
    return MessageHead(
        kind=MessageKind.DICTIONARY,
        body_bytes=body_bytes,
        dictionary=header.number(_DICTIONARY_ID, _INT64),
        is_delta=header.flag(_IS_DELTA),
        buffers=head.buffers,
        is_compressed=head.is_compressed,
    )


def _records(header: _Table, kind: MessageKind, body_bytes: int) -> MessageHead:
    num_rows = header.number(_NUM_ROWS, _INT64)
    if num_rows < 0:
        raise BadMessage("a record batch has a negative number of rows")
    buffers = header.pairs(_BUFFERS)
    if any(offset < 0 or length < 0 or offset + length > body_bytes for offset, length in buffers):
        raise BadMessage("a buffer lies outside of the body of its message")
    is_compressed = header.table(_COMPRESSION) is not None
    return MessageHead(kind, body_bytes, num_rows, buffers=buffers, is_compressed=is_compressed)
