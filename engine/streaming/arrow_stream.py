"""A stream of Arrow record batches: as any other stream, but its first block asks for the opening of the answer, and replicas cut
record batches that are too large for one block.

The opening tells that the model can read the schema, and holds what the answer begins with. Nothing else is sent to a replica
before.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.frames import Buffer, cut
from engine.replicas.blocks import PLAIN_PACE, TEXT_PACE, Answer, Block, Pace, ServedModel, Task
from engine.replicas.lines import Lines
from engine.spill import Outbox
from engine.streaming.arrow_queue import SHARED_BYTES, ArrowQueue, Prelude, RecordBatch
from engine.streaming.failures import BAD_ARROW, StreamFailure
from engine.streaming.stream import Stream, StreamWork

# Runs in one block at most, and rows. What the scheduler knows of a model's cost may be wrong, and a block must not time out.
BLOCK_RUNS = 16
BLOCK_ROWS = 64 * 1024
# To cut a record batch costs more than to cut lines. 65,536 rows of iris, a usual batch, take about 4 ms.
ARROW_PACE = replace(PLAIN_PACE, smallest_block_s=0.008)
ARROW_TEXT_PACE = replace(TEXT_PACE, smallest_block_s=0.008)
# The window counts bytes; rows have no limit of their own.
MAX_ROWS = 2**62


@dataclass(frozen=True, slots=True)
class ArrowTasks:
    """What replicas do for a stream of record batches.

    open   say whether the model can read a schema, and how the answer begins
    cut    cut a record batch into smaller ones, with the columns that the model reads
    score  answer the rows of some record batches
    """

    open: Task
    cut: Task
    score: Task


@dataclass(frozen=True, slots=True, eq=False)
class ArrowModel(ServedModel):
    """A model as the scheduler sees it behind a stream of record batches: one block may hold several runs."""

    @property
    def pace(self) -> Pace:
        return ARROW_TEXT_PACE if self.tokens else ARROW_PACE

    @classmethod
    def of(cls, model: ServedModel) -> "ArrowModel":
        values = {name: getattr(model, name) for name in ServedModel.__dataclass_fields__}
        return cls(**values | {"max_batch_size": max(model.max_batch_size, min(model.max_batch_size * BLOCK_RUNS, BLOCK_ROWS))})


@dataclass(slots=True)
class Opening:
    """How the answer begins, as a replica has said it.

    last    a record batch without rows that ends an answer, in whose metadata stands `marker` for the last line
    fields  the columns that the model reads
    """

    last: bytes
    marker: bytes
    fields: list[str] = field(default_factory=list)

    def last_message(self, line: bytes) -> bytes:
        """The batch without rows that says how the stream has ended. `line` is JSON, which may have blanks at its end."""
        size = len(self.marker)
        return self.last.replace(self.marker, line[:size].ljust(size))


class ArrowStream(Stream):
    """One bulk request whose body is an Arrow stream.

    opening                  how the answer begins; None until a replica has said it
    dictionary_bytes         of all dictionaries that are in use, once they are decompressed
    num_dictionary_messages  in which they came
    """

    def __init__(self, work: StreamWork, tasks: ArrowTasks, outbox: Outbox, *, window_bytes: int, wake: Callable[[], None]) -> None:
        work = replace(work, task=tasks.score, model=ArrowModel.of(work.model))
        super().__init__(work, outbox, window_bytes=window_bytes, wake=wake)
        self.opening: Opening | None = None
        self._tasks = tasks
        self._record_batches = ArrowQueue()
        self._queue = self._record_batches
        self._max_lines = MAX_ROWS
        self._next_row = 1
        self._schema: bytes | None = None
        self._prelude: Prelude | None = None  # of the next record batch; None when a dictionary has come since the last one
        self._dictionaries: dict[int, list[tuple[bytes, int]]] = {}
        self.dictionary_bytes = 0
        self.num_dictionary_messages = 0
        self._is_opening = False
        self._cut: dict[Block, RecordBatch] = {}

    # Messages in

    def feed_schema(self, message: bytes) -> None:
        """The first message of the body."""
        self._schema = message

    def feed_dictionary(self, message: bytes, num_bytes: int, dictionary: int, *, is_delta: bool) -> None:
        """The values of a dictionary, or more of them, for the record batches that follow.

        num_bytes  of the values once they are decompressed
        """
        known = self._dictionaries.pop(dictionary, [])  # a dictionary stands behind those that its values may use
        if not is_delta:
            self.dictionary_bytes -= sum(size for _, size in known)
            self.num_dictionary_messages -= len(known)
            known = []
        known.append((message, num_bytes))
        self._dictionaries[dictionary] = known
        self.dictionary_bytes += num_bytes
        self.num_dictionary_messages += 1
        self._prelude = None

    def feed_records(self, buffers: list[Buffer], num_bytes: int, num_rows: int) -> None:
        """A record batch, to be scored when a replica is free.

        num_bytes  of it, and more if it is compressed: what a replica has of it once it is decompressed
        """
        if self._schema is None or not num_rows:
            return
        if self._prelude is None:
            self._prelude = Prelude(self._schema, [one for messages in self._dictionaries.values() for one, _ in messages])
        if not self._queue.num_lines:
            self.waiting_since = time.monotonic()
        self._record_batches.append(RecordBatch(self._prelude, buffers, num_bytes, num_rows, self._next_row))
        self._next_row += num_rows

    # Blocks out

    @property
    def _num_lines(self) -> int:
        """Rows that no replica has taken, or that one has returned; one more while the answer has not begun."""
        return super()._num_lines + self._must_open

    @property
    def _first_waiting(self) -> tuple[int, ...]:
        """Rows may have been away to be cut, so that those in the queue may be the next ones."""
        return (*super()._first_waiting, self._record_batches.first_row)

    @property
    def _must_open(self) -> bool:
        return self._schema is not None and not self._is_opening

    @property
    def num_waiting(self) -> int:
        if self.opening is None:
            return int(self._must_open and not self.has_left)
        return super().num_waiting

    def take(self, size: int) -> Block:
        if self._must_open:
            self._is_opening = True
            return self._block(self._tasks.open, Lines((self._schema or b"",), num_lines=0), self._arguments, self.model)
        if self._returned:
            return super().take(size)
        max_rows = self._rows_of(size)
        return self._cutting(max_rows) if self._record_batches.must_be_cut(max_rows) else super().take(max_rows)

    def _rows_of(self, size: int) -> int:
        """The rows that cost `size` units of the model."""
        tokens = self.model.tokens
        if tokens is None:
            return size
        return max(1, size // min(self._record_batches.row_bytes(), tokens.record_bytes))

    def _cutting(self, max_rows: int) -> Block:
        """The block that makes pieces of the first record batch. It names no model: its time says nothing of the model's cost."""
        row_bytes = self._record_batches.row_bytes()
        batch = self._record_batches.take_out()
        prelude = batch.prelude
        num_bytes = batch.bytes_left + prelude.num_bytes
        self._unanswered_bytes += num_bytes
        arguments = {
            "fields": self.opening.fields if self.opening else [],
            "skip": batch.num_taken,
            "row_limit_bytes": self._arguments["row_limit_bytes"],
            "piece_rows": max(max_rows, SHARED_BYTES // row_bytes),
        }
        buffers = [prelude.schema, *prelude.dictionaries, *batch.buffers]
        block = self._block(self._tasks.cut, Lines(buffers, num_bytes=num_bytes), arguments, None)
        self._cut[block] = batch
        return block

    # Answers back

    def answered(self, block: Block, answer: Answer) -> None:
        if self.has_left:
            return
        if "refused" in answer.header:
            self.fail(StreamFailure(BAD_ARROW, answer.header["refused"]))
        elif block.task is self._tasks.open:
            self._opened(answer)
        elif block.task is self._tasks.cut:
            self._was_cut(block, answer)
        else:
            super().answered(block, answer)

    def _opened(self, answer: Answer) -> None:
        begin, last, marker = (bytes(piece) for piece in cut(answer.payload, answer.header["pieces"]))
        self.opening = Opening(last, marker, answer.header["fields"])
        self._deliver(begin, 0, 1)
        self._settle()
        self._wake()

    def _was_cut(self, block: Block, answer: Answer) -> None:
        whole = self._cut.pop(block)
        schema, *messages = cut(answer.payload, answer.header["pieces"])
        prelude, first_row, pieces = Prelude(bytes(schema)), whole.first_row + whole.num_taken, []
        for message, num_rows in zip(messages, answer.header["rows"], strict=True):
            pieces.append(RecordBatch(prelude, (message,), len(message), num_rows, first_row))
            first_row += num_rows
        whole.num_taken = first_row - whole.first_row
        if whole.rows_left:  # the answer would have been too large for all of them
            pieces.append(whole)
        self._record_batches.put_back(pieces)
        self._deliver(b"", block.lines.num_bytes, 1)
        self._wake()
