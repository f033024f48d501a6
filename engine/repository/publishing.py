"""Publishing: an upload becomes a version of a model, a version becomes the active one, and old versions and models are removed.

Writes under `data/models/` only: beside the target, fsync, rename. Makes one change of a model at a time. A change that is cut off
in the middle, also by kill -9, leaves the old version serving and a hidden folder, which the next start removes. Knows nothing of
HTTP or of graphs.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from engine import metrics
from engine.disk import Disk, disk_full
from engine.errors import TOO_MANY_REQUESTS, Code, EngineError, Kind, TaskFailed, model_not_found
from engine.replicas.blocks import Arguments, Task
from engine.replicas.pool import Pool
from engine.repository import folders
from engine.repository.config import ModelConfig, parse_config
from engine.repository.drafts import Draft
from engine.repository.incoming import INVALID_MODEL, Incoming, Room
from engine.repository.index import Model, Repository, Version
from engine.repository.quotas import QuotaLimits, Quotas
from engine.repository.serving import LOAD_FAILED, Serving
from engine.store import ModelOverrides, Store

log = logging.getLogger("sluice.publishing")

SHIPPED_MODEL = Code("shipped_model", Kind.CONFLICT, "a model that ships with the server cannot be deleted or shared otherwise")
ACTIVE_VERSION = Code("active_version", Kind.CONFLICT, "the active version of a model cannot be deleted alone")
FILES_MISSING = Code("files_missing", Kind.CONFLICT, "files of the model were removed by hand while the server was running")

# Uploads at once, also those that wait for their check; this bounds how much of the disk half-sent files can take.
MAX_UPLOADS = 8
# The first death under a check may be an accident; after the second we blame the upload.
CHECK_DEATHS = 2


@dataclass(frozen=True, slots=True)
class PublishingLimits:
    """What publishing allows. Settings of server/config.py, by the same names."""

    model_limit_bytes: int
    max_uploads_per_user: int
    keep_versions: int
    check_timeout_s: float
    user_models: int
    user_versions: int
    user_bytes: int
    drain_s: float


@dataclass(frozen=True, slots=True)
class Published:
    """What became of an upload: a new version, or the version that is active when the upload is the same."""

    version: int
    is_new: bool
    warnings: list[str]


class Publisher:
    """Makes every change of a model at run time.

    jobs    the pool whose replicas check uploads
    quotas  of the owners
    """

    def __init__(self, store: Store, serving: Serving, jobs: Pool, disk: Disk, limits: PublishingLimits) -> None:
        self.limits = limits
        self._store = store
        self._serving = serving
        self._repository = serving.repository
        self._listed = serving.listed
        self._jobs = jobs
        self._check_task = Task(
            "check", family="publishing", pool=jobs.name, time_limit_s=limits.check_timeout_s, max_deaths=CHECK_DEATHS
        )
        self._root = self._repository.writable_root
        self._disk = disk
        self.quotas = Quotas(
            self._root, QuotaLimits(limits.user_models, limits.user_versions, limits.user_bytes, limits.keep_versions)
        )
        self._owner_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._checks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by owner
        self._uploads: Counter[str] = Counter()  # by owner

    # A new version

    async def check_room(self, owner: str, name: str, num_bytes: int, *, is_counted: bool) -> None:
        """Refuse an upload before its body comes. EngineError `disk_full`, `quota_exceeded`.

        num_bytes   as far as the head of the request tells, else 0
        is_counted  the owner publishes, and not the admin, who has no quotas
        """
        await asyncio.to_thread(self._disk.check, num_bytes)
        if is_counted:
            await asyncio.to_thread(self.quotas.check, owner, name, num_bytes)

    @contextlib.asynccontextmanager
    async def incoming(self, owner: str, name: str, *, is_counted: bool = False) -> AsyncIterator[Incoming]:
        """A place for an upload; what is still in it at the end is removed. EngineError `too_many_requests`."""
        if self._uploads[owner] >= self.limits.max_uploads_per_user or self._uploads.total() >= MAX_UPLOADS:
            raise EngineError(TOO_MANY_REQUESTS, "too many uploads", retry_after_s=5)
        self._uploads[owner] += 1
        try:
            quota_bytes = await asyncio.to_thread(self.quotas.room_bytes, owner) if is_counted else None
            async with self._place(owner, name, quota_bytes) as incoming:
                yield incoming
        finally:
            self._uploads -= Counter({owner: 1})  # an owner without uploads is not kept

    def incoming_from_inside(self, owner: str, name: str) -> AbstractAsyncContextManager[Incoming]:
        """A place for files that a replica writes. It may take hours, so it is not counted among the uploads; nor have models that
        the server makes itself a quota."""
        return self._place(owner, name, None)

    @contextlib.asynccontextmanager
    async def _place(self, owner: str, name: str, quota_bytes: int | None) -> AsyncIterator[Incoming]:
        folder = folders.incoming_folder(self._root / owner / name)
        try:
            await asyncio.to_thread(folders.make, folder)
            with _files_are_there():
                yield Incoming(owner, name, folder, Room(self.limits.model_limit_bytes, quota_bytes, self._disk))
        finally:
            await asyncio.to_thread(folders.remove, folder)

    async def publish(self, incoming: Incoming, *, confirm: Callable[[], Awaitable[None]] | None = None) -> Published:
        """Check an upload and make it the active version.

        Uploads of one owner are checked one after the other, so that they take one replica of the pool at most, however long they
        take. A model can be changed while an upload of it is checked.

        confirm  called after the check, which takes time, and before anything changes; its EngineError ends the upload
        raises   EngineError `invalid_model`, `quota_exceeded`, `disk_full`; `load_failed`: the version is kept and the active
                 one is as it was
        """
        async with self._checks.setdefault(incoming.owner, asyncio.Lock()):
            config, warnings = await self._check(incoming, await asyncio.to_thread(incoming.draft))
        async with self._lock(incoming.owner, incoming.name):
            if confirm is not None:
                await confirm()
            return await self._publish_checked(incoming, config, warnings)

    async def _publish_checked(self, incoming: Incoming, config: ModelConfig, warnings: list[str]) -> Published:
        """Make an upload the active version, unless it is the same as the active one."""
        started = time.monotonic()
        owner, name = incoming.owner, incoming.name
        active = self._active(owner, name)
        if active is not None and await asyncio.to_thread(folders.is_same, incoming.folder, config, active):
            self._serving.pardon(active)
            async with self._listing(config):
                return Published(active.number, False, warnings)
        async with self._listing(config):
            number = await self._put_in_place(incoming, config)
            model = await self._read(owner, name)
            await self._activate(model, number, active)
        await self._prune(model)
        log.info("model published model=%s/%s version=%d seconds=%.3f", owner, name, number, time.monotonic() - started)
        return Published(number, True, warnings)

    async def _put_in_place(self, incoming: Incoming, config: ModelConfig) -> int:
        """Keep an upload as a version; returns its number. Uploads of one owner take turns, so that no two share the last place."""
        owner, name = incoming.owner, incoming.name
        async with self._owner_locks.setdefault(owner, asyncio.Lock()):
            if incoming.is_counted:
                await asyncio.to_thread(self.quotas.check, owner, name, incoming.num_bytes)
            number = await take_number(self._store, self._repository, owner, name)
            await asyncio.to_thread(folders.put_in_place, incoming.folder, config, incoming.folder.with_name(str(number)))
        return number

    @contextlib.asynccontextmanager
    async def _listing(self, config: ModelConfig) -> AsyncIterator[None]:
        """List an embedding model that becomes active inside the context, unless it is listed; undone when the context fails.

        Its name is written first. So a list that cannot be written stops the publish before anything has changed, and a server
        that dies in between has the name already when it starts again; the name of a model that is not there yet is left out.
        """
        if not config.is_embedding:
            yield
            return
        name = await asyncio.to_thread(self._listed.enter, config.owner, config.name)
        try:
            yield
        except BaseException:  # also when the publisher is cancelled
            if name is not None:
                await asyncio.to_thread(self._listed.withdraw, name)
            raise
        await asyncio.to_thread(self._listed.read)

    async def _check(self, incoming: Incoming, sent: Draft | None) -> tuple[ModelConfig, list[str]]:
        """The config of the new version, and warnings. EngineError `invalid_model`."""
        arguments: Arguments = {
            "folder": str(incoming.folder),
            "owner": incoming.owner,
            "name": incoming.name,
            "config": sent.config.as_dict() if sent else None,
            "faults": sent.faults if sent else [],
            "data": incoming.data_files,
            "providers": self._serving.providers,
        }
        try:
            answer = (await self._jobs.run(self._check_task, arguments)).header
        except TaskFailed as failure:
            limit_s = self.limits.check_timeout_s
            reason = (
                f"the check took longer than {limit_s:g} seconds" if failure.is_timeout else "the process that checked it failed"
            )
            raise EngineError(INVALID_MODEL, reason) from None
        if "refused" in answer:
            raise EngineError(INVALID_MODEL, answer["refused"])
        if "full" in answer:
            raise disk_full()
        written = self._defaults(incoming) | (sent.config.as_written() if sent else {}) | answer["config"]
        return await asyncio.to_thread(_parsed, written), answer["warnings"]

    def _defaults(self, incoming: Incoming) -> dict[str, Any]:
        """Config values that neither the sender nor the check has set; description and sharing stay as in the active version."""
        defaults: dict[str, Any] = {"owner": incoming.owner, "name": incoming.name, "task": "predict"}
        if active := self._active(incoming.owner, incoming.name):
            defaults |= {"description": active.config.shown_description, "shared": active.config.shared}
        return defaults

    async def _activate(self, model: Model, number: int, old: Version | None) -> None:
        """Open a version in every replica, then make it active in one step. EngineError `load_failed`: nothing has changed."""
        if number not in model.versions:
            raise EngineError(LOAD_FAILED, f"version {number} does not load; the active version is as it was")
        try:
            async with self._serving.coming(model.versions[number]):
                await self._store.set_active_version(model.owner, model.name, number)
                model.active_version = number
        finally:
            self._repository.replace(model.owner, model.name, model)
        if old is not None and old.number != number:
            self._serving.retire(old)

    # What there is

    async def activate(self, owner: str, name: str, number: int) -> None:
        """Roll back, or forward. EngineError `model_not_found` for a version that is not kept, `load_failed`."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            if number not in model.numbers:
                raise model_not_found()
            if number != model.active_version or number in model.faults:
                await self._activate(model, number, model.active)
                log.info("model activated model=%s version=%d", model.title, number)
            self._serving.pardon(model.versions[number])

    def check_shareable(self, owner: str, name: str) -> None:
        """EngineError `shipped_model`, `model_not_found`."""
        check_not_shipped(self._found(owner, name))

    async def share(self, owner: str, name: str, shared: bool) -> None:
        """Let other users use a model, or stop that. EngineError `shipped_model`."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            check_not_shipped(model)
            await self._store.set_shared(owner, name, shared)
            model.shared = shared

    async def delete(self, owner: str, name: str) -> None:
        """Remove a model with all its versions; new requests do not find it any more. Its streams may go on for `drain_s`."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            check_not_shipped(model)
            await self._keep_number(model)  # this and the list may fail on a full disk, so they come before anything is removed
            await asyncio.to_thread(self._listed.remove, model)
            self._repository.replace(owner, name, None)
            until = time.monotonic() + self.limits.drain_s  # of all versions together
            # The active version goes last, so that a server that dies in between serves it again.
            for number in sorted(model.numbers, key=lambda number: number == model.active_version):
                await self._remove_version(model, number, max(0.0, until - time.monotonic()))
            await asyncio.to_thread(folders.remove_config, self._folder(model))
            await self._store.forget_model(owner, name)
            metrics.keep_models(self._serving.titles())
            log.info("model deleted model=%s", model.title)

    async def delete_version(self, owner: str, name: str, number: int) -> None:
        """Remove one version that is not active. EngineError `model_not_found`, `active_version`, `shipped_model`."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            if number not in model.numbers:
                raise model_not_found()
            if number == model.active_version:
                raise EngineError(ACTIVE_VERSION, f"version {number} is active: activate another one first, or delete the model")
            if not await asyncio.to_thread((self._folder(model) / str(number)).is_dir):
                raise _shipped() if model.shipped else files_missing()
            await self._keep_number(model)
            await self._remove_version(model, number, self.limits.drain_s)
            self._repository.replace(owner, name, await self._read(owner, name))
            log.info("model version deleted model=%s version=%d", model.title, number)

    async def _keep_number(self, model: Model) -> None:
        """Note that the numbers of a model are taken for ever; nothing is written if that is known: a full disk can be cleared."""
        if await self._store.highest_version(model.owner, model.name) < model.latest_version:
            await self._store.note_version(model.owner, model.name, model.latest_version, None)

    async def _prune(self, model: Model) -> None:
        """Remove versions beyond the newest ones; a version that is in use stays until the next upload."""
        for number in model.numbers[: -self.limits.keep_versions]:
            version = model.versions.get(number)
            is_ours = await asyncio.to_thread((self._folder(model) / str(number)).is_dir)
            if is_ours and number != model.active_version and not (version and self._serving.is_used(version)):
                await self._remove_version(model, number, self.limits.drain_s)

    async def _remove_version(self, model: Model, number: int, drain_s: float) -> None:
        """Hide a version from new requests; when the last running one has ended, or been ended, unload it and remove its files."""
        version = model.versions.get(number)
        model.forget(number)
        if version is not None:
            await self._serving.retire_within(version, drain_s)
        await asyncio.to_thread(folders.remove_version, self._folder(model) / str(number))

    async def reload(self) -> int:
        """Look at both roots and the lists again, for what others have put there; returns the number of models."""
        overrides = await self._store.list_model_overrides()
        for owner, name in await asyncio.to_thread(self._repository.names):
            async with self._lock(owner, name):
                model = await asyncio.to_thread(self._repository.read, owner, name, overrides.get((owner, name), ModelOverrides()))
                old = self._repository.find(owner, name)
                self._repository.replace(owner, name, model)
                for number, version in (old.versions if old else {}).items():
                    if model is None or model.versions.get(number) != version:
                        self._serving.retire(version)
                    else:
                        self._serving.pardon(version)
        await asyncio.to_thread(self._listed.read)
        self._serving.open_new()
        metrics.keep_models(self._serving.titles())
        return len(self._repository.models())

    def _lock(self, owner: str, name: str) -> asyncio.Lock:
        """Allows one change of a model at a time; the lock lives as long as somebody holds it or waits for it."""
        return self._locks.setdefault((owner, name), asyncio.Lock())

    def _found(self, owner: str, name: str) -> Model:
        """The model as it is now, since another change may have come first."""
        model = self._repository.find(owner, name)
        if model is None:
            raise model_not_found()
        return model

    def _active(self, owner: str, name: str) -> Version | None:
        model = self._repository.find(owner, name)
        return model.active if model else None

    def _folder(self, model: Model) -> Path:
        return self._root / model.owner / model.name

    async def _read(self, owner: str, name: str) -> Model:
        """The model as its folders are now; requests do not see it yet."""
        overrides = await self._store.list_model_overrides()
        model = await asyncio.to_thread(self._repository.read, owner, name, overrides.get((owner, name), ModelOverrides()))
        if model is None:
            raise files_missing()
        return model


async def take_number(store: Store, repository: Repository, owner: str, name: str) -> int:
    """A number that no version of this model ever had. From now on a restart keeps the version that is active now."""
    model = repository.find(owner, name)
    if model is None:
        await store.forget_model(owner, name)  # what a model of this name had before it was deleted
    highest = await asyncio.to_thread(folders.highest_number, [root / owner / name for root in repository.roots])
    number = max(highest, await store.highest_version(owner, name)) + 1
    await store.note_version(owner, name, number, model.active_version if model else None)
    return number


def check_not_shipped(model: Model) -> None:
    """EngineError `shipped_model` for a model that came with the server."""
    if model.shipped:
        raise _shipped()


@contextlib.contextmanager
def _files_are_there() -> Iterator[None]:
    """EngineError `files_missing` when a file or folder of the model has gone: only a person removes them while the server runs."""
    try:
        yield
    except FileNotFoundError:
        raise files_missing() from None


def files_missing() -> EngineError:
    text = "files of the model were removed while the server was running: publish it again, or let the admin reload the models"
    return EngineError(FILES_MISSING, text)


def _shipped() -> EngineError:
    return EngineError(SHIPPED_MODEL, "this model ships with the server")


def _parsed(written: dict[str, Any]) -> ModelConfig:
    """A config that was derived from a graph. EngineError `invalid_model` when the graph's names cannot stand in a config."""
    try:
        return parse_config(json.dumps(written).encode())
    except ValueError as error:
        raise EngineError(INVALID_MODEL, f"{error}; send a config") from None
