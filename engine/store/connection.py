"""The connections to sluice.db: opened, configured, migrated, read from, written to, closed.

Knows SQLite, transactions and migrations. Knows no table: the other files of this folder say what is asked of the tables. Several
processes may have the same file open (the server, workers and `sluice user`). WAL mode lets them read while one of them
writes; a writer takes its lock before it reads anything (BEGIN IMMEDIATE) and waits while another process holds it.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import aiosqlite

# Values for `?` in order, or for `:name` by name.
Parameters = Sequence[Any] | Mapping[str, Any]
Statement = tuple[str, Parameters]

SCHEMA = Path(__file__).with_name("schema.sql")
# The server holds the write lock for one fsync, which takes some milliseconds; a backup tool may hold it for seconds.
BUSY_TIMEOUT_MS = 10_000

# How many migrations has this file been through?
SCHEMA_VERSION = "PRAGMA user_version"
# Has another connection committed since the last time this was asked?
DATA_VERSION = "PRAGMA data_version"


class StoreError(Exception):
    """The database cannot be used; its message is one sentence for the person who runs the server."""


class StoreFull(StoreError):
    """The disk has no room for what should be written; the database is as it was."""


class StoreBusy(StoreError):
    """Another program kept the database locked for BUSY_TIMEOUT_MS."""


# SQLite grows its files only where a write needs it; of the shared index of the WAL it says so with a code of its own.
FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


class Transaction:
    """What is read and written under one lock (`Database.transaction`): others see all of it, once it is committed, or nothing."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._after: list[Callable[[], object]] = []

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Every row that the statement gives; the statement may also change rows and return them."""
        with _errors_as_store_errors():
            return list(await self._connection.execute_fetchall(sql, parameters))

    async def run(self, sql: str, parameters: Parameters = ()) -> int:
        """The number of rows that the statement has changed."""
        with _errors_as_store_errors():
            return (await self._connection.execute(sql, parameters)).rowcount

    def after_commit(self, call: Callable[[], object]) -> None:
        """Call this once everything is committed, and never if it is not. It must not raise."""
        self._after.append(call)

    async def commit(self) -> None:
        with _errors_as_store_errors():
            await self._connection.execute("COMMIT")
        for call in self._after:
            call()


class Database:
    """Two open connections, each of which aiosqlite runs in a thread of its own: what reads never waits for what commits.

    num_commits  transactions that this process has committed
    """

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._writing = asyncio.Lock()
        self.num_commits = 0
        self._holder: asyncio.Task[Any] | None = None

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the database, or create it, and migrate its tables. StoreError when a newer server wrote it."""
        with _errors_as_store_errors():
            writer = await aiosqlite.connect(path, isolation_level=None)
            try:
                await _configure(writer)
                await _migrate(writer)
                return cls(writer, await _open_reader(path))
            except BaseException:  # also on cancellation: the connection's thread would keep the process alive
                await writer.close()
                raise

    async def close(self) -> None:
        """Finish the statements that are queued and close the file."""
        await self._reader.close()
        await self._writer.close()

    async def data_version(self) -> int:
        """A number that changes when another process has committed; what this one writes does not change it."""
        with _errors_as_store_errors():
            [(version,)] = await self._writer.execute_fetchall(DATA_VERSION)
        return int(version)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Read and then write, while nobody else writes. All is committed at the end of the context, and undone if it raises.

        Inside the context everything is written through the transaction. Any other write by the same task would wait for ever, and
        raises RuntimeError.
        """
        if self._holder is asyncio.current_task():
            raise RuntimeError("this task has a transaction open, and must write through that")
        async with self._writing:
            self._holder = asyncio.current_task()
            transaction = Transaction(self._writer)
            try:
                with _errors_as_store_errors():
                    await self._writer.execute("BEGIN IMMEDIATE")
                yield transaction
                transaction.after_commit(self._count_commit)
                await transaction.commit()
            finally:
                # After COMMIT this does nothing. A caller that is cancelled at an await above leaves its statement in the thread's
                # queue; the rollback is queued behind it, so no transaction stays open.
                self._holder = None
                await self._writer.rollback()

    def _count_commit(self) -> None:
        self.num_commits += 1

    async def _rows(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Every row that the statement gives."""
        with _errors_as_store_errors():
            return list(await self._reader.execute_fetchall(sql, parameters))

    async def _write(self, *statements: Statement) -> bool:
        """Run the statements in one transaction. When one of them changes no row, undo them all and return False."""
        try:
            async with self.transaction() as transaction:
                for sql, parameters in statements:
                    if await transaction.run(sql, parameters) < 1:
                        raise _NothingChanged
        except _NothingChanged:
            return False
        return True


