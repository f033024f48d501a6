"""Authentication: from an Authorization header to a caller, the demands that a route can make of a caller, and the end of long
requests whose caller may no longer make them.

Knows headers and the accounts. Knows nothing of models: engine/repository/index.py decides which models a caller may use.
"""

import asyncio
import binascii
import contextlib
from collections.abc import AsyncIterator

from aiohttp import hdrs, web

from engine.accounts import Caller, Right
from engine.errors import FORBIDDEN, FULL_KEY_NEEDED, HOW_TO_IDENTIFY, UNAUTHORIZED, EngineError, no_credentials, unauthorized
from handlers.http.keys import ACCOUNTS, ANONYMOUS


async def caller_of(request: web.Request, *, surface: str) -> Caller | None:
    """The caller, or None when the request has no credentials and SLUICE_ANONYMOUS opens the surface.

    A wrong credential is refused even on an open surface.
    """
    if hdrs.AUTHORIZATION not in request.headers and surface in request.app[ANONYMOUS]:
        return None
    user, key = credential(request)
    return await request.app[ACCOUNTS].identify(user, key)


async def known_caller(request: web.Request) -> Caller:
    """The caller, on a path that always asks for credentials. EngineError `no_credentials` or `unauthorized`."""
    user, key = credential(request)
    return await request.app[ACCOUNTS].identify(user, key)


def credential(request: web.Request) -> tuple[str | None, str]:
    """User and key of the request; user None for a bearer.

    raises  EngineError `no_credentials` without an Authorization header; `unauthorized` for a header that is neither Basic nor
            Bearer, or whose content is not base64 of UTF-8 with a colon
    """
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        raise no_credentials()
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return None, value.strip()
    if scheme.lower() == "basic":
        return _basic(value.strip())
    raise malformed_credentials()


def malformed_credentials() -> EngineError:
    return EngineError(UNAUTHORIZED, f"Unauthorized: the header Authorization cannot be read; {HOW_TO_IDENTIFY}")


def _basic(value: str) -> tuple[str, str]:
    """RFC 7617: base64 of user, colon, password; the user has no colon."""
    try:
        user, colon, key = binascii.a2b_base64(value, strict_mode=True).decode("utf-8").partition(":")
    except ValueError:
        raise malformed_credentials() from None
    if not colon:
        raise malformed_credentials()
    return user, key


def require_full(caller: Caller) -> None:
    """EngineError `full_key_needed` for a read-only key."""
    if caller.kind != "full":
        raise EngineError(FULL_KEY_NEEDED, "a full key is needed for this")


def require_key(caller: Caller) -> None:
    """EngineError `full_key_needed` for a token: what is made here would outlive it."""
    if caller.has_token:
        raise EngineError(FULL_KEY_NEEDED, "a token ends, so it makes no key and no user: send your full key")


def require_admin(caller: Caller) -> None:
    """EngineError `full_key_needed` for a read-only key, `forbidden` for everybody but the admin."""
    require_full(caller)
    if not caller.is_admin:
        raise EngineError(FORBIDDEN, "only the admin may do this")


@contextlib.asynccontextmanager
async def while_valid(request: web.Request, caller: Caller | None, *rights: Right) -> AsyncIterator[None]:
    """Break off as soon as the caller's key ends, or one of its rights. EngineError: those of `Accounts.confirm`."""
    scope = asyncio.timeout(None)
    accounts = request.app[ACCOUNTS]
    try:
        async with scope:
            with accounts.while_valid(caller, lambda: scope.reschedule(0), *rights):
                yield
    except TimeoutError:
        if not scope.expired() or caller is None:  # of the disk, for one
            raise
        await accounts.confirm(caller, *rights)
        raise unauthorized() from None
