"""The engine: the pools of replicas, their life and their health. Start, drain, stop.

The surfaces decide what the pools do; this file knows no surface and no HTTP. Its errors carry codes.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

from engine import metrics
from engine.errors import no_instances, shutting_down
from engine.replicas.blocks import Lane
from engine.replicas.pool import Pool
from engine.replicas.replica import ReplicaOptions

# A replica that scores imports these before it reports ready, so that no request waits for an import.
SCORE_OPTIONS = ReplicaOptions(families=("scoring", "embedding"))
# Jobs yield the cores to scoring.
JOBS_OPTIONS = ReplicaOptions(niceness=10)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How many replicas there are, and how long they may be silent. Settings of server/config.py, by the same names."""

    score_replicas: int
    jobs_replicas: int
    block_timeout_s: float
    check_timeout_s: float


class Engine:
    """One server's engine. `start` comes before anything else, `stop` at the end.

    draining  set once, when the server begins to stop
    """

    def __init__(self, limits: EngineLimits) -> None:
        self.draining = asyncio.Event()
        self._score = Pool("score", limits.score_replicas, SCORE_OPTIONS, silence_limit_s=limits.block_timeout_s)
        self._jobs = Pool("jobs", max(1, limits.jobs_replicas), JOBS_OPTIONS, silence_limit_s=limits.check_timeout_s, is_lazy=True)
        self._pools = {pool.name: pool for pool in (self._score, self._jobs)}
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
