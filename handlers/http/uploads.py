"""Uploads that take long: they end when the sender pauses for too long, and change nothing when what allowed them has ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from aiohttp import web

from engine.accounts import Caller, Right
from engine.errors import TIMED_OUT, EngineError
from handlers.http.keys import ACCOUNTS, IDLE_TIMEOUT, TEAMS, UPLOAD_TIMEOUT

Read = TypeVar("Read")


async def confirm_change(request: web.Request, caller: Caller, right: Right, name: str) -> None:
    """Check, before anything changes, that a caller who was admitted some time ago may still change what has this name.

    raises  EngineError: those of `Accounts.confirm`; `forbidden` for what a project has made meanwhile
    """
    await request.app[ACCOUNTS].confirm(caller, right)
    await request.app[TEAMS].check_not_made(right.owner, name)


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
