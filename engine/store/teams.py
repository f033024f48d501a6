"""Teams and their members. Users and teams share one namespace, and each user has a team of the same id.

A role is stored as its word.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from engine.store.connection import Database, Transaction

# What is known of one team?
FIND_TEAM = "SELECT id, name FROM teams WHERE id = ?"
# Which teams are there?
LIST_TEAMS = "SELECT id, name FROM teams ORDER BY id"
# Which teams is this user in?
LIST_TEAMS_OF = "SELECT t.id, t.name FROM members m JOIN teams t ON t.id = m.team WHERE m.user = ? ORDER BY t.id"
# Add a team, unless a team or a user has the name, in any case of letters.
ADD_TEAM = """
    INSERT INTO teams (id, name) SELECT :id, :name
    WHERE NOT EXISTS (SELECT 1 FROM teams WHERE lower(id) = lower(:id))
        AND NOT EXISTS (SELECT 1 FROM users WHERE lower(name) = lower(:id))
"""
RENAME_TEAM = "UPDATE teams SET name = ? WHERE id = ?"
# Remove a team that has no projects; its memberships are removed with it.
REMOVE_TEAM = "DELETE FROM teams WHERE id = :id AND NOT EXISTS (SELECT 1 FROM project WHERE team = :id)"

# Who is in a team?
LIST_MEMBERS = "SELECT user, role FROM members WHERE team = ? ORDER BY user"
# How many members has the team, and in how many teams is the user?
COUNT_MEMBERS = """
    SELECT (SELECT count(*) FROM members WHERE team = :team), (SELECT count(*) FROM members WHERE user = :user)
"""
FIND_MEMBER = "SELECT role FROM members WHERE team = ? AND user = ?"
# Give a user, if there is one of that name, a role in a team, if there is one of that id.
PUT_MEMBER = """
    INSERT INTO members (team, user, role) SELECT t.id, u.name, :role FROM teams t, users u WHERE t.id = :team AND u.name = :user
    ON CONFLICT (team, user) DO UPDATE SET role = excluded.role
"""
REMOVE_MEMBER = "DELETE FROM members WHERE team = ? AND user = ?"
COUNT_ADMINS = "SELECT count(*) FROM members WHERE team = ? AND role = 'Admin'"

# Which projects do these teams have?
LIST_PROJECTS_OF = """
    SELECT team, id, name FROM project
    WHERE is_removed = 0 AND team IN (SELECT value FROM json_each(?)) ORDER BY team, id
"""
# Has the team such a project, and is that being removed?
FIND_PROJECT = "SELECT is_removed FROM project WHERE team = ? AND id = ?"


@dataclass(frozen=True, slots=True)
class TeamRow:
    """One team; `name` is for people."""

    id: str
    name: str


class TeamStore(Database):
    """What the store answers about teams."""

    async def find_team(self, team: str) -> TeamRow | None:
        rows = await self._rows(FIND_TEAM, (team,))
        return TeamRow(*rows[0]) if rows else None

    async def list_teams(self) -> list[TeamRow]:
        """Sorted by id."""
        return [TeamRow(*row) for row in await self._rows(LIST_TEAMS)]

    async def list_teams_of(self, user: str) -> list[TeamRow]:
        """Sorted by id."""
        return [TeamRow(*row) for row in await self._rows(LIST_TEAMS_OF, (user,))]

    async def list_members(self, team: str) -> list[tuple[str, str]]:
        """User and role of each member, sorted by user."""
        return [(user, role) for user, role in await self._rows(LIST_MEMBERS, (team,))]

    async def list_projects_of(self, teams: Iterable[str]) -> list[tuple[str, str, str]]:
        """Team, id and name of each project of these teams, sorted; those that are being removed are left out."""
        rows = await self._rows(LIST_PROJECTS_OF, (json.dumps(list(teams)),))
        return [(team, project, name) for team, project, name in rows]

    async def has_project(self, team: str, project: str, *, also_removed: bool = False) -> bool:
        """Whether the team has a project of this id.

        also_removed  one that is being removed counts, until all that it made is gone
        """
        rows = await self._rows(FIND_PROJECT, (team, project))
        return bool(rows) and (also_removed or not rows[0][0])

    async def rename_team(self, team: str, name: str) -> bool:
        """False when there is no such team."""
        return await self._write((RENAME_TEAM, (name, team)))

    async def remove_team(self, team: str) -> bool:
        """False when there is no such team, or when it has projects."""
        return await self._write((REMOVE_TEAM, {"id": team}))

    # In a transaction

    async def add_team(self, transaction: Transaction, team: TeamRow) -> bool:
        """False when a team or a user has the name."""
        return await transaction.run(ADD_TEAM, {"id": team.id, "name": team.name}) > 0

    async def count_members(self, transaction: Transaction, team: str, user: str) -> tuple[int, int]:
        """How many members the team has, and in how many teams the user is."""
        [(num_members, num_teams)] = await transaction.rows(COUNT_MEMBERS, {"team": team, "user": user})
        return num_members, num_teams

    async def count_admins(self, transaction: Transaction, team: str) -> int:
        [(num_admins,)] = await transaction.rows(COUNT_ADMINS, (team,))
        return int(num_admins)

    async def find_role(self, transaction: Transaction, team: str, user: str) -> str | None:
        """None when the user is not in the team."""
        rows = await transaction.rows(FIND_MEMBER, (team, user))
        return str(rows[0][0]) if rows else None

    async def put_member(self, transaction: Transaction, team: str, user: str, role: str) -> bool:
        """False when there is no such user or no such team."""
        return await transaction.run(PUT_MEMBER, {"team": team, "user": user, "role": role}) > 0

    async def remove_member(self, transaction: Transaction, team: str, user: str) -> bool:
        """False when the user is not in the team."""
        return await transaction.run(REMOVE_MEMBER, (team, user)) > 0
