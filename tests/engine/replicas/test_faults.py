"""What versions that cost replicas have to expect: with a clock that moves only when told."""

import pytest

from engine.errors import EngineError
from engine.replicas.blocks import Batch, Block, Call, Lane, ServedModel, Task
from engine.replicas.faults import CONFINED_S, COOL_DOWN_S, FAULT_OF_A_HALF, WINDOW_S, Faults

SCORE = Task("score", family="scoring", pool="score", time_limit_s=60, max_deaths=2, is_divisible=True)
BAD = ServedModel("eva/bad@1", "eva/bad", "bad", 1, {}, max_batch_size=100, is_trusted=False)
OWN = ServedModel("admin/own@1", "admin/own", "own", 1, {}, max_batch_size=100, is_trusted=True)
LIMIT = 3


class World:
    """Faults, and the clock that they read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.faults = Faults(LIMIT, clock=lambda: self.now)

    def batch(self, model: ServedModel = BAD) -> Batch:
        return Batch([Block(SCORE, Lane.INTERACTIVE, Call(), {}, model=model)], self.now)

    def go_offline(self) -> None:
        for _ in range(LIMIT):
            error = self.faults.note(self.batch(), 1)
        assert error is not None


@pytest.fixture
def world() -> World:
    return World()


async def test_a_version_goes_offline_at_the_limit_with_a_reason(world: World) -> None:
    assert [world.faults.note(world.batch(), 1) is None for _ in range(LIMIT)] == [True, True, False]
    assert "3 times" in (world.faults.reason(BAD.key) or "")
    with pytest.raises(EngineError, match="the model is offline"):
        world.faults.admit(BAD.key)


async def test_after_the_cool_down_one_request_is_let_through_and_its_answer_brings_the_version_back(world: World) -> None:
    world.go_offline()
    world.now += COOL_DOWN_S
    world.faults.admit(BAD.key)
    with pytest.raises(EngineError):
        world.faults.admit(BAD.key)
    assert world.faults.answered(world.batch())
    assert world.faults.reason(BAD.key) is None
    assert world.faults.note(world.batch(), 1) is None
    assert world.faults.note(world.batch(), 1) is not None, "it is two faults from the limit"


async def test_an_answer_to_work_from_before_does_not_bring_a_version_back(world: World) -> None:
    early = world.batch()
    world.now += 1
    world.go_offline()
    assert not world.faults.answered(early)


async def test_a_fault_after_the_cool_down_begins_another_one(world: World) -> None:
    world.go_offline()
    world.now += COOL_DOWN_S
    world.faults.admit(BAD.key)
    world.now += COOL_DOWN_S - 1
    world.faults.note(world.batch(), 1)
    world.now += 2
    with pytest.raises(EngineError):
        world.faults.admit(BAD.key)


async def test_dividing_one_block_to_find_a_record_takes_no_version_offline(world: World) -> None:
    assert world.faults.note(world.batch(), 1) is None
    assert all(world.faults.note(world.batch(), FAULT_OF_A_HALF) is None for _ in range(10))


async def test_faults_and_confinement_are_forgotten_in_time(world: World) -> None:
    for _ in range(LIMIT - 1):
        world.faults.note(world.batch(), 1)
    assert world.faults.confined
    world.now += CONFINED_S + 1
    world.faults.forget_old()
    assert not world.faults.confined
    world.now += WINDOW_S
    world.faults.forget_old()
    assert BAD.key not in world.faults


async def test_a_trusted_version_is_never_confined_and_a_kill_from_outside_is_no_fault(world: World) -> None:
    world.faults.note(world.batch(OWN), 1)
    world.faults.note(world.batch(), 1)
    assert world.faults.confined == {BAD.key}
    world.faults.take_back(world.batch())
    assert BAD.key not in world.faults
    assert not world.faults.confined
