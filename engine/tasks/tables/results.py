"""The lines of a stream's answer as a table: csv or Parquet, with a row for each record.

The columns are those that any line has, so every line is read before the first row is written, and memory does not grow with
their number. `yhat_id` comes first. An object in a result becomes a column for each of its keys: `probabilities.setosa`. `code` and
`error` come last, if any record has an error.
"""

import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.tasks import codec

ROWS = 8192
ID = "yhat_id"
ERROR = ("code", "error")
# The type of a column whose values have none in common: strings as they are, and everything else as JSON.
TEXT = pa.string()

Row = dict[str, Any]


def write_table(lines: BinaryIO, target: BinaryIO, form: str, folder: str, begin: Callable[[], None]) -> None:
    """Write all lines as one table. OSError.

    form    csv or parquet
    folder  where the lines are kept until the last one has come
    begin   called before the first byte is written
    """
    with tempfile.TemporaryFile(dir=folder) as kept:
        columns = Columns()
        for chunk in _chunks(lines):
            kept.writelines(chunk)
            columns.learn([*map(row_of, chunk)])
        kept.seek(0)
        begin()
        rows = ([*map(row_of, chunk)] for chunk in _chunks(kept))
        (_write_csv if form == "csv" else _write_parquet)(rows, columns.types, target)
        target.flush()


def _chunks(lines: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    lines = iter(lines)
    while chunk := list(islice(lines, ROWS)):
        yield chunk


def row_of(line: bytes) -> Row:
    """The row of one line: its id, and its result or its error."""
    answer = codec.parse_json(line)
    if "result" not in answer:
        return {name: answer[name] for name in (ID, *ERROR) if name in answer}
    result = answer["result"]
    row = {ID: answer[ID]}
    for name, value in result.items() if isinstance(result, dict) else [("result", result)]:
        inner = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        row |= {f"result.{key}" if key in (ID, *ERROR) else key: one for key, one in inner.items()}
    return row


class Columns:
    """The columns of a table and their types, learnt from its rows."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}

    def learn(self, rows: Sequence[Row]) -> None:
        """Take the columns of some rows, which are among others of the table."""
        for name in dict.fromkeys(name for row in rows for name in row):
            kind = _type([row.get(name) for row in rows])
            self._types[name] = _common(self._types[name], kind) if name in self._types else kind

    @property
    def types(self) -> dict[str, pa.DataType]:
        """In their order. A column without any value is one of strings."""
        names = [name for name in self._types if name not in (ID, *ERROR)]
        names = [name for name in (ID, *names, *ERROR) if name in self._types]
        return {name: TEXT if pa.types.is_null(self._types[name]) else self._types[name] for name in names}


def _type(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # they have no type in common
        return TEXT


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    try:
        [field] = pa.unify_schemas([pa.schema([("", one)]), pa.schema([("", other)])], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return TEXT
    return field.type


def _write_parquet(chunks: Iterable[Sequence[Row]], types: dict[str, pa.DataType], target: BinaryIO) -> None:
    schema = pa.schema(types.items())
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for rows in chunks:
            arrays = [pa.array(_values(rows, name, kind), kind) for name, kind in types.items()]
            writer.write_table(pa.table(arrays, schema=schema))


def _values(rows: Sequence[Row], name: str, kind: pa.DataType) -> list[Any]:
    values = [row.get(name) for row in rows]
    return [None if value is None else _text(value) for value in values] if kind == TEXT else values


def _write_csv(chunks: Iterable[Sequence[Row]], types: dict[str, pa.DataType], target: BinaryIO) -> None:
    text = io.TextIOWrapper(target, "utf-8", errors="backslashreplace", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(types)
    for rows in chunks:
        writer.writerows([["" if (value := row.get(name)) is None else _text(value) for name in types] for row in rows])
    text.detach()


def _text(value: Any) -> str:
    """A string as it is, and anything else as JSON."""
    return value if isinstance(value, str) else codec.dumps(value).decode()
