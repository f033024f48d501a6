"""Who is served next, and with how much: with a clock that moves only when told."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.replicas.blocks import Batch, Block, Call, Lane, ServedModel, Task
from engine.replicas.lines import Lines, TokenLimits
from engine.replicas.scheduler import BULK_PATIENCE_S, INTERACTIVE_MEMORY_S, Costs, Scheduler

SCORE = Task("score", family="scoring", pool="score", time_limit_s=60, max_deaths=2, is_divisible=True)


def served_model(name: str = "iris", *, max_batch_size: int = 10_000) -> ServedModel:
    return ServedModel(f"kermit/{name}@1", f"kermit/{name}", name, 1, {}, max_batch_size)


IRIS, WINE = served_model("iris"), served_model("wine")
CHEAP_S, DEAR_S = 0.000002, 0.002


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Somebody:
    """Waits for an answer; may leave."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.has_left = False

    def answered(self, block: Block, answer: object) -> None: ...

    def failed(self, block: Block, error: EngineError) -> None: ...


class Source:
    """A stream of equal lines: what the scheduler sees of one, and nothing else."""

    def __init__(self, clock: Clock, num_lines: int, model: ServedModel = IRIS) -> None:
        self.model = model
        self.num_waiting = num_lines
        self.waiting_since = clock.now
        self._clock = clock
        self.waiter = Somebody()

    def abandon(self, error: EngineError) -> None: ...

    def take(self, max_records: int) -> Block:
        size = min(max_records, self.num_waiting)
        since, self.waiting_since = self.waiting_since, self._clock.now
        self.num_waiting -= size
        return Block(SCORE, Lane.BULK, self.waiter, {}, Lines(num_lines=size), self.model, waiting_since=since)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def scheduler_of(clock: Clock, streams: Iterable[Source] = (), *, num_replicas: int = 2, cost_s: float = CHEAP_S) -> Scheduler:
    scheduler = Scheduler(num_replicas, clock=clock)
    for model in (IRIS, WINE):
        scheduler.costs.begin(model.key, cost_s)
    for stream in streams:
        scheduler.attach(stream)
    return scheduler


def single(model: ServedModel | None = IRIS, *, name: str = "", **arguments: object) -> Block:
    return Block(SCORE, Lane.INTERACTIVE, Somebody(name), arguments, model=model)


def submit(scheduler: Scheduler, *blocks: Block) -> None:
    for block in blocks:
        scheduler.submit(block)


def served(batch: Batch | None) -> list[Block]:
    assert batch is not None
    return batch.blocks


# Users


