"""A flow: one long answer on its way from a replica to one reader, who may be slow.

The frames of the answer go into an outbox. While the outbox is over its memory limit, we do not read what the replica sends, so
the replica waits. When the reader takes nothing for SPILL_AFTER_S, or is slow for long, the outbox spills to files and the replica
goes on: a slow reader holds no replica. Knows nothing of what the frames hold.
"""

import asyncio
import time
from collections.abc import Callable

from engine.disk import disk_full
from engine.errors import EngineError
from engine.frames import Buffer, Header
from engine.replicas.blocks import Answer, Block, Feed
from engine.spill import SPILL_AFTER_S, Outbox

# A reader who takes something, but so slowly that the replica has waited this long for it, gets the rest from the spill, too.
LONGEST_WAIT_S = 1.0


class Flow:
    """The waiter for an answer of one frame or several.

    begun    gives the header of the first frame, or raises the EngineError because of which there is none
    latest   the header of the latest frame
    last     the header of the last frame, once it has come
    failure  why the answer ended after its first frame and before its last, if it did
    """

    def __init__(self, outbox: Outbox) -> None:
        self.begun: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        self.latest: Header = {}
        self.last: Header | None = None
        self.failure: EngineError | None = None
        self.has_left = False
        self._outbox = outbox
        self._feed: Feed | None = None  # while it is paused
        self._waited_s = 0.0  # that the replica has been paused, in all
        self._paused = asyncio.Event()
        self._taken = asyncio.Event()

    # Frames in

    def continued(self, block: Block, part: Answer, feed: Feed) -> None:
        if self.has_left:
            return
        self._take(part)
        if not self._has_room:
            self._feed = feed
            feed.pause()
            self._paused.set()

    def answered(self, block: Block, answer: Answer) -> None:
        if not self.has_left:
            self.last = answer.header
            self._take(answer)
            self._outbox.close()

    def failed(self, block: Block, error: EngineError) -> None:
        self.fail(error)

    def fail(self, error: EngineError) -> None:
        """End the answer before its end. The reader still gets what has come."""
        if self.has_left:
            return
        if self.begun.done():
            self.failure = error
        else:
            self.begun.set_exception(error)
        self.leave()

    def leave(self) -> None:
        """No further frame is wanted."""
        self.has_left = True
        self.begun.cancel()
        self._outbox.close()
        self._resume()

    def _take(self, part: Answer) -> None:
        self.latest = part.header
        if len(part.payload):
            self._outbox.put(part.payload)
        if not self.begun.done():
            self.begun.set_result(part.header)

    # Bytes out

    async def get(self) -> Buffer | None:
        """Wait for the next bytes; None after the last. Raises what the disk of the spill raises."""
        piece = await self._outbox.get()
        self._taken.set()
        return piece

    async def num_lines(self) -> int:
        """The lines that `get` has not returned to their ends."""
        return await self._outbox.num_lines()

    async def regulate(self, taken_bytes: Callable[[], int]) -> None:
        """Pause the replica and let it go on, as the reader takes bytes, until the task that runs this is cancelled.

        taken_bytes  tells how many bytes the reader has accepted so far
        """
        while True:
            await self._paused.wait()
            try:
                while not self._has_room and not self.has_left:
                    await self._make_room(taken_bytes)
            except OSError:
                self.fail(disk_full())
            self._resume()

    async def discard(self) -> None:
        """Drop what the reader has not taken, and the files."""
        self.leave()
        await self._outbox.discard()

    @property
    def _has_room(self) -> bool:
        return not (self._outbox.is_over_memory_limit or self._outbox.is_full)

    async def _make_room(self, taken_bytes: Callable[[], int]) -> None:
        """Wait until the reader takes something. When it takes nothing for a while, begin to spill."""
        if self._outbox.is_spilling and self._outbox.is_over_memory_limit:
            await self._outbox.flushed()
            return
        self._taken.clear()
        before, started = taken_bytes(), time.monotonic()
        is_idle = False
        try:
            async with asyncio.timeout(SPILL_AFTER_S):
                await self._taken.wait()
        except TimeoutError:
            is_idle = taken_bytes() == before
        self._waited_s += time.monotonic() - started
        if self._outbox.is_over_memory_limit and (is_idle or self._waited_s > LONGEST_WAIT_S):
            self._outbox.begin_spilling()

    def _resume(self) -> None:
        self._paused.clear()
        if self._feed is not None:
            feed, self._feed = self._feed, None
            feed.resume()
