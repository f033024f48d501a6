"""Stopping a query: what its parts ask between two steps, and what ends a long call of a library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.tasks.query.helping import Helper
from engine.tasks.stopping import Stopping


class Control(Protocol):
    """What a query may use, and whether it is still wanted.

    helper  may share a scan; None when other queries are open
    """

    @property
    def helper(self) -> Helper | None: ...

    def check(self) -> None:
        """Raises if nobody wants the answer any more. Only the task that began the query may take this for an answer."""

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        """What another thread calls to end a long call that runs from now on; None when none runs."""


@dataclass(slots=True)
class Stoppable:
    """The control of a query that the server may stop."""

    stopping: Stopping
    helper: Helper | None = None

    def check(self) -> None:
        """Stopped, if the server has asked to stop."""
        self.stopping.check()

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        self.stopping.interrupt_with(interrupt)
