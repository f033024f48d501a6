"""The store keeps every acknowledged write, writes all of a change or nothing, and lets two processes share the file."""

# ruff: noqa: ASYNC240  (a test may wait for a small file)

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from engine.store import ModelOverrides, Store, StoreBusy, StoreError, TeamRow

HASH = bytes(range(32))
OTHER_HASH = bytes(32)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    store = await Store.open(path)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sluice.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with opened(path) as store:
        yield store


async def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    async with opened(path) as store:
        await store.add_user("eva", HASH)
    async with opened(path) as store:
        assert [user.name for user in await store.list_users()] == ["eva"]
        assert await store.find_key(HASH) == ("eva", "full")


def test_an_acknowledged_write_survives_a_process_that_dies_without_closing(path: Path) -> None:
    program = """if True:
        import asyncio, os, sys
        from pathlib import Path
        from engine.store import Store

        async def main():
            store = await Store.open(Path(sys.argv[1]))
            await store.add_user("eva", bytes(32))
            os._exit(9)

        asyncio.run(main())
    """
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == 9
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM users").fetchall() == [("eva",)]
    connection.close()


async def test_every_commit_waits_for_the_disk(store: Store) -> None:
    assert [tuple(row) for row in await store._writer.execute_fetchall("PRAGMA synchronous")] == [(2,)]
    assert [tuple(row) for row in await store._rows("PRAGMA journal_mode")] == [("wal",)]


async def test_eight_openers_of_a_new_file_make_its_tables_once(path: Path) -> None:
    async def open_and_add(number: int) -> bool:
        async with opened(path) as store:
            return await store.add_user(f"user{number}", bytes([number]) * 32)

    assert await asyncio.gather(*(open_and_add(number) for number in range(8))) == [True] * 8
    async with opened(path) as store:
        assert len(await store.list_users()) == 8


async def test_a_database_of_a_newer_server_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(StoreError, match="run the newer server"):
        await Store.open(path)


async def test_a_file_that_is_not_a_database_is_refused_in_one_sentence(path: Path) -> None:
    path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        await Store.open(path)


async def test_adding_a_name_in_use_leaves_its_user_and_its_key_alone(store: Store) -> None:
    assert await store.add_user("eva", HASH)
    assert not await store.add_user("eva", OTHER_HASH)
    assert await store.find_key(HASH) == ("eva", "full")
    assert await store.find_key(OTHER_HASH) is None


async def test_a_new_key_replaces_only_the_old_one_of_its_kind(store: Store) -> None:
    await store.add_user("eva", HASH)
    assert await store.put_key("eva", "read_only", OTHER_HASH)
    assert await store.find_key(HASH) == ("eva", "full")
    assert await store.put_key("eva", "full", b"\1" * 32)
    assert await store.find_key(HASH) is None
    assert await store.find_key(OTHER_HASH) == ("eva", "read_only")


async def test_a_key_for_an_unknown_user_is_not_kept(store: Store) -> None:
    assert not await store.put_key("eva", "full", HASH)
    assert await store.find_key(HASH) is None


async def test_removing_a_user_removes_its_keys(store: Store) -> None:
    await store.add_user("eva", HASH)
    assert await store.remove_user("eva")
    assert await store.find_key(HASH) is None
    assert not await store.remove_user("eva")


