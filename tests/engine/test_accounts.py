"""Accounts turn a credential into a caller, at once and only as long as it is valid; the admin gets in with the key file."""

# ruff: noqa: ASYNC240  (a test may wait for a small file)

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest

from engine import accounts as module
from engine.accounts import ADMIN, Accounts, Caller
from engine.errors import EngineError
from engine.keys import KEY
from engine.roles import Role
from engine.store import Credential, Store


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class SlowStore(Store):
    """A store that finds keys as usual, but returns them only once the gate is open."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        super().__init__(writer, reader)
        self.found = asyncio.Event()
        self.gate = asyncio.Event()

    async def find_credential(self, sha256: bytes) -> Credential | None:
        found = await super().find_credential(sha256)
        self.found.set()
        await self.gate.wait()
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "admin.key"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "sluice.db")
    yield store
    await store.close()


@pytest.fixture
async def slow_store(tmp_path: Path) -> AsyncIterator[SlowStore]:
    store = await SlowStore.open(tmp_path / "slow.db")
    yield store
    await store.close()


@pytest.fixture
async def other_process(tmp_path: Path, key_file: Path, store: Store) -> AsyncIterator[Accounts]:
    """The same database over a connection of its own, as a command in another process opens it."""
    other_store = await Store.open(tmp_path / "sluice.db")
    yield make(other_store, key_file)
    await other_store.close()


@pytest.fixture
def accounts(store: Store, key_file: Path, clock: Clock) -> Accounts:
    return make(store, key_file, clock)


def make(store: Store, key_file: Path, clock: Clock | None = None) -> Accounts:
    return Accounts(store, key_file=key_file, is_taken=lambda name: name.lower() in {"api", "sluice"}, clock=clock or Clock())


async def code_of(awaitable: object) -> str:
    with pytest.raises(EngineError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.code


async def test_a_new_user_is_known_by_its_key_with_and_without_its_name(accounts: Accounts) -> None:
    key = await accounts.add_user("kermit@themuppets.com")
    caller = Caller("kermit@themuppets.com", "full", is_admin=False)
    assert KEY.fullmatch(key)
    assert await accounts.identify("kermit@themuppets.com", key) == caller
    assert await accounts.identify(None, key) == caller


async def test_a_right_key_under_a_wrong_name_is_refused_before_and_after_it_is_known(accounts: Accounts) -> None:
    key = await accounts.add_user("eva")
    assert await code_of(accounts.identify("tom", key)) == "unauthorized"
    await accounts.identify("eva", key)
    assert await code_of(accounts.identify("tom", key)) == "unauthorized"
    assert await code_of(accounts.identify("", key)) == "unauthorized"


@pytest.mark.parametrize("key", ["", "0" * 32, "x" * 10_000, "\udc80", "ключ", "eva:key"])
async def test_a_wrong_key_is_refused_whatever_characters_it_has(accounts: Accounts, key: str) -> None:
    await accounts.add_user("eva")
    assert await code_of(accounts.identify("eva", key)) == "unauthorized"
    assert await code_of(accounts.identify(None, key)) == "unauthorized"


async def test_a_key_in_upper_case_is_another_key(accounts: Accounts) -> None:
    key = await accounts.add_user("eva")
    assert await code_of(accounts.identify("eva", key.upper() + "A")) == "unauthorized"


async def test_neither_database_nor_memory_holds_a_key_in_the_clear(accounts: Accounts, tmp_path: Path) -> None:
    key = await accounts.add_user("eva")
    await accounts.identify("eva", key)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.encode() not in stored
    assert bytes.fromhex(key) not in stored
    assert key not in repr(accounts._callers)


@pytest.mark.parametrize("name", ["", "a b", ".eva", "-eva", "eva/1", "eva:1", "éva", "a" * 101, "eva\n", "\udc80"])
async def test_a_name_outside_the_alphabet_is_refused(accounts: Accounts, name: str) -> None:
    assert await code_of(accounts.add_user(name)) == "invalid_request"


@pytest.mark.parametrize("name", ["admin", "api", "API", "sluice", "eva"])
async def test_a_name_must_be_free(accounts: Accounts, name: str) -> None:
    await accounts.add_user("eva")
    assert await code_of(accounts.add_user(name)) == "name_taken"


async def test_when_several_ask_for_a_name_at_once_one_gets_it(accounts: Accounts) -> None:
    answers = await asyncio.gather(*(accounts.add_user("eva") for _ in range(5)), return_exceptions=True)
    [key] = [answer for answer in answers if isinstance(answer, str)]
    assert (await accounts.identify("eva", key)).name == "eva"


async def test_a_user_may_have_a_read_only_key_beside_the_full_one(accounts: Accounts) -> None:
    full = await accounts.add_user("eva")
    read_only = await accounts.replace_key("eva", "read_only")
    assert (await accounts.identify("eva", full)).kind == "full"
    assert (await accounts.identify("eva", read_only)).kind == "read_only"


async def test_a_replaced_key_stops_working_at_once(accounts: Accounts) -> None:
    old = await accounts.add_user("eva")
    await accounts.identify("eva", old)
    new = await accounts.replace_key("eva", "full")
    assert await code_of(accounts.identify("eva", old)) == "unauthorized"
    assert (await accounts.identify("eva", new)).name == "eva"


async def test_a_removed_user_is_unknown_at_once_and_can_replace_no_key(accounts: Accounts) -> None:
    key = await accounts.add_user("eva")
    await accounts.identify("eva", key)
    await accounts.remove_user("eva")
    assert await code_of(accounts.identify("eva", key)) == "unauthorized"
    assert await code_of(accounts.replace_key("eva", "full")) == "unauthorized"
    assert await code_of(accounts.remove_user("eva")) == "invalid_request"


async def test_a_look_up_during_a_removal_is_not_remembered(slow_store: SlowStore, key_file: Path) -> None:
    accounts = make(slow_store, key_file)
    key = await accounts.add_user("eva")
    look_up = asyncio.create_task(accounts.identify("eva", key))
    await slow_store.found.wait()
    await accounts.remove_user("eva")
    slow_store.gate.set()
    await look_up
    assert await code_of(accounts.identify("eva", key)) == "unauthorized"


async def test_a_look_up_during_a_change_of_roles_is_not_remembered(slow_store: SlowStore, key_file: Path) -> None:
    accounts = make(slow_store, key_file)
    key = await accounts.add_user("eva")
    await accounts.add_user("tom")
    look_up = asyncio.create_task(accounts.identify("eva", key))
    await slow_store.found.wait()
    async with slow_store.transaction() as transaction:
        await slow_store.put_member(transaction, "tom", "eva", "Member")
    accounts.changed("eva")
    slow_store.gate.set()
    assert (await look_up).role_in("tom") is None
    assert (await accounts.identify("eva", key)).role_in("tom") is Role.MEMBER


async def test_a_caller_has_its_own_role_that_of_a_member_or_none(accounts: Accounts, store: Store) -> None:
    await accounts.ensure_admin()
    keys = {name: await accounts.add_user(name) for name in ("eva", "tom")}
    async with store.transaction() as transaction:
        await store.put_member(transaction, "tom", "eva", "DataManager")
    eva, tom = [await accounts.identify(name, key) for name, key in keys.items()]
    assert [eva.role_in(owner) for owner in ("eva", "tom", "admin", "")] == [Role.ADMIN, Role.DATA_MANAGER, None, None]
    assert [tom.role_in(owner) for owner in ("eva", "tom")] == [None, Role.ADMIN]
    admin = await accounts.identify(ADMIN, await accounts.replace_key(ADMIN, "full"))
    assert [admin.role_in(owner) for owner in ("admin", "eva", "nobody")] == [Role.ADMIN] * 3
    read_only = await accounts.identify(ADMIN, await accounts.replace_key(ADMIN, "read_only"))
    assert [read_only.role_in(owner) for owner in ("admin", "eva")] == [Role.ADMIN, None]


async def test_a_user_removed_by_another_process_is_unknown_a_second_later(
    accounts: Accounts, other_process: Accounts, clock: Clock
) -> None:
    key = await accounts.add_user("eva")
    await accounts.identify("eva", key)
    await other_process.remove_user("eva")
    clock.now_s += 1.0
    assert await code_of(accounts.identify("eva", key)) == "unauthorized"


async def test_a_user_added_by_another_process_is_known_at_once(accounts: Accounts, other_process: Accounts) -> None:
    await accounts.ensure_admin()
    key = await other_process.add_user("eva")
    assert (await accounts.identify("eva", key)).name == "eva"


async def test_a_known_caller_costs_no_question_to_the_database_within_a_second(
    accounts: Accounts, store: Store, clock: Clock
) -> None:
    key = await accounts.add_user("eva")
    await accounts.identify("eva", key)
    await store.close()
    clock.now_s += 0.9
    assert (await accounts.identify("eva", key)).name == "eva"


async def test_the_memory_of_callers_is_bounded(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_CALLERS", 3)
    keys = {name: await accounts.add_user(name) for name in ("a", "b", "c", "d", "e")}
    for _ in range(2):
        for name, key in keys.items():
            assert (await accounts.identify(name, key)).name == name
    assert len(accounts._callers) == 3


async def test_the_first_start_makes_the_admin_and_a_key_file_only_its_owner_can_read(accounts: Accounts, key_file: Path) -> None:
    await accounts.ensure_admin()
    text = key_file.read_text()
    assert KEY.fullmatch(text[:-1])
    assert text[-1] == "\n"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert await accounts.identify(ADMIN, text.strip()) == Caller(ADMIN, "full", is_admin=True)
    assert [path.name for path in key_file.parent.iterdir() if "admin" in path.name] == ["admin.key"]


async def test_a_later_start_keeps_the_key(accounts: Accounts, key_file: Path) -> None:
    await accounts.ensure_admin()
    text = key_file.read_text()
    await accounts.ensure_admin()
    assert key_file.read_text() == text
    assert (await accounts.identify(ADMIN, text.strip())).is_admin


async def test_a_lost_key_file_is_replaced_by_a_new_key_and_the_old_key_stops_working(accounts: Accounts, key_file: Path) -> None:
    await accounts.ensure_admin()
    old = key_file.read_text().strip()
    key_file.unlink()
    await accounts.ensure_admin()
    assert await code_of(accounts.identify(ADMIN, old)) == "unauthorized"
    assert (await accounts.identify(ADMIN, key_file.read_text().strip())).is_admin


async def test_a_key_file_without_its_database_lets_the_admin_in(accounts: Accounts, key_file: Path) -> None:
    key_file.write_text("0123456789abcdef" * 2)
    await accounts.ensure_admin()
    assert (await accounts.identify(ADMIN, "0123456789abcdef" * 2)).is_admin


async def test_a_key_written_into_the_file_by_hand_becomes_the_admins(accounts: Accounts, key_file: Path) -> None:
    await accounts.ensure_admin()
    key_file.write_text("0123456789abcdef" * 2 + "\n")
    await accounts.ensure_admin()
    assert (await accounts.identify(ADMIN, "0123456789abcdef" * 2)).is_admin


async def test_a_key_file_without_a_key_stops_the_start_and_says_what_to_do(accounts: Accounts, key_file: Path) -> None:
    key_file.write_text("secret\n")
    with pytest.raises(EngineError, match=r"admin.key does not hold a key .* remove the file"):
        await accounts.ensure_admin()
    assert key_file.read_text() == "secret\n"


async def test_a_new_admin_key_goes_into_the_file_so_the_old_one_never_comes_back(accounts: Accounts, key_file: Path) -> None:
    await accounts.ensure_admin()
    old = key_file.read_text().strip()
    new = await accounts.replace_key(ADMIN, "full")
    assert key_file.read_text() == new + "\n"
    await accounts.ensure_admin()
    assert await code_of(accounts.identify(ADMIN, old)) == "unauthorized"


async def test_the_admins_read_only_key_is_not_an_admins_and_not_in_the_file(accounts: Accounts, key_file: Path) -> None:
    await accounts.ensure_admin()
    text = key_file.read_text()
    key = await accounts.replace_key(ADMIN, "read_only")
    assert await accounts.identify(ADMIN, key) == Caller(ADMIN, "read_only", is_admin=False)
    assert key_file.read_text() == text


async def test_the_admin_cannot_be_removed(accounts: Accounts, key_file: Path) -> None:
    await accounts.ensure_admin()
    assert await code_of(accounts.remove_user(ADMIN)) == "invalid_request"
    assert (await accounts.identify(ADMIN, key_file.read_text().strip())).is_admin


async def test_users_are_listed_by_name_with_the_time_they_were_made(accounts: Accounts) -> None:
    await accounts.add_user("tom")
    await accounts.add_user("eva")
    users = await accounts.list_users()
    assert [user.name for user in users] == ["eva", "tom"]
    assert all(user.created_at.endswith("Z") for user in users)
