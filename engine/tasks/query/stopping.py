"""Stopping a query: what its parts ask between two steps, and what ends a long call of a library."""

from collections.abc import Callable

from engine.tasks.stopping import Stopped, Stopping

# The query was cancelled. Nothing but the task that began it may take this for an answer.
Cancelled = Stopped


class Control:
    """What a query may use, and whether it is still wanted.

    num_threads  that may share a scan: 2 when no other query is open, else 1
    """

    def __init__(self, stopping: Stopping, num_threads: int = 1) -> None:
        self.num_threads = num_threads
        self._stopping = stopping
        self._interrupt: Callable[[], None] | None = None

    def check(self) -> None:
        """Cancelled, if nobody wants the answer any more."""
        self._stopping.check()

    @property
    def interrupt(self) -> Callable[[], None] | None:
        """What ends the call of a library that runs now; None while none runs. Another thread calls it."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, interrupt: Callable[[], None] | None) -> None:
        self._interrupt = interrupt
        self._stopping.interrupt_with(interrupt)
