"""Scheduling: blocks of many streams and many single requests become work for free replicas.

Knows sizes, lanes and order. Knows nothing of HTTP, of processes, of any particular task, or of what a record contains. Nothing
here waits: a replica that is free asks for the next batch and gets what is there.
"""

import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from engine.errors import EngineError
from engine.replicas.blocks import Batch, Block, Lane, ServedModel

# For this long after a single request streams expect another one.
INTERACTIVE_MEMORY_S = 2.0
# A bulk block that has waited longer than this goes before single requests every second turn.
BULK_PATIENCE_S = 0.5
# The cost of a model that was never warmed up; the guess errs towards small blocks.
UNKNOWN_SECONDS_PER_UNIT = 0.001
LEARNING_RATE = 0.2
# A frame that took this long teaches the full rate.
TELLING_FRAME_S = 0.010


class BlockSource(Protocol):
    """What the scheduler cuts bulk blocks from: a stream, or a long list of texts."""

    waiting_since: float

    @property
    def model(self) -> ServedModel | None:
        """None when the source holds one block that is already cut."""
        ...

    @property
    def num_waiting(self) -> int:
        """What could be cut into blocks now, in units of the model's cost; 0 while the source should not be served."""
        ...

    def take(self, size: int) -> Block:
        """The next block: at most `size` units of its model's cost (ServedModel.units), but at least one line."""
        ...

    def abandon(self, error: EngineError) -> None:
        """No replica will serve what waits here."""
        ...


