"""Arrow streams that are broken or made to harm: refused or cut in words, and no replica dies."""

import json
import os
import signal
import struct
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import Raw, curl, health, is_alive, spill_files, until
from tests.serving import Server, serving
from tests.streaming.arrow import ARROW, END, answered, batches_of, body_of, flowers, send, table_of

IRIS = "sluice/iris"
HELLO = "brandon/HelloWorld"
MIB = 1024 * 1024
LEFT = 'sluice_streams_total{outcome="left"}'


def messages(body: bytes) -> list[bytes]:
    """The messages of a stream, without the mark of its end."""
    found, reader = [], pa.ipc.MessageReader.open_stream(body)
    while True:
        try:
            found.append(reader.read_next_message().serialize().to_pybytes())
        except StopIteration:
            return found


def refusal(server: Server, body: bytes, model: str = IRIS) -> str:
    """Why a body is refused. Once the answer has begun, its last record batch says it, and curl sees that the body is not whole."""
    done = send(server, model, body, "&ordered=true")
    if done.status == 400:
        return str(json.loads(done.body)["error"])
    assert (done.status, done.code) == (200, 18)
    assert not done.body.endswith(END)
    *_, (_, metadata) = batches_of(done.body)
    line = json.loads(metadata["last_line"])
    assert (line["code"], line["fatal"]) == ("bad_arrow", True)
    return str(line["error"])


# Broken streams


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "it is empty, and such a stream begins with a schema"),
        (END, "it is empty, and such a stream begins with a schema"),
        (b'{"sepal_length":1}\n', "it looks like JSON; send lines without this Content-Type"),
        (b"ARROW1\0\0" + b"x" * 100, "it is an Arrow file; send the streaming format"),
        (b"x" * 100, "a message does not begin with 0xFFFFFFFF"),
        (struct.pack("<4si", b"\xff" * 4, -8), "a message has metadata of -8 bytes, and 1,048,576 are the most"),
        (struct.pack("<4si", b"\xff" * 4, 2**31 - 8), "a message has metadata of 2,147,483,640 bytes, and 1,048,576 are the most"),
        (struct.pack("<4si", b"\xff" * 4, 8) + b"\xff" * 8, "the metadata of a message point outside of themselves"),
        (body_of(flowers(3))[:100], "it ends inside a message"),
        (messages(body_of(flowers(3)))[1], "the first message is not a schema"),
    ],
)
def test_what_is_no_arrow_stream_is_refused(server: Server, body: bytes, told: str) -> None:
    assert refusal(server, body).endswith(told)


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (END + b"more", "bytes follow the end of the stream"),
        (END + body_of(flowers(1)), "bytes follow the end of the stream"),
        (messages(body_of(flowers(1)))[0], "a second schema comes"),
        (messages(body_of(flowers(100)))[1][:-50], "it ends inside a message"),
        (b"\0" * 8, "a message does not begin with 0xFFFFFFFF"),
    ],
)
def test_a_stream_that_breaks_is_answered_up_to_there_and_cut(server: Server, rest: bytes, told: str) -> None:
    body = b"".join(messages(body_of(flowers(100))))
    with Raw(server) as client:
        client.begin(IRIS, "&ordered=true", Content_Type=ARROW)
        client.chunk(body)
        assert client.head().status == 200
        client.chunk(rest)
        client.end()
        answer = client.rest()
        assert client.was_cut
    *rows, (_, metadata) = batches_of(answer)
    assert [number for batch, _ in rows for number in batch["yhat_id"].to_pylist()] == list(range(100))
    assert json.loads(metadata["last_line"])["error"].endswith(told)
    assert refusal(server, body + rest).endswith(told)


def test_a_stream_needs_no_mark_of_its_end(server: Server) -> None:
    assert table_of(send(server, IRIS, body_of(flowers(10)).removesuffix(END)).body).num_rows == 10


def test_bytes_may_come_one_by_one(server: Server) -> None:
    body = body_of(flowers(3))
    with Raw(server) as client:
        client.begin(IRIS, "", Content_Type=ARROW)
        for i in range(len(body)):
            client.chunk(body[i : i + 1])
        client.end()
        assert client.head().status == 200
        assert table_of(client.rest()).num_rows == 3


# Claims


def damaged(body: bytes, found: int, wanted: int) -> bytes:
    """The body with one 64-bit number in place of another, wherever it stands."""
    old = struct.pack("<q", found)
    assert old in body
    return body.replace(old, struct.pack("<q", wanted))


