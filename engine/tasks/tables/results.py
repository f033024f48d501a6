"""The lines of a stream's answer as a table: csv or Parquet, with a row for each record.

The columns are those that any line has, so every line is read before the first row is written, and memory does not grow with
their number. Most streams have the same columns from the first to the last line, so the csv is made while the lines come, and is
made once more only if a column comes late. `yhat_id` comes first. An object in a result becomes a column for each of its keys:
`probabilities.setosa`. `code` and `error` come last, if any record has an error.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO

from engine.frames import LINE_END
from engine.tasks.tables.csv_table import CsvTable
from engine.tasks.tables.rows import in_order

BLOCK_BYTES = 1024 * 1024


def write_table(lines: BinaryIO, target: BinaryIO, form: str, folder: str, begin: Callable[[], None]) -> None:
    """Write all lines as one table. OSError.

    form    csv or parquet
    folder  where the lines, and the csv that is made of them, are kept until the last one has come
    begin   called before the first byte is written
    """
    with tempfile.TemporaryFile(dir=folder) as kept, tempfile.TemporaryFile(dir=folder) as made:
        if form == "csv":
            _write_csv(lines, kept, made, target, begin)
        else:
            _write_parquet(lines, kept, target, begin)
        target.flush()


def _write_csv(lines: BinaryIO, kept: IO[bytes], made: IO[bytes], target: BinaryIO, begin: Callable[[], None]) -> None:
    """Make the csv while the lines come, for the columns of the first block. If there are more, make it again for all of them."""
    table, names = CsvTable(made), dict[str, None]()
    for block in _blocks(lines):
        kept.write(block)
        names |= dict.fromkeys(table.add(block) if len(names) == len(table.names) else table.names_of(block))
    table.close()
    begin()
    if len(names) > len(table.names):
        kept.seek(0)
        table = CsvTable(target, in_order([*names]))
        for block in _blocks(kept):
            table.add(block)
        table.close()
    else:
        made.seek(0)
        shutil.copyfileobj(made, target)


def _write_parquet(lines: BinaryIO, kept: IO[bytes], target: BinaryIO, begin: Callable[[], None]) -> None:
    from engine.tasks.tables.parquet_table import Columns, tables, write_parquet  # csv does without this library

    columns = Columns()
    for table in tables(_each_kept(lines, kept)):
        columns.learn(table)
    kept.seek(0)
    begin()
    write_parquet(tables(kept), columns.types, target)


def _each_kept(lines: BinaryIO, kept: IO[bytes]) -> Iterator[bytes]:
    for line in lines:
        kept.write(line)
        yield line


def _blocks(lines: IO[bytes]) -> Iterator[bytes]:
    """Whole lines, in blocks of about BLOCK_BYTES."""
    rest: list[bytes] = []
    while data := lines.read(BLOCK_BYTES):
        head, end, tail = data.rpartition(LINE_END)
        if end:
            yield b"".join((*rest, head, end))
            rest = [tail]
        else:
            rest.append(tail)
    if last := b"".join(rest):
        yield last + LINE_END
