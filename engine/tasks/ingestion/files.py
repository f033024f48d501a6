"""The task `lines`: a file of a person (csv, tsv, JSON lines, Parquet) becomes NDJSON lines, part by part.

Knows nothing of datasets: the lines go through the calls that everybody uses.
"""

import contextlib
import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from engine.frames import LINE_END, Buffer, Header
from engine.tasks import codec

PART_BYTES = 1024 * 1024
PARQUET_ROWS = 1024
# A column without a value in so many rows may have none in the first block of an upload, which decides the types: a block has 1,000
# rows, or fewer large ones.
EARLY_ROWS = 32
# Types of a csv column: the first whose pattern every cell has. A number with a leading zero, such as a postal code, is a text, and
# so is an integer of more digits than 64 bits hold.
_CSV_TYPES = {
    "int64": r"^(-?(0|[1-9][0-9]{0,18}))$",
    "float64": r"^(-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?)$",
    "bool": r"^(true|false|True|False|TRUE|FALSE)$",
    "string": "",
}
# What a string in JSON must not hold as it is.
ESCAPED = r'["\\\x00-\x1f]'


class Unreadable(Exception):
    """The file cannot be read; says why in one line."""


class Part(NamedTuple):
    """Some lines, and the share of the file that is read, from 0 to 1."""

    lines: bytes
    num_rows: int
    done: float


class Types(NamedTuple):
    """What a file knows of its columns and lines of JSON do not tell, as types of an upload by name.

    needed  JSON has no such values
    late    the first rows have no value, so that they would not show the type
    """

    needed: dict[str, str]
    late: dict[str, str]


Reading = tuple[Types, Iterator[Part]]


class FileLines:
    """The file that this process turns into lines."""

    def __init__(self) -> None:
        self._source: str | None = None
        self._parts: Iterator[Part] = iter(())
        self._types = Types({}, {})
        self._next: Part | None = None

    def answer(self, header: Header) -> tuple[Header, list[Buffer]]:
        """The docstring of the family has header and answer."""
        try:
            if header["part"] == 0:
                self._open(Path(header["source"]))
            part, self._next = self._next, next(self._parts, None)
        except Unreadable as unreadable:
            return {"refused": str(unreadable)}, []
        except (OSError, ValueError, EOFError, OverflowError, zlib.error) as error:  # pa.ArrowInvalid is a ValueError
            return {"refused": f"the file cannot be read: {_reason(error)}"}, []
        part = part or Part(b"", 0, 1.0)
        told: Header = {"is_last": self._next is None, "rows": part.num_rows, "done": part.done}
        told |= {"types": self._types.needed, "late_types": self._types.late}
        return told, [part.lines]

    def _open(self, path: Path) -> None:
        name = path.name.lower().removesuffix(".gz")
        reader = next((reader for suffix, reader in _READERS.items() if name.endswith(suffix)), None)
        if reader is None:
            raise Unreadable(f"the name ends in none of {' '.join(_READERS)}, each also with .gz")
        self._types, self._parts = reader(path)
        self._next = next(self._parts, None)


