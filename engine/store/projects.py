"""Projects: which there are, and the numbers that they have given to their objects.

A project that is being removed keeps its row until all that it made is gone, and is not found meanwhile. Knows no kind of object.
"""

from dataclasses import dataclass

from engine.store.connection import Database, Transaction

# Which projects has a team, oldest first?
LIST_PROJECTS = "SELECT team, id, name, created_at FROM project WHERE team = ? AND NOT is_removed ORDER BY created_at, id"
# Is there such a project?
FIND_PROJECT = "SELECT team, id, name, created_at FROM project WHERE team = ? AND id = ? AND NOT is_removed"
# Add a project, unless its team has one of this id, be it one that is being removed.
ADD_PROJECT = "INSERT INTO project (team, id, name, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
RENAME_PROJECT = "UPDATE project SET name = ? WHERE team = ? AND id = ? AND NOT is_removed"
# A project is not found from now on.
HIDE_PROJECT = "UPDATE project SET is_removed = 1 WHERE team = ? AND id = ? AND NOT is_removed"
# Which projects are being removed?
LIST_HIDDEN = "SELECT team, id, name, created_at FROM project WHERE is_removed"
# A project is gone, with all that the database has of it; its numbers stay.
REMOVE_PROJECT = "DELETE FROM project WHERE team = ? AND id = ? AND is_removed"
# The next number of a kind of object, which nobody has had before.
NEXT_NUMBER = """
    INSERT INTO project_number (team, project, kind, highest) VALUES (?, ?, ?, 1)
    ON CONFLICT (team, project, kind) DO UPDATE SET highest = highest + 1
    RETURNING highest
"""


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """created_at is UTC, as 2026-01-31T09:00:00Z."""

    team: str
    id: str
    name: str
    created_at: str


class ProjectStore(Database):
    """What the store answers about projects."""

    async def list_projects(self, team: str) -> list[ProjectRow]:
        """Oldest first."""
        return [ProjectRow(*row) for row in await self._rows(LIST_PROJECTS, (team,))]

    async def find_project(self, team: str, project: str) -> ProjectRow | None:
        rows = await self._rows(FIND_PROJECT, (team, project))
        return ProjectRow(*rows[0]) if rows else None

    async def add_project(self, row: ProjectRow) -> bool:
        """False when the team has a project of this id, or had one that is still being removed."""
        return await self._write((ADD_PROJECT, (row.team, row.id, row.name, row.created_at)))

    async def rename_project(self, team: str, project: str, name: str) -> bool:
        """False when there is no such project."""
        return await self._write((RENAME_PROJECT, (name, team, project)))

    async def list_hidden_projects(self) -> list[ProjectRow]:
        """Those that are being removed."""
        return [ProjectRow(*row) for row in await self._rows(LIST_HIDDEN)]

    async def remove_project(self, team: str, project: str) -> bool:
        """Forget a project that is being removed; False when there is none."""
        return await self._write((REMOVE_PROJECT, (team, project)))

    # In a transaction

    async def hide_project(self, transaction: Transaction, team: str, project: str) -> bool:
        """The project is not found from now on; False when it was not found before."""
        return await transaction.run(HIDE_PROJECT, (team, project)) > 0

    async def next_number(self, transaction: Transaction, team: str, project: str, kind: str) -> int:
        """A number for an object of this kind that none of the project had before."""
        rows = await transaction.rows(NEXT_NUMBER, (team, project, kind))
        return int(rows[0][0])
