"""Publishing: an upload becomes a version of a model, a version becomes the active one, and what is not wanted any more goes.

Writes under `data/models/` only: beside the target, fsync, rename. One change of a model at a time. Whatever is cut off in the
middle, also by kill -9, leaves the old version serving and a hidden folder that the next start removes. Knows nothing of HTTP or of
graphs.
"""

import asyncio
import contextlib
import filecmp
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from engine.engine import Engine
from engine.errors import EngineError, TaskFailed
from engine.frames import Header
from engine.model_config import ModelConfig, parse_config
from engine.repository import CONFIG_FILE, GRAPH_FILE, VERSION, Model, Repository, Version
from engine.store import ModelState, Store

log = logging.getLogger("sluice.publishing")

TOKENIZER_FILE = "tokenizer.json"
INCOMING, GOING = ".incoming-", ".going-"
CONFIG_LIMIT_BYTES = 1024 * 1024
# What is written at once: fewer trips to the thread that writes, and still little memory.
WRITE_BYTES = 1024 * 1024
# Uploads at once, waiting ones included: they bound what half-sent files can take on the disk.
MAX_UPLOADS = 8


@dataclass(frozen=True, slots=True)
class PublishingLimits:
    """What publishing allows. Settings of server/config.py, by the same names."""

    model_limit_bytes: int
    keep_versions: int


@dataclass(frozen=True, slots=True)
class Published:
    """What became of an upload: a new version, or the active one when it is the same."""

    version: int
    is_new: bool
    warnings: list[str]


class Incoming:
    """The files of one upload, in a hidden folder beside the model's versions.

    data_files  names of the files with tensors, as the graph calls them
    """

    def __init__(self, owner: str, name: str, folder: Path, limit_bytes: int) -> None:
        self.owner = owner
        self.name = name
        self.folder = folder
        self.data_files: list[str] = []
        self._limit_bytes = limit_bytes
        self._num_bytes = 0
        self._names: set[str] = set()

    async def receive(self, file_name: str, chunks: AsyncIterator[bytes], *, is_data: bool = False) -> None:
        """Write one file as it comes. EngineError `body_too_large`, `invalid_model` for a second file of a name."""
        if file_name in self._names or (is_data and file_name in (GRAPH_FILE, CONFIG_FILE, TOKENIZER_FILE)):
            raise EngineError("invalid_model", f"the file {file_name} was sent twice")
        self._names.add(file_name)
        if is_data:
            self.data_files.append(file_name)
        file = await asyncio.to_thread(open, self.folder / file_name, "xb")
        try:
            async for piece in _gathered(self._counted(chunks)):
                await asyncio.to_thread(file.write, piece)
        finally:
            await asyncio.to_thread(file.close)

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._num_bytes += len(chunk)
            if self._num_bytes > self._limit_bytes:
                raise EngineError("body_too_large", f"body larger than {self._limit_bytes} bytes")
            yield chunk

    def config(self) -> ModelConfig | None:
        """The config that was sent, None without one. Blocks on its file. EngineError `body_too_large`, `invalid_model`."""
        if GRAPH_FILE not in self._names:
            raise EngineError("invalid_model", "the part 'model' is missing")
        if CONFIG_FILE not in self._names:
            return None
        path = self.folder / CONFIG_FILE
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise EngineError("body_too_large", f"config larger than {CONFIG_LIMIT_BYTES} bytes")
        try:
            config = parse_config(_with_names(path.read_bytes(), self.owner, self.name))
        except ValueError as error:
            raise EngineError("invalid_model", str(error)) from None
        if (config.owner, config.name) != (self.owner, self.name):
            raise EngineError("invalid_model", f"config.json names {config.owner}/{config.name}, the path {self.owner}/{self.name}")
        return config


