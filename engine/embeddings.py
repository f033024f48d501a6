"""Embeddings: from a request's raw body to the encoded vectors of its texts.

One replica reads the body and answers a short list at once. What it gives back as lines is offered to all replicas, in blocks of
similar length, like the lines of a stream, and put together by index. Knows no HTTP, no JSON and no tokenizer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

from engine import metrics
from engine.blocks import Answer, Block, Call, Lane, ServedModel
from engine.errors import EngineError, StreamFailure, Unacceptable
from engine.frames import Buffer, Header
from engine.listing import ListedModel
from engine.pool import Pool
from engine.queues import GroupedLineQueue, LineQueue, Segment
from engine.serving import Serving

# A list that takes longer than this is divided among the replicas.
AT_ONCE_S = 0.020


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """What the surface allows. Settings of server/config.py, by the same names."""

    embed_max_inputs: int
    embed_max_tokens: int
    embed_text_limit_bytes: int
    embed_timeout_s: float
    embed_max_requests: int
    interactive_bytes: int


@dataclass(slots=True)
class Embedded:
    """The answer to one request.

    name        the model as the sender named it
    pieces      the JSON text of each input's vector, in the order of the inputs
    num_tokens  of each input, as the model saw it
    num_cut     inputs that were longer than the model takes
    queue_s     seconds until a replica began; tokenise_s and infer_s are of all replicas together
    """

    name: str
    pieces: list[Buffer] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    num_cut: int = 0
    queue_s: float = 0.0
    tokenise_s: float = 0.0
    infer_s: float = 0.0
    total_s: float = 0.0

    def note(self, part: Header) -> None:
        """Add what a replica reported about some of the inputs."""
        self.num_cut += part["num_cut"]
        self.tokenise_s += part["seconds"].get("tokenise", 0.0)
        self.infer_s += part["seconds"].get("infer", 0.0)


class Embeddings:
    """The requests of the embeddings surface, over one pool."""

    def __init__(self, pool: Pool, models: Serving, limits: EmbeddingLimits) -> None:
        self.limits = limits
        self._pool = pool
        self._models = models
        self._num_requests = 0

    def check_capacity(self) -> None:
        """Refuse a request that would be one too many, before its body is read. EngineError `too_many_requests`."""
        if self._num_requests >= self.limits.embed_max_requests:
            raise EngineError("too_many_requests", "Too many requests", retry_after_s=1)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A request from its admission until its answer is sent. EngineError `too_many_requests`."""
        self.check_capacity()
        self._num_requests += 1
        try:
            yield
        finally:
            self._num_requests -= 1

    async def embed(self, shape: str, body: bytes, models: Mapping[str, ListedModel]) -> Embedded:
        """The vectors of one request's texts.

        shape   `simple` or `openai`: how the body is to be read
        models  those that it may name, by every name it may use
        raises  Unacceptable: what is wrong with the body; EngineError: no_instances, model_building, internal
        """
        started = time.monotonic()
        try:
            answer = await self._read(shape, body, models)
            del body  # the lines of a long list are a copy
            embedded = await self._finished(answer, models, started)
        except StreamFailure:  # what waited in the bulk lane is told of the last replica's end as streams are
            raise _no_replica() from None
        embedded.total_s = time.monotonic() - started
        return embedded

    async def _finished(self, answer: Answer, models: Mapping[str, ListedModel], started: float) -> Embedded:
        """What the replica that read the body has embedded, or what all make of the lines it gave back."""
        part = answer.header
        embedded = Embedded(part["name"])
        listed = models[part["name"]]
        served = self._models.served(listed.version)
        if "lines" not in part:
            embedded.pieces, embedded.num_tokens = cut(answer.payload, part["sizes"]), part["num_tokens"]
            embedded.note(part)
            embedded.queue_s = max(0.0, time.monotonic() - started - sum(part["seconds"].values()))
            self._learn(served.model, part)
            return embedded
        with self._models.using(served):
            model = await self._models.ensure_loaded(listed.version)
            texts = TextList(model, part, bytes(answer.payload), embedded, max_tokens=self.limits.embed_max_tokens)
            async with self._offered(texts):
                await texts.done
        embedded.queue_s = max(0.0, texts.began_at - started)
        return embedded

    def _learn(self, model: ServedModel, part: Header) -> None:
        """What the texts of a body cost, for the sizes of the blocks to come, and for /metrics."""
        if part["sizes"]:
            self._pool.scheduler.costs.learn(model.key, sum(part["stages"].values()), part["units"])
            metrics.observe_texts(model.title, part)

    async def _read(self, shape: str, body: bytes, models: Mapping[str, ListedModel]) -> Answer:
        """The answer of the replica that read the body. Unacceptable, EngineError."""
        call = Call(asyncio.get_running_loop().create_future())
        lane = Lane.INTERACTIVE if len(body) <= self.limits.interactive_bytes else Lane.BULK
        header = self._header(shape, models)
        block = Block("embed", lane, call, header=header, buffers=[body], num_bytes=len(body), group=_group(header))
        if lane is Lane.INTERACTIVE:
            self._pool.submit(block)
            answer = await call.future
        else:
            async with self._offered(LoneBlock(block, call)):
                answer = await call.future
        _refuse(answer)
        return answer

    def _header(self, shape: str, models: Mapping[str, ListedModel]) -> Header:
        limits = self.limits
        return {
            "shape": shape,
            "models": {name: self._choice(listed) for name, listed in models.items()},
            "limits": {
                "inputs": limits.embed_max_inputs,
                "text_bytes": limits.embed_text_limit_bytes,
                "tokens": limits.embed_max_tokens,
            },
        }

    def _choice(self, listed: ListedModel) -> tuple[str, int, int, int]:
        model = self._models.served(listed.version).model
        record_bytes = model.tokens.record_bytes if model.tokens else 1
        return model.key, listed.dim, self._pool.scheduler.worth(AT_ONCE_S, model), record_bytes

    @contextlib.asynccontextmanager
    async def _offered(self, source: "TextList | LoneBlock") -> AsyncIterator[None]:
        """While inside, free replicas take blocks of this source; what is still waiting at the end is dropped."""
        self._pool.scheduler.attach(source)
        self._pool.wake()
        try:
            yield
        finally:
            source.departed = True
            self._pool.scheduler.detach(source)


