"""Segments: the stored rows of a dataset, as a query reads them. Immutable files, mapped read-only.

A segment is a folder. `rows.parquet` is the truth; the sidecars beside it are what queries read and can be made again from it:

    payload.arrow  Arrow IPC file, uncompressed, record batches of at most PAYLOAD_ROWS rows, fewer where cells are large; every
                   column that is no vector, named `c<i>`
    c<i>.f32       float32 [rows, dim] of a vector column, C order; a null is a row of zeros
    c<i>.norm      float32 [rows], the Euclidean norms: 0 for a zero vector, NaN for a null
    c<i>.words     the word index of a text column (words.py)

`i` is the number of a column in its dataset, from 0. Columns are only ever added, so a number keeps its meaning. A segment that is
older than a column does not have it: its rows are null there. Knows no text of a query.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from engine.columns import Column

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Sidecar = TypeVar("Sidecar")

PAYLOAD = "payload.arrow"
ROWS = "rows.parquet"
# Taking rows out of a text column joins all batches it touches, so batches are small.
PAYLOAD_ROWS = 8192

# Type of a column -> Arrow type of its payload. A list has the type of its items: `list<float64>`. JSON is kept as its text, and a
# class label as its index in the names of the column.
ARROW_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "json": pa.string(),
    "class": pa.int64(),
}


@dataclass(frozen=True, slots=True)
class ColumnInfo(Column):
    """One column of a dataset, and how segments store it. dtype: a key of ARROW_TYPES, `list<T>` of one of them, or `vector`."""

    @property
    def field(self) -> str:
        """Name of the column in the payload, and of its sidecars."""
        return f"c{self.number}"

    @property
    def arrow_type(self) -> pa.DataType:
        """Type of the payload; a vector is not in the payload, but leaves a query as this type."""
        if self.dtype == "vector":
            return pa.list_(pa.float32(), self.dim)
        if self.dtype.startswith("list<"):
            return pa.list_(ARROW_TYPES[self.dtype[5:-1]])
        return ARROW_TYPES[self.dtype]


class Segment:
    """One segment, with its files mapped as they are asked for."""

    def __init__(self, folder: Path, num_rows: int) -> None:
        self.folder = folder
        self.num_rows = num_rows
        self._vectors: dict[int, tuple[Vectors, Vectors]] = {}
        self._sidecars: dict[str, Any] = {}

    @cached_property
    def payload(self) -> pa.Table:
        """All columns but the vectors, as they are in the file; nothing is read before it is used."""
        with pa.memory_map(str(self.folder / PAYLOAD)) as source:
            return pa.ipc.open_file(source).read_all()

    def sidecar(self, name: str, opening: Callable[[Path], Sidecar]) -> Sidecar | None:
        """What `opening` makes of one of the other files, once; None if the segment is older than its column."""
        path = self.folder / name
        if name not in self._sidecars:
            self._sidecars[name] = opening(path) if path.exists() else None
        found: Sidecar | None = self._sidecars[name]
        return found

    def vectors(self, column: ColumnInfo) -> tuple[Vectors, Vectors]:
        """float32 [rows, dim] and the norms float32 [rows]; zeros and NaN where the segment is older than the column."""
        if column.number not in self._vectors:
            self._vectors[column.number] = self._mapped(column)
        return self._vectors[column.number]

    def _mapped(self, column: ColumnInfo) -> tuple[Vectors, Vectors]:
        path = self.folder / f"{column.field}.f32"
        if not path.exists():
            absent = np.broadcast_to(np.float32(0), (self.num_rows, column.dim))
            return absent, np.full(self.num_rows, np.nan, dtype=np.float32)
        vectors = _map_floats(path).reshape(self.num_rows, column.dim)
        return vectors, _map_floats(self.folder / f"{column.field}.norm")


def _map_floats(path: Path) -> Vectors:
    """A file of float32, mapped read-only. np.memmap would keep a descriptor for each file."""
    if not path.stat().st_size:
        return np.empty(0, dtype=np.float32)
    with pa.memory_map(str(path)) as source:
        return np.frombuffer(source.read_buffer(), dtype=np.float32)


class Source:
    """The rows of one dataset that a query may read: a part of the segments of one version, in order.

    title     `org/name@version`, for plans and headers
    columns   of the dataset, in order
    segments  in order; the row number counts through them from 0
    starts    int64 [segments + 1]: the row number where each segment begins, and the number of rows
    """

    def __init__(self, title: str, columns: tuple[ColumnInfo, ...], segments: tuple[Segment, ...]) -> None:
        self.title = title
        self.columns = columns
        self.segments = segments
        self.starts = np.cumsum([0, *(segment.num_rows for segment in segments)], dtype=np.int64)

    @property
    def num_rows(self) -> int:
        return int(self.starts[-1])

    def column(self, name: str) -> ColumnInfo | None:
        return next((column for column in self.columns if column.name == name), None)

    @cached_property
    def table(self) -> pa.Table:
        """Columns `c<i>` of all segments, vectors left out, in the types of the columns; null where a segment lacks a column."""
        schema = pa.schema([(column.field, column.arrow_type) for column in self.columns if column.dtype != "vector"])
        if not self.segments or not len(schema):
            return schema.empty_table() if len(schema) else pa.table({})
        return pa.concat_tables([_with_columns(segment.payload, schema) for segment in self.segments])

    def vectors(self, column: ColumnInfo) -> list[tuple[Vectors, Vectors]]:
        """For each segment its vectors float32 [rows, dim] and their norms float32 [rows]."""
        return [segment.vectors(column) for segment in self.segments]

    @classmethod
    def granted(cls, grant: dict[str, Any]) -> "Source":
        """The source that the header of a query block grants: `title`, `folder`, `columns` and `segments` ({"id", "rows"} each)."""
        folder = Path(grant["folder"])
        columns = tuple(map(ColumnInfo.from_json, grant["columns"]))
        return cls(grant["title"], columns, tuple(Segment(folder / one["id"], one["rows"]) for one in grant["segments"]))


def _with_columns(payload: pa.Table, schema: pa.Schema) -> pa.Table:
    """The payload with exactly these columns; a missing one is null."""
    names = set(payload.column_names)
    columns = [payload.column(field.name) if field.name in names else pa.nulls(payload.num_rows, field.type) for field in schema]
    return pa.table(columns, schema=schema)