class Publisher:
    """Every change of a model at run time."""

    def __init__(self, store: Store, repository: Repository, engine: Engine, limits: PublishingLimits) -> None:
        self.limits = limits
        self._store = store
        self._repository = repository
        self._engine = engine
        self._root = repository.writable_root
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._num_uploads = 0

    # A new version

    @contextlib.asynccontextmanager
    async def incoming(self, owner: str, name: str) -> AsyncIterator[Incoming]:
        """A place for an upload; what is still in it at the end is removed. EngineError `too_many_requests`."""
        if self._num_uploads >= MAX_UPLOADS:
            raise EngineError("too_many_requests", "too many uploads", retry_after_s=5)
        self._num_uploads += 1
        folder = self._root / owner / name / f"{INCOMING}{secrets.token_hex(8)}"
        try:
            await asyncio.to_thread(_make_folder, folder)
            yield Incoming(owner, name, folder, self.limits.model_limit_bytes)
        finally:
            self._num_uploads -= 1
            await asyncio.to_thread(_remove, folder)

    async def publish(self, incoming: Incoming) -> Published:
        """Check an upload and make it the active version.

        raises  EngineError `invalid_model`; `load_failed`: the version is kept and the active one is as it was
        """
        started = time.monotonic()
        owner, name = incoming.owner, incoming.name
        async with self._lock(owner, name):
            config, warnings = await self._check(incoming, await asyncio.to_thread(incoming.config))
            active = self._active(owner, name)
            if active is not None and await asyncio.to_thread(_is_same, incoming, config, active):
                return Published(active.number, False, warnings)
            number = await self._take_number(owner, name)
            await asyncio.to_thread(_put_in_place, incoming.folder, config, incoming.folder.with_name(str(number)))
            model = await self._read(owner, name)
            await self._activate(model, number, active)
            await self._prune(model)
        log.info("model published model=%s/%s version=%d seconds=%.3f", owner, name, number, time.monotonic() - started)
        return Published(number, True, warnings)

    async def _check(self, incoming: Incoming, sent: ModelConfig | None) -> tuple[ModelConfig, list[str]]:
        """The config of the new version, and warnings. EngineError `invalid_model`."""
        header: Header = {
            "folder": str(incoming.folder),
            "owner": incoming.owner,
            "name": incoming.name,
            "config": sent.as_dict() if sent else None,
            "data": incoming.data_files,
        }
        try:
            answer = await self._engine.run_task("check", header)
        except TaskFailed as failure:
            limit_s = self._engine.limits.check_timeout_s
            reason = (
                f"the check took longer than {limit_s:g} seconds" if failure.is_timeout else "the process that checked it failed"
            )
            raise EngineError("invalid_model", reason) from None
        if "refused" in answer:
            raise EngineError("invalid_model", answer["refused"])
        written = self._unsaid(incoming) | (sent.as_written() if sent else {}) | answer["config"]
        return await asyncio.to_thread(_parsed, written), answer["warnings"]

    def _unsaid(self, incoming: Incoming) -> dict[str, Any]:
        """What holds where neither the sender nor the check says otherwise: of the model as a whole, as it was."""
        unsaid: dict[str, Any] = {"owner": incoming.owner, "name": incoming.name, "task": "predict"}
        if active := self._active(incoming.owner, incoming.name):
            unsaid |= {"description": active.config.description, "shared": active.config.shared}
        return unsaid

    async def _take_number(self, owner: str, name: str) -> int:
        """A number that no version of this model ever had. From now on a restart keeps the version that is active now."""
        model = self._repository.find(owner, name)
        if model is None:
            await self._store.forget_model(owner, name)  # what a model of this name had before it was deleted
        highest = await asyncio.to_thread(_highest_number, [root / owner / name for root in self._repository.roots])
        number = max(highest, await self._store.highest_version(owner, name)) + 1
        await self._store.note_version(owner, name, number, model.active_version if model else None)
        return number

    async def _activate(self, model: Model, number: int, old: Version | None) -> None:
        """Open a version everywhere, then move the pointer in one step. EngineError `load_failed`: it has not moved."""
        if number not in model.versions:
            raise EngineError("load_failed", f"version {number} does not load; the active version is as it was")
        try:
            async with self._engine.coming(model.versions[number]):
                await self._store.set_active_version(model.owner, model.name, number)
                model.active_version = number
        finally:
            self._repository.replace(model.owner, model.name, model)
        if old is not None and old.number != number:
            self._engine.retire(old)

    # What there is

    async def activate(self, owner: str, name: str, number: int) -> None:
        """Roll back, or forward. EngineError `model_not_found` for a version that is not kept, `load_failed`."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            if number not in model.numbers:
                raise EngineError("model_not_found", "model not found")
            if number != model.active_version or number in model.faults:
                await self._activate(model, number, model.active)
                log.info("model activated model=%s version=%d", model.title, number)

    async def share(self, owner: str, name: str, shared: bool) -> None:
        """Let others use a model, or not. EngineError `shipped_model`."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            check_not_shipped(model)
            await self._store.set_shared(owner, name, shared)
            model.shared = shared

    async def delete(self, owner: str, name: str) -> None:
        """Remove a model with all its versions, when its running streams have ended; new requests find none at once."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            check_not_shipped(model)
            self._repository.replace(owner, name, None)
            await self._store.note_version(owner, name, model.latest_version, None)
            # The active one goes last: a server that dies in between serves it again.
            for number in sorted(model.numbers, key=lambda number: number == model.active_version):
                await self._remove_version(model, number)
            await asyncio.to_thread(_remove_config, self._folder(model))
            await self._store.forget_model(owner, name)
            log.info("model deleted model=%s", model.title)

    async def delete_version(self, owner: str, name: str, number: int) -> None:
        """Remove one version that is not active. EngineError `model_not_found`, `active_version`, `shipped_model`."""
        async with self._lock(owner, name):
            model = self._found(owner, name)
            if number not in model.numbers:
                raise EngineError("model_not_found", "model not found")
            if number == model.active_version:
                raise EngineError("active_version", f"version {number} is active: activate another one first, or delete the model")
            if not await asyncio.to_thread((self._folder(model) / str(number)).is_dir):
                raise _shipped()
            await self._store.note_version(owner, name, model.latest_version, None)
            await self._remove_version(model, number)
            self._repository.replace(owner, name, await self._read(owner, name))
            log.info("model version deleted model=%s version=%d", model.title, number)

    async def _prune(self, model: Model) -> None:
        """Remove versions beyond the newest; one that is in use stays until the next time."""
        for number in model.numbers[: -self.limits.keep_versions]:
            version = model.versions.get(number)
            is_ours = await asyncio.to_thread((self._folder(model) / str(number)).is_dir)
            if is_ours and number != model.active_version and not (version and self._engine.is_used(version)):
                await self._remove_version(model, number)

    async def _remove_version(self, model: Model, number: int) -> None:
        """New requests for it find none; when the last running one has ended, it is unloaded and its files go."""
        version = model.versions.get(number)
        model.forget(number)
        if version is not None:
            await self._engine.retire(version).wait()
        await asyncio.to_thread(_remove_atomically, self._folder(model) / str(number))

    def _lock(self, owner: str, name: str) -> asyncio.Lock:
        """One change of a model at a time; the lock lives as long as somebody holds it or waits for it."""
        return self._locks.setdefault((owner, name), asyncio.Lock())

    def _found(self, owner: str, name: str) -> Model:
        """The model as it is now: another change may have come first."""
        model = self._repository.find(owner, name)
        if model is None:
            raise EngineError("model_not_found", "model not found")
        return model

    def _active(self, owner: str, name: str) -> Version | None:
        model = self._repository.find(owner, name)
        return model.active if model else None

    def _folder(self, model: Model) -> Path:
        return self._root / model.owner / model.name

    async def _read(self, owner: str, name: str) -> Model:
        """The model as its folders are now; nobody else sees it yet."""
        states = await self._store.list_model_states()
        model = await asyncio.to_thread(self._repository.read, owner, name, states.get((owner, name), ModelState()))
        if model is None:
            raise EngineError("model_not_found", "model not found")
        return model


def check_not_shipped(model: Model) -> None:
    """EngineError `shipped_model` for one that came with the server."""
    if model.shipped:
        raise _shipped()


def _shipped() -> EngineError:
    return EngineError("shipped_model", "this model ships with the server")


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least WRITE_BYTES, but for the last."""
    waiting: list[bytes] = []
    num_bytes = 0
    async for chunk in chunks:
        waiting.append(chunk)
        num_bytes += len(chunk)
        if num_bytes >= WRITE_BYTES:
            yield b"".join(waiting)
            waiting, num_bytes = [], 0
    yield b"".join(waiting)


