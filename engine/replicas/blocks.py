"""Blocks: the units of work that wait for a replica and travel to it, and the description of what kind of work they are.

Plain data. Knows nothing of sockets, of processes, of any particular task, or of what a record contains.
"""

import asyncio
import enum
import time
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from engine.errors import EngineError
from engine.frames import Buffer, Header
from engine.replicas.lines import Lines, TokenLimits

# What a task is asked with, besides the raw bytes; it travels in the header of the frame.
Arguments = dict[str, Any]


# The lines of a block whose task needs none.
NO_LINES = Lines()


class Lane(enum.StrEnum):
    INTERACTIVE = "interactive"  # somebody waits for one answer
    BULK = "bulk"  # a stream waits for many


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One kind of work: which function of a replica does it, and what the pool does when no answer comes.

    name          the function, among those that the family registers
    family        the package of engine/tasks that has the function
    pool          name of the pool whose replicas run the task
    time_limit_s  a replica that works longer on one frame is killed
    max_deaths    a block that has lost this many replicas is not sent once more as it is
    memory_bytes  of data that the task may need beyond what its replica has when it begins; an allocation beyond that fails. With 0
                  only the replica's own limit counts
    is_divisible  a block of several lines may be halved, to find the line that kills replicas or outlasts the time limit. The block
                  of a task that is not divisible is given up instead, and at once when its time has run out
    refusal       for a divisible task: the arguments that make a replica answer a single line with an error without working on it
    shared_bytes  waiting blocks that need no model share a frame up to this many bytes; 0 means that each travels alone
    careful       arguments that are added when a block that names no model has lost its replica or outlasted its time: they make
                  the replica leave the work on models to blocks that name theirs, so that we learn which model is at fault
    """

    name: str
    family: str
    pool: str
    time_limit_s: float
    max_deaths: int
    memory_bytes: int = 0
    is_divisible: bool = False
    refusal: "Callable[[Block], Arguments] | None" = None
    shared_bytes: int = 0
    careful: Arguments | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How long work on one model may take before the replica is free for somebody else.

    block_s         a block of a stream
    busy_block_s    the same while somebody waits for single answers, who must wait for the rest of one block
    shared_run_s    single records that wait for the same model and share a run
    is_prefetched   whether a second block waits behind the one that a replica works on
    smallest_block_s  blocks that are cut finer than this to occupy an idle replica cost more than they win
    """

    block_s: float
    busy_block_s: float
    shared_run_s: float
    is_prefetched: bool
    # A frame costs about 0.1 ms.
    smallest_block_s: float = 0.001


# A block of 20 ms keeps a replica busy enough that the cost of a frame (about 0.1 ms) is below one per cent.
PLAIN_PACE = Pace(block_s=0.020, busy_block_s=0.010, shared_run_s=0.005, is_prefetched=True)
# When texts go through a model, large batches are worth more than short blocks: running 3 to 4 texts together costs 5 to 25 per
# cent less per text than running each alone, and 8 together save another 5. With 2 replicas, a request that arrives while both are
# at work waits for a third of block_s on average. Texts in one run cost a third less than one by one, which is worth more to those
# who wait than the length of the run. Nothing is prefetched: beside long blocks the moment without work is negligible, and waiting
# behind two blocks would take long.
TEXT_PACE = Pace(block_s=0.100, busy_block_s=0.040, shared_run_s=0.020, is_prefetched=False)


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """What the scheduler and the replicas need to know of one version of a model.

    key             "owner/name@version", the same in every process
    title           "owner/name"
    load            header of the frame that makes a replica open the model
    max_batch_size  records in one run at most
    tokens          None for models that do not tokenise
    is_trusted      it ships with the server or belongs to the admin, so that it is never confined (faults.py)
    """

    key: str
    title: str
    name: str
    version: int
    load: Header
    max_batch_size: int
    tokens: TokenLimits | None = None
    is_trusted: bool = True

    @property
    def pace(self) -> Pace:
        return TEXT_PACE if self.tokens else PLAIN_PACE

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

    @property
    def is_too_much(self) -> bool:
        """The replica did no work, because the answer would be too large: it wants the lines in smaller blocks."""
        return "is_too_much" in self.header


class Waiter(Protocol):
    """The one who waits for a block. The pool calls `answered` or `failed` once, unless the waiter has left."""

    @property
    def has_left(self) -> bool:
        """Whether an answer would be of no use any more."""
        ...

    def answered(self, block: "Block", answer: Answer) -> None: ...

    def failed(self, block: "Block", error: EngineError) -> None: ...