def test_a_length_that_a_message_claims_takes_no_memory(server: Server) -> None:
    schema, batch = messages(body_of(flowers(1000)))
    num_bytes = struct.unpack("<q", next(batch[i : i + 8] for i in range(0, 200, 8) if 40_000 <= _number(batch, i) <= 41_000))[0]
    claimed = damaged(batch[:200], num_bytes, 1 << 40) + batch[200:]
    before = server.rss_bytes()
    told = refusal(server, schema + claimed)
    assert "1,099,511,627,776 bytes, and 67,108,864 (SLUICE_ARROW_BATCH_LIMIT_BYTES) are the most" in told
    assert server.rss_bytes() - before < 8 << 20


def _number(data: bytes, position: int) -> int:
    number: int = struct.unpack_from("<q", data, position)[0]
    return number


def test_rows_that_take_no_bytes_are_refused(server: Server) -> None:
    """A batch without values could ask for any number of error rows."""
    table = pa.table({"sepal_width": pa.nulls(123_456_789)})
    assert refusal(server, body_of(table)).endswith("a record batch claims 123,456,789 rows in 0 bytes")


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_bomb_is_refused_by_what_it_claims(server: Server, compression: str) -> None:
    """Less than a megabyte that would become 80 MB, and one that lies about what it would become."""
    body = body_of(pa.table({"sepal_width": pa.array([0.0] * 10_000_000)}), compression=compression)
    assert len(body) < 1 << 20
    assert "a message of 80,000,000 bytes" in refusal(server, body)
    small = damaged(body, 80_000_000, 8000)
    schema = pa.ipc.open_stream(body).schema
    assert schema.names == ["sepal_width"]
    assert "claims 10,000,000 rows in 8,000 bytes" in refusal(server, small)


@pytest.mark.parametrize("query", ["&ordered=true", ""])
@pytest.mark.parametrize("rows", [64, 2_000])
def test_rows_that_are_too_much_together_are_divided_until_they_fit(server: Server, rows: int, query: str) -> None:
    """Texts of 20 MiB in nearly every row, two of them side by side, between rows that take a byte."""
    index = pa.array([0 if i % 2 == 0 or i == 3 else 1 for i in range(rows)], pa.int32())
    names = pa.DictionaryArray.from_arrays(index, pa.array(["x" * (20 << 20), "a"]))
    before, pids = server.rss_bytes(), server.replica_pids()
    found = answered(server, HELLO, pa.table({"name": names, "yhat_id": pa.array(range(rows))}), query).sort_by("yhat_id")
    assert found["yhat_id"].to_pylist() == list(range(rows))
    codes = found["code"].to_pylist()
    assert codes == [None if place else "line_too_long" for place in index.to_pylist()]
    assert server.rss_bytes() - before < 160 * MIB
    assert server.replica_pids() == pids


def test_dictionary_messages_have_a_limit(server: Server) -> None:
    """Each of them would travel with each record batch behind it."""
    sink, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    words = pa.array(["a", "b"])
    with pa.ipc.new_stream(sink, pa.schema({"name": pa.dictionary(pa.int8(), pa.string())}), options=options) as writer:
        for size in (1, 2):
            writer.write_batch(pa.record_batch([pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), words[:size])], ["name"]))
    schema, whole, _, delta, rows = messages(sink.getvalue().to_pybytes())
    assert "more than 1,024 dictionary messages are in use" in refusal(server, schema + whole + delta * 100_000 + rows, HELLO)
    replaced = send(server, HELLO, schema + (whole + rows) * 3000 + END)
    assert (replaced.status, replaced.code, table_of(replaced.body).num_rows) == (200, 0, 3000)


def test_old_compression_is_refused_before_anything_follows_its_claim(server: Server) -> None:
    sink, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    claim = pa.array(np.frombuffer(struct.pack("<q", 2**62) + bytes(56), np.uint8))
    batch = pa.record_batch({"sepal_width": claim})
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": "zstd"})
    assert "compression as Arrow 0.17 had it is not taken" in refusal(server, sink.getvalue().to_pybytes())


@pytest.mark.parametrize("accept", [ARROW, "application/x-ndjson"])
def test_a_list_of_nulls_without_end_is_one_row_that_is_too_long(server: Server, accept: str) -> None:
    column = pa.ListArray.from_arrays(pa.array([0, 2**31 - 1], pa.int32()), pa.nulls(2**31 - 1))
    pids = server.replica_pids()
    done = send(server, IRIS, body_of(pa.table({"sepal_width": column})), "", "-H", f"Accept: {accept}")
    assert (done.status, done.code) == (200, 0)
    rows = table_of(done.body).to_pylist() if accept == ARROW else [json.loads(done.body)]
    assert [row["code"] for row in rows] == ["line_too_long"]
    assert server.replica_pids() == pids


