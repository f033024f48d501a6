"""The heads of messages: what pyarrow writes is read as it is, and whatever else stands there raises BadMessage alone."""

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.streaming.arrow_messages import PREFIX, BadMessage, MessageKind, decoded_bytes, read_head

TABLE = pa.table({"number": [1.5, 2.5, None], "text": pa.array(["a", "b", "a"]).dictionary_encode()})


def messages(compression: str | None = None) -> list[tuple[bytes, bytes]]:
    """The metadata and the body of each message of a small stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(TABLE)
    data, found, position = sink.getvalue().to_pybytes(), [], 0
    while size := PREFIX.unpack_from(data, position)[1]:
        metadata = data[position + PREFIX.size : position + PREFIX.size + size]
        position += PREFIX.size + size
        body = data[position : position + read_head(metadata).body_bytes]
        position += len(body)
        found.append((metadata, body))
    return found


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_heads_are_read_as_pyarrow_wrote_them(compression: str | None) -> None:
    heads = [(read_head(metadata), body) for metadata, body in messages(compression)]
    assert [head.kind for head, _ in heads] == [MessageKind.SCHEMA, MessageKind.DICTIONARY, MessageKind.RECORDS]
    (_, _), (dictionary, values), (records, body) = heads
    assert (records.num_rows, dictionary.num_rows) == (3, 0)
    assert (dictionary.dictionary, dictionary.is_delta) == (0, False)
    assert records.is_compressed == (compression is not None)
    plain = [read_head(metadata) for metadata, _ in messages()]
    assert decoded_bytes(records, body) == sum(length for _, length in plain[2].buffers)
    assert decoded_bytes(dictionary, values) == sum(length for _, length in plain[1].buffers)


@given(data=st.data())
def test_damaged_metadata_raise_nothing_else(data: st.DataObject) -> None:
    metadata, body = data.draw(st.sampled_from([*messages(), *messages("zstd")]))
    damaged = bytearray(metadata)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadMessage):
        head = read_head(bytes(damaged))
        assert 0 <= head.body_bytes < 2**63
        if head.body_bytes == len(body):
            assert decoded_bytes(head, body) >= 0


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(metadata: bytes) -> None:
    with contextlib.suppress(BadMessage):
        read_head(metadata)


def test_a_message_of_very_many_buffers_is_refused() -> None:
    schema = pa.schema([(str(i), pa.int8()) for i in range(9000)])
    batch = pa.record_batch([pa.array([1], pa.int8())] * 9000, schema=schema)
    with pytest.raises(BadMessage, match="more than 16,384 buffers"):
        read_head(batch.serialize().to_pybytes()[PREFIX.size :])
