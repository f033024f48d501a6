"""Embeddings: from the raw body of a request to the encoded vectors of its texts.

One replica reads the body and answers a short list at once. A longer list comes back from it as lines, which are offered to all
replicas in blocks of similar length, as the lines of a stream are, and whose vectors are put together by index. Knows no HTTP, no
JSON and no tokenizer.
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine import metrics
from engine.accounts import Caller
from engine.engine import Engine
from engine.errors import (
    INTERNAL,
    INVALID_BODY,
    INVALID_PARAMETER,
    INVALID_REQUEST,
    MODEL_NOT_FOUND,
    TOO_MANY_REQUESTS,
    Code,
    EngineError,
    Kind,
    by_word,
)
from engine.frames import Buffer, Header, cut
from engine.replicas.blocks import Answer, Arguments, Block, Call, Lane, LoneBlock, ServedModel, Task
from engine.replicas.lines import GroupedLineQueue, LineQueue, Lines, LineSpan
from engine.repository.listed import ListedModel
from engine.repository.serving import LoadState, Serving

TOO_MANY_INPUTS = Code("too_many_inputs", Kind.MALFORMED, "an embeddings request has more than SLUICE_EMBED_MAX_INPUTS texts")
CONTEXT_LENGTH_EXCEEDED = Code(
    "context_length_exceeded",
    Kind.MALFORMED,
    "the texts have more than SLUICE_EMBED_MAX_TOKENS tokens, or a text that must not be cut is too long for the model",
)
INVALID_TOKEN = Code("invalid_token", Kind.MALFORMED, "a token id is not in the vocabulary of the model")
# What a replica may say against a body, by its word.
BODY_CODES = by_word(
    INVALID_BODY,
    INVALID_REQUEST,
    INVALID_PARAMETER,
    MODEL_NOT_FOUND,
    TOO_MANY_INPUTS,
    CONTEXT_LENGTH_EXCEEDED,
    INVALID_TOKEN,
)

# A list that takes longer than this is divided among the replicas.
AT_ONCE_S = 0.020
# Instead of the bytes that a replica embeds at once: it gives every text back as a line.
NEVER = -1
# A text hardly ever kills a replica, but all replicas may be killed from outside at once under one text.
EMBED_DEATHS = 4
# Bodies that wait share a frame up to these bytes: a dozen short texts, which go through the model together.
SHARED_BODIES_BYTES = 1024


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """What the surface allows. Settings of server/config.py, by the same names."""

    embed_max_inputs: int
    embed_max_tokens: int
    embed_text_limit_bytes: int
    refuse_token_ids: bool
    embed_timeout_s: float
    embed_max_requests: int
    embed_max_requests_per_user: int
    interactive_bytes: int
    block_timeout_s: float


@dataclass(slots=True)
class Embedded:
    """The answer to one request.

    name        the model as the sender named it
    pieces      the JSON text of each input's vector, in the order of the inputs
    num_tokens  tokens of each input, as the model saw it
    num_cut     inputs that were longer than the model takes
    queue_s     seconds until a replica began; tokenise_s and infer_s count the seconds of all replicas together
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


class RefusedBody(EngineError):
    """A replica read the body of a request and refused it.

    param   the field that is wrong, or None for the body
    detail  the JSON of the whole answer, where the shape of the request has more to say than a message; else empty
    """

    def __init__(self, code: Code, message: str, *, param: str | None = None, detail: bytes = b"") -> None:
        super().__init__(code, message)
        self.param = param
        self.detail = detail


