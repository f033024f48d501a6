"""What tql.yaml expects is right by another judge: DuckDB answers the same questions, for the same rows."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from tests.query.statements import Statement, Table, hostile, same, statements, tables
from tests.serving import ROOT

DUCKDB_TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR", "class": "VARCHAR", "bool": "BOOLEAN", "json": "JSON"}
JUDGED = [statement for statement in statements() if statement.duckdb]


def duckdb_type(dtype: str) -> str:
    if dtype.startswith("list<"):
        return duckdb_type(dtype[5:-1]) + "[]"
    if dtype.startswith("vector("):
        return f"FLOAT[{dtype[7:-1]}]"
    return DUCKDB_TYPES.get(dtype, "TIMESTAMP")


def fill(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Make a table of the same name, columns and rows."""
    columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {duckdb_type(dtype)}' for name, dtype in table.columns.items())
    connection.execute(f'CREATE TABLE "{table.name}" ({columns})')
    places = ", ".join("?" * len(table.columns))
    for row in table.rows:
        values = [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
        connection.execute(f'INSERT INTO "{table.name}" VALUES ({places})', values)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        for table in tables().values():
            fill(opened, table)
        yield opened


def as_json(value: Any) -> Any:
    """A value of DuckDB as an answer writes it."""
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


@pytest.mark.parametrize("statement", JUDGED, ids=[statement.says for statement in JUDGED])
def test_duckdb_gives_the_expected_rows(connection: duckdb.DuckDBPyConnection, statement: Statement) -> None:
    found = [as_json(row) for row in connection.execute(statement.duckdb).fetchall()]
    if "order by" not in statement.duckdb:
        found.sort(key=repr)
        assert same(found, sorted(statement.rows, key=repr)), found
    assert same(found, statement.rows) or "order by" not in statement.duckdb, found


def test_every_statement_is_accepted_or_refused() -> None:
    for statement in statements():
        assert bool(statement.tensors) != bool(statement.codes), statement.says
        assert all(len(row) == len(statement.tensors) for row in statement.rows), statement.says
    sayings = [statement.says for statement in statements()]
    assert len(set(sayings)) == len(sayings)


def test_tables_have_the_columns_of_their_rows() -> None:
    for table in tables().values():
        assert all(list(row) == list(table.columns) for row in table.rows), table.name


def test_hostile_statements_can_be_written_out() -> None:
    found = hostile(ROOT / "canary.csv")
    assert len(found) == len(set(found)) >= 300
    assert max(map(len, found)) <= 2_000_000
