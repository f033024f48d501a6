"""What the front door would show only after many seconds: prepared files go when nothing names them, and not under a reader."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.preview.holds import Holds
from engine.preview.sweeping import LEAST_AGE_S, Sweeper
from engine.preview.tasks import PreviewFolders
from engine.store import Store


@pytest.fixture
def folders(tmp_path: Path) -> PreviewFolders:
    return PreviewFolders((tmp_path / "datasets",), *(tmp_path / name for name in ("assets", "prepared", "hub")))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "sluice.db")
    yield store
    await store.close()


def put_segment(folders: PreviewFolders, dataset: str, *, age_s: float) -> Path:
    """A segment that no split names."""
    segment = folders.segments(dataset) / ("0" * 32)
    segment.mkdir(parents=True)
    (segment / "rows.parquet").write_bytes(b"rows")
    moment = segment.stat().st_mtime - age_s
    os.utime(segment, (moment, moment))
    return segment


async def test_what_is_prepared_stays_while_somebody_reads_it_and_goes_with_the_last_reader(
    store: Store, folders: PreviewFolders
) -> None:
    holds = Holds()
    sweeper = Sweeper(store, folders, holds)
    people, notes = (put_segment(folders, name, age_s=LEAST_AGE_S + 1) for name in ("people", "ann/notes"))
    with holds.of("people"), holds.of("people"):
        await sweeper.sweep(0)
        assert (people.exists(), notes.exists()) == (True, False)
    await sweeper.sweep(0)
    assert not people.exists()


async def test_what_was_prepared_just_now_stays_until_its_job_has_said_so(store: Store, folders: PreviewFolders) -> None:
    segment = put_segment(folders, "people", age_s=0)
    await Sweeper(store, folders, Holds()).sweep(0)
    assert segment.exists()
