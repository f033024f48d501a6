"""A helper does its share, or none; what goes wrong in it is raised where the work was begun."""

import threading

import pytest

from engine.tasks.query.helping import Helper


def test_both_threads_work() -> None:
    both = threading.Barrier(2, timeout=30)
    with Helper().sharing(both.wait):
        both.wait()


def test_what_the_helper_raises_is_raised() -> None:
    began = threading.Event()

    def fail() -> None:
        began.set()
        raise LookupError("nothing here")

    helper = Helper()
    with pytest.raises(LookupError, match="nothing here"), helper.sharing(fail):
        assert began.wait(30)
    test_both_threads_work()


def test_a_helper_that_comes_too_late_does_not_begin() -> None:
    """It is kept in other work until the second piece of work is over, which does not wait for it."""
    helper, begun, end, calls = Helper(), threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        end.wait(30)

    with helper.sharing(first):
        assert begun.wait(30)
        with helper.sharing(lambda: calls.append("too late")):
            pass
        end.set()
    with helper.sharing(begun.clear):
        while begun.is_set():
            threading.Event().wait(0.001)
    assert not calls


def test_what_this_thread_raises_comes_after_the_end_of_the_helper() -> None:
    helper, begun, ended = Helper(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        threading.Event().wait(0.05)
        ended.set()

    def begin_and_fail() -> None:
        with helper.sharing(work):
            assert begun.wait(30)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin_and_fail()
    assert ended.is_set()
