"""Places: how many queries are open, in all and for each user."""

import contextlib

import pytest

from engine.accounts import Caller
from engine.errors import EngineError
from engine.metrics import QUERIES
from engine.query.places import PlaceLimits, Places

ANN = Caller("ann", "full", is_admin=False)
BOB = Caller("bob", "read_only", is_admin=False)
ADMIN = Caller("admin", "full", is_admin=True)


@pytest.fixture
def places() -> Places:
    return Places(PlaceLimits(query_replicas=2, query_queue=3, query_per_user=2))


def refused(places: Places, caller: Caller) -> bool:
    try:
        places.check(caller)
    except EngineError as error:
        return (error.code, error.retry_after_s) == ("too_many_queries", 1)
    return False


def test_a_user_has_so_many_places_and_the_admin_any_number(places: Places) -> None:
    with places.of(ANN), places.of(ANN), places.of(ADMIN), places.of(ADMIN), places.of(ADMIN):
        assert [refused(places, caller) for caller in (ANN, BOB, ADMIN)] == [True, False, False]
    assert not refused(places, ANN)


def test_nobody_gets_a_place_when_all_run_and_wait(places: Places) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(places.taken(ANN))
        assert [refused(places, caller) for caller in (ANN, ADMIN)] == [True, True]
        with pytest.raises(EngineError), places.taken(BOB):
            pass
    assert not refused(places, ANN)


def test_a_place_is_given_back_however_the_query_ends(places: Places) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), places.of(ANN), places.taken(ANN):
            _ = 1 / 0
    assert places.num_open == 0


def test_the_levels_tell_what_runs_and_what_waits(places: Places) -> None:
    """The queries of one user take two replicas, and those of others one more."""
    with places.taken(ANN), places.taken(ANN), places.taken(ANN):
        assert places.levels() == {QUERIES: {("running",): 2, ("waiting",): 1}}
        with places.taken(BOB), places.taken(ADMIN):
            assert places.levels() == {QUERIES: {("running",): 3, ("waiting",): 2}}
