"""Scheduling: blocks of many streams and many single requests become work for free replicas.

Knows sizes, lanes and order. Knows nothing of HTTP, of processes, of models' insides, or of what a record contains. Nothing here
waits: a replica that is free asks for the next batch, and gets what is there.
"""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Protocol

from engine.blocks import Batch, Block, Lane, ServedModel
from engine.errors import StreamFailure

# A block of this long keeps a replica busy enough that the cost of a frame (about 0.1 ms) is below one per cent...
BLOCK_TARGET_S = 0.020
# ...and half of it while somebody waits for single answers, who must wait for the rest of one block.
BUSY_BLOCK_TARGET_S = 0.010
# Where texts go through a model, batches are worth more than frames: 3 to 4 texts at once cost 5 to 25 per cent less each than one,
# 8 another 5. With 2 replicas, somebody who comes while both are at work waits for a third of this on average...
TEXT_BLOCK_TARGET_S = 0.100
# ...and who comes again meets blocks of this.
BUSY_TEXT_BLOCK_TARGET_S = 0.040
# Cutting finer than this to occupy an idle replica costs more in frames than it wins.
SMALLEST_BLOCK_S = 0.001
INTERACTIVE_MEMORY_S = 2.0
BULK_PATIENCE_S = 0.5
# Single records that wait for the same model share a run up to this long.
SHARED_RUN_S = 0.005
# Texts in one run cost a third less than one by one: for those who wait that is worth more than the run's length.
SHARED_TEXT_RUN_S = 0.020
# Bodies of embeddings requests that wait share a frame up to these bytes: a dozen short texts, which go through the model together.
SHARED_BODIES_BYTES = 1024
# Before a model was warmed up nothing is known; this errs towards small blocks.
UNKNOWN_SECONDS_PER_UNIT = 0.001
LEARNING_RATE = 0.2


class BlockSource(Protocol):
    """A stream, or a long list of texts, as the scheduler sees it."""

    waiting_since: float

    @property
    def model(self) -> ServedModel | None:
        """None: what waits is one block, already cut."""
        ...

    @property
    def num_waiting(self) -> int:
        """What could be cut into blocks now, in units of the model's cost; 0 while the stream should not be served."""
        ...

    def take(self, size: int) -> Block:
        """The next block, of at most `size` units of its model's cost (ServedModel.units), but of one line at least."""
        ...

    def fail(self, failure: StreamFailure) -> None: ...