async def test_a_writer_cancelled_at_any_moment_leaves_a_user_with_its_key_or_neither(store: Store) -> None:
    for num_steps in range(60):
        name, sha256 = f"user{num_steps}", bytes([num_steps]) * 32
        task = asyncio.create_task(store.add_user(name, sha256))
        for _ in range(num_steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        has_user = name in {user.name for user in await store.list_users()}
        assert has_user == (await store.find_key(sha256) is not None)
    assert await store.add_user("last", HASH)


async def test_two_processes_may_write_at_once(path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        names = [f"user{number:02}" for number in range(40)]
        stores = [one, two] * 20
        await asyncio.gather(*(store.add_user(name, name.encode().ljust(32)) for store, name in zip(stores, names, strict=True)))
        assert [user.name for user in await one.list_users()] == names


async def test_the_data_version_changes_only_when_another_connection_writes(path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        before = await one.data_version()
        await one.add_user("eva", HASH)
        assert await one.data_version() == before
        await two.add_user("tom", OTHER_HASH)
        assert await one.data_version() != before


async def test_a_model_has_the_overrides_it_was_given_and_no_others(store: Store) -> None:
    await store.set_active_version("sluice", "iris", 2)
    await store.set_shared("eva", "churn", False)
    await store.set_shared("sluice", "iris", True)
    assert await store.list_model_overrides() == {
        ("sluice", "iris"): ModelOverrides(active_version=2, shared=True),
        ("eva", "churn"): ModelOverrides(active_version=None, shared=False),
    }
    await store.set_active_version("sluice", "iris", None)
    await store.forget_model("eva", "churn")
    assert await store.list_model_overrides() == {("sluice", "iris"): ModelOverrides(active_version=None, shared=True)}


async def test_the_highest_version_outlives_its_model(store: Store) -> None:
    assert await store.highest_version("eva", "churn") == 0
    await store.note_version("eva", "churn", 3, 2)
    await store.note_version("eva", "churn", 1, 1)
    assert await store.highest_version("eva", "churn") == 3
    assert await store.list_model_overrides() == {("eva", "churn"): ModelOverrides(active_version=2, shared=None)}
    await store.forget_model("eva", "churn")
    assert await store.list_model_overrides() == {}
    assert await store.highest_version("eva", "churn") == 3


async def test_a_version_noted_without_an_active_version_leaves_the_choice_to_the_folder(store: Store) -> None:
    await store.note_version("eva", "churn", 3, None)
    assert await store.list_model_overrides() == {}


async def test_a_user_of_a_database_from_before_teams_gets_its_own(path: Path) -> None:
    connection = sqlite3.connect(path)
    before = (Path(__file__).parents[2] / "engine" / "store" / "schema.sql").read_text().partition("-- migration 6")[0]
    connection.executescript(before + "PRAGMA user_version = 5; INSERT INTO users (name) VALUES ('eva'), ('tom');")
    connection.close()
    async with opened(path) as store:
        assert await store.list_teams() == [TeamRow("eva", "eva"), TeamRow("tom", "tom")]
        assert await store.list_members("eva") == [("eva", "Admin")]
        assert not await store.add_user("eva", HASH)
        assert await store.add_user("ann", HASH)
        assert await store.list_teams_of("ann") == [TeamRow("ann", "ann")]


async def test_a_user_and_its_team_are_added_both_or_not_at_all(store: Store) -> None:
    async with store.transaction() as transaction:
        assert await store.add_team(transaction, TeamRow("eva", "Eva"))
    assert not await store.add_user("eva", HASH)
    assert await store.list_users() == []
    assert await store.find_credential(HASH) is None
    assert await store.list_members("eva") == []


async def test_a_database_that_another_program_keeps_locked_is_busy(path: Path, store: Store) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        await store._writer.execute("PRAGMA busy_timeout = 20")
        with pytest.raises(StoreBusy):
            await store.add_user("eva", HASH)
        other.rollback()
    assert await store.add_user("eva", HASH)


async def test_a_database_from_before_publishing_gets_its_column(path: Path) -> None:
    connection = sqlite3.connect(path)
    first = (Path(__file__).parents[2] / "engine" / "store" / "schema.sql").read_text().partition("-- migration 2")[0]
    connection.executescript(
        first + "PRAGMA user_version = 1; INSERT INTO models (owner, name, active_version) VALUES ('a', 'b', 2);"
    )
    connection.close()
    async with opened(path) as store:
        assert await store.list_model_overrides() == {("a", "b"): ModelOverrides(active_version=2)}
        await store.note_version("a", "b", 5, 1)
        assert await store.highest_version("a", "b") == 5
        assert await store.list_model_overrides() == {("a", "b"): ModelOverrides(active_version=2)}
