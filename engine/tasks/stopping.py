"""Stopping: how a replica hears that nobody wants the answer any more that it works on, and leaves that work.

The server sends SIGUSR1. One thread of the replica waits for it with sigwait: a signal handler would run in the main thread, which
a library may keep for up to 330 ms, while this thread hears of it within 6 ms. The signal must be blocked before any library is
imported, because it would kill the process through a thread of a library that does not block it. Knows no task.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# The same as STOP_SIGNAL in engine/replicas/replica.py.
SIGNALS = frozenset({signal.SIGUSR1})
# A call that goes on is interrupted again after this long.
AGAIN_S = 0.02


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
        """While the context is open, a signal stops this work, also one that came while its frame was on its way.

        raises  Stopped, also instead of what an interrupted library raises
        """
        try:
            self.check()
            yield
        except Exception:  # a library that was interrupted may raise anything
            self.check()
            raise
        finally:
            self.interrupt_with(None)
            self.is_asked = False

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        """What the thread calls when it hears the signal, to end a long call of a library; None when there is nothing to end.

        raises  Stopped, if the signal has come before
        """
        with self._lock:
            self._interrupt = interrupt
        if interrupt is not None:
            self.check()

    def check(self) -> None:
        """Stopped, if the server has asked to stop."""
        if self.is_asked:
            raise Stopped

    def _wait(self) -> None:
        while True:
            signal.sigwait(SIGNALS)
            self.is_asked = True
            while self._has_interrupted():
                time.sleep(AGAIN_S)  # a call that began after the interrupt does not know of it

    def _has_interrupted(self) -> bool:
        """End the call of a library that may run; False when none does."""
        with self._lock:
            if self._interrupt is None or not self.is_asked:
                return False
            # Without this thread nobody would hear of a signal any more, and an interrupt is tried again anyway: that of a
            # connection which the task closes just now may raise.
            with suppress(Exception):
                self._interrupt()
            return True
