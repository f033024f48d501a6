"""Tokens end at their second, also for what still runs; their uses are noted once a minute; their number is bounded."""

# ruff: noqa: ASYNC240  (a test may wait for a small file)

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import tokens as module
from engine.accounts import Accounts, Right
from engine.errors import EngineError
from engine.roles import Role
from engine.store import Store
from engine.times import as_text
from engine.tokens import DAY_S, Tokens

NOW_S = 1_800_000_000.0


class Clock:
    """Seconds since 1970 that a test moves by hand."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sluice.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = await Store.open(path)
    yield store
    await store.close()


@pytest.fixture
async def accounts(store: Store, tmp_path: Path, now: Clock) -> AsyncIterator[Accounts]:
    """With the users eva and tom."""
    accounts = made(store, tmp_path, now)
    for name in ("eva", "tom"):
        await accounts.add_user(name)
    yield accounts
    await accounts.close()


def made(store: Store, folder: Path, now: Clock) -> Accounts:
    return Accounts(store, key_file=folder / "admin.key", is_taken=lambda name: False, now=now)


@pytest.fixture
def tokens(store: Store, accounts: Accounts, now: Clock) -> Tokens:
    return Tokens(store, accounts, now=now)


async def new(tokens: Tokens, accounts: Accounts, seconds: float = 60, name: str = "eva") -> str:
    """A token of a user, made with the user's full key."""
    key = await accounts.replace_key(name, "full")
    return (await tokens.make(await accounts.identify(name, key), "ci", as_text(NOW_S + seconds))).value


