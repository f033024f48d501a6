"""Yielding: work that must not slow others down, in a thread that yields the cores to them.

An ordinary user may lower the priority of a process, but not raise it again. On Linux a priority belongs to a thread and ends with
it, so the process keeps its own. Knows no task.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

# The lowest priority: beside work that needs the same core this one gets a seventieth of it.
NICENESS = 19

Result = TypeVar("Result")


def yielding(work: Callable[[], Result]) -> Result:
    """The result of the work. Raises what it raises."""
    if sys.platform != "linux":  # elsewhere the whole process would yield, for ever
        return work()
    outcome: Future[Result] = Future()

    def run() -> None:
        with suppress(OSError):  # the process yields more than this already
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            outcome.set_result(work())
        except BaseException as error:  # it is raised where the work was asked for
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="yielding", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no memory for its stack
        return work()
    thread.join()
    return outcome.result()
