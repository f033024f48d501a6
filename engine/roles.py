"""Roles: what a member may do in a team. Each role includes those before it.

One word of a role is told to people and stands in the database. Knows no team and no caller.
"""

import enum


class Role(enum.IntEnum):
    """A role in a team, in the order of what it may do."""

    OBSERVER = 1  # reads everything of a project, and its datasets in preview and query
    MEMBER = 2  # streams records through the models of the team
    DATA_MANAGER = 3  # makes and deletes uploads and datasets
    MODEL_DEVELOPER = 4  # makes and deletes graphs, models, attributions and attribution sets
    MANAGER = 5  # chooses which of them are active, and names projects
    ADMIN = 6  # makes and deletes projects, and decides who is in the team

    @property
    def word(self) -> str:
        """Such as `DataManager`."""
        return self.name.title().replace("_", "")


ROLES = {role.word: role for role in Role}