async def code_of(awaitable: object) -> str:
    with pytest.raises(EngineError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.code


# At the second


async def test_a_token_ends_at_its_second_and_not_before(tokens: Tokens, accounts: Accounts, now: Clock) -> None:
    token = await new(tokens, accounts)
    now.now_s = NOW_S + 59.999
    assert (await accounts.identify("eva", token)).has_token
    now.now_s = NOW_S + 60
    assert await code_of(accounts.identify("eva", token)) == "token_expired"
    assert await code_of(accounts.identify(None, token)) == "token_expired"
    assert await code_of(accounts.identify("tom", token)) == "unauthorized"


async def test_an_expired_token_that_is_revoked_is_called_revoked(tokens: Tokens, accounts: Accounts, now: Clock) -> None:
    token = await new(tokens, accounts)
    now.now_s = NOW_S + 60
    await tokens.revoke("eva", 1)
    assert await code_of(accounts.identify("eva", token)) == "token_revoked"


async def test_what_still_runs_ends_with_the_token(tokens: Tokens, accounts: Accounts, now: Clock) -> None:
    token = await new(tokens, accounts, 3600)
    caller = await accounts.identify(None, token)
    await accounts.confirm(caller)
    ended = asyncio.Event()
    with accounts.while_valid(caller, ended.set):
        now.now_s = NOW_S + 3600
        async with asyncio.timeout(10):
            await ended.wait()
    assert await code_of(accounts.confirm(caller)) == "token_expired"


async def test_what_still_runs_ends_within_the_second_in_which_the_token_ends(
    store: Store, tmp_path: Path, accounts: Accounts
) -> None:
    """The watch looks once a second, and sooner where a token ends sooner."""
    with_real_time = Accounts(store, key_file=tmp_path / "admin.key", is_taken=lambda name: False)
    key = await accounts.replace_key("eva", "full")
    real = Tokens(store, with_real_time)
    token = (await real.make(await accounts.identify("eva", key), "ci", as_text(real._now() + 2))).value
    caller = await with_real_time.identify(None, token)
    ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    with with_real_time.while_valid(caller, lambda: ended.set_result(real._now())):
        async with asyncio.timeout(10):
            assert await ended >= caller.expires_at
    await with_real_time.close()


async def test_a_token_that_was_revoked_by_another_process_ends_within_a_second(
    store: Store, path: Path, tokens: Tokens, accounts: Accounts, now: Clock, tmp_path: Path
) -> None:
    token = await new(tokens, accounts, 3600)
    caller = await accounts.identify(None, token)
    other_store = await Store.open(path)
    ended = asyncio.Event()
    with accounts.while_valid(caller, ended.set):
        other = made(other_store, tmp_path, now)
        await Tokens(other_store, other, now=now).revoke("eva", 1)
        async with asyncio.timeout(10):
            await ended.wait()
    assert await code_of(accounts.confirm(caller)) == "token_revoked"
    await other_store.close()


async def test_a_right_is_asked_of_the_database_and_not_of_memory(store: Store, accounts: Accounts) -> None:
    key = await accounts.replace_key("eva", "full")
    caller = await accounts.identify("eva", key)
    right = Right("tom", Role.MEMBER)
    assert await code_of(accounts.confirm(caller, right)) == "forbidden"
    async with store.transaction() as transaction:
        await store.put_member(transaction, "tom", "eva", "Member")
    await accounts.confirm(caller, right)
    assert await code_of(accounts.confirm(caller, Right("tom", Role.ADMIN))) == "forbidden"
    await accounts.confirm(caller, Right("eva", Role.ADMIN))


async def test_the_admin_has_every_right_and_its_read_only_key_has_not(accounts: Accounts) -> None:
    await accounts.ensure_admin()
    keys = {kind: await accounts.replace_key("admin", kind) for kind in ("full", "read_only")}
    right = Right("tom", Role.ADMIN)
    await accounts.confirm(await accounts.identify("admin", keys["full"]), right)
    assert await code_of(accounts.confirm(await accounts.identify("admin", keys["read_only"]), right)) == "forbidden"


# What is remembered


async def test_a_known_token_is_known_without_the_database_until_it_changes(
    store: Store, tokens: Tokens, accounts: Accounts
) -> None:
    token = await new(tokens, accounts)
    caller = await accounts.identify(None, token)
    assert await accounts.identify("eva", token) is caller
    accounts.changed("tom")
    assert await accounts.identify("eva", token) is caller, "what changes for somebody else changes nothing for eva"
    accounts.changed("eva")
    assert await accounts.identify("eva", token) is not caller


async def test_the_value_of_a_token_is_neither_in_the_database_nor_in_memory(
    tokens: Tokens, accounts: Accounts, tmp_path: Path
) -> None:
    token = await new(tokens, accounts)
    await accounts.identify("eva", token)
    await tokens.of_user("eva", before=99, limit=99)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token[8:].encode() not in stored
    assert token not in repr(accounts._callers)


# Uses


async def last_use(tokens: Tokens) -> str | None:
    [row] = await tokens.of_user("eva", before=99, limit=99)
    return row.last_used_at


async def test_a_use_is_written_at_most_once_a_minute(store: Store, tokens: Tokens, accounts: Accounts, now: Clock) -> None:
    token = await new(tokens, accounts, 3600)
    assert await last_use(tokens) is None
    noted = []
    for seconds in (0, 1, 59, 60, 119, 121):
        now.now_s = NOW_S + seconds
        await accounts.identify(None, token)
        noted.append(await last_use(tokens))
    assert noted == [as_text(NOW_S + seconds) for seconds in (0, 0, 0, 60, 60, 121)]


async def test_uses_within_a_minute_commit_nothing(store: Store, tokens: Tokens, accounts: Accounts) -> None:
    token = await new(tokens, accounts, 3600)
    await accounts.identify(None, token)
    await last_use(tokens)
    before = store.num_commits
    for _ in range(100):
        await accounts.identify(None, token)
    await last_use(tokens)
    assert store.num_commits == before


async def test_another_process_does_not_write_a_use_again(
    path: Path, tmp_path: Path, tokens: Tokens, accounts: Accounts, now: Clock
) -> None:
    token = await new(tokens, accounts, 3600)
    await accounts.identify(None, token)
    await tokens.of_user("eva", before=99, limit=99)
    now.now_s = NOW_S + 30
    other_store = await Store.open(path)
    other = made(other_store, tmp_path, now)
    await other.identify(None, token)
    await other.close()
    await other_store.close()
    assert await last_use(tokens) == as_text(NOW_S)


async def test_a_use_that_cannot_be_written_hurts_nobody(
    path: Path, tmp_path: Path, tokens: Tokens, accounts: Accounts, now: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    token = await new(tokens, accounts, 3600)
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE tokens RENAME COLUMN last_used_at TO elsewhere")
    database.close()
    assert (await accounts.identify(None, token)).name == "eva"
    await accounts.uses.flush()
    assert "uses of tokens not written" in caplog.text
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE tokens RENAME COLUMN elsewhere TO last_used_at")
    database.close()
    now.now_s = NOW_S + 61
    await accounts.identify(None, token)
    assert await last_use(tokens) == as_text(NOW_S + 61)


# Numbers


async def test_a_number_is_never_used_again(tokens: Tokens, accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOKENS", 3)
    for number in range(1, 9):
        await new(tokens, accounts)
        assert (await tokens.revoke("eva", number)).iid == number
    assert [row.iid for row in await tokens.of_user("eva", before=99, limit=99)] == [8, 7, 6, 5]


async def test_a_user_has_a_bounded_number_of_tokens_that_work(
    tokens: Tokens, accounts: Accounts, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TOKENS", 3)
    for _ in range(3):
        await new(tokens, accounts)
    assert await code_of(new(tokens, accounts)) == "too_many_tokens"
    await new(tokens, accounts, name="tom")
    await tokens.revoke("eva", 1)
    await new(tokens, accounts, 120)
    now.now_s = NOW_S + 60
    await new(tokens, accounts, 120)
    assert [row.iid for row in await tokens.of_user("eva", before=99, limit=99)] == [5, 4, 3, 2]


async def test_a_user_who_was_removed_meanwhile_gets_no_token(tokens: Tokens, accounts: Accounts) -> None:
    key = await accounts.replace_key("eva", "full")
    caller = await accounts.identify("eva", key)
    await accounts.remove_user("eva")
    assert await code_of(tokens.make(caller, "ci", as_text(NOW_S + 60))) == "unauthorized"


async def test_a_year_is_the_longest(tokens: Tokens, accounts: Accounts) -> None:
    assert await new(tokens, accounts, 365 * DAY_S)
    assert await code_of(new(tokens, accounts, 365 * DAY_S + 1)) == "bad_expiry"
    assert await code_of(new(tokens, accounts, 0)) == "bad_expiry"
