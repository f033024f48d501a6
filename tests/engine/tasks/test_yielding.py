"""Work that yields the cores: the rest of the process does not yield them, before or after."""

import os
import sys
import threading

import pytest

from engine.tasks.yielding import NICENESS, yielding


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority belongs to the process")
def test_only_the_work_yields() -> None:
    before = niceness()
    assert yielding(niceness) == max(before, NICENESS)
    assert niceness() == before


def test_what_the_work_gives_or_raises_comes_out() -> None:
    assert yielding(lambda: "done") == "done"

    def fail() -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        yielding(fail)


def test_where_no_thread_can_be_started_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert yielding(threading.get_native_id) == threading.get_native_id()
