"""The task `ingest`: whole NDJSON lines of an upload become a typed Arrow file in its staging folder.

The first block decides the columns and their types. The file has the columns that its lines bring, by the number of each, and the
number of each row's line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.frames import LINE_END, Buffer, Header
from engine.tasks import codec
from engine.tasks.ingestion.columns import Converted, convert, spread
from engine.tasks.ingestion.inference import ANYTHING, inferred
from engine.tasks.ingestion.reading import Field, Records, read_records
from engine.tasks.ingestion.refusals import RefusedUpload, in_quotes
from engine.tasks.ingestion.schema import (
    MAX_COLUMNS,
    MAX_NAME_BYTES,
    KnownColumns,
    Options,
    UploadColumn,
    schema_from,
    schema_header,
)
from engine.tasks.query.segments import ColumnInfo

# Types come from this many rows; a column that is null in all of them looks at the rest of the first block.
SAMPLE_ROWS = 1000
MAX_ERRORS = 20
LINE_COLUMN = "line"

# A block may have this many cells, half a gigabyte of integers: a million bytes of short lines, with the fields of all together.
MAX_CELLS = 64_000_000

Fields = Mapping[str, Field]


@dataclass(slots=True)
class Faults:
    """What is wrong with the rows of one block: the first fault of each.

    by_row  row -> (name of the column, message)
    """

    by_row: dict[int, tuple[str, str]] = field(default_factory=dict)

    def note(self, row: int, name: str, message: str) -> None:
        self.by_row.setdefault(row, (name, f"{in_quotes(name)} {message}."))


def ingest(header: Header, payload: memoryview) -> tuple[Header, list[Buffer]]:
    """One block; the docstring of the family has header and answer. RefusedUpload."""
    options = Options.from_header(header["options"])
    read = read_records(bytes(payload), header["first_line"])
    faults = Faults()
    columns, values = _columns(header, options, read, faults)
    converted = _converted(columns, values, len(read.records), faults)
    if not options.skips_bad_rows:
        _refuse_bad_rows(faults, read)
    table = _kept(converted, read, faults)
    if not columns and table.num_rows:
        raise RefusedUpload("bad_row", "None of the first lines has a field.", line=read.lines[0])
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


def _columns(header: Header, options: Options, read: Records, faults: Faults) -> tuple[list[UploadColumn], Fields]:
    """The columns of the upload, which its first block decides, and the values that this block has for them. RefusedUpload."""
    if header["schema"] is not None:
        columns = schema_from(header["schema"])
        accepted = {column.info.name for column in columns}
        hint = "is not in the first lines of the body: name its type in `types=`"
        values = read.fields(accepted)
    else:
        known = KnownColumns(map(ColumnInfo.from_json, header["existing"]), options)
        accepted = known.accepted(read.names())
        hint = f"cannot be a column: a name has 1 to {MAX_NAME_BYTES} bytes, and a dataset at most {MAX_COLUMNS:,} columns"
        values = read.fields(accepted)
        columns = known.columns(values, _found(known, values))
    computed = {column.info.name: column.info.source for column in columns if column.info.source is not None}
    for row, name in read.strangers(accepted - computed.keys()):
        faults.note(row, name, f"is computed from {in_quotes(computed[name])}" if name in computed else hint)
    if len(values) * len(read.records) > MAX_CELLS:
        text = f"{len(read.records):,} short lines have {len(values):,} different fields together: send them with fewer fields."
        raise RefusedUpload("bad_row", text, line=read.lines[0])
    return columns, values


def _found(known: KnownColumns, values: Fields) -> dict[str, ColumnInfo]:
    """The columns that the rows bring and nobody asked for."""
    found: dict[str, ColumnInfo] = {}
    for name, one in values.items():
        if name not in known.existing and name not in known.asked:
            dtype, dim = inferred(one.first(SAMPLE_ROWS)) or inferred(one.values) or ANYTHING
            found[name] = ColumnInfo(0, name, dtype, dim)
    return found


def _converted(columns: list[UploadColumn], values: Fields, num_rows: int, faults: Faults) -> list[Converted]:
    """The columns that rows bring, as arrays; and what is wrong with rows, in `faults`."""
    converted = []
    for column in columns:
        if column.info.name in values and column.info.source is None:
            given, rows = values[column.info.name]
            one = convert(column, given)
            one = one if rows is None else spread(one, rows, num_rows)
            for row, reason in one.faults.items():
                faults.note(row, column.info.name, reason)
            converted.append(one)
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
            given = table[source.field].drop_null().to_pylist() if source.field in table.column_names else []
            lines = [codec.dumps(text) + LINE_END for text in given]
            pieces.append(b"".join(lines))
            told = {"column": info.number, "source": source.number, "model": info.model, "dim": info.dim}
            if lines:
                texts.append({**told, "lines": len(lines), "size": len(pieces[-1])})
    return texts, pieces
