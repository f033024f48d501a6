"""The task `ingest`: whole NDJSON lines of an upload become a typed Arrow file in its staging folder.

The first block decides the columns and their types. What it writes has the columns of the schema by number, without those that are
computed, and the number of each row's line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.frames import LINE_END, Buffer, Header
from engine.tasks import codec
from engine.tasks.ingestion.columns import Converted, convert
from engine.tasks.ingestion.inference import ANYTHING, inferred
from engine.tasks.ingestion.reading import Records, fields, read_records
from engine.tasks.ingestion.refusals import RefusedUpload, quoted
from engine.tasks.ingestion.schema import (
    MAX_COLUMNS,
    Options,
    Plan,
    UploadColumn,
    column_info,
    name_fault,
    schema_from,
    schema_header,
)
from engine.tasks.query.segments import ColumnInfo

# Types come from this many rows; a column that is null in all of them looks at the rest of the first block.
SAMPLE_ROWS = 1000
MAX_ERRORS = 20
LINE_COLUMN = "line"

Fields = Mapping[str, Sequence[Any]]


@dataclass(slots=True)
class Faults:
    """What is wrong with the rows of one block: the first fault of each.

    by_row  row -> (name of the column, message)
    """

    by_row: dict[int, tuple[str, str]] = field(default_factory=dict)

    def note(self, row: int, name: str, message: str) -> None:
        self.by_row.setdefault(row, (name, f"{quoted(name)} {message}."))


def ingest(header: Header, payload: memoryview) -> tuple[Header, list[Buffer]]:
    """One block; the docstring of the family has header and answer. RefusedUpload."""
    options = Options.from_header(header["options"])
    read = read_records(bytes(payload), header["first_line"])
    values = fields(read.records)
    faults = Faults()
    if header["schema"] is None:
        columns = _decided(Plan(map(column_info, header["existing"]), options), values, faults)
    else:
        columns = schema_from(header["schema"])
    converted = _converted(columns, values, len(read.records), faults)
    if not options.skips_bad_rows:
        _refuse_bad_rows(faults, read)
    table = _kept(converted, read, faults)
    _write(staged_path(Path(header["staging"]), header["number"]), table)
    texts, pieces = _texts(columns, table)
    errors = _errors(faults, read)
    told: Header = {
        "schema": schema_header(_final(columns, converted)),
        "rows": table.num_rows,
        "skipped": len(errors),
        "errors": errors[:MAX_ERRORS],
        "texts": texts,
    }
    return told, pieces


def staged_path(staging: Path, number: int) -> Path:
    return staging / f"{number}.arrow"


# Columns


def _decided(plan: Plan, values: Fields, faults: Faults) -> list[UploadColumn]:
    """The columns of an upload, by its first block. Rows with columns that cannot be are faults."""
    found: dict[str, ColumnInfo] = {}
    room = MAX_COLUMNS - len(plan.existing.keys() | plan.asked.keys())
    for name, column in values.items():
        if name in plan.existing or name in plan.asked:
            continue
        fault = name_fault(name)
        if fault is None and len(found) == room:
            fault = f"a dataset has at most {MAX_COLUMNS:,} columns"
        if fault is None:
            dtype, dim = inferred(column[:SAMPLE_ROWS]) or inferred(column[SAMPLE_ROWS:]) or ANYTHING
            found[name] = ColumnInfo(0, name, dtype, dim)
        else:
            _note_values(faults, name, column, f"cannot be a column: {fault}")
    return plan.columns(found)


def _note_values(faults: Faults, name: str, column: Sequence[Any], message: str) -> None:
    """Every row that has a value here is at fault."""
    for row, value in enumerate(column):
        if value is not None:
            faults.note(row, name, message)


def _converted(columns: list[UploadColumn], values: Fields, num_rows: int, faults: Faults) -> list[Converted]:
    """The columns that rows bring, as arrays; and what is wrong with rows, in `faults`."""
    converted = []
    missing = (None,) * num_rows
    for column in columns:
        name = column.info.name
        if column.info.source is not None:
            _note_values(faults, name, values.get(name, ()), f"is computed from {quoted(column.info.source)}")
            continue
        one = convert(column, values.get(name, missing))
        for row, reason in one.faults.items():
            faults.note(row, name, reason)
        converted.append(one)
    for name in values.keys() - {column.info.name for column in columns}:
        hint = "is not in the first lines of the body: name its type in `types=`"
        _note_values(faults, name, values[name], hint)
    return converted


def _final(columns: list[UploadColumn], converted: list[Converted]) -> list[UploadColumn]:
    """The columns with the types that they have now."""
    by_number = {one.column.info.number: one.column for one in converted}
    return [by_number.get(column.info.number, column) for column in columns]


# Bad rows


def _refuse_bad_rows(faults: Faults, read: Records) -> None:
    """RefusedUpload for the first bad line, if there is one."""
    bad: dict[int, tuple[str | None, str]] = {read.lines[row]: fault for row, fault in faults.by_row.items()}
    bad |= {line: (None, message) for line, message in read.faults.items()}
    if bad:
        line = min(bad)
        name, message = bad[line]
        raise RefusedUpload("bad_row", message, line=line, column=name)


def _errors(faults: Faults, read: Records) -> list[Header]:
    """Every line that was skipped, in order."""
    told = {read.lines[row]: message for row, (_, message) in faults.by_row.items()} | read.faults
    return [{"line": line, "message": told[line]} for line in sorted(told)]


def _kept(converted: list[Converted], read: Records, faults: Faults) -> pa.Table:
    """The good rows, in order."""
    arrays = [one.array for one in converted]
    names = [one.column.info.field for one in converted]
    table = pa.table([*arrays, pa.array(np.asarray(read.lines, np.int64))], [*names, LINE_COLUMN])
    if not faults.by_row:
        return table
    is_good = np.ones(table.num_rows, bool)
    is_good[list(faults.by_row)] = False
    return table.filter(pa.array(is_good))


# What goes out


def _write(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _texts(columns: list[UploadColumn], table: pa.Table) -> tuple[list[Header], list[Buffer]]:
    """The texts that are to be embedded: their description, and their lines."""
    by_name = {column.info.name: column.info for column in columns}
    texts: list[Header] = []
    pieces: list[Buffer] = []
    for info in by_name.values():
        if info.source is not None:
            source = by_name[info.source]
            lines = [codec.dumps(text) + LINE_END for text in table[source.field].drop_null().to_pylist()]
            pieces.append(b"".join(lines))
            told = {"column": info.number, "source": source.number, "model": info.model, "dim": info.dim}
            texts.append({**told, "lines": len(lines), "size": len(pieces[-1])})
    return texts, pieces
