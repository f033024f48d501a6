"""The application: what is opened before the first request and closed after the last, and which routes there are."""

import asyncio
import contextlib
import fcntl
import os
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from aiohttp import http_writer, web, web_response

from engine import metrics
from engine.accounts import Accounts
from engine.datasets import Dataset, DatasetChanges, DatasetLimits, Datasets, Lender, Sources, Upkeep
from engine.datasets.deletion import Deletion
from engine.disk import Disk
from engine.embeddings import EmbeddingLimits, Embeddings
from engine.engine import Engine, EngineLimits
from engine.ingestion import Ingestion, IngestionLimits
from engine.query.queries import Queries, QueryLimits
from engine.query.row_finder import RowFinder
from engine.query.texts import Texts
from engine.repository import folders
from engine.repository.index import Repository
from engine.repository.listed import ListedModels
from engine.repository.publishing import Publisher, PublishingLimits
from engine.repository.serving import Serving
from engine.spill import Spill
from engine.store import Store
from engine.streaming.predictions import PredictionLimits, Predictions
from engine.teams import Teams
from engine.tensors import TensorLimits, Tensors
from engine.tokens import Tokens
from handlers import (
    accounts,
    datasets,
    embeddings,
    front,
    openapi,
    operations,
    preview,
    projects,
    publish,
    query,
    repository,
    tensors,
)
from handlers.datasets.admission import CHANGES, DATASETS, INGESTION, SOURCES
from handlers.datasets.deletion import DELETION
from handlers.datasets.uploads import ROW_LIMITS, RowLimits
from handlers.embeddings.admission import EMBED_BODY_LIMIT, EMBEDDINGS, LISTED
from handlers.http import keys
from handlers.http.connections import ConnectionLimits, Connections
from handlers.http.memory import BODY_MEMORY, BodyMemory
from handlers.http.origins import ORIGINS, OriginLimits, Origins
from handlers.http.routes import Route, Router, RouteTable
from handlers.preview.keys import PREVIEW
from handlers.projects.tokens import TOKENS
from handlers.query import QUERIES, QUERY_BODY_LIMIT
from handlers.streaming import predict
from handlers.streaming.keys import PREDICTIONS, STREAMING_LIMITS, StreamingLimits
from handlers.tensors.admission import TENSORS
from server import descriptors
from server.config import SHIPPED_MODELS, Settings
from server.jobs import server_jobs
from server.middlewares import answer_everything
from server.names import team_names
from server.open_requests import OPEN_REQUESTS, OpenRequests
from server.preview import open_preview
from server.private import make_private
from server.projects import open_project_models, open_projects
from server.providers import missing_provider
from server.traces import traced

# Fixed paths come before `/{owner}/models/{model}`, and routes with a condition before the others of the same path.
ROUTES: tuple[Route, ...] = (
    *operations.ROUTES,
    *front.ROUTES,
    *openapi.ROUTES,
    *accounts.ROUTES,
    *datasets.ROUTES,
    *query.ROUTES,
    *preview.ROUTES,
    *embeddings.ROUTES,
    *tensors.ROUTES,
    *projects.ROUTES,
    *repository.ROUTES,
    *predict.ROUTES,
    *publish.ROUTES,
)


# The admin's key, in the data directory.
KEY_FILE = "admin.key"


class CannotStart(Exception):
    """The server cannot start: the message tells the person at the terminal why, and what would help."""


@contextlib.asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[web.Application]:
    """The application with everything it needs, open; closed again in reverse.

    CannotStart for a data directory it cannot use, MissingPackages for traces that it cannot write.
    """
    async with contextlib.AsyncExitStack() as stack:
        around = stack.enter_context(traced(settings.traces, answer_everything))
        stack.enter_context(_own_data_dir(settings.data_dir))
        store = await Store.open(settings.data_dir / "sluice.db")
        stack.push_async_callback(store.close)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # aiohttp has no other way to take a router
            app = web.Application(router=Router())
        _configure(app, settings)
        repository = await _read_models(store, settings)
        app[keys.REPOSITORY] = repository
        app[DATASETS] = await _open_datasets(store, settings, stack)
        app[keys.ACCOUNTS] = await _open_accounts(app, store, settings, stack)
        await _open_engine(app, store, settings, stack)
        disk = Disk(settings.data_dir, reserve_bytes=settings.disk_reserve_bytes)
        spill = _open_spill(disk, settings)
        _open_surfaces(app, store, spill, disk, settings, stack)
        lender = await _open_jobs(app, store, disk, settings, stack)
        _open_queries(app, spill, lender, settings, stack)
        await _open_ingestion(app, disk, settings)
        await app[keys.JOBS].start()
        RouteTable(ROUTES).register(app, around=around)
        yield app


async def _read_models(store: Store, settings: Settings) -> Repository:
    repository = Repository([SHIPPED_MODELS, settings.data_dir / "models"])
    await asyncio.to_thread(folders.clean, repository.writable_root)
    repository.scan(await store.list_model_overrides())
    return repository


