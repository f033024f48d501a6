"""Blocks: the units of work that wait in queues and travel to replicas.

Plain data and arithmetic on lines. Knows nothing of sockets, of replicas or of what a record contains.
"""

import enum
from asyncio import Future
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from engine.frames import Buffer, Header

LINE_END = b"\n"


class Lane(enum.StrEnum):
    INTERACTIVE = "interactive"  # somebody waits for one answer
    BULK = "bulk"  # a stream waits for many


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """What the scheduler and the replicas need to know of one version of a model.

    key               "owner/name@version", the same in every process
    load              header of the `load` task: everything a replica needs to open the model
    max_batch_size    records in one run at the most
    max_batch_tokens  padded cells in one run at the most; None for models that do not tokenise
    """

    key: str
    title: str
    name: str
    version: int
    load: Header
    max_batch_size: int
    max_batch_tokens: int | None = None


class Answer(NamedTuple):
    """What a replica said about one block: the header of its part, and its bytes."""

    header: Header
    payload: memoryview


class Client(Protocol):
    """Whoever waits for a block: told once, with an answer or with a failure."""

    @property
    def departed(self) -> bool:
        """Whether the answer would find nobody."""
        ...

    def answered(self, block: "Block", answer: Answer) -> None: ...

    def failed(self, block: "Block", error: Exception) -> None: ...


@dataclass(slots=True, eq=False)
class Block:
    """Work for one replica: raw bytes, what to do with them, and who waits.

    task         the function a replica runs
    model        the model it needs, or None
    header       the task's own arguments
    buffers      the raw bytes, in order
    num_records  lines in the buffers
    first_line   1-based number of the first line in its body, when the lines are consecutive
    lines        the number of each line, when they are not
    deaths       replicas that died while they worked on it
    half         0 or 1 in a divided block
    is_timeout   the last of those deaths was ours: it took longer than the block limit
    is_suspect   one half of a block that killed or failed twice: the next fault divides it again at once
    """

    task: str
    lane: Lane
    client: Client
    model: ServedModel | None = None
    header: Header = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    num_records: int = 1
    num_bytes: int = 0
    first_line: int = 0
    lines: list[int] | None = None
    half: int = 0
    deaths: int = 0
    is_suspect: bool = False
    is_timeout: bool = False
    waiting_since: float = 0.0


@dataclass(slots=True, eq=False)
class Batch:
    """The blocks of one frame: one block of a stream, or several single records for the same model."""

    blocks: list[Block]
    sent_at: float = 0.0

    @property
    def task(self) -> str:
        return self.blocks[0].task

    @property
    def model(self) -> ServedModel | None:
        return self.blocks[0].model

    @property
    def lane(self) -> Lane:
        return self.blocks[0].lane

    @property
    def num_records(self) -> int:
        return sum(block.num_records for block in self.blocks)

    def frame(self) -> tuple[Header, list[Buffer]]:
        """Header and buffers as they travel. Blocks of a batch differ in their bytes alone, so the first one's header serves."""
        first = self.blocks[0]
        header = {**first.header, "task": first.task, "sizes": [block.num_bytes for block in self.blocks]}
        if first.model is not None:
            header["model"] = first.model.key
        if first.lines is not None:
            header["lines"] = first.lines
        elif first.first_line:
            header["line"] = first.first_line
        header["num_lines"] = first.num_records
        return header, [buffer for block in self.blocks for buffer in block.buffers]


class Halves:
    """The client of a divided block: joins two answers into the one its own client waits for."""

    def __init__(self, whole: Block) -> None:
        self._whole = whole
        self._answers: dict[int, Answer] = {}
        self._is_settled = False

    @property
    def departed(self) -> bool:
        return self._is_settled or self._whole.client.departed

    def answered(self, block: Block, answer: Answer) -> None:
        self._answers[block.half] = answer
        if len(self._answers) == 2 and not self._is_settled:
            self._is_settled = True
            self._whole.client.answered(self._whole, _joined(self._answers[0], self._answers[1]))

    def failed(self, block: Block, error: Exception) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._whole.client.failed(self._whole, error)


def _joined(first: Answer, second: Answer) -> Answer:
    header = {"results": 0, "errors": 0, "line_sizes": []}
    for key in header:
        header[key] = first.header.get(key, header[key]) + second.header.get(key, header[key])
    return Answer(header, memoryview(b"".join((first.payload, second.payload))))


def divide(block: Block) -> tuple[Block, Block]:
    """Two halves of a block of at least two lines, in order, each suspect; the block's client gets one answer all the same."""
    raw = b"".join(block.buffers)
    num_first = block.num_records // 2
    cut = position_after(raw, num_first, 0, len(raw))
    halves = Halves(block)
    return (
        _half(block, halves, 0, raw[:cut], 0, num_first),
        _half(block, halves, 1, raw[cut:], num_first, block.num_records - num_first),
    )


def _half(block: Block, halves: Halves, half: int, raw: bytes, start: int, num_records: int) -> Block:
    return Block(
        task=block.task,
        lane=block.lane,
        client=halves,
        half=half,
        model=block.model,
        header=block.header,
        buffers=[raw],
        num_records=num_records,
        num_bytes=len(raw),
        first_line=block.first_line + start if block.lines is None else 0,
        lines=None if block.lines is None else block.lines[start : start + num_records],
        is_suspect=True,
        waiting_since=block.waiting_since,
    )


