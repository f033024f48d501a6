"""A pool: the replicas of one kind of work, kept alive and kept busy.

Feeds free replicas from the scheduler, takes their answers to whoever waits, and decides what a death or a failure means for the
blocks it touched: once more elsewhere, then divided, down to the one record that gets an error.
"""

import asyncio
import functools
import itertools
import logging
import signal
import time
from collections.abc import Callable, Iterable

from engine import metrics
from engine.blocks import Answer, Batch, Block, Lane, divide
from engine.errors import STREAM_CODES, EngineError, StreamFailure, TaskFailed
from engine.frames import Header
from engine.replica import Replica, ReplicaGone
from engine.scheduler import Scheduler

log = logging.getLogger("sluice.pool")

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
HEARTBEAT_S = 2.0
START_TIMEOUT_S = 60.0
# With no replica for this long, what waits is told so.
NO_REPLICA_S = 30.0
# A replica that died is replaced in about 0.4 s; one record that kills two must not refuse everybody else's requests meanwhile.
REPLACEMENT_S = 2.0
# One batch in work, one behind it, so that a replica never waits for us.
BATCHES_PER_REPLICA = 2
# A record that kills a replica even when it is only to be refused is refused without being read; then we give up.
REFUSAL_DEATHS = 2
# Work that is no record is given up after so many deaths. An upload may well be what kills; a text hardly ever is, but all replicas
# may be killed at once under one.
TASK_DEATHS = {"check": 2, "embed": 4}


