"""The engine: what handlers ask for. Predict one record, open a stream, tell how things are; start, drain, stop.

Joins the pools with the models and the spill. Knows no HTTP; its errors carry codes.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path

from engine import metrics
from engine.blocks import Answer, Block, Call, Lane, ServedModel
from engine.embeddings import EmbeddingLimits, Embeddings
from engine.errors import EngineError, StreamFailure
from engine.frames import Header
from engine.listing import ListedModels
from engine.pool import Pool
from engine.repository import Repository, Version
from engine.serving import Serving
from engine.spill import Spill
from engine.stream import Stream, StreamState

log = logging.getLogger("sluice.engine")

# A model's example must be answered this soon for the model to count as online.
HEARTBEAT_TIMEOUT_S = 5.0
LATE_CALLS_INTERVAL_S = 0.25
# Jobs yield the cores to scoring.
JOBS_NICENESS = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine allows. Settings of server/config.py, by the same names."""

    score_replicas: int
    jobs_replicas: int
    max_streams: int
    max_streams_per_user: int
    max_queued: int
    window_bytes: int
    spill_limit_bytes: int
    spill_total_bytes: int
    block_timeout_s: float
    check_timeout_s: float
    request_timeout_s: float
    load_timeout_s: float
    drain_s: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one record.

    code     None, or why it has no result (errors.RECORD_CODES)
    body     the JSON of the answer, as a replica encoded it
    queue_s  seconds until a replica answered, less those of the run; infer_s, total_s: seconds
    """

    code: str | None
    body: bytes
    queue_s: float
    infer_s: float
    total_s: float


class Engine:
    """One server's engine. `start` before anything else, `stop` at the end."""

    def __init__(
        self, repository: Repository, listing: ListedModels, data_dir: Path, limits: Limits, embedding_limits: EmbeddingLimits
    ) -> None:
        self.limits = limits
        self.draining = asyncio.Event()  # set once, when the server begins to stop
        self._spill = Spill(data_dir / "spill", limit_bytes=limits.spill_limit_bytes, total_limit_bytes=limits.spill_total_bytes)
        self._score = Pool("score", limits.score_replicas, block_timeout_s=limits.block_timeout_s)
        self._jobs = Pool(
            "jobs", max(1, limits.jobs_replicas), block_timeout_s=limits.check_timeout_s, niceness=JOBS_NICENESS, is_lazy=True
        )
        self._pools = [self._score, self._jobs]
        self.models = Serving(repository, listing, self._score, load_timeout_s=limits.load_timeout_s, spawn=self._spawn)
        self.embeddings = Embeddings(self._score, self.models, embedding_limits)
        self._streams: set[Stream] = set()
        self._places: Counter[str | None] = Counter()
        self._was_ready = False
        self._all_ended = asyncio.Event()
        self._all_ended.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: dict[Call, float] = {}  # waiting -> when to give up, soonest first
        self._levels = metrics.LevelsCollector(self.levels)

    # Life

    async def start(self) -> None:
        """Begin to keep replicas alive; returns before they are."""
        self._spill.clean()
        metrics.REGISTRY.register(self._levels)
        for pool in self._pools:
            await pool.start()
        self._spawn(self._give_up_late_calls(), "late calls")

    async def drain(self) -> None:
        """Let running streams end for `drain_s`, then end them with `shutting_down`. New work is refused from now on."""
        self.draining.set()
        try:
            async with asyncio.timeout(self.limits.drain_s):
                await self._all_ended.wait()
        except TimeoutError:
            self.end_streams()

    def end_streams(self) -> None:
        """End what still runs, now."""
        self.draining.set()
        for stream in list(self._streams):
            stream.fail(StreamFailure("shutting_down", "the server is shutting down"))

    async def ended(self) -> None:
        """Wait until no stream is running."""
        await self._all_ended.wait()

    async def stop(self) -> None:
        """End the replicas. Nothing is waited for that a client still wants: drain first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._pools:
            await pool.stop()
        metrics.REGISTRY.unregister(self._levels)

    # Work that is no record

    async def run_task(self, task: str, header: Header) -> Header:
        """Run a task in a replica of the `jobs` pool; the header of its answer. EngineError: TaskFailed, no_instances."""
        call = Call(asyncio.get_running_loop().create_future())
        self._jobs.submit(Block(task, Lane.INTERACTIVE, call, header=header))
        return (await call.future).header

    # One record

    async def predict(self, version: Version, record: bytes, options: Header) -> Prediction:
        """Score one record in the interactive lane.

        record   JSON text of one object
        options  `non_vectorized`
        raises   EngineError: no_instances, model_building, timed_out
        """
        started = time.monotonic()
        with self.models.using(self.models.served(version)):
            model = await self.models.ensure_loaded(version)
            answer = await self._call(model, record, options)
        total_s = time.monotonic() - started
        infer_s = answer.header["infer_s"]
        return Prediction(answer.header["code"], bytes(answer.payload), total_s - infer_s, infer_s, total_s)

    async def _call(self, model: ServedModel, record: bytes, options: Header) -> Answer:
        call = Call(asyncio.get_running_loop().create_future())
        self._calls[call] = time.monotonic() + self.limits.request_timeout_s
        try:
            self._score.submit(Block("score", Lane.INTERACTIVE, call, model, options, [record], num_bytes=len(record)))
            return await call.future
        finally:
            del self._calls[call]

    async def _give_up_late_calls(self) -> None:
        """One clock for all calls: a timer for each would cost a tenth of a single prediction. All calls have the same patience."""
        while True:
            await asyncio.sleep(LATE_CALLS_INTERVAL_S)  # a wait by nature: it looks for what does not happen
            now = time.monotonic()
            for call, until in self._calls.items():
                if until > now:
                    break
                call.give_up(EngineError("timed_out", "timed out", retry_after_s=1))

    def check_capacity(self, *, is_stream: bool, user: str | None) -> None:
        """Refuse what could not be served soon, before its body is read. EngineError."""
        self.check_open()
        if is_stream:
            self._check_places(user)
        elif self._score.scheduler.num_interactive >= self.limits.max_queued:
            raise EngineError("too_many_requests", "too many requests", retry_after_s=1)

    def check_open(self) -> None:
        """Refuse everything while draining, or with no replica alive. EngineError."""
        if self.is_draining:
            raise EngineError("shutting_down", "shutting down", retry_after_s=5)
        if not self._score.is_serving:
            raise EngineError("no_instances", "no instances of model found", retry_after_s=1)

    async def is_answering(self, version: Version) -> bool:
        """A real heartbeat: the model's example, through the queue and a replica, within HEARTBEAT_TIMEOUT_S."""
        try:
            self.check_open()
            with self.models.using(served := self.models.served(version)):
                async with asyncio.timeout(HEARTBEAT_TIMEOUT_S):
                    model = await self.models.ensure_loaded(version)
                    answer = await self._call(model, served.example, {})
        except (EngineError, TimeoutError):
            return False
        return answer.header["code"] is None

    # Streams

    @contextlib.asynccontextmanager
    async def stream(self, version: Version, options: Header, *, user: str | None, is_ordered: bool) -> AsyncIterator[Stream]:
        """A stream from admission to its end. EngineError: too_many_streams, no_instances, model_building, shutting_down.

        options  `times`, `non_vectorized`: as the replica's `score` takes them
        """
        self.check_open()
        self._check_places(user)
        self._places[user] += 1
        try:
            with self.models.using(self.models.served(version)):
                model = await self.models.ensure_loaded(version)
                self.check_open()  # again: a drain may have begun meanwhile, and it has counted its streams
                stream = self._new_stream(model, options, is_ordered)
                async with self._running(stream):
                    yield stream
        finally:
            self._places[user] -= 1

    def _check_places(self, user: str | None) -> None:
        limits = self.limits
        is_users_full = user is not None and self._places[user] >= limits.max_streams_per_user
        if is_users_full or self._places.total() >= limits.max_streams:
            raise EngineError("too_many_streams", "too many streams", retry_after_s=1)

    def _new_stream(self, model: ServedModel, options: Header, is_ordered: bool) -> Stream:
        bulk_id = secrets.token_hex(16)
        return Stream(
            bulk_id,
            model,
            options,
            self._spill.outbox(bulk_id),
            window_bytes=self.limits.window_bytes,
            is_ordered=is_ordered,
            wake=self._score.wake,
        )

    @contextlib.asynccontextmanager
    async def _running(self, stream: Stream) -> AsyncIterator[None]:
        self._streams.add(stream)
        self._all_ended.clear()
        self._score.scheduler.attach(stream)
        try:
            yield
        finally:
            stream.leave()
            self._score.scheduler.detach(stream)
            await stream.outbox.discard()
            self._streams.remove(stream)
            if not self._streams:
                self._all_ended.set()

    # How things are

    @property
    def is_draining(self) -> bool:
        return self.draining.is_set()

    @property
    def health(self) -> str:
        """`ok`, or `starting`, `draining`, `no replicas`."""
        if self.is_draining:
            return "draining"
        if self._score.num_alive:
            self._was_ready = True
            return "ok"
        return "no replicas" if self._was_ready else "starting"

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    def num_replicas(self) -> dict[str, int]:
        """Replicas alive, by pool; a pool that was never needed is left out."""
        return {pool.name: pool.num_alive for pool in self._pools if pool.num_started}

    def levels(self) -> metrics.Levels:
        """What /metrics shows of this moment."""
        scheduler = self._score.scheduler
        replicas = {(pool.name, "ready"): pool.num_alive for pool in self._pools}
        replicas |= {(pool.name, "starting"): pool.num_started - pool.num_alive for pool in self._pools}
        return metrics.Levels(
            streams=dict.fromkeys(map(str, StreamState), 0) | Counter(str(stream.state) for stream in self._streams),
            queue_blocks={Lane.INTERACTIVE: scheduler.num_interactive, Lane.BULK: scheduler.num_bulk},
            replicas=replicas,
            spill_bytes=self._spill.total_bytes,
            blocks_dropped=scheduler.num_dropped,
        )

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """A task of the engine's own, cancelled at its stop."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
