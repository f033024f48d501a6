"""Where the time of one query goes. Plain sums."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

STAGES = ("queue", "parse", "scan", "sql", "encode")


@dataclass(slots=True)
class Seconds:
    """Where the time of a query went, in seconds by stage."""

    by_stage: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, seconds: dict[str, float]) -> None:
        for stage, value in seconds.items():
            if stage in self.by_stage:
                self.by_stage[stage] += value

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Callable[[dict[str, float]], None]]:
        """Time a block: what the replica did not work of it was spent in the queue. The function takes the replica's seconds."""
        started = time.monotonic()

        def answered(seconds: dict[str, float]) -> None:
            self.add(seconds)
            self.by_stage["queue"] += max(0.0, time.monotonic() - started - sum(seconds.values()))

        yield answered
