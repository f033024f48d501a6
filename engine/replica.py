"""A replica, as the server process holds it: start it, send it frames, hear its answers, know when it is gone.

Nothing above this file may know where a replica runs. Today it is a child process at the other end of a socketpair.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from engine import frames
from engine.blocks import Batch, ServedModel
from engine.frames import Buffer, FrameReader, Header

ROOT = Path(__file__).resolve().parent.parent
# Whole frames of a few hundred kilobytes fit, so neither side waits for the other inside one. The kernel may clamp it.
SOCKET_BUFFER_BYTES = 1024 * 1024

FAMILIES = {"score": "scoring", "embed": "embedding", "check": "publishing"}


class ReplicaGone(Exception):
    """The replica died before it answered.

    was_at_work  this was what it worked on, and not something that waited behind that
    """

    def __init__(self, *, was_at_work: bool = False) -> None:
        super().__init__()
        self.was_at_work = was_at_work


class Owner(Protocol):
    """Who is told what a replica does: its pool."""

    def batch_answered(self, replica: "Replica", batch: Batch, header: Header, payload: memoryview) -> None: ...

    def replica_lost(self, replica: "Replica", culprit: Batch | None) -> None: ...


class Replica(asyncio.BufferedProtocol):
    """One child process. Frames are answered in the order they were sent."""

    def __init__(self, owner: Owner, *, name: str, niceness: int = 0) -> None:
        self.name = name
        self.models: set[str] = set()  # keys it was told to load
        self.batches: deque[Batch] = deque()  # sent and unanswered; the first is the one it works on
        self.is_ready = False
        self.num_opening = 0  # models it is opening now, while it answers nothing else
        self.is_stuck = False  # killed by us, because it gave no sign of life for too long
        self.is_retiring = False  # told to stop: gets no more work, and its end is no accident
        self.answers_given = 0
        self._owner = owner
        self._niceness = niceness
        self._expected: deque[Batch | asyncio.Future[tuple[Header, memoryview]]] = deque()
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lost = asyncio.Event()

    # Life

    async def start(self) -> None:
        """Start the child and wait for its first sign of life; raises ReplicaGone when there is none."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        ours.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "engine.tasks", str(theirs.fileno()), str(self._niceness)),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
                start_new_session=True,  # Ctrl-C in a terminal reaches the server alone, which then drains
            )
        await loop.create_unix_connection(lambda: self, sock=ours)
        await self.request({})
        self.is_ready = True

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """How the child ended; negative for a signal, None while it lives."""
        return self._process.returncode if self._process else None

    def kill(self) -> None:
        """End the child at once; the loss is reported like any other death."""
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Close the connection (the child ends at end-of-file) and wait until it has gone, with force if it does not."""
        self.is_retiring = True
        if self._transport is not None:
            self._transport.close()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(2):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    async def gone(self) -> int | None:
        """Wait until the child has died; its exit code."""
        await self._lost.wait()
        self.kill()
        return await self._process.wait() if self._process else None

    # Work

    @property
    def working_on(self) -> Batch | None:
        """The batch it works on now; None while it opens a model, or does nothing."""
        first = self._expected[0] if self._expected else None
        return first if isinstance(first, Batch) else None

    def send(self, batch: Batch, sent_at: float) -> None:
        """Send the blocks of one batch; the owner hears of the answer."""
        if batch.model is not None:
            self.load(batch.model)
        batch.sent_at = sent_at
        self.batches.append(batch)
        self._expected.append(batch)
        header, buffers = batch.frame()
        self._write({"family": FAMILIES[batch.task], **header}, buffers)

    def load(self, model: ServedModel) -> None:
        """Tell the replica to open a model, once; what comes of it is seen in the answer to the next block."""
        if model.key not in self.models:
            self.models.add(model.key)
            self._ask({"task": "load", "model": model.key, **model.load})

    def request(self, header: Header) -> asyncio.Future[tuple[Header, memoryview]]:
        """Ask something outside the queues (hello, load, ping); the future gives (header, payload) or raises ReplicaGone."""
        return self._ask(header)

    def _ask(self, header: Header) -> asyncio.Future[tuple[Header, memoryview]]:
        future: asyncio.Future[tuple[Header, memoryview]] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
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
        # The queues above bound what is written; the transport keeps what the socket does not take yet.
        transport.set_write_buffer_limits(high=64 * 1024 * 1024)
        self._transport = transport

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
        culprit = self.working_on
        for i, expected in enumerate(self._expected):
            if isinstance(expected, asyncio.Future) and not expected.done():
                expected.set_exception(ReplicaGone(was_at_work=i == 0))
        self._expected.clear()
        self._owner.replica_lost(self, culprit)

    def _answered(self, header: Header, payload: memoryview) -> None:
        expected = self._expected.popleft()
        if isinstance(expected, Batch):
            self.batches.popleft()
            self.answers_given += 1
            self._owner.batch_answered(self, expected, header, payload)
        elif not expected.done():
            expected.set_result((header, payload))
        if (batch := self.working_on) is not None and not isinstance(expected, Batch):
            batch.sent_at = time.monotonic()  # only now it begins with this one


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark a failure as seen: a load that nobody awaits is reported by the block behind it."""
    if not future.cancelled():
        future.exception()
