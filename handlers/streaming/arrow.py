"""Arrow bodies to messages: bytes in, whole messages of an Arrow stream out, handed to the stream as they come.

No I/O inside: the code that reads the socket feeds its bytes. Only the head of a message is looked into
(engine/streaming/arrow_messages.py); replicas read the rest.
"""

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
from engine.streaming.arrow_stream import ArrowStream
from engine.streaming.failures import BAD_ARROW, StreamFailure

# How an Arrow file begins, which is another format than a stream.
FILE_MAGIC = b"ARROW1"


class ArrowBody:
    """Cuts a body at the ends of messages, and feeds them to the stream.

    metadata_limit_bytes  a message with longer metadata is refused
    batch_limit_bytes     a message with a longer body is refused before its body is kept; so is a compressed one that claims to
                          be longer, and a stream whose dictionaries together are longer
    """

    is_plain = True

    def __init__(self, stream: ArrowStream, *, metadata_limit_bytes: int, batch_limit_bytes: int) -> None:
        self._stream = stream
        self._metadata_limit = metadata_limit_bytes
        self._limit = batch_limit_bytes
        self._held: list[Buffer] = []  # of the message that has not come in full
        self._held_bytes = 0
        self._wanted_bytes = PREFIX.size  # of it, before we can look at it again
        self._metadata_bytes = 0
        self._head: MessageHead | None = None
        self._has_schema = False
        self._has_ended = False

    def feed(self, data: bytes) -> None:
        """The next bytes of the body. StreamFailure `bad_arrow`."""
        view, position = memoryview(data), 0
        try:
            while position < len(view):
                if self._has_ended:
                    raise BadMessage("bytes follow the end of the stream")
                piece = view[position : position + self._wanted_bytes - self._held_bytes]
                self._held.append(piece)
                self._held_bytes += len(piece)
                position += len(piece)
                if self._held_bytes == self._wanted_bytes:
                    self._step()
        except BadMessage as error:
            raise StreamFailure(BAD_ARROW, f"the body is not an Arrow stream that can be read: {error}") from None

    def finish(self) -> None:
        """The body has ended, with or without the mark for it. StreamFailure `bad_arrow` inside a message, or without a schema."""
        if self._held_bytes:
            raise StreamFailure(BAD_ARROW, "the body ends inside a message of the Arrow stream")
        if not self._has_schema:
            raise StreamFailure(BAD_ARROW, "the body is empty, and an Arrow stream begins with a schema")

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
        buffers, num_bytes = self._held, self._held_bytes
        if head.kind is MessageKind.SCHEMA:
            self._has_schema = True
            self._stream.feed_schema(b"".join(buffers))
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
            self._stream.feed_records(buffers, max(num_bytes, claimed), head.num_rows)
        else:
            self._stream.feed_dictionary(b"".join(buffers), max(num_bytes, claimed), head.dictionary, is_delta=head.is_delta)
        if self._stream.dictionary_bytes > self._limit:
            raise BadMessage(self._too_large("the dictionaries together", self._stream.dictionary_bytes))

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
