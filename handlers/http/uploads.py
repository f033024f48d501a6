"""Uploads that take long: they end when the sender pauses for too long, or when the key that allowed them ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from aiohttp import web

from engine.accounts import Caller, unauthorized
from engine.errors import TIMED_OUT, EngineError
from handlers.http.keys import ACCOUNTS, IDLE_TIMEOUT, UPLOAD_TIMEOUT

Read = TypeVar("Read")


@contextlib.asynccontextmanager
async def while_valid(request: web.Request, caller: Caller) -> AsyncIterator[None]:
    """Break off as soon as the caller's key ends. EngineError `unauthorized`."""
    scope = asyncio.timeout(None)
    try:
        async with scope:
            with request.app[ACCOUNTS].while_valid(caller, lambda: scope.reschedule(0)):
                yield
    except TimeoutError:
        if scope.expired():
            raise unauthorized() from None
        raise


@contextlib.asynccontextmanager
async def within_upload_timeout(request: web.Request) -> AsyncIterator[None]:
    """Break off after SLUICE_UPLOAD_TIMEOUT_S. EngineError `timed_out`."""
    limit_s = request.app[UPLOAD_TIMEOUT]
    scope = asyncio.timeout(limit_s)
    try:
        async with scope:
            yield
    except TimeoutError:
        if not scope.expired():  # of the disk, for one
            raise
        raise EngineError(TIMED_OUT, f"the upload took longer than {limit_s:g} seconds") from None


async def within_idle_timeout(request: web.Request, reading: Awaitable[Read]) -> Read:
    """The bytes or the part that is read. EngineError `timed_out` when the client sends nothing for SLUICE_IDLE_TIMEOUT_S."""
    try:
        async with asyncio.timeout(request.app[IDLE_TIMEOUT] or None):
            return await reading
    except TimeoutError:
        raise EngineError(TIMED_OUT, "the upload stopped") from None
