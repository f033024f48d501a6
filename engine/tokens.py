"""Tokens: what programs prove themselves with. Until its end, which is fixed when it is made, a token is worth its user's full key.

A token is `slu_` and 32 random bytes in base64url. The server shows it once, in the answer that makes it, and keeps its SHA-256,
its first characters and its end. Knows no HTTP and no SQL.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.accounts import Accounts, Caller
from engine.errors import Code, EngineError, Kind, unauthorized
from engine.keys import hash_of
from engine.store import NewToken, Store, TokenRow
from engine.times import as_seconds, as_text

BAD_EXPIRY = Code("bad_expiry", Kind.INVALID, "expires_at is missing, past, over 365 days ahead, or after the end of the token")
UNKNOWN_TOKEN = Code("unknown_token", Kind.NOT_FOUND, "the user has no such token")
TOO_MANY_TOKENS = Code("too_many_tokens", Kind.OVERLOADED, "the user has 1,000 tokens that have not ended")

TOKEN_START = "slu_"
RANDOM_BYTES = 32
# So much of a token is shown and kept: enough to know it again, and nothing for somebody who guesses.
PREFIX_CHARACTERS = 8
MAX_DAYS = 365
DAY_S = 24 * 60 * 60
# Of one user. Of those that have ended as many are kept, so that we can say why they open nothing any more.
MAX_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A token at the only moment at which its value is known."""

    row: TokenRow
    value: str


class Tokens:
    """The tokens of one store.

    now  seconds since 1970
    """

    def __init__(self, store: Store, accounts: Accounts, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._accounts = accounts
        self._now = now

    async def make(self, caller: Caller, name: str, expires_at: str | None) -> MadeToken:
        """Make a token of the caller's. EngineError `bad_expiry`, `too_many_tokens`, `unauthorized`.

        expires_at  a date, which is its 00:00 UTC, or a time; a time without an offset is UTC
        """
        now = self._now()
        ends_at = as_text(self._checked_end(caller, expires_at, now))
        value = TOKEN_START + secrets.token_urlsafe(RANDOM_BYTES)
        new = NewToken(hash_of(value), caller.name, name, value[:PREFIX_CHARACTERS], ends_at)
        iid = await self._store.add_token(new, as_text(now), most=MAX_TOKENS)
        if iid is None:
            raise EngineError(TOO_MANY_TOKENS, f"You have {MAX_TOKENS:,} tokens that have not ended. Revoke some of them.")
        if iid == 0:
            raise unauthorized()  # the user was removed a moment ago
        return MadeToken(TokenRow(iid, name, new.prefix, as_text(now), ends_at, None, None), value)

    async def of_user(self, user: str, *, before: int, limit: int) -> list[TokenRow]:
        """The newest tokens of a user whose numbers are lower than `before`, also those that have ended."""
        await self._accounts.uses.flush()
        return await self._store.list_tokens(user, before=before, limit=limit)

    async def revoke(self, user: str, iid: int) -> TokenRow:
        """End a token at once; nothing changes if it was revoked before. EngineError `unknown_token`."""
        try:
            is_known = await self._store.revoke_token(user, iid, as_text(self._now()))
        finally:
            self._accounts.changed(user)
        row = await self._store.find_token(user, iid) if is_known else None
        if row is None:
            raise EngineError(UNKNOWN_TOKEN, f"You have no token {iid}.")
        return row

    def _checked_end(self, caller: Caller, expires_at: str | None, now: float) -> float:
        """The end of a new token, in whole seconds since 1970. EngineError `bad_expiry`."""
        if expires_at is None:
            raise EngineError(BAD_EXPIRY, "Say when the token ends: expires_at, such as 2026-12-31 or 2026-12-31T18:00:00Z.")
        ends_at = _seconds(expires_at)
        if ends_at is None:
            raise EngineError(BAD_EXPIRY, "Write expires_at as 2026-12-31 or as 2026-12-31T18:00:00Z.")
        if ends_at <= now:
            raise EngineError(BAD_EXPIRY, "expires_at has passed.")
        if ends_at > now + MAX_DAYS * DAY_S:
            raise EngineError(BAD_EXPIRY, f"A token ends at most {MAX_DAYS} days after it is made.")
        if ends_at > caller.expires_at:
            raise EngineError(BAD_EXPIRY, f"A token makes no token that ends later: yours ends at {as_text(caller.expires_at)}.")
        return ends_at


def _seconds(text: str) -> float | None:
    """Seconds since 1970, without a fraction; None for a text that is neither a date nor a time."""
    try:
        written = datetime.fromisoformat(text)
        if written.tzinfo is None:
            written = written.replace(tzinfo=UTC)
        return as_seconds(as_text(written.timestamp()))
    except (ValueError, OverflowError):
        return None