async def _open_datasets(store: Store, settings: Settings, stack: contextlib.AsyncExitStack) -> Datasets:
    datasets = Datasets(settings.data_dir / "datasets", store)
    await datasets.open()
    stack.push_async_callback(datasets.close)
    return datasets


async def _open_accounts(app: web.Application, store: Store, settings: Settings, stack: contextlib.AsyncExitStack) -> Accounts:
    names = team_names(app[keys.REPOSITORY], app[DATASETS])
    accounts = Accounts(store, key_file=settings.data_dir / KEY_FILE, is_taken=names.is_taken)
    stack.push_async_callback(accounts.close)
    await accounts.ensure_admin()
    app[keys.TEAMS], app[TOKENS] = Teams(store, accounts, names), Tokens(store, accounts)
    return accounts


async def _open_engine(app: web.Application, store: Store, settings: Settings, stack: contextlib.AsyncExitStack) -> None:
    """Start the replicas, and let them open the models."""
    if missing := await missing_provider(settings.providers):
        raise CannotStart(f"SLUICE_PROVIDERS={','.join(settings.providers)}: {missing}")
    repository = app[keys.REPOSITORY]
    listed = ListedModels(repository, instead_of_files=settings.embedding_models, aliases=settings.model_aliases)
    await asyncio.to_thread(listed.read)
    engine = Engine(settings.part(EngineLimits))
    pool = engine.pool("score")
    serving = Serving(
        repository,
        listed,
        pool,
        load_timeout_s=settings.load_timeout_s,
        spawn=engine.spawn,
        providers=settings.providers,
    )
    await open_project_models(app, store, serving)
    await engine.start()
    stack.push_async_callback(engine.stop)
    stack.enter_context(metrics.showing(engine.levels))
    app[keys.ENGINE], app[keys.SERVING], app[LISTED] = engine, serving, listed


def _open_spill(disk: Disk, settings: Settings) -> Spill:
    """The files of answers that nobody reads, without those of the server before."""
    limits = {"limit_bytes": settings.spill_limit_bytes, "total_limit_bytes": settings.spill_total_bytes}
    spill = Spill(settings.data_dir / "spill", disk, **limits)
    spill.clean()
    return spill


def _open_surfaces(
    app: web.Application, store: Store, spill: Spill, disk: Disk, settings: Settings, stack: contextlib.AsyncExitStack
) -> None:
    """Open predictions, embeddings, tensors and the publisher; none of them knows another."""
    engine, serving = app[keys.ENGINE], app[keys.SERVING]
    predictions = Predictions(engine, serving, spill, settings.part(PredictionLimits))
    engine.spawn(predictions.give_up_late_calls(), "late calls")
    engine.spawn(predictions.watch_disk(), "disk of the spill")
    stack.enter_context(metrics.showing(predictions.levels))
    app[PREDICTIONS] = predictions
    app[keys.HEALTH_DETAILS] = {"streams": lambda: predictions.num_streams}
    app[EMBEDDINGS] = Embeddings(engine, serving, settings.part(EmbeddingLimits))
    app[TENSORS] = Tensors(engine, serving, settings.part(TensorLimits))
    app[keys.PUBLISHER] = Publisher(store, serving, engine.pool("jobs"), disk, settings.part(PublishingLimits))


async def _open_jobs(
    app: web.Application, store: Store, disk: Disk, settings: Settings, stack: contextlib.AsyncExitStack
) -> Lender:
    """Open the surfaces that have jobs; gives what queries may read of preview. Jobs are taken once everything is open."""
    engine = app[keys.ENGINE]
    jobs = server_jobs(store, engine.pool("jobs"), engine.pool("hub"), settings)
    stack.push_async_callback(jobs.stop)
    stack.enter_context(metrics.showing(jobs.levels))
    app[keys.JOBS] = jobs
    lender = await open_preview(app, store, settings, stack)
    await open_projects(app, store, disk, settings)
    return lender


def _open_queries(app: web.Application, spill: Spill, lender: Lender, settings: Settings, stack: contextlib.AsyncExitStack) -> None:
    """Open queries, which read the datasets of the server itself and those of preview."""
    texts = Texts(app[EMBEDDINGS].embed, app[LISTED])
    app[SOURCES] = sources = Sources([app[DATASETS], lender])
    app[QUERIES] = Queries(app[keys.ENGINE], sources, texts, spill, settings.part(QueryLimits))
    stack.enter_context(metrics.showing(app[QUERIES].places.levels))


