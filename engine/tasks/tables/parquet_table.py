"""Lines of a stream's answer as Parquet, whose columns and types are those of all lines."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.tasks.tables.rows import Table, in_order, table_of, text_of

ROWS = 8192
# The type of a column whose values have none in common: strings as they are, and everything else as JSON.
TEXT = pa.string()


def tables(lines: Iterable[bytes]) -> Iterator[Table]:
    """The lines as tables of ROWS rows."""
    lines = iter(lines)
    while chunk := list(islice(lines, ROWS)):
        yield table_of(chunk)


class Columns:
    """The columns of a table and their types, learnt from its rows."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}

    def learn(self, table: Table) -> None:
        """Take the columns of some rows, which are among others of the table."""
        for name, values in table.items():
            kind = _type(values)
            self._types[name] = _common(self._types[name], kind) if name in self._types else kind

    @property
    def types(self) -> dict[str, pa.DataType]:
        """In their order. A column without any value is one of strings."""
        kinds = self._types
        return {name: TEXT if pa.types.is_null(kinds[name]) else kinds[name] for name in in_order([*kinds])}


def _type(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # they have no type in common
        return TEXT


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    try:
        [field] = pa.unify_schemas([pa.schema([("", one)]), pa.schema([("", other)])], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return TEXT
    return field.type


def write_parquet(rows: Iterable[Table], types: dict[str, pa.DataType], target: BinaryIO) -> None:
    """Write tables with these columns as one file."""
    schema = pa.schema(types.items())
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for table in rows:
            writer.write_table(pa.table([_column(table, name, kind) for name, kind in types.items()], schema=schema))


def _column(table: Table, name: str, kind: pa.DataType) -> pa.Array:
    if name not in table:
        return pa.nulls(len(next(iter(table.values()))), kind)
    values: Sequence[Any] = table[name]
    return pa.array([None if one is None else text_of(one) for one in values] if kind == TEXT else values, kind)
