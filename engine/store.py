"""The store: every statement the server sends to SQLite, named, with the sentence it answers.

The only file that speaks SQLite. Knows tables and transactions. Knows nothing of HTTP, of keys in the clear, or of what a name
means. Several processes may hold the same file open (the server and `python -m server user`): WAL lets them read beside a
writer, a writer takes its lock first (BEGIN IMMEDIATE) and waits for another one.
"""

import asyncio
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast

import aiosqlite

KeyKind = Literal["full", "read_only"]
Statement = tuple[str, Sequence[Any]]

SCHEMA = Path(__file__).with_name("schema.sql")
# A writer of ours holds its lock for one fsync, some milliseconds; a backup tool may hold it for seconds.
BUSY_TIMEOUT_MS = 10_000

# How many migrations does this file have?
SCHEMA_VERSION = "PRAGMA user_version"
# Has another connection committed since the last time this was asked?
DATA_VERSION = "PRAGMA data_version"

# Who are the users, and since when?
LIST_USERS = "SELECT name, created_at FROM users ORDER BY name"
# Make a user, unless the name is in use.
ADD_USER = "INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING"
# Remove a user; the keys go with it.
REMOVE_USER = "DELETE FROM users WHERE name = ?"

# Whose key is this, and of which kind?
FIND_KEY = "SELECT user, kind FROM keys WHERE sha256 = ?"
# Give a user a key in place of the one of that kind, if there is such a user.
PUT_KEY = """
    INSERT INTO keys (sha256, user, kind) SELECT ?, name, ? FROM users WHERE name = ?
    ON CONFLICT (user, kind) DO UPDATE SET sha256 = excluded.sha256, created_at = excluded.created_at
"""

# What was changed about models at run time?
LIST_MODEL_STATES = """
    SELECT owner, name, active_version, shared FROM models WHERE active_version IS NOT NULL OR shared IS NOT NULL
"""
# Which version of a model answers?
SET_ACTIVE_VERSION = """
    INSERT INTO models (owner, name, active_version) VALUES (?, ?, ?)
    ON CONFLICT (owner, name) DO UPDATE SET active_version = excluded.active_version
"""
# May others use a model?
SET_SHARED = """
    INSERT INTO models (owner, name, shared) VALUES (?, ?, ?)
    ON CONFLICT (owner, name) DO UPDATE SET shared = excluded.shared
"""
# Which is the highest number a version of a model ever had?
HIGHEST_VERSION = "SELECT highest_version FROM models WHERE owner = ? AND name = ?"
# Note a number that is in use from now on, and which version answers if nothing else says so.
NOTE_VERSION = """
    INSERT INTO models (owner, name, highest_version, active_version) VALUES (?, ?, ?, ?)
    ON CONFLICT (owner, name) DO UPDATE SET
        highest_version = max(highest_version, excluded.highest_version),
        active_version = coalesce(active_version, excluded.active_version)
"""
# Forget what was changed about a model that is gone, but for the numbers of its versions.
FORGET_MODEL = "UPDATE models SET active_version = NULL, shared = NULL WHERE owner = ? AND name = ?"


class StoreError(Exception):
    """The database cannot be used; one sentence for the person who runs the server."""


@dataclass(frozen=True, slots=True)
class User:
    """created_at is RFC 3339, UTC."""

    name: str
    created_at: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """What was changed about a model at run time; None means as its folder says."""

    active_version: int | None = None
    shared: bool | None = None


