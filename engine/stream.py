"""A stream: one bulk request, from its first line to its last result.

Holds the lines that wait, counts what is unanswered, keeps order where asked, and says when more may be read. No I/O: lines come in
through `feed`, blocks leave through `take`, results come back through `answered` and leave through the outbox.
"""

import asyncio
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.blocks import Answer, Block, ServedModel
from engine.errors import RECORD_CODES, StreamFailure
from engine.frames import Buffer, Header
from engine.queues import GroupedLineQueue, LineQueue, Segment
from engine.spill import Outbox

WINDOW_BLOCKS = 16
# Lines of a model that tokenises which may wait beside those 16 blocks: the more, the closer are the lengths of a block's texts.
GROUPING_LINES = 4096
# The same where results are held back until their turn: each that is held takes some kilobytes.
ORDERED_GROUPING_LINES = 512
# A client that took nothing for this long while results wait is not reading: it will get them from the spill. A client that is only
# slower than the replicas never meets this, and its results never touch the disk.
SPILL_AFTER_S = 0.1


class StreamState(enum.StrEnum):
    RUNNING = "running"  # reads, scores, writes
    SPILLING = "spilling"  # the client does not read: results go to the spill
    FULL = "full"  # the spill is at its limit: reading has stopped
    FINISHING = "finishing"  # the body has ended, results are still to come


@dataclass(slots=True)
class Counts:
    """What a stream has seen; `records` is what was answered."""

    results: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def records(self) -> int:
        return self.results + self.errors


@dataclass(slots=True)
class Reordering:
    """Results held back until their turn, for `ordered=true`; by first line of what they answer.

    Every line of the body has exactly one entry (a blank line an empty one), so the next turn is always known.
    """

    next_line: int = 1
    held: dict[int, tuple[int, Buffer, int, int]] = field(default_factory=dict)

    def put(self, first_line: int, num_lines: int, data: Buffer, num_bytes: int, num_blocks: int) -> None:
        self.held[first_line] = (num_lines, data, num_bytes, num_blocks)

    def take(self) -> tuple[Buffer, int, int] | None:
        """The next data in order, the input bytes it answers and the blocks whose turn came with it, if it is here."""
        if self.next_line not in self.held:
            return None
        num_lines, data, num_bytes, num_blocks = self.held.pop(self.next_line)
        self.next_line += num_lines
        return data, num_bytes, num_blocks


