"""What a project is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a team."""

    team: str
    id: str

    @property
    def party(self) -> str:
        """team/id"""
        return f"{self.team}/{self.id}"