class Store:
    """One connection, whose owner is one thread (aiosqlite's). Build it by `await Store.open(path)`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or make the database and bring its tables up to date; StoreError when a newer server made it."""
        with _faults_told():
            connection = await aiosqlite.connect(path, isolation_level=None)
            try:
                await _configure(connection)
                await _migrate(connection)
            except BaseException:  # whatever it was: the connection's thread would keep the process alive
                await connection.close()
                raise
            return cls(connection)

    async def close(self) -> None:
        """Finish what is queued and close the file."""
        await self._connection.close()

    async def data_version(self) -> int:
        """A number that changes when another process has committed; writes of this Store leave it as it is."""
        [(version,)] = await self._rows(DATA_VERSION)
        return int(version)

    async def list_users(self) -> list[User]:
        return [User(name, created_at) for name, created_at in await self._rows(LIST_USERS)]

    async def add_user(self, name: str, sha256: bytes) -> bool:
        """Make a user with its full key, both or neither; False when the name is in use."""
        return await self._write((ADD_USER, (name,)), (PUT_KEY, (sha256, "full", name)))

    async def remove_user(self, name: str) -> bool:
        """False when there is no such user."""
        return await self._write((REMOVE_USER, (name,)))

    async def find_key(self, sha256: bytes) -> tuple[str, KeyKind] | None:
        rows = await self._rows(FIND_KEY, (sha256,))
        return cast(tuple[str, KeyKind], tuple(rows[0])) if rows else None

    async def put_key(self, user: str, kind: KeyKind, sha256: bytes) -> bool:
        """False when there is no such user."""
        return await self._write((PUT_KEY, (sha256, kind, user)))

    async def list_model_states(self) -> dict[tuple[str, str], ModelState]:
        """Keyed by (owner, name); a model nobody changed is absent."""
        rows = await self._rows(LIST_MODEL_STATES)
        return {
            (owner, name): ModelState(version, None if shared is None else bool(shared)) for owner, name, version, shared in rows
        }

    async def set_active_version(self, owner: str, name: str, version: int | None) -> None:
        await self._write((SET_ACTIVE_VERSION, (owner, name, version)))

    async def set_shared(self, owner: str, name: str, shared: bool | None) -> None:
        await self._write((SET_SHARED, (owner, name, shared)))

    async def highest_version(self, owner: str, name: str) -> int:
        """0 when none is known."""
        rows = await self._rows(HIGHEST_VERSION, (owner, name))
        return int(rows[0][0]) if rows else 0

    async def note_version(self, owner: str, name: str, number: int, active_version: int | None) -> None:
        """This number is taken for ever. A model without a pointer gets one to `active_version`, if that is not None."""
        await self._write((NOTE_VERSION, (owner, name, number, active_version)))

    async def forget_model(self, owner: str, name: str) -> None:
        await self._write((FORGET_MODEL, (owner, name)))

    async def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with _faults_told():
            return list(await self._connection.execute_fetchall(sql, parameters))

    async def _write(self, *statements: Statement) -> bool:
        """Run the statements in one transaction; one that changes no row takes all back and gives False."""
        async with self._writing:
            with _faults_told():
                return await self._transaction(statements)

    async def _transaction(self, statements: Sequence[Statement]) -> bool:
        """See _write, which holds the lock."""
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
            for sql, parameters in statements:
                if (await self._connection.execute(sql, parameters)).rowcount < 1:
                    return False
            await self._connection.execute("COMMIT")
            return True
        finally:
            # Does nothing after COMMIT. A caller cancelled at any await above has left its statement in the thread's queue; this
            # one is queued behind it, so no half transaction is left open.
            await self._connection.rollback()


@contextmanager
def _faults_told() -> Iterator[None]:
    """What SQLite cannot do becomes a StoreError: locked, full, read-only, not a database."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the database cannot be used: {error}") from error


async def _configure(connection: aiosqlite.Connection) -> None:
    """An acknowledged write survives the loss of power (synchronous=FULL: an fsync at each commit)."""
    await connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    await _switch_to_wal(connection)
    await connection.execute("PRAGMA synchronous = FULL")
    await connection.execute("PRAGMA foreign_keys = ON")


async def _switch_to_wal(connection: aiosqlite.Connection) -> None:
    """Again where another process is making the same file: SQLite then refuses one of the two at once, without the busy timeout.

    The second try waits for the other process and finds the work done: of 2,400 openers, eight at a time, 27 needed it and none
    a third.
    """
    for tries_left in range(4, -1, -1):
        try:
            await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if not tries_left:
                raise


async def _migrate(connection: aiosqlite.Connection) -> None:
    """Run the sections of schema.sql that this file does not have, all or none."""
    sections = _sections(SCHEMA.read_text(encoding="utf-8"))
    if await _schema_version(connection, len(sections)) == len(sections):
        return
    await connection.execute("BEGIN IMMEDIATE")
    # Asked again under the lock: another process may have done it meanwhile.
    for section in sections[await _schema_version(connection, len(sections)) :]:
        for statement in _statements(section):
            await connection.execute(statement)
    await connection.execute(f"PRAGMA user_version = {len(sections)}")
    await connection.execute("COMMIT")


async def _schema_version(connection: aiosqlite.Connection, num_known: int) -> int:
    """How many sections the file has; StoreError when it has more than are known."""
    [(version,)] = await connection.execute_fetchall(SCHEMA_VERSION)
    if version > num_known:
        raise StoreError(f"the database has schema version {version}, this server knows {num_known}: run the newer server")
    return version


def _sections(schema: str) -> list[str]:
    """The text after each `-- migration N` line, in order."""
    return re.split(r"^-- migration \d+.*$", schema, flags=re.MULTILINE)[1:]


def _statements(section: str) -> Iterator[str]:
    """Cut at the semicolons that end a statement. (executescript would commit before the first one.)"""
    statement = ""
    for line in section.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
