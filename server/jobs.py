"""The jobs of a process, set up from the settings: in the server, and in `sluice worker`.

KINDS is where a surface that has jobs names the function that makes its kinds. The kinds of projects need the server, and no worker
takes them: server/projects.py makes them.
"""

import os
import secrets
import socket
from collections.abc import Callable, Mapping

from engine.datasets.upkeep import UPKEEP_KINDS
from engine.engine import HUB_OPTIONS, JOBS_OPTIONS, num_runners
from engine.gates import Gates
from engine.jobs import JobKind, JobOptions, Jobs
from engine.replicas.pool import Pool
from engine.store import Store
from server.config import Settings, usable_cores
from server.preview import preview_kinds
from server.queues import QUEUES

MakeKinds = Callable[[Store, Settings], Mapping[str, JobKind]]
KINDS: tuple[MakeKinds, ...] = (preview_kinds,)

# A server scores beside its jobs, which alone would close a gate of load for good; a worker yields to everybody.
SERVER_LOAD_PCT, SERVER_MEMORY_PCT = 0, 90
WORKER_LOAD_PCT, WORKER_MEMORY_PCT = 50, 60


def job_kinds(store: Store, settings: Settings) -> dict[str, JobKind]:
    """The kinds that need nothing but a store and folders, by name."""
    return {name: kind for make in KINDS for name, kind in make(store, settings).items()}


def server_jobs(store: Store, pool: Pool, hub: Pool, settings: Settings) -> Jobs:
    """The jobs of the server, which takes all kinds, or with SLUICE_JOBS_REPLICAS=0 the upkeep of its datasets alone."""
    gates = _gates(settings, SERVER_LOAD_PCT, SERVER_MEMORY_PCT)
    options = JobOptions(
        num_runners=num_runners(settings.jobs_replicas),
        takes=None if settings.jobs_replicas else UPKEEP_KINDS,
        sleep_s=settings.worker_sleep_seconds,
        most_quick=settings.max_jobs_per_dataset,
        is_open=gates.are_open,
    )
    return Jobs(store, pool, job_kinds(store, settings), options, [hub])


def worker_pools(settings: Settings) -> tuple[Pool, Pool]:
    """The replicas of a worker for its jobs, and those that ask a hub: one for each of its runners."""
    number, silence_limit_s = num_runners(settings.jobs_replicas), settings.check_timeout_s
    return (
        Pool("jobs", number, JOBS_OPTIONS, silence_limit_s=silence_limit_s),
        Pool("hub", number, HUB_OPTIONS, silence_limit_s=silence_limit_s),
    )


def worker_jobs(store: Store, pools: tuple[Pool, Pool], settings: Settings, kinds: Mapping[str, JobKind]) -> Jobs:
    """The jobs of a worker, which takes the kinds of its queue."""
    gates = _gates(settings, WORKER_LOAD_PCT, WORKER_MEMORY_PCT)
    options = JobOptions(
        num_runners=num_runners(settings.jobs_replicas),
        sleep_s=settings.worker_sleep_seconds,
        most_quick=settings.max_jobs_per_dataset,
        worker=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
        takes=QUEUES[settings.worker_queue],
        is_open=gates.are_open,
    )
    pool, hub = pools
    return Jobs(store, pool, kinds, options, [hub])


def _gates(settings: Settings, load_pct: int, memory_pct: int) -> Gates:
    """The gates of the settings or, where one is unset, of this sort of process."""
    return Gates(
        max_load_pct=load_pct if settings.max_load_pct is None else settings.max_load_pct,
        max_memory_pct=memory_pct if settings.max_memory_pct is None else settings.max_memory_pct,
        cores=usable_cores(),
    )
