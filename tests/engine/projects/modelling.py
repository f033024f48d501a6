"""Models of projects with a real store, real replicas and real folders, but without a server: a test sees what lies between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.disk import Disk
from engine.engine import JOBS_OPTIONS, QUERY_OPTIONS
from engine.jobs import JobOptions, Jobs
from engine.projects.datasets import ProjectDatasets
from engine.projects.files import DatasetListener, ProjectFolders
from engine.projects.fitting import FitLimits, Fitting
from engine.projects.graphs import Graphs
from engine.projects.models import FitParameters, FitRequest, Models
from engine.projects.objects import Object, Objects, encoded
from engine.projects.publishing import ProjectModels, Publishing
from engine.projects.quota import ProjectQuota
from engine.projects.uploads import ProjectUploads, UploadLimits
from engine.replicas.pool import Pool
from engine.repository.publishing import Publisher, PublishingLimits
from engine.store import ObjectEnd, ObjectName
from tests.engine.projects.opened import AT, DEMO, GIB
from tests.engine.repository.opened import Opened, opened
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import Data

MIB = 1024 * 1024
DATASET = 1
# A fit of about a second.
QUICK = FitParameters(epochs=0, inference="map")
# A fit of minutes.
LONG = FitParameters(epochs=20_000, inference="vi", samples=256)


@dataclass
class House:
    """What a test has open."""

    world: Opened
    jobs: Jobs
    objects: Objects
    models: Models
    publishing: Publishing
    names: ProjectModels
    data: Data
    activations: list[str]

    async def build(self, parameters: FitParameters = QUICK, *, activate: bool = False) -> Object:
        wanted = FitRequest(DATASET, self.data.dates, [], activate, parameters, "eva")
        return await self.models.build(DEMO, sets.COMBINATION, sets.star(sets.node("tv", "media")), wanted)

    async def until(self, made: Object, condition: Callable[[Object], bool]) -> Object:
        """The object once it is so: the database tells nobody."""
        found = made

        async def is_so() -> bool:
            nonlocal found
            found = await self.objects.get(made.project, made.kind, made.iid)
            return condition(found)

        await until(is_so)
        return found

    async def ended(self, made: Object) -> Object:
        return await self.until(made, lambda found: found.is_finished)

    def published(self) -> list[str]:
        """Files and folders under the root of models, hidden ones included."""
        return self.world.files()


async def told(title: str) -> None:
    """Nobody previews these datasets."""


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def modelling(folder: Path, score: Pool, *, is_started: bool = True) -> AsyncIterator[House]:
    """A project with one dataset. score: the pool that serves models."""
    query, jobs_pool = (Pool(name, 2, options, silence_limit_s=60) for name, options in POOLS.items())
    async with opened(folder, score) as world:
        jobs = Jobs(world.store, jobs_pool, {}, JobOptions(2, sleep_s=3600, most_quick=2))
        try:
            await query.start()
            await jobs_pool.start()
            house = await _house(folder, world, jobs, jobs_pool, query)
            if is_started:
                await jobs.start()
            yield house
        finally:
            await jobs.stop()
            await jobs_pool.stop()
            await query.stop()


POOLS = {"query": QUERY_OPTIONS, "jobs": JOBS_OPTIONS}


async def _house(folder: Path, world: Opened, jobs: Jobs, jobs_pool: Pool, query: Pool) -> House:
    store, disk = world.store, Disk(folder, reserve_bytes=0)
    folders = ProjectFolders(folder)
    objects = Objects(store, jobs, ProjectQuota(store, folders, team_bytes=GIB), jobs_per_team=50)
    uploads = ProjectUploads(objects, folders, disk, UploadLimits(MIB, 1000))
    datasets = ProjectDatasets(objects, uploads, folders, disk, query, DatasetListener(str, told))
    data = await _dataset(objects, folders)
    graphs = Graphs(store, query)
    models = Models(objects, datasets, graphs, world.repository, query, max_parameters=400)
    publisher = Publisher(store, world.serving, jobs_pool, disk, LIMITS)
    names = ProjectModels(store)
    await names.read()
    world.serving.opens_ahead = names.opens_ahead
    publishing = Publishing(objects, publisher, world.serving, names, world.spawn)
    fitting = Fitting(objects, models, datasets, graphs, publishing, FitLimits(400, 1200, 40, 3600.0))
    jobs.learn({"fit": fitting.kind()})
    return House(world, jobs, objects, models, publishing, names, data, [])


LIMITS = PublishingLimits(
    max_uploads_per_user=3,
    model_limit_bytes=100 * MIB,
    keep_versions=3,
    check_timeout_s=60,
    user_models=1000,
    user_versions=1000,
    user_bytes=1000 * MIB,
    drain_s=3,
)


async def _dataset(objects: Objects, folders: ProjectFolders) -> Data:
    """A complete dataset, whose files are there, in a project."""
    name = ObjectName(DEMO.team, DEMO.id, "dataset", DATASET)
    data = sets.plain(folders.dataset(name))
    store = objects.store
    async with store.transaction() as transaction:
        await transaction.run("INSERT INTO teams (id, name) VALUES ('acme', 'Acme') ON CONFLICT DO NOTHING")
        add = "INSERT INTO project (team, id, name, created_at) VALUES ('acme', 'demo', 'Demo', ?) ON CONFLICT DO NOTHING"
        if await transaction.run(add, (AT,)):
            await store.next_number(transaction, DEMO.team, DEMO.id, "dataset")
            await store.add_object(transaction, name, request="{}", created_at=AT, by="eva")
            extra = encoded({kind: Path(path).name for kind, path in data.files.items()})
            await store.end_object(transaction, name, ObjectEnd("success", AT, result="{}", extra=extra), None)
    return data
