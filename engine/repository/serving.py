"""Serving: which versions of which models the replicas have open, and how many requests use each.

Opens the active versions in every replica, opens others when they are first asked for, brings a new version in, and unloads an old
one when the last request that uses it has ended. Knows no HTTP, no folders and no scheduling.
"""

import asyncio
import contextlib
import enum
import logging
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass

import ujson

from engine import metrics
from engine.accounts import ADMIN
from engine.errors import MODEL_BUILDING, Code, EngineError, Kind, no_instances
from engine.frames import Header
from engine.replicas.blocks import ServedModel
from engine.replicas.lines import TokenLimits
from engine.replicas.pool import Pool
from engine.replicas.replica import Replica, ReplicaGone
from engine.repository.index import Repository, Version
from engine.repository.listed import ListedModels

log = logging.getLogger("sluice.serving")

LOAD_FAILED = Code(
    "load_failed",
    Kind.FAILED,
    "a version that passed its check does not load in a replica; the active version is as it was",
)

MODEL_REMOVED = Code("model_removed", Kind.UNAVAILABLE, "the owner removed this version of the model while it was in use")

# A version that kills this many replicas while they open it is not opened any more.
OPENING_DEATHS = 2
# A replica that was killed from outside says little about the model that it was opening. It still counts a little, because the
# killer may have been the kernel, for lack of memory.
KILLED_FROM_OUTSIDE = 0.25
# Any family of tasks that shares the loaded models can unload one.
UNLOADING_FAMILY = "scoring"

Spawn = Callable[[Coroutine[None, None, None], str], asyncio.Task[None]]


class LoadState(enum.StrEnum):
    BUILDING = "building"  # no replica has opened it yet
    ONLINE = "online"
    OFFLINE = "offline"  # its files do not load, or it has cost too many replicas


@dataclass(slots=True)
class VersionInUse:
    """One version of a model as the engine knows it.

    example    JSON of the record that the model can answer
    num_users  streams and single records that use it now
    num_lost   replicas that died one after the other while they opened it; a replica that was killed from outside counts less
    retired    set when it is unloaded everywhere; None as long as it may stay loaded
    """

    model: ServedModel
    example: bytes
    state: LoadState = LoadState.BUILDING
    loading: asyncio.Task[None] | None = None
    num_users: int = 0
    num_lost: float = 0
    retired: asyncio.Event | None = None