class _NothingChanged(Exception):
    """A statement that must change a row has changed none."""


@contextmanager
def _errors_as_store_errors() -> Iterator[None]:
    """Turn SQLite's errors (locked, disk full, read-only, not a database) into a StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        kind = _kind(getattr(error, "sqlite_errorcode", 0))
        raise kind(f"the database cannot be used: {error}") from error


def _kind(code: int) -> type[StoreError]:
    """The error for a code of SQLite; the low byte of an extended code is its family."""
    if code in FULL_CODES:
        return StoreFull
    return StoreBusy if code & 0xFF == sqlite3.SQLITE_BUSY else StoreError


async def _configure(connection: aiosqlite.Connection) -> None:
    """With synchronous=FULL SQLite calls fsync at each commit, so an acknowledged write survives a loss of power."""
    await connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    await _switch_to_wal(connection)
    await connection.execute("PRAGMA synchronous = FULL")
    await connection.execute("PRAGMA foreign_keys = ON")


async def _open_reader(path: Path) -> aiosqlite.Connection:
    """A second connection, which cannot write. It is opened after the first one, which has made the file what it must be."""
    reader = await aiosqlite.connect(path, isolation_level=None)
    try:
        await reader.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        await reader.execute("PRAGMA query_only = ON")
    except BaseException:  # also on cancellation, as for the writer
        await reader.close()
        raise
    return reader


async def _switch_to_wal(connection: aiosqlite.Connection) -> None:
    """Switch to WAL, and try again when another process is creating the same file.

    SQLite then refuses one of the two processes at once, whatever the busy timeout. The second try waits for the other process and
    finds the file already in WAL mode: of 2,400 openers, eight at a time, 27 needed a second try and none needed a third.
    """
    for tries_left in range(4, -1, -1):
        try:
            await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if not tries_left:
                raise


async def _migrate(connection: aiosqlite.Connection) -> None:
    """Run the sections of schema.sql that this file does not have yet, all of them or none."""
    sections = _sections(SCHEMA.read_text(encoding="utf-8"))
    if await _schema_version(connection, len(sections)) == len(sections):
        return
    await connection.execute("BEGIN IMMEDIATE")
    # We ask again now that we hold the lock: another process may have migrated in the meantime.
    for section in sections[await _schema_version(connection, len(sections)) :]:
        for statement in _statements(section):
            await connection.execute(statement)
    await connection.execute(f"PRAGMA user_version = {len(sections)}")
    await connection.execute("COMMIT")


async def _schema_version(connection: aiosqlite.Connection, num_known: int) -> int:
    """How many sections the file has. StoreError when it has more sections than this server knows."""
    [(version,)] = await connection.execute_fetchall(SCHEMA_VERSION)
    if version > num_known:
        raise StoreError(f"the database has schema version {version}, this server knows {num_known}: run the newer server")
    return version


def _sections(schema: str) -> list[str]:
    """The text after each `-- migration N` line, in order."""
    return re.split(r"^-- migration \d+.*$", schema, flags=re.MULTILINE)[1:]


def _statements(section: str) -> Iterator[str]:
    """The single statements of a section. (executescript would commit our transaction before it runs the first one.)"""
    statement = ""
    for line in section.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
