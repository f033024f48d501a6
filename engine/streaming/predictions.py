"""Predictions: score one record, or open a stream of them; and end the streams that still run when the server stops.

Decides whether there is room. Knows no HTTP; its errors carry codes.
"""

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine import metrics
from engine.engine import Engine
from engine.errors import SHUTTING_DOWN, TIMED_OUT, TOO_MANY_REQUESTS, Code, EngineError, Kind
from engine.replicas.blocks import Answer, Arguments, Block, Call, Lane, ServedModel, Task
from engine.replicas.lines import Lines, LineSpan
from engine.repository.index import Version
from engine.repository.serving import Serving
from engine.spill import Spill
from engine.streaming.arrow_stream import ArrowStream, ArrowTasks
from engine.streaming.failures import StreamFailure
from engine.streaming.stream import Stream, StreamState, StreamWork

TOO_MANY_STREAMS = Code(
    "too_many_streams", Kind.OVERLOADED, "SLUICE_MAX_STREAMS or SLUICE_MAX_STREAMS_PER_USER streams are running"
)

TOO_MANY_WEBSOCKETS = Code("too_many_websockets", Kind.OVERLOADED, "the caller has SLUICE_MAX_WEBSOCKETS_PER_USER WebSockets open")

# A model counts as online if it answers its example this soon.
HEARTBEAT_TIMEOUT_S = 5.0
LATE_CALLS_INTERVAL_S = 0.25
# Streams wait this long at most after a disk that was short has room again.
DISK_INTERVAL_S = 1.0
# The first death under a block may be an accident; after the second the block is divided.
SCORE_DEATHS = 2
# What opens an Arrow stream or cuts a record batch cannot be divided. A replica that is killed from outside while it does this has
# perhaps just begun to import pyarrow, which takes 0.14 s and more on a busy machine, so another one is tried more often.
WHOLE_DEATHS = 8


@dataclass(frozen=True, slots=True)
class PredictionLimits:
    """What predictions are held to. Settings of server/config.py, by the same names."""

    max_streams: int
    max_streams_per_user: int
    max_websockets_per_user: int
    max_queued: int
    window_bytes: int
    block_timeout_s: float
    request_timeout_s: float


class Prediction(NamedTuple):
    """The answer to one record.

    code     None, or why the record has no result (errors.RECORD_CODES)
    body     the JSON of the answer, as a replica encoded it
    total_s  seconds from the call to the answer; infer_s of these the model ran, and queue_s is the rest
    """

    code: str | None
    body: bytes
    queue_s: float
    infer_s: float
    total_s: float