class Costs:
    """Seconds per unit of each model, a moving average. A unit is a record, or a byte of text (ServedModel.units)."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def of(self, model: ServedModel) -> float:
        return self._seconds.get(model.key, UNKNOWN_SECONDS_PER_UNIT)

    def learn(self, key: str, seconds: float, units: int) -> None:
        """Take note of a finished frame. A short frame teaches little, because most of its time is not spent on records."""
        latest = max(seconds / units, 1e-9)
        known = self._seconds.get(key, latest)
        rate = LEARNING_RATE * min(1.0, seconds / TELLING_FRAME_S)
        self._seconds[key] = (1 - rate) * known + rate * latest

    def begin(self, key: str, seconds_per_unit: float) -> None:
        """Set the first value, from the warm-up. What streams have taught since then is worth more and stays."""
        self._seconds.setdefault(key, seconds_per_unit)

    def forget(self, key: str) -> None:
        self._seconds.pop(key, None)


class Scheduler:
    """Two lanes. Interactive: single blocks, grouped by model. Bulk: sources, from which blocks are cut when a replica asks.

    confined  keys of the models whose work waits while `next_batch` must not give any of it; faults.py changes them
    """

    def __init__(
        self, num_replicas: int, *, clock: Callable[[], float] = time.monotonic, confined: Collection[str] = frozenset()
    ) -> None:
        self._confined = confined
        self._gives_confined = True
        self._full_users: Collection[str] = ()
        self._num_replicas = max(1, num_replicas)
        self._clock = clock
        self._groups: OrderedDict[object, deque[Block]] = OrderedDict()
        self._sources: deque[BlockSource] = deque()
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

    def attach(self, source: BlockSource) -> None:
        self._sources.append(source)

    def detach(self, source: BlockSource) -> None:
        self._sources.remove(source)

    def requeue(self, blocks: Iterable[Block]) -> None:
        """Put blocks that came back ahead of everything else in their lane, in their order."""
        for block in reversed(list(blocks)):
            self._again[block.lane].appendleft(block)

    def take_all(self) -> list[Block]:
        """Take out every block that waits, single or requeued."""
        blocks = [block for queue in (*self._groups.values(), *self._again.values()) for block in queue]
        self._groups.clear()
        for queue in self._again.values():
            queue.clear()
        self.num_interactive = 0
        return blocks

    def take_out(self, key: str) -> list[Block]:
        """Take out every block of one model that waits, single or requeued."""
        groups = [group for group, queue in self._groups.items() if _is_of(queue[0], key)]
        blocks = [block for group in groups for block in self._groups.pop(group)]
        self.num_interactive -= len(blocks)
        for lane, again in self._again.items():
            blocks += [block for block in again if _is_of(block, key)]
            self._again[lane] = deque(block for block in again if not _is_of(block, key))
        return blocks

    def has_work_beside(self, keys: Collection[str]) -> bool:
        """Whether anything waits that is not work of one of these models."""
        blocks = [*(queue[0] for queue in self._groups.values()), *(block for again in self._again.values() for block in again)]
        models = [block.model for block in blocks] + [source.model for source in self._sources if source.num_waiting]
        return any(model is None or model.key not in keys for model in models)

    @property
    def sources(self) -> list[BlockSource]:
        return list(self._sources)

    @property
    def is_interactive_recent(self) -> bool:
        return self._clock() - self._interactive_at < INTERACTIVE_MEMORY_S

    def num_interactive_by_user(self) -> Counter[str]:
        """Single blocks that wait."""
        again = self._again[Lane.INTERACTIVE]
        return Counter(block.user for queue in (*self._groups.values(), again) for block in queue)

    @property
    def num_bulk(self) -> int:
        """Sources that have lines waiting, plus blocks that wait to be tried again."""
        return sum(source.num_waiting > 0 for source in self._sources) + len(self._again[Lane.BULK])

    # What is served

    def next_batch(
        self, *, is_prefetch: bool = False, gives_confined: bool = True, full_users: Collection[str] = ()
    ) -> Batch | None:
        """The blocks of the next frame, for a replica that is free or, as a prefetch, for one that soon will be.

        The interactive lane goes first, but a bulk block that has waited longer than BULK_PATIENCE_S goes before it every second
        turn. Nothing is prefetched while single requests come, because they would have to wait for the prefetched block.

        gives_confined  whether the batch may be of a confined model; a prefetched one never is
        full_users      users who have as many replicas as they may, so that their single blocks wait
        """
        self._gives_confined = gives_confined and not is_prefetch
        self._full_users = full_users
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
        since = [source.waiting_since for source in self._sources if source.num_waiting and not self._is_held(source.model)]
        since += [block.waiting_since for block in self._again[Lane.BULK] if not self._is_held(block.model)]
        return bool(since) and self._clock() - min(since) > BULK_PATIENCE_S

    def _next_interactive(self) -> Batch | None:
        if block := self._pop_again(Lane.INTERACTIVE):
            return Batch([block])
        for _ in range(len(self._groups)):
            group, queue = self._groups.popitem(last=False)
            blocks = [] if self._must_wait(queue[0]) else self._take_group(queue)
            if queue:
                self._groups[group] = queue  # to the back: round robin over models
            if blocks:
                return Batch(blocks)
        return None

    def _take_group(self, queue: deque[Block]) -> list[Block]:
        """Blocks of one group for one run. Those whose waiter has left are dropped."""
        limit = self._shared_run(queue)
        blocks: list[Block] = []
        units = 0
        while queue and units < limit:
            block = queue.popleft()
            self.num_interactive -= 1
            if self._is_wanted(block):
                blocks.append(block)
                units += _units(block)
        return blocks

    def _shared_run(self, queue: deque[Block]) -> int:
        """The size of the next run of a group, in the units of `_units`.

        As much as fits into the time or the bytes that blocks may share, but only a fair share if that occupies more replicas.
        """
        model = queue[0].model
        num_bytes = sum(block.lines.num_bytes for block in queue)
        if model is None:
            return max(1, min(queue[0].task.shared_bytes, math.ceil(num_bytes / self._num_replicas)))
        share = math.ceil(model.units(len(queue), num_bytes) / self._num_replicas)
        return self._shared(share, model.pace.shared_run_s, model)

    def _next_bulk(self, *, is_prefetch: bool = False) -> Batch | None:
        if block := self._pop_again(Lane.BULK):
            return Batch([block])
        for _ in range(len(self._sources)):
            source = self._sources[0]
            self._sources.rotate(-1)
            if self._is_held(source.model):
                continue
            if source.num_waiting and not (is_prefetch and source.model is not None and not source.model.pace.is_prefetched):
                return Batch([source.take(self.block_size(source))])
        return None

    def _pop_again(self, lane: Lane) -> Block | None:
        queue = self._again[lane]
        held: list[Block] = []
        found = None
        while queue and found is None:
            block = queue.popleft()
            if self._must_wait(block):
                held.append(block)
            elif self._is_wanted(block):
                found = block
        queue.extendleft(reversed(held))
        return found

    def _is_held(self, model: ServedModel | None) -> bool:
        """Whether work on this model must wait, because it is confined and another replica works on a confined one."""
        return bool(self._confined) and not self._gives_confined and model is not None and model.key in self._confined

    def _must_wait(self, block: Block) -> bool:
        return self._is_held(block.model) or block.user in self._full_users

    def _is_wanted(self, block: Block) -> bool:
        if block.waiter.has_left:
            self.num_dropped += 1
            return False
        return True

    # Sizes

    def block_size(self, source: BlockSource) -> int:
        """The next block of a source, in units of cost: sized by time, and small enough to leave two blocks for every replica."""
        model = source.model
        if model is None:
            return 1
        waiting = sum(other.num_waiting for other in self._sources)
        target_s = model.pace.busy_block_s if self.is_interactive_recent else model.pace.block_s
        return self._shared(math.ceil(waiting / (2 * self._num_replicas)), target_s, model)

    def _shared(self, share: int, target_s: float, model: ServedModel) -> int:
        """A share of what waits, but no more than `target_s` of work and no less than is worth a frame."""
        return min(self.worth(target_s, model), max(share, self.worth(model.pace.smallest_block_s, model)))

    def worth(self, target_s: float, model: ServedModel) -> int:
        """How much of a model's work takes `target_s`, in units of its cost: at least one, at most its largest block."""
        return max(1, min(int(target_s / self.costs.of(model)), model.largest_block))


def _group(block: Block) -> object:
    """Blocks with equal groups may share a frame: they have the same task, the same model and the same arguments."""
    if block.model is None:
        return block if block.group is None else (block.task, block.group)
    return block.task, block.model.key, *block.arguments.items()


def _is_of(block: Block, key: str) -> bool:
    return block.model is not None and block.model.key == key


def _units(block: Block) -> int:
    """What a waiting block counts: units of its model's cost or, without a model, bytes."""
    num_bytes = block.lines.num_bytes
    return block.model.units(block.lines.num_lines, num_bytes) if block.model else num_bytes or 1