class Pool:
    """`size` replicas, one scheduler. A lazy pool starts each replica when work first finds all others taken."""

    def __init__(
        self,
        name: str,
        size: int,
        *,
        block_timeout_s: float,
        niceness: int = 0,
        is_lazy: bool = False,
    ) -> None:
        self.name = name
        self.size = size
        self.scheduler = Scheduler(size)
        self._block_timeout_s = block_timeout_s
        self._niceness = niceness
        self._is_lazy = is_lazy
        self.on_ready: Callable[[Replica], None] | None = None  # told of each replica before it gets work
        self._replicas: dict[int, Replica] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._last_alive = time.monotonic()
        self._heard: dict[Replica, float] = {}
        self._is_waking = False

    # Life

    async def start(self) -> None:
        """Begin to keep `size` replicas alive, or none yet in a lazy pool; returns at once."""
        self._last_alive = time.monotonic()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")
        if not self._is_lazy:
            for _ in range(self.size):
                self._keep_one_more()

    def _keep_one_more(self) -> None:
        slot = len(self._keepers)
        self._keepers.append(asyncio.create_task(self._keep_alive(slot), name=f"keep {self.name} {slot}"))

    async def stop(self) -> None:
        tasks = [*self._keepers, *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._give_up(EngineError("shutting_down", "shutting down", retry_after_s=5))

    @property
    def replicas(self) -> list[Replica]:
        """The replicas that can take work."""
        return [replica for replica in self._replicas.values() if replica.is_ready and not replica.is_retiring]

    @property
    def num_started(self) -> int:
        """Replicas that are kept alive: `size`, or fewer in a lazy pool."""
        return len(self._keepers)

    @property
    def num_alive(self) -> int:
        """Replicas that answered their last heartbeat, or are at work on a block within its time limit."""
        late = time.monotonic() - 2 * HEARTBEAT_S - 0.5
        return sum(
            bool(replica.batches or replica.num_opening) or self._heard.get(replica, 0.0) > late for replica in self.replicas
        )

    @property
    def is_serving(self) -> bool:
        """Whether work put in now is soon served: a replica lives, or the last one died a moment ago and is being replaced."""
        return bool(self.replicas) or time.monotonic() - self._last_alive < REPLACEMENT_S

    async def _keep_alive(self, slot: int) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            replica = Replica(self, name=f"{self.name}-{next(self._numbers)}", niceness=self._niceness)
            self._replicas[slot] = replica
            try:
                await self._live(replica)
            except Exception:  # a fault of ours costs this replica, never its place: the next one takes it
                log.exception("replica given up name=%s", replica.name)
            finally:
                del self._replicas[slot]
                await replica.stop()
            metrics.REPLICA_RESTARTS.labels(self.name).inc()
            # Killed from outside or after good work it comes back at once; one that ends by itself at the start must not spin.
            was_well = replica.answers_given or replica.exit_code == -signal.SIGKILL
            backoff_s = FIRST_BACKOFF_S if was_well else min(LONGEST_BACKOFF_S, backoff_s * 2)
            await asyncio.sleep(backoff_s)  # a wait by design: a crashing program must not spin

    async def _live(self, replica: Replica) -> None:
        """From start to death of one replica."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await replica.start()
        except (OSError, ReplicaGone, TimeoutError) as error:
            log.error("replica did not start name=%s reason=%s", replica.name, type(error).__name__)
            return
        log.info("replica started name=%s pid=%s", replica.name, replica.pid)
        self._last_alive = self._heard[replica] = time.monotonic()
        if self.on_ready:
            self.on_ready(replica)
        self.wake()
        code = await replica.gone()
        self._heard.pop(replica, None)
        log.warning("replica died name=%s pid=%s exit=%s", replica.name, replica.pid, code)

    async def _watch(self) -> None:
        """Every HEARTBEAT_S: ask idle replicas for a sign of life, kill those stuck in a block, speak up when none is left."""
        while True:
            await asyncio.sleep(min(HEARTBEAT_S, self._block_timeout_s / 4))  # a heartbeat is a wait by nature
            try:
                self._look(time.monotonic())
            except Exception:  # without this loop nobody kills what is stuck: it goes on whatever one look finds
                log.exception("watching failed pool=%s", self.name)

    def _look(self, now: float) -> None:
        for replica in self.replicas:
            self._check(replica, now)
        if self.replicas or not self._keepers:
            self._last_alive = now
        elif now - self._last_alive > NO_REPLICA_S:
            self._give_up(EngineError("no_instances", "no instances of model found", retry_after_s=1))

    def _check(self, replica: Replica, now: float) -> None:
        if (batch := replica.working_on) is not None:
            self._heard[replica] = now
            if now - batch.sent_at > self._block_timeout_s:
                log.warning("replica stuck, killing it name=%s", replica.name)
                self._blame(batch.blocks, is_timeout=True)
                replica.is_stuck = True
                replica.kill()
        elif now - self._heard.get(replica, now) > self._block_timeout_s:
            log.warning("replica silent, killing it name=%s", replica.name)
            replica.is_stuck = True
            replica.kill()
        else:
            replica.request({}).add_done_callback(functools.partial(self._heard_from, replica))

    def _heard_from(self, replica: Replica, answer: asyncio.Future[tuple[Header, memoryview]]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._heard[replica] = time.monotonic()

    def _give_up(self, error: EngineError) -> None:
        """Nobody will serve what waits: tell every caller. A stream with nothing in a replica hears it, too."""
        lost = StreamFailure("no_replica", STREAM_CODES["no_replica"])
        for block in self.scheduler.drain():
            block.client.failed(block, lost if block.lane is Lane.BULK else error)
        for stream in self.scheduler.streams:
            stream.fail(lost)

    # Work

    def submit(self, block: Block) -> None:
        """Put a single block into the interactive lane and let a free replica take it."""
        self.scheduler.submit(block)
        if self._is_lazy:
            self._grow()
        self.wake()

    def _grow(self) -> None:
        """One more replica if there is more work than replicas."""
        num_taken = sum(bool(replica.batches) for replica in self._replicas.values())
        if len(self._keepers) < min(self.size, num_taken + self.scheduler.num_interactive):
            self._keep_one_more()

    def wake(self) -> None:
        """Let free replicas look for work, once what happens in this turn of the event loop has happened.

        So requests that arrive together travel in one frame; measured at 16 connections, that halves the cost of a frame.
        """
        if not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._feed_all)

    def _feed_all(self) -> None:
        """Every free replica gets what waits. First the idle ones; then, with bulk work only, one batch behind the running one."""
        self._is_waking = False
        # One that is opening a model would let singles wait for that; it gets work only if all are.
        replicas = [replica for replica in self.replicas if not replica.num_opening] or self.replicas
        for depth in range(BATCHES_PER_REPLICA):
            for replica in replicas:
                if len(replica.batches) == depth and not self._feed(replica):
                    return

    def _feed(self, replica: Replica) -> bool:
        """One more batch for this replica; False when nothing waits."""
        batch = self.scheduler.next_batch(is_prefetch=bool(replica.batches))
        if batch is None:
            return False
        now = time.monotonic()
        replica.send(batch, now)
        metrics.queue_seconds(batch.lane).observe(now - batch.blocks[0].waiting_since)
        return True

    def batch_answered(self, replica: Replica, batch: Batch, header: Header, payload: memoryview) -> None:
        """A replica answered: feed it again first, then hand out what it said."""
        if replica.batches:
            replica.batches[0].sent_at = time.monotonic()  # only now it begins with this one
        self._heard[replica] = time.monotonic()
        self.wake()
        if error := header.get("error"):
            self._batch_failed(replica, batch, error)
            return
        self._learn(batch, header)
        start = 0
        for block, part in zip(batch.blocks, header["parts"], strict=True):
            end = start + part["size"]
            block.client.answered(block, Answer(part, payload[start:end]))
            start = end

    def _learn(self, batch: Batch, header: Header) -> None:
        if batch.model is not None and (units := batch.units(batch.model)):
            self.scheduler.costs.learn(batch.model.key, sum(header["stages"].values()), units)
        metrics.observe_batch(batch, header)

    def _batch_failed(self, replica: Replica, batch: Batch, error: Header) -> None:
        """The replica lives but could not do it: its model does not load, or the task itself failed (a fault of ours)."""
        if error["code"] == "load_failed":
            if batch.model:
                replica.models.discard(batch.model.key)
            for block in batch.blocks:
                block.client.failed(block, EngineError("no_instances", "no instances of model found", retry_after_s=1))
            return
        log.error("task failed task=%s reason=%s", batch.task, error["reason"])
        for block in batch.blocks:
            block.deaths += 1
        self._try_again(batch.blocks)

    def replica_lost(self, replica: Replica, culprit: Batch | None) -> None:
        """The connection ended. The batch it worked on is blamed; what waited behind that, or behind a model it opened, is not."""
        batches = list(replica.batches)
        replica.batches.clear()
        if replica in self._heard:
            self._last_alive = time.monotonic()
        if culprit is not None and not replica.is_retiring:
            self._blame(culprit.blocks)
        for batch in reversed(batches):
            self._try_again(batch.blocks)

    @staticmethod
    def _blame(blocks: Iterable[Block], *, is_timeout: bool = False) -> None:
        for block in blocks:
            if is_timeout:
                block.is_timeout = True
            else:
                block.deaths += 1

    def _try_again(self, blocks: list[Block]) -> None:
        again = [part for block in blocks if not block.client.departed for part in self._next_try(block)]
        metrics.BLOCKS_REQUEUED.inc(len(again))
        self.scheduler.requeue(again)
        self.wake()

    @staticmethod
    def _next_try(block: Block) -> list[Block]:
        """What becomes of a block that came back: once more as it is, then divided; a single record is refused."""
        if block.task != "score":
            return _next_try_of_task(block)
        if block.deaths < (1 if block.is_suspect else 2):
            return [block]
        if block.num_records > 1:
            return list(divide(block))
        if "refuse" not in block.header:
            return [_refused(block)]
        if block.deaths <= REFUSAL_DEATHS and block.num_bytes:
            block.buffers, block.num_bytes = [], 0
            return [block]
        text = "the server failed on this record"
        block.client.failed(block, StreamFailure("internal", text) if block.lane is Lane.BULK else EngineError("internal", text))
        return []


def _next_try_of_task(block: Block) -> list[Block]:
    """Work that is no record: again after a death, which may have been an accident; never after its time ran out."""
    if block.deaths < TASK_DEATHS[block.task] and not block.is_timeout:
        return [block]
    block.client.failed(block, TaskFailed(is_timeout=block.is_timeout))
    return []


def _refused(block: Block) -> Block:
    """The same record, to be answered with an error by a replica that only reads its yhat_id."""
    if block.is_timeout:
        block.header = {**block.header, "refuse": "timeout", "reason": "the model did not answer in time"}
    else:
        block.header = {**block.header, "refuse": "model_failed", "reason": "the model's process died on this record"}
    block.deaths = 0
    return block