class Predictions:
    """The predictions of one server, over the pool that scores."""

    def __init__(self, engine: Engine, serving: Serving, spill: Spill, limits: PredictionLimits) -> None:
        self.limits = limits
        self._engine = engine
        self._serving = serving
        self._spill = spill
        self._task = Task(
            "score",
            family="scoring",
            pool="score",
            time_limit_s=limits.block_timeout_s,
            max_deaths=SCORE_DEATHS,
            is_divisible=True,
            refusal=_refusal,
        )
        self._arrow_tasks = _arrow_tasks(self._task)
        self._pool = engine.pool(self._task.pool)
        self._streams: set[Stream] = set()
        self._places: Counter[str | None] = Counter()
        self._conversations: Counter[str | None] = Counter()
        self._calls: dict[Call, float] = {}  # waiting call -> when to give it up, soonest first

    # One record

    async def predict(self, version: Version, record: bytes, arguments: Arguments) -> Prediction:
        """Score one record in the interactive lane.

        record     JSON text of one object
        arguments  how the sender wants the result: `non_vectorized`, `encoding_format`, `dimensions`
        raises     EngineError: no_instances, model_building, timed_out
        """
        started = time.monotonic()
        served = self._serving.served(version)
        with self._serving.using(served):
            model = await self._serving.ensure_loaded(served)
            answer = await self._score(model, record, arguments)
        total_s = time.monotonic() - started
        infer_s = answer.header["infer_s"]
        return Prediction(answer.header["code"], bytes(answer.payload), total_s - infer_s, infer_s, total_s)

    async def _score(self, model: ServedModel, record: bytes, arguments: Arguments) -> Answer:
        call = Call()
        self._calls[call] = time.monotonic() + self.limits.request_timeout_s
        try:
            self._pool.submit(Block(self._task, Lane.INTERACTIVE, call, arguments, Lines.of_body(record), model))
            return await call.future
        finally:
            del self._calls[call]

    async def give_up_late_calls(self) -> None:
        """Watch all calls with one clock: a timer for each would cost a tenth of a single prediction. All may wait equally long."""
        while True:
            await asyncio.sleep(LATE_CALLS_INTERVAL_S)  # it looks for what does not happen, so it can only wait
            now = time.monotonic()
            for call, until in self._calls.items():
                if until > now:
                    break
                call.give_up(EngineError(TIMED_OUT, "timed out", retry_after_s=1))

    def check_capacity(self, *, is_stream: bool, user: str | None) -> None:
        """Refuse what could not be served soon, before its body is read. EngineError."""
        self._engine.check_open()
        if is_stream:
            self._check_places(user)
        elif self._pool.scheduler.num_interactive >= self.limits.max_queued:
            raise EngineError(TOO_MANY_REQUESTS, "too many requests", retry_after_s=1)

    async def is_answering(self, version: Version) -> bool:
        """A real heartbeat of a model: its example goes through the queue and a replica, within HEARTBEAT_TIMEOUT_S."""
        try:
            self._engine.check_open()
            with self._serving.using(served := self._serving.served(version)):
                async with asyncio.timeout(HEARTBEAT_TIMEOUT_S):
                    model = await self._serving.ensure_loaded(served)
                    answer = await self._score(model, served.example, {})
        except (EngineError, TimeoutError):
            return False
        return answer.header["code"] is None

    @contextlib.contextmanager
    def conversation(self, user: str | None) -> Iterator[None]:
        """The place of a caller who sends records one by one for a long time. EngineError `too_many_websockets`.

        user  whose place it is; None for an anonymous caller, who shares the places of one user with all others
        """
        if self._conversations[user] >= self.limits.max_websockets_per_user:
            raise EngineError(TOO_MANY_WEBSOCKETS, "too many WebSockets", retry_after_s=1)
        self._conversations[user] += 1
        try:
            yield
        finally:
            self._conversations -= Counter({user: 1})  # a user without any is not kept

    # Streams

    @contextlib.asynccontextmanager
    async def stream(
        self, version: Version, arguments: Arguments, *, user: str | None, is_ordered: bool, is_arrow: bool = False
    ) -> AsyncIterator[Stream]:
        """A stream from its admission to its end.

        arguments  as for `predict`, and `times`; for an ArrowStream also `is_arrow_out` and `row_limit_bytes`
        is_arrow   it is an ArrowStream: its body has record batches
        user       whose stream it is, for the limit of each user; None is nobody known
        raises     EngineError: too_many_streams, no_instances, model_building, shutting_down
        """
        self._engine.check_open()
        self._check_places(user)
        self._places[user] += 1
        try:
            with self._serving.using(served := self._serving.served(version)):
                model = await self._serving.ensure_loaded(served)
                self._engine.check_open()  # again: a drain may have begun meanwhile, and it has counted its streams
                work = StreamWork(secrets.token_hex(16), self._task, model, arguments, is_ordered)
                async with self._running(work, is_arrow=is_arrow) as stream:
                    yield stream
        finally:
            self._places -= Counter({user: 1})

    # For other surfaces

    async def predict_lines(self, version: Version, lines: bytes, num_lines: int, user: str | None) -> bytes:
        """The result lines of some records, in any order, through the bulk lane.

        lines   a record on each, with its `yhat_id`
        raises  EngineError as `stream`; also when the stream fails before its end
        """
        async with self.stream(version, {"times": "go"}, user=user, is_ordered=False) as stream:
            stream.feed(LineSpan(lines, 0, len(lines), num_lines, 1))
            stream.offer()
            stream.body_ended()
            results = []
            while (piece := await stream.outbox.get()) is not None:
                results.append(bytes(piece))
                stream.taken()
            if stream.failure is not None:
                raise EngineError(stream.failure.code, stream.failure.message)
            return b"".join(results)

    def _check_places(self, user: str | None) -> None:
        limits = self.limits
        is_users_full = user is not None and self._places[user] >= limits.max_streams_per_user
        if is_users_full or self._places.total() >= limits.max_streams:
            raise EngineError(TOO_MANY_STREAMS, "too many streams", retry_after_s=1)

    @contextlib.asynccontextmanager
    async def _running(self, work: StreamWork, *, is_arrow: bool) -> AsyncIterator[Stream]:
        outbox = self._spill.outbox(work.bulk_id)
        window_bytes, wake = self.limits.window_bytes, self._pool.wake
        if is_arrow:
            stream: Stream = ArrowStream(work, self._arrow_tasks, outbox, window_bytes=window_bytes, wake=wake)
        else:
            stream = Stream(work, outbox, window_bytes=window_bytes, wake=wake)
        self._streams.add(stream)
        try:
            async with self._pool.offered(stream):
                try:
                    yield stream
                finally:
                    stream.leave()
        finally:
            await outbox.discard()
            self._streams.remove(stream)

    async def watch_disk(self) -> None:
        """Look at the disk while streams spill, and while it is short; streams that found it short go on as far as they can."""
        while True:
            await asyncio.sleep(DISK_INTERVAL_S)  # no event tells that somebody else has made room
            if not (was_short := self._spill.is_disk_short) and not self._spill.total_bytes:
                continue
            await asyncio.to_thread(self._spill.look_at_disk)
            if was_short:  # there may be room now, or a stream has emptied its files meanwhile
                for stream in self._streams:
                    stream.look_again()

    # Draining

    def end_streams(self) -> None:
        """End the streams that still run, now."""
        for stream in list(self._streams):
            stream.fail(StreamFailure(SHUTTING_DOWN))

    # How things are

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    def levels(self) -> metrics.Levels:
        states = dict.fromkeys(StreamState, 0) | Counter(stream.state for stream in self._streams)
        return {
            metrics.STREAMS: {(state,): count for state, count in states.items()},
            metrics.SPILL_BYTES: {(): self._spill.total_bytes},
        }


def _arrow_tasks(score: Task) -> ArrowTasks:
    """The tasks of streams of record batches. Their family is imported, and pyarrow with it, when the first of them comes."""
    whole = replace(score, family="arrow", is_divisible=False, refusal=None, max_deaths=WHOLE_DEATHS)
    return ArrowTasks(open=replace(whole, name="open"), cut=replace(whole, name="cut"), score=replace(score, family="arrow"))


def _refusal(block: Block) -> Arguments:
    """The arguments that make a replica answer with an error, for a record that by itself kills replicas; only its id is read."""
    if block.is_timeout:
        return {"refuse": "timeout", "reason": "the model did not answer in time"}
    return {"refuse": "model_failed", "reason": "the model's process died on this record"}
