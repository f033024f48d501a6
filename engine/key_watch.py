"""Watching keys: what lasts long, such as a stream, hears within a second that the key it was opened with has ended.

One task checks all keys that are watched, and only after something has changed; a token ends at a time that is known before. While
nothing is watched the task sleeps. Knows nothing of keys, of what lasts long, of HTTP or of SQL.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.store import StoreError

Held = TypeVar("Held")

log = logging.getLogger("sluice.accounts")


@dataclass(slots=True, eq=False)
class _Watched(Generic[Held]):
    """One long request. `is_checked` is False when its key may have ended since we last asked."""

    held: Held
    on_end: Callable[[], None]
    is_checked: bool
    ends_at: float


class KeyWatch(Generic[Held]):
    """The long requests that run now.

    is_valid    asks the database whether what a request was opened with is still valid
    recheck     looks whether another process has written to the database, and calls `changed` if so
    interval_s  time between two calls of recheck
    now         seconds since 1970
    """

    def __init__(
        self,
        is_valid: Callable[[Held], Awaitable[bool]],
        recheck: Callable[[], Awaitable[None]],
        *,
        interval_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._is_valid = is_valid
        self._recheck = recheck
        self._interval_s = interval_s
        self._now = now
        self._watched: set[_Watched[Held]] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, held: Held, on_end: Callable[[], None], *, is_fresh: bool, ends_at: float = math.inf) -> Iterator[None]:
        """Call `on_end`, once, if what the request was opened with ends meanwhile. It must not raise.

        is_fresh  nothing has changed since the caller was identified, so we need not ask the database
        ends_at   when it ends in any case, in seconds since 1970
        """
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="key watch")
        watched = _Watched(held, on_end, is_fresh, ends_at)
        self._watched.add(watched)
        self._woken.set()
        try:
            yield
        finally:
            self._watched.discard(watched)

    def changed(self) -> None:
        """Users or keys have changed: check every key that is watched."""
        for watched in self._watched:
            watched.is_checked = False
        self._woken.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._check()
                if await self._is_quiet():
                    await self._recheck()
            except StoreError as error:  # the keys stay unchecked, so we ask again
                log.warning("keys not checked reason=%r", str(error))
                await asyncio.sleep(self._interval_s)

    async def _check(self) -> None:
        now = self._now()
        for watched in [one for one in self._watched if one.ends_at <= now]:
            self._end(watched)
        for watched in [one for one in self._watched if not one.is_checked]:
            watched.is_checked = True  # before we ask: a change while we ask makes it False again
            try:
                is_valid = await self._is_valid(watched.held)
            except StoreError:
                watched.is_checked = False
                raise
            if not is_valid and watched in self._watched:
                self._end(watched)

    def _end(self, watched: _Watched[Held]) -> None:
        self._watched.discard(watched)
        watched.on_end()

    async def _is_quiet(self) -> bool:
        """Wait for a change or a new request; True when the interval passed without one. Without requests there is no interval."""
        try:
            async with asyncio.timeout(self._pause_s()):
                await self._woken.wait()
        except TimeoutError:
            return True
        return False

    def _pause_s(self) -> float | None:
        """Until the next recheck, or until the first token ends."""
        if not self._watched:
            return None
        return min(self._interval_s, max(0.0, min(one.ends_at for one in self._watched) - self._now()))
