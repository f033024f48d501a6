"""The command `worker`: takes jobs of one queue from the database of a data directory, and does them with replicas of its own.

It speaks no HTTP and needs no server: several workers may run on one data directory, with a server or without. It leaves what
belongs to the server alone: the spill, the models, old jobs, and files that nobody needs any more.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import uvloop

from engine.jobs import JobKind, Jobs
from engine.store import Store, StoreError
from server import logs
from server.config import Settings
from server.jobs import job_kinds, worker_jobs, worker_pools
from server.private import make_private
from server.signals import Signals

log = logging.getLogger("sluice.worker")

# A job may still end in this time after SIGTERM. Giving back the others takes a moment, and all is over within ten seconds.
GRACE_S = 7.0


def run(settings: Settings) -> int:
    """Work until a signal. Returns exit code 0, or 1 after one line in the log when the data directory cannot be used."""
    logs.configure(settings.log_level, settings.log_format)
    try:
        uvloop.run(work(settings, job_kinds))
    except (StoreError, OSError) as error:
        log.error("the worker cannot work on the data directory %s: %s", settings.data_dir, error)
        return 1
    return 0


async def work(settings: Settings, make_kinds: Callable[[Store, Settings], Mapping[str, JobKind]]) -> None:
    """Take jobs until a signal; then let them end for a while, or until a second signal, and give back those that have not."""
    make_private(settings.data_dir)
    signals = Signals()
    async with _opened(settings, make_kinds) as jobs:
        log.info("worker started queue=%s data=%s", settings.worker_queue, settings.data_dir)
        await signals.first.wait()
        log.info("worker stopping seconds=%g", GRACE_S)
        ending = asyncio.create_task(jobs.stop(GRACE_S), name="end of jobs")
        hurry = asyncio.create_task(signals.second.wait(), name="second signal")
        await asyncio.wait((ending, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        await jobs.stop()
        await ending
    log.info("worker stopped")


@asynccontextmanager
async def _opened(settings: Settings, make_kinds: Callable[[Store, Settings], Mapping[str, JobKind]]) -> AsyncIterator[Jobs]:
    store = await Store.open(settings.data_dir / "sluice.db")
    try:
        pools = worker_pools(settings)
        jobs = worker_jobs(store, pools, settings, make_kinds(store, settings))
        for pool in pools:
            await pool.start()
        try:
            await jobs.start()
            yield jobs
        finally:
            await jobs.stop()
            for pool in pools:
                await pool.stop()
    finally:
        await store.close()
