"""Stopping: how a replica hears that nobody wants the answer any more that it works on, and leaves that work.

The server sends SIGUSR1. One thread of the replica waits for it with sigwait: a signal handler would run in the main thread, which
a library may keep for up to 330 ms, while this thread hears of it within 6 ms. The signal must be blocked before any library is
imported, because it would kill the process through a thread of a library that does not block it. Knows no task.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# The same as STOP_SIGNAL in engine/replicas/replica.py.
SIGNALS = frozenset({signal.SIGUSR1})


class Stopped(Exception):
    """The task was asked to stop, and has left its work."""


def block_signal() -> None:
    """Let the signal wait until somebody asks for it; threads that are started after this block it, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class Stopping:
    """What one replica was asked to stop; its first use starts the thread (`families.the(Stopping)`).

    A task that can stop does its work inside `hearing` and calls `check` often. A signal that comes late may stop the next task
    instead; the server knows whom it asked to stop, and lets the other work be done again.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._interrupt: Callable[[], object] | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._wait, name="stopping", daemon=True).start()

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """While the context is open, a signal stops this work. What was asked before is forgotten.

        raises  Stopped, also instead of what an interrupted library raises
        """
        signal.sigtimedwait(SIGNALS, 0)
        self.is_asked = False
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            self.interrupt_with(None)

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        """What the thread calls when it hears the signal, to end a long call of a library; None when there is nothing to end."""
        with self._lock:
            self._interrupt = interrupt

    def check(self) -> None:
        """Stopped, if the server has asked to stop."""
        if self.is_asked:
            raise Stopped

    def _wait(self) -> None:
        while True:
            signal.sigwait(SIGNALS)
            self.is_asked = True
            with self._lock:
                if self._interrupt is not None:
                    self._interrupt()