async def _open_ingestion(app: web.Application, disk: Disk, settings: Settings) -> None:
    """Open the changes of datasets and their upkeep, and lend the models of the embeddings surface to uploads."""
    engine = app[keys.ENGINE]
    changes = DatasetChanges(app[DATASETS], disk, settings.part(DatasetLimits))
    _tell_preview(app, changes)
    await Upkeep(changes, app[keys.JOBS], spawn=engine.spawn).begin()
    _start_queries_with_the_first_dataset(engine, changes)
    app[CHANGES] = changes
    app[INGESTION] = Ingestion(changes, engine.pool("jobs"), app[EMBEDDINGS], settings.part(IngestionLimits))
    app[DELETION] = Deletion(changes, engine.pool("jobs"), RowFinder(app[QUERIES]).find)
    app[ROW_LIMITS] = settings.part(RowLimits)


def _tell_preview(app: web.Application, changes: DatasetChanges) -> None:
    """Let preview know of changes that cannot wait until it looks for them."""
    states, engine = app[PREVIEW].states, app[keys.ENGINE]

    def tell(dataset: Dataset) -> None:
        engine.spawn(states.heed_commit(dataset.title), f"tell preview of {dataset.title}")

    changes.on_commit.append(tell)
    changes.on_delete.append(states.forget)


def _start_queries_with_the_first_dataset(engine: Engine, changes: DatasetChanges) -> None:
    """Most servers have no dataset, and need no replica that queries. `fill` starts only those that are missing."""
    pool = engine.pool("query")
    changes.on_commit.append(lambda dataset: pool.fill())
    if any(changes.datasets):
        pool.fill()


@contextlib.contextmanager
def _own_data_dir(data_dir: Path) -> Iterator[None]:
    """Keep other servers out: each empties the spill at its start. The lock goes with the process, however it ends."""
    try:
        make_private(data_dir)
        lock = (data_dir / "server.lock").open("w")
    except OSError as error:
        raise CannotStart(f"cannot write to the data directory {data_dir}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(f"another server is using the data directory {data_dir}; choose one with --data-dir") from None
        yield


def _configure(app: web.Application, settings: Settings) -> None:
    """What handlers need to know of the settings, and what all requests share."""
    app[keys.TURN] = asyncio.Lock()
    app[openapi.DOCUMENT] = openapi.Document(ROUTES)
    app[OPEN_REQUESTS] = OpenRequests()
    app[ORIGINS] = Origins(settings.part(OriginLimits))
    app.on_response_prepare.append(app[ORIGINS].mark)
    app[keys.ANONYMOUS] = settings.anonymous
    app[keys.COMPAT_STATUS] = settings.compat_status
    app[keys.PUBLIC_URL] = settings.public_url
    app[keys.REQUEST_TIMEOUT] = settings.request_timeout_s
    app[keys.IDLE_TIMEOUT] = settings.idle_timeout_s
    app[keys.UPLOAD_TIMEOUT] = settings.upload_timeout_s
    app[BODY_MEMORY] = BodyMemory(settings.bodies_limit_bytes)
    app[STREAMING_LIMITS] = settings.part(StreamingLimits)
    app[EMBED_BODY_LIMIT] = settings.embed_body_limit_bytes
    app[QUERY_BODY_LIMIT] = settings.query_body_limit_bytes


@contextlib.asynccontextmanager
async def listening(app: web.Application, settings: Settings) -> AsyncIterator[str]:
    """The application on its socket; gives the address, as `http://host:port`. CannotStart when the port is taken."""
    limits = settings.part(ConnectionLimits)
    limits = replace(limits, max_connections=descriptors.num_connections(settings, descriptors.raise_limit()))
    connections = Connections(limits)
    web_response.SERVER_SOFTWARE = SERVER_NAME
    # A chunk's size, results and end are one gathering write. aiohttp joins them where asyncio's loop would, but this is uvloop.
    http_writer.SKIP_WRITELINES = False
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    watcher = asyncio.create_task(connections.watch(), name="watch connections")
    try:
        with metrics.showing(connections.levels):
            listener = await _listen(connections, runner, settings)
            try:
                host, port = listener.sockets[0].getsockname()[:2]
                yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
            finally:
                listener.close()
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await runner.cleanup()


async def _listen(connections: Connections, runner: web.AppRunner, settings: Settings) -> asyncio.Server:
    assert runner.server is not None
    # No access log: query strings must not be logged, and /metrics counts requests. Bodies are decoded by us.
    factory = connections.factory(runner.server, access_log=None, auto_decompress=False, read_bufsize=READ_BUFFER_BYTES)
    try:
        return await asyncio.get_running_loop().create_server(factory, settings.host, settings.port, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        raise CannotStart(f"cannot listen on {where}: {os.strerror(error.errno or 0)}; choose another with --port") from None


# What a connection may hold unread before its socket is paused: one read of the event loop.
READ_BUFFER_BYTES = 256 * 1024
# Connections that may wait to be accepted while the event loop is busy.
BACKLOG = 1024
# The requests have had their time before (server/serve.py). What is left are handlers that go on all the same: aiohttp waits this
# long, ends their bodies, waits this long again, and cancels them.
SHUTDOWN_S = 0.1
# What the header Server says. aiohttp has no setting for it, and tells strangers its own version and Python's.
SERVER_NAME = "Sluice"
