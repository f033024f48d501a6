"""Rows of an Arrow stream that wait to become blocks: record batches that were read and that no replica has taken yet.

Plain bytes and arithmetic. A block has whole record batches behind their schema and dictionaries, so its bytes are an Arrow stream
by themselves; which of their rows are meant stands beside them. Knows nothing of replicas, or of what a column holds.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from engine.frames import Buffer
from engine.replicas.lines import Lines

# A record batch up to this size may travel once for each part of its rows that becomes a block. A replica cuts a larger one first.
SHARED_BYTES = 256 * 1024
# Record batches travel together up to this size; one that is larger travels alone.
TOGETHER_BYTES = 4 * 1024 * 1024


# What a dictionary takes in memory besides its bytes.
DICTIONARY_COST_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Prelude:
    """What a record batch needs before it: the schema, and the dictionaries as they were when it came. It is only itself."""

    schema: Buffer
    dictionaries: Sequence[Buffer] = ()

    @property
    def num_bytes(self) -> int:
        """Of all dictionaries."""
        return sum(len(one) + DICTIONARY_COST_BYTES for one in self.dictionaries)


@dataclass(slots=True)
class RecordBatch:
    """One record batch of a stream, or a piece of one.

    buffers    the message, in the pieces in which it came
    first_row  1-based number of its first row in the stream
    num_taken  of its rows, from the first on, that are in blocks already
    """

    prelude: Prelude
    buffers: Sequence[Buffer]
    num_bytes: int
    num_rows: int
    first_row: int
    num_taken: int = 0

    @property
    def rows_left(self) -> int:
        return self.num_rows - self.num_taken

    @property
    def bytes_left(self) -> int:
        """The share of its bytes that stands for the rows that are left."""
        return self.share(self.num_taken, self.num_rows)

    def share(self, start: int, end: int) -> int:
        """The bytes that stand for rows [start, end); the shares of all rows add up to all bytes."""
        if not self.num_rows:
            return self.num_bytes
        return self.num_bytes * end // self.num_rows - self.num_bytes * start // self.num_rows


class ArrowRows(Lines):
    """The rows of one block as its lines: `num_lines` rows from `first_line` on; the buffers may hold more, from `origin` on.

    buffers    the schema is the first one
    num_bytes  the share of the record batches that stands for these rows, and all dictionaries
    """

    __slots__ = ()

    def without_bytes(self) -> Lines:
        """The same rows, with nothing left of what stood there but the schema."""
        return self._replace(buffers=self.buffers[:1], num_bytes=0)

    def halved(self) -> tuple[Lines, Lines]:
        """The first and the second half of at least two rows; both halves have all buffers."""
        num_first = self.num_lines // 2
        first_bytes = self.num_bytes // 2
        first = self._replace(num_lines=num_first, num_bytes=first_bytes)
        second = self._replace(
            num_lines=self.num_lines - num_first, num_bytes=self.num_bytes - first_bytes, first_line=self.first_line + num_first
        )
        return first, second


class ArrowQueue:
    """Record batches that wait, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[RecordBatch] = deque()
        self._num_behind: Counter[Prelude] = Counter()  # record batches that wait behind each of them
        self.num_lines = 0  # rows
        self.num_bytes = 0  # of the rows, and of each prelude once

    def append(self, batch: RecordBatch) -> None:
        self._count(batch)
        self._waiting.append(batch)

    def put_back(self, pieces: Sequence[RecordBatch]) -> None:
        """The pieces of a record batch that was taken out to be cut, in its place."""
        for piece in pieces:
            self._count(piece)
        self._waiting = deque(sorted((*pieces, *self._waiting), key=lambda batch: batch.first_row + batch.num_taken))

    @property
    def first_row(self) -> int:
        """Number of the first row that waits; 0 if none does."""
        return self._waiting[0].first_row + self._waiting[0].num_taken if self._waiting else 0

    def must_be_cut(self, max_rows: int) -> bool:
        """Whether the first record batch is too large to travel once for each block of its rows. One must be waiting."""
        first = self._waiting[0]
        return first.rows_left > max_rows and first.num_bytes + first.prelude.num_bytes > SHARED_BYTES

    def take_out(self) -> RecordBatch:
        """The first record batch, to be cut."""
        batch = self._popped()
        self.num_lines -= batch.rows_left
        self.num_bytes -= batch.bytes_left
        return batch

    def row_bytes(self) -> int:
        """Bytes of a row of the first record batch, on average, rounded up. One must be waiting."""
        first = self._waiting[0]
        return first.num_bytes // max(1, first.num_rows) + 1

    def take(self, max_rows: int) -> ArrowRows:
        """The next rows, at most `max_rows`. One record batch must be waiting."""
        first = self._waiting[0]
        if first.rows_left > max_rows:
            start, first.num_taken = first.num_taken, first.num_taken + max_rows
            return self._taken([first], first.first_row + start, max_rows, first.share(start, first.num_taken))
        batches = [self._popped()]
        num_rows, num_bytes = first.rows_left, first.bytes_left
        while self._waiting and self._is_next(batches, num_rows, num_bytes, max_rows):
            batch = self._popped()
            batches.append(batch)
            num_rows += batch.num_rows
            num_bytes += batch.num_bytes
        return self._taken(batches, first.first_row + first.num_taken, num_rows, num_bytes)

    def _is_next(self, batches: list[RecordBatch], num_rows: int, num_bytes: int, max_rows: int) -> bool:
        """Whether the batch that waits can travel with these."""
        batch, last = self._waiting[0], batches[-1]
        is_behind = batch.prelude is last.prelude and batch.first_row == last.first_row + last.num_rows and not batch.num_taken
        return is_behind and num_rows + batch.num_rows <= max_rows and num_bytes + batch.num_bytes <= TOGETHER_BYTES

    def _taken(self, batches: list[RecordBatch], first_row: int, num_rows: int, num_bytes: int) -> ArrowRows:
        self.num_lines -= num_rows
        self.num_bytes -= num_bytes
        prelude = batches[0].prelude
        buffers = [prelude.schema, *prelude.dictionaries, *(buffer for batch in batches for buffer in batch.buffers)]
        return ArrowRows(buffers, num_rows, num_bytes + prelude.num_bytes, first_row, origin=batches[0].first_row)

    def _count(self, batch: RecordBatch) -> None:
        """A record batch comes to wait."""
        self.num_lines += batch.rows_left
        self.num_bytes += batch.bytes_left
        if not self._num_behind[batch.prelude]:
            self.num_bytes += batch.prelude.num_bytes
        self._num_behind[batch.prelude] += 1

    def _popped(self) -> RecordBatch:
        """The first record batch, which waits no longer; its rows are still counted."""
        batch = self._waiting.popleft()
        self._num_behind[batch.prelude] -= 1
        if not self._num_behind[batch.prelude]:
            del self._num_behind[batch.prelude]
            self.num_bytes -= batch.prelude.num_bytes
        return batch
