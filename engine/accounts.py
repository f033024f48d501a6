"""Accounts: users and their keys, and the one place that turns a credential into a caller.

Knows names, keys and the admin's key file. Knows nothing of HTTP, of SQL, or of what a caller may do with a model
(engine/repository.py). A key is 32 hex digits; outside the answer that shows it once it exists as a SHA-256 only, but for the
admin's, which also lies in the key file: that file is how the person at the machine gets in.
"""

import asyncio
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError
from engine.store import KeyKind, Store, User

ADMIN = "admin"
OWNER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}")
KEY = re.compile(r"[0-9a-f]{32}")

# A key removed by another process works this much longer at most. One PRAGMA a second, whatever the load.
RECHECK_S = 1.0
# About 300 bytes each.
MAX_CACHED_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    kind      "full", or "read_only": may only predict, with models of its own
    is_admin  the admin with its full key; with its read-only key it is a user like any other
    """

    name: str
    kind: KeyKind
    is_admin: bool


class Accounts:
    """Users and keys of one store.

    key_file  where the admin's full key lies
    is_taken  whether something other than a user has a name: a reserved path segment, an owner of a model folder
    clock     monotonic seconds
    """

    def __init__(
        self, store: Store, *, key_file: Path, is_taken: Callable[[str], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._key_file = key_file
        self._is_taken = is_taken
        self._clock = clock
        self._callers: dict[bytes, Caller] = {}
        self._generation = 0
        self._data_version = -1
        self._recheck_at = clock()
        self._replacing = asyncio.Lock()

    async def ensure_admin(self) -> None:
        """Make the key file and the database agree: a key in the file is the admin's full key; without a file, a new one is.

        So a lost database is entered with the old file, and a lost key is replaced by removing the file and starting again.
        The file comes first: after a crash between the two, the next start finishes. Raises EngineError on a file without a key.
        """
        key = await asyncio.to_thread(_read_key, self._key_file)
        if key is None:
            key = _new_key()
            await asyncio.to_thread(_publish_key, self._key_file, key)
        sha256 = _sha256(key)
        if await self._store.find_key(sha256) == (ADMIN, "full"):
            return
        try:
            if not await self._store.add_user(ADMIN, sha256):
                await self._store.put_key(ADMIN, "full", sha256)
        finally:
            self._forget_callers()

    async def identify(self, user: str | None, key: str) -> Caller:
        """The caller behind user and key, or behind a key alone (user None: a bearer). EngineError `unauthorized`."""
        if self._clock() >= self._recheck_at:
            await self._recheck()
        sha256 = _sha256(key)
        caller = self._callers.get(sha256) or await self._look_up(sha256)
        if caller is None or (user is not None and user != caller.name):
            raise EngineError("unauthorized", "Unauthorized")
        return caller

    async def add_user(self, name: str) -> str:
        """Make a user and return its full key. EngineError `invalid_request` or `name_taken`."""
        if not OWNER_NAME.fullmatch(name):
            raise EngineError(
                "invalid_request", "field 'name': take 1 to 100 letters, digits and _ . @ + -, a letter or digit first"
            )
        key = _new_key()
        if name == ADMIN or self._is_taken(name) or not await self._store.add_user(name, _sha256(key)):
            raise EngineError("name_taken", f"the name '{name}' is taken")
        return key

    async def remove_user(self, name: str) -> None:
        """Remove a user and its keys; its models stay and the admin acts for them. EngineError `invalid_request`."""
        if name == ADMIN:
            raise EngineError("invalid_request", "the user 'admin' cannot be removed")
        try:
            if not await self._store.remove_user(name):
                raise EngineError("invalid_request", f"there is no user '{name}'")
        finally:
            self._forget_callers()

    async def list_users(self) -> list[User]:
        """By name."""
        return await self._store.list_users()

    async def replace_key(self, name: str, kind: KeyKind) -> str:
        """A new key in place of the one of that kind, which ends at once. EngineError `unauthorized` when the user is gone."""
        key = _new_key()
        async with self._replacing:  # or the key file and the database could end with different keys
            if name == ADMIN and kind == "full":
                await asyncio.to_thread(_publish_key, self._key_file, key)
            try:
                if not await self._store.put_key(name, kind, _sha256(key)):
                    raise EngineError("unauthorized", "Unauthorized")
            finally:
                self._forget_callers()
        return key

    async def _recheck(self) -> None:
        """Forget all callers if another process has written."""
        self._recheck_at = self._clock() + RECHECK_S  # before the question: one caller asks, the others go on
        data_version = await self._store.data_version()
        if data_version != self._data_version:
            self._data_version = data_version
            self._forget_callers()

    async def _look_up(self, sha256: bytes) -> Caller | None:
        """Ask the database, and remember an answer that nothing has overtaken."""
        generation = self._generation
        found = await self._store.find_key(sha256)
        if found is None:
            return None
        name, kind = found
        caller = Caller(name, kind, is_admin=name == ADMIN and kind == "full")
        if generation == self._generation:
            if len(self._callers) >= MAX_CACHED_CALLERS:
                self._callers.pop(next(iter(self._callers)))
            self._callers[sha256] = caller
        return caller

    def _forget_callers(self) -> None:
        """After the write, also a failed one. The generation stops a look-up that began before it from bringing one back."""
        self._generation += 1
        self._callers.clear()


def _new_key() -> str:
    return secrets.token_hex(16)


def _sha256(key: str) -> bytes:
    """Of any text: a header may carry bytes that are not UTF-8, which arrive as lone surrogates."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _read_key(key_file: Path) -> str | None:
    """The key in the file, or None without a file."""
    try:
        key = key_file.read_bytes().strip().decode("ascii", "replace")
    except FileNotFoundError:
        return None
    if not KEY.fullmatch(key):
        raise EngineError("invalid_request", f"{key_file.name} holds no key of 32 hex digits: remove it to get a new one")
    return key


def _publish_key(key_file: Path, key: str) -> None:
    """Write beside, fsync, rename, fsync the folder; nobody but the owner of the process may read it at any moment."""
    beside = key_file.with_name(f".{key_file.name}.new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(key_file)
    folder = os.open(key_file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
