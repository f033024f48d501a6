"""Projects, set up from the settings: what they have, the kinds of their jobs, and the removal of what is deleted.

Only the server does these jobs: they need its models and its catalogue.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

from engine.disk import Disk
from engine.errors import EngineError
from engine.projects.datasets import ProjectDatasets
from engine.projects.files import ProjectFolders
from engine.projects.objects import Objects
from engine.projects.projects import Projects
from engine.projects.removal import Removal
from engine.projects.uploads import ProjectUploads, UploadLimits
from engine.store import Store, StoreError
from handlers.datasets.admission import DATASETS
from handlers.http import keys
from handlers.preview.keys import HOOKS, PREVIEW
from handlers.projects.answers import OBJECTS
from handlers.projects.changes import REMOVAL
from handlers.projects.datasets import PROJECT_DATASETS
from handlers.projects.projects import PROJECTS
from handlers.projects.uploads import UPLOADS
from server.config import Settings

log = logging.getLogger("sluice.projects")


async def open_projects(app: web.Application, store: Store, disk: Disk, settings: Settings) -> None:
    """Open projects in the server. Preview must be open, and the jobs must not have been started."""
    jobs, engine = app[keys.JOBS], app[keys.ENGINE]
    folders = ProjectFolders(settings.data_dir.resolve())
    objects = Objects(store, jobs, jobs_per_team=settings.jobs_per_team)
    uploads = ProjectUploads(objects, folders, disk, settings.part(UploadLimits))
    datasets = ProjectDatasets(objects, uploads, folders, disk, engine.pool("query"), _teller(app))
    jobs.learn({kind.name: kind for kind in (uploads.kind(), datasets.kind())})
    await objects.recover()
    await uploads.clean()
    await datasets.clean()
    removal = Removal(store, jobs, {"upload": uploads.remove, "dataset": datasets.remove})
    engine.spawn(removal.run(), "remove what projects have lost")
    app[OBJECTS], app[UPLOADS], app[PROJECT_DATASETS], app[REMOVAL] = objects, uploads, datasets, removal
    app[PROJECTS] = Projects(store, jobs, _names(app, folders))


def _teller(app: web.Application) -> Callable[[str], None]:
    """A function that tells preview of a dataset that is there from now on, or is gone."""

    async def tell(title: str) -> None:
        app[PREVIEW].catalogue.changed(title)
        try:
            await app[HOOKS].run(asked=[title], removed=None)
        except (EngineError, StoreError) as error:  # preview finds the dataset when somebody asks for it
            log.warning("preview not told dataset=%s reason=%r", title, str(error))

    def begin(title: str) -> None:
        app[keys.ENGINE].spawn(tell(title), f"tell preview of {title}")

    return begin


def _names(app: web.Application, folders: ProjectFolders) -> Callable[[str], Awaitable[Collection[str]]]:
    """A function that gives the names of all models and datasets of a team."""

    def on_disk(team: str) -> set[str]:
        folder = folders.datasets / team
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    async def names_of(team: str) -> Collection[str]:
        models = {model.name for model in app[keys.REPOSITORY].models() if model.owner == team}
        datasets = {dataset.name for dataset in app[DATASETS] if dataset.org == team}
        return models | datasets | await asyncio.to_thread(on_disk, team)

    return names_of
