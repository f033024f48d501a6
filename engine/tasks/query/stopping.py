"""Stopping a query: what its parts ask between two steps, and what ends a long call of a library."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.tasks.stopping import Stopped, Stopping

# The query was cancelled. Nothing but the task that began it may take this for an answer.
Cancelled = Stopped


@dataclass(slots=True)
class Control:
    """What a query may use, and whether it is still wanted.

    num_threads  that may share a scan: 2 when no other query is open, else 1
    """

    stopping: Stopping
    num_threads: int = 1

    def check(self) -> None:
        """Cancelled, if nobody wants the answer any more."""
        self.stopping.check()

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        """What ends a long call that runs from now on; None when none runs. Another thread calls it."""
        self.stopping.interrupt_with(interrupt)
