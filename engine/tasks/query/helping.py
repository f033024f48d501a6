"""Helping: a second thread of a replica, which waits to share the work of a query.

Starting a thread for each query takes as long as half of a scan of 20,000 rows; waking one that waits does not. Knows no query.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue


class _Shared:
    """One piece of work. Whoever takes `claim` first decides: the helper does it, or nobody does.

    error  that the helper's part of it has raised
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.claim = threading.Lock()
        self.error: BaseException | None = None
        self._work = work
        self._ended = threading.Lock()
        self._ended.acquire()

    def do(self) -> None:
        try:
            self._work()
        except BaseException as error:  # whatever it is, the thread that waits raises it
            self.error = error
        finally:
            self._ended.release()

    def wait(self) -> None:
        self._ended.acquire()


class Helper:
    """The second thread (`families.the(Helper)`)."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[_Shared] = SimpleQueue()
        threading.Thread(target=self._help, name="helper", daemon=True).start()

    @contextmanager
    def sharing(self, work: Callable[[], None]) -> Iterator[None]:
        """The helper calls `work`, too, while the context is open; the context ends when that call has ended.

        On a busy machine the helper may come too late, and then it does not begin. Raises what its call has raised.
        """
        shared = _Shared(work)
        self._waiting.put(shared)
        try:
            yield
        finally:
            if not shared.claim.acquire(blocking=False):
                shared.wait()
        if shared.error is not None:
            raise shared.error

    def _help(self) -> None:
        while True:
            shared = self._waiting.get()
            if shared.claim.acquire(blocking=False):
                shared.do()