class LoneBlock:
    """One block that takes its turn in the bulk lane."""

    model = None

    def __init__(self, block: Block, call: Call) -> None:
        self.waiting_since = block.waiting_since = time.monotonic()
        self.departed = False
        self._block = block
        self._call = call
        self._is_taken = False

    @property
    def num_waiting(self) -> int:
        return 0 if self._is_taken or self.departed else 1

    def take(self, size: int) -> Block:
        self._is_taken = True
        return self._block

    def fail(self, failure: StreamFailure) -> None:
        self._call.give_up(_no_replica())


class TextList:
    """The texts of one long request: a source of blocks, and the one who is told of their vectors.

    done      resolved when every vector is here; or fails with what stands against it
    began_at  when the first block was taken, monotonic
    """

    def __init__(self, model: ServedModel, part: Header, lines: bytes, embedded: Embedded, *, max_tokens: int) -> None:
        num_lines: int = part["lines"]
        self.model = model
        self.departed = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting_since = self.began_at = time.monotonic()
        self._is_begun = False
        self._header: Header = part["arguments"]
        self._embedded = embedded
        self._num_missing = num_lines
        self._tokens_left = max_tokens
        self._queue = GroupedLineQueue(model.tokens, model.max_batch_size) if model.tokens else LineQueue()
        embedded.pieces, embedded.num_tokens = [b""] * num_lines, [0] * num_lines
        if num_lines:
            self._queue.append(Segment(lines, 0, len(lines), num_lines, 0))
        else:
            self.done.set_result(None)

    @property
    def num_waiting(self) -> int:
        return 0 if self.departed else self.model.units(self._queue.num_lines, self._queue.num_bytes)

    def take(self, size: int) -> Block:
        cut = self._queue.take(size)
        since, self.waiting_since = self.waiting_since, time.monotonic()
        if not self._is_begun:
            self._is_begun, self.began_at = True, self.waiting_since
        block = Block.of_lines("embed", self, self.model, self._header, cut)
        block.waiting_since = since
        return block

    def answered(self, block: Block, answer: Answer) -> None:
        try:
            _refuse(answer)
        except Unacceptable as fault:
            return self.failed(block, fault)
        part = answer.header
        places = block.lines if block.lines is not None else range(block.first_line, block.first_line + block.num_records)
        for place, piece, num_tokens in zip(places, cut(answer.payload, part["sizes"]), part["num_tokens"], strict=True):
            self._embedded.pieces[place] = piece
            self._embedded.num_tokens[place] = num_tokens
        self._embedded.note(part)
        self._num_missing -= block.num_records
        self._tokens_left -= sum(part["num_tokens"])
        if self._tokens_left < 0:
            text = "The inputs have more tokens than one request takes."
            return self.failed(block, Unacceptable("context_length_exceeded", text, param="input"))
        if not self._num_missing and not self.done.done():
            self.done.set_result(None)
        return None

    def failed(self, block: Block, error: Exception) -> None:
        self.departed = True
        if not self.done.done():
            self.done.set_exception(error)

    def fail(self, failure: StreamFailure) -> None:
        self.departed = True
        if not self.done.done():
            self.done.set_exception(_no_replica())


def _group(header: Header) -> object:
    """Bodies of the same shape that may name the same models may share a frame."""
    return header["shape"], tuple((name, choice[0]) for name, choice in header["models"].items())


def cut(payload: memoryview, sizes: list[int]) -> list[Buffer]:
    """The payload in pieces of these sizes."""
    pieces: list[Buffer] = []
    start = 0
    for size in sizes:
        pieces.append(payload[start : start + size])
        start += size
    return pieces


def _refuse(answer: Answer) -> None:
    """Raise what the replica had against the request."""
    part = answer.header
    if "refused" in part:
        raise Unacceptable(part["refused"], part["message"], param=part["param"], detail=bytes(answer.payload))


def _no_replica() -> EngineError:
    return EngineError("no_instances", "no instances of model found", retry_after_s=1)
