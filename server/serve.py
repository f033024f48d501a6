"""The life of the server process: open the application, listen, serve, drain, stop."""

import asyncio
import logging
import os

import uvloop
from aiohttp import web

from engine import disk, heap
from engine.engine import has_kernel
from engine.errors import EngineError
from engine.store import StoreError
from handlers.http.keys import ENGINE, JOBS
from handlers.streaming.keys import PREDICTIONS
from server import config, logs
from server.app import KEY_FILE, CannotStart, listening, open_app
from server.config import Settings
from server.open_requests import OPEN_REQUESTS
from server.signals import Signals
from server.traces import MissingPackages

log = logging.getLogger("sluice.server")

# What is still open after SLUICE_DRAIN_S gets this long: streams say why they end. The process ends a second later at the latest,
# after 0.2 s for handlers that go on all the same (app.SHUTDOWN_S) and 0.5 s for replicas (replica.STOP_TIMEOUT_S).
GRACE_S = 1.0
# However long the drain takes, jobs that have not ended by then are given back, for another process to do.
JOBS_GRACE_S = 7.0


def serve(settings: Settings) -> int:
    """Serve until a signal stops the server. Returns exit code 0, or 1 after one line in the log when the server cannot start."""
    logs.configure(settings.log_level, settings.log_format)
    for name in config.ignored_names(os.environ):
        log.info("setting ignored name=%s", name)
    for name, nearest in config.unknown_names(os.environ).items():
        log.warning("setting unknown name=%s nearest=%s", name, nearest or "-")
    try:
        uvloop.run(_serve(settings))
    except (CannotStart, MissingPackages, StoreError, EngineError) as error:
        log.error("%s", error if disk.has_any_room(settings.data_dir) else _what_is_needed(settings))
        return 1
    except OSError as error:
        if not disk.is_full(error):
            raise
        log.error("%s", _what_is_needed(settings))
        return 1
    return 0


def _what_is_needed(settings: Settings) -> str:
    return f"the disk with the data directory {settings.data_dir} is full: free at least 1 MiB on it, then start the server again"


async def _serve(settings: Settings) -> None:
    async with open_app(settings) as app, listening(app, settings) as address:
        heap.settle()
        _log_start(address, settings)
        if settings.native and not has_kernel():
            log.info("native kernel missing: streams are slower; `make kernel` builds it")
        signals = Signals()
        await signals.first.wait()
        log.info("server draining seconds=%g", settings.drain_s)
        await _drain(app, settings.drain_s, signals)
    log.info("server stopped")


def _log_start(address: str, settings: Settings) -> None:
    """Say what a person needs to begin: the address, the page of all routes, and where the admin's key lies."""
    docs, key_file = f"{address}/docs", settings.data_dir / KEY_FILE
    listening = "server listening address=%s docs=%s key_file=%s replicas=%d data=%s"
    log.info(listening, address, docs, key_file, settings.score_replicas, settings.data_dir)


async def _drain(app: web.Application, seconds: float, signals: Signals) -> None:
    """Let requests end for some seconds, or until a second signal; then end the streams, and soon after that wait no longer.

    The listener stays open, to tell new requests that the server stops.
    """
    app[ENGINE].draining.set()
    jobs = asyncio.create_task(app[JOBS].stop(JOBS_GRACE_S), name="end of jobs")
    answered = asyncio.create_task(app[OPEN_REQUESTS].all_answered(), name="all answered")
    second = asyncio.create_task(signals.second.wait(), name="second signal")
    await asyncio.wait((answered, second), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    app[PREDICTIONS].end_streams()
    await asyncio.wait((answered,), timeout=GRACE_S)
    for task in (answered, second):
        task.cancel()
    await asyncio.gather(answered, second, return_exceptions=True)
    await app[JOBS].stop()
    await jobs
