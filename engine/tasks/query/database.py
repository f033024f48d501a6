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
        return pa.Table.from_batches(*self._read(statement, tables, control))

    def _read(self, statement: Sql, tables: Mapping[str, pa.Table], control: Control) -> tuple[list[pa.RecordBatch], pa.Schema]:
        with self._running(tables, control) as connection:
            reader = connection.sql(statement.text, params=list(statement.constants)).to_arrow_reader(PAYLOAD_ROWS)
            return list(reader), reader.schema

    def batches(self, statement: Sql, tables: Mapping[str, pa.Table], control: Control) -> Iterator[pa.RecordBatch]:
        """The rows as they are made, in batches of at most 8,192. No other statement may run before all are taken or dropped."""
        with self._running(tables, control) as connection:
            reader = connection.sql(statement.text, params=list(statement.constants)).to_arrow_reader(PAYLOAD_ROWS)
            for batch in reader:
                control.check()
                yield batch

    @contextmanager
    def _running(self, tables: Mapping[str, pa.Table], control: Control) -> Iterator[Any]:
        control.check()
        connection = self._connected()
        for name, table in tables.items():
            connection.register(name, table)
        control.interrupt_with(connection.interrupt)
        try:
            yield connection
        except connection.errors as error:
            self._connection = None
            control.check()
            raise connection.refusal(error) from None
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
    """A statement was stopped, and nobody had stopped this query: the signal was meant for the one before."""


class Connection:
    """A connection with its settings locked."""

    def __init__(self) -> None:
        # DuckDB takes 60 ms and 50 MB to load, and a plain top k needs none of it.
        import duckdb

        self.errors = (duckdb.Error,)
        self._duckdb = duckdb
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        for setting in SETTINGS:
            self._connection.execute(f"SET {setting}")
        self.sql = self._connection.sql
        self.register = self._connection.register
        self.unregister = self._connection.unregister
        self.interrupt = self._connection.interrupt

    def refusal(self, error: Exception) -> Exception:
        """What a user learns about an error of DuckDB. Its own message quotes our SQL and the user's values."""
        duckdb = self._duckdb
        if isinstance(error, duckdb.InterruptException):
            return Interrupted()
        if isinstance(error, duckdb.OutOfMemoryException):
            return Refused("out_of_memory", "The query needs more memory than a query may use.")
        if isinstance(error, duckdb.OutOfRangeException | duckdb.ConversionException | duckdb.InvalidInputException):
            return Refused("arithmetic_error", "A number left its range, or a CAST failed.", hint="Integers have 64 bits.")
        if "expression depth" in str(error).lower():
            return Refused("too_complex", "The query is too deep.")
        return RuntimeError(f"this is a bug: DuckDB refused our SQL as {type(error).__name__}")
