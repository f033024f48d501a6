"""The engine: the pools of replicas, their life and their health. Start, drain, stop.

The surfaces decide what the pools do; this file knows no surface and no HTTP. Its errors carry codes.
"""

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from engine import metrics
from engine.errors import no_instances, shutting_down
from engine.replicas.blocks import Lane
from engine.replicas.pool import Pool
from engine.replicas.replica import ReplicaOptions

# A replica that scores imports these before it reports ready, so that no request waits for an import.
SCORE_OPTIONS = ReplicaOptions(families=("scoring", "embedding", "tensors"))
# Replicas are the parallelism, so their libraries use one thread; a model that is fitted twice also has the same bytes only so. The
# allocator that pyarrow brings reserves 1 GiB at once, which would count against the memory of the replica.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
# Jobs yield the cores to scoring. What they read comes from users, so they may open no connection. A replica that has become large
# stays so, because libraries keep memory; a new one has 13 MiB.
JOBS_OPTIONS = ReplicaOptions(
    niceness=10,
    is_lazy=True,
    is_confined=True,
    max_answers=200,
    max_resident_bytes=256 * 1024 * 1024,
    environment=ONE_THREAD,
)
# What asks a hub for datasets: the only replica that opens connections. The files that it fetches are read by other replicas.
HUB_OPTIONS = ReplicaOptions(niceness=10, is_lazy=True, max_answers=200, environment=ONE_THREAD)
# A replica that queries never loads onnxruntime, and one that scores never DuckDB: each takes half a second.
QUERY_OPTIONS = ReplicaOptions(
    is_lazy=True,
    families=("query",),
    environment=ONE_THREAD,
)


# Replicas that score may take three quarters of the machine's memory together; the rest is for the server, the other replicas and
# the system's cache. A replica needs 120 MB before it opens a model.
SCORE_SHARE = 0.75
LEAST_REPLICA_BYTES = 512 * 1024 * 1024
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


def num_runners(jobs_replicas: int) -> int:
    """How many jobs a process does at once. With SLUICE_JOBS_REPLICAS=0 a worker is still there to do some, and a server does the
    few that no worker may do."""
    return max(1, jobs_replicas)


# Where an install puts the kernel that replicas read and write blocks with.
SCORING_FOLDER = Path(__file__).parent / "tasks" / "scoring"


def has_kernel() -> bool:
    """Whether the native kernel was built for this Python when Sluice was installed."""
    return any((SCORING_FOLDER / f"_kernel{suffix}").exists() for suffix in EXTENSION_SUFFIXES)


def share_of_memory(num_replicas: int) -> int:
    """The bytes that one of these replicas may have, by the memory of the machine and of this process's control group."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no control groups here, or the group has no limit ("max")
        memory_bytes = min(memory_bytes, int(CGROUP_MEMORY.read_text()))
    return max(LEAST_REPLICA_BYTES, int(SCORE_SHARE * memory_bytes) // num_replicas)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How many replicas there are, how long they may be silent, and what they may cost. Settings of server/config.py."""

    score_replicas: int
    jobs_replicas: int
    query_replicas: int
    query_memory_bytes: int
    block_timeout_s: float
    check_timeout_s: float
    replica_memory_bytes: int
    model_faults: int
    native: bool


class Engine:
    """One server's engine. `start` comes before anything else, `stop` at the end.

    draining  set once, when the server begins to stop
    """

    def __init__(self, limits: EngineLimits) -> None:
        self.draining = asyncio.Event()
        memory_bytes = limits.replica_memory_bytes or share_of_memory(limits.score_replicas)
        native = {"SLUICE_NATIVE": "true" if limits.native else "false"}
        options = replace(SCORE_OPTIONS, memory_bytes=memory_bytes, max_faults=limits.model_faults, environment=native)
        self._score = Pool("score", limits.score_replicas, options, silence_limit_s=limits.block_timeout_s)
        # One place more than there are runners: what a request waits for never stands behind jobs.
        jobs = Pool("jobs", num_runners(limits.jobs_replicas) + 1, JOBS_OPTIONS, silence_limit_s=limits.check_timeout_s)
        # The same: no look-up for a request stands behind files that jobs fetch.
        hub = Pool("hub", limits.jobs_replicas + 1, HUB_OPTIONS, silence_limit_s=limits.check_timeout_s)
        # The same among users: the queries of one may take long, and those of another find a place beside them.
        options = replace(QUERY_OPTIONS, memory_bytes=limits.query_memory_bytes, max_per_user=limits.query_replicas)
        query = Pool("query", limits.query_replicas + 1, options, silence_limit_s=limits.block_timeout_s)
        self._pools = {pool.name: pool for pool in (self._score, jobs, hub, query)}
        self._tasks: set[asyncio.Task[None]] = set()
        self._was_ready = False

    # Life

    async def start(self) -> None:
        """Begin to keep replicas alive; returns before they are."""
        for pool in self._pools.values():
            await pool.start()

    async def stop(self) -> None:
        """End the replicas. Nothing waits here for work that a client still wants: drain first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(pool.stop() for pool in self._pools.values()))

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Start a background task that the engine owns and cancels at its stop."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def pool(self, name: str) -> Pool:
        return self._pools[name]

    # How things are

    @property
    def is_draining(self) -> bool:
        return self.draining.is_set()

    def check_open(self) -> None:
        """Refuse everything while the server drains or no replica is alive. EngineError `shutting_down`, `no_instances`."""
        if self.is_draining:
            raise shutting_down()
        if not self._score.is_serving:
            raise no_instances()

    @property
    def health(self) -> str:
        """`ok`, or `starting`, `draining`, `no replicas`."""
        if self.is_draining:
            return "draining"
        if self._score.num_alive:
            self._was_ready = True
            return "ok"
        return "no replicas" if self._was_ready else "starting"

    def num_replicas(self) -> dict[str, int]:
        """Replicas alive, by pool; a pool that was never needed is left out."""
        return {name: pool.num_alive for name, pool in self._pools.items() if pool.num_started}

    def levels(self) -> metrics.Levels:
        scheduler = self._score.scheduler
        replicas: dict[tuple[str, ...], float] = {}
        for name, pool in self._pools.items():
            replicas[name, "ready"] = pool.num_alive
            replicas[name, "starting"] = pool.num_started - pool.num_alive
        return {
            metrics.QUEUE_BLOCKS: {(Lane.INTERACTIVE,): scheduler.num_interactive, (Lane.BULK,): scheduler.num_bulk},
            metrics.REPLICAS: replicas,
            metrics.BLOCKS_DROPPED: {(): scheduler.num_dropped},
        }
