"""Projects, set up from the settings: what they have, the kinds of their jobs, and the removal of what is deleted.

Only the server does these jobs: they need its models and its catalogue.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

from engine.disk import Disk
from engine.errors import EngineError
from engine.preview.tasks import WARM_PRIORITY
from engine.projects.attribution_sets import AttributionSets
from engine.projects.attributions import Attributions
from engine.projects.datasets import ProjectDatasets
from engine.projects.files import DatasetListener, ProjectFolders
from engine.projects.fitting import FitLimits, Fitting
from engine.projects.graphs import Graphs
from engine.projects.models import Models
from engine.projects.objects import Objects
from engine.projects.plots import Plots
from engine.projects.projects import Projects
from engine.projects.publishing import ProjectModels, Publishing
from engine.projects.quota import ProjectQuota
from engine.projects.removal import Removal, RemoveFiles
from engine.projects.uploads import ProjectUploads, UploadLimits
from engine.repository.serving import Serving
from engine.store import Store, StoreError
from handlers.datasets.admission import DATASETS
from handlers.http import keys
from handlers.preview.keys import HOOKS, PREVIEW
from handlers.projects.answers import OBJECTS
from handlers.projects.attribution_sets import ATTRIBUTION_SETS
from handlers.projects.attributions import ATTRIBUTIONS
from handlers.projects.datasets import PROJECT_DATASETS
from handlers.projects.graphs import GRAPHS
from handlers.projects.models import MODELS, PUBLISHING
from handlers.projects.plots import PLOTS
from handlers.projects.projects import PROJECTS, REMOVAL
from handlers.projects.uploads import UPLOADS
from server.config import Settings

log = logging.getLogger("sluice.projects")

PROJECT_MODELS = web.AppKey("names_of_project_models", ProjectModels)


async def open_project_models(app: web.Application, store: Store, serving: Serving) -> None:
    """Learn which models projects have made, of which replicas open few ahead; before a replica is started."""
    app[PROJECT_MODELS] = names = ProjectModels(store)
    await names.read()
    serving.opens_ahead = names.opens_ahead


async def open_projects(app: web.Application, store: Store, disk: Disk, settings: Settings) -> None:
    """Open projects in the server. Preview must be open, and the jobs must not have been started."""
    jobs, engine = app[keys.JOBS], app[keys.ENGINE]
    folders = ProjectFolders(settings.data_dir.resolve())
    quota = ProjectQuota(store, folders, team_bytes=settings.team_project_bytes)
    objects = Objects(store, jobs, quota, jobs_per_team=settings.jobs_per_team)
    uploads = ProjectUploads(objects, folders, disk, settings.part(UploadLimits))
    listener = _listener(app, store, is_read_on_demand=settings.preview_on_demand)
    datasets = ProjectDatasets(objects, uploads, folders, disk, engine.pool("query"), listener)
    jobs.learn({kind.name: kind for kind in (uploads.kind(), datasets.kind())})
    app[OBJECTS], app[UPLOADS], app[PROJECT_DATASETS] = objects, uploads, datasets
    remove_files = {"upload": uploads.remove, "dataset": datasets.remove} | _open_models(app, folders, settings, listener)
    await objects.recover()
    await uploads.clean()
    await datasets.clean()
    await app[PUBLISHING].clean()
    app[REMOVAL] = removal = Removal(store, jobs, remove_files)
    engine.spawn(removal.run(), "remove what projects have lost")
    app[PROJECTS] = Projects(store, jobs, _names(app, folders))


def _open_models(
    app: web.Application, folders: ProjectFolders, settings: Settings, listener: DatasetListener
) -> dict[str, RemoveFiles]:
    """Open graphs, models and what is made of models; gives what removes the files of each kind."""
    objects, datasets, engine, jobs = app[OBJECTS], app[PROJECT_DATASETS], app[keys.ENGINE], app[keys.JOBS]
    queries, limits = engine.pool("query"), settings.part(FitLimits)
    graphs = Graphs(objects.store, queries)
    models = Models(objects, datasets, graphs, app[keys.REPOSITORY], queries, max_parameters=limits.fit_parameters)
    publishing = Publishing(objects, app[keys.PUBLISHER], app[keys.SERVING], app[PROJECT_MODELS], engine.spawn)
    app[keys.PUBLISHER].quotas.is_left_out = app[PROJECT_MODELS].is_one
    fitting = Fitting(objects, models, datasets, graphs, publishing, limits)
    attributions = Attributions(models, datasets, folders, queries, listener, limit_s=limits.job_limit_s)
    sets = AttributionSets(objects, attributions)
    jobs.learn({kind.name: kind for kind in (fitting.kind(), attributions.kind(), sets.kind())})
    app[GRAPHS], app[MODELS], app[PUBLISHING] = graphs, models, publishing
    app[ATTRIBUTIONS], app[ATTRIBUTION_SETS] = attributions, sets
    app[PLOTS] = Plots(models, attributions, datasets, graphs, queries)
    return {"model": publishing.remove, "attribution": attributions.remove, "attribution_set": sets.remove}


def _listener(app: web.Application, store: Store, *, is_read_on_demand: bool) -> DatasetListener:
    """Tells preview of datasets that are there from now on, or are gone.

    Preview lists a new one, and reads it when somebody asks for it. Its jobs would take the place of what people wait for after a
    join or an attribution: a fit, another attribution.
    """

    async def tell(title: str) -> None:
        preview = app[PREVIEW]
        preview.catalogue.changed(title)
        try:
            is_there = await preview.catalogue.find(title) is not None  # it is listed from now on
            if await store.find_cached_dataset(title) is not None:
                await app[HOOKS].run(asked=[title], removed=None)
            elif is_there and not is_read_on_demand:
                await preview.states.ask(title, priority=WARM_PRIORITY)
        except (EngineError, StoreError) as error:  # the same
            log.warning("preview not told dataset=%s reason=%r", title, str(error))

    def begin(title: str) -> None:
        app[keys.ENGINE].spawn(tell(title), f"tell preview of {title}")

    return DatasetListener(begin, app[PREVIEW].states.forget)


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
