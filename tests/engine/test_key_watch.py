"""The watch of keys goes on after a fault of the database, calls each ended request once, and leaves the others alone."""

import asyncio

from engine.key_watch import KeyWatch
from engine.store import StoreError

INTERVAL_S = 0.01


class Database:
    """Which callers have their key, and whether the database can be read."""

    def __init__(self) -> None:
        self.valid = {"eva", "tom"}
        self.is_broken = False
        self.num_asked = 0

    async def is_valid(self, caller: str) -> bool:
        self.num_asked += 1
        if self.is_broken:
            raise StoreError("the disk is full")
        return caller in self.valid

    async def recheck(self) -> None:
        if self.is_broken:
            raise StoreError("the disk is full")


async def test_only_the_request_whose_key_ended_hears_of_it_and_only_once() -> None:
    database, ended, told = Database(), [], asyncio.Event()
    watch: KeyWatch[str] = KeyWatch(database.is_valid, database.recheck, interval_s=INTERVAL_S)

    def end() -> None:
        ended.append("eva")
        told.set()

    with watch.watching("eva", end, is_fresh=True), watch.watching("tom", lambda: ended.append("tom"), is_fresh=True):
        database.valid.remove("eva")
        for _ in range(3):
            watch.changed()
            await asyncio.wait_for(told.wait(), 10)
            await asyncio.sleep(0)
    await watch.close()
    assert ended == ["eva"]


async def test_a_key_that_ended_before_the_watch_began_is_noticed() -> None:
    database, told = Database(), asyncio.Event()
    watch: KeyWatch[str] = KeyWatch(database.is_valid, database.recheck, interval_s=INTERVAL_S)
    database.valid.clear()
    with watch.watching("eva", told.set, is_fresh=False):
        await asyncio.wait_for(told.wait(), 10)
    await watch.close()


async def test_a_database_that_cannot_be_read_is_asked_again() -> None:
    database, told = Database(), asyncio.Event()
    watch: KeyWatch[str] = KeyWatch(database.is_valid, database.recheck, interval_s=INTERVAL_S)
    database.is_broken = True
    with watch.watching("eva", told.set, is_fresh=False):
        async with asyncio.timeout(10):
            while database.num_asked < 3:  # noqa: ASYNC110 - the watch tells nobody how often it asks
                await asyncio.sleep(INTERVAL_S)
        assert not told.is_set()
        database.valid.clear()
        database.is_broken = False
        await asyncio.wait_for(told.wait(), 10)
    await watch.close()


async def test_a_fresh_key_costs_no_question() -> None:
    database = Database()
    watch: KeyWatch[str] = KeyWatch(database.is_valid, database.recheck, interval_s=INTERVAL_S)
    with watch.watching("eva", lambda: None, is_fresh=True):
        await asyncio.sleep(5 * INTERVAL_S)
    await watch.close()
    assert database.num_asked == 0


async def test_what_ends_at_a_known_time_ends_then_although_the_database_knows_nothing_of_it() -> None:
    database, told, now = Database(), asyncio.Event(), [100.0]
    watch: KeyWatch[str] = KeyWatch(database.is_valid, database.recheck, interval_s=INTERVAL_S, now=lambda: now[0])
    with watch.watching("eva", told.set, is_fresh=True, ends_at=101.0):
        now[0] = 101.0
        await asyncio.wait_for(told.wait(), 10)
    await watch.close()