def _with_names(text: bytes, owner: str, name: str) -> bytes:
    """A config that leaves out what the path says, with that filled in; anything else as it is."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps({"owner": owner, "name": name} | raw).encode() if isinstance(raw, dict) else text


def _parsed(written: dict[str, Any]) -> ModelConfig:
    """A config made here from a graph. EngineError `invalid_model` when its names cannot stand in one."""
    try:
        return parse_config(json.dumps(written).encode())
    except ValueError as error:
        raise EngineError("invalid_model", f"{error}; send a config") from None


# Folders. Everything here blocks: in a thread.


def clean(root: Path) -> None:
    """Remove what publishing left behind when it was cut off. For a start, before anything is published."""
    for pattern in (f"*/*/{INCOMING}*", f"*/*/{GOING}*"):
        for folder in root.glob(pattern):
            _remove(folder)
            log.info("leftover removed model=%s/%s", folder.parent.parent.name, folder.parent.name)


def _make_folder(folder: Path) -> None:
    """With its parents, which another upload that fails may be removing just now."""
    for tries_left in range(9, -1, -1):
        try:
            folder.mkdir(parents=True)
            return
        except FileNotFoundError:
            if not tries_left:
                raise


def _remove(folder: Path) -> None:
    """A hidden folder, and those above it that have nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    _remove_empty(folder.parent)


