"""The catalogue between two scans: news of a change is newer than what a replica has begun to look at before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.engine import JOBS_OPTIONS
from engine.preview.catalogue import Catalogue
from engine.preview.hub import Hub, HubOptions, Lookups
from engine.preview.tasks import PreviewFolders
from engine.replicas.pool import Pool
from tests.fixtures.preview import lay


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    folders = PreviewFolders((tmp_path / "datasets",), *(tmp_path / name for name in ("assets", "prepared", "hub")))
    for name in ("one", "two"):
        lay(folders.roots[0], name, {"train.csv": "a\n1\n"})
    pool = Pool("jobs", 1, JOBS_OPTIONS, silence_limit_s=60)
    await pool.start()
    catalogue = Catalogue(pool, folders, Lookups(Hub(HubOptions(None, None, 0), folders), pool))
    yield catalogue
    await catalogue.close()
    await pool.stop()


async def test_a_scan_does_not_bring_back_what_has_changed_since_it_began(catalogue: Catalogue) -> None:
    await catalogue.scan()
    scanning = asyncio.create_task(catalogue.scan())
    await asyncio.sleep(0)
    catalogue.changed("one")
    await scanning
    assert [one.name for one in await catalogue.all()] == ["two"]
    assert await catalogue.find("one") is not None
    assert [one.name for one in await catalogue.all()] == ["one", "two"]


async def test_a_scan_does_not_take_away_what_was_found_since_it_began(catalogue: Catalogue) -> None:
    scanning = asyncio.create_task(catalogue.scan())
    await asyncio.sleep(0)
    catalogue.changed("one")
    found = await catalogue.find("one")
    await scanning
    assert catalogue.get("one") is found is not None


async def test_a_look_up_does_not_bring_back_what_has_changed_since_it_began(catalogue: Catalogue) -> None:
    looking = asyncio.create_task(catalogue.find("one"))
    while not any(task.get_name() == "look for one" for task in asyncio.all_tasks()):  # noqa: ASYNC110
        await asyncio.sleep(0)
    catalogue.changed("one")
    assert await looking is not None
    assert catalogue.get("one") is None
