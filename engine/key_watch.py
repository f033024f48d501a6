"""Watching keys: what lasts long, such as a stream, hears within a second that the key it was opened with has ended.

One task checks all keys that are watched, and only after something has changed. While nothing is watched it sleeps. Knows callers.
Knows nothing of what lasts long, of HTTP or of SQL.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.store import StoreError

Caller = TypeVar("Caller")

log = logging.getLogger("sluice.accounts")


@dataclass(slots=True, eq=False)
class _Watched(Generic[Caller]):
    """One long request. `is_checked` is False when its key may have ended since we last asked."""

    caller: Caller
    on_end: Callable[[], None]
    is_checked: bool


class KeyWatch(Generic[Caller]):
    """The long requests that run now.

    is_valid    asks the database whether the caller's key is still the caller's
    recheck     looks whether another process has written to the database, and calls `changed` if so
    interval_s  time between two calls of recheck
    """

    def __init__(
        self, is_valid: Callable[[Caller], Awaitable[bool]], recheck: Callable[[], Awaitable[None]], *, interval_s: float
    ) -> None:
        self._is_valid = is_valid
        self._recheck = recheck
        self._interval_s = interval_s
        self._watched: set[_Watched[Caller]] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, caller: Caller, on_end: Callable[[], None], *, is_fresh: bool) -> Iterator[None]:
        """Call `on_end`, once, if the caller's key ends meanwhile. It must not raise.

        is_fresh  nothing has changed since the caller was identified, so we need not ask the database
        """
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="key watch")
        watched = _Watched(caller, on_end, is_checked=is_fresh)
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
        for watched in [one for one in self._watched if not one.is_checked]:
            watched.is_checked = True  # before we ask: a change while we ask makes it False again
            try:
                is_valid = await self._is_valid(watched.caller)
            except StoreError:
                watched.is_checked = False
                raise
            if not is_valid and watched in self._watched:
                self._watched.discard(watched)
                watched.on_end()

    async def _is_quiet(self) -> bool:
        """Wait for a change or a new request; True when the interval passed without one. Without requests there is no interval."""
        try:
            async with asyncio.timeout(self._interval_s if self._watched else None):
                await self._woken.wait()
        except TimeoutError:
            return True
        return False
