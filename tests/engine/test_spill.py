"""The outbox returns its bytes in order, from memory or from disk, and leaves no file behind."""

# ruff: noqa: ASYNC110, ASYNC240  (a test may look into a small folder, and poll where there is no event)

import asyncio
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import spill
from engine.disk import Disk
from engine.spill import MEMORY_LIMIT_BYTES, PIECE_BYTES, Outbox, Spill

BIG = 1 << 40


def spill_in(folder: Path, *, limit_bytes: int = BIG, total_limit_bytes: int = BIG) -> Spill:
    made = Spill(folder, Disk(folder, reserve_bytes=0), limit_bytes=limit_bytes, total_limit_bytes=total_limit_bytes)
    made.clean()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spill"


async def read_all(outbox: Outbox) -> bytes:
    pieces = []
    while (piece := await outbox.get()) is not None:
        assert 0 < len(piece) <= PIECE_BYTES
        pieces.append(bytes(piece))
    return b"".join(pieces)


async def flushed(outbox: Outbox) -> None:
    """Wait until the disk has everything that was put."""
    while outbox._late_bytes:
        await asyncio.sleep(0)


async def test_in_memory_bytes_come_out_in_order_joined_into_fewer_writes(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    for i in range(1000):
        outbox.put(b"%03d\n" % i)
    outbox.close()
    assert await outbox.get() == b"".join(b"%03d\n" % i for i in range(1000))
    assert await outbox.get() is None
    assert list(folder.iterdir()) == []


async def test_large_results_are_cut_into_pieces(folder: Path) -> None:
    outbox, data = spill_in(folder).outbox("a"), random.Random(1).randbytes(3 * PIECE_BYTES + 17)
    outbox.put(memoryview(data))
    outbox.put(b"end")
    outbox.close()
    assert outbox.waiting_bytes == len(data) + 3
    assert await read_all(outbox) == data + b"end"
    assert outbox.waiting_bytes == 0


async def test_a_reader_waits_until_something_comes(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    reader = asyncio.create_task(read_all(outbox))
    for word in (b"one", b"two"):
        await asyncio.sleep(0)
        outbox.put(word)
    await asyncio.sleep(0)
    outbox.close()
    assert await reader == b"onetwo"


async def test_what_spills_comes_after_what_was_in_memory(folder: Path) -> None:
    made = spill_in(folder)
    outbox = made.outbox("a")
    outbox.put(b"memory ")
    outbox.begin_spilling()
    outbox.put(b"disk ")
    await flushed(outbox)
    assert (outbox.spilled_bytes, made.total_bytes) == (5, 5)
    assert len(list(folder.iterdir())) == 1
    outbox.put(b"late")
    outbox.close()
    assert await read_all(outbox) == b"memory disk late"
    assert (outbox.spilled_bytes, made.total_bytes, outbox.is_spilling) == (0, 0, False)
    assert list(folder.iterdir()) == []


async def test_once_the_files_are_read_memory_is_enough_again(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    outbox.begin_spilling()
    outbox.put(b"disk")
    assert await outbox.get() == b"disk"
    reader = asyncio.create_task(outbox.get())
    while outbox.is_spilling:
        await asyncio.sleep(0)
    outbox.put(b"memory")
    assert await reader == b"memory"
    assert list(folder.iterdir()) == []


async def test_spilling_may_begin_and_end_with_nothing_waiting(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    outbox.begin_spilling()
    outbox.close()
    assert await outbox.get() is None


async def test_each_file_is_removed_as_soon_as_it_was_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "FILE_BYTES", 1000)
    outbox = spill_in(folder).outbox("a")
    outbox.begin_spilling()
    for i in range(5):
        outbox.put(bytes([i]) * 1000)
        await flushed(outbox)
    assert len(list(folder.iterdir())) == 5
    for left in (4, 3, 2, 1, 0):
        assert len(await outbox.get() or b"") == 1000
        assert len(list(folder.iterdir())) == left


def test_what_an_earlier_process_left_is_removed_at_the_start(folder: Path) -> None:
    folder.mkdir()
    (folder / "old-0").write_bytes(b"x")
    spill_in(folder)
    assert list(folder.iterdir()) == []


# Limits


async def test_memory_is_over_its_limit_until_the_client_takes_some_of_it(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    outbox.put(bytes(MEMORY_LIMIT_BYTES))
    assert not outbox.is_over_memory_limit
    outbox.put(b"x")
    assert outbox.is_over_memory_limit
    await outbox.get()
    assert not outbox.is_over_memory_limit


async def test_while_spilling_only_what_is_not_on_the_disk_yet_counts(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    outbox.put(bytes(MEMORY_LIMIT_BYTES + 1))
    outbox.begin_spilling()
    assert not outbox.is_over_memory_limit
    outbox.put(bytes(MEMORY_LIMIT_BYTES + 1))
    assert outbox.is_over_memory_limit
    await flushed(outbox)
    assert not outbox.is_over_memory_limit
    await outbox.discard()


async def test_a_stream_at_its_limit_is_full_until_some_of_it_was_read(folder: Path) -> None:
    outbox = spill_in(folder, limit_bytes=PIECE_BYTES + 1).outbox("a")
    outbox.begin_spilling()
    outbox.put(bytes(PIECE_BYTES))
    await flushed(outbox)
    assert not outbox.is_full
    outbox.put(b"x")
    await flushed(outbox)
    assert outbox.is_full
    await outbox.get()
    assert not outbox.is_full
    await outbox.discard()


async def test_all_streams_together_have_a_limit(folder: Path) -> None:
    made = spill_in(folder, total_limit_bytes=200)
    one, two, reading = made.outbox("one"), made.outbox("two"), made.outbox("three")
    for outbox in (one, two):
        outbox.begin_spilling()
        outbox.put(bytes(100))
        await flushed(outbox)
    assert one.is_full
    assert two.is_full
    assert not reading.is_full  # it does not spill
    await two.discard()
    assert not one.is_full
    await one.discard()
    assert made.total_bytes == 0


async def test_a_disk_that_was_short_for_a_moment_is_used_again(folder: Path) -> None:
    disk = Disk(folder, reserve_bytes=0)
    made = Spill(folder, disk, limit_bytes=BIG, total_limit_bytes=BIG)
    made.clean()
    outbox = made.outbox("a")
    outbox.begin_spilling()
    disk.reserve_bytes = BIG * BIG
    outbox.put(b"x")
    await flushed(outbox)
    assert outbox.is_full
    disk.reserve_bytes = 0
    made.look_at_disk()
    assert not outbox.is_full
    await outbox.discard()


# Lines


async def test_the_lines_that_wait_are_counted_wherever_they_are(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    outbox.put(b"memory\n" * 3)
    outbox.put(memoryview(b"memory\n" * 2))
    assert await outbox.num_lines() == 5
    outbox.begin_spilling()
    outbox.put(b"disk\n" * (PIECE_BYTES // 4))
    await flushed(outbox)
    outbox.put(b"late\n")
    assert await outbox.num_lines() == 5 + PIECE_BYTES // 4 + 1
    read = [bytes(await outbox.get() or b"") for _ in range(2)]
    assert read[1].startswith(b"disk\n")
    assert await outbox.num_lines() == 5 + PIECE_BYTES // 4 + 1 - b"".join(read).count(b"\n")
    outbox.close()
    await read_all(outbox)
    assert await outbox.num_lines() == 0


async def test_lines_that_a_failed_disk_lost_were_not_returned(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    outbox.begin_spilling()
    shutil.rmtree(folder)
    outbox.put(b"lost\n")
    await asyncio.gather(outbox._flusher, return_exceptions=True)
    assert await outbox.num_lines() == 1
    folder.mkdir()
    await outbox.discard()


# Ends


async def test_discarding_removes_files_and_memory(folder: Path) -> None:
    made = spill_in(folder)
    outbox = made.outbox("a")
    outbox.put(b"memory")
    outbox.begin_spilling()
    outbox.put(bytes(1000))
    await flushed(outbox)
    outbox.put(bytes(1000))
    await outbox.discard()
    assert (outbox.waiting_bytes, outbox.spilled_bytes, made.total_bytes) == (0, 0, 0)
    assert list(folder.iterdir()) == []


async def test_discarding_twice_or_an_empty_outbox_does_no_harm(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    await outbox.discard()
    await outbox.discard()


async def let_threads_end() -> None:
    """Wait for file work whose task is gone."""
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_discarding_while_the_disk_is_writing_leaves_no_file_and_counts_no_bytes(folder: Path) -> None:
    made = spill_in(folder)
    for i in range(60):
        outbox = made.outbox(f"a{i}")
        outbox.begin_spilling()
        outbox.put(bytes(2_000_000))
        for _ in range(i % 6):
            await asyncio.sleep(0)
        await outbox.discard()
    await let_threads_end()
    assert made.total_bytes == 0
    assert list(folder.iterdir()) == []


async def test_a_reader_cancelled_while_the_disk_is_reading_leaves_no_file_and_counts_no_bytes(folder: Path) -> None:
    made = spill_in(folder)
    for i in range(60):
        outbox = made.outbox(f"a{i}")
        outbox.begin_spilling()
        outbox.put(bytes(1_000_000))
        await flushed(outbox)
        reader = asyncio.create_task(outbox.get())
        for _ in range(1 + i % 6):
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await outbox.discard()
    await let_threads_end()
    assert made.total_bytes == 0
    assert list(folder.iterdir()) == []


async def test_a_disk_that_failed_is_an_error_for_the_reader_and_never_a_gap(folder: Path) -> None:
    outbox = spill_in(folder).outbox("a")
    outbox.begin_spilling()
    shutil.rmtree(folder)
    outbox.put(b"lost")
    await asyncio.gather(outbox._flusher, return_exceptions=True)
    folder.mkdir()
    outbox.put(b"after the gap")
    outbox.close()
    with pytest.raises(OSError):
        await read_all(outbox)
    await outbox.discard()


# Any order of events

step = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 3000)),
    st.tuples(st.just("put"), st.integers(PIECE_BYTES - 2, PIECE_BYTES * 2 + 2)),
    st.tuples(st.just("get"), st.integers(1, 3)),
    st.tuples(st.just("spill"), st.just(0)),
    st.tuples(st.just("turns"), st.integers(1, 9)),
    st.tuples(st.just("flushed"), st.just(0)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(step, max_size=40))
def test_whatever_happens_in_whatever_order_bytes_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    asyncio.run(play(tmp_path_factory.mktemp("spill"), steps))


async def play(folder: Path, steps: list[tuple[str, int]]) -> None:
    """Run the steps against one outbox with small files. Like the writer of a stream, a `get` may wait while others happen."""
    made, numbers, got, sent = spill_in(folder), random.Random(7), bytearray(), bytearray()
    outbox = made.outbox("a")
    reader: asyncio.Task[object] | None = None
    old, spill.FILE_BYTES = spill.FILE_BYTES, 5000
    try:
        for name, number in steps:
            if name == "put":
                data = numbers.randbytes(number)
                sent += data
                outbox.put(data)
            elif name == "get" and (reader is None or reader.done()):
                got += bytes(await reader) if reader else b""
                reader = asyncio.create_task(outbox.get())
            elif name == "spill":
                outbox.begin_spilling()
            elif name == "turns":
                for _ in range(number):
                    await asyncio.sleep(0)
            elif name == "flushed":
                await flushed(outbox)
            assert made.total_bytes == outbox.spilled_bytes >= 0
        outbox.close()
        got += bytes(await reader or b"") if reader else b""
        got += await read_all(outbox)
    finally:
        spill.FILE_BYTES = old
    assert got == sent
    assert (outbox.waiting_bytes, outbox.spilled_bytes, made.total_bytes) == (0, 0, 0)
    assert list(folder.iterdir()) == []


async def test_a_writer_and_a_reader_at_their_own_speeds_lose_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "FILE_BYTES", 20_000)
    for seed in range(15):
        numbers, outbox, sent, got = random.Random(seed), spill_in(folder).outbox(f"a{seed}"), bytearray(), bytearray()

        async def write(numbers: random.Random = numbers, outbox: Outbox = outbox, sent: bytearray = sent) -> None:
            for _ in range(150):
                data = numbers.randbytes(numbers.randint(1, 4000))
                sent += data
                outbox.put(data)
                if numbers.random() < 0.2:
                    outbox.begin_spilling()
                for _ in range(numbers.randint(0, 3)):
                    await asyncio.sleep(0)
            outbox.close()

        writer = asyncio.create_task(write())
        while (piece := await outbox.get()) is not None:
            got += piece
            for _ in range(numbers.randint(0, 3)):
                await asyncio.sleep(0)
        await writer
        assert got == sent
        assert list(folder.iterdir()) == []
