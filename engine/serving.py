"""Serving: which versions of which models replicas have open, and who is on them.

Opens the active versions in every replica, loads others when first asked for, brings a new version in and lets an old one go when
its last user has ended. Knows no HTTP, no folders and no scheduling.
"""

import asyncio
import contextlib
import enum
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass

import ujson

from engine import metrics
from engine.blocks import ServedModel
from engine.errors import EngineError
from engine.listing import Listing
from engine.pool import Pool
from engine.queues import TokenLimits
from engine.replica import Replica, ReplicaGone
from engine.repository import Repository, Version

log = logging.getLogger("sluice.serving")

# A version that kills this many replicas while they open it does not become active.
OPENING_DEATHS = 2
# A replica that somebody killed tells little about what it opened; but the somebody may be the kernel, for lack of memory.
KILLED_FROM_OUTSIDE = 0.25

Spawn = Callable[[Coroutine[None, None, None], str], asyncio.Task[None]]


class ModelState(enum.StrEnum):
    BUILDING = "building"  # nobody has opened it yet
    ONLINE = "online"
    OFFLINE = "offline"  # its files do not load


@dataclass(slots=True)
class Served:
    """One version of a model as the engine knows it.

    num_users  streams and single records on it now
    num_lost   replicas that died one after the other while they opened it; one killed from outside counts less
    retired    set when it is unloaded everywhere; None as long as it may stay loaded
    """

    model: ServedModel
    example: bytes
    state: ModelState = ModelState.BUILDING
    loading: asyncio.Task[None] | None = None
    num_users: int = 0
    num_lost: float = 0
    retired: asyncio.Event | None = None


