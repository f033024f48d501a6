"""Repositories on the folders of a test, opened in real replicas; and what their models answer."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from engine import metrics
from engine.replicas.blocks import Block, Call, Lane, ServedModel, Task
from engine.replicas.lines import Lines
from engine.replicas.pool import Pool
from engine.replicas.replica import DEFAULT_OPTIONS, Replica, ReplicaOptions
from engine.repository.index import Repository, Version
from engine.repository.listed import ListedModels
from engine.repository.serving import Serving
from engine.store import Store
from tests.publishing import uploads

SCORE = Task("score", family="scoring", pool="score", time_limit_s=30, max_deaths=2)
# `slow` with an example of this many turns takes some tenths of a second to open, so a test can act in the middle.
SLOW_TURNS = 3000


@asynccontextmanager
async def running(name: str = "score", size: int = 2, options: ReplicaOptions = DEFAULT_OPTIONS) -> AsyncIterator[Pool]:
    """A pool of replicas."""
    pool = Pool(name, size, options, silence_limit_s=30)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


class Opened:
    """A repository of two roots, as a server has it, and the Serving of its models. Its parts may be used by a Publisher."""

    def __init__(self, folder: Path, store: Store, pool: Pool, load_timeout_s: float) -> None:
        self.shipped, self.root = folder / "shipped", folder / "models"
        self.store = store
        self.pool = pool
        self.repository = Repository([self.shipped, self.root])
        self.listed = ListedModels(self.repository)
        self.serving = Serving(self.repository, self.listed, pool, load_timeout_s=load_timeout_s, spawn=self.spawn)
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def scan(self) -> None:
        """Read the roots and the lists, as a server does when it starts."""
        self.repository.scan(await self.store.list_model_overrides())
        self.listed.read()

    async def close(self) -> None:
        """Leave nothing open in replicas that other tests use, too."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self.repository.models():
            for version in model.versions.values():
                self.serving.retire(version)
        self.pool.on_ready = None

    # Its models

    def active(self, title: str) -> Version:
        owner, name = title.split("/")
        model = self.repository.find(owner, name)
        assert model is not None
        assert model.active is not None
        return model.active

    def version(self, title: str, number: int) -> Version:
        owner, name = title.split("/")
        model = self.repository.find(owner, name)
        assert model is not None
        return model.versions[number]

    def replicas_with(self, version: Version) -> list[Replica]:
        """The replicas that have this version open, or are opening it."""
        key = f"{version.title}@{version.number}"
        return [replica for replica in self.pool.replicas if key in replica.loaded]

    def is_open_everywhere(self, version: Version) -> bool:
        """Whether as many replicas as the pool should have are ready, have this version open and are not opening any other."""
        return sum(not replica.num_opening for replica in self.replicas_with(version)) == self.pool.size

    async def answer(self, version: Version, **record: Any) -> Any:
        """What a version makes of one record."""
        with self.serving.using(self.serving.served(version)):
            return await scored(self.pool, await self.serving.ensure_loaded(self.serving.served(version)), record)

    def files(self) -> list[str]:
        """Every file and folder of the writable root, including hidden ones; but no lists and locks of lists."""
        found = [Path(folder, name) for folder, folders, names in os.walk(self.root) for name in (*folders, *names)]
        return sorted(str(path.relative_to(self.root)) for path in found if path.parent != self.root or path.is_dir())


@asynccontextmanager
async def opened(folder: Path, pool: Pool, *, load_timeout_s: float = 30) -> AsyncIterator[Opened]:
    """A repository on `folder`/shipped and `folder`/models."""
    store = await Store.open(folder / "sluice.db")
    world = Opened(folder, store, pool, load_timeout_s)
    try:
        await world.scan()
        yield world
    finally:
        await world.close()
        await store.close()


def write(root: Path, title: str, graph: bytes, config: dict[str, Any] | None = None, *, number: int = 1) -> Path:
    """Put a version into a root as a person would do it; returns its folder."""
    owner, name = title.split("/")
    folder = root / owner / name / str(number)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    (folder / "config.json").write_text(json.dumps((config or uploads.config()) | {"owner": owner, "name": name}))
    return folder


def deadly() -> tuple[bytes, dict[str, Any]]:
    """A graph, and a config whose example kills the process that opens the model."""
    inputs = [{"kind": "column", "input": "divisor", "field": "d"}]
    return uploads.deadly(), uploads.config(inputs=inputs, outputs=[{"output": "quotient", "as": "q"}], example={"d": -1})


async def scored(pool: Pool, model: ServedModel, record: dict[str, Any]) -> Any:
    call = Call()
    pool.submit(Block(SCORE, Lane.INTERACTIVE, call, {}, Lines.of_body(json.dumps(record).encode()), model))
    async with asyncio.timeout(30):
        answer = await call.future
    return json.loads(bytes(answer.payload))["result"]


def num_loads(title: str, outcome: str = "loaded") -> float:
    """How often replicas have opened some version of a model since the tests began."""
    families = text_string_to_metric_families(b"".join(metrics.MODEL_LOADS.texts()).decode())
    samples = [sample for family in families for sample in family.samples]
    wanted = {"model": title, "outcome": outcome}
    return next((one.value for one in samples if one.name == "sluice_model_loads_total" and one.labels == wanted), 0)


async def until(condition: Callable[[], bool]) -> None:
    """A pool has no event for what only tests look at."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
