"""Results: the rows of a query as the body of an answer: JSON, lines of JSON, a stream of Arrow, or the table of the workspace API.

Rows are encoded in parts of a few MB, so that a large result is never held in several forms at once. Knows no HTTP, no SQL and no
dataset; how a single value is written stands in values.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.tasks import codec
from engine.tasks.query.output import OutputColumn, Result
from engine.tasks.query.refusals import Refused
from engine.tasks.query.values import ClassLabels, arrow_type, arrow_values, json_values

MESSAGE = "Query successful."
PLANNED = "Query planned."
# A piece of a streamed answer travels in one frame of at most 1 MiB; the room that is left takes an error line.
PIECE_BYTES = 1024 * 1024 - 4096
# About how much of a record batch is encoded at once. As Python values and JSON it takes several times as much.
PART_BYTES = 4 * 1024 * 1024
MAX_BATCH_ROWS = 8192
# Source: the encapsulated message format of Arrow IPC; a continuation without a message ends a stream.
ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
TOO_LARGE_HINT = "add LIMIT or ask for application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer in one piece may have at most."""

    rows: int
    bytes: int


# Whole answers


def encode_json(result: Result, *, as_list: bool, class_labels: ClassLabels, limits: Limits) -> tuple[int, bytes]:
    """The number of rows, and the body with `message`, `tensors` and `data`. Refused above a limit."""
    names = [column.name for column in result.columns]
    encode = _objects if as_list else _columns
    num_rows, data = encode(result, class_labels, limits)
    return num_rows, b'{"message":%b,"tensors":%b,"data":%b}' % (codec.dumps(MESSAGE), codec.dumps(names), data)


def table(result: Result, *, class_labels: ClassLabels = "names", limits: Limits) -> tuple[int, bytes]:
    """The number of rows, and the body with `columns`, `rows` and `row_count`. Refused above a limit."""
    body = _Body(limits)
    for columns in _parts(result, class_labels, limits.rows):
        body.add(0, list(zip(*columns, strict=True)))
    names = codec.dumps([column.name for column in result.columns])
    return body.num_rows, b'{"columns":%b,"rows":[%b],"row_count":%d}' % (names, body.joined(0), body.num_rows)


def explanation(plan: list[dict[str, Any]], warnings: list[str]) -> bytes:
    """The body that answers `explain`."""
    return codec.dumps({"message": PLANNED, "plan": plan, "warnings": warnings})


class _Body:
    """JSON arrays without their brackets, in growing parts, within the limits."""

    def __init__(self, limits: Limits, num_arrays: int = 1) -> None:
        self.num_rows = 0
        self._limits = limits
        self._num_bytes = 0
        self._arrays: list[list[bytes]] = [[] for _ in range(num_arrays)]

    def add(self, index: int, values: list[Any]) -> None:
        """Append values to one array; the first array counts the rows."""
        text = codec.dumps(values)[1:-1]
        self._num_bytes += len(text)
        if self._num_bytes > self._limits.bytes:
            raise Refused("result_too_large", f"The result has more than {self._limits.bytes:,} bytes.", hint=TOO_LARGE_HINT)
        self.num_rows += len(values) if index == 0 else 0
        self._arrays[index].append(text)

    def joined(self, index: int) -> bytes:
        return b",".join(self._arrays[index])


def _objects(result: Result, class_labels: ClassLabels, limits: Limits) -> tuple[int, bytes]:
    body = _Body(limits)
    for columns in _parts(result, class_labels, limits.rows):
        body.add(0, _records(result.columns, columns))
    return body.num_rows, b"[%b]" % body.joined(0)


def _columns(result: Result, class_labels: ClassLabels, limits: Limits) -> tuple[int, bytes]:
    body = _Body(limits, len(result.columns))
    for columns in _parts(result, class_labels, limits.rows):
        for i, values in enumerate(columns):
            body.add(i, values)
    texts = [b"%b:[%b]" % (codec.dumps(column.name), body.joined(i)) for i, column in enumerate(result.columns)]
    return body.num_rows, b"{%b}" % b",".join(texts)