class Costs:
    """Seconds per unit of each model (ServedModel.units: a record, or a byte of text), a moving average."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def of(self, model: ServedModel | None) -> float:
        if model is None:
            return UNKNOWN_SECONDS_PER_UNIT
        return self._seconds.get(model.key, UNKNOWN_SECONDS_PER_UNIT)

    def learn(self, key: str, seconds: float, units: int) -> None:
        """Take note of a finished frame. A short one teaches little: most of its time is the frame's, not the records'."""
        latest = max(seconds / units, 1e-9)
        known = self._seconds.get(key, latest)
        rate = LEARNING_RATE * min(1.0, seconds / BUSY_BLOCK_TARGET_S)
        self._seconds[key] = (1 - rate) * known + rate * latest

    def begin(self, key: str, seconds_per_unit: float) -> None:
        """The first value, from the warm-up; what streams taught since is worth more."""
        self._seconds.setdefault(key, seconds_per_unit)

    def forget(self, key: str) -> None:
        self._seconds.pop(key, None)


class Scheduler:
    """Two lanes. Interactive: single blocks, grouped by model. Bulk: streams, whose blocks are cut when a replica asks."""

    def __init__(self, num_replicas: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_replicas = max(1, num_replicas)
        self._clock = clock
        self._groups: OrderedDict[object, deque[Block]] = OrderedDict()
        self._streams: deque[BlockSource] = deque()
        self._again: dict[Lane, deque[Block]] = {lane: deque() for lane in Lane}
        self._interactive_at = -math.inf
        self._was_aged_turn = False
        self.costs = Costs()
        self.num_dropped = 0
        self.num_interactive = 0

    # What waits

    def submit(self, block: Block) -> None:
        """Put a single block into the interactive lane."""
        block.waiting_since = self._interactive_at = self._clock()
        self._groups.setdefault(_group(block), deque()).append(block)
        self.num_interactive += 1

    def attach(self, stream: BlockSource) -> None:
        self._streams.append(stream)

    def detach(self, stream: BlockSource) -> None:
        self._streams.remove(stream)

    def requeue(self, blocks: Iterable[Block]) -> None:
        """Put blocks whose replica died before everything else of their lane, in order."""
        for block in reversed(list(blocks)):
            self._again[block.lane].appendleft(block)

    def drain(self) -> list[Block]:
        """Take out every block that waits, single or requeued."""
        blocks = [block for queue in (*self._groups.values(), *self._again.values()) for block in queue]
        self._groups.clear()
        for queue in self._again.values():
            queue.clear()
        self.num_interactive = 0
        return blocks

    @property
    def streams(self) -> list[BlockSource]:
        return list(self._streams)

    @property
    def is_interactive_recent(self) -> bool:
        return self._clock() - self._interactive_at < INTERACTIVE_MEMORY_S

    @property
    def num_bulk(self) -> int:
        """Streams with lines waiting, and blocks waiting to be tried again."""
        return sum(stream.num_waiting > 0 for stream in self._streams) + len(self._again[Lane.BULK])

    # What is served

    def next_batch(self, *, is_prefetch: bool = False) -> Batch | None:
        """The next frame's blocks for a replica that is free, or, as a prefetch, for one that soon will be.

        Interactive goes first, but a bulk block that waited longer than BULK_PATIENCE_S goes before it every second turn.
        Nothing is prefetched while single requests come: a prefetched block would stand between them and the replica.
        """
        if is_prefetch:
            return None if self.is_interactive_recent else self._next_bulk(is_prefetch=True)
        if not self._was_aged_turn and self._is_bulk_impatient() and (batch := self._next_bulk()):
            self._was_aged_turn = True
            return batch
        self._was_aged_turn = False
        return self._next_interactive() or self._next_bulk()

    def _is_bulk_impatient(self) -> bool:
        if not self.num_interactive:
            return False
        since = [stream.waiting_since for stream in self._streams if stream.num_waiting]
        since += [block.waiting_since for block in self._again[Lane.BULK]]
        return bool(since) and self._clock() - min(since) > BULK_PATIENCE_S

    def _next_interactive(self) -> Batch | None:
        if block := self._pop_again(Lane.INTERACTIVE):
            return Batch([block])
        while self._groups:
            group, queue = self._groups.popitem(last=False)
            blocks = self._take_group(queue)
            if queue:
                self._groups[group] = queue  # to the back: round robin over models
            if blocks:
                return Batch(blocks)
        return None

    def _take_group(self, queue: deque[Block]) -> list[Block]:
        """Blocks of one group that share a run: as many as fit into SHARED_RUN_S, but a fair part if that occupies more replicas.

        Departed callers are left out.
        """
        limit = self._shared_run(queue)
        blocks: list[Block] = []
        units = 0
        while queue and units < limit:
            block = queue.popleft()
            self.num_interactive -= 1
            if self._is_wanted(block):
                blocks.append(block)
                units += block.model.units(1, block.num_bytes) if block.model else block.num_bytes or 1
        return blocks

    def _shared_run(self, queue: deque[Block]) -> int:
        """The next run of a group, in units of its cost; of bodies that nobody has read yet, in bytes."""
        model = queue[0].model
        if model is None:
            waiting = sum(block.num_bytes for block in queue)
            return max(1, min(SHARED_BODIES_BYTES, math.ceil(waiting / self._num_replicas)))
        waiting = model.units(len(queue), sum(block.num_bytes for block in queue))
        target_s = SHARED_RUN_S if model.tokens is None else SHARED_TEXT_RUN_S
        return self._shared(math.ceil(waiting / self._num_replicas), target_s, model)

    def _next_bulk(self, *, is_prefetch: bool = False) -> Batch | None:
        """Texts are not prefetched: beside long blocks the moment without work is nothing, and the wait behind two is long."""
        if block := self._pop_again(Lane.BULK):
            return Batch([block])
        for _ in range(len(self._streams)):
            stream = self._streams[0]
            self._streams.rotate(-1)
            if stream.num_waiting and not (is_prefetch and stream.model is not None and stream.model.tokens):
                return Batch([stream.take(self.block_size(stream))])
        return None

    def _pop_again(self, lane: Lane) -> Block | None:
        queue = self._again[lane]
        while queue:
            block = queue.popleft()
            if self._is_wanted(block):
                return block
        return None

    def _is_wanted(self, block: Block) -> bool:
        if block.client.departed:
            self.num_dropped += 1
            return False
        return True

    # Sizes

    def block_size(self, stream: BlockSource) -> int:
        """The next block of a stream, in units of cost: sized by time, and small enough to leave two blocks for every replica."""
        if stream.model is None:
            return 1
        waiting = sum(other.num_waiting for other in self._streams)
        return self._shared(math.ceil(waiting / (2 * self._num_replicas)), self._target_s(stream.model), stream.model)

    def _target_s(self, model: ServedModel) -> float:
        """How long a block of a stream may take."""
        if model.tokens is None:
            return BUSY_BLOCK_TARGET_S if self.is_interactive_recent else BLOCK_TARGET_S
        return BUSY_TEXT_BLOCK_TARGET_S if self.is_interactive_recent else TEXT_BLOCK_TARGET_S

    def _shared(self, share: int, target_s: float, model: ServedModel) -> int:
        """A share of what waits, but no more than `target_s` of work and no less than is worth a frame."""
        return min(self.worth(target_s, model), max(share, self.worth(SMALLEST_BLOCK_S, model)))

    def worth(self, target_s: float, model: ServedModel) -> int:
        """So much of a model's work, in units of its cost: at least one, at most its largest block."""
        return max(1, min(int(target_s / self.costs.of(model)), model.largest_block))


def _group(block: Block) -> object:
    """Blocks with equal groups may share a frame: same task, same model, same arguments."""
    if block.model is None:
        return block if block.group is None else (block.task, block.group)
    return block.task, block.model.key, *block.header.items()
