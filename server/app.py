"""The application: what is opened before the first request and closed after the last, and which routes there are."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aiohttp import web

from engine import folders
from engine.accounts import Accounts
from engine.engine import Engine
from engine.listing import Listing
from engine.publishing import Publisher
from engine.repository import Repository
from engine.store import Store
from handlers import accounts, embeddings, openapi, operations, publish, repository
from handlers.embeddings.admission import EMBED_BODY_LIMIT, EMBEDDINGS, LISTING
from handlers.http import keys
from handlers.http.routes import Route, RouteTable
from handlers.streaming import predict
from handlers.streaming.keys import PREDICTIONS, STREAMING_LIMITS
from server.config import Settings
from server.middlewares import answer_everything
from server.users import SHIPPED_MODELS, name_check

# Fixed paths come before `/{owner}/models/{model}`, and routes with a condition before the others of the same path.
ROUTES: tuple[Route, ...] = (
    *operations.ROUTES,
    *openapi.ROUTES,
    *accounts.ROUTES,
    *embeddings.ROUTES,
    *repository.ROUTES,
    *predict.ROUTES,
    *publish.ROUTES,
)


class CannotStart(Exception):
    """What stands against a start, and what would help, for the person at the terminal."""


@contextlib.asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[web.Application]:
    """The application with everything it needs, open; closed again in reverse. CannotStart when the data directory is no good."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_own_data_dir(settings.data_dir))
        store = await Store.open(settings.data_dir / "sluice.db")
        stack.push_async_callback(store.close)
        models = Repository([SHIPPED_MODELS, settings.data_dir / "models"])
        await asyncio.to_thread(folders.clean, models.writable_root)
        models.scan(await store.list_model_states())
        listing = Listing(models, instead_of_files=settings.embedding_models, aliases=settings.model_aliases)
        await asyncio.to_thread(listing.read)
        users = Accounts(store, key_file=settings.data_dir / "admin.key", is_taken=name_check(models))
        await users.ensure_admin()
        engine = Engine(models, listing, settings.data_dir, settings.limits(), settings.embedding_limits())
        await engine.start()
        stack.push_async_callback(engine.stop)
        app = web.Application(middlewares=[answer_everything])
        app[keys.REPOSITORY] = models
        app[LISTING] = listing
        app[keys.ACCOUNTS] = users
        app[keys.ENGINE] = engine
        app[PREDICTIONS] = engine
        app[EMBEDDINGS] = engine.embeddings
        app[keys.PUBLISHER] = Publisher(store, models, listing, engine, settings.publishing_limits())
        _configure(app, settings)
        RouteTable(ROUTES).register(app)
        yield app


@contextlib.contextmanager
def _own_data_dir(data_dir: Path) -> Iterator[None]:
    """Keep other servers out: each empties the spill at its start. The lock goes with the process, however it ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
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
    """What handlers need to know of the settings."""
    app[keys.ANONYMOUS] = settings.anonymous
    app[keys.COMPAT_STATUS] = settings.compat_status
    app[keys.REQUEST_TIMEOUT] = settings.request_timeout_s
    app[keys.IDLE_TIMEOUT] = settings.idle_timeout_s
    app[keys.STALL_TIMEOUT] = settings.stall_timeout_s
    app[STREAMING_LIMITS] = settings.streaming_limits()
    app[EMBED_BODY_LIMIT] = settings.embed_body_limit_bytes


@contextlib.asynccontextmanager
async def listening(app: web.Application, settings: Settings) -> AsyncIterator[str]:
    """The application on its socket; gives the address, as `http://host:port`. CannotStart when the port is taken."""
    # No access log: query strings must not be logged, and /metrics counts requests. Bodies are decoded by us.
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, read_bufsize=READ_BUFFER_BYTES, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            where = f"{settings.host} port {settings.port}"
            raise CannotStart(f"cannot listen on {where}: {os.strerror(error.errno or 0)}; choose another with --port") from None
        host, port = runner.addresses[0][:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        await runner.cleanup()


# What a connection may hold unread before its socket is paused: one read of the event loop.
READ_BUFFER_BYTES = 256 * 1024
# Streams have been drained before; what is left are single answers on their way.
SHUTDOWN_S = 10.0