def test_the_work_of_a_user_who_has_enough_replicas_waits_and_that_of_others_goes_past(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    anns, bobs = [Block(SCORE, Lane.INTERACTIVE, Somebody(), {}, user=user) for user in ("ann", "bob")]
    submit(scheduler, anns, bobs)
    assert served(scheduler.next_batch(full_users={"ann"})) == [bobs]
    assert scheduler.next_batch(full_users={"ann"}) is None
    scheduler.requeue([bobs])
    assert scheduler.next_batch(full_users={"ann", "bob"}) is None
    assert scheduler.num_interactive_by_user() == {"ann": 1, "bob": 1}
    assert [served(scheduler.next_batch(full_users=())) for _ in range(2)] == [[bobs], [anns]]


# Lanes


def test_with_nothing_waiting_there_is_no_batch(clock: Clock) -> None:
    scheduler = scheduler_of(clock, [Source(clock, 0)])
    assert scheduler.next_batch() is None
    assert scheduler.next_batch(is_prefetch=True) is None


def test_a_single_request_goes_before_bulk_lines_that_came_earlier(clock: Clock) -> None:
    scheduler = scheduler_of(clock, [Source(clock, 1000)])
    block = single()
    submit(scheduler, block)
    assert served(scheduler.next_batch()) == [block]
    assert scheduler.next_batch().lane is Lane.BULK


def test_bulk_lines_that_waited_too_long_go_first_at_most_every_second_turn(clock: Clock) -> None:
    stream = Source(clock, 10**9)
    scheduler = scheduler_of(clock, [stream], cost_s=1.0)
    for _ in range(50):
        submit(scheduler, single())
    clock.now += BULK_PATIENCE_S + 0.001
    lanes = []
    for _ in range(10):
        lanes.append(scheduler.next_batch().lane)
        stream.waiting_since = 0  # as impatient as can be
    assert lanes == [Lane.BULK, Lane.INTERACTIVE] * 5


def test_bulk_lines_that_did_not_wait_too_long_let_every_single_request_pass(clock: Clock) -> None:
    scheduler = scheduler_of(clock, [Source(clock, 1000)], cost_s=1.0)
    submit(scheduler, *(single() for _ in range(5)))
    clock.now += BULK_PATIENCE_S - 0.001
    assert [scheduler.next_batch().lane for _ in range(6)] == [Lane.INTERACTIVE] * 5 + [Lane.BULK]


def test_under_endless_single_requests_bulk_still_moves_and_so_do_they(clock: Clock) -> None:
    scheduler = scheduler_of(clock, [Source(clock, 10**9)], cost_s=0.005)
    lanes = []
    for _ in range(400):
        submit(scheduler, single())
        clock.now += 0.010
        lanes.append(scheduler.next_batch().lane)
    assert 5 <= lanes.count(Lane.BULK) <= 200
    assert all(set(lanes[i : i + 2]) != {Lane.BULK} for i in range(len(lanes) - 1))


def test_a_requeued_bulk_block_ages_like_any_other(clock: Clock) -> None:
    stream = Source(clock, 3)
    scheduler = scheduler_of(clock, [stream], cost_s=1.0)
    [block] = served(scheduler.next_batch())
    stream.num_waiting = 0
    scheduler.requeue([block])
    clock.now += BULK_PATIENCE_S + 0.001
    submit(scheduler, single(), single())
    assert served(scheduler.next_batch()) == [block]


def test_no_bulk_is_prefetched_while_single_requests_are_recent(clock: Clock) -> None:
    scheduler = scheduler_of(clock, [Source(clock, 10**6)])
    assert scheduler.next_batch(is_prefetch=True) is not None
    submit(scheduler, single())
    scheduler.next_batch()
    clock.now += INTERACTIVE_MEMORY_S - 0.01
    assert scheduler.next_batch(is_prefetch=True) is None
    assert scheduler.next_batch() is not None
    clock.now += 0.02
    assert scheduler.next_batch(is_prefetch=True) is not None


def test_single_requests_are_never_prefetched(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    submit(scheduler, single())
    clock.now += 10
    assert scheduler.next_batch(is_prefetch=True) is None
    assert scheduler.next_batch() is not None


# Turns


def test_streams_take_turns(clock: Clock) -> None:
    streams = [Source(clock, 10**6), Source(clock, 10**6, WINE), Source(clock, 10**6)]
    scheduler = scheduler_of(clock, streams)
    order = [served(scheduler.next_batch())[0].waiter for _ in range(9)]
    assert order == [stream.waiter for stream in streams] * 3


def test_a_stream_with_nothing_waiting_is_passed_over_and_keeps_its_turn(clock: Clock) -> None:
    first, empty, last = Source(clock, 10**6), Source(clock, 0), Source(clock, 10**6)
    scheduler = scheduler_of(clock, [first, empty, last])
    assert [served(scheduler.next_batch())[0].waiter for _ in range(4)] == [first.waiter, last.waiter] * 2
    empty.num_waiting = 100
    assert empty.waiter in [served(scheduler.next_batch())[0].waiter for _ in range(3)]


def test_a_detached_stream_is_not_asked_again(clock: Clock) -> None:
    gone, here = Source(clock, 100), Source(clock, 10**6)
    scheduler = scheduler_of(clock, [gone, here])
    scheduler.detach(gone)
    assert {served(scheduler.next_batch())[0].waiter for _ in range(4)} == {here.waiter}
    assert gone.num_waiting == 100


def test_models_take_turns_in_the_interactive_lane(clock: Clock) -> None:
    scheduler = scheduler_of(clock, cost_s=1.0)
    submit(scheduler, *(single(IRIS) for _ in range(3)), *(single(WINE) for _ in range(3)))
    assert [scheduler.next_batch().model for _ in range(6)] == [IRIS, WINE] * 3


def test_single_requests_for_one_model_share_a_run_in_the_order_they_came(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    blocks = [single(name=str(i)) for i in range(20)]
    submit(scheduler, *blocks)
    assert served(scheduler.next_batch()) == blocks
    assert scheduler.num_interactive == 0


def test_a_shared_run_is_bounded_by_time_and_by_the_models_batch_size(clock: Clock) -> None:
    scheduler = scheduler_of(clock, cost_s=0.001)
    submit(scheduler, *(single() for _ in range(20)))
    assert len(served(scheduler.next_batch())) == 5
    alone = served_model("alone", max_batch_size=1)
    scheduler = scheduler_of(clock)
    scheduler.costs.begin(alone.key, CHEAP_S)
    submit(scheduler, *(single(alone) for _ in range(3)))
    assert [len(served(scheduler.next_batch())) for _ in range(3)] == [1, 1, 1]


def test_single_requests_of_a_dear_model_are_shared_out_over_the_replicas(clock: Clock) -> None:
    scheduler = scheduler_of(clock, cost_s=0.001, num_replicas=4)
    submit(scheduler, *(single() for _ in range(8)))
    assert [len(served(scheduler.next_batch())) for _ in range(3)] == [2, 2, 1]


def test_requests_with_different_arguments_or_without_a_model_do_not_share_a_run(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    blocks = [single(), single(non_vectorized=True), single(None), single(None), single()]
    submit(scheduler, *blocks)
    assert [len(served(scheduler.next_batch())) for _ in range(4)] == [2, 1, 1, 1]
    assert scheduler.next_batch() is None


# Waiters that have left, and second tries


def test_blocks_whose_waiter_has_left_are_dropped_and_counted(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    blocks = [single(name=str(i)) for i in range(4)]
    submit(scheduler, *blocks)
    blocks[0].waiter.has_left = blocks[2].waiter.has_left = True
    assert served(scheduler.next_batch()) == [blocks[1], blocks[3]]
    assert (scheduler.num_dropped, scheduler.num_interactive) == (2, 0)


def test_a_group_that_nobody_waits_for_does_not_cost_the_next_group_its_turn(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    gone, here = single(IRIS), single(WINE)
    submit(scheduler, gone, here)
    gone.waiter.has_left = True
    assert served(scheduler.next_batch()) == [here]
    assert scheduler.next_batch() is None


async def test_a_real_call_that_gave_up_is_dropped(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    call = Call()
    scheduler.submit(Block(SCORE, Lane.INTERACTIVE, call, model=IRIS))
    call.future.cancel()
    assert scheduler.next_batch() is None
    assert scheduler.num_dropped == 1


def test_requeued_blocks_go_first_in_their_lane_and_in_their_order(clock: Clock) -> None:
    stream = Source(clock, 10**6)
    scheduler = scheduler_of(clock, [stream], cost_s=1.0)
    bulk = [served(scheduler.next_batch())[0] for _ in range(3)]
    singles = [single(name="again"), single(name="waiting")]
    submit(scheduler, singles[0])
    scheduler.next_batch()
    submit(scheduler, singles[1])
    scheduler.requeue([singles[0], *bulk])
    order = [served(scheduler.next_batch())[0] for _ in range(5)]
    assert order == [*singles, *bulk]
    assert stream.num_waiting == 10**6 - 3


def test_a_later_requeue_goes_before_an_earlier_one(clock: Clock) -> None:
    scheduler = scheduler_of(clock, [Source(clock, 100)], cost_s=1.0)
    first, second = (served(scheduler.next_batch())[0] for _ in range(2))
    scheduler.requeue([second])
    scheduler.requeue([first])
    assert [served(scheduler.next_batch())[0] for _ in range(2)] == [first, second]


def test_a_requeued_block_is_not_put_together_with_others_nor_served_to_nobody(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    again, gone, waiting = single(), single(), single()
    gone.waiter.has_left = True
    scheduler.requeue([gone, again])
    submit(scheduler, waiting)
    assert served(scheduler.next_batch()) == [again]
    assert served(scheduler.next_batch()) == [waiting]
    assert scheduler.num_dropped == 1


def test_giving_up_takes_out_everything_that_waits(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    blocks = [single(), single(WINE)]
    submit(scheduler, *blocks)
    again = Block(SCORE, Lane.BULK, Somebody(), model=IRIS)
    scheduler.requeue([again])
    assert set(scheduler.take_all()) == {*blocks, again}
    assert scheduler.num_interactive == 0
    assert scheduler.next_batch() is None


def test_what_waits_is_counted(clock: Clock) -> None:
    streams = [Source(clock, 5), Source(clock, 0)]
    scheduler = scheduler_of(clock, streams)
    submit(scheduler, single(), single(WINE))
    scheduler.requeue([Block(SCORE, Lane.BULK, Somebody(), model=IRIS)])
    assert (scheduler.num_interactive, scheduler.num_bulk) == (2, 2)


@given(st.lists(st.sampled_from(["submit", "other", "leave", "next", "prefetch", "requeue", "wait"]), max_size=60))
def test_every_single_request_is_served_once_or_dropped(steps: list[str]) -> None:
    clock = Clock()
    scheduler = scheduler_of(clock, [Source(clock, 10**9)], cost_s=0.003)
    submitted: list[Block] = []
    answered: list[Block] = []
    for step in steps:
        if step in ("submit", "other"):
            submitted.append(single(IRIS if step == "submit" else WINE))
            scheduler.submit(submitted[-1])
        elif step == "leave" and submitted:
            submitted[-1].waiter.has_left = True
        elif step == "requeue" and answered:
            scheduler.requeue([answered.pop()])
        elif step == "wait":
            clock.now += 0.3
        elif batch := scheduler.next_batch(is_prefetch=step == "prefetch"):
            answered += [block for block in batch.blocks if block.lane is Lane.INTERACTIVE]
    while scheduler.num_interactive or scheduler._again[Lane.INTERACTIVE]:
        answered += [block for block in served(scheduler.next_batch()) if block.lane is Lane.INTERACTIVE]
    assert len(answered) == len(set(answered))
    assert {block for block in submitted if not block.waiter.has_left} <= set(answered) <= set(submitted)
    assert len(answered) + scheduler.num_dropped == len(submitted)


# Sizes


def test_a_block_is_as_long_as_twenty_milliseconds(clock: Clock) -> None:
    stream = Source(clock, 10**6)
    assert scheduler_of(clock, [stream], cost_s=0.001).block_size(stream) == 20
    assert scheduler_of(clock, [stream], cost_s=CHEAP_S).block_size(stream) == 10_000


def test_a_block_is_half_as_long_while_single_requests_are_recent(clock: Clock) -> None:
    stream = Source(clock, 10**6)
    scheduler = scheduler_of(clock, [stream], cost_s=0.001)
    submit(scheduler, single())
    assert scheduler.block_size(stream) == 10
    clock.now += INTERACTIVE_MEMORY_S + 0.001
    assert scheduler.block_size(stream) == 20


def test_a_block_is_never_larger_than_the_models_batch_nor_smaller_than_one_record(clock: Clock) -> None:
    small, slow = served_model("small", max_batch_size=64), served_model("slow")
    streams = [Source(clock, 10**6, small), Source(clock, 10**6, slow)]
    scheduler = scheduler_of(clock, streams)
    scheduler.costs.begin(small.key, CHEAP_S)
    scheduler.costs.begin(slow.key, 30.0)
    assert [scheduler.block_size(stream) for stream in streams] == [64, 1]


@given(st.integers(1, 2000), st.integers(1, 16), st.floats(0.001, 0.1))
def test_while_lines_wait_there_are_two_blocks_for_every_replica(num_lines: int, num_replicas: int, cost_s: float) -> None:
    clock = Clock()
    stream = Source(clock, num_lines)
    scheduler = scheduler_of(clock, [stream], num_replicas=num_replicas, cost_s=cost_s)
    num_blocks = 0
    while scheduler.next_batch():
        num_blocks += 1
    assert num_blocks >= min(num_lines, 2 * num_replicas)


def test_a_short_stream_of_a_cheap_model_is_not_cut_finer_than_pays(clock: Clock) -> None:
    stream = Source(clock, 100)
    scheduler = scheduler_of(clock, [stream], cost_s=CHEAP_S)
    assert served(scheduler.next_batch())[0].lines.num_lines == 100


def test_an_unknown_model_begins_with_small_blocks(clock: Clock) -> None:
    stream = Source(clock, 10**6, served_model("unknown"))
    scheduler = scheduler_of(clock, [stream])
    assert scheduler.block_size(stream) <= 20


def test_costs_are_a_moving_average_that_begins_with_the_warm_up() -> None:
    costs = Costs()
    costs.begin("m", 0.010)
    assert costs.of(served_model()) != 0.010
    costs.learn("m", 0.040, 2)
    assert costs._seconds["m"] == pytest.approx(0.8 * 0.010 + 0.2 * 0.020)


def test_what_streams_taught_is_worth_more_than_a_later_warm_up() -> None:
    costs = Costs()
    costs.learn(IRIS.key, 0.5, 1)
    costs.begin(IRIS.key, 0.1)
    assert costs.of(IRIS) == 0.5
    costs.forget(IRIS.key)
    costs.begin(IRIS.key, 0.1)
    assert costs.of(IRIS) == 0.1


def test_a_clock_too_coarse_to_see_a_block_does_not_stop_the_scheduler(clock: Clock) -> None:
    stream = Source(clock, 100)
    scheduler = Scheduler(1, clock=clock)
    scheduler.attach(stream)
    scheduler.costs.learn(IRIS.key, 0.0, 5)
    assert scheduler.next_batch() is not None


# Bodies that nobody has read yet


EMBED = Task("embed", family="embedding", pool="score", time_limit_s=60, max_deaths=4, shared_bytes=1024)


def body(num_bytes: int, group: object = "bodies") -> Block:
    return Block(EMBED, Lane.INTERACTIVE, Somebody(), lines=Lines.of_body(b"x" * num_bytes), group=group)


def test_work_without_a_model_travels_alone_even_when_it_is_empty(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    blocks = [Block(EMBED, Lane.INTERACTIVE, Somebody()) for _ in range(2)]
    submit(scheduler, *blocks)
    assert [served(scheduler.next_batch()) for _ in blocks] == [[block] for block in blocks]


def test_small_bodies_that_wait_share_a_frame_and_leave_a_fair_part_to_the_other_replica(clock: Clock) -> None:
    scheduler = scheduler_of(clock)
    blocks = [body(100) for _ in range(8)]
    submit(scheduler, *blocks)
    assert served(scheduler.next_batch()) == blocks[:4]
    assert served(scheduler.next_batch()) == blocks[4:6]


def test_bodies_share_a_frame_up_to_a_limit_and_only_with_their_kind(clock: Clock) -> None:
    scheduler = scheduler_of(clock, num_replicas=1)
    large, small, other = [body(EMBED.shared_bytes) for _ in range(2)], body(10), body(10, "others")
    submit(scheduler, *large, other, small)
    batches = [served(scheduler.next_batch()) for _ in range(4)]
    assert batches == [[large[0]], [other], [large[1]], [small]]


# Models that tokenise


def test_work_beside_some_models_is_that_of_others() -> None:
    clock = Clock()
    scheduler = Scheduler(2, clock=clock)
    scheduler.attach(Source(clock, 10, IRIS))
    submit(scheduler, single(IRIS))
    assert not scheduler.has_work_beside({IRIS.key})
    scheduler.attach(Source(clock, 0, WINE))
    assert not scheduler.has_work_beside({IRIS.key}), "a source with nothing to do does not wait"
    submit(scheduler, single(WINE))
    assert scheduler.has_work_beside({IRIS.key})
    assert not scheduler.has_work_beside({IRIS.key, WINE.key})


TEXTS = ServedModel("kermit/texts@1", "kermit/texts", "texts", 1, {}, 16, TokenLimits(record=256, run=4096))


def test_blocks_of_texts_are_long_and_shorter_while_somebody_waits(clock: Clock) -> None:
    stream = Source(clock, 10**9, TEXTS)
    scheduler = scheduler_of(clock, [stream])
    scheduler.costs.begin(TEXTS.key, 0.00005)  # seconds a byte
    assert scheduler.block_size(stream) == 2000
    submit(scheduler, single())
    assert scheduler.block_size(stream) == 800


def test_texts_are_not_prefetched(clock: Clock) -> None:
    scheduler = scheduler_of(clock, [Source(clock, 10**9, TEXTS)])
    assert scheduler.next_batch(is_prefetch=True) is None
    assert scheduler.next_batch() is not None


def test_the_cost_of_a_text_is_that_of_the_bytes_the_model_looks_at() -> None:
    assert TEXTS.units(2, 100) == 100
    assert TEXTS.units(1, 10**6) == TEXTS.units(1, 2 * 10**6) < 10**4
    assert TEXTS.units(3, 0) == 3, "lines without a byte of text are work, too"
    assert IRIS.units(3, 10**6) == 3
