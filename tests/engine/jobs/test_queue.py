"""The queue of jobs in the database: who is taken next, by whom, and what one may still change about it. Real SQLite."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.jobs import job_key
from engine.store import JobRow, NewJob, Store, StoreError, Subject
from engine.store.jobs import job_time

KINDS = ("dataset", "split")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "sluice.db")
    yield store
    await store.close()


async def add(store: Store, *names: str, party: str = "a", kind: str = "split", priority: int = 0, not_before: str = "") -> int:
    """Add a job for each name as its key; how many are new."""
    async with store.transaction() as transaction:
        new = [NewJob(kind, name, party, party, priority=priority, not_before=not_before) for name in names]
        return sum([await store.add_job(transaction, job) for job in new])


async def take(store: Store, worker: str = "w", most: int = 1000) -> JobRow | None:
    return await store.take_job(worker, KINDS, beside=KINDS, most=most)


async def taken(store: Store, most: int = 1000) -> JobRow:
    job = await take(store, most=most)
    assert job is not None
    return job


async def taken_keys(store: Store, number: int) -> list[str]:
    return [(await taken(store)).key for _ in range(number)]


async def finish(store: Store, job: JobRow) -> bool:
    async with store.transaction() as transaction:
        return await store.finish_job(transaction, job, "success")


async def statuses(store: Store) -> dict[str, int]:
    return Counter(job.status for job in await store.list_jobs(KINDS, ("waiting", "started", "success", "error", "cancelled")))


# Keys


def test_a_key_has_its_kind_and_its_names() -> None:
    assert job_key("split", "org/name", "default", "train") == "split\0org/name\0default\0train"


async def test_one_job_of_a_key_waits_and_one_is_started(store: Store) -> None:
    assert [await add(store, "k") for _ in range(50)] == [1] + [0] * 49
    assert (await taken(store)).key == "k"
    assert await add(store, "k") == 1, "what changes during a run leaves one follow-up"
    assert await add(store, "k") == 0
    assert await take(store) is None, "the follow-up waits for the end of the first"
    assert await statuses(store) == {"waiting": 1, "started": 1}


async def test_a_follow_up_is_taken_once_the_first_has_ended(store: Store) -> None:
    await add(store, "k")
    first = await taken(store)
    await add(store, "k")
    assert await finish(store, first)
    second = await taken(store)
    assert (second.key, second.id > first.id) == ("k", True)
    assert await finish(store, second)
    assert await take(store) is None


async def test_an_id_is_never_used_again(store: Store) -> None:
    await add(store, "k")
    first = await taken(store)
    async with store.transaction() as transaction:
        assert await store.remove_jobs(transaction, KINDS) == 1
    await add(store, "k")
    assert (await taken(store)).id > first.id


# Order


async def test_parties_take_turns_and_one_that_comes_late_is_served_next(store: Store) -> None:
    await add(store, *(f"a{i}" for i in range(300)), party="a")
    assert [(await taken(store)).party for _ in range(3)] == ["a"] * 3
    await add(store, "b0", "b1", party="b")
    assert [(await taken(store)).party for _ in range(2)] == ["b", "b"], "b has fewer started"


async def test_of_parties_with_none_started_the_one_served_longest_ago_is_next(store: Store) -> None:
    for party in ("a", "b", "c"):
        await add(store, *(f"{party}{i}" for i in range(3)), party=party)
    served = []
    for _ in range(9):
        job = await taken(store)
        served.append(job.party)
        await finish(store, job)
    assert served == ["a", "b", "c"] * 3


async def test_a_party_has_at_most_so_many_started(store: Store) -> None:
    await add(store, "a0", "a1", "a2", party="a")
    await add(store, "b0", party="b")
    assert [(await taken(store, most=1)).key for _ in range(2)] == ["a0", "b0"]
    assert await take(store, most=1) is None
    assert (await taken(store, most=2)).key == "a1"


async def test_what_others_have_started_of_the_class_counts_for_a_worker_that_takes_some_kinds_only(store: Store) -> None:
    await add(store, "d", kind="dataset")
    await add(store, "s", kind="split")
    assert await store.take_job("x", ["dataset"], beside=KINDS, most=1)
    assert await store.take_job("y", ["split"], beside=KINDS, most=1) is None


async def test_a_lower_priority_number_comes_first_and_then_the_older_job(store: Store) -> None:
    await add(store, "warm", priority=1)
    await add(store, "first", "second")
    assert await taken_keys(store, 3) == ["first", "second", "warm"]


async def test_a_job_is_not_taken_before_its_time(store: Store) -> None:
    await add(store, "later", not_before=job_time(seconds_ago=-60))
    await add(store, "past", not_before=job_time(seconds_ago=60))
    assert await taken_keys(store, 1) == ["past"]
    assert await take(store) is None


async def test_only_the_kinds_that_are_asked_for_are_taken(store: Store) -> None:
    await add(store, "x", kind="other")
    assert await take(store) is None


async def test_ten_workers_take_500_jobs_each_of_them_once(store: Store, tmp_path: Path) -> None:
    await add(store, *(str(i) for i in range(500)))
    workers = [await Store.open(tmp_path / "sluice.db") for _ in range(10)]

    async def work(number: int) -> list[str]:
        keys = []
        while (job := await take(workers[number], f"w{number}")) is not None:
            keys.append(job.key)
        return keys

    shares = await asyncio.gather(*(work(number) for number in range(10)))
    for worker in workers:
        await worker.close()
    assert sorted(key for keys in shares for key in keys) == sorted(str(i) for i in range(500))


# Whose a job is


async def test_who_gave_no_sign_of_life_changes_nothing_any_more(store: Store) -> None:
    await add(store, "k")
    old = await taken(store)
    [abandoned] = await store.list_abandoned_jobs(KINDS, worker="", silent_s=-1)
    assert await store.give_back_job(abandoned, is_counted=True)
    new = await taken(store)
    assert (new.id, new.attempts) == (old.id, 2)
    assert not await finish(store, old)
    assert not await store.give_back_job(old, is_counted=False)
    assert await store.beat("w", [old.id]) == {(new.id, 2)}
    assert await finish(store, new)
    assert await store.beat("w", [new.id]) == set()


async def test_who_is_heard_of_keeps_its_jobs(store: Store) -> None:
    await add(store, "k")
    await taken(store)
    assert await store.list_abandoned_jobs(KINDS, worker="other", silent_s=30) == []
    assert len(await store.list_abandoned_jobs(KINDS, worker="w", silent_s=30)) == 1


async def test_an_attempt_that_is_given_back_may_not_count(store: Store) -> None:
    await add(store, "k")
    for is_counted, attempts in ((False, 1), (True, 1), (False, 2)):
        job = await taken(store)
        assert job.attempts == attempts
        assert await store.give_back_job(job, is_counted=is_counted)
    [job] = await store.find_jobs("k")
    assert (job.status, job.worker, job.started_at, job.attempts) == ("waiting", None, None, 1)


async def test_a_job_that_is_given_back_while_a_follow_up_waits_is_cancelled(store: Store) -> None:
    await add(store, "k")
    job = await taken(store)
    await add(store, "k")
    assert await store.give_back_job(job, is_counted=True)
    assert await statuses(store) == {"waiting": 1, "cancelled": 1}
    [cancelled] = await store.list_jobs(KINDS, ["cancelled"])
    assert cancelled.finished_at is not None


async def test_cancelled_jobs_are_those_of_the_dataset_and_status_that_are_named(store: Store) -> None:
    await add(store, "a0", "a1", party="a")
    await add(store, "b0", party="b")
    job = await taken(store)
    async with store.transaction() as transaction:
        assert await store.cancel_jobs(transaction, ["waiting"], KINDS, Subject("a")) == 1
        assert await store.cancel_jobs(transaction, ["waiting"], ["other"]) == 0
    assert await statuses(store) == {"waiting": 1, "started": 1, "cancelled": 1}
    async with store.transaction() as transaction:
        assert await store.cancel_jobs(transaction, ["started"], KINDS) == 1
    assert not await finish(store, job)


# Questions


async def test_jobs_are_counted_by_kind_and_status(store: Store) -> None:
    await add(store, "a", "b")
    await add(store, "d", kind="dataset", priority=1)
    await taken(store)
    assert await store.count_jobs(["waiting", "started"]) == {
        ("split", "waiting"): 1,
        ("split", "started"): 1,
        ("dataset", "waiting"): 1,
    }


async def test_a_waiting_job_knows_how_many_of_its_kind_wait_before_it(store: Store) -> None:
    await add(store, "x", kind="dataset")
    await add(store, "late", priority=1)
    await add(store, "a", "b")
    assert [await store.num_jobs_before(key) for key in ("a", "b", "late", "nothing")] == [0, 1, 2, None]


async def test_a_list_is_in_order_and_has_pages(store: Store) -> None:
    await add(store, *"abcd")
    assert [job.key for job in await store.list_jobs(KINDS, ["waiting"])] == list("abcd")
    assert [job.key for job in await store.list_jobs(KINDS, ["waiting"], limit=2, offset=1)] == ["b", "c"]


async def test_times_have_milliseconds_written_as_six_digits(store: Store) -> None:
    await add(store, "a")
    job = await taken(store)
    assert job.created_at.endswith("000")
    assert len(job.created_at) == len("2022-01-20T13:48:06.705000")
    assert job.created_at <= str(job.started_at)
    assert job.finished_at is None


async def test_old_jobs_and_those_beyond_a_number_are_forgotten_and_turns_with_them(store: Store) -> None:
    for name in "abc":
        await add(store, name, party=name)
        await finish(store, await taken(store))
    await add(store, "w", party="w")
    await store.prune_jobs(keep_s=60, keep=2)
    assert [job.key for job in await store.list_jobs(KINDS, ["success"])] == ["b", "c"]
    await store.prune_jobs(keep_s=-1, keep=2)
    assert await statuses(store) == {"waiting": 1}
    assert [tuple(row) for row in await store._rows("SELECT party FROM turn")] == []


# Transactions


async def test_a_transaction_that_raises_leaves_nothing_and_calls_nobody(store: Store) -> None:
    called: list[str] = []

    async def fail() -> None:
        async with store.transaction() as transaction:
            await store.add_job(transaction, NewJob("split", "k", "a"))
            transaction.after_commit(lambda: called.append("committed"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await statuses(store), called) == ({}, [])


async def test_what_is_written_is_seen_by_the_call_after_the_commit_and_read_without_waiting(store: Store) -> None:
    seen: list[str] = []
    async with store.transaction() as transaction:
        await store.add_job(transaction, NewJob("split", "k", "a"))
        assert await statuses(store) == {}, "a read meanwhile does not wait, and sees what was there"
        transaction.after_commit(lambda: seen.append("committed"))
        assert seen == []
    assert (await statuses(store), seen) == ({"waiting": 1}, ["committed"])


async def test_two_transactions_follow_each_other(store: Store) -> None:
    async def count_up() -> None:
        async with store.transaction() as transaction:
            [(number,)] = await transaction.rows("SELECT count(*) FROM job")
            await asyncio.sleep(0)
            await store.add_job(transaction, NewJob("split", str(number), "a"))

    await asyncio.gather(*(count_up() for _ in range(20)))
    assert await statuses(store) == {"waiting": 20}


async def test_a_task_that_has_a_transaction_open_is_told_to_write_through_it(store: Store) -> None:
    async with store.transaction():
        with pytest.raises(RuntimeError, match="transaction open"):
            await store.take_job("w", KINDS, beside=KINDS, most=1)
    assert await add(store, "k") == 1


async def test_a_statement_that_fails_is_a_store_error(store: Store) -> None:
    with pytest.raises(StoreError):
        async with store.transaction() as transaction:
            await transaction.run("INSERT INTO nothing VALUES (1)")
    assert await add(store, "k") == 1


async def test_a_commit_of_this_process_does_not_change_the_data_version_and_one_of_another_does(
    store: Store, tmp_path: Path
) -> None:
    before = await store.data_version()
    await add(store, "k")
    assert await store.data_version() == before
    other = await Store.open(tmp_path / "sluice.db")
    await add(other, "l")
    await other.close()
    assert await store.data_version() != before