def position_after(data: bytes, num_lines: int, start: int, end: int) -> int:
    """The position after the `num_lines`-th newline of data[start:end], which must hold so many.

    Halves the range by counting, so that a cut costs two passes at memory speed and not one step of Python a line.
    """
    while end - start > 1024:
        middle = (start + end) // 2
        count = data.count(LINE_END, start, middle)
        if count >= num_lines:
            end = middle
        else:
            num_lines -= count
            start = middle
    for _ in range(num_lines):
        start = data.index(LINE_END, start) + 1
    return start


@dataclass(slots=True)
class Segment:
    """Consecutive whole lines of one body, as they came from the socket.

    data        bytes in which data[start:end] are the lines, each with its newline
    num_lines   lines in that range
    first_line  1-based number of the first
    refusal     an error code when this stands for one line that was thrown away; then data is empty
    """

    data: bytes
    start: int
    end: int
    num_lines: int
    first_line: int
    refusal: str | None = None

    @property
    def num_bytes(self) -> int:
        return self.end - self.start


class Cut(NamedTuple):
    """Lines taken from a queue for one block."""

    buffers: list[Buffer]
    num_records: int
    num_bytes: int
    first_line: int
    lines: list[int] | None
    refusal: str | None


class LineQueue:
    """Lines that wait to become blocks, in the order they came."""

    def __init__(self) -> None:
        self._segments: deque[Segment] = deque()
        self.num_lines = 0
        self.num_bytes = 0

    def append(self, segment: Segment) -> None:
        self._segments.append(segment)
        self.num_lines += segment.num_lines
        self.num_bytes += segment.num_bytes

    def take(self, max_lines: int) -> Cut:
        """The next consecutive lines, at most `max_lines`; at least one must be waiting."""
        first = self._segments[0]
        first_line, num_records, num_bytes = first.first_line, 0, 0
        buffers: list[Buffer] = []
        while self._segments and num_records < max_lines:
            segment = self._segments[0]
            if segment.first_line != first_line + num_records or (num_records and (segment.refusal or first.refusal)):
                break
            buffer, count = self._take_from(segment, max_lines - num_records)
            buffers.append(buffer)
            num_records += count
            num_bytes += len(buffer)
        self.num_lines -= num_records
        self.num_bytes -= num_bytes
        return Cut(buffers, num_records, num_bytes, first_line, None, first.refusal)

    def _take_from(self, segment: Segment, max_lines: int) -> tuple[memoryview, int]:
        if segment.num_lines <= max_lines:
            self._segments.popleft()
            return memoryview(segment.data)[segment.start : segment.end], segment.num_lines
        cut = position_after(segment.data, max_lines, segment.start, segment.end)
        buffer = memoryview(segment.data)[segment.start : cut]
        segment.start = cut
        segment.num_lines -= max_lines
        segment.first_line += max_lines
        return buffer, max_lines


class Line(NamedTuple):
    num_bytes: int
    number: int
    data: bytes


class GroupedLineQueue:
    """Lines that wait to become blocks of similar length, for models whose cost is the longest of a batch.

    A block is the longest-waiting line and its neighbours by length, so that nothing starves and little is padded.
    """

    # Roughly the shortest token in bytes, counting the JSON around the text: errs towards smaller blocks.
    BYTES_PER_TOKEN = 3

    def __init__(self, max_batch_tokens: int) -> None:
        self._max_cells = max_batch_tokens * self.BYTES_PER_TOKEN
        self._lines: list[Line] = []
        self._refused: deque[Segment] = deque()
        self._is_sorted = True
        self.num_bytes = 0

    @property
    def num_lines(self) -> int:
        return len(self._lines) + len(self._refused)

    def append(self, segment: Segment) -> None:
        if segment.refusal:
            self._refused.append(segment)
            return
        self._lines += [Line(len(data), segment.first_line + i, data) for i, data in enumerate(_split(segment))]
        self._is_sorted = False
        self.num_bytes += segment.num_bytes

    def take(self, max_lines: int) -> Cut:
        if self._refused:
            segment = self._refused.popleft()
            return Cut([b""], 1, 0, segment.first_line, None, segment.refusal)
        if not self._is_sorted:
            self._lines.sort()
            self._is_sorted = True
        start, end = self._neighbours(min(range(len(self._lines)), key=lambda i: self._lines[i].number), max_lines)
        taken = self._lines[start:end]
        del self._lines[start:end]
        num_bytes = sum(line.num_bytes for line in taken)
        self.num_bytes -= num_bytes
        return Cut([line.data for line in taken], len(taken), num_bytes, 0, [line.number for line in taken], None)

    def _neighbours(self, oldest: int, max_lines: int) -> tuple[int, int]:
        """The range around `oldest` to take: shorter ones first (they cost nothing more), then longer ones."""
        longest = self._lines[oldest].num_bytes
        count = max(1, min(max_lines, self._max_cells // longest))
        start = max(0, oldest + 1 - count)
        end = oldest + 1
        while end < len(self._lines) and end - start < max_lines:
            if (end + 1 - start) * self._lines[end].num_bytes > self._max_cells:
                break
            end += 1
        return start, end


def _split(segment: Segment) -> list[bytes]:
    """The lines of a segment, each with its newline."""
    return [line + LINE_END for line in segment.data[segment.start : segment.end].split(LINE_END)[:-1]]


@dataclass(slots=True, eq=False)
class Call:
    """A client that awaits one block: `await call.future` gives its Answer."""

    future: Future[Answer]

    @property
    def departed(self) -> bool:
        return self.future.done()

    def answered(self, block: Block, answer: Answer) -> None:
        if not self.future.done():
            self.future.set_result(answer)

    def failed(self, block: Block, error: Exception) -> None:
        self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """End the wait, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)
