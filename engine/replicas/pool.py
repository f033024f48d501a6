"""A pool: the replicas of one kind of work, kept alive and kept busy.

Feeds free replicas from the scheduler and gives each answer to the waiter of its block. When a replica dies or fails, the block's
task decides what happens: the block is sent again, divided down to the one record that gets an error, or given up. Knows no task by
name.
"""

import asyncio
import contextlib
import itertools
import logging
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from engine import frames, metrics
from engine.errors import EngineError, TaskFailed, no_instances, shutting_down
from engine.frames import Buffer, Header
from engine.replicas.blocks import Answer, Arguments, Batch, Block, Call, Lane, LongWaiter, ProgressWaiter, Task, divide
from engine.replicas.faults import ANSWERED_FAULT, FAULT_OF_A_HALF, Faults
from engine.replicas.lines import Lines
from engine.replicas.replica import DEFAULT_OPTIONS, Replica, ReplicaGone, ReplicaOptions
from engine.replicas.scheduler import BlockSource, Scheduler

log = logging.getLogger("sluice.pool")

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
HEARTBEAT_S = 2.0
START_TIMEOUT_S = 60.0
# When there has been no replica for this long, everybody who waits is told so.
NO_REPLICA_S = 30.0
# A replica that died is replaced in about 0.4 s. One record that kills two replicas must not refuse everybody else's requests
# meanwhile.
REPLACEMENT_S = 2.0
# A block is meant to take 20 to 100 ms. When blocks of untrusted models have held all replicas for this long while others wait, all
# but one of these replicas are taken back.
HELD_S = 5.0
# A replica that was asked to stop its work and goes on for this long is killed.
STOP_GRACE_S = 0.5
# One batch in work and one behind it, so that a replica never waits for us.
BATCHES_PER_REPLICA = 2


