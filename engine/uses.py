"""When tokens were last used: noted at every use, and written at most once a minute for each token.

Nobody waits for the writing. Knows hashes of tokens. Knows no caller.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from engine.store import Store, StoreError
from engine.times import as_text

# A use is not written if one was written less than this long ago.
INTERVAL_S = 60
# The database looks at the time of the last use too, so that we may forget the hashes whenever there are this many.
MAX_HASHES = 10_000

log = logging.getLogger("sluice.accounts")


class TokenUses:
    """The uses of the tokens of one store.

    now  seconds since 1970
    """

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._next_at: dict[bytes, float] = {}
        self._unwritten: set[bytes] = set()
        self._task: asyncio.Task[None] | None = None

    def note(self, sha256: bytes) -> None:
        """The token with this hash is used now."""
        now = self._now()
        if now < self._next_at.get(sha256, 0):
            return
        if len(self._next_at) >= MAX_HASHES:
            self._next_at.clear()
        self._next_at[sha256] = now + INTERVAL_S
        self._unwritten.add(sha256)
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name="write uses of tokens")

    async def flush(self) -> None:
        """Wait until every use that was noted is written, or could not be."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _write(self) -> None:
        try:
            while self._unwritten:
                hashes, self._unwritten = self._unwritten, set()
                now = self._now()
                await self._store.note_token_uses(hashes, as_text(now), unless_since=as_text(now - INTERVAL_S))
        except StoreError as error:  # a use that is not noted hurts nobody
            log.warning("uses of tokens not written reason=%r", str(error))
        finally:
            self._task = None
