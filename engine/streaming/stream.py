"""A stream: one bulk request, from its first line to its last result.

Holds the lines that wait, counts what is unanswered, keeps the order where the client asked for it, and says when more may be read.
No I/O: lines come in through `feed`, blocks leave through `take`, results come back through `answered` and leave through the
outbox.
"""

import asyncio
import enum
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import INTERNAL, MODEL_OFFLINE, RECORD_CODES, SHUTTING_DOWN, EngineError
from engine.frames import Buffer, cut
from engine.replicas.blocks import Answer, Arguments, Block, Lane, ServedModel, Task
from engine.replicas.lines import GroupedLineQueue, LineQueue, Lines, LineSpan
from engine.repository.serving import MODEL_REMOVED
from engine.spill import SPILL_AFTER_S, Outbox, num_lines
from engine.streaming.failures import NO_REPLICA, StreamFailure

WINDOW_BLOCKS = 16
# At least this many lines of a model that tokenises may wait: the more wait, the more alike are the lengths in a block.
GROUPING_LINES = 4096
# The same where results are held back until their turn, because each result that is held back takes some kilobytes.
ORDERED_GROUPING_LINES = 512
# The reasons of a model for which nobody serves its streams any more.
MODEL_REASONS = (MODEL_OFFLINE, MODEL_REMOVED)


class StreamState(enum.StrEnum):
    RUNNING = "running"  # it reads, scores and writes
    SPILLING = "spilling"  # the client does not read, so results go to the spill
    FULL = "full"  # the spill is at its limit, so reading has stopped
    FINISHING = "finishing"  # the body has ended, results are still to come


@dataclass(frozen=True, slots=True)
class StreamWork:
    """What every block of a stream has in common.

    bulk_id    the id of the request, 32 hex digits
    arguments  of the task, for every block
    is_ordered results leave in the order of the lines
    """

    bulk_id: str
    task: Task
    model: ServedModel
    arguments: Arguments
    is_ordered: bool = False


@dataclass(slots=True)
class Counts:
    """What a stream has seen so far."""

    results: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def records(self) -> int:
        """Records that were answered, either way."""
        return self.results + self.errors


@dataclass(slots=True)
class Reordering:
    """Results held back until their turn, for `ordered=true`, by the first line that they answer.

    Every line of the body has exactly one entry (for a blank line it is empty), so it is always known whose turn is next.

    held  first line -> number of lines, results, input bytes that they answer, blocks that are answered in full with them
    """

    next_line: int = 1
    held: dict[int, tuple[int, Buffer, int, int]] = field(default_factory=dict)

    def put(self, first_line: int, num_lines: int, data: Buffer, num_bytes: int, num_blocks: int) -> None:
        self.held[first_line] = (num_lines, data, num_bytes, num_blocks)

    def take(self) -> tuple[Buffer, int, int] | None:
        """The next results in order, the input bytes they answer and the blocks they end; None while they have not come."""
        if self.next_line not in self.held:
            return None
        num_lines, data, num_bytes, num_blocks = self.held.pop(self.next_line)
        self.next_line += num_lines
        return data, num_bytes, num_blocks

    @property
    def num_results(self) -> int:
        """The results that are held back."""
        return sum(num_lines(data) for _, data, _, _ in self.held.values())


class WaitingLines(Protocol):
    """Lines that no replica has taken; `take` makes those of a block of them."""

    @property
    def num_lines(self) -> int: ...

    @property
    def num_bytes(self) -> int: ...

    def append(self, span: Any, /) -> None: ...

    def take(self, size: int, /) -> Lines: ...


