"""Users and their keys. A key is stored as its SHA-256 only."""

from dataclasses import dataclass
from typing import Literal, cast

from engine.store.connection import Database

KeyKind = Literal["full", "read_only"]

# Who are the users, and since when?
LIST_USERS = "SELECT name, created_at FROM users ORDER BY name"
# Add a user, unless the name is in use.
ADD_USER = "INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING"
# Remove a user; its keys are removed with it.
REMOVE_USER = "DELETE FROM users WHERE name = ?"

# Whose key is this, and of which kind?
FIND_KEY = "SELECT user, kind FROM keys WHERE sha256 = ?"
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


class UserStore(Database):
    """What the store answers about users and keys."""

    async def list_users(self) -> list[User]:
        """Sorted by name."""
        return [User(name, created_at) for name, created_at in await self._rows(LIST_USERS)]

    async def add_user(self, name: str, sha256: bytes) -> bool:
        """Add a user together with its full key; False when the name is in use."""
        return await self._write((ADD_USER, (name,)), (PUT_KEY, (sha256, "full", name)))

    async def remove_user(self, name: str) -> bool:
        """False when there is no such user."""
        return await self._write((REMOVE_USER, (name,)))

    async def find_key(self, sha256: bytes) -> tuple[str, KeyKind] | None:
        """The name of the user who has this key, and the kind of the key."""
        rows = await self._rows(FIND_KEY, (sha256,))
        return cast(tuple[str, KeyKind], tuple(rows[0])) if rows else None

    async def put_key(self, user: str, kind: KeyKind, sha256: bytes) -> bool:
        """False when there is no such user."""
        return await self._write((PUT_KEY, (sha256, kind, user)))
