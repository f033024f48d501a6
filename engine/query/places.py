"""Places: how many queries may be open, in all and for each user. Plain counts; knows nothing of what a query does."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from engine import metrics
from engine.accounts import Caller
from engine.errors import EngineError
from engine.query.codes import TOO_MANY_QUERIES


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """How many queries run, wait, and belong to one user. Settings of server/config.py, by the same names."""

    query_replicas: int
    query_queue: int
    query_per_user: int


class Places:
    """The queries that are open.

    num_open  those whose body is here and whose answer is not sent
    """

    def __init__(self, limits: PlaceLimits) -> None:
        self.num_open = 0
        self._limits = limits
        self._by_user: Counter[str] = Counter()
        self._open_by_user: Counter[str] = Counter()

    def check(self, caller: Caller) -> None:
        """Refuse a query before its body is read. EngineError `too_many_queries`."""
        limits = self._limits
        if not caller.is_admin and self._by_user[caller.name] >= limits.query_per_user:
            raise _too_many(f"You have {limits.query_per_user} queries open, which is the limit.")
        if self.num_open >= limits.query_replicas + limits.query_queue:
            raise _too_many("Too many queries are waiting.")

    @contextlib.contextmanager
    def of(self, caller: Caller) -> Iterator[None]:
        """The place of a user, from before the body until the answer is sent. EngineError `too_many_queries`."""
        self.check(caller)
        self._by_user[caller.name] += 1
        try:
            yield
        finally:
            self._by_user[caller.name] -= 1
            if not self._by_user[caller.name]:
                del self._by_user[caller.name]

    @contextlib.contextmanager
    def taken(self, caller: Caller) -> Iterator[None]:
        """The place among all, once the body is here, so that a client that sends half a body takes none of these."""
        if self.num_open >= self._limits.query_replicas + self._limits.query_queue:
            raise _too_many("Too many queries are waiting.")
        self.num_open += 1
        self._open_by_user[caller.name] += 1
        try:
            yield
        finally:
            self.num_open -= 1
            self._open_by_user[caller.name] -= 1
            if not self._open_by_user[caller.name]:
                del self._open_by_user[caller.name]

    def levels(self) -> metrics.Levels:
        most = self._limits.query_replicas
        num_running = min(most + 1, sum(min(number, most) for number in self._open_by_user.values()))
        return {metrics.QUERIES: {("running",): num_running, ("waiting",): self.num_open - num_running}}


def _too_many(message: str) -> EngineError:
    return EngineError(TOO_MANY_QUERIES, message, retry_after_s=1)
