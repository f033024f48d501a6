"""Projects: made, named, found, removed. What they have stands in the other files of this folder.

Knows no HTTP, no rights, and no files.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from engine.errors import NAME_TAKEN, EngineError
from engine.jobs import Jobs
from engine.projects.objects import JOB_KINDS, Project, now, unknown_project
from engine.store import ProjectRow, Store, Subject
from engine.teams import MADE


@dataclass(frozen=True, slots=True)
class ProjectCard:
    """What is shown of a project.

    active  numbers of the active objects of each kind that has some, ascending
    """

    project: Project
    name: str
    active: dict[str, list[int]] = field(default_factory=dict)

    def only(self, kind: str) -> int | None:
        """The active object of a kind of which at most one is."""
        return next(iter(self.active.get(kind, ())), None)


class Projects:
    """All projects.

    names_of  gives the names of all models and datasets that a team has, whatever made them
    """

    def __init__(self, store: Store, jobs: Jobs, names_of: Callable[[str], Awaitable[Collection[str]]]) -> None:
        self._store = store
        self._jobs = jobs
        self._names_of = names_of

    async def list(self, team: str) -> tuple[ProjectCard, ...]:
        """Those of a team, oldest first."""
        active: dict[str, dict[str, list[int]]] = {}
        for project, kind, iid in await self._store.list_active_of_team(team):
            active.setdefault(project, {}).setdefault(kind, []).append(iid)
        rows = await self._store.list_projects(team)
        return tuple(ProjectCard(Project(team, row.id), row.name, active.get(row.id, {})) for row in rows)

    async def get(self, project: Project) -> ProjectCard:
        """EngineError `unknown_project`."""
        for card in await self.list(project.team):
            if card.project == project:
                return card
        raise unknown_project()

    async def create(self, project: Project, name: str) -> ProjectCard:
        """A new project. EngineError `name_taken`: also when the team has a model or dataset that is called as one of its own."""
        if await self._store.find_project(project.team, project.id) is not None:
            raise _taken(project, "the team has a project of this id")
        for taken in await self._names_of(project.team):
            made = MADE.fullmatch(taken)
            if made is not None and made["project"] == project.id:
                raise _taken(project, f"the team has a model or dataset {taken}, as it would belong to this project")
        if not await self._store.add_project(ProjectRow(project.team, project.id, name, now())):
            raise _taken(project, "the team has a project of this id, or had one whose files are still being removed")
        return ProjectCard(project, name)

    async def rename(self, project: Project, name: str) -> ProjectCard:
        """EngineError `unknown_project`."""
        if not await self._store.rename_project(project.team, project.id, name):
            raise unknown_project()
        return await self.get(project)

    async def hide(self, project: Project) -> None:
        """Begin to remove a project: it is not found any more, and its jobs are cancelled. EngineError `unknown_project`."""
        async with self._store.transaction() as transaction:
            if not await self._store.hide_project(transaction, project.team, project.id):
                raise unknown_project()
            await self._store.hide_objects(transaction, project.team, project.id, None, None)
            await self._jobs.cancel(transaction, ("waiting", "started"), JOB_KINDS.values(), Subject(project.party))


def _taken(project: Project, reason: str) -> EngineError:
    return EngineError(NAME_TAKEN, f"The id {project.id} is taken: {reason}.")
