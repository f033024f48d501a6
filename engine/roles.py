"""Roles: what a member may do in a team. Each role includes those before it.

One word of a role is told to people and stands in the database. Knows no team and no caller.
"""

import enum


class Role(enum.IntEnum):
    """A role in a team, in the order of what it may do."""

    OBSERVER = 1
    MEMBER = 2
    DATA_MANAGER = 3
    MODEL_DEVELOPER = 4
    MANAGER = 5
    ADMIN = 6

    @property
    def word(self) -> str:
        """Such as `DataManager`."""
        return self.name.title().replace("_", "")


ROLES = {role.word: role for role in Role}

# What each role may do beside what those before it may.
MEANINGS = {
    Role.OBSERVER: "reads everything of a project, its plots too, and its datasets in preview and in queries",
    Role.MEMBER: "streams records through the models of the team",
    Role.DATA_MANAGER: "uploads files; makes, extends and deletes datasets",
    Role.MODEL_DEVELOPER: "makes, cancels and deletes graphs, models, attributions and attribution sets",
    Role.MANAGER: "chooses which dataset, models and attribution set are active, and names the project",
    Role.ADMIN: "makes and deletes projects, decides who is in the team, and deletes the team",
}
