"""Teams and their members. Users and teams share one namespace, and each user has a team of the same id.

A role is stored as its word.
"""

from dataclasses import dataclass

from engine.store.connection import Database

# Of one team
FIND_TEAM = "SELECT id, name FROM teams WHERE id = ?"
# Which teams are there?
LIST_TEAMS = "SELECT id, name FROM teams ORDER BY id"
# Which teams is this user in?
LIST_TEAMS_OF = "SELECT t.id, t.name FROM members m JOIN teams t ON t.id = m.team WHERE m.user = ? ORDER BY t.id"
# Which projects do these teams have?
LIST_PROJECTS_OF = """
    SELECT team, id, name FROM project
    WHERE is_removed = 0 AND team IN (SELECT value FROM json_each(?)) ORDER BY team, id
"""
# Has the team such a project, also one that is being removed?
FIND_PROJECT = "SELECT is_removed FROM project WHERE team = ? AND id = ?"


@dataclass(frozen=True, slots=True)
class TeamRow:
    id: str
    name: str


class TeamStore(Database):
    """What the store answers about teams."""

    async def find_team(self, team: str) -> TeamRow | None:
        rows = await self._rows(FIND_TEAM, (team,))
        return TeamRow(*rows[0]) if rows else None

    async def has_project(self, team: str, project: str, *, also_removed: bool = False) -> bool:
        """Whether the team has a project of this id.

        also_removed  one that is being removed counts, until all that it made is gone
        """
        rows = await self._rows(FIND_PROJECT, (team, project))
        return bool(rows) and (also_removed or not rows[0][0])
