"""Accounts: users and their keys, and the one place that turns a credential into a caller.

Knows names, keys and the admin's key file. Knows nothing of HTTP, of SQL, or of what a caller may do with a model: the model
repository decides that. A key is 32 hex digits. The server shows a key once, in the answer that creates it, and keeps only its
SHA-256. The admin's full key is also written to the key file: with it the person at the machine gets in.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from engine import files
from engine.errors import FULL_KEY_NEEDED, INVALID_REQUEST, NAME_TAKEN, UNAUTHORIZED, EngineError
from engine.key_watch import KeyWatch
from engine.roles import Role
from engine.store import KeyKind, Store, StoreError, User

ADMIN = "admin"
OWNER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}")
KEY = re.compile(r"[0-9a-f]{32}")

# How long a key that another process removed may still work, also for a stream or an upload that is running. To notice it we ask
# SQLite one PRAGMA a second, whatever the load.
RECHECK_S = 1.0
NO_ROLES: Mapping[str, Role] = MappingProxyType({})
# A cached caller takes about 300 bytes.
MAX_CACHED_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a credential.

    kind      of the key: "full", or "read_only", with which a caller may only predict, and only with its own models
    is_admin  the admin with its full key; with its read-only key the admin is a user like any other
    sha256    of the key
    roles     team -> the caller's role in it
    """

    name: str
    kind: KeyKind
    is_admin: bool
    sha256: bytes = field(default=b"", repr=False, compare=False)
    roles: Mapping[str, Role] = field(default_factory=lambda: NO_ROLES, repr=False, compare=False)

    def role_in(self, owner: str) -> Role | None:
        """What the caller is in a team, or in what a user owns; None for an outsider. The kind of its key does not count."""
        if self.is_admin or self.name == owner:
            return Role.ADMIN
        return self.roles.get(owner)


def full_key_needed() -> EngineError:
    """The error for a caller whose read-only key does not suffice."""
    return EngineError(FULL_KEY_NEEDED, "a full key is needed for this")


def unauthorized() -> EngineError:
    """The error for a wrong user or key. It does not say which of the two is wrong."""
    return EngineError(UNAUTHORIZED, "Unauthorized")


