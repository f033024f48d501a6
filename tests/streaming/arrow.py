"""Arrow streams for tests: tables as bodies, answers as rows, and a request that carries the one and brings the other."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from tests.clients import Curled, bulk
from tests.serving import Server

ARROW = "application/vnd.apache.arrow.stream"
END = b"\xff\xff\xff\xff\0\0\0\0"


def body_of(table: pa.Table, rows_of_a_batch: int | None = None, compression: str | None = None) -> bytes:
    """The table as a stream, as pyarrow writes it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=rows_of_a_batch)
    return sink.getvalue().to_pybytes()


def send(server: Server, model: str, body: bytes, query: str = "", *arguments: str) -> Curled:
    return bulk(server, model, body, query, "-H", f"Content-Type: {ARROW}", *arguments)


def answered(server: Server, model: str, table: pa.Table, query: str = "&ordered=true", **how: Any) -> pa.Table:
    """The table of a clean answer."""
    done = send(server, model, body_of(table, **how), query)
    assert (done.code, done.status) == (0, 200), (done.trace, done.body[:300])
    return table_of(done.body)


def table_of(body: bytes) -> pa.Table:
    """A whole answer: it must end as streams do."""
    assert body.endswith(END)
    return pa.ipc.open_stream(body).read_all()


def batches_of(body: bytes) -> Iterable[tuple[pa.RecordBatch, dict[str, str]]]:
    """The record batches of an answer with their metadata."""
    reader = pa.ipc.open_stream(body)
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            return
        yield batch, {key.decode(): value.decode() for key, value in (metadata or {}).items()}


def flowers(count: int, **columns: pa.Array) -> pa.Table:
    """Records of iris with the ids 0, 1, 2, ..."""
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    measures = {name: pa.array([(i * (k + 3) % 70) / 10 + 0.1 for i in range(count)]) for k, name in enumerate(names)}
    return pa.table(measures | {"yhat_id": pa.array(range(count), pa.int64())} | columns)
