"""Streams that stand still while the disk is short go on as soon as they can. A real replica and a real disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.disk import Disk
from engine.engine import Engine, EngineLimits
from engine.replicas.lines import LineSpan
from engine.spill import Spill
from engine.streaming import predictions
from engine.streaming.predictions import PredictionLimits, Predictions
from tests.engine.repository.opened import opened, until, write
from tests.publishing.uploads import times

BIG = 1 << 40
LIMITS = PredictionLimits(
    max_streams=4,
    max_streams_per_user=4,
    max_websockets_per_user=4,
    max_queued=100,
    window_bytes=1 << 20,
    block_timeout_s=30,
    request_timeout_s=30,
)
LINE = b'{"x":1}\n'


@asynccontextmanager
async def engine_running() -> AsyncIterator[Engine]:
    limits = EngineLimits(
        score_replicas=1,
        jobs_replicas=1,
        query_replicas=1,
        query_memory_bytes=0,
        block_timeout_s=30,
        check_timeout_s=30,
        replica_memory_bytes=0,
        native=True,
        model_faults=12,
    )
    engine = Engine(limits)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def test_a_stream_that_has_emptied_its_files_goes_on_though_the_disk_stays_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body has ended, so nobody asks for room, and the last bytes left the files before the stream used memory again."""
    monkeypatch.setattr(predictions, "DISK_INTERVAL_S", 0.01)
    short = Spill(tmp_path / "spill", Disk(tmp_path, reserve_bytes=BIG), limit_bytes=BIG, total_limit_bytes=BIG)
    short.clean()
    write(tmp_path / "models", "eva/double", times(2))
    async with engine_running() as engine, opened(tmp_path, engine.pool("score")) as world:
        made = Predictions(engine, world.serving, short, LIMITS)
        version = world.active("eva/double")
        async with made.stream(version, {"times": "go"}, user="eva", is_ordered=False) as stream:
            await until(lambda: world.is_open_everywhere(version))  # what is opened wakes everybody who waits
            short.look_at_disk()
            stream.outbox.begin_spilling()
            stream.feed(LineSpan(LINE, 0, len(LINE), 1, 1))
            stream.body_ended()
            stream.offer()
            for _ in range(3):
                await asyncio.sleep(0)  # the pool has looked for what was offered, and found nothing
            assert (stream.outbox.is_full, stream.num_waiting) == (True, 0)
            watcher = engine.spawn(made.watch_disk(), "disk of the spill")
            async with asyncio.timeout(10):
                assert b'"y":2' in bytes(await stream.outbox.get() or b"")
            assert short.is_disk_short
            watcher.cancel()
