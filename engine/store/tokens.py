"""Tokens. A token is stored as its SHA-256, with what its owner needs to know it again. Times are UTC, as 2026-01-31T09:00:00Z."""

from collections.abc import Iterable
from dataclasses import dataclass

from engine.store.connection import Database

# Which tokens does this user have, newest first?
LIST_TOKENS = """
    SELECT iid, name, prefix, created_at, expires_at, last_used_at, revoked_at FROM tokens
    WHERE user = ? AND iid < ? ORDER BY iid DESC LIMIT ?
"""
FIND_TOKEN = """
    SELECT iid, name, prefix, created_at, expires_at, last_used_at, revoked_at FROM tokens WHERE user = ? AND iid = ?
"""
# How many tokens of this user still work?
COUNT_LIVE_TOKENS = "SELECT count(*) FROM tokens WHERE user = ? AND revoked_at IS NULL AND expires_at > ?"
# Add a token of a user, if there is one of that name. Its number is one more than the highest so far.
ADD_TOKEN = """
    INSERT INTO tokens (sha256, user, iid, name, prefix, created_at, expires_at)
    SELECT :sha256, u.name, 1 + coalesce((SELECT max(iid) FROM tokens WHERE user = u.name), 0), :name, :prefix, :now, :expires_at
    FROM users u WHERE u.name = :user
    RETURNING iid
"""
# Forget the tokens of a user that have ended, but for the newest. The token with the highest number was just made, and stays.
PRUNE_TOKENS = "DELETE FROM tokens WHERE user = ? AND iid < ? AND (revoked_at IS NOT NULL OR expires_at <= ?)"
# Revoke a token; one that was revoked before keeps its time.
REVOKE_TOKEN = "UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE user = ? AND iid = ?"
# Note that a token was used, unless this was noted a short while ago.
NOTE_USE = "UPDATE tokens SET last_used_at = ? WHERE sha256 = ? AND coalesce(last_used_at, '') <= ?"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One token. `iid` counts the tokens of its user."""

    iid: int
    name: str
    prefix: str
    created_at: str
    expires_at: str
    last_used_at: str | None
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token before it is stored."""

    sha256: bytes
    user: str
    name: str
    prefix: str
    expires_at: str


class TokenStore(Database):
    """What the store answers about tokens."""

    async def list_tokens(self, user: str, *, before: int, limit: int) -> list[TokenRow]:
        """The newest tokens of a user whose numbers are lower than `before`."""
        return [TokenRow(*row) for row in await self._rows(LIST_TOKENS, (user, before, limit))]

    async def find_token(self, user: str, iid: int) -> TokenRow | None:
        rows = await self._rows(FIND_TOKEN, (user, iid))
        return TokenRow(*rows[0]) if rows else None

    async def add_token(self, token: NewToken, now: str, *, most: int) -> int | None:
        """The number of the new token; 0 when the user has gone, None when `most` tokens of the user work already.

        Of the tokens that have ended, the last `most` are kept.
        """
        async with self.transaction() as transaction:
            [(num_live,)] = await transaction.rows(COUNT_LIVE_TOKENS, (token.user, now))
            if num_live >= most:
                return None
            values = {"sha256": token.sha256, "user": token.user, "name": token.name, "prefix": token.prefix}
            rows = await transaction.rows(ADD_TOKEN, {**values, "now": now, "expires_at": token.expires_at})
            if not rows:
                return 0
            [(iid,)] = rows
            await transaction.run(PRUNE_TOKENS, (token.user, iid - most, now))
            return int(iid)

    async def revoke_token(self, user: str, iid: int, now: str) -> bool:
        """False when the user has no such token."""
        return await self._write((REVOKE_TOKEN, (now, user, iid)))

    async def note_token_uses(self, hashes: Iterable[bytes], now: str, *, unless_since: str) -> None:
        """These tokens were used now; what was noted after `unless_since` stays."""
        async with self.transaction() as transaction:
            for sha256 in hashes:
                await transaction.run(NOTE_USE, (now, sha256, unless_since))
