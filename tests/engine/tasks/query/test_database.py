"""The database is closed off, can be interrupted, and says nothing of itself."""

import threading

import pyarrow as pa
import pytest

from engine.tasks.query.database import MAX_STATEMENTS, Connection, Database, Interrupted, refusal_of
from engine.tasks.query.refusals import Refused
from engine.tasks.query.sql import Sql
from tests.engine.tasks.query.stored import Unstoppable


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "attach '/tmp/x.db'",
        "copy (select 1) to '/tmp/x.csv'",
        "install httpfs",
        "load httpfs",
        "set memory_limit='8GB'",
        "set enable_external_access=true",
        "select * from unstored",
    ],
)
def test_nothing_outside_can_be_reached(statement: str) -> None:
    unstored = pa.table({"a": [1]})
    connection = Connection()
    with pytest.raises(connection.errors):
        connection.sql(statement).fetchall()
    assert unstored.num_rows == 1


class Stopped(Exception):
    pass


class StoppedSoon(Unstoppable):
    """Stops the statement that runs, a moment after it began."""

    def __init__(self, *, is_wanted: bool) -> None:
        super().__init__()
        self.is_wanted = is_wanted
        self.is_stopped = False
        self.timers: list[threading.Timer] = []

    def check(self) -> None:
        if self.is_stopped and not self.is_wanted:
            raise Stopped

    def interrupt_with(self, interrupt: object) -> None:
        if callable(interrupt):
            self.timers.append(threading.Timer(0.05, self.stop, [interrupt]))
            self.timers[-1].start()

    def stop(self, interrupt: object) -> None:
        self.is_stopped = True
        if callable(interrupt):
            interrupt()


MILLION = "range(CAST(? AS BIGINT))"
ENDLESS = Sql(f"SELECT count(*) FROM {MILLION} a, {MILLION} b WHERE a.range * b.range = CAST(? AS BIGINT)", (10**6, 10**6, -1))


def test_a_query_that_nobody_wants_ends_within_a_statement() -> None:
    control = StoppedSoon(is_wanted=False)
    with pytest.raises(Stopped):
        Database().table(ENDLESS, {}, control)
    for timer in control.timers:
        timer.join()


def test_a_late_signal_is_not_taken_for_an_answer() -> None:
    control = StoppedSoon(is_wanted=True)
    with pytest.raises(Interrupted):
        Database().table(ENDLESS, {}, control)
    assert len(control.timers) == 2, "the statement ran again"
    for timer in control.timers:
        timer.join()


def test_a_connection_is_renewed_after_many_statements_and_after_an_error() -> None:
    database = Database()
    one = Sql("SELECT CAST(? AS BIGINT) AS a", (1,))
    tables = {"t0": pa.table({"a": [1, 2]})}
    database.table(one, tables, Unstoppable())
    first = database._connection
    database._num_statements = MAX_STATEMENTS
    database.table(one, tables, Unstoppable())
    second = database._connection
    assert second is not first
    with pytest.raises(Refused):
        database.table(Sql("SELECT CAST(CAST(? AS VARCHAR) AS BIGINT)", ("x",)), {}, Unstoppable())
    assert database.table(one, tables, Unstoppable()).column(0).to_pylist() == [1]
    assert database._connection is not second


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Conversion Error: Could not convert string 'secret' to INT64", "arithmetic_error"),
        ("Out of Range Error: Overflow in addition of INT64", "arithmetic_error"),
        ("Out of Memory Error: failed to allocate", "out_of_memory"),
        ("Binder Error: Max expression depth limit of 250 exceeded", "too_complex"),
        ("Parser Error: Maximum tree depth of 250 exceeded in logical planner", "too_complex"),
    ],
)
def test_errors_of_the_database_become_codes_without_its_words(message: str, code: str) -> None:
    refused = refusal_of(OSError(message))
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert "secret" not in refused.message


def test_any_other_error_is_our_own() -> None:
    error = refusal_of(ValueError("Parser Error: near 'secret'"))
    assert isinstance(error, RuntimeError)
    assert "secret" not in str(error)


def test_memory_is_limited() -> None:
    with pytest.raises(Refused) as caught:
        Database().table(Sql("SELECT list(range) AS l FROM range(CAST(? AS BIGINT))", (200_000_000,)), {}, Unstoppable())
    assert caught.value.code == "out_of_memory"
