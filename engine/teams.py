"""Teams: who is in them, with which role, and which names belong to their projects.

Each user has a team of the same id, and is always its Admin. Knows no HTTP and no SQL.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.accounts import OWNER_NAME, Accounts, Caller
from engine.errors import FORBIDDEN, INVALID_REQUEST, NAME_TAKEN, Code, EngineError, Kind
from engine.roles import ROLES, Role
from engine.store import Store, TeamRow, Transaction

__all__ = ["ROLES", "Role", "Team", "TeamNames", "Teams"]

UNKNOWN_TEAM = Code("unknown_team", Kind.NOT_FOUND, "there is no such team, or the caller is not in it")
UNKNOWN_USER = Code("unknown_user", Kind.NOT_FOUND, "there is no such user, or the user is not in the team")
ROLE_TOO_LOW = Code("role_too_low", Kind.FORBIDDEN, "the caller's role in the team does not allow this")
TEAM_NOT_EMPTY = Code("team_not_empty", Kind.CONFLICT, "the team has projects")
LAST_ADMIN = Code("last_admin", Kind.CONFLICT, "the team would be left without an Admin, or a user's own team without the user")
RESERVED_NAME = Code("reserved_name", Kind.INVALID, "paths of the server begin with this word")
TOO_MANY_MEMBERS = Code("too_many_members", Kind.OVERLOADED, "the team has 1,000 members, or the user is in 200 teams")

# Every answer about a team has all its members, and every caller carries all its roles: 250 bytes each, once for each token.
MAX_MEMBERS = 1000
MAX_TEAMS = 200

PROJECT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")
# What a project makes is called so.
MADE = re.compile(rf"(?P<project>{PROJECT_ID.pattern})-(?:dataset|attribution|model)-[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Team:
    """A team, as one caller sees it.

    name      for people
    role      the caller's
    projects  id -> name
    """

    id: str
    name: str
    role: Role
    projects: dict[str, str]


@dataclass(frozen=True, slots=True)
class TeamNames:
    """What the rest of the server says about names.

    is_reserved  paths begin with it
    is_taken     it is reserved, or owns a model or a dataset
    """

    is_reserved: Callable[[str], bool]
    is_taken: Callable[[str], bool]


class Teams:
    """The teams of one store."""

    def __init__(self, store: Store, accounts: Accounts, names: TeamNames) -> None:
        self._store = store
        self._accounts = accounts
        self._names = names

    # Which teams there are

    async def exists(self, team: str) -> bool:
        return await self._store.find_team(team) is not None

    async def seen_by(self, caller: Caller) -> list[Team]:
        """The teams that the caller is in, by id; for the admin of the server all."""
        rows = await (self._store.list_teams() if caller.is_admin else self._store.list_teams_of(caller.name))
        return await self._shown(rows, caller)

    async def get(self, caller: Caller, team: str) -> Team:
        """EngineError `unknown_team`, also for an outsider."""
        row = await self._store.find_team(team)
        found = await self._shown([row], caller) if row else []
        if not found:
            raise unknown_team()
        return found[0]

    async def _shown(self, rows: Iterable[TeamRow], caller: Caller) -> list[Team]:
        seen = [(row, role) for row in rows if (role := caller.role_in(row.id)) is not None]
        projects: dict[str, dict[str, str]] = defaultdict(dict)
        for team, project, name in await self._store.list_projects_of(row.id for row, _ in seen):
            projects[team][project] = name
        return [Team(row.id, row.name, role, projects[row.id]) for row, role in seen]

    # Changes. Whether the caller may make them is checked before.

    async def make(self, caller: Caller, team: str, name: str) -> Team:
        """A new team, whose Admin is the caller.

        raises  EngineError `invalid_request`, `reserved_name`, `name_taken`, `too_many_members`
        """
        if not OWNER_NAME.fullmatch(team):
            text = "id: use 1 to 100 letters, digits and _ . @ + -, starting with a letter or digit"
            raise EngineError(INVALID_REQUEST, text)
        if self._names.is_reserved(team):
            raise EngineError(RESERVED_NAME, f"Paths of the server begin with '{team}', so no team can have this id.")
        if self._names.is_taken(team):
            raise name_taken(team)
        try:
            async with self._store.transaction() as transaction:
                if not await self._store.add_team(transaction, TeamRow(team, name)):
                    raise name_taken(team)
                await self._store.put_member(transaction, team, caller.name, Role.ADMIN.word)
                await self._check_room(transaction, team, caller.name)
        finally:
            self._accounts.changed(caller.name)
        return Team(team, name, Role.ADMIN, {})

    async def rename(self, team: str, name: str) -> None:
        """EngineError `unknown_team`."""
        if not await self._store.rename_team(team, name):
            raise unknown_team()

    async def remove(self, team: str) -> None:
        """Remove a team. What it owns stays, and the admin of the server may change that.

        raises  EngineError `team_not_empty`, `unknown_team`; `last_admin` for a user's own team
        """
        members = await self._store.list_members(team)
        if any(user == team for user, _ in members):
            raise EngineError(LAST_ADMIN, "This is the team of a user, and ends with the user.")
        try:
            if not await self._store.remove_team(team):
                raise unknown_team() if not await self.exists(team) else EngineError(TEAM_NOT_EMPTY, "Delete its projects first.")
        finally:
            for user, _ in members:
                self._accounts.changed(user)

    # Members

    async def members(self, team: str) -> list[tuple[str, Role]]:
        """User and role, by user."""
        return [(user, ROLES[role]) for user, role in await self._store.list_members(team)]

    async def put_member(self, team: str, user: str, role: Role, *, may_be_new: bool = True) -> bool:
        """Give a user a role in a team; True if the user was not in it.

        raises  EngineError `unknown_user`, `last_admin`, `too_many_members`
        """
        try:
            async with self._store.transaction() as transaction:
                had = await self._store.find_role(transaction, team, user)
                if had is None and not may_be_new:
                    raise unknown_user()
                if not await self._store.put_member(transaction, team, user, role.word):
                    raise unknown_user()
                if had is None:
                    await self._check_room(transaction, team, user)
                elif role is not Role.ADMIN:
                    await self._check_admins(transaction, team, user, had)
                return had is None
        finally:
            self._accounts.changed(user)

    async def remove_member(self, team: str, user: str) -> None:
        """EngineError `unknown_user`, `last_admin`."""
        try:
            async with self._store.transaction() as transaction:
                had = await self._store.find_role(transaction, team, user)
                if had is None:
                    raise unknown_user()
                await self._store.remove_member(transaction, team, user)
                await self._check_admins(transaction, team, user, had)
        finally:
            self._accounts.changed(user)

    async def _check_room(self, transaction: Transaction, team: str, user: str) -> None:
        num_members, num_teams = await self._store.count_members(transaction, team, user)
        if num_members > MAX_MEMBERS or num_teams > MAX_TEAMS:
            text = f"A team has at most {MAX_MEMBERS:,} members, and a user is in at most {MAX_TEAMS:,} teams."
            raise EngineError(TOO_MANY_MEMBERS, text)

    async def _check_admins(self, transaction: Transaction, team: str, user: str, had: str) -> None:
        """A user who had this role in the team is no Admin of it any more."""
        if user == team:
            raise EngineError(LAST_ADMIN, f"{user} is always an Admin of its own team.")
        if had == Role.ADMIN.word and not await self._store.count_admins(transaction, team):
            raise EngineError(LAST_ADMIN, "A team keeps at least one Admin.")

    # Projects

    async def has_project(self, team: str, project: str) -> bool:
        """Whether the team has this project; one that is being removed is not found any more."""
        return await self._store.has_project(team, project)

    async def made_by_project(self, owner: str, name: str) -> bool:
        """Whether a model or dataset of this name belongs to a project of its owner, which alone may change it."""
        found = MADE.fullmatch(name)
        return found is not None and await self._store.has_project(owner, found["project"], also_removed=True)

    async def check_not_made(self, owner: str, name: str) -> None:
        """EngineError `forbidden` for what belongs to a project: nobody makes, changes or deletes it elsewhere."""
        if await self.made_by_project(owner, name):
            raise EngineError(FORBIDDEN, "this belongs to a project, and is made, changed and deleted only through that")


def unknown_team() -> EngineError:
    return EngineError(UNKNOWN_TEAM, "There is no such team.")


def unknown_user() -> EngineError:
    return EngineError(UNKNOWN_USER, "There is no such user, or the user is not in the team.")


def name_taken(name: str) -> EngineError:
    return EngineError(NAME_TAKEN, f"The name '{name}' is in use.")
