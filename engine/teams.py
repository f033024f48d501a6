"""Teams: who is in them, with which role, and which names belong to their projects.

Knows no HTTP and no SQL.
"""

import re

from engine.accounts import Accounts
from engine.errors import FORBIDDEN, Code, EngineError, Kind
from engine.roles import ROLES, Role
from engine.store import Store

__all__ = ["ROLES", "Role", "Teams"]

UNKNOWN_TEAM = Code("unknown_team", Kind.NOT_FOUND, "there is no such team, or the caller is not in it")
UNKNOWN_USER = Code("unknown_user", Kind.NOT_FOUND, "there is no such user, or the user is not in the team")
ROLE_TOO_LOW = Code("role_too_low", Kind.FORBIDDEN, "the caller's role in the team does not allow this")
TEAM_NOT_EMPTY = Code("team_not_empty", Kind.CONFLICT, "the team has projects")
LAST_ADMIN = Code("last_admin", Kind.CONFLICT, "the team would be left without an Admin")
RESERVED_NAME = Code("reserved_name", Kind.INVALID, "paths of the server begin with this word")

PROJECT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")
# What a project makes is called so.
MADE = re.compile(rf"(?P<project>{PROJECT_ID.pattern})-(?:dataset|attribution|model)-[1-9][0-9]*")


class Teams:
    """The teams of one store."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts

    async def exists(self, team: str) -> bool:
        return await self._store.find_team(team) is not None

    async def has_project(self, team: str, project: str) -> bool:
        """Whether the team has this project; one that is being removed is not found any more."""
        return await self._store.has_project(team, project)

    async def made_by_project(self, owner: str, name: str) -> bool:
        """Whether a model or dataset of this name belongs to a project of its owner, which alone may change it."""
        found = MADE.fullmatch(name)
        return found is not None and await self._store.has_project(owner, found["project"], also_removed=True)

    async def check_not_made(self, owner: str, name: str) -> None:
        """EngineError `forbidden` for what belongs to a project, however it is called: elsewhere nobody may make or change it."""
        if await self.made_by_project(owner, name):
            raise EngineError(FORBIDDEN, "this belongs to a project, and is made, changed and deleted only through that")