class Pool:
    """`size` replicas and one scheduler.

    silence_limit_s  a replica that opens a model, or does nothing, is killed when it gives no sign of life for this long
    on_ready         is told of each replica before it gets work
    on_offline       is told the key of each model that goes offline because of faults
    on_online        is told the key of each such model that has come back by itself
    knows            tells by its key whether a model is still served; an answer that comes later teaches nothing
    """

    def __init__(
        self,
        name: str,
        size: int,
        options: ReplicaOptions = DEFAULT_OPTIONS,
        *,
        silence_limit_s: float,
    ) -> None:
        self.name = name
        self.size = size
        self.faults = Faults(options.max_faults)
        self.scheduler = Scheduler(size, confined=self.faults.confined)
        self.on_ready: Callable[[Replica], None] | None = None
        self.on_offline: Callable[[str], None] | None = None
        self.on_online: Callable[[str], None] | None = None
        self.knows: Callable[[str], bool] = lambda key: True
        self._silence_limit_s = silence_limit_s
        self._options = options
        self._replicas: dict[int, Replica] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._last_alive = time.monotonic()
        self._lost: deque[tuple[float, str]] = deque()  # when replicas died, and whose work they were at; not replaced yet
        self._is_waking = False

    # Life

    async def start(self) -> None:
        """Begin to keep `size` replicas alive, or none yet in a lazy pool; returns at once."""
        self._last_alive = time.monotonic()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")
        if not self._options.is_lazy:
            self.fill()

    def fill(self) -> None:
        """Begin to keep all replicas alive that the work of one user may take, also in a lazy pool: all `size` without a limit."""
        while len(self._keepers) < (self._options.max_per_user or self.size):
            self._keep_one_more()

    def _keep_one_more(self) -> None:
        slot = len(self._keepers)
        self._keepers.append(asyncio.create_task(self._keep_alive(slot), name=f"keep {self.name} {slot}"))

    async def stop(self) -> None:
        """End the replicas, and tell everybody who still waits."""
        tasks = [*self._keepers, *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._give_up(shutting_down())

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
        """Replicas that answered their last heartbeat, or are at work within their time limit."""
        late = time.monotonic() - 2 * HEARTBEAT_S - 0.5
        return sum(bool(replica.num_batches or replica.num_opening) or replica.heard_at > late for replica in self.replicas)

    @property
    def is_serving(self) -> bool:
        """Whether work that is put in now is soon served: a replica lives, or the last one died just now and is being replaced."""
        return bool(self.replicas) or time.monotonic() - self._last_alive < REPLACEMENT_S

    async def _keep_alive(self, slot: int) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            name = f"{self.name}-{next(self._numbers)}"
            replica = Replica(self, name, self._options, yields=self._is_start_unhurried())
            self._replicas[slot] = replica
            try:
                await self._live(replica)
            except Exception:  # a fault of ours costs this replica, but its place goes to the next one
                log.exception("replica given up name=%s", replica.name)
            finally:
                del self._replicas[slot]
                await replica.stop()
            if replica.is_relieved:
                continue
            metrics.REPLICA_RESTARTS.labels(self.name).inc()
            # A replica that was killed from outside, or died after good work, is replaced at once; one that ends by itself before
            # it has answered anything would do so again and again.
            was_well = replica.answers_given or replica.exit_code == -signal.SIGKILL
            backoff_s = FIRST_BACKOFF_S if was_well else min(LONGEST_BACKOFF_S, backoff_s * 2)
            await asyncio.sleep(backoff_s)  # waiting is the purpose here: a program that crashes must not spin

    def _is_start_unhurried(self) -> bool:
        """Whether a replica that starts now may yield the cores: a confined model lets replicas start again and again, which would
        slow down the others, and one of these is free of it."""
        confined = self.faults.confined
        return bool(confined) and any(not replica.has_work_on(confined) for replica in self.replicas)

    async def _live(self, replica: Replica) -> None:
        """One replica from its start to its death."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await replica.start()
        except (OSError, ReplicaGone, TimeoutError) as error:
            log.error("replica did not start name=%s reason=%s", replica.name, type(error).__name__)
            return
        log.info("replica started name=%s pid=%s", replica.name, replica.pid)
        self._last_alive = time.monotonic()
        if self._lost:
            self._lost.popleft()
        if self.on_ready:
            self.on_ready(replica)
        self.wake()
        code = await replica.gone()
        if replica.is_relieved:
            return
        log.warning("replica died name=%s pid=%s exit=%s", replica.name, replica.pid, code)
        if replica.died_under is not None and code == -signal.SIGKILL and not replica.is_stuck:
            self.faults.take_back(replica.died_under)  # killed from outside

    async def _watch(self) -> None:
        """Every HEARTBEAT_S: ask idle replicas for a sign of life, kill those that are stuck, speak up when no replica is left."""
        while True:
            await asyncio.sleep(min(HEARTBEAT_S, self._silence_limit_s / 4))  # a heartbeat waits by nature
            try:
                self._look(time.monotonic())
            except Exception:  # without this loop nobody kills a stuck replica, so it outlives whatever one look finds
                log.exception("watching failed pool=%s", self.name)

    def _look(self, now: float) -> None:
        for replica in self.replicas:
            self._check(replica, now)
        self._take_back_held(now)
        self.faults.forget_old()
        while self._lost and now - self._lost[0][0] > LONGEST_BACKOFF_S:
            self._lost.popleft()
            self.wake()
        if self.replicas or not self._keepers:
            self._last_alive = now
        elif now - self._last_alive > NO_REPLICA_S:
            self._give_up(no_instances())

    def _check(self, replica: Replica, now: float) -> None:
        if (batch := replica.working_on) is not None:
            if now - batch.sent_at > batch.task.time_limit_s and not replica.is_paused:
                log.warning("replica stuck, killing it name=%s task=%s", replica.name, batch.task.name)
                for block in batch.blocks:
                    block.is_timeout = True
                self._kill_stuck(replica)
        elif now - replica.heard_at > self._silence_limit_s:
            log.warning("replica silent, killing it name=%s", replica.name)
            self._kill_stuck(replica)
        else:
            replica.ask_for_sign_of_life()

    def _take_back_held(self, now: float) -> None:
        """When untrusted models hold all replicas for long while others wait: confine them, and free all replicas but one.

        The blocks that the freed replicas worked on are not blamed. They are sent again, one after the other.
        """
        held = [(replica, batch) for replica in self.replicas if (batch := replica.working_on) is not None]
        if len(held) < max(2, self.size):
            return
        if any(batch.model is None or batch.model.is_trusted or now - batch.sent_at < HELD_S for _, batch in held):
            return
        if not self.scheduler.has_work_beside({batch.model.key for _, batch in held if batch.model is not None}):
            return
        for _, batch in held:
            if batch.model is not None:
                log.warning("model holds replicas for too long, confined model=%s", batch.model.key)
                self.faults.confine(batch.model)
        for replica, _ in sorted(held, key=lambda one: one[1].sent_at)[1:]:
            replica.is_retiring = True
            replica.kill()

    @staticmethod
    def _kill_stuck(replica: Replica) -> None:
        replica.is_stuck = True
        replica.kill()

    def _give_up(self, error: EngineError) -> None:
        """Nobody will serve what waits: tell every source, also one that has nothing waiting now, and then every single waiter."""
        for source in self.scheduler.sources:  # first, so that a stream hears this reason and not that one of its blocks failed
            source.abandon(error)
        for block in self.scheduler.take_all():
            block.waiter.failed(block, error)

    def refuse(self, key: str, error: EngineError) -> None:
        """Nobody will serve what waits for one model: tell its sources and its waiters. Work in replicas goes on."""
        for source in self.scheduler.sources:  # first, as above
            if source.model is not None and source.model.key == key:
                source.abandon(error)
        for block in self.scheduler.take_out(key):
            block.waiter.failed(block, error)

    # Work comes in

    async def run(self, task: Task, arguments: Arguments, buffers: Sequence[Buffer] = (), *, user: str = "") -> Answer:
        """Run a task on some raw bytes, and wait for its answer. Raises EngineError: TaskFailed, `no_instances`."""
        call = Call()
        self.submit(Block(task, Lane.INTERACTIVE, call, arguments, Lines.of_buffers(buffers), user=user))
        return await call.future

    def submit(self, block: Block) -> None:
        """Put a single block into the interactive lane and let a free replica take it."""
        self.scheduler.submit(block)
        if self._options.is_lazy:
            self._grow()
        self.wake()

    def stop_work(self, block: Block) -> None:
        """Nobody wants the answer to this block any more: its waiter must have left.

        A block that waits is dropped when a replica would take it. A replica that works on it is asked to stop, and killed when it
        still works on it after a grace.
        """
        for replica in self.replicas:
            batch = replica.working_on
            if batch is not None and block in batch.blocks:
                replica.resume()  # it may wait until we read
                replica.ask_to_stop()
                asyncio.get_running_loop().call_later(STOP_GRACE_S, self._kill_if_at, replica, batch)

    def abandon(self, block: Block) -> None:
        """Nobody wants the answer to this block any more, as for `stop_work`; a replica that works on it is killed at once."""
        for replica in self.replicas:
            batch = replica.working_on
            if batch is not None and block in batch.blocks:
                log.info("work abandoned, killing its replica name=%s task=%s", replica.name, batch.task.name)
                replica.relieve()
                replica.kill()

    @staticmethod
    def _kill_if_at(replica: Replica, batch: Batch) -> None:
        if replica.working_on is batch:
            log.warning("replica does not stop, killing it name=%s task=%s", replica.name, batch.task.name)
            replica.kill()

    @contextlib.asynccontextmanager
    async def offered(self, source: BlockSource) -> AsyncIterator[None]:
        """While the context is open, free replicas take blocks from this source in the bulk lane."""
        self.scheduler.attach(source)
        self.wake()
        try:
            yield
        finally:
            self.scheduler.detach(source)

    def _grow(self) -> None:
        """Start one more replica if there is more work than replicas."""
        if len(self._keepers) < self.size and len(self._keepers) < self._num_wanted():
            self._keep_one_more()

    def _num_wanted(self) -> int:
        """How many replicas all single work could take that is in replicas or waits."""
        most = self._options.max_per_user
        if not most:
            return self.scheduler.num_interactive + sum(bool(replica.num_batches) for replica in self._replicas.values())
        by_user = self._taken_by_user() + self.scheduler.num_interactive_by_user()
        return sum(min(number, most) for number in by_user.values())

    def _taken_by_user(self) -> Counter[str]:
        """The replicas that are at work, by the user whose work it is.

        One that died is its user's until it is replaced: else a user whose work kills replicas would have the one that is left for
        others.
        """
        batches = (replica.working_on for replica in self._replicas.values())
        taken = Counter(batch.blocks[0].user for batch in batches if batch is not None)
        return taken + Counter(user for _, user in self._lost)

    def _full_users(self) -> set[str]:
        """The users whose work has as many replicas as it may."""
        most = self._options.max_per_user
        return {user for user, number in self._taken_by_user().items() if number >= most} if most else set()

    # Work goes out

    def wake(self) -> None:
        """Let free replicas look for work, once everything that happens in this turn of the event loop has happened.

        So requests that arrive together travel in one frame; measured with 16 connections, that halves the cost of a frame.
        """
        if not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._feed_all)

    def _feed_all(self) -> None:
        """Give every free replica what waits: first to idle ones; then, of bulk work only, one batch behind the running one."""
        self._is_waking = False
        # Single requests would wait behind a model that is being opened, so a replica that opens one gets work only if all do.
        replicas = [replica for replica in self.replicas if not replica.num_opening] or self.replicas
        for depth in range(BATCHES_PER_REPLICA):
            for replica in replicas:
                if replica.num_batches == depth and not self._feed(replica):
                    return

    def _feed(self, replica: Replica) -> bool:
        """Send one more batch to this replica; False when nothing waits."""
        confined = self.faults.confined
        if confined and replica.num_batches and replica.has_work_on(confined):
            return True  # nothing waits behind a model that may hang or die
        gives_confined = not confined or self._has_place_for_confined()
        batch = self.scheduler.next_batch(
            is_prefetch=replica.num_batches > 0, gives_confined=gives_confined, full_users=self._full_users()
        )
        if batch is None:
            return False
        now = time.monotonic()
        replica.send(batch, now, yields=batch.model is not None and batch.model.key in confined)
        metrics.queue_seconds(batch.lane).observe(now - batch.blocks[0].waiting_since)
        return True

    def _has_place_for_confined(self) -> bool:
        """Whether a replica may take work on a confined model: none has any, and another is left for everybody else."""
        if any(replica.has_work_on(self.faults.confined) for replica in self._replicas.values()):
            return False
        return sum(not replica.num_opening for replica in self.replicas) >= min(2, self.size)

    # Answers come back

    def batch_answered(self, replica: Replica, batch: Batch, header: Header, payload: memoryview) -> None:
        """A replica answered: let it be fed again, then hand out what it said."""
        self._retire_worn(replica)
        self.wake()
        if error := header.get("error"):
            self._batch_failed(replica, batch, error)
            return
        self._learn(batch, header)
        if "is_harmful" in header:
            self._note_fault(batch, ANSWERED_FAULT)
        elif batch.model is not None and batch.model.key in self.faults:
            self._note_answer(batch)
        parts = header["parts"]
        pieces = frames.cut(payload, (part["size"] for part in parts))
        for block, part, piece in zip(batch.blocks, parts, pieces, strict=True):
            _tell(block, Answer(part, piece))

    def _retire_worn(self, replica: Replica) -> None:
        """Let a replica that has worked enough end, once nothing is in it; another takes its place."""
        if not replica.is_retiring and replica.is_worn:
            log.info("replica retired name=%s answers=%d", replica.name, replica.answers_given)
            replica.relieve()
        if replica.is_relieved and not replica.num_batches:
            replica.close()

    def batch_continued(self, replica: Replica, batch: Batch, header: Header, payload: memoryview) -> None:
        """A replica sent a frame of a long answer, after which more will come. Only a block that travels alone has one."""
        [block] = batch.blocks
        block.num_parts += 1
        if isinstance(block.waiter, LongWaiter):
            block.waiter.continued(block, Answer(header, payload), replica)
        else:  # a bug: it would take the last frame for the whole answer
            block.waiter.failed(block, TaskFailed("failed"))

    @staticmethod
    def batch_progressed(batch: Batch, header: Header) -> None:
        """A replica told how far it is. What a waiter does with that must not cost the replica, nor the answer."""
        for block in batch.blocks:
            if isinstance(block.waiter, ProgressWaiter) and not block.waiter.has_left:
                try:
                    block.waiter.progressed(block, header)
                except Exception:  # a bug
                    log.exception("progress not taken task=%s", block.task.name)

    def _learn(self, batch: Batch, header: Header) -> None:
        model = batch.model
        if model is None or not self.knows(model.key):  # /metrics would show a model again that was deleted
            return
        if units := batch.units(model):
            self.scheduler.costs.learn(model.key, sum(header["stages"].values()), units)
        metrics.observe_frame(model.title, batch.num_records, header)

    def _batch_failed(self, replica: Replica, batch: Batch, error: Header) -> None:
        """The replica lives but could not do the work: the model does not load, or the task failed, which is a fault of ours."""
        if error["code"] == "load_failed":
            if batch.model:
                replica.loaded.discard(batch.model.key)
            for block in batch.blocks:
                block.waiter.failed(block, no_instances())
            return
        if error["code"] == "stopped":  # nobody waits, or the signal was meant for work before this: then it is done again
            self._try_again(batch.blocks)
            return
        # The class of the exception: its message may quote a record.
        log.error("task failed task=%s error=%s", batch.task.name, error["reason"].partition(":")[0])
        if "is_harmful" in error:
            self._note_fault(batch, ANSWERED_FAULT)
        for block in batch.blocks:
            block.deaths += 1
            block.is_lost = False
            block.error = error
        self._try_again(batch.blocks)

    def replica_lost(self, replica: Replica, batches: list[Batch], culprit: Batch | None) -> None:
        """The connection ended. The batch it worked on is blamed; batches that waited behind it, or behind a model, are not."""
        if replica.heard_at > 0:
            self._last_alive = time.monotonic()
        if culprit is not None:
            self._lost.append((time.monotonic(), culprit.blocks[0].user))
            for block in culprit.blocks:
                block.deaths += 1
                block.is_lost = True
            self._note_fault(culprit, FAULT_OF_A_HALF if culprit.blocks[0].is_suspect else 1.0)
        for batch in reversed(batches):
            self._try_again(batch.blocks)

    def _note_fault(self, batch: Batch, weight: float) -> None:
        """Count a fault against the version that was at work, which may take it offline."""
        error = self.faults.note(batch, weight)
        if error is not None and batch.model is not None:
            log.error("model offline model=%s reason=%r", batch.model.key, error.message)
            if self.on_offline:
                self.on_offline(batch.model.key)
            for block in batch.blocks:
                block.waiter.failed(block, error)
            self.refuse(batch.model.key, error)

    def _note_answer(self, batch: Batch) -> None:
        if self.faults.answered(batch) and batch.model is not None:
            log.info("model online again model=%s", batch.model.key)
            if self.on_online:
                self.on_online(batch.model.key)

    def _try_again(self, blocks: Iterable[Block]) -> None:
        again = [next_block for block in blocks if not block.waiter.has_left for next_block in _next_try(block)]
        metrics.BLOCKS_REQUEUED.inc(len(again))
        self.scheduler.requeue(again)
        self.wake()


def _tell(block: Block, answer: Answer) -> None:
    """Give a waiter its answer. A fault of one waiter must not keep the answers of the others in the frame from theirs."""
    try:
        block.waiter.answered(block, answer)
    except Exception:  # a bug: this waiter is told that it has failed, and the rest of the frame is handed out
        log.exception("answer not taken task=%s", block.task.name)
        block.waiter.failed(block, TaskFailed("failed"))


def _next_try(block: Block) -> list[Block]:
    """What becomes of a block that came back: it is sent as it is, divided, refused, or given up."""
    task = block.task
    if block.num_parts:
        block.waiter.failed(block, _failure(block))
        return []
    if task.careful is not None and block.model is None and block.deaths and not block.is_careful:
        block.arguments, block.is_careful, block.is_timeout = block.arguments | task.careful, True, False
        return [block]
    if block.deaths < _max_deaths(block) and (task.is_divisible or not block.is_timeout):
        return [block]
    if task.is_divisible and block.lines.num_lines > 1:
        return list(divide(block))
    if task.refusal is not None and not block.is_refused:
        block.arguments = block.arguments | task.refusal(block)
        block.is_refused, block.deaths = True, 0
        return [block]
    if block.is_refused and block.lines.num_bytes:  # even reading its id kills replicas
        block.lines = block.lines.without_bytes()
        return [block]
    block.waiter.failed(block, _failure(block))
    return []


def _failure(block: Block) -> TaskFailed:
    if block.is_timeout:
        return TaskFailed("time")
    if block.is_lost or block.error is None:
        return TaskFailed("died" if block.is_lost else "failed")
    class_name, _, text = block.error["reason"].partition(": ")
    return TaskFailed(
        "memory" if "is_memory" in block.error else "failed", class_name, text, tuple(block.error.get("traceback", ()))
    )


def _max_deaths(block: Block) -> int:
    """One half of a block that has already lost its replicas does not get as many again."""
    return 1 if block.is_suspect else block.task.max_deaths