class Serving:
    """The models of one pool.

    spawn    starts a task that its owner cancels at the end
    listing  of the embedding models, which are large, only the first listed one is opened before it is asked for
    """

    def __init__(self, repository: Repository, listing: Listing, pool: Pool, *, load_timeout_s: float, spawn: Spawn) -> None:
        self._repository = repository
        self._listing = listing
        self._pool = pool
        self._load_timeout_s = load_timeout_s
        self._spawn = spawn
        self._served: dict[str, Served] = {}
        self._coming: list[Version] = []
        self._replica_came = asyncio.Event()  # of the next replica that becomes ready; then there is another one
        pool.on_ready = self.open_active

    def served(self, version: Version) -> Served:
        """The engine's side of a version, made when it is first asked for."""
        key = _key(version)
        if key not in self._served:
            config = version.config
            model = ServedModel(
                key=key,
                title=version.title,
                name=config.name,
                version=version.number,
                load={
                    "family": "embedding" if config.task == "embed" else "scoring",
                    "folder": str(version.folder),
                    "config": config.as_dict(),
                },
                max_batch_size=config.max_batch_size,
                tokens=TokenLimits(config.text.max_tokens, config.max_batch_tokens) if config.text else None,
            )
            self._served[key] = Served(model, ujson.dumps(config.example).encode())
        return self._served[key]

    def status(self, version: Version | None) -> str:
        """`online`, `building` or `offline`; None is a version whose files cannot be used."""
        return ModelState.OFFLINE if version is None else self.served(version).state

    def open_active(self, replica: Replica) -> None:
        """A replica is ready: let it open every active model, so that nobody's first request waits for that."""
        self._replica_came.set()
        self._replica_came = asyncio.Event()
        self._open_missing(replica)

    def open_new(self) -> None:
        """The same for what has become active since, in the replicas that are running."""
        for replica in self._pool.replicas:
            self._open_missing(replica)

    def _open_missing(self, replica: Replica) -> None:
        for version in (*self._eager(), *self._coming):
            served = self.served(version)
            # One that killed two would kill this one, too.
            if served.num_lost < OPENING_DEATHS and served.model.key not in replica.models:
                self._spawn(self._open(replica, served), f"open {_key(version)}")

    def _eager(self) -> list[Version]:
        """The active versions that nobody's first request should wait for."""
        first = self._listing.first
        active = [model.active for model in self._repository.models() if model.active is not None]
        small = [version for version in active if version.config.task != "embed"]
        return small if first is None else [*small, first]  # in this order, so that the small ones do not wait

    async def _open(self, replica: Replica, served: Served) -> None:
        """Open one model in one replica, and take what that tells: does it load, and what does a record cost."""
        model = served.model
        replica.models.add(model.key)
        replica.num_opening += 1
        try:
            header, _ = await replica.request({"task": "load", "model": model.key, **model.load})
        except ReplicaGone as gone:
            if gone.was_at_work and not replica.is_retiring:
                is_killed = await replica.gone() == -signal.SIGKILL and not replica.is_stuck
                served.num_lost += KILLED_FROM_OUTSIDE if is_killed else 1
            if served.num_lost >= OPENING_DEATHS:
                served.state = ModelState.OFFLINE
                log.error("model kills replicas, not opened any more model=%s", model.key)
            return
        finally:
            replica.num_opening -= 1
            self._pool.wake()
        if error := header.get("error"):
            replica.models.discard(model.key)
            served.state = ModelState.OFFLINE
            metrics.MODEL_LOADS.labels(model.title, "failed").inc()
            log.error("model does not load model=%s reason=%s", model.key, error["reason"])
            return
        served.state, served.num_lost = ModelState.ONLINE, 0
        self._pool.scheduler.costs.begin(model.key, header["seconds_per_record"] / model.units(1, len(served.example)))
        metrics.MODEL_LOADS.labels(model.title, "loaded").inc()

    async def ensure_loaded(self, version: Version) -> ServedModel:
        """The model, once some replica has opened it. EngineError `model_building` or `no_instances`."""
        served = self.served(version)
        if served.state is not ModelState.ONLINE:
            await self._wait_for_load(served)
        return served.model

    async def _wait_for_load(self, served: Served) -> None:
        if served.loading is None or served.loading.done():
            served.loading = self._spawn(self._load_somewhere(served), f"load {served.model.key}")
        try:
            async with asyncio.timeout(self._load_timeout_s):
                await asyncio.shield(served.loading)
        except TimeoutError:
            raise EngineError("model_building", "model still building", retry_after_s=5) from None
        if served.state is not ModelState.ONLINE:
            retry_after_s = 1 if served.state is ModelState.BUILDING else None  # what does not load will not do so in a second
            raise EngineError("no_instances", "no instances of model found", retry_after_s=retry_after_s)

    async def _load_somewhere(self, served: Served) -> None:
        if not self._pool.replicas:  # the first ones are starting, or the last one has just died
            await self._wait_for_replica(self._replica_came)
        replicas = self._pool.replicas
        if replicas and served.num_lost < OPENING_DEATHS:
            await self._open(min(replicas, key=lambda replica: len(replica.batches)), served)

    # Versions that come and go

    @contextlib.asynccontextmanager
    async def coming(self, version: Version) -> AsyncIterator[None]:
        """A version that becomes active inside: every replica has it open by then, those that start meanwhile as well.

        raises  EngineError `load_failed`. Whatever fails, here or inside, the version is unloaded again.
        """
        self._coming.append(version)
        try:
            await self._open_everywhere(self.served(version))
            yield
        except BaseException:  # a cancelled publisher leaves nothing loaded either
            self.retire(version)
            raise
        finally:
            self._coming.remove(version)

    async def _open_everywhere(self, served: Served) -> None:
        """One replica after the other, so that the others go on answering. One that dies may try once more as a new one."""
        served.retired, served.num_lost = None, 0
        opened: set[Replica] = set()
        num_lost = 0
        while waiting := [replica for replica in self._pool.replicas if replica not in opened]:
            replica, replica_came = waiting[0], self._replica_came
            await self._open(replica, served)
            opened.add(replica)
            num_lost += not replica.is_ready
            if num_lost >= OPENING_DEATHS or served.model.key not in replica.models:
                raise EngineError("load_failed", f"version {served.model.version} does not load; the active version is as it was")
            if not replica.is_ready:
                await self._wait_for_replica(replica_came)

    async def _wait_for_replica(self, came: asyncio.Event) -> None:
        """Until another replica is ready, or none has come for `load_timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._load_timeout_s):
                await came.wait()

    def retire(self, version: Version) -> asyncio.Event:
        """Unload a version from every replica when its last stream and single have ended; the event tells when that was done."""
        served = self.served(version)
        if served.retired is None:
            served.retired = asyncio.Event()
            self._unload_if_unused(served)
        return served.retired

    def is_used(self, version: Version) -> bool:
        """Whether a stream or a single record is on this version now."""
        key = _key(version)
        return key in self._served and self._served[key].num_users > 0

    @contextlib.contextmanager
    def using(self, served: Served) -> Iterator[None]:
        served.num_users += 1
        try:
            yield
        finally:
            served.num_users -= 1
            self._unload_if_unused(served)

    def _unload_if_unused(self, served: Served) -> None:
        """The end of a retired version. A block of it that a departed caller left behind only opens it again."""
        if served.retired is None or served.num_users:
            return
        key = served.model.key
        self._served.pop(key, None)
        self._pool.scheduler.costs.forget(key)
        for replica in self._pool.replicas:
            if key in replica.models:
                replica.models.discard(key)
                replica.request({"family": "scoring", "task": "unload", "model": key})
        served.retired.set()


def _key(version: Version) -> str:
    """The key of a version in every process."""
    return f"{version.title}@{version.number}"
