"""Bytes of an Arrow stream to its messages, handed to somebody who takes them as they come.

No I/O inside: the code that reads the socket feeds its bytes. Only the head of a message is looked into (arrow_messages.py);
replicas read the rest.
"""

from typing import Protocol

from engine.frames import Buffer
from engine.streaming.arrow_messages import (
    CONTINUATION,
    FREE_ROWS,
    PREFIX,
    ROWS_PER_BYTE,
    BadMessage,
    MessageHead,
    MessageKind,
    decoded_bytes,
    read_head,
)

# More dictionary messages in use are refused: each record batch travels behind all of them.
MAX_DICTIONARY_MESSAGES = 1024
# How an Arrow file begins, which is another format than a stream.
FILE_MAGIC = b"ARROW1"


class Taker(Protocol):
    """Who takes the messages, such as an ArrowStream."""

    dictionary_bytes: int
    num_dictionary_messages: int

    def feed_schema(self, message: bytes) -> None: ...

    def feed_dictionary(self, message: bytes, num_bytes: int, dictionary: int, *, is_delta: bool) -> None: ...

    def feed_records(self, buffers: list[Buffer], num_bytes: int, num_rows: int) -> None: ...


class ArrowCutter:
    """Cuts a stream at the ends of messages, and feeds them to who takes them.

    metadata_limit_bytes  a message with longer metadata is refused
    num_messages          that have come in full
    batch_limit_bytes     a message with a longer body is refused before its body is kept; so is a compressed one that claims to
                          be longer, and a stream whose dictionaries together are longer
    """

    def __init__(self, taker: Taker, *, metadata_limit_bytes: int, batch_limit_bytes: int) -> None:
        self._taker = taker
        self._metadata_limit = metadata_limit_bytes
        self._limit = batch_limit_bytes
        self._held: list[Buffer] = []  # of the message that has not come in full
        self._held_bytes = 0
        self._wanted_bytes = PREFIX.size  # of it, before we can look at it again
        self._metadata_bytes = 0
        self._head: MessageHead | None = None
        self._has_schema = False
        self._has_ended = False
        self.num_messages = 0

    def feed(self, data: bytes) -> None:
        """The next bytes. BadMessage."""
        view, position = memoryview(data), 0
        while position < len(view):
            if self._has_ended:
                raise BadMessage("bytes follow the end of the stream")
            piece = view[position : position + self._wanted_bytes - self._held_bytes]
            self._held.append(piece)
            self._held_bytes += len(piece)
            position += len(piece)
            if self._held_bytes == self._wanted_bytes:
                self._step()

    def finish(self) -> None:
        """There are no more bytes, with or without the mark for it. BadMessage inside a message, or without a schema."""
        if self._held_bytes:
            raise BadMessage("it ends inside a message")
        if not self._has_schema:
            raise BadMessage("it is empty, and such a stream begins with a schema")

    def _step(self) -> None:
        """What was wanted of the message is here. BadMessage."""
        if self._head is not None:
            self._whole(self._head)
        elif self._metadata_bytes:
            self._metadata_are_here()
        else:
            self._prefix_is_here()

    def _prefix_is_here(self) -> None:
        prefix = b"".join(self._held)
        continuation, self._metadata_bytes = PREFIX.unpack(prefix)
        if continuation != CONTINUATION:
            raise BadMessage(_why_not(prefix))
        if not self._metadata_bytes:
            self._has_ended = True
            self._forget()
        elif not 0 < self._metadata_bytes <= self._metadata_limit:
            raise BadMessage(f"a message has metadata of {self._metadata_bytes:,} bytes, and {self._metadata_limit:,} are the most")
        else:
            self._wanted_bytes += self._metadata_bytes

    def _metadata_are_here(self) -> None:
        head = read_head(b"".join(self._held)[PREFIX.size :])
        if (head.kind is MessageKind.SCHEMA) == self._has_schema:
            raise BadMessage("a second schema comes" if self._has_schema else "the first message is not a schema")
        if head.body_bytes > self._limit:
            raise BadMessage(self._too_large("a message", head.body_bytes))
        self._head = head
        self._wanted_bytes += head.body_bytes
        if self._held_bytes == self._wanted_bytes:
            self._whole(head)

    def _whole(self, head: MessageHead) -> None:
        """The whole message is here."""
        self.num_messages += 1
        buffers, num_bytes = self._held, self._held_bytes
        if head.kind is MessageKind.SCHEMA:
            self._has_schema = True
            self._taker.feed_schema(b"".join(buffers))
        else:
            self._feed(head, [b"".join(buffers)] if head.is_compressed else buffers, num_bytes)
        self._forget()

    def _feed(self, head: MessageHead, buffers: list[Buffer], num_bytes: int) -> None:
        """A message with data, unless it claims more than it may. BadMessage."""
        claimed = decoded_bytes(head, memoryview(buffers[0])[num_bytes - head.body_bytes :])
        if claimed > self._limit:
            raise BadMessage(self._too_large("a message", claimed))
        if head.kind is MessageKind.RECORDS:
            if head.num_rows > FREE_ROWS + ROWS_PER_BYTE * claimed:
                raise BadMessage(f"a record batch claims {head.num_rows:,} rows in {claimed:,} bytes")
            self._taker.feed_records(buffers, max(num_bytes, claimed), head.num_rows)
        else:
            self._taker.feed_dictionary(b"".join(buffers), max(num_bytes, claimed), head.dictionary, is_delta=head.is_delta)
        if self._taker.num_dictionary_messages > MAX_DICTIONARY_MESSAGES:
            raise BadMessage(f"more than {MAX_DICTIONARY_MESSAGES:,} dictionary messages are in use: replace a dictionary")
        if self._taker.dictionary_bytes > self._limit:
            raise BadMessage(self._too_large("the dictionaries together", self._taker.dictionary_bytes))

    def _too_large(self, what: str, num_bytes: int) -> str:
        limit = f"{self._limit:,} (SLUICE_ARROW_BATCH_LIMIT_BYTES) are the most"
        return f"{what} of {num_bytes:,} bytes, and {limit}: send smaller record batches"

    def _forget(self) -> None:
        self._held, self._held_bytes, self._wanted_bytes = [], 0, PREFIX.size
        self._metadata_bytes, self._head = 0, None


def _why_not(prefix: bytes) -> str:
    if prefix.startswith(FILE_MAGIC):
        return "it is an Arrow file; send the streaming format"
    if prefix.startswith((b"{", b"[")):
        return "it looks like JSON; send lines without this Content-Type"
    return "a message does not begin with 0xFFFFFFFF"
