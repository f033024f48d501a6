"""Queries: a text and its parameters become rows, in two blocks of the pool `query`, each one frame in and one answer out.

The block `plan` reads the body and says what is needed. Between the blocks this process looks up rights and versions, and has texts
embedded. The block `query` gets the same body with a header that grants folders and vectors, and gives encoded bytes back. Nothing
waits inside a replica, and nothing is parsed here. Where a like body has been planned before, its plan is tried, and there is one
block. Knows no HTTP, no SQL and no file format.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from engine import metrics
from engine.accounts import Caller
from engine.datasets.sources import Sources
from engine.datasets.versions import Readable
from engine.engine import Engine
from engine.errors import DetailedError, EngineError, Kind, shutting_down
from engine.frames import Buffer, Header
from engine.query.codes import TIMEOUT, failed, late, refused
from engine.query.kept_plans import KeptPlans, key_of
from engine.query.places import PlaceLimits, Places
from engine.query.seconds import STAGES, Seconds
from engine.query.texts import Text, Texts
from engine.replicas.blocks import Arguments, Block, Call, Lane, Task, Waiter
from engine.replicas.flow import Flow
from engine.replicas.lines import Lines
from engine.spill import Spill

log = logging.getLogger("sluice.query")

DEFAULT_TIMEOUT_S = 10.0
# A replica that ignores the deadline is killed when it is stopped. This limit is for one that nobody would stop any more.
SPARE_S = 10.0
PLAN_DEATHS, QUERY_DEATHS = 2, 1
# A dataset that is still being made when the time of the query is over has this long to say so, which tells more than `timeout`.
TELLING_S = 0.2
SECONDS_OF_STAGE = {stage: metrics.QUERY_SECONDS.labels(stage) for stage in STAGES}


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What queries may take. Settings of server/config.py, by the same names."""

    query_replicas: int
    query_queue: int
    query_per_user: int
    query_timeout_s: float
    query_text_limit_bytes: int
    query_rows: int
    query_result_limit_bytes: int
    query_stream_rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What the block `plan` says of a body.

    format   that the body asks for; None where the head of the request decides
    explain  the plan is wanted instead of rows
    """

    format: str | None
    explain: bool

    @classmethod
    def of(cls, needs: Header) -> "Plan":
        """The plan in the header of an answer of the block."""
        return cls(needs["format"], bool(needs["explain"]))


# Gives the format of an answer for a plan, or raises the EngineError of a request that accepts none.
FormOf = Callable[[Plan], str]


class Queries:
    """The requests of the query surface.

    places   how many may be open
    numbers  of the answers, which have files in the spill; it is empty when the server starts
    """

    def __init__(self, engine: Engine, sources: Sources, texts: Texts, spill: Spill, limits: QueryLimits) -> None:
        self.limits = limits
        self.sources = sources
        self.texts = texts
        self.spill = spill
        self.numbers = itertools.count(1)
        self.kept_plans = KeptPlans()
        self.places = Places(PlaceLimits(limits.query_replicas, limits.query_queue, limits.query_per_user))
        self._engine = engine
        self.pool = engine.pool("query")
        time_limit_s = limits.query_timeout_s + SPARE_S
        self.plan_task = Task("plan", family="query", pool="query", time_limit_s=time_limit_s, max_deaths=PLAN_DEATHS)
        self.query_task = Task("query", family="query", pool="query", time_limit_s=time_limit_s, max_deaths=QUERY_DEATHS)

    def check_open(self, caller: Caller) -> None:
        """Refuse a query before its body is read. EngineError `shutting_down`, `too_many_queries`."""
        if self._engine.is_draining:
            raise shutting_down()
        self.places.check(caller)

    def opened(self, body: bytes, caller: Caller, *, workspace: str | None = None) -> "OpenQuery":
        """One query, to be used as a context.

        workspace  the org of names without one, for requests in the shape of the workspace
        """
        return OpenQuery(self, body, caller, workspace)


class OpenQuery:
    """One query: first `begin`, then `flow` has the bytes of its answer.

    It is a context. Its place among all queries is taken when the context begins (EngineError `too_many_queries`); place and files
    are given back when the context ends, and its work ends then.

    seconds   by stage, as known so far
    versions  `org/name@version` of each dataset that it reads, in order
    flow      the answer, once it has begun
    """

    def __init__(self, queries: Queries, body: bytes, caller: Caller, workspace: str | None) -> None:
        self.seconds = Seconds()
        self.versions: list[str] = []
        self.flow: Flow | None = None
        self.outcome = "answered"
        self._queries = queries
        self._body = body
        self._caller = caller
        self._workspace = workspace
        self._started = time.monotonic()
        self._timeout_s = min(DEFAULT_TIMEOUT_S, queries.limits.query_timeout_s)
        self._timer: asyncio.TimerHandle | None = None
        self._block: Block | None = None  # in work, or waiting
        self._needs: Header = {}
        self._key = key_of(body, workspace)
        self._place = queries.places.taken(caller)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._place.__enter__()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if error is not None:  # a client that leaves cancels the handler, and that is an end of a query, too
                self.note_failure(error)
            await self._close()
        finally:
            self._place.__exit__(None, None, None)

    @property
    def total_s(self) -> float:
        return time.monotonic() - self._started

    # The blocks

    async def begin(self, form_of: FormOf) -> Flow:
        """Let a replica answer; returns the answer, of which the first frame is here.

        raises  EngineError: what is wrong with the query, those of `Sources.reading`, `model_not_found`, `timeout`,
                `out_of_memory`, and what `form_of` raises
        """
        kept = self._queries.kept_plans.find(self._key)
        flow = None if kept is None else await self._begin_as(kept, form_of)
        if flow is None:
            await self._give_back()
            await self._plan()
            form = form_of(Plan.of(self._needs))
            async with self._in_time(spare_s=TELLING_S):
                readables = await self._read(is_patient=True)
            async with self._in_time():
                flow, head = await self._run(form, readables)
            _unless_refused(head)
        if flow.last is None and not flow.latest["is_made"]:
            left_s = self._timeout_s - self.total_s
            self._timer = asyncio.get_running_loop().call_later(left_s, self._expire)
        return flow

    async def _begin_as(self, kept: Header, form_of: FormOf) -> Flow | None:
        """The same with the plan of a like body; None where this body has to be planned itself."""
        self._take(kept)
        async with self._in_time():
            try:
                form, readables = form_of(Plan.of(kept)), await self._read(is_patient=False)
            except EngineError:  # the caller is told of it with its place in this text, and after what is wrong with the text
                return None
            flow, head = await self._run(form, readables, expected=[[one["name"], one["source"]] for one in kept["sources"]])
        if "is_other" in _unless_refused(head):
            return None
        return flow

    async def _plan(self) -> None:
        """Let a replica read the body. EngineError: what is wrong with it, `timeout`, `out_of_memory`."""
        limits = self._queries.limits
        arguments: Arguments = {
            "workspace": self._workspace,
            "max_timeout_ms": round(limits.query_timeout_s * 1000),
            "text_bytes": limits.query_text_limit_bytes,
        }
        call = Call()
        async with self._in_time():
            with self.seconds.waiting() as answered:
                self._submit(self._queries.plan_task, call, arguments, [self._body])
                answer = await call.future
                answered(answer.header["seconds"])
        self._block = None
        self._take(_unless_refused(answer.header))
        self._queries.kept_plans.keep(self._key, self._needs)

    def _take(self, needs: Header) -> None:
        self._needs = needs
        if needs["timeout_ms"] is not None:
            self._timeout_s = needs["timeout_ms"] / 1000

    async def _run(self, form: str, readables: dict[str, Readable], expected: list[list[str]] | None = None) -> tuple[Flow, Header]:
        """The answer in a format, and the header of its first frame.

        expected  the names of the sources that were granted, and what each stands for, where the body was not planned itself
        """
        vectors = await self._queries.texts.embedded(self._texts(readables), self._caller)
        arguments = {
            **self._limits(),
            "workspace": self._workspace,
            "format": form,
            "grants": {name: readable.grant() for name, readable in readables.items()},
            "embedded": vectors.described,
            "body_bytes": len(self._body),
        }
        if expected is not None:
            arguments["expected"] = expected
        self.flow = flow = Flow(self._queries.spill.outbox(f"query-{next(self._queries.numbers)}"))
        with self.seconds.waiting() as answered:
            self._submit(self._queries.query_task, flow, arguments, [self._body, *vectors.buffers])
            head = await flow.begun
            answered(head.get("seconds", {}))
        return flow, head

    def _submit(self, task: Task, waiter: Waiter, arguments: Arguments, buffers: list[Buffer]) -> None:
        lines = Lines.of_buffers(buffers)
        self._block = Block(task, Lane.INTERACTIVE, waiter, arguments, lines, user=self._caller.name)
        self._queries.pool.submit(self._block)

    def _limits(self) -> Arguments:
        """What the replica is to keep to. Two threads share the blocks of a scan when no other query is open."""
        limits = self._queries.limits
        return {
            "threads": 2 if self._queries.places.num_open == 1 else 1,
            "max_timeout_ms": round(limits.query_timeout_s * 1000),
            "text_bytes": limits.query_text_limit_bytes,
            "rows": limits.query_rows,
            "result_bytes": limits.query_result_limit_bytes,
            "stream_rows": limits.query_stream_rows,
            "waited_s": self.total_s,
        }

    # Between the blocks

    async def _read(self, *, is_patient: bool) -> dict[str, Readable]:
        """What the query reads, by the names of its sources; the files stay until it is over.

        is_patient  what is still being made is waited for, as long as the query has time
        raises      EngineError: those of `Sources.reading`
        """
        readables: dict[str, Readable] = {}
        for source in self._needs["sources"]:
            wait_s = self._timeout_s - self.total_s if is_patient else 0.0
            opening = self._queries.sources.reading(source["source"], self._caller, wait_s)
            try:
                readables[source["name"]] = await self._stack.enter_async_context(opening)
            except EngineError as error:
                details = {"position": source["position"]} if source["position"] else {}
                details |= error.details if isinstance(error, DetailedError) else {}
                raise DetailedError(error.code, error.message, details, retry_after_s=error.retry_after_s) from None
        self.versions = list(dict.fromkeys(readable.title for readable in readables.values()))
        return readables

    def _texts(self, readables: dict[str, Readable]) -> list[Text]:
        """The texts to embed, each with its model: as written, else the one recorded for the column that it is compared with."""
        return [
            Text(one["text"], one["model"], one["model"] or _recorded_model(one["column"], readables), one["position"])
            for one in self._needs["texts"]
        ]

    # Ends

    @contextlib.asynccontextmanager
    async def _in_time(self, *, spare_s: float = 0.0) -> AsyncIterator[None]:
        """Give the work inside the time that is left of the query, and a little more. EngineError `timeout`, `out_of_memory`."""
        left_s = self._timeout_s - self.total_s + spare_s
        try:
            async with asyncio.timeout(left_s) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise late(self._timeout_s) from None
        except EngineError as error:
            raise failed(error, self._timeout_s) from None

    def _expire(self) -> None:
        """The time is over, and the answer has begun."""
        if self.flow is not None and self.flow.last is None:
            self.flow.fail(late(self._timeout_s))
            self._stop()

    @property
    def failure(self) -> EngineError | None:
        """Why the answer ended before its end, once `flow` has given its last bytes; None if it is whole."""
        if self.flow is None:
            return None
        if self.flow.failure is not None:
            return failed(self.flow.failure, self._timeout_s)
        report = (self.flow.last or {}).get("refused")
        return refused(report) if report else None

    def note_failure(self, error: BaseException) -> None:
        """Remember how the query ended, for the log and the metrics."""
        if isinstance(error, EngineError):
            is_theirs = error.code.kind not in (Kind.FAILED, Kind.UNAVAILABLE, Kind.FULL)
            self.outcome = "timeout" if error.code is TIMEOUT else "refused" if is_theirs else "failed"
        else:
            self.outcome = "left" if isinstance(error, ConnectionError | asyncio.CancelledError) else "failed"

    def give_up(self) -> None:
        """End what is still in work: nobody wants more of the answer."""
        if self._timer is not None:
            self._timer.cancel()
        if self.flow is not None:
            self.flow.leave()
        self._stop()

    async def _close(self) -> None:
        """End what is still in work, and give everything back."""
        self.give_up()
        last = self.flow.last if self.flow is not None else None
        try:
            await self._give_back()
        finally:  # also where a file of the spill cannot be removed
            self._report(last or {})

    async def _give_back(self) -> None:
        """Let go of the answer and of what it was made from."""
        flow, self.flow = self.flow, None
        try:
            if flow is not None:
                await flow.discard()
        finally:
            await self._stack.aclose()

    def _stop(self) -> None:
        """Nobody wants more of the block that is in work, if there is one: its waiter has left."""
        if self._block is not None:
            self._queries.pool.stop_work(self._block)

    def _report(self, last: Header) -> None:
        metrics.QUERIES_ENDED.labels(self.outcome).inc()
        for stage, seconds in self.seconds.by_stage.items() if self.outcome == "answered" else ():
            SECONDS_OF_STAGE[stage].observe(seconds)
        log.info(
            "query %s user=%s text=%s bytes=%d plan=%s datasets=%s rows=%d seconds=%.3f stages=%s",
            *(self.outcome, self._caller.name, self._needs.get("hash", "-"), len(self._body)),
            *(last.get("plan", "-"), ",".join(self.versions) or "-", last.get("rows", 0), self.total_s),
            ",".join(f"{stage}:{seconds * 1000:.1f}" for stage, seconds in self.seconds.by_stage.items()),
        )


def _unless_refused(header: Header) -> Header:
    """The header of an answer. DetailedError, if it says that the query is refused."""
    if "refused" in header:
        raise refused(header["refused"])
    return header


def _recorded_model(column: str | None, readables: dict[str, Readable]) -> str | None:
    """The model recorded for a vector column of this name, in the first source that has one."""
    if column is None:
        return None
    return next((model for readable in readables.values() if (model := readable.model_of(column))), None)
