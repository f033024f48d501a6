"""A replica, as the server process holds it: start it, send it frames, hear its answers, know when it is gone.

Nothing above this file may know where a replica runs. Today it is a child process at the other end of a socketpair.
"""

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from engine import frames, metrics
from engine.frames import Buffer, FrameReader, Header
from engine.replicas.blocks import Batch, ServedModel

ROOT = Path(__file__).resolve().parents[2]
# Whole frames of a few hundred kilobytes fit, so neither side waits for the other inside one. The kernel may clamp it.
SOCKET_BUFFER_BYTES = 1024 * 1024
# A child that has read the end of its socket gets this long to end by itself.
STOP_TIMEOUT_S = 0.5
# Asks a child to leave the work that it is doing (engine/tasks/stopping.py).
STOP_SIGNAL = signal.SIGUSR1
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Reply = tuple[Header, memoryview]


class ReplicaGone(Exception):
    """The replica died before it answered.

    was_at_work  the replica was working on this question; False when the question was still waiting behind other work
    """

    def __init__(self, *, was_at_work: bool = False) -> None:
        super().__init__()
        self.was_at_work = was_at_work


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """What the replicas of one pool have in common, and in what pools differ.

    niceness      how far the process yields the cores to others (man 2 nice)
    is_lazy       each replica starts when work first finds all others taken, or when the pool is told to fill up
    memory_bytes  of data that the process may have; an allocation beyond it fails (RLIMIT_DATA). 0 means no limit
    environment   variables of the process, beside those of the server
    families      of tasks, imported before the first sign of life; any other family is imported with its first frame
    is_confined   the process can open no connection, and leaves no core file
    max_answers   a replica that has given this many is replaced by a new one; 0 means no limit
    max_resident_bytes  the same for one that is this large after an answer
    max_per_user  replicas that work of one user may take at once; another one starts only for others. 0 means no limit
    max_faults    that one version of a model may cost within the window of faults.py before it goes offline. A model whose owner
                  makes one mistake stays online: one record costs up to twelve replicas, which count less than four
    """

    niceness: int = 0
    is_lazy: bool = False
    memory_bytes: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    is_confined: bool = False
    max_answers: int = 0
    max_resident_bytes: int = 0
    max_per_user: int = 0
    max_faults: int = 12

    def for_process(self, *, yields: bool = False) -> str:
        """What the process itself must know, as the one argument that it gets besides its socket."""
        names = ("niceness", "memory_bytes", "is_confined", "families")
        return json.dumps({**{name: getattr(self, name) for name in names}, "yields": yields})


DEFAULT_OPTIONS = ReplicaOptions()


class Owner(Protocol):
    """The pool of a replica, which hears what the replica does."""

    def batch_answered(self, replica: "Replica", batch: Batch, header: Header, payload: memoryview) -> None: ...

    def batch_continued(self, replica: "Replica", batch: Batch, header: Header, payload: memoryview) -> None: ...

    def batch_progressed(self, batch: Batch, header: Header) -> None: ...

    def replica_lost(self, replica: "Replica", batches: list[Batch], culprit: Batch | None) -> None: ...