class Stream:
    """One bulk request. Its states are running, spilling, full and finishing; then it has ended, failed, or its client has left.

    wake     lets free replicas look for work
    failure  why it ended before its end, if it did
    broken   set when it failed and what still waits is not worth sending
    """

    def __init__(self, work: StreamWork, outbox: Outbox, *, window_bytes: int, wake: Callable[[], None]) -> None:
        self.bulk_id = work.bulk_id
        self.model = work.model
        self.outbox = outbox
        self.counts = Counts()
        self.has_left = False
        self.failure: StreamFailure | None = None
        self.broken = asyncio.Event()
        self.waiting_since = time.monotonic()
        self._work = work
        self._arguments = {**work.arguments, "bulk_id": work.bulk_id}
        self._window_bytes = window_bytes
        self._wake = wake
        self._reordering = Reordering() if work.is_ordered else None
        self._queue: WaitingLines = _line_queue(work.model)
        self._returned: deque[Lines] = deque()  # lines of blocks that were too large, oldest first, each to be a block
        self._max_lines = _max_lines(work)
        self._unanswered_blocks = 0
        self._unanswered_bytes = 0  # taken by a replica, returned, or answered and held back until their turn
        self._is_body_ended = False
        self._room = asyncio.Event()

    @property
    def state(self) -> StreamState:
        if self.outbox.is_spilling:
            return StreamState.FULL if self.outbox.is_full else StreamState.SPILLING
        return StreamState.FINISHING if self._is_body_ended else StreamState.RUNNING

    @property
    def is_body_ended(self) -> bool:
        return self._is_body_ended

    # Lines in

    def feed(self, span: LineSpan) -> None:
        """Whole lines from the body, to be scored when a replica is free."""
        if not self._queue.num_lines:
            self.waiting_since = time.monotonic()
        self._queue.append(span)

    def offer(self) -> None:
        """Let free replicas look for the lines that were fed."""
        self._wake()

    def body_ended(self, failure: StreamFailure | None = None) -> None:
        """No more lines come. If the body broke off (`failure`), the lines before that are still answered."""
        self._is_body_ended = True
        self.failure = self.failure or failure
        self._settle()

    @property
    def has_room(self) -> bool:
        """Whether more of the body may be read: the window is open, and there is a place for the results."""
        if self.outbox.is_over_memory_limit or self.outbox.is_full:
            return False
        if self._unanswered_bytes + self._queue.num_bytes >= self._window_bytes:
            return False
        return self._unanswered_blocks < WINDOW_BLOCKS and self._queue.num_lines < self._max_lines

    async def room(self, taken_bytes: Callable[[], int]) -> None:
        """Wait until more of the body may be read. If the client takes nothing meanwhile, the stream begins to spill.

        taken_bytes  tells how many bytes the client's side of the socket has accepted so far
        """
        while not self.has_room and not self.has_left:
            self._room.clear()
            before = taken_bytes()
            try:
                async with asyncio.timeout(SPILL_AFTER_S):
                    await self._room.wait()
            except TimeoutError:
                if self.outbox.is_over_memory_limit and taken_bytes() == before:
                    self.outbox.begin_spilling()
                self.look_again()

    def look_again(self) -> None:
        """Go on if there is room now."""
        if self.has_room:
            self._room.set()
        if self._num_lines:
            self._wake()

    # Blocks out

    @property
    def num_waiting(self) -> int:
        """What waits to be cut into blocks; 0 while there is no place for results, so that memory stays bounded."""
        if self.has_left or self.outbox.is_over_memory_limit or self.outbox.is_full or self._is_window_full:
            return 0
        return self.model.units(self._num_lines, self._queue.num_bytes)

    @property
    def _is_window_full(self) -> bool:
        """Results that are held back must not keep the lines waiting that they wait for: these may have been returned."""
        is_next = self._reordering is not None and self._reordering.next_line in self._first_waiting
        return self._unanswered_blocks >= WINDOW_BLOCKS and not is_next

    @property
    def _first_waiting(self) -> tuple[int, ...]:
        """The lowest number of a line that was returned."""
        return (self._returned[0].oldest,) if self._returned else ()

    @property
    def _num_lines(self) -> int:
        """Lines that no replica has taken, or that one has returned."""
        return self._queue.num_lines + sum(lines.num_lines for lines in self._returned)

    def take(self, size: int) -> Block:
        if self._returned:
            lines = self._returned.popleft()
        else:
            lines = self._queue.take(size)
            self._unanswered_bytes += lines.num_bytes
        return self._block(self._work.task, lines, self._arguments_for(lines), self.model)

    def _block(self, task: Task, lines: Lines, arguments: Arguments, model: ServedModel | None) -> Block:
        """A block that leaves for a replica now."""
        self._unanswered_blocks += 1
        since, self.waiting_since = self.waiting_since, time.monotonic()
        is_refused = lines.refusal is not None
        return Block(task, Lane.BULK, self, arguments, lines, model, is_refused=is_refused, waiting_since=since)

    def _arguments_for(self, lines: Lines) -> Arguments:
        arguments = self._arguments
        if lines.refusal:
            arguments = {**arguments, "refuse": lines.refusal, "reason": RECORD_CODES[lines.refusal].text}
        if self._reordering is not None and lines.numbers is not None:
            arguments = {**arguments, "want_sizes": True}
        return arguments

    # Results back

    def answered(self, block: Block, answer: Answer) -> None:
        if self.has_left:
            return
        if answer.is_too_much:
            self._unanswered_blocks -= 1
            for half in block.lines.halved():
                insort(self._returned, half, key=lambda lines: lines.oldest)
            self._wake()
            return
        self.counts.results += answer.header["results"]
        self.counts.errors += answer.header["errors"]
        if self._reordering is None:
            self._deliver(answer.payload, block.lines.num_bytes, 1)
        else:
            self._hold_back(self._reordering, block, answer)
            while turn := self._reordering.take():
                self._deliver(*turn)
        self._settle()

    def failed(self, block: Block, error: EngineError) -> None:
        """One block was given up, and with it the stream: a record without an answer must never look like a clean end."""
        self._unanswered_blocks -= 1
        if error.code in MODEL_REASONS:
            self.abandon(error)
        else:
            self.fail(StreamFailure(INTERNAL, "the server failed on this stream"))

    def abandon(self, error: EngineError) -> None:
        """Nobody will serve what waits: there is no replica, or the reason is the model's and `error` names it."""
        if error.code in MODEL_REASONS:
            self.fail(StreamFailure(error.code, error.message))
        else:
            self.fail(StreamFailure(SHUTTING_DOWN if error.code == SHUTTING_DOWN else NO_REPLICA))

    def taken(self) -> None:
        """The client took bytes: there may be room again."""
        self.look_again()

    def _deliver(self, data: Buffer, num_input_bytes: int, num_blocks: int) -> None:
        self._unanswered_blocks -= num_blocks
        self._unanswered_bytes -= num_input_bytes
        if len(data):
            self.outbox.put(data)
        self._room.set()

    @staticmethod
    def _hold_back(reordering: Reordering, block: Block, answer: Answer) -> None:
        lines = block.lines
        if lines.numbers is None:
            reordering.put(lines.first_line, lines.num_lines, answer.payload, lines.num_bytes, 1)
            return
        # The block ends with its oldest line: a younger one may have to wait for a line that no replica has taken yet.
        oldest = min(lines.numbers)
        share = lines.num_bytes // lines.num_lines
        rest = lines.num_bytes - share * lines.num_lines
        pieces = cut(answer.payload, answer.header["line_sizes"])
        for i, (number, piece) in enumerate(zip(lines.numbers, pieces, strict=True)):
            reordering.put(number, 1, piece, share if i else share + rest, int(number == oldest))

    # Ends

    async def num_returned(self) -> int:
        """The records whose answers have left the outbox. Those that are held back or still in it were scored for nobody."""
        num_held = self._reordering.num_results if self._reordering else 0
        return self.counts.records - num_held - await self.outbox.num_lines()

    def _settle(self) -> None:
        """Close the outbox after the last result: what is in it is all there will be."""
        if self._is_body_ended and not self._num_lines and not self._unanswered_blocks:
            self.outbox.close()

    def fail(self, failure: StreamFailure) -> None:
        """End the stream before its end. The first reason stays."""
        if not self.has_left:
            self.failure = self.failure or failure
        self.leave()
        self.broken.set()

    def leave(self) -> None:
        """Nobody wants the rest: waiting blocks are dropped when a replica would take them."""
        self.has_left = True
        self._room.set()
        self.outbox.close()


def _line_queue(model: ServedModel) -> LineQueue | GroupedLineQueue:
    return GroupedLineQueue(model.tokens, model.max_batch_size) if model.tokens else LineQueue()


def _max_lines(work: StreamWork) -> int:
    """Lines that may wait to be cut into blocks."""
    lines = WINDOW_BLOCKS * work.model.max_batch_size
    if work.model.tokens is None:
        return lines
    return max(lines, ORDERED_GROUPING_LINES if work.is_ordered else GROUPING_LINES)