def _reason(error: Exception) -> str:
    """What a library says, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[: codec.MAX_REASON_CHARACTERS] or type(error).__name__


class _Counted:
    """An open file, unpacked as it is read, and how much of what is on the disk has been read."""

    def __init__(self, file: BinaryIO, raw: BinaryIO) -> None:
        self.file = file
        self._raw = raw
        self._size = max(1, os.fstat(raw.fileno()).st_size)

    @property
    def done(self) -> float:
        return min(1.0, self._raw.tell() / self._size)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Counted]:
    with open(path, "rb") as raw:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield _Counted(cast(BinaryIO, unpacked), raw)
        else:
            yield _Counted(raw, raw)


def _json_lines(path: Path) -> Reading:
    return Types({}, {}), _line_parts(path)


def _line_parts(path: Path) -> Iterator[Part]:
    """The lines as they are, the last one with its newline."""
    rest = b""
    with _opened(path) as opened:
        while data := opened.file.read(PART_BYTES):
            head, end, tail = data.rpartition(LINE_END)
            if end:
                lines, rest = rest + head + end, tail
                yield Part(lines, lines.count(LINE_END), opened.done)
            else:
                rest += data
    if rest:
        yield Part(rest + LINE_END, 1, 1.0)


# Tables of text


def _csv(path: Path) -> Reading:
    return _separated(path, ",")


def _tsv(path: Path) -> Reading:
    return _separated(path, "\t")


def _separated(path: Path, separator: str) -> Reading:
    """Two passes: the types must hold for the whole file."""
    types: dict[str, list[str]] = {}
    for batch, _ in _batches_of_text(path, separator):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            left = types.setdefault(name, [*_CSV_TYPES])
            types[name] = [word for word in left if _all_are(column, word)]
    found = {name: left[0] for name, left in types.items()}
    return Types({}, {}), _csv_parts(_batches_of_text(path, separator), found)


def _all_are(cells: pa.Array, word: str) -> bool:
    pattern = _CSV_TYPES[word]
    if pattern and pc.all(pc.match_substring_regex(cells, pattern)).as_py() is False:
        return False
    try:
        return word != "int64" or len(cells.cast(pa.int64())) == len(cells)
    except pa.ArrowInvalid:  # more than 64 bits
        return False


def _batches_of_text(path: Path, separator: str) -> Iterator[tuple[pa.RecordBatch, float]]:
    """Every cell as a string, an empty one without quotes as null."""
    parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(_csv_names(path, parse), pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    read = pa.csv.ReadOptions(block_size=PART_BYTES, use_threads=False)
    with _opened(path) as opened, pa.csv.open_csv(opened.file, read, parse, convert) as reader:
        for batch in reader:
            yield batch, opened.done


def _csv_names(path: Path, parse: pa.csv.ParseOptions) -> list[str]:
    """The names of the first line. Unreadable."""
    with _opened(path) as opened, pa.csv.open_csv(opened.file, parse_options=parse) as reader:
        names: list[str] = reader.schema.names
    if len(set(names)) < len(names):
        raise Unreadable("two columns have the same name")
    return names


def _csv_parts(batches: Iterator[tuple[pa.RecordBatch, float]], types: dict[str, str]) -> Iterator[Part]:
    for batch, done in batches:
        pieces: list[pa.Array | str] = []
        for name, word in types.items():
            pieces += [("," if pieces else "{") + codec.dumps(name).decode() + ":", _as_json(batch.column(name), word)]
        yield Part(_joined(pieces, batch.num_rows), batch.num_rows, done)


def _joined(pieces: list[pa.Array | str], num_rows: int) -> bytes:
    """Lines that are made of what all have and of a cell of each column, in order."""
    if not pieces or not num_rows:
        return b"{}\n" * num_rows
    lines = pc.binary_join_element_wise(*pieces, "}\n", "")
    return b"".join(lines.cast(pa.binary()).to_pylist())


def _as_json(cells: pa.Array, word: str) -> pa.Array:
    """The JSON text of each cell. A float has a point or an exponent, so that a reader of few lines takes it for one."""
    casts: dict[str, Callable[[pa.Array], pa.Array]] = {
        "int64": lambda texts: texts,
        "float64": lambda texts: pc.if_else(
            pc.match_substring_regex(texts, "[.eE]"), texts, pc.binary_join_element_wise(texts, "0", ".")
        ),
        "bool": pc.utf8_lower,
        "string": _quoted,
    }
    texts = casts[word](cells)
    return texts.fill_null("null") if texts.null_count else texts


def _quoted(texts: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(texts, ESCAPED)).as_py():
        return pa.array([None if text is None else codec.dumps(text).decode() for text in texts.to_pylist()], pa.string())
    return pc.binary_join_element_wise('"', texts, '"', "")


# Parquet


def _parquet(path: Path) -> Reading:
    file = pq.ParquetFile(str(path))
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        raise Unreadable("two columns have the same name")
    needed = {field.name: word for field in file.schema_arrow if (word := _needed_type(field.type))}
    return Types(needed, _late_types(path)), _parquet_parts(file)


def _late_types(path: Path) -> dict[str, str]:
    """The types of the columns whose first rows are null."""
    with pq.ParquetFile(str(path)) as file:
        first = next(file.iter_batches(EARLY_ROWS, use_threads=False), None)
        known = {field.name: word for field in file.schema_arrow if (word := _plain_type(field.type))}
    if first is None:
        return known
    is_null = {name: pc.all(pc.is_null(first[name], nan_is_null=True)).as_py() for name in known}
    return {name: word for name, word in known.items() if is_null[name]}


def _plain_type(kind: pa.DataType) -> str | None:
    """The type of an upload whose values have this type in JSON as well; None for all others. 64 bits hold no uint64."""
    if pa.types.is_integer(kind):
        return None if pa.types.is_uint64(kind) else "int64"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _plain_type(kind.value_type)
        return f"list<{item}>" if item and not item.startswith("list") else None
    words = {"float64": pa.types.is_floating, "bool": pa.types.is_boolean, "string": _is_text}
    return next((word for word, is_one in words.items() if is_one(kind)), None)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _needed_type(kind: pa.DataType) -> str | None:
    """The type that an upload must ask for, because JSON has no such values; None for all others."""
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_date(kind):
        return "date"
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return "bytes" if is_bytes else None


def _parquet_parts(file: pq.ParquetFile) -> Iterator[Part]:
    num_rows = 0
    with file:
        for batch in file.iter_batches(PARQUET_ROWS, use_threads=False):
            num_rows += batch.num_rows
            yield _part(pa.table(batch), num_rows / max(1, file.metadata.num_rows))


def _part(table: pa.Table, done: float) -> Part:
    """Rows as lines."""
    columns = [column.to_pylist() for column in map(_readable, table.columns)]
    lines = codec.encode_table_lines(table.column_names, columns)
    return Part(lines, table.num_rows, done)


def _readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Instants in UTC with microseconds, which is what Python holds."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us"), safe=False)
    return column


_READERS: dict[str, Callable[[Path], Reading]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