class Accounts:
    """The users and keys of one store.

    key_file  the file with the admin's full key
    is_taken  tells whether something other than a user has this name: a reserved path segment, or an owner of a model folder
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
        self._key_watch: KeyWatch[Caller] = KeyWatch(self._is_valid, self._recheck, interval_s=RECHECK_S)

    async def close(self) -> None:
        await self._key_watch.close()

    async def ensure_admin(self) -> None:
        """Make the key in the key file the admin's full key in the database. A key file that is missing is written with a new key.

        So the old file still opens the server after its database is lost, and an admin who lost the key removes the file and
        starts the server again. We write the file before the database: after a crash between the two, the next start completes
        the work. Raises EngineError when the file holds no key.
        """
        key = await asyncio.to_thread(_read_key, self._key_file)
        if key is None:
            key = _new_key()
            await asyncio.to_thread(_write_key, self._key_file, key)
        sha256 = _sha256(key)
        if await self._store.find_key(sha256) == (ADMIN, "full"):
            return
        try:
            if not await self._store.add_user(ADMIN, sha256):
                await self._store.put_key(ADMIN, "full", sha256)
        finally:
            self._forget_callers()

    async def prove(self, nonce: str, port: int) -> str:
        """What only a server with this key file can say about a nonce: an HMAC, in hex, with the hash of the key in the file.

        A client that has the file can compare. We read the file each time, because a command may have replaced the key.

        port    on which the client reached us: so nobody on another port can pass our proof off as his own
        raises  EngineError when there is no key in the file
        """
        key = await asyncio.to_thread(_read_key, self._key_file)
        if key is None:
            raise EngineError(INVALID_REQUEST, "the server has no key file")
        return hmac.new(_sha256(key), f"sluice {nonce} {port}".encode(), hashlib.sha256).hexdigest()

    async def identify(self, user: str | None, key: str) -> Caller:
        """The caller with this key, who must have the name `user` unless that is None (a bearer). EngineError `unauthorized`."""
        if self._clock() >= self._recheck_at:
            await self._recheck()
        sha256 = _sha256(key)
        caller = self._callers.get(sha256) or await self._look_up(sha256)
        if caller is None or (user is not None and user != caller.name):
            raise unauthorized()
        return caller

    # Long requests: a key may end while they run

    def while_valid(self, caller: Caller | None, on_end: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `on_end` if the caller's key is replaced or its user removed meanwhile; never for a request without credentials."""
        if caller is None:
            return nullcontext()
        return self._key_watch.watching(caller, on_end, is_fresh=self._callers.get(caller.sha256) is caller)

    async def confirm(self, caller: Caller) -> None:
        """Check that a caller who was identified some time ago still has its key. EngineError `unauthorized`."""
        if not await self._is_valid(caller):
            raise unauthorized()

    async def _is_valid(self, caller: Caller) -> bool:
        return await self._store.find_key(caller.sha256) == (caller.name, caller.kind)

    # Changes

    async def add_user(self, name: str) -> str:
        """Add a user and return its full key. EngineError `invalid_request` or `name_taken`."""
        if not OWNER_NAME.fullmatch(name):
            raise EngineError(
                INVALID_REQUEST, "field 'name': use 1 to 100 letters, digits and _ . @ + -, starting with a letter or digit"
            )
        key = _new_key()
        if name == ADMIN or self._is_taken(name) or not await self._store.add_user(name, _sha256(key)):
            raise EngineError(NAME_TAKEN, f"the name '{name}' is taken")
        return key

    async def remove_user(self, name: str) -> None:
        """Remove a user and its keys. Its models stay, and the admin may change them. EngineError `invalid_request`."""
        if name == ADMIN:
            raise EngineError(INVALID_REQUEST, "the user 'admin' cannot be removed")
        try:
            if not await self._store.remove_user(name):
                raise EngineError(INVALID_REQUEST, f"there is no user '{name}'")
        finally:
            self._forget_callers()

    async def list_users(self) -> list[User]:
        """Sorted by name."""
        return await self._store.list_users()

    async def replace_key(self, name: str, kind: KeyKind) -> str:
        """Give a user a new key; its old key of that kind stops working at once. EngineError `unauthorized`: the user is gone."""
        key = _new_key()
        async with self._replacing:  # else two replacements could leave different keys in the file and in the database
            old = None
            if name == ADMIN and kind == "full":
                old = await asyncio.to_thread(_read_key, self._key_file)
                await asyncio.to_thread(_write_key, self._key_file, key)
            try:
                if not await self._store.put_key(name, kind, _sha256(key)):
                    raise unauthorized()
            except StoreError:  # the database still has the old key, and it must not be lost from the file
                if old is not None:
                    await asyncio.to_thread(_write_key, self._key_file, old)
                raise
            finally:
                self._forget_callers()
        return key

    async def reset_key(self, name: str, kind: KeyKind) -> str:
        """What the admin does for a user who lost a key: as `replace_key`. EngineError `invalid_request`: there is no such user."""
        try:
            return await self.replace_key(name, kind)
        except EngineError:
            raise EngineError(INVALID_REQUEST, f"there is no user '{name}'") from None

    async def _recheck(self) -> None:
        """Forget all callers if another process has written to the database."""
        self._recheck_at = self._clock() + RECHECK_S  # set before we ask: other requests need not ask meanwhile
        data_version = await self._store.data_version()
        if data_version != self._data_version:
            self._data_version = data_version
            self._forget_callers()

    async def _look_up(self, sha256: bytes) -> Caller | None:
        """Ask the database, and remember the answer unless the callers were forgotten while we asked."""
        generation = self._generation
        found = await self._store.find_key(sha256)
        if found is None:
            return None
        name, kind = found
        caller = Caller(name, kind, is_admin=name == ADMIN and kind == "full", sha256=sha256)
        if generation == self._generation:
            if len(self._callers) >= MAX_CACHED_CALLERS:
                self._callers.pop(next(iter(self._callers)))
            self._callers[sha256] = caller
        return caller

    def _forget_callers(self) -> None:
        """Call this after every write, also after one that failed.

        The generation tells a look-up that began before the write that it must not remember its answer.
        """
        self._generation += 1
        self._callers.clear()
        self._key_watch.changed()


def _new_key() -> str:
    return secrets.token_hex(16)


def _sha256(key: str) -> bytes:
    """The hash of any text. Bytes of an HTTP header that are not UTF-8 arrive here as lone surrogates."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _read_key(key_file: Path) -> str | None:
    """The key in the file, or None when there is no file."""
    try:
        key = key_file.read_bytes().strip().decode("ascii", "replace")
    except FileNotFoundError:
        return None
    if not KEY.fullmatch(key):
        reason = f"{key_file.name} does not hold a key of 32 hex digits: remove the file to get a new key"
        raise EngineError(INVALID_REQUEST, reason)
    return key


def _write_key(key_file: Path, key: str) -> None:
    """Write the key file. At no moment can any user of the machine read it except the one that runs this process."""
    files.replace_text(key_file, key + "\n", mode=0o600)