def _records(columns: tuple[OutputColumn, ...], values: list[list[Any]]) -> list[dict[str, Any]]:
    names = [column.name for column in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


# Streams


class RowLines(Iterator[bytes]):
    """Pieces of NDJSON: a line for each row, then a line with the status.

    A Refused before the first piece is raised. After it the error line is the end of the last piece, and `refused` tells why; the
    answer is then cut. For any other exception of the rows, `failed` gives the last piece.
    """

    def __init__(self, result: Result, *, class_labels: ClassLabels, max_rows: int, elapsed_ms: Callable[[], float]) -> None:
        self.num_rows = 0
        self.refused: Refused | None = None
        self._result = result
        self._elapsed_ms = elapsed_ms
        self._pieces = _Pieces()
        self._run = self._steps(class_labels, max_rows)

    def __next__(self) -> bytes:
        return next(self._run)

    def failed(self, code: str, message: str) -> bytes:
        """The lines that were not given out yet, and the error line."""
        error = {"status": "error", "code": code, "message": message, "rows": self.num_rows}
        return self._pieces.rest() + codec.encode_lines([error])

    def _steps(self, class_labels: ClassLabels, max_rows: int) -> Iterator[bytes]:
        is_started = False
        try:
            for columns in _parts(self._result, class_labels, max_rows):
                lines = codec.encode_lines(_records(self._result.columns, columns))
                self.num_rows += len(columns[0])
                for piece in self._pieces.add(lines):
                    is_started = True
                    yield piece
        except Refused as refused:
            if not is_started:
                raise
            self.refused = refused
            yield self.failed(refused.code, refused.message)
            return
        yield from self._pieces.add(codec.encode_lines([self._status()]))
        yield self._pieces.rest()

    def _status(self) -> dict[str, Any]:
        names = [column.name for column in self._result.columns]
        return {"status": "ok", "rows": self.num_rows, "tensors": names, "query_ms": round(self._elapsed_ms(), 1)}


def ndjson(result: Result, *, class_labels: ClassLabels, max_rows: int, elapsed_ms: Callable[[], float]) -> RowLines:
    """The pieces of an NDJSON answer, of at most 1 MiB each. `elapsed_ms` is asked at the end."""
    return RowLines(result, class_labels=class_labels, max_rows=max_rows, elapsed_ms=elapsed_ms)


def arrow(result: Result, *, class_labels: ClassLabels, max_rows: int) -> Iterator[bytes]:
    """The pieces of an Arrow IPC stream, of at most 1 MiB each. What the rows raise is raised here: the stream has no end then."""
    fields = [pa.field(column.name, arrow_type(column, class_labels)) for column in result.columns]
    schema = pa.schema(fields, metadata={"message": MESSAGE})
    pieces = _Pieces()
    yield from pieces.add(schema.serialize())
    for batch in _limited(result.batches, max_rows):
        columns = [arrow_values(array, column, class_labels) for array, column in zip(batch.columns, result.columns, strict=True)]
        yield from pieces.add(pa.record_batch(columns, schema=schema).serialize())
    yield from pieces.add(ARROW_END)
    yield pieces.rest()


class _Pieces:
    """Bytes cut into pieces of PIECE_BYTES."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def add(self, data: bytes | pa.Buffer) -> Iterator[bytes]:
        """Take more bytes; the pieces that are full now."""
        self._pending += memoryview(data)
        while len(self._pending) >= PIECE_BYTES:
            piece = bytes(memoryview(self._pending)[:PIECE_BYTES])
            del self._pending[:PIECE_BYTES]
            yield piece

    def rest(self) -> bytes:
        """What is left, less than a piece."""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest


# Parts of the rows


def _parts(result: Result, class_labels: ClassLabels, max_rows: int) -> Iterator[list[list[Any]]]:
    """The values of each column, for a few rows at a time. Refused after `max_rows` rows, if there are more."""
    for batch in _limited(result.batches, max_rows):
        yield [json_values(array, column, class_labels) for array, column in zip(batch.columns, result.columns, strict=True)]


def _limited(batches: Iterator[pa.RecordBatch], max_rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of about PART_BYTES and at most MAX_BATCH_ROWS rows, without empty ones. Refused after `max_rows` rows."""
    rows_left = max_rows
    for batch in batches:
        allowed = batch.slice(0, rows_left)
        size = max(1, min(MAX_BATCH_ROWS, allowed.num_rows * PART_BYTES // max(allowed.nbytes, PART_BYTES)))
        for start in range(0, allowed.num_rows, size):
            yield allowed.slice(start, size)
        rows_left -= allowed.num_rows
        if batch.num_rows > allowed.num_rows:
            raise Refused("result_too_large", f"The result has more than {max_rows:,} rows.", hint=TOO_LARGE_HINT)
