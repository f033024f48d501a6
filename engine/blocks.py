"""Blocks: the units of work that wait in queues and travel to replicas.

Plain data. Knows nothing of sockets, of replicas or of what a record contains.
"""

import enum
from asyncio import Future
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self

from engine.frames import Buffer, Header
from engine.queues import Cut, TokenLimits, position_after


class Lane(enum.StrEnum):
    INTERACTIVE = "interactive"  # somebody waits for one answer
    BULK = "bulk"  # a stream waits for many


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """What the scheduler and the replicas need to know of one version of a model.

    key             "owner/name@version", the same in every process
    load            header of the `load` task: everything a replica needs to open the model
    max_batch_size  records in one run at the most
    tokens          None for models that do not tokenise
    """

    key: str
    title: str
    name: str
    version: int
    load: Header
    max_batch_size: int
    tokens: TokenLimits | None = None

    @property
    def largest_block(self) -> int:
        """The most that is worth putting into one block, in the units of `units`."""
        return self.tokens.run_bytes if self.tokens else self.max_batch_size

    def units(self, num_records: int, num_bytes: int) -> int:
        """What the cost of these records grows with: their number or, for a model that tokenises, the bytes it looks at."""
        if self.tokens is None:
            return num_records
        return max(num_records, min(num_bytes, num_records * self.tokens.record_bytes))


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
    group        of work without a model: what may share a frame with it has the same; None for nothing
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
    group: object = None

    @classmethod
    def of_lines(cls, task: str, client: Client, model: ServedModel, header: Header, cut: Cut) -> Self:
        """Lines of a stream, or of a long list, for the bulk lane."""
        return cls(
            task,
            Lane.BULK,
            client,
            model,
            header,
            cut.buffers,
            num_records=cut.num_records,
            num_bytes=cut.num_bytes,
            first_line=cut.first_line,
            lines=cut.lines,
        )


@dataclass(slots=True, eq=False)
class Batch:
    """The blocks of one frame: one block of a stream, or several single requests that may share one."""

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

    def units(self, model: ServedModel) -> int:
        """What its cost for this model is measured by."""
        return sum(model.units(block.num_records, block.num_bytes) for block in self.blocks)

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