def test_a_dictionary_that_repeats_a_long_text_is_not_multiplied(server: Server) -> None:
    """60 rows of 512 KiB each come in blocks that fit."""
    index = pa.array([0] * 60, pa.int8())
    table = pa.table({"name": pa.DictionaryArray.from_arrays(index, pa.array(["x" * (512 << 10)]))})
    pids = server.replica_pids()
    found = answered(server, HELLO, table)
    assert {len(text) for text in found["greeting"].to_pylist()} == {(512 << 10) + 6}
    assert server.replica_pids() == pids


def test_dictionaries_have_a_limit_together(server: Server) -> None:
    texts = [pa.array([str(i) + "x" * (30 << 20)]) for i in range(3)]
    columns = {f"c{i}": pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), text) for i, text in enumerate(texts)}
    assert "the dictionaries together of 94," in refusal(server, body_of(pa.table(columns)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_kills_a_replica_or_makes_a_broken_answer_look_whole(server: Server, data: st.DataObject) -> None:
    kinds = [None, "lz4", "zstd"]
    table = flowers(40, more=pa.array(["a", "b"] * 20).dictionary_encode())
    names = pa.array(["Kermit", "a longer name than fits"] * 20)
    texts = pa.table({"name": data.draw(st.sampled_from([names, names.cast(pa.string_view()), names.dictionary_encode()]))})
    model, given_table = data.draw(st.sampled_from([(IRIS, table), (HELLO, texts)]))
    body = bytearray(body_of(given_table, 15, data.draw(st.sampled_from(kinds))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    pids, place = server.replica_pids(), len(server.log)
    done = send(server, model, bytes(body))
    assert done.status in (200, 400)
    if done.status == 200 and done.code == 0:
        table_of(done.body)
    assert server.replica_pids() == pids
    assert "Traceback" not in server.log[place:]
    assert "ERROR" not in server.log[place:]


# Deaths, slow readers, departures


def test_killed_replicas_lose_no_row_and_repeat_none(tmp_path: Path) -> None:
    """Also those that were cutting, in batches of every size. curl takes the bytes of a second at once, in four steps or more."""
    sizes = [100_000, 5_000, 65_536, 29_464]
    table = flowers(200_000)
    with serving(tmp_path / "data") as server:
        path, out = tmp_path / "rows", tmp_path / "out"
        with pa.ipc.new_stream(path, table.schema) as writer:
            start = 0
            for size in sizes:
                writer.write_table(table.slice(start, size))
                start += size
        stop = threading.Event()
        killed = []

        def kill() -> None:
            """Each time that a quarter of a megabyte of the answer has come: a new replica first needs time to import pyarrow."""
            wanted = 0
            while not stop.wait(0.01):
                if out.exists() and out.stat().st_size > wanted and (pids := server.replica_pids()):
                    wanted = out.stat().st_size + (256 << 10)
                    killed.append(pids[0])
                    with suppress(ProcessLookupError):
                        os.kill(pids[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            done = curl(
                f"{server.model(IRIS)}/?bulk=true&ordered=true",
                *("-T", str(path), "-o", str(out), "--limit-rate", "2M", "-H", f"Content-Type: {ARROW}"),
                auth=server.auth,
            )
        finally:
            stop.set()
            killer.join()
        assert (done.code, done.status) == (0, 200)
        found = table_of(out.read_bytes())
        assert found["yhat_id"].to_pylist() == list(range(200_000))
        assert found["code"].null_count == 200_000
        assert len(killed) > 2
        assert "Traceback" not in server.log


def test_a_client_that_sends_everything_before_it_reads_gets_every_row(server: Server) -> None:
    """What it does not read waits in the spill; the rows come whole and in order."""
    table = flowers(400_000)
    body = body_of(table, 65_536)
    with Raw(server, receive_buffer_bytes=64 * 1024, timeout_s=60) as client:
        client.begin(IRIS, "&ordered=true", Content_Type=ARROW)
        for start in range(0, len(body), 1 << 16):
            client.chunk(body[start : start + (1 << 16)])
        client.end()
        until(lambda: spill_files(server))
        assert client.head().status == 200
        found = table_of(client.rest())
    assert found["yhat_id"].to_pylist() == list(range(400_000))
    until(lambda: not spill_files(server))


@pytest.mark.parametrize("leave", [Raw.reset, Raw.close])
def test_a_client_that_leaves_inside_a_message_leaves_nothing_behind(server: Server, leave: object) -> None:
    left, place = server.metric(LEFT), len(server.log)
    body = body_of(flowers(100_000))
    with Raw(server) as client:
        client.begin(IRIS, "", Content_Type=ARROW)
        client.chunk(body[: len(body) // 2])
        client.head()
        leave(client)  # type: ignore[operator]
    until(lambda: server.metric(LEFT) == left + 1)
    until(lambda: health(server)["streams"] == 0 and not spill_files(server))
    assert "Traceback" not in server.log[place:]
    assert all(map(is_alive, server.replica_pids()))