class Serving:
    """The models that one pool serves.

    listed       the listed embedding models; they are large, so only the first one is opened before it is asked for
    providers    execution providers for the models whose config names none; empty means the processor
    spawn        starts a background task, which its owner cancels at the end
    opens_ahead  tells of a model, by owner and name, whether its active version is opened before it is asked for
    """

    def __init__(
        self,
        repository: Repository,
        listed: ListedModels,
        pool: Pool,
        *,
        load_timeout_s: float,
        spawn: Spawn,
        providers: Sequence[str] = (),
    ) -> None:
        self.repository = repository
        self.providers = list(providers)
        self.listed = listed
        self._pool = pool
        self._load_timeout_s = load_timeout_s
        self._spawn = spawn
        self.opens_ahead: Callable[[str, str], bool] = lambda owner, name: True
        self._served: dict[str, VersionInUse] = {}
        self._coming: list[Version] = []
        self._turn = asyncio.Lock()
        self._replica_came = asyncio.Event()  # set when the next replica becomes ready, and replaced by a new event
        pool.on_ready = self.open_active
        pool.on_offline = self._note_offline
        pool.on_online = self._note_online
        pool.knows = self._served.__contains__

    def served(self, version: Version) -> VersionInUse:
        """The engine's side of a version, made when it is first asked for.

        raises  EngineError `model_removed`, if the version was removed after somebody found it
        """
        key = _key(version)
        if key not in self._served:
            if not self._is_there(version):  # /metrics would show a model again that was deleted
                raise EngineError(MODEL_REMOVED, MODEL_REMOVED.text)
            config = version.config
            model = ServedModel(
                key=key,
                title=version.title,
                name=config.name,
                version=version.number,
                load=_load_header(key, version, self.providers),
                max_batch_size=config.max_batch_size,
                tokens=TokenLimits(config.text.max_tokens, config.max_batch_tokens) if config.text else None,
                is_trusted=self._is_trusted(config.owner),
            )
            self._served[key] = VersionInUse(model, ujson.dumps(config.example).encode())
        return self._served[key]

    def find(self, version: Version) -> VersionInUse | None:
        """The same, if somebody has asked for it and it is not unloaded."""
        return self._served.get(_key(version))

    def _is_there(self, version: Version) -> bool:
        """Whether a version may be used: its model has it, or it is about to."""
        model = self.repository.find(version.config.owner, version.config.name)
        return version in self._coming or (model is not None and model.versions.get(version.number) == version)

    def titles(self) -> set[str]:
        """The models that there are, with those that are on their way in or out, as `owner/name`."""
        return {model.title for model in self.repository.models()} | {served.model.title for served in self._served.values()}

    def _is_trusted(self, owner: str) -> bool:
        """Whether the models of this owner are the operator's: the admin's, or those that ship with the server."""
        return owner == ADMIN or any(model.shipped for model in self.repository.models() if model.owner == owner)

    def _note_offline(self, key: str) -> None:
        if key in self._served:
            self._served[key].state = LoadState.OFFLINE

    def _note_online(self, key: str) -> None:
        if key in self._served:
            self._served[key].state = LoadState.ONLINE

    def pardon(self, version: Version) -> None:
        """Serve a version again that went offline because it cost too many replicas, as if it had cost none."""
        key = _key(version)
        if self._pool.faults.reason(key) is not None:
            self._note_online(key)
        self._pool.faults.forget(key)

    def reason(self, version: Version) -> str | None:
        """Why a version that cost too many replicas is offline; None for any other version."""
        return self._pool.faults.reason(_key(version))

    def status(self, version: Version | None) -> LoadState:
        """`online`, `building` or `offline`; None is a version whose files cannot be used."""
        if version is None:
            return LoadState.OFFLINE
        served = self.find(version)
        return LoadState.BUILDING if served is None else served.state

    def open_active(self, replica: Replica) -> None:
        """A replica is ready: let it open every active model, so that no first request has to wait for that."""
        self._replica_came.set()
        self._replica_came = asyncio.Event()
        self._open_missing(replica)

    def open_new(self) -> None:
        """Let the replicas that are running open what has become active since they started."""
        for replica in self._pool.replicas:
            self._open_missing(replica)

    def _open_missing(self, replica: Replica) -> None:
        for version in (*self._eager(), *self._coming):
            served = self.served(version)
            # A version that killed two replicas would kill this one, too.
            if served.num_lost < OPENING_DEATHS and served.model.key not in replica.loaded:
                open_it = self._open_in_turn if version.config.is_embedding else self._open
                self._spawn(open_it(replica, served, is_awaited=False), f"open {_key(version)}")

    def _eager(self) -> list[Version]:
        """The active versions that are opened before they are asked for; the large one is last, so that small ones do not wait."""
        first = self.listed.first
        active = [model.active for model in self.repository.models() if model.active is not None]
        small = [version for version in active if not version.config.is_embedding and self._opens_ahead(version)]
        return small if first is None else [*small, first]

    def _opens_ahead(self, version: Version) -> bool:
        return self.opens_ahead(version.config.owner, version.config.name)

    async def _open_in_turn(self, replica: Replica, served: VersionInUse, *, is_awaited: bool) -> None:
        """Open a large model in one replica after the other: if all replicas opened it at once, none could answer meanwhile."""
        async with self._turn:
            # While this one waited, the version may have been retired, or killed replicas, or a block may have opened it here.
            is_served = self._served.get(served.model.key) is served and served.retired is None
            if is_served and served.num_lost < OPENING_DEATHS and served.model.key not in replica.loaded:
                await self._open(replica, served, is_awaited=is_awaited)

    async def _open(self, replica: Replica, served: VersionInUse, *, is_awaited: bool = True) -> None:
        """Open one model in one replica, and note what that shows: whether it loads, and what a record costs."""
        model = served.model
        replica.num_opening += 1
        try:
            header, _ = await replica.open(model, is_awaited=is_awaited)
        except ReplicaGone as gone:
            if gone.was_at_work and not replica.is_retiring:
                await self._note_death(replica, served)
            return
        finally:
            replica.num_opening -= 1
            self._pool.wake()
        if self._served.get(model.key) is not served:
            return  # it was removed meanwhile, with all that is known of it
        if error := header.get("error"):
            replica.loaded.discard(model.key)
            metrics.MODEL_LOADS.series(model.title, "failed").inc()
            if served.state is not LoadState.OFFLINE:  # the first replica has told the reason
                log.error("model does not load model=%s reason=%r", model.key, error["reason"])
            served.state = LoadState.OFFLINE
            return
        served.num_lost = 0
        if self._pool.faults.reason(model.key) is None:
            served.state = LoadState.ONLINE
        self._pool.scheduler.costs.begin(model.key, header["seconds_per_record"] / model.units(1, len(served.example)))
        metrics.MODEL_LOADS.series(model.title, "loaded").inc()

    @staticmethod
    async def _note_death(replica: Replica, served: VersionInUse) -> None:
        """A replica died while it opened this model, which goes offline when that happens again and again."""
        is_killed = await replica.gone() == -signal.SIGKILL and not replica.is_stuck
        served.num_lost += KILLED_FROM_OUTSIDE if is_killed else 1
        if served.num_lost >= OPENING_DEATHS:
            served.state = LoadState.OFFLINE
            log.error("model kills replicas, not opened any more model=%s", served.model.key)

    async def ensure_loaded(self, served: VersionInUse) -> ServedModel:
        """The model, once some replica has opened it. EngineError `model_building`, `no_instances` or `model_offline`."""
        if served.state is not LoadState.ONLINE:
            if self._pool.faults.reason(served.model.key) is None:
                await self._wait_for_load(served)
            else:
                self._pool.faults.admit(served.model.key)
        return served.model

    async def _wait_for_load(self, served: VersionInUse) -> None:
        if served.loading is None or served.loading.done():
            served.loading = self._spawn(self._load_somewhere(served), f"load {served.model.key}")
        try:
            async with asyncio.timeout(self._load_timeout_s):
                await asyncio.shield(served.loading)
        except TimeoutError:
            raise EngineError(MODEL_BUILDING, "model still building", retry_after_s=5) from None
        if served.state is not LoadState.ONLINE:
            # A model that does not load now will not load in a second either.
            retry_after_s = 1 if served.state is LoadState.BUILDING else None
            raise no_instances(retry_after_s=retry_after_s)

    async def _load_somewhere(self, served: VersionInUse) -> None:
        if not self._pool.replicas:  # the first ones are starting, or the last one has just died
            await self._wait_for_replica(self._replica_came)
        replicas = self._pool.replicas
        if replicas and served.num_lost < OPENING_DEATHS:
            await self._open(min(replicas, key=lambda replica: replica.num_batches), served)

    # Versions that come and go

    @contextlib.asynccontextmanager
    async def coming(self, version: Version) -> AsyncIterator[None]:
        """Open a version in every replica, also in those that start meanwhile, so that it can become active inside the context.

        One of a model that is not opened ahead is opened in none: its check has shown that it can be.

        raises  EngineError `load_failed`, or `no_instances` if no replica was there. When anything fails, here or inside the
                context, the version is unloaded again.
        """
        if not self._opens_ahead(version):
            yield
            return
        self._coming.append(version)
        try:
            await self._open_everywhere(self.served(version))
            yield
        except BaseException:  # also when the publisher is cancelled: nothing may stay loaded
            self.retire(version)
            raise
        finally:
            self._coming.remove(version)

    async def _open_everywhere(self, served: VersionInUse) -> None:
        """Open it in one replica after the other, so that the rest go on answering. If one dies, its successor tries once more."""
        served.retired, served.num_lost = None, 0
        opened: set[Replica] = set()
        num_lost = 0
        while replica := await self._next_to_open(opened):
            replica_came = self._replica_came
            await self._open(replica, served)
            opened.add(replica)
            num_lost += not replica.is_ready
            if num_lost >= OPENING_DEATHS or served.model.key not in replica.loaded:
                raise _does_not_load(served)
            if not replica.is_ready:
                await self._wait_for_replica(replica_came)
        if not opened:
            raise no_instances()
        if not any(replica.is_ready for replica in opened):
            raise _does_not_load(served)

    async def _next_to_open(self, opened: Collection[Replica]) -> Replica | None:
        """A replica that is not among these. None when all that there are are among them, or when none has come for long."""
        if not self._pool.replicas:  # the last one has just died
            await self._wait_for_replica(self._replica_came)
        return next((replica for replica in self._pool.replicas if replica not in opened), None)

    async def _wait_for_replica(self, came: asyncio.Event) -> None:
        """Wait until another replica is ready, but no longer than `load_timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._load_timeout_s):
                await came.wait()

    def retire(self, version: Version) -> asyncio.Event:
        """Unload a version from every replica once the last request that uses it has ended; the event tells when that was done."""
        served = self.find(version)
        if served is None:
            is_retired = asyncio.Event()
            is_retired.set()
            return is_retired
        if served.retired is None:
            served.retired = asyncio.Event()
            self.unload_if_unused(served)
        return served.retired

    def keep(self, version: Version) -> None:
        """Leave a version open that was to be unloaded once nobody uses it, if it still is open."""
        served = self.find(version)
        if served is not None:
            served.retired = None

    async def retire_within(self, version: Version, seconds: float) -> None:
        """Unload a version everywhere. What still uses it after this time is ended with `model_removed`."""
        served = self.find(version)
        retired = self.retire(version)
        try:
            async with asyncio.timeout(seconds):
                await retired.wait()
        except TimeoutError:
            if served is not None:
                log.warning("version removed while it is used model=%s users=%d", served.model.key, served.num_users)
                self._pool.refuse(served.model.key, EngineError(MODEL_REMOVED, MODEL_REMOVED.text))
                self._unload(served, retired)

    def is_used(self, version: Version) -> bool:
        """Whether a stream or a single record uses this version now."""
        key = _key(version)
        return key in self._served and self._served[key].num_users > 0

    def using(self, served: VersionInUse) -> "Use":
        """Keep a version loaded while the context is open."""
        return Use(self, served)

    def unload_if_unused(self, served: VersionInUse) -> None:
        """Unload a retired version. Blocks that still wait for it have no waiter left: the scheduler drops them."""
        if served.retired is not None and not served.retired.is_set() and not served.num_users:
            self._unload(served, served.retired)

    def _unload(self, served: VersionInUse, retired: asyncio.Event) -> None:
        key = served.model.key
        self._pool.faults.forget(key)
        self._served.pop(key, None)
        self._pool.scheduler.costs.forget(key)
        for replica in self._pool.replicas:
            if key in replica.loaded:
                replica.loaded.discard(key)
                replica.ask({"family": UNLOADING_FAMILY, "task": "unload", "model": key})
        retired.set()


class Use:
    """Keeps a version loaded while the context is open. One made of a generator takes 0.7 us in place of 0.2."""

    __slots__ = ("_served", "_serving")

    def __init__(self, serving: Serving, served: VersionInUse) -> None:
        self._serving = serving
        self._served = served

    def __enter__(self) -> None:
        self._served.num_users += 1

    def __exit__(self, *_: object) -> None:
        self._served.num_users -= 1
        self._serving.unload_if_unused(self._served)


def _does_not_load(served: VersionInUse) -> EngineError:
    return EngineError(LOAD_FAILED, f"version {served.model.version} does not load; the active version is as it was")


def _load_header(key: str, version: Version, providers: list[str]) -> Header:
    """The frame that makes a replica open a version, on the execution providers of its config or else on these."""
    return {
        "family": version.config.family,
        "task": "load",
        "model": key,
        "folder": str(version.folder),
        "config": version.config.as_dict() | {"providers": version.config.providers or providers},
    }


def _key(version: Version) -> str:
    """The key of a version in every process."""
    return f"{version.title}@{version.number}"