class Stream:
    """One bulk request. States: running, spilling, full, finishing, then ended, failed or left."""

    def __init__(
        self,
        bulk_id: str,
        model: ServedModel,
        header: Header,
        outbox: Outbox,
        *,
        window_bytes: int,
        is_ordered: bool,
        wake: Callable[[], None],
    ) -> None:
        self.bulk_id = bulk_id
        self.model = model
        self.outbox = outbox
        self.counts = Counts()
        self.departed = False
        self.failure: StreamFailure | None = None
        self.waiting_since = time.monotonic()
        self._header = {**header, "bulk_id": bulk_id}
        self._window_bytes = window_bytes
        self._reordering = Reordering() if is_ordered else None
        self._wake = wake
        self._queue: LineQueue | GroupedLineQueue = (
            GroupedLineQueue(model.tokens, model.max_batch_size) if model.tokens else LineQueue()
        )
        self._max_lines = WINDOW_BLOCKS * model.max_batch_size
        if model.tokens:
            self._max_lines = max(self._max_lines, ORDERED_GROUPING_LINES if is_ordered else GROUPING_LINES)
        self._unanswered_blocks = 0
        self._unanswered_bytes = 0  # taken by a replica, or answered and held back for its turn
        self._is_body_ended = False
        self._room = asyncio.Event()
        self.broken = asyncio.Event()  # failed, and what waits is not worth sending

    @property
    def state(self) -> StreamState:
        if self.outbox.is_spilling:
            return StreamState.FULL if self.outbox.is_full else StreamState.SPILLING
        return StreamState.FINISHING if self._is_body_ended else StreamState.RUNNING

    @property
    def is_body_ended(self) -> bool:
        return self._is_body_ended

    # Lines in

    def feed(self, segment: Segment) -> None:
        """Whole lines from the body, to be scored when a replica is free."""
        if not self._queue.num_lines:
            self.waiting_since = time.monotonic()
        self._queue.append(segment)

    def offer(self) -> None:
        """Lines were fed: let free replicas look."""
        self._wake()

    def body_ended(self, failure: StreamFailure | None = None) -> None:
        """Nothing more comes. With a failure (the body broke off) what came before is still answered."""
        self._is_body_ended = True
        self.failure = self.failure or failure
        self._settle()

    @property
    def has_room(self) -> bool:
        """Whether more of the body may be read: the window is open and the results find a place."""
        if self.outbox.is_over_memory_limit or self.outbox.is_full:
            return False
        if self._unanswered_bytes + self._queue.num_bytes >= self._window_bytes:
            return False
        return self._unanswered_blocks < WINDOW_BLOCKS and self._queue.num_lines < self._max_lines

    async def room(self, taken_bytes: Callable[[], int]) -> None:
        """Wait until more of the body may be read. A client that takes nothing meanwhile makes the stream spill.

        taken_bytes  tells how many bytes the client's side of the socket has accepted so far
        """
        while not self.has_room and not self.departed:
            self._room.clear()
            before = taken_bytes()
            try:
                async with asyncio.timeout(SPILL_AFTER_S):
                    await self._room.wait()
            except TimeoutError:
                if self.outbox.is_over_memory_limit and taken_bytes() == before:
                    self.outbox.begin_spilling()
                self._look_again()

    def _look_again(self) -> None:
        if self.has_room:
            self._room.set()
        if self._queue.num_lines:
            self._wake()

    # Blocks out

    @property
    def num_waiting(self) -> int:
        """What waits to be cut into blocks; nothing while results find no place, so that memory stays bounded."""
        if self.departed or self.outbox.is_over_memory_limit or self.outbox.is_full or self._unanswered_blocks >= WINDOW_BLOCKS:
            return 0
        return self.model.units(self._queue.num_lines, self._queue.num_bytes)

    def take(self, size: int) -> Block:
        cut = self._queue.take(size)
        self._unanswered_blocks += 1
        self._unanswered_bytes += cut.num_bytes
        since, self.waiting_since = self.waiting_since, time.monotonic()
        header = self._header
        if cut.refusal:
            header = {**header, "refuse": cut.refusal, "reason": RECORD_CODES[cut.refusal]}
        if self._reordering is not None and cut.lines is not None:
            header = {**header, "want_sizes": True}
        block = Block.of_lines("score", self, self.model, header, cut)
        block.waiting_since = since
        return block

    # Results back

    def answered(self, block: Block, answer: Answer) -> None:
        if self.departed:
            return
        self.counts.results += answer.header["results"]
        self.counts.errors += answer.header["errors"]
        if self._reordering is None:
            self._deliver(answer.payload, block.num_bytes, 1)
        else:
            self._hold_back(self._reordering, block, answer)
            while turn := self._reordering.take():
                self._deliver(*turn)
        self._settle()

    def failed(self, block: Block, error: Exception) -> None:
        self._unanswered_blocks -= 1
        failure = error if isinstance(error, StreamFailure) else StreamFailure("internal", "the server failed on this stream")
        self.fail(failure)

    def taken(self) -> None:
        """The client took bytes: there may be room again."""
        self._look_again()

    def _deliver(self, data: Buffer, num_input_bytes: int, num_blocks: int) -> None:
        self._unanswered_blocks -= num_blocks
        self._unanswered_bytes -= num_input_bytes
        if len(data):
            self.outbox.put(data)
        self._room.set()

    @staticmethod
    def _hold_back(reordering: Reordering, block: Block, answer: Answer) -> None:
        if block.lines is None:
            reordering.put(block.first_line, block.num_records, answer.payload, block.num_bytes, 1)
            return
        # The block's turn is that of its oldest line: a younger one may wait for a line that is not yet taken.
        oldest = min(block.lines)
        start, share = 0, block.num_bytes // block.num_records
        for i, (line, size) in enumerate(zip(block.lines, answer.header["line_sizes"], strict=True)):
            rest = share if i else block.num_bytes - share * (block.num_records - 1)
            reordering.put(line, 1, answer.payload[start : start + size], rest, int(line == oldest))
            start += size

    # Ends

    def _settle(self) -> None:
        """After the last result the outbox is closed: what is in it is all there will be."""
        if self._is_body_ended and not self._queue.num_lines and not self._unanswered_blocks:
            self.outbox.close()

    def fail(self, failure: StreamFailure) -> None:
        """End the stream before its end; the first reason stays."""
        if not self.departed:
            self.failure = self.failure or failure
        self.leave()
        self.broken.set()

    def leave(self) -> None:
        """Nobody wants the rest: waiting blocks are dropped when a replica would take them."""
        self.departed = True
        self._room.set()
        self.outbox.close()
