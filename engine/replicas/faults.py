"""Faults: which versions of models have cost replicas lately, and what follows from that.

A version that costs a replica is confined for a while: at most one replica works on confined versions at a time, so that the others
answer everybody else. Beyond a limit within a window it goes offline. After a cool-down one request is let through; its answer
brings the version back. Plain arithmetic on keys of versions. Knows nothing of processes, of repositories, or of what a task does.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.errors import MODEL_OFFLINE, EngineError
from engine.replicas.blocks import Batch, ServedModel

# A replica that hangs is killed after SLUICE_BLOCK_TIMEOUT_S, by default 60 s, and a confined version hangs in one replica at a
# time. The window has room for the default limit of 12 such faults, which take 720 s.
WINDOW_S = 900.0
# A version that has cost no replica for this long may use all replicas again.
CONFINED_S = 300.0
# An offline version gets its next chance after this long.
COOL_DOWN_S = 60.0
# A version that comes back after a cool-down is this many faults away from the limit: one record may cost two replicas.
LEFT_AFTER_COOL_DOWN = 2
# One record in a block of 1,024 costs up to ten replicas until dividing the block has found it. Together they count little more
# than one whole block.
FAULT_OF_A_HALF = 1 / 8
# A replica ran out of memory or a library in it panicked, but it answered and lives on.
ANSWERED_FAULT = 1 / 8


@dataclass(slots=True)
class Record:
    """What one version has cost.

    faults         when each fault was, on the scheduler's clock, and how much it counts
    offline_since  when it went offline; None while it is served
    next_try_at    an offline version gets no request before this time
    reason         one sentence for the owner of an offline version
    confined_at    when it was last confined
    """

    faults: deque[tuple[float, float]] = field(default_factory=deque)
    offline_since: float | None = None
    next_try_at: float = 0.0
    reason: str = ""
    confined_at: float = 0.0

    @property
    def weight(self) -> float:
        return sum(weight for _, weight in self.faults)


class Faults:
    """The records of all versions that have cost a replica within the window.

    confined  keys of the versions that are confined now; empty nearly always, and then it costs nothing to ask
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.confined: set[str] = set()
        self._limit = limit
        self._clock = clock
        self._records: dict[str, Record] = {}

    def __contains__(self, key: str) -> bool:
        """Whether the version has cost a replica within the window."""
        return key in self._records

    # Faults

    def note(self, batch: Batch, weight: float) -> EngineError | None:
        """A replica was lost or harmed under this batch. Returns the refusal for all work on its model if that is offline now."""
        if (model := batch.model) is None:
            return None
        now = self._clock()
        record = self._records.setdefault(model.key, Record())
        record.faults.append((now, weight))
        self.confine(model)
        if record.offline_since is not None:
            record.next_try_at = now + COOL_DOWN_S
            return self.refusal(model.key)
        if record.weight < self._limit:
            return None
        record.offline_since, record.next_try_at = now, now + COOL_DOWN_S
        last = "did not answer in time" if batch.blocks[0].is_timeout else "ended its process, panicked or ran out of memory"
        record.reason = (
            f"version {model.version} failed {len(record.faults)} times within {WINDOW_S / 60:g} minutes in a way that harms the "
            f"server (the last time it {last}); publish a version that does not, activate this one again, or try again later"
        )
        return self.refusal(model.key)

    def confine(self, model: ServedModel) -> None:
        """From now on at most one replica works on this version, unless it is trusted."""
        self._records.setdefault(model.key, Record()).confined_at = self._clock()
        if not model.is_trusted:
            self.confined.add(model.key)

    def take_back(self, batch: Batch) -> None:
        """The last fault that was noted under this batch was not the model's: somebody killed the replica from outside."""
        record = self._records.get(batch.model.key) if batch.model is not None else None
        if record is not None and record.faults and record.offline_since is None:
            record.faults.pop()
            if not record.faults:
                self.forget(batch.model.key)  # type: ignore[union-attr]

    def forget(self, key: str) -> None:
        """The version begins anew: it was published, activated or read again, or it is gone."""
        self._records.pop(key, None)
        self.confined.discard(key)

    def forget_old(self) -> None:
        """Drop what is over: faults that left the window, and confinements that have lasted long enough."""
        now = self._clock()
        for key, record in list(self._records.items()):
            while record.faults and now - record.faults[0][0] > WINDOW_S:
                record.faults.popleft()
            if now - record.confined_at > CONFINED_S:
                self.confined.discard(key)
            if not record.faults and record.offline_since is None and key not in self.confined:
                self.forget(key)

    # Offline versions

    def reason(self, key: str) -> str | None:
        """Why this version is offline; None when it is not, or not because of faults."""
        record = self._records.get(key)
        return record.reason if record is not None and record.offline_since is not None else None

    def refusal(self, key: str) -> EngineError:
        """What everybody hears who asks for an offline version."""
        record = self._records[key]
        wait_s = max(1, round(record.next_try_at - self._clock()))
        return EngineError(MODEL_OFFLINE, f"the model is offline: {record.reason}", retry_after_s=wait_s)

    def admit(self, key: str) -> None:
        """Let one request through after each cool-down. EngineError `model_offline` for every other one."""
        record = self._records[key]
        now = self._clock()
        if now < record.next_try_at:
            raise self.refusal(key)
        record.next_try_at = now + COOL_DOWN_S

    def answered(self, batch: Batch) -> bool:
        """Whether the answer to this batch brings an offline version back. It comes back with few faults left to the limit."""
        record = self._records.get(batch.model.key) if batch.model is not None else None
        if record is None or record.offline_since is None or batch.sent_at <= record.offline_since:
            return False
        record.offline_since = None
        while record.faults and record.weight > self._limit - LEFT_AFTER_COOL_DOWN:
            record.faults.popleft()
        return True
