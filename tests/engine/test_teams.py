"""Teams keep their rules whatever is asked in which order, and a caller's roles are those of the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import teams as module
from engine.accounts import Accounts
from engine.errors import EngineError
from engine.roles import Role
from engine.store import Store
from engine.teams import TeamNames, Teams

USERS = ["ann", "bob", "cyd"]
TEAMS = [*USERS, "blue"]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Accounts, Teams, dict[str, str]]]:
    """The accounts and teams of a database with USERS, and their keys."""
    store = await Store.open(path)
    accounts = Accounts(store, key_file=path.with_name("admin.key"), is_taken=lambda name: False)
    names = TeamNames(lambda name: name == "api", lambda name: name == "taken")
    try:
        yield accounts, Teams(store, accounts, names), {name: await accounts.add_user(name) for name in USERS}
    finally:
        await accounts.close()
        await store.close()


async def code_of(awaitable: Any) -> str | None:
    """The code of the refusal, None if there was none."""
    try:
        await awaitable
    except EngineError as error:
        return str(error.code)
    return None


CHANGES = st.lists(
    st.tuples(st.sampled_from(TEAMS), st.sampled_from([*USERS, "nobody"]), st.sampled_from([*Role, None])), max_size=25
)


@settings(max_examples=40, deadline=None)
@given(changes=CHANGES)
def test_after_any_changes_each_team_has_an_admin_and_callers_have_the_roles_they_were_given(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str, Role | None]]
) -> None:
    asyncio.run(_change(tmp_path_factory.mktemp("teams") / "sluice.db", changes))


async def _change(path: Path, changes: list[tuple[str, str, Role | None]]) -> None:
    """Make the changes, and hold each answer against a model of the rules in a dictionary; a role of None removes a member."""
    async with opened(path) as (accounts, teams, keys):
        await teams.make(await accounts.identify("ann", keys["ann"]), "blue", "Blue")
        roles = {(name, name): Role.ADMIN for name in USERS} | {("blue", "ann"): Role.ADMIN}
        for team, user, role in changes:
            told = await code_of(teams.put_member(team, user, role) if role else teams.remove_member(team, user))
            assert told == _refusal(roles, team, user, role)
            if told is None:
                roles.pop((team, user), None)
                roles |= {(team, user): role} if role else {}
            for name, key in keys.items():
                caller = await accounts.identify(name, key)
                assert {one: caller.role_in(one) for one in TEAMS} == {one: roles.get((one, name)) for one in TEAMS}
        for team in TEAMS:
            assert dict(await teams.members(team)) == {user: role for (one, user), role in roles.items() if one == team}
            assert Role.ADMIN in dict(await teams.members(team)).values()


def _refusal(roles: dict[tuple[str, str], Role], team: str, user: str, role: Role | None) -> str | None:
    had = roles.get((team, user))
    if user == "nobody" or (role is None and had is None):
        return "unknown_user"
    others = [one for (at, name), one in roles.items() if at == team and name != user]
    if had is not None and role is not Role.ADMIN and (user == team or (had is Role.ADMIN and Role.ADMIN not in others)):
        return "last_admin"
    return None


async def test_a_team_has_a_bounded_number_of_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 2)
    async with opened(tmp_path / "sluice.db") as (_, teams, _keys):
        await teams.put_member("ann", "bob", Role.MEMBER)
        assert await code_of(teams.put_member("ann", "cyd", Role.MEMBER)) == "too_many_members"
        assert await code_of(teams.put_member("ann", "bob", Role.MANAGER)) is None
        assert [user for user, _ in await teams.members("ann")] == ["ann", "bob"]


async def test_a_user_is_in_a_bounded_number_of_teams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TEAMS", 2)
    async with opened(tmp_path / "sluice.db") as (accounts, teams, keys):
        ann = await accounts.identify("ann", keys["ann"])
        await teams.make(ann, "blue", "Blue")
        assert await code_of(teams.make(ann, "red", "Red")) == "too_many_members"
        assert not await teams.exists("red")
        assert await code_of(teams.put_member("bob", "ann", Role.MEMBER)) == "too_many_members"


@pytest.mark.parametrize(
    ("name", "code"), [("api", "reserved_name"), ("taken", "name_taken"), ("ANN", "name_taken"), ("a/b", "invalid_request")]
)
async def test_a_team_needs_a_name_that_is_allowed_and_free(tmp_path: Path, name: str, code: str) -> None:
    async with opened(tmp_path / "sluice.db") as (accounts, teams, keys):
        assert await code_of(teams.make(await accounts.identify("ann", keys["ann"]), name, "x")) == code