class Embeddings:
    """The requests of the embeddings surface, over the pool that scores."""

    def __init__(self, engine: Engine, serving: Serving, limits: EmbeddingLimits) -> None:
        self.limits = limits
        self._serving = serving
        self._requests: Counter[str | None] = Counter()
        self._task = Task(
            "embed",
            family="embedding",
            pool="score",
            time_limit_s=limits.block_timeout_s,
            max_deaths=EMBED_DEATHS,
            shared_bytes=SHARED_BODIES_BYTES,
            careful={"careful": True},
        )
        self._pool = engine.pool(self._task.pool)

    def check_capacity(self, user: str | None) -> None:
        """Refuse a request when a limit is reached, before its body is read. EngineError `too_many_requests`.

        user  who asks; None for an anonymous caller, who shares the places of one user with all others
        """
        limits = self.limits
        is_users_full = self._requests[user] >= limits.embed_max_requests_per_user
        if is_users_full or self._requests.total() >= limits.embed_max_requests:
            raise EngineError(TOO_MANY_REQUESTS, "Too many requests", retry_after_s=1)

    @contextlib.contextmanager
    def place(self, user: str | None) -> Iterator[None]:
        """The place of a request once its body is here, until its answer is sent. EngineError `too_many_requests`."""
        self.check_capacity(user)
        self._requests[user] += 1
        try:
            yield
        finally:
            self._requests[user] -= 1
            if not self._requests[user]:
                del self._requests[user]

    async def embed(self, shape: str, body: bytes, choices: Mapping[str, ListedModel]) -> Embedded:
        """The vectors of one request's texts.

        shape    `simple`, `openai` or `tei`: how the body is to be read
        choices  the models that the body may name, by every name that it may use
        raises   RefusedBody for what is wrong with the body; EngineError: no_instances, model_building, internal
        """
        started = time.monotonic()
        answer = await self._read(shape, body, choices)
        del body  # the lines of a long list are a copy, and the body may be large
        embedded = await self._finished(answer, choices, started)
        embedded.total_s = time.monotonic() - started
        return embedded

    # For other surfaces

    def find_model(self, caller: Caller, name: str | None) -> ListedModel:
        """The embedding model of this name; without a name the first one that the caller sees. EngineError `model_not_found`."""
        found = self._serving.listed.find(caller, name)
        if found is None:
            raise EngineError(
                MODEL_NOT_FOUND, "There is no embedding model." if name is None else f'There is no model "{name[:80]}".'
            )
        return found

    def why_not_ready(self, model: ListedModel | None) -> str | None:
        """Why requests for a model would be refused or would wait; None if a replica has it open, or opens it when it is asked.

        model  None where there is no model that could answer
        """
        if model is None:
            return "There is no embedding model."
        state = self._serving.status(model.version)
        if state is LoadState.OFFLINE:
            return f"The model `{model.name}` does not load."
        is_opened_ahead = model.version == self._serving.listed.first
        return f"The model `{model.name}` is being opened." if state is LoadState.BUILDING and is_opened_ahead else None

    async def embed_lines(self, model: ListedModel, lines: memoryview, num_lines: int) -> list[Buffer]:
        """The vectors of any number of texts, in order, each as its little-endian float32 bytes; long texts are cut.

        lines   a JSON string on each line
        raises  EngineError: no_instances, model_building, internal
        """
        served = self._serving.served(model.version)
        embedded = Embedded(model.name)
        arguments: Arguments = {"encoding_format": "f32", "dimensions": None, "truncate": True}
        with self._serving.using(served):
            read = Answer({"lines": num_lines, "arguments": arguments}, lines)
            loaded = await self._serving.ensure_loaded(served)
            await self._divided(TextList(self._task, loaded, read, embedded, max_tokens=sys.maxsize))
        return embedded.pieces

    async def _read(self, shape: str, body: bytes, choices: Mapping[str, ListedModel]) -> Answer:
        """The answer of the replica that read the body. RefusedBody, EngineError."""
        call = Call()
        lane = Lane.INTERACTIVE if len(body) <= self.limits.interactive_bytes else Lane.BULK
        arguments = self._arguments(shape, choices)
        block = Block(self._task, lane, call, arguments, Lines.of_body(body), group=_group(arguments))
        if lane is Lane.INTERACTIVE:
            self._pool.submit(block)
            answer = await call.future
        else:
            async with self._pool.offered(LoneBlock(block, call)):
                answer = await call.future
        _raise_refusal(answer)
        return answer

    async def _finished(self, answer: Answer, choices: Mapping[str, ListedModel], started: float) -> Embedded:
        """The vectors that the reader of the body has made already, or those that all replicas make of the lines it gave back."""
        part = answer.header
        embedded = Embedded(part["name"])
        version = choices[part["name"]].version
        if "lines" not in part:
            embedded.pieces, embedded.num_tokens = [*cut(answer.payload, part["sizes"])], part["num_tokens"]
            embedded.note(part)
            embedded.queue_s = max(0.0, time.monotonic() - started - sum(part["seconds"].values()))
            if served := self._serving.find(version):
                self._learn(served.model, part)
            return embedded
        with self._serving.using(served := self._serving.served(version)):
            model = await self._serving.ensure_loaded(served)
            texts = TextList(self._task, model, answer, embedded, max_tokens=self.limits.embed_max_tokens)
            await self._divided(texts)
        embedded.queue_s = max(0.0, texts.began_at - started)
        return embedded

    async def _divided(self, texts: "TextList") -> None:
        """Let all replicas embed a list. What is still waiting when this ends early is dropped."""
        async with self._pool.offered(texts):
            try:
                await texts.done
            finally:
                texts.has_left = True

    def _learn(self, model: ServedModel, part: Header) -> None:
        """Note what the texts of a body cost, for the sizes of the blocks to come and for /metrics."""
        if part["sizes"]:
            self._pool.scheduler.costs.learn(model.key, sum(part["stages"].values()), part["units"])
            metrics.observe_texts(model.title, part)

    def _arguments(self, shape: str, choices: Mapping[str, ListedModel]) -> Arguments:
        limits = self.limits
        return {
            "shape": shape,
            "models": {name: self._choice(listed) for name, listed in choices.items()},
            "limits": {
                "inputs": limits.embed_max_inputs,
                "text_bytes": limits.embed_text_limit_bytes,
                "tokens": limits.embed_max_tokens,
                "refuse_token_ids": limits.refuse_token_ids,
            },
        }

    def _choice(self, listed: ListedModel) -> tuple[str, int, int, int]:
        """What the reader of a body needs of a model: key, values of a vector, bytes embedded at once, counted bytes of a text."""
        model = self._serving.served(listed.version).model
        record_bytes = model.tokens.record_bytes if model.tokens else 1
        # What a model that has cost replicas is asked travels in blocks of its own, which the pool can count and confine.
        at_once = NEVER if model.key in self._pool.faults else self._pool.scheduler.worth(AT_ONCE_S, model)
        return model.key, listed.dim, at_once, record_bytes


