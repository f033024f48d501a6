"""Accounts: users and their keys, and the one place that turns a credential into a caller.

Knows names, keys, roles and the admin's key file. Knows nothing of HTTP, of SQL, or of what a caller may do with a model: the model
repository decides that. A key is 32 hex digits. The server shows a key once, in the answer that creates it, and keeps only its
SHA-256. The admin's full key is also written to the key file: with it the person at the machine gets in. A token
(engine/tokens.py) is worth its user's full key until it ends.
"""

import asyncio
import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from engine.errors import (
    FORBIDDEN,
    FULL_KEY_NEEDED,
    INVALID_REQUEST,
    NAME_TAKEN,
    TOKEN_EXPIRED,
    TOKEN_REVOKED,
    EngineError,
    unauthorized,
)
from engine.key_watch import KeyWatch
from engine.keys import hash_of, new_key, read_key, write_key
from engine.roles import ROLES, Role
from engine.store import Credential, KeyKind, Store, StoreError, User
from engine.times import as_seconds
from engine.uses import TokenUses

ADMIN = "admin"
OWNER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}")

# How long a key that another process removed may still work, also for a stream or an upload that is running. To notice it we ask
# SQLite one PRAGMA a second, whatever the load.
RECHECK_S = 1.0
NO_ROLES: Mapping[str, Role] = MappingProxyType({})
# When a key ends that is not a token.
NEVER = math.inf
# A cached caller takes about 300 bytes, and 250 more for each team of its user.
MAX_CACHED_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a credential.

    kind        of the key: "full", or "read_only", with which a caller may only predict, and only with its own models
    is_admin    the admin with its full key; with its read-only key the admin is a user like any other
    sha256      of the key or token
    roles       team -> the caller's role in it
    expires_at  of a token, in seconds since 1970; NEVER for a key
    """

    name: str
    kind: KeyKind
    is_admin: bool
    sha256: bytes = field(default=b"", repr=False, compare=False)
    roles: Mapping[str, Role] = field(default_factory=lambda: NO_ROLES, repr=False, compare=False)

    expires_at: float = NEVER

    @property
    def has_token(self) -> bool:
        """The caller has sent a token, which ends, so it may make nothing that outlives it."""
        return self.expires_at < NEVER

    def role_in(self, owner: str) -> Role | None:
        """What the caller is in a team, or in what a user owns; None for an outsider. The kind of its key does not count."""
        if self.is_admin or self.name == owner:
            return Role.ADMIN
        return self.roles.get(owner)


@dataclass(frozen=True, slots=True)
class Right:
    """What a long request rests on: its caller has at least this role in what somebody owns."""

    owner: str
    role: Role


def full_key_needed() -> EngineError:
    """The error for a caller whose read-only key does not suffice."""
    return EngineError(FULL_KEY_NEEDED, "a full key is needed for this")


def token_expired() -> EngineError:
    return EngineError(TOKEN_EXPIRED, "the token has expired")


def token_revoked() -> EngineError:
    return EngineError(TOKEN_REVOKED, "the token was revoked")


class Accounts:
    """The users and keys of one store.

    key_file  the file with the admin's full key
    is_taken  tells whether something other than a user has this name: a reserved path segment, or an owner of a model folder
    clock     monotonic seconds
    now       seconds since 1970
    """

    def __init__(
        self,
        store: Store,
        *,
        key_file: Path,
        is_taken: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._key_file = key_file
        self._is_taken = is_taken
        self._clock = clock
        self._now = now
        self.uses = TokenUses(store, now=now)
        self._callers: dict[bytes, Caller] = {}
        self._generation = 0
        self._data_version = -1
        self._recheck_at = clock()
        self._replacing = asyncio.Lock()
        self._key_watch: KeyWatch[_Held] = KeyWatch(self._is_held, self._recheck, interval_s=RECHECK_S, now=now)

    async def close(self) -> None:
        await self._key_watch.close()
        await self.uses.flush()

    async def ensure_admin(self) -> None:
        """Make the key in the key file the admin's full key in the database. A key file that is missing is written with a new key.

        So the old file still opens the server after its database is lost, and an admin who lost the key removes the file and
        starts the server again. We write the file before the database: after a crash between the two, the next start completes
        the work. Raises EngineError when the file holds no key.
        """
        key = await asyncio.to_thread(read_key, self._key_file)
        if key is None:
            key = new_key()
            await asyncio.to_thread(write_key, self._key_file, key)
        sha256 = hash_of(key)
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
        key = await asyncio.to_thread(read_key, self._key_file)
        if key is None:
            raise EngineError(INVALID_REQUEST, "the server has no key file")
        return hmac.new(hash_of(key), f"sluice {nonce} {port}".encode(), hashlib.sha256).hexdigest()

    async def identify(self, user: str | None, key: str) -> Caller:
        """The caller with this key or token, who must have the name `user` unless that is None (a bearer).

        raises  EngineError `unauthorized`; `token_expired` or `token_revoked` for a token that has ended
        """
        if self._clock() >= self._recheck_at:
            await self._recheck()
        sha256 = hash_of(key)
        caller = self._callers.get(sha256) or await self._look_up(sha256, user)
        if user is not None and user != caller.name:
            raise unauthorized()
        if caller.has_token:
            if self._now() >= caller.expires_at:
                raise token_expired()
            self.uses.note(sha256)
        return caller

    # Long requests: a key may end while they run

    def while_valid(self, caller: Caller | None, on_end: Callable[[], None], *rights: Right) -> AbstractContextManager[None]:
        """Call `on_end` if the caller's key or token ends meanwhile, or a right; never for a request without credentials."""
        if caller is None:
            return nullcontext()
        held = _Held(caller, rights)
        is_fresh = self._callers.get(caller.sha256) is caller
        return self._key_watch.watching(held, on_end, is_fresh=is_fresh, ends_at=caller.expires_at)

    async def confirm(self, caller: Caller, *rights: Right) -> None:
        """Check that a caller who was identified some time ago still has its key or token, and the rights.

        raises  EngineError `unauthorized`, `token_expired`, `token_revoked`, `forbidden`
        """
        found = await self._store.find_credential(caller.sha256)
        if found is None or (found.user, found.kind) != (caller.name, caller.kind):
            raise unauthorized()
        if found.revoked_at is not None:
            raise token_revoked()
        if self._now() >= caller.expires_at:
            raise token_expired()
        current = _caller(found, caller.sha256)
        if any((current.role_in(right.owner) or 0) < right.role for right in rights):
            raise EngineError(FORBIDDEN, "the caller has lost the role that this needs")

    async def _is_held(self, held: "_Held") -> bool:
        try:
            await self.confirm(held.caller, *held.rights)
        except EngineError:
            return False
        return True

    # Changes

    async def add_user(self, name: str) -> str:
        """Add a user and return its full key. EngineError `invalid_request` or `name_taken`."""
        if not OWNER_NAME.fullmatch(name):
            raise EngineError(
                INVALID_REQUEST, "field 'name': use 1 to 100 letters, digits and _ . @ + -, starting with a letter or digit"
            )
        key = new_key()
        if name == ADMIN or self._is_taken(name) or not await self._store.add_user(name, hash_of(key)):
            raise EngineError(NAME_TAKEN, f"the name '{name}' is taken")
        return key

    async def remove_user(self, name: str) -> None:
        """Remove a user with its keys, tokens and memberships. EngineError `invalid_request`.

        Its models stay, and the admin may change them.
        """
        if name == ADMIN:
            raise EngineError(INVALID_REQUEST, "the user 'admin' cannot be removed")
        try:
            if not await self._store.remove_user(name):
                raise EngineError(INVALID_REQUEST, f"there is no user '{name}'")
        finally:
            self._forget_callers()

    def changed(self, user: str) -> None:
        """Call this after every write to the tokens or roles of a user, also after one that failed."""
        self._generation += 1
        for caller in [one for one in self._callers.values() if one.name == user]:
            del self._callers[caller.sha256]
        self._key_watch.changed()

    async def list_users(self) -> list[User]:
        """Sorted by name."""
        return await self._store.list_users()

    async def replace_key(self, name: str, kind: KeyKind) -> str:
        """Give a user a new key; its old key of that kind stops working at once. EngineError `unauthorized`: the user is gone."""
        key = new_key()
        async with self._replacing:  # else two replacements could leave different keys in the file and in the database
            old = None
            if name == ADMIN and kind == "full":
                old = await asyncio.to_thread(read_key, self._key_file)
                await asyncio.to_thread(write_key, self._key_file, key)
            try:
                if not await self._store.put_key(name, kind, hash_of(key)):
                    raise unauthorized()
            except StoreError:  # the database still has the old key, and it must not be lost from the file
                if old is not None:
                    await asyncio.to_thread(write_key, self._key_file, old)
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

    async def _look_up(self, sha256: bytes, user: str | None) -> Caller:
        """Ask the database, and remember the answer unless the callers were forgotten while we asked.

        raises  EngineError `unauthorized`; `token_revoked`, unless somebody other than `user` has the token
        """
        generation = self._generation
        found = await self._store.find_credential(sha256)
        if found is None or (found.revoked_at is not None and user not in (None, found.user)):
            raise unauthorized()
        if found.revoked_at is not None:
            raise token_revoked()
        caller = _caller(found, sha256)
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


@dataclass(frozen=True, slots=True)
class _Held:
    """What a long request must keep. There are no rights where everybody with such a key may do it."""

    caller: Caller
    rights: tuple[Right, ...]


def _caller(found: Credential, sha256: bytes) -> Caller:
    roles = MappingProxyType({team: ROLES[role] for team, role in found.roles.items()})
    expires_at = NEVER if found.expires_at is None else as_seconds(found.expires_at)
    is_admin = found.user == ADMIN and found.kind == "full"
    return Caller(found.user, found.kind, is_admin, sha256, roles, expires_at)