class Feed(Protocol):
    """Where the frames of a long answer come from. A waiter that has no room for more pauses it, and resumes it later."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


@runtime_checkable
class LongWaiter(Waiter, Protocol):
    """A waiter for an answer of several frames: `continued` is called for each frame but the last, for which `answered` is."""

    def continued(self, block: "Block", part: Answer, feed: Feed) -> None: ...


@runtime_checkable
class ProgressWaiter(Waiter, Protocol):
    """A waiter that is told how far the work on its block is, as its replica tells. Any other waiter hears nothing of that."""

    def progressed(self, block: "Block", header: Header) -> None: ...


@dataclass(slots=True, eq=False)
class Block:
    """Work for one replica: raw lines, what to do with them, and who waits for the answer.

    arguments   what the task is asked with
    lines       the raw bytes; also those of a body that nobody has cut into lines yet, which then count as one line
    model       the model that the task needs, or None
    group       for work without a model: waiting blocks whose group is equal may share a frame; None means that this one travels
                alone
    user        whose work it is, where a pool shares its replicas among users; all that names nobody counts as one user's
    half        0 or 1 in a divided block
    num_parts   frames of its answer that its waiter has; the answer cannot begin again then
    deaths      replicas that died while they worked on it, or could not
    is_lost     the last of these died
    error       what the replica said that failed last on it
    is_suspect  it is one half of a block that killed replicas or failed: the next fault divides it again at once
    is_timeout  it has run into its time limit, so we killed the replica ourselves
    is_refused  its line is answered with an error whatever the line holds
    is_careful  it has the arguments `careful` of its task
    """

    task: Task
    lane: Lane
    waiter: Waiter
    arguments: Arguments = field(default_factory=dict)
    lines: Lines = NO_LINES
    model: ServedModel | None = None
    group: object = None
    user: str = ""
    half: int = 0
    num_parts: int = 0
    deaths: int = 0
    is_lost: bool = False
    error: Header | None = None
    is_suspect: bool = False
    is_timeout: bool = False
    is_refused: bool = False
    is_careful: bool = False
    waiting_since: float = 0.0


@dataclass(slots=True, eq=False)
class Batch:
    """The blocks of one frame: one block of a stream, or several single requests that may share one."""

    blocks: list[Block]
    sent_at: float = 0.0

    @property
    def task(self) -> Task:
        return self.blocks[0].task

    @property
    def model(self) -> ServedModel | None:
        return self.blocks[0].model

    @property
    def lane(self) -> Lane:
        return self.blocks[0].lane

    @property
    def num_records(self) -> int:
        return sum(block.lines.num_lines for block in self.blocks)

    def units(self, model: ServedModel) -> int:
        """What the cost of this batch for its model is measured by."""
        return sum(model.units(block.lines.num_lines, block.lines.num_bytes) for block in self.blocks)

    def frame(self) -> tuple[Header, list[Buffer]]:
        """Header and buffers as they travel. Blocks of a batch differ in their bytes alone, so one set of arguments serves all."""
        first = self.blocks[0]
        header = {**first.arguments, "family": first.task.family, "task": first.task.name}
        if first.task.memory_bytes:
            header["memory_bytes"] = first.task.memory_bytes
        header["sizes"] = [block.lines.num_bytes for block in self.blocks]
        if first.model is not None:
            header["model"] = first.model.key
        if first.lines.numbers is not None:
            header["lines"] = first.lines.numbers
        elif first.lines.first_line:
            header["line"] = first.lines.first_line
        if first.lines.origin:
            header["origin"] = first.lines.origin
        header["num_lines"] = first.lines.num_lines
        return header, [buffer for block in self.blocks for buffer in block.lines.buffers]


# Divided blocks


class Halves:
    """The waiter of both halves of a divided block: joins their answers into the one that the block's own waiter gets."""

    def __init__(self, whole: Block) -> None:
        self._whole = whole
        self._answers: dict[int, Answer] = {}
        self._is_settled = False

    @property
    def has_left(self) -> bool:
        return self._is_settled or self._whole.waiter.has_left

    def answered(self, block: Block, answer: Answer) -> None:
        if answer.is_too_much and not self._is_settled:
            self._is_settled = True
            self._whole.waiter.answered(self._whole, answer)
        self._answers[block.half] = answer
        if len(self._answers) == 2 and not self._is_settled:
            self._is_settled = True
            self._whole.waiter.answered(self._whole, _joined_answer(self._answers[0], self._answers[1]))

    def failed(self, block: Block, error: EngineError) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._whole.waiter.failed(self._whole, error)


def _joined_answer(first: Answer, second: Answer) -> Answer:
    """Counts are added, lists are joined, and what only one half says or both say alike is kept."""
    header = {**first.header, **second.header}
    for key in first.header.keys() & second.header.keys():
        if isinstance(header[key], int | list):
            header[key] = first.header[key] + second.header[key]
    return Answer(header, memoryview(b"".join((first.payload, second.payload))))


def divide(block: Block) -> tuple[Block, Block]:
    """Two halves of a block of at least two lines, in order, both suspect; the block's waiter still gets one answer."""
    first, second = block.lines.halved()
    halves = Halves(block)
    return _half(block, halves, 0, first), _half(block, halves, 1, second)


def _half(block: Block, halves: Halves, half: int, lines: Lines) -> Block:
    return Block(
        task=block.task,
        lane=block.lane,
        waiter=halves,
        arguments=block.arguments,
        lines=lines,
        model=block.model,
        user=block.user,
        half=half,
        is_suspect=True,
        waiting_since=block.waiting_since,
    )


class Call:
    """A waiter for one block: `await call.future` gives its Answer, or raises the EngineError of its failure."""

    def __init__(self) -> None:
        self.future: Future[Answer] = asyncio.get_running_loop().create_future()

    @property
    def has_left(self) -> bool:
        return self.future.done()

    def answered(self, block: Block, answer: Answer) -> None:
        if not self.future.done():
            self.future.set_result(answer)

    def failed(self, block: Block, error: EngineError) -> None:
        self.give_up(error)

    def give_up(self, error: EngineError) -> None:
        """End the wait, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)


class WatchedCall(Call):
    """A Call that hands on what its replica tells of its progress: the header of each such frame."""

    def __init__(self, on_progress: Callable[[Header], None]) -> None:
        super().__init__()
        self._on_progress = on_progress

    def progressed(self, block: Block, header: Header) -> None:
        self._on_progress(header)


class LoneBlock:
    """A source of one block, which takes its turn in the bulk lane."""

    model = None

    def __init__(self, block: Block, call: Call) -> None:
        self.waiting_since = block.waiting_since = time.monotonic()
        self._block = block
        self._call = call
        self._is_taken = False

    @property
    def num_waiting(self) -> int:
        return 0 if self._is_taken else 1

    def take(self, size: int) -> Block:
        self._is_taken = True
        return self._block

    def abandon(self, error: EngineError) -> None:
        self._call.give_up(error)