class Replica(asyncio.BufferedProtocol):
    """One child process. It answers frames in the order they were sent. An answer has one frame, or several: all but its last one
    have `more` in their headers. Those of them that have `progress` are no part of the answer: they tell how far the work is.

    loaded        keys of the models that it was told to load
    num_batches   batches that were sent and not answered; it works on the first of them
    num_opening   models that it is opening now, while it answers nothing else
    heard_at      when it last answered anything, monotonic seconds
    is_paused     we do not read what it answers, because nobody has room for it
    is_stuck      we killed it, because it gave no sign of life for too long
    is_retiring   it was told to stop: it gets no more work, and its death is expected
    is_relieved   we end it on purpose, and a new one takes its place: that is no fault of anybody's
    died_under    the batch that it was working on when it died, if its death was not expected
    yields        while it starts, and while it opens models that nobody waits for, it yields the cores to the other replicas
    """

    def __init__(self, owner: Owner, name: str, options: ReplicaOptions = DEFAULT_OPTIONS, *, yields: bool = False) -> None:
        self.name = name
        self.loaded: set[str] = set()
        self.num_batches = 0
        self.num_opening = 0
        self.heard_at = -math.inf
        self.is_ready = False
        self.is_paused = False
        self.is_stuck = False
        self.is_retiring = False
        self.is_relieved = False
        self.died_under: Batch | None = None
        self.answers_given = 0
        self.yields = yields
        self._owner = owner
        self._options = options
        self._expected: deque[Batch | asyncio.Future[Reply]] = deque()
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lost = asyncio.Event()

    # Life

    async def start(self) -> None:
        """Start the child and wait for its first sign of life; raises ReplicaGone when there is none."""
        ours, theirs = _socketpair()
        with contextlib.ExitStack() as unless_connected, theirs:
            unless_connected.enter_context(ours)  # a start may be cancelled, and the child ends with the connection
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "engine.tasks", str(theirs.fileno()), self._options.for_process(yields=self.yields)),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment(),
            )
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
            unless_connected.pop_all()
        await self.ask_for_sign_of_life()
        self.is_ready = True

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, **self._options.environment}
        return environment | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """How the child ended; negative for a signal, None while it lives."""
        return self._process.returncode if self._process else None

    def relieve(self) -> None:
        """It gets no more work. Whoever calls this ends it, too."""
        self.is_retiring = self.is_relieved = True

    def kill(self) -> None:
        """End the child at once; the owner hears of the loss as of any other death."""
        self._signal(signal.SIGKILL)
        self.resume()  # asyncio tells nobody of the end of a socket that it does not read

    def ask_to_stop(self) -> None:
        """Ask the child to leave the work that it is doing. A task that hears of this ends soon; any other goes on."""
        self._signal(STOP_SIGNAL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            # Not with its own send_signal: that asks for the exit status first, and then asyncio never learns how a child died that
            # was dead already (it says 255), and a model is blamed for a SIGKILL from outside.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def stop(self) -> None:
        """Close the connection, which ends the child, and wait until it is gone; kill it if it does not end by itself."""
        self.is_retiring = True
        self.close()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def close(self) -> None:
        """Close the connection, which ends the child when it has done what is in it."""
        if self._transport is not None:
            self._transport.close()

    async def gone(self) -> int | None:
        """Wait until the child has died; its exit code."""
        await self._lost.wait()
        self.kill()
        return await self._process.wait() if self._process else None

    @property
    def is_worn(self) -> bool:
        """Whether it has worked so much, or has become so large, that a new one should take its place."""
        if self._options.max_answers and self.answers_given >= self._options.max_answers:
            return True
        return bool(self._options.max_resident_bytes) and self._resident_bytes() > self._options.max_resident_bytes

    def _resident_bytes(self) -> int:
        """0 where the system does not tell."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * PAGE_BYTES

    # Work

    @property
    def working_on(self) -> Batch | None:
        """The batch it works on now; None while it opens a model, or does nothing."""
        first = self._expected[0] if self._expected else None
        return first if isinstance(first, Batch) else None

    def has_work_on(self, keys: Container[str]) -> bool:
        """Whether a batch of one of these models is in it, in work or behind other work."""
        batches = (one for one in self._expected if isinstance(one, Batch))
        return any(batch.model is not None and batch.model.key in keys for batch in batches)

    def send(self, batch: Batch, sent_at: float, *, yields: bool = False) -> None:
        """Send the blocks of one batch; the owner hears of the answer. The work `yields` the cores to the other replicas."""
        if batch.model is not None:
            self._load(batch.model)
        batch.sent_at = sent_at
        self._expected.append(batch)
        self.num_batches += 1
        header, buffers = batch.frame()
        self._write(header | {"yields": True} if yields else header, buffers)

    def _load(self, model: ServedModel) -> None:
        """Tell the replica to open a model, once. If that fails, the answer to the next block says so."""
        if model.key not in self.loaded:
            self.loaded.add(model.key)
            self.ask(model.load).add_done_callback(partial(_count_load, model.title))

    def open(self, model: ServedModel, *, is_awaited: bool) -> asyncio.Future[Reply]:
        """Tell the replica to open a model; `is_awaited`: for a request, or for one who publishes it."""
        self.loaded.add(model.key)
        return self.ask(model.load | {"yields": True} if self.yields and not is_awaited else model.load)

    def ask_for_sign_of_life(self) -> asyncio.Future[Reply]:
        """Send a frame without a task, which a replica answers with an empty header."""
        return self.ask({})

    def ask(self, header: Header) -> asyncio.Future[Reply]:
        """Ask something that is not a block, such as to load a model; the future gives (header, payload) or raises ReplicaGone."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_mark_as_seen)
        if self._lost.is_set():
            future.set_exception(ReplicaGone())
            return future
        self._expected.append(future)
        self._write(header, [])
        return future

    def _write(self, header: Header, buffers: list[Buffer]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(frames.encode(header, buffers))

    # The connection

    def connection_made(self, transport: Any) -> None:
        # The scheduler bounds what is written; the transport keeps what the socket does not take yet.
        transport.set_write_buffer_limits(high=64 * 1024 * 1024)
        self._transport = transport

    def pause(self) -> None:
        """Read nothing more of its answer until `resume`: soon the child waits for us, and that is no fault of its own."""
        if not self.is_paused and self._transport is not None and not self._transport.is_closing():
            self.is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read its answer again. The time of its work begins anew."""
        if self.is_paused and self._transport is not None:
            self.is_paused = False
            if (batch := self.working_on) is not None:
                batch.sent_at = time.monotonic()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        for header, payload in self._reader.received(nbytes):
            self._answered(header, payload)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self.is_ready = False
        culprit = None if self.is_retiring else self.working_on
        self.died_under = culprit
        expected = list(self._expected)
        self._expected.clear()
        self.num_batches = 0
        for i, one in enumerate(expected):
            if isinstance(one, asyncio.Future) and not one.done():
                one.set_exception(ReplicaGone(was_at_work=i == 0))
        self._owner.replica_lost(self, [one for one in expected if isinstance(one, Batch)], culprit)

    def _answered(self, header: Header, payload: memoryview) -> None:
        self.heard_at = time.monotonic()
        if "progress" in header and (batch := self.working_on) is not None:
            self._owner.batch_progressed(batch, header)  # a sign of life, which makes the time limit of the work no longer
            return
        if "more" in header and (batch := self.working_on) is not None:
            batch.sent_at = self.heard_at
            self._owner.batch_continued(self, batch, header, payload)
            return
        expected = self._expected.popleft()
        if (next_batch := self.working_on) is not None:
            next_batch.sent_at = self.heard_at  # only now does the replica begin with it
        if isinstance(expected, Batch):
            self.num_batches -= 1
            self.answers_given += 1
            self._owner.batch_answered(self, expected, header, payload)
        elif not expected.done():
            expected.set_result((header, payload))


def _socketpair() -> tuple[socket.socket, socket.socket]:
    """Our end, which does not block, and the child's."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    ours.setblocking(False)
    return ours, theirs


def _count_load(title: str, loading: asyncio.Future[Reply]) -> None:
    """Count what a replica answered to being told to open a model; one that died did not answer."""
    if not loading.cancelled() and loading.exception() is None:
        header, _ = loading.result()
        metrics.MODEL_LOADS.series(title, "failed" if "error" in header else "loaded").inc()


def _mark_as_seen(future: asyncio.Future[Any]) -> None:
    """Look at a failure, so that asyncio does not complain: nobody awaits a load, whose failure the next block reports."""
    if not future.cancelled():
        future.exception()
