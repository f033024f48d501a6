"""The database: one DuckDB in memory for each replica, closed off from files, network and settings. Its first
statement loads it.

It gets SQL of our own words only, and tables that are mapped or made here. Knows no query.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa

from engine.tasks.query.refusals import Refused
from engine.tasks.query.segments import PAYLOAD_ROWS
from engine.tasks.query.sql import Sql
from engine.tasks.query.vectors import ScanControl

# A connection keeps a little of each statement; a new one costs 30 ms.
MAX_STATEMENTS = 1000
SETTINGS = (
    "memory_limit='512MB'",
    "temp_directory=''",
    "enable_external_access=false",
    "disabled_filesystems='LocalFileSystem'",
    "autoload_known_extensions=false",
    "autoinstall_known_extensions=false",
    "allow_community_extensions=false",
    "python_enable_replacements=false",
    "max_expression_depth=250",
    "lock_configuration=true",
)


class Control(ScanControl, Protocol):
    """How a query is told to stop."""

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        """What another thread calls to end the statement that runs from now on; None when none runs."""


class Database:
    """Runs one statement at a time."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._num_statements = 0

    def table(self, statement: Sql, tables: Mapping[str, pa.Table], control: Control) -> pa.Table:
        """All rows of a statement. Refused where a value does not fit its type, or memory is short."""
        try:
            return self._table(statement, tables, control)
        except Interrupted:
            return self._table(statement, tables, control)

    def _table(self, statement: Sql, tables: Mapping[str, pa.Table], control: Control) -> pa.Table:
        with self._reading(statement, tables, control) as reader:
            return reader.read_all()

    def batches(self, statement: Sql, tables: Mapping[str, pa.Table], control: Control) -> Iterator[pa.RecordBatch]:
        """The rows as they are made, in batches of at most 8,192. No other statement may run before all are taken or dropped."""
        has_begun = False
        try:
            for batch in self._batches(statement, tables, control):
                has_begun = True
                yield batch
        except Interrupted:
            if has_begun:
                raise
            yield from self._batches(statement, tables, control)

    def _batches(self, statement: Sql, tables: Mapping[str, pa.Table], control: Control) -> Iterator[pa.RecordBatch]:
        with self._reading(statement, tables, control) as reader:
            for batch in reader:
                control.check()
                yield batch

    @contextmanager
    def _reading(self, statement: Sql, tables: Mapping[str, pa.Table], control: Control) -> Iterator[Any]:
        """A reader of the rows. An error ends the connection, whose state nobody knows then."""
        control.check()
        connection = self._connected()
        control.interrupt_with(connection.interrupt)
        try:
            for name, table in tables.items():
                connection.register(name, table)
            relation = connection.sql(statement.text, params=list(statement.constants))
            with relation.to_arrow_reader(PAYLOAD_ROWS) as reader:  # closed before the tables go, for it may not be drained
                yield reader
        except (*connection.errors, OSError, pa.ArrowException) as error:
            # What goes wrong while rows are read comes through Arrow, with the message of DuckDB and a class of Arrow's.
            self._connection = None
            control.check()
            raise refusal_of(error) from None
        finally:
            control.interrupt_with(None)
            for name in tables:
                connection.unregister(name)

    def _connected(self) -> Any:
        if self._connection is None or self._num_statements >= MAX_STATEMENTS:
            self._connection, self._num_statements = Connection(), 0
        self._num_statements += 1
        return self._connection


class Interrupted(Exception):
    """A statement was stopped, and nobody had stopped this query: the signal was late, and meant for the one before."""


class Connection:
    """A connection with its settings locked."""

    def __init__(self) -> None:
        # DuckDB takes 60 ms and 50 MB to load, and a plain top k needs none of it.
        import duckdb

        self.errors = (duckdb.Error,)
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        for setting in SETTINGS:
            self._connection.execute(f"SET {setting}")
        self.sql = self._connection.sql
        self.register = self._connection.register
        self.unregister = self._connection.unregister
        self.interrupt = self._connection.interrupt


# How the messages of DuckDB begin.
_INTERRUPTED = "INTERRUPT"
_OUT_OF_MEMORY = "Out of Memory"
_VALUE_ERRORS = ("Conversion Error", "Out of Range Error", "Invalid Input Error")


def refusal_of(error: Exception) -> Exception:
    """What a user learns about an error of DuckDB. Its own message quotes our SQL and the user's values."""
    message = str(error).removeprefix("Query Error: ")
    if message.startswith(_INTERRUPTED):
        return Interrupted()
    if message.startswith(_OUT_OF_MEMORY) or isinstance(error, pa.ArrowMemoryError):
        return Refused("out_of_memory", "The query needs more memory than a query may use.")
    if message.startswith(_VALUE_ERRORS):
        return Refused("arithmetic_error", "A number left its range, or a CAST failed.", hint="Integers have 64 bits.")
    if "depth" in message:
        return Refused("too_complex", "The query is too deep.")
    return RuntimeError(f"this is a bug: DuckDB refused our SQL as {type(error).__name__}")
