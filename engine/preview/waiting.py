"""Waiting: requests that stay until what they ask for is made, or their time is over.

Knows no dataset: who changes one says so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from engine.engine import Engine
from engine.preview.faults import NotReady

Result = TypeVar("Result")

MAX_WAITING = 100


class Waiting:
    """All who wait, MAX_WAITING at most."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiters = _Waiters()

    def changed(self, name: str | None) -> None:
        """Wake those who wait for a dataset, or all."""
        self._waiters.changed(name)

    async def in_time(self, name: str, seconds: float, ask: Callable[[], Awaitable[Result]]) -> Result:
        """What `ask` gives, as soon as it is no longer NotReady; NotReady after these seconds, or when too many wait already."""
        until = time.monotonic() + seconds
        while True:
            if seconds <= 0 or self._waiters.is_full or self._engine.is_draining:
                return await ask()
            change = self._waiters.begin(name)
            try:
                return await ask()
            except NotReady:
                seconds = until - time.monotonic()
                await self._change_or_drain(change, seconds)
            finally:
                self._waiters.end(name, change)
            seconds = until - time.monotonic()

    async def _change_or_drain(self, change: "asyncio.Future[None]", seconds: float) -> None:
        draining = asyncio.create_task(self._engine.draining.wait(), name="drain of a wait")
        try:
            await asyncio.wait((change, draining), timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()


class _Waiters:
    """The futures of those who wait until something of a dataset changes."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._number = 0

    @property
    def is_full(self) -> bool:
        return self._number >= MAX_WAITING

    def begin(self, name: str) -> "asyncio.Future[None]":
        """A future that ends with the next change from now on; give it back to `end`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, set()).add(future)
        self._number += 1
        return future

    def end(self, name: str, future: "asyncio.Future[None]") -> None:
        self._number -= 1
        future.cancel()
        self._waiting[name].discard(future)
        if not self._waiting[name]:
            del self._waiting[name]

    def changed(self, name: str | None) -> None:
        """Wake those who wait for a dataset, or all."""
        names = list(self._waiting) if name is None else [name]
        for one in names:
            for future in self._waiting.get(one, ()):
                if not future.done():
                    future.set_result(None)