def _remove_empty(model_folder: Path) -> None:
    with contextlib.suppress(OSError):  # something else is in it
        model_folder.rmdir()
        model_folder.parent.rmdir()


def _remove_atomically(folder: Path) -> None:
    """A version, whole or not at all."""
    hidden = folder.with_name(f"{GOING}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):  # it was never in our root, or a person was faster
        folder.rename(hidden)
        _fsync(folder.parent)
        _remove(hidden)


def _remove_config(model_folder: Path) -> None:
    (model_folder / CONFIG_FILE).unlink(missing_ok=True)
    _remove_empty(model_folder)


def _put_in_place(incoming: Path, config: ModelConfig, folder: Path) -> None:
    """The upload becomes a version: everything on the disk first, then the rename."""
    text = json.dumps(config.as_written(), indent=1, ensure_ascii=False) + "\n"
    (incoming / CONFIG_FILE).write_text(text, encoding="utf-8")
    for path in (*incoming.iterdir(), incoming):
        _fsync(path)
    incoming.rename(folder)
    for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        _fsync(parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _highest_number(folders: list[Path]) -> int:
    """Of all version folders, also of those that were put there by hand since the start."""
    return max((number for folder in folders for number in _numbers(folder)), default=0)


def _numbers(folder: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        yield from (int(child.name) for child in folder.iterdir() if VERSION.fullmatch(child.name))


def _is_same(incoming: Incoming, config: ModelConfig, version: Version) -> bool:
    """Whether a version has the same config and the same files, byte for byte."""
    if config.as_dict() != version.config.as_dict():
        return False
    sent = _file_names(incoming.folder)
    _, different, odd = filecmp.cmpfiles(incoming.folder, version.folder, sent, shallow=False)
    return sent == _file_names(version.folder) and not different and not odd


def _file_names(folder: Path) -> set[str]:
    """Without the config, which is compared by what it says."""
    return {path.name for path in folder.iterdir()} - {CONFIG_FILE}
