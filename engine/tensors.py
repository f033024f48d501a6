"""Tensors: from the raw body of a request of the Open Inference Protocol to the tensors of its answer.

One replica reads the body and answers a request of few rows at once. A request of many rows comes back from it as several smaller
ones, which are offered to all replicas in turn with other bulk work, and whose answers are put together in order. Knows no HTTP, no
JSON and no model.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine import metrics
from engine.engine import Engine
from engine.errors import (
    INTERNAL,
    INVALID_BODY,
    INVALID_PARAMETER,
    RECORD_CODES,
    SEVERAL_SHAPES,
    TIMED_OUT,
    TOO_MANY_REQUESTS,
    EngineError,
    TaskFailed,
    by_word,
)
from engine.frames import Buffer, Header, cut
from engine.replicas.blocks import Answer, Arguments, Block, Call, Lane, LoneBlock, ServedModel, Task
from engine.replicas.lines import Lines
from engine.repository.index import Version
from engine.repository.serving import Serving

MODEL_FAILED = RECORD_CODES["model_failed"]
# What a replica may say against a request, by its word.
TENSOR_CODES = by_word(INVALID_BODY, INVALID_PARAMETER, MODEL_FAILED)

# A request that takes longer than this is divided among the replicas.
AT_ONCE_S = 0.020
# In place of the rows that a replica runs at once: it gives every row back.
NEVER = -1
# The first death under a request may be an accident.
INFER_DEATHS = 2
# Requests that wait share a frame up to these bytes: some of one row each.
SHARED_BODIES_BYTES = 1024
# A short text becomes a long vector: 8 MiB of texts could ask for gigabytes.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

# A model counts as ready if a replica answers for it this soon.
HEARTBEAT_TIMEOUT_S = 5.0

# Is told how many bytes of an answer are in memory now; raises EngineError when they are too many.
Grown = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class TensorLimits:
    """What the surface allows. Settings of server/config.py, by the same names."""

    max_queued: int
    body_limit_bytes: int
    interactive_bytes: int
    block_timeout_s: float


@dataclass(slots=True)
class TensorOutput:
    """One tensor of an answer.

    shape      the first number counts the rows
    is_binary  the pieces are raw bytes; else JSON values, to be joined by commas
    """

    name: str
    datatype: str
    shape: list[int]
    is_binary: bool
    pieces: list[Buffer]


@dataclass(frozen=True, slots=True)
class Inferred:
    """The answer to one request.

    id        the one that the request had
    outputs   in their order
    formless  the names of outputs that were not asked for by name, and that no tensor can hold
    """

    id: str | None
    outputs: list[TensorOutput]
    formless: list[str]


class Tensors:
    """The requests of the Open Inference Protocol, over the pool that scores."""

    def __init__(self, engine: Engine, serving: Serving, limits: TensorLimits) -> None:
        self.limits = limits
        self._engine = engine
        self._serving = serving
        self._num_open = 0
        self._infer = self._task("infer", shared_bytes=SHARED_BODIES_BYTES, careful={"careful": True})
        self._describe = self._task("describe")
        self._pool = engine.pool(self._infer.pool)

    def _task(self, name: str, **more: Any) -> Task:
        limit_s = self.limits.block_timeout_s
        return Task(name, family="tensors", pool="score", time_limit_s=limit_s, max_deaths=INFER_DEATHS, **more)

    def check_capacity(self) -> None:
        """Refuse what could not be served soon, before its body is read. EngineError."""
        self._engine.check_open()
        if max(self._num_open, self._pool.scheduler.num_interactive) >= self.limits.max_queued:
            raise EngineError(TOO_MANY_REQUESTS, "too many requests", retry_after_s=1)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """The place of a request from when its body is here until its answer is sent. EngineError `too_many_requests`."""
        self.check_capacity()
        self._num_open += 1
        try:
            yield
        finally:
            self._num_open -= 1

    async def describe(self, version: Version) -> bytes:
        """The JSON of an object with `inputs` and `outputs`: the tensors that a version takes and gives.

        raises  EngineError: no_instances, model_building, internal
        """
        served = self._serving.served(version)
        with self._serving.using(served):
            model, call = await self._serving.ensure_loaded(served), Call()
            self._pool.submit(Block(self._describe, Lane.INTERACTIVE, call, model=model))
            return bytes((await _answered(call)).payload)

    async def is_ready(self, version: Version) -> bool:
        """A real heartbeat of a model: a replica that has it open answers within HEARTBEAT_TIMEOUT_S."""
        try:
            self._engine.check_open()
            async with asyncio.timeout(HEARTBEAT_TIMEOUT_S):
                await self.describe(version)
        except (EngineError, TimeoutError):
            return False
        return True

    async def infer(self, version: Version, head_bytes: int, body: bytes, grown: Grown) -> Inferred:
        """Run a request through a version.

        head_bytes  length of the JSON before the raw bytes of tensors; 0 when all of the body is JSON
        grown       is called as the answer grows
        raises      EngineError: TENSOR_CODES for what is wrong with the request; no_instances, model_building, timed_out, internal
        """
        served = self._serving.served(version)
        with self._serving.using(served):
            model = await self._serving.ensure_loaded(served)
            answer = await self._read(model, head_bytes, body)
            part = answer.header
            if "pieces" not in part:
                self._learn(model, part)
                return _joined(part["id"], [answer])
            rows = RowPieces(self._infer, model, answer, grown)
            del body  # the pieces are a copy
            async with self._pool.offered(rows):
                try:
                    return _joined(part["id"], await rows.done)
                finally:
                    rows.has_left = True

    async def _read(self, model: ServedModel, head_bytes: int, body: bytes) -> Answer:
        """What the replica that read the request says."""
        call = Call()
        lane = Lane.INTERACTIVE if len(body) <= self.limits.interactive_bytes else Lane.BULK
        arguments = self._arguments(model)
        lines = Lines.of_buffers((b"%d\n" % head_bytes, body))
        block = Block(self._infer, lane, call, arguments, lines, group=tuple(arguments.values()))
        if lane is Lane.INTERACTIVE:
            self._pool.submit(block)
            return _accepted(await _answered(call))
        async with self._pool.offered(LoneBlock(block, call)):
            return _accepted(await _answered(call))

    def _arguments(self, model: ServedModel) -> Arguments:
        scheduler = self._pool.scheduler
        # What a model that has cost replicas is asked travels in blocks of its own, which the pool can count and confine.
        at_once = NEVER if model.key in self._pool.faults else scheduler.worth(AT_ONCE_S, model)
        return {
            "key": model.key,
            "at_once": at_once,
            "most_units": scheduler.worth(model.pace.busy_block_s, model),
            "record_bytes": model.tokens.record_bytes if model.tokens else None,
        }

    def _learn(self, model: ServedModel, part: Header) -> None:
        """Note what the rows of a request cost, for the sizes of the blocks to come and for /metrics."""
        if self._pool.knows(model.key):  # /metrics would show a model again that was deleted
            self._pool.scheduler.costs.learn(model.key, sum(part["stages"].values()), max(1, part["units"]))
            metrics.observe_frame(model.title, part["rows"], {"stages": part["stages"], "results": part["rows"]})


class RowPieces:
    """The rows of one long request, in pieces: a source of blocks, and the waiter who is told of their answers.

    done  resolved with the answers in the order of the pieces; it fails with the reason when one cannot come
    """

    def __init__(self, task: Task, model: ServedModel, read: Answer, grown: Grown) -> None:
        self.model = model
        self.has_left = False
        self.done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.waiting_since = time.monotonic()
        self._task = task
        self._grown = grown
        self._pieces = list(map(bytes, cut(read.payload, read.header["pieces"])))
        self._rows: list[int] = read.header["rows"]
        self._next = 0
        self._rows_left = sum(self._rows)
        self._bytes_left = len(read.payload)
        self._answers: dict[int, Answer] = {}
        self._num_bytes = 0

    @property
    def num_waiting(self) -> int:
        return 0 if self.has_left else self.model.units(self._rows_left, self._bytes_left)

    def take(self, size: int) -> Block:
        """The next piece: it was cut to the size of a block when the request was read."""
        place, since = self._next, self.waiting_since
        self._next, self.waiting_since = place + 1, time.monotonic()
        piece, self._pieces[place] = self._pieces[place], b""  # the block keeps it
        self._rows_left -= self._rows[place]
        self._bytes_left -= len(piece)
        lines = Lines((piece,), self._rows[place], len(piece), first_line=place + 1)
        return Block(self._task, Lane.BULK, self, lines=lines, model=self.model, waiting_since=since)

    def answered(self, block: Block, answer: Answer) -> None:
        try:
            self._answers[block.lines.first_line - 1] = _accepted(answer)
            self._num_bytes += len(answer.payload)
            if self._num_bytes > MAX_ANSWER_BYTES:
                text = f"the answer would be larger than {MAX_ANSWER_BYTES} bytes: send fewer rows in one request"
                raise EngineError(INVALID_PARAMETER, text)
            self._grown(self._num_bytes)
        except EngineError as error:
            return self.abandon(error)
        if len(self._answers) == len(self._pieces) and not self.done.done():
            self.done.set_result([self._answers[place] for place in range(len(self._pieces))])
        return None

    def failed(self, block: Block, error: EngineError) -> None:
        self.abandon(_told(error))

    def abandon(self, error: EngineError) -> None:
        self.has_left = True
        if not self.done.done():
            self.done.set_exception(error)


async def _answered(call: Call) -> Answer:
    try:
        return await call.future
    except TaskFailed as failed:
        raise _told(failed) from None


def _told(error: EngineError) -> EngineError:
    """What a request is told that has cost replicas or time: it is the model that failed on it."""
    if isinstance(error, TaskFailed) and error.is_timeout:
        return EngineError(TIMED_OUT, "the model did not answer in time", retry_after_s=1)
    if isinstance(error, TaskFailed) and error.is_lost:
        return EngineError(MODEL_FAILED, "the model's process died on this request")
    return error


def _accepted(answer: Answer) -> Answer:
    """The answer, unless it refuses the request: then its EngineError is raised."""
    part = answer.header
    if "refused" in part:
        raise EngineError(TENSOR_CODES.get(part["refused"], INTERNAL), part["message"])
    return answer


def _joined(request_id: str | None, answers: list[Answer]) -> Inferred:
    """The answers for consecutive rows as one. EngineError `invalid_parameter` for an output that no tensor can hold, unless the
    request leaves the choice of outputs to the server and another one can be answered.
    """
    asked: list[Header] = answers[0].header["outputs"]
    reasons = {one["name"]: reason for place, one in enumerate(asked) if (reason := _why_formless(place, answers))}
    if reasons and (answers[0].header["is_named"] or len(reasons) == len(asked)):
        name, reason = next(iter(reasons.items()))
        advice = "Ask for other `outputs`, or ask" if len(reasons) < len(asked) else "Ask"
        text = f"output '{name}' has no form as one tensor: {reason}. {advice} in JSON at /{{owner}}/models/"
        raise EngineError(INVALID_PARAMETER, text)
    pieces = [cut(answer.payload, [one["size"] for one in answer.header["outputs"]]) for answer in answers]
    num_rows = sum(answer.header["rows"] for answer in answers)
    outputs = [
        TensorOutput(one["name"], one["datatype"], [num_rows, *one["shape"]], one["is_binary"], [piece[place] for piece in pieces])
        for place, one in enumerate(asked)
        if one["name"] not in reasons
    ]
    return Inferred(request_id, outputs, list(reasons))


def _why_formless(place: int, answers: list[Answer]) -> str | None:
    """Why no tensor can hold the output at this place of each answer; None if one can."""
    told = [answer.header["outputs"][place] for answer in answers]
    for one in told:
        if "reason" in one:
            return str(one["reason"])
    forms = {(one["datatype"], *one["shape"]) for one in told}
    return SEVERAL_SHAPES if len(forms) > 1 else None
