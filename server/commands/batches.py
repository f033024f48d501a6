"""Counts the rows of an Arrow stream and of its answer for the command-line client. Bytes in, counts out; no I/O.

Only the heads of messages are read, as the server reads them; the last record batch of an answer has no rows, and the server's last
line in its metadata.
"""

import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

from engine.streaming.arrow_cutter import ArrowCutter
from engine.streaming.arrow_messages import BadMessage
from server.commands.counting import Buffer, fatal_reason

# We read what we have written or what the server has, so these only bound what a fault could claim.
METADATA_LIMIT_BYTES = 64 * 1024 * 1024
BATCH_LIMIT_BYTES = 2**40
LAST_LINE = re.compile(rb'\{"bulk_id":.*\}')


class Batches:
    """The rows of a stream, and the last line if it has one."""

    dictionary_bytes = num_dictionary_messages = 0

    def __init__(self) -> None:
        self.rows = 0
        self.last_line: dict[str, Any] | None = None
        self._body = ArrowCutter(self, metadata_limit_bytes=METADATA_LIMIT_BYTES, batch_limit_bytes=BATCH_LIMIT_BYTES)

    def feed(self, data: bytes) -> None:
        """The next bytes. BadMessage if they are no Arrow stream."""
        self._body.feed(data)

    def feed_schema(self, message: bytes) -> None:
        """Nothing is to be known of it."""

    def feed_dictionary(self, message: bytes, num_bytes: int, dictionary: int, *, is_delta: bool) -> None:
        """The same."""

    def feed_records(self, buffers: Sequence[bytes | bytearray | memoryview], num_bytes: int, num_rows: int) -> None:
        self.rows += num_rows
        if not num_rows and (found := LAST_LINE.search(b"".join(buffers))):
            self.last_line = json.loads(found[0])


class SentRows:
    """The rows of the body that was sent; what `RecordCounter` is for lines."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._batches = Batches()

    @property
    def records(self) -> int:
        return self._batches.rows

    def feed(self, data: bytes) -> None:
        """The next bytes of the body. What is wrong with them, the server says."""
        self.num_bytes += len(data)
        with contextlib.suppress(BadMessage):
            self._batches.feed(data)

    def finish(self) -> None:
        """The body has ended."""


class AnswerRows:
    """The rows of an answer; what `AnswerLines` is for lines. How many of them are errors is known at the end."""

    def __init__(self) -> None:
        self._batches = Batches()
        self.failure: str | None = None  # why the server cut the stream

    def feed(self, data: bytes) -> tuple[list[Buffer], list[Buffer]]:
        """Take the next bytes of the answer, and give them on as they are."""
        try:
            self._batches.feed(data)
        except BadMessage as error:
            self.failure = f"the answer cannot be read: {error}"
        if self._batches.last_line is not None:
            self.failure = self.failure or fatal_reason(self._batches.last_line)
        return [data], []

    @property
    def records(self) -> int:
        return self._batches.rows

    @property
    def errors(self) -> int:
        return self.summary["errors"] if self.summary else 0

    @property
    def results(self) -> int:
        return self.records - self.errors

    @property
    def summary(self) -> dict[str, int] | None:
        found: dict[str, int] | None = (self._batches.last_line or {}).get("summary")
        return found
