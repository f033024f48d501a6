"""The memory that request bodies take while they are read and worked on.

Each body has a limit of its own, and this file bounds all of them together. Each user has a share, and so have all anonymous
callers together, so that nobody takes all the room. A small body needs no room, so small requests are always taken.
"""

from collections import Counter
from dataclasses import dataclass

from aiohttp import web

from engine.errors import TOO_MANY_REQUESTS, EngineError

# A body up to this size is not counted: a connection may hold as many bytes unread, and the number of connections is limited.
FREE_BYTES = 256 * 1024
# The share of each user, and of all anonymous callers together, is one part of this number.
PARTS = 2


@dataclass(slots=True)
class Held:
    """What the body of one request has taken. `user` is None for an anonymous caller."""

    user: str | None
    num_bytes: int = 0


class BodyMemory:
    """The bytes of all large bodies that are in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._share_bytes = limit_bytes // PARTS
        self._taken: Counter[str | None] = Counter()
        self._total_bytes = 0

    def grow(self, request: web.Request, user: str | None, num_bytes: int) -> None:
        """A body has this many bytes now. EngineError `too_many_requests` when there is no room; `release` frees what it had."""
        if num_bytes <= FREE_BYTES:
            return
        held = request[HELD] if HELD in request else Held(user)
        more = num_bytes - held.num_bytes
        if self._taken[user] + more > self._share_bytes or self._total_bytes + more > self._limit_bytes:
            raise EngineError(TOO_MANY_REQUESTS, "too many large bodies at once", retry_after_s=1)
        request[HELD] = held
        held.num_bytes = num_bytes
        self._taken[user] += more
        self._total_bytes += more

    def release(self, request: web.Request) -> None:
        """The request is over."""
        if not self._total_bytes or HELD not in request:  # nearly always no body is counted, and to ask the request costs more
            return
        held = request[HELD]
        self._total_bytes -= held.num_bytes
        self._taken[held.user] -= held.num_bytes
        if not self._taken[held.user]:
            del self._taken[held.user]
        held.num_bytes = 0


BODY_MEMORY = web.AppKey("body_memory", BodyMemory)
HELD = web.RequestKey("held_body", Held)
