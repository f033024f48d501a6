"""Users and their keys, and whose a credential is: a key or a token. Each is stored as its SHA-256 only."""

from dataclasses import dataclass
from typing import Literal, cast

from engine.store.connection import Database

KeyKind = Literal["full", "read_only"]

# Who are the users, and since when?
LIST_USERS = "SELECT name, created_at FROM users ORDER BY name"
# Add a user, unless the name is in use.
ADD_USER = "INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING"
# Add the team of a new user, unless a team has the name.
ADD_OWN_TEAM = "INSERT INTO teams (id, name) VALUES (:name, :name) ON CONFLICT DO NOTHING"
JOIN_OWN_TEAM = "INSERT INTO members (team, user, role) VALUES (:name, :name, 'Admin')"
# Remove a user; its keys, its tokens and its memberships are removed with it.
REMOVE_USER = "DELETE FROM users WHERE name = ?"
# Remove the team of a user that is gone, unless somebody else is in it or it has projects.
REMOVE_OWN_TEAM = """
    DELETE FROM teams WHERE id = :name
        AND NOT EXISTS (SELECT 1 FROM members WHERE team = :name) AND NOT EXISTS (SELECT 1 FROM project WHERE team = :name)
"""

# Whose key is this, and of which kind?
FIND_KEY = "SELECT user, kind FROM keys WHERE sha256 = ?"
# Whose key or token is this? One row for each team that the user is in, or one row without a team.
FIND_CREDENTIAL = """
    WITH found AS (
        SELECT user, kind, NULL AS expires_at, NULL AS revoked_at FROM keys WHERE sha256 = :sha256
        UNION ALL
        SELECT user, 'full', expires_at, revoked_at FROM tokens WHERE sha256 = :sha256
    )
    SELECT f.user, f.kind, f.expires_at, f.revoked_at, m.team, m.role FROM found f LEFT JOIN members m ON m.user = f.user
"""
# Give a user, if there is one of that name, a key in place of its key of the same kind.
PUT_KEY = """
    INSERT INTO keys (sha256, user, kind) SELECT ?, name, ? FROM users WHERE name = ?
    ON CONFLICT (user, kind) DO UPDATE SET sha256 = excluded.sha256, created_at = excluded.created_at
"""


@dataclass(frozen=True, slots=True)
class User:
    """created_at is RFC 3339, UTC."""

    name: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A key or a token, and whose it is.

    kind                    of a key; a token is worth a full key
    expires_at, revoked_at  of a token, as 2026-01-31T09:00:00Z; None for a key
    roles                   team -> the word of the user's role in it
    """

    user: str
    kind: KeyKind
    expires_at: str | None
    revoked_at: str | None
    roles: dict[str, str]


class UserStore(Database):
    """What the store answers about users and keys."""

    async def list_users(self) -> list[User]:
        """Sorted by name."""
        return [User(name, created_at) for name, created_at in await self._rows(LIST_USERS)]

    async def add_user(self, name: str, sha256: bytes) -> bool:
        """Add a user with its full key and its team; False when a user or a team has the name."""
        own = {"name": name}
        return await self._write((ADD_USER, (name,)), (ADD_OWN_TEAM, own), (JOIN_OWN_TEAM, own), (PUT_KEY, (sha256, "full", name)))

    async def remove_user(self, name: str) -> bool:
        """False when there is no such user. The user's team stays if somebody else is in it, or if it has projects."""
        async with self.transaction() as transaction:
            is_removed = await transaction.run(REMOVE_USER, (name,)) > 0
            if is_removed:
                await transaction.run(REMOVE_OWN_TEAM, {"name": name})
            return is_removed

    async def find_key(self, sha256: bytes) -> tuple[str, KeyKind] | None:
        """The name of the user who has this key, and the kind of the key."""
        rows = await self._rows(FIND_KEY, (sha256,))
        return cast(tuple[str, KeyKind], tuple(rows[0])) if rows else None

    async def find_credential(self, sha256: bytes) -> Credential | None:
        """The key or token with this hash, and all roles of its user, as they were at one moment."""
        rows = await self._rows(FIND_CREDENTIAL, {"sha256": sha256})
        if not rows:
            return None
        user, kind, expires_at, revoked_at, _, _ = rows[0]
        return Credential(user, kind, expires_at, revoked_at, {row[4]: row[5] for row in rows if row[4] is not None})

    async def put_key(self, user: str, kind: KeyKind, sha256: bytes) -> bool:
        """False when there is no such user."""
        return await self._write((PUT_KEY, (sha256, kind, user)))