class TextList:
    """The texts of one long request: a source of blocks, and the waiter who is told of their vectors.

    done      resolved when every vector has come; it fails with the reason when one cannot come
    began_at  when the first block was taken, monotonic
    """

    def __init__(self, task: Task, model: ServedModel, read: Answer, embedded: Embedded, *, max_tokens: int) -> None:
        num_lines: int = read.header["lines"]
        self.model = model
        self.has_left = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting_since = self.began_at = time.monotonic()
        self._is_begun = False
        self._task = task
        self._arguments: Arguments = read.header["arguments"]
        self._embedded = embedded
        self._num_missing = num_lines
        self._tokens_left = max_tokens
        self._queue = GroupedLineQueue(model.tokens, model.max_batch_size) if model.tokens else LineQueue()
        embedded.pieces, embedded.num_tokens = [b""] * num_lines, [0] * num_lines
        if num_lines:
            data = bytes(read.payload)
            self._queue.append(LineSpan(data, 0, len(data), num_lines, 0))
        else:
            self.done.set_result(None)

    @property
    def num_waiting(self) -> int:
        return 0 if self.has_left else self.model.units(self._queue.num_lines, self._queue.num_bytes)

    def take(self, size: int) -> Block:
        lines = self._queue.take(size)
        since, self.waiting_since = self.waiting_since, time.monotonic()
        if not self._is_begun:
            self._is_begun, self.began_at = True, self.waiting_since
        return Block(self._task, Lane.BULK, self, self._arguments, lines, self.model, waiting_since=since)

    def answered(self, block: Block, answer: Answer) -> None:
        try:
            _raise_refusal(answer)
        except RefusedBody as refused:
            return self.failed(block, refused)
        part, lines = answer.header, block.lines
        places = lines.numbers if lines.numbers is not None else range(lines.first_line, lines.first_line + lines.num_lines)
        for place, piece, num_tokens in zip(places, cut(answer.payload, part["sizes"]), part["num_tokens"], strict=True):
            self._embedded.pieces[place] = piece
            self._embedded.num_tokens[place] = num_tokens
        self._embedded.note(part)
        self._num_missing -= lines.num_lines
        self._tokens_left -= sum(part["num_tokens"])
        if self._tokens_left < 0:
            text = "The inputs have more tokens than one request takes."
            return self.failed(block, RefusedBody(CONTEXT_LENGTH_EXCEEDED, text, param="input"))
        if not self._num_missing and not self.done.done():
            self.done.set_result(None)
        return None

    def failed(self, block: Block, error: EngineError) -> None:
        self.abandon(error)

    def abandon(self, error: EngineError) -> None:
        self.has_left = True
        if not self.done.done():
            self.done.set_exception(error)


def _group(arguments: Arguments) -> object:
    """Bodies of the same shape that may name the same models may share a frame."""
    return arguments["shape"], tuple((name, choice[0]) for name, choice in arguments["models"].items())


def _raise_refusal(answer: Answer) -> None:
    """RefusedBody, if the replica refused the request."""
    part = answer.header
    if "refused" in part:
        raise RefusedBody(
            BODY_CODES.get(part["refused"], INTERNAL), part["message"], param=part["param"], detail=bytes(answer.payload)
        )
