"""The task `cut`: one large record batch becomes record batches of a size that suits the model, with the columns that it reads."""

from collections.abc import Iterator

import pyarrow as pa

from engine.frames import Buffer, Header
from engine.tasks.arrow.reading import BadArrow, TooMuch, aligned, plain_rows, read_rows, shortened
from engine.tasks.families import Reply
from engine.tasks.stages import Stages

# The pieces of one answer have at most about so much; the server asks again for the rows that are left.
ANSWER_BYTES = 64 * 1024 * 1024


def cut_batch(header: Header, payload: memoryview) -> Reply:
    """Answer one frame: an Arrow stream of one record batch.

    header   fields: the columns that the model reads; skip: rows that are not wanted any more; piece_rows: rows of a piece at most;
             row_limit_bytes
    returns  in the part: `pieces`, the sizes of a schema and of the record batches behind it, and `rows` of each; or `refused`
    """
    stages = Stages()
    try:
        rows = shortened(read_rows(aligned(payload), header["fields"], header["skip"], None), header["row_limit_bytes"])
        schema, pieces, counts = b"", [], []
        for piece in _pieces(rows, header["piece_rows"]):
            schema = schema or piece.schema.serialize()
            pieces.append(memoryview(piece.serialize()))
            counts.append(piece.num_rows)
            if sum(map(len, pieces)) > ANSWER_BYTES:
                break
    except BadArrow as error:
        return answer(stages, {"refused": str(error)})
    payloads: list[Buffer] = [memoryview(schema), *pieces]
    return answer(stages, {"pieces": list(map(len, payloads)), "rows": counts}, payloads)


def answer(stages: Stages, part: Header, payloads: list[Buffer] | None = None) -> Reply:
    """An answer that has neither results nor errors."""
    stages.ended("parse")
    payloads = payloads or []
    part["size"] = sum(map(len, payloads))
    return {"results": 0, "errors": 0, **stages.report(), "parts": [part]}, payloads


def _pieces(rows: pa.RecordBatch, piece_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows in parts. A part whose rows have too much in their columns is halved."""
    start = 0
    while start < rows.num_rows:
        part = rows.slice(start, piece_rows)
        try:
            piece = plain_rows(part)
        except TooMuch:
            piece_rows = part.num_rows // 2
            continue
        yield piece
        start += piece.num_rows
