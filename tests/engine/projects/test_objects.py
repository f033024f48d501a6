"""Objects of projects: their numbers, how they stand while a job makes them and afterwards, and what can be done to them."""

import asyncio
from pathlib import Path

import pytest

from engine.errors import EngineError, ListedError
from engine.jobs import JobFailure
from engine.projects.objects import Object, ObjectKind
from engine.projects.projects import Projects
from engine.projects.work import fault_of, is_refused
from engine.replicas.blocks import Answer
from engine.store import Store
from tests.engine.jobs.kinds import gate, open_gate
from tests.engine.jobs.test_jobs import begun
from tests.engine.projects.opened import DEMO, OTHER, Open, opened


async def refused(code: str, work: "asyncio.Future[object]") -> EngineError:
    with pytest.raises(EngineError) as caught:
        await work
    assert caught.value.code == code
    return caught.value


async def no_names(team: str) -> tuple[str, ...]:
    return ()


def projects_of(all: Open) -> Projects:
    return Projects(all.store, all.jobs, no_names)


# Numbers


async def test_each_project_and_kind_counts_from_one_and_never_uses_a_number_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        made = [await all.create(), await all.create(), await all.create("dataset"), await all.create(project=OTHER)]
        assert [one.iid for one in made] == [1, 2, 1, 1]
        await all.objects.delete(DEMO, "upload", 2)
        await all.removal.remove(made[1].name)
        assert (await all.create()).iid == 3


async def test_ten_that_are_made_at_once_get_ten_numbers(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        made = await asyncio.gather(*(all.create() for _ in range(10)))
        assert sorted(one.iid for one in made) == list(range(1, 11))


async def test_numbers_go_on_in_a_project_that_has_the_id_of_one_that_was_removed(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        await all.create()
        await projects_of(all).hide(DEMO)
        await all.removal.sweep()
        await projects_of(all).create(DEMO, "Demo")
        assert (await all.create()).iid == 2


# How they stand


async def test_an_object_waits_is_worked_on_and_is_complete_with_what_its_job_gave(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with opened(tmp_path, is_started=False) as all:
        made = await all.create(task="pass_gate", **arguments)
        assert (made.status, made.attempts, made.started_at, made.created_by) == ("waiting", 0, None, "eva")
        await all.jobs.start()
        started = await all.until(made, lambda found: found.status == "started")
        assert (started.attempts, started.finished_at) == (1, None)
        assert str(started.started_at) >= made.created_at
        await begun(arguments)
        open_gate(arguments)
        ended = await all.ended(made)
        assert (ended.status, ended.attempts, ended.result, ended.error) == ("success", 1, '{"Rows": 3}', None)
        assert ended.warnings == [{"Code": "gap", "Message": "A week is missing."}]
        assert ended.started_at == started.started_at
        assert len(str(ended.finished_at)) == len("2026-01-31T09:00:00Z")
        assert await all.store.read_extra(ended.name) == '{"extra": 1}'


async def test_progress_is_told_while_a_job_runs_and_forgotten_with_it(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with opened(tmp_path) as all:
        made = await all.create(task="tell", steps=3, gate=arguments["gate"])
        assert all.objects.progress(made) is None
        running = await all.until(made, lambda found: all.objects.progress(found) == {"Done": 2})
        open_gate(arguments)
        ended = await all.ended(made)
        assert all.objects.progress(ended) is None
        assert all.objects.progress(running) is None


async def test_a_second_attempt_is_counted_and_says_nothing_of_how_far_the_first_was(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with opened(tmp_path) as all:
        await all.create(task="tell", steps=1, end="die", **arguments)
        made = await all.objects.get(DEMO, "upload", 1)
        second = await all.until(made, lambda found: found.attempts == 2 and all.objects.progress(found) is not None)
        assert all.objects.progress(second) == {"Done": 0}
        open_gate(arguments)
        ended = await all.ended(made)
        assert (ended.status, ended.attempts) == ("success", 2)


async def test_an_object_keeps_how_it_stands_when_its_job_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        ended = await all.ended(await all.create())
        await all.store.prune_jobs(keep_s=-1, keep=0)
        assert await all.objects.get(DEMO, "upload", 1) == ended


async def test_an_object_whose_job_was_lost_is_failed_after_a_start(tmp_path: Path) -> None:
    async with opened(tmp_path, is_started=False) as all:
        await all.create()
        kept = await all.create()
        async with all.store.transaction() as transaction:
            await transaction.run("DELETE FROM job WHERE config = '1'")
        await all.objects.recover()
        lost = await all.objects.get(DEMO, "upload", 1)
        assert (lost.status, lost.error and lost.error["code"]) == ("error", "internal")
        assert (await all.objects.get(DEMO, "upload", kept.iid)).status == "waiting"


# Failures


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"task": "die"}, "job_crashed"),
        ({"task": "fail"}, "internal"),
        ({"task": "grow", "bytes": 1 << 30, "memory_bytes": 1 << 20}, "job_memory"),
    ],
)
async def test_a_job_without_an_answer_says_why(tmp_path: Path, request_: dict[str, object], code: str) -> None:
    async with opened(tmp_path) as all:
        ended = await all.ended(await all.create(**request_))
        assert ended.status == "error"
        assert ended.error is not None
        assert (ended.error["code"], ended.error["details"]) == (code, [])
        assert ended.attempts == (3 if code == "job_crashed" else 1)


async def test_a_job_that_takes_too_long_is_failed(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    async with opened(tmp_path) as all:
        ended = await all.ended(await all.create(task="wait", mark=mark, hears=True, time_limit_s=0.5))
        assert ended.error is not None
        assert ended.error["code"] == "job_timeout"


def test_what_a_replica_refuses_is_told_as_it_says_it() -> None:
    report = {"code": "invalid_file", "message": "1 problem", "details": [{"Code": "bad_date"}], "details_total": 1}
    assert fault_of(Answer({"refused": report}, memoryview(b""))) == report


def test_a_full_disk_is_told_as_such_whoever_has_noticed_it() -> None:
    fault = fault_of(Answer({"full": True}, memoryview(b"")))
    assert fault["code"] == "disk_full"
    assert not is_refused(Answer({}, memoryview(b"{}")))
    assert fault_of(JobFailure("failed", "KeyError", "secret")) == {
        "code": "internal",
        "message": "The server failed on this. Its log says more.",
        "details": [],
        "details_total": 0,
    }


# Cancelled


async def test_cancelling_ends_a_job_that_waits_and_one_that_runs_and_later_work_goes_on(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with opened(tmp_path, is_started=False) as all:
        waiting = await all.create()
        assert (await all.objects.cancel(DEMO, "upload", waiting.iid)).status == "cancelled"
        await all.jobs.start()
        running = await all.create(task="wait", mark=str(mark), hears=False)
        await all.until(running, lambda found: mark.exists())
        cancelled = await all.objects.cancel(DEMO, "upload", running.iid)
        assert (cancelled.status, cancelled.attempts, cancelled.started_at is not None) == ("cancelled", 1, True)
        assert (await all.ended(await all.create())).status == "success"
        assert (await all.objects.get(DEMO, "upload", running.iid)) == cancelled


async def test_what_is_finished_cannot_be_cancelled(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        await all.ended(await all.create())
        await refused("already_finished", asyncio.ensure_future(all.objects.cancel(DEMO, "upload", 1)))
        await refused("unknown_upload", asyncio.ensure_future(all.objects.cancel(DEMO, "upload", 2)))


# How many


async def test_a_team_has_so_many_unfinished_jobs_and_not_one_more(tmp_path: Path) -> None:
    async with opened(tmp_path, jobs_per_team=2, is_started=False) as all:
        await all.create()
        await all.objects.check_room("acme")
        await refused("too_many_jobs", asyncio.ensure_future(all.objects.check_room("acme", num_more=1)))
        await all.create("dataset", OTHER)
        error = await refused("too_many_jobs", asyncio.ensure_future(all.create()))
        assert error.retry_after_s is not None
        await all.objects.cancel(DEMO, "upload", 1)
        assert (await all.create()).iid == 2, "a refused one has no number"


# Lists


async def test_a_list_has_the_newest_first_in_parts_and_no_results(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        for _ in range(5):
            await all.ended(await all.create())
        await all.create("dataset")
        first = await all.objects.list(DEMO, "upload", limit=2)
        assert [(one.iid, one.result, one.status) for one in first] == [(5, None, "success"), (4, None, "success")]
        assert [one.iid for one in await all.objects.list(DEMO, "upload", limit=9, before=4)] == [3, 2, 1]
        assert await all.objects.list(OTHER, "upload", limit=9) == ()


# Active


async def test_the_active_one_of_a_slot_is_the_last_that_took_it_by_a_request_or_at_the_end_of_its_job(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        for slot in ("", None, "SWE"):
            await all.ended(await all.create("dataset", slot=slot))
        assert [one.iid for one in await all.objects.active(DEMO, "dataset")] == [1, 3]
        assert (await all.objects.activate(DEMO, "dataset", 2)).active == ""
        assert [(one.iid, one.active) for one in await all.objects.active(DEMO, "dataset")] == [(2, ""), (3, "SWE")]


async def test_what_is_not_complete_is_not_made_active(tmp_path: Path) -> None:
    async with opened(tmp_path, is_started=False) as all:
        await all.create("dataset")
        await refused("not_complete", asyncio.ensure_future(all.objects.activate(DEMO, "dataset", 1)))
        await all.objects.cancel(DEMO, "dataset", 1)
        await refused("not_complete", asyncio.ensure_future(all.objects.activate(DEMO, "dataset", 1)))
        await refused("unknown_dataset", asyncio.ensure_future(all.objects.activate(DEMO, "dataset", 2)))
        await refused("unknown_dataset", asyncio.ensure_future(all.objects.require_complete(DEMO, "dataset", [1, 2])))
        await refused("not_complete", asyncio.ensure_future(all.objects.require_complete(DEMO, "dataset", [1])))


# Used, and deleted


async def made_of(all: Open, kind: ObjectKind, *uses: Object, **request: object) -> Object:
    asked = {"task": "swap", **request}
    used = [(one.kind, one.iid) for one in uses]
    return await all.objects.create(DEMO, kind, asked, created_by="eva", uses=used)


async def test_what_something_was_made_of_is_kept_until_that_is_deleted_or_has_failed(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        upload = await all.ended(await all.create())
        dataset = await all.ended(await made_of(all, "dataset", upload, upload))
        await all.ended(await made_of(all, "dataset", upload, task="fail"))
        error = await refused("in_use", asyncio.ensure_future(all.objects.delete(DEMO, "upload", 1)))
        assert isinstance(error, ListedError)
        assert [(one["Kind"], one["IId"]) for one in error.details] == [("dataset", 1)]
        await all.objects.delete(DEMO, "dataset", dataset.iid)
        await all.objects.delete(DEMO, "upload", 1)
        await refused("unknown_upload", asyncio.ensure_future(all.objects.get(DEMO, "upload", 1)))


async def test_what_is_active_is_not_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        await all.ended(await all.create("dataset", slot=""))
        error = await refused("in_use", asyncio.ensure_future(all.objects.delete(DEMO, "dataset", 1)))
        assert isinstance(error, ListedError)
        assert [one["Code"] for one in error.details] == ["active"]


async def test_nothing_is_made_of_what_is_deleted_or_in_a_project_that_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        upload = await all.ended(await all.create())
        await all.objects.delete(DEMO, "upload", 1)
        await refused("unknown_upload", asyncio.ensure_future(made_of(all, "dataset", upload)))
        assert await all.objects.list(DEMO, "dataset", limit=9) == ()
        await projects_of(all).hide(DEMO)
        await refused("unknown_project", asyncio.ensure_future(all.create()))


async def test_an_object_that_is_deleted_while_it_is_made_leaves_nothing(tmp_path: Path) -> None:
    arguments = gate(tmp_path)
    async with opened(tmp_path) as all:
        made = await all.create(task="pass_gate", **arguments)
        await all.until(made, lambda found: found.status == "started")
        await all.removal.remove(await all.objects.delete(DEMO, "upload", 1))
        assert all.removed == [made.name]
        assert await all.store.list_requests("upload") == []
        assert (await all.ended(await all.create())).status == "success"


# Removal


async def test_a_removed_project_is_not_found_and_its_id_is_free_once_all_of_it_is_gone(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with opened(tmp_path) as all:
        await all.ended(await all.create("dataset", slot=""))
        running = await all.create(task="wait", mark=str(mark), hears=False)
        await all.until(running, lambda found: mark.exists())
        projects = projects_of(all)
        await projects.hide(DEMO)
        await refused("unknown_project", asyncio.ensure_future(projects.get(DEMO)))
        await refused("unknown_project", asyncio.ensure_future(projects.hide(DEMO)))
        await refused("name_taken", asyncio.ensure_future(projects.create(DEMO, "Demo")))
        await all.removal.sweep()
        assert sorted(one.kind for one in all.removed) == ["dataset", "upload"]
        assert (await projects.create(DEMO, "New")).name == "New"
        assert await all.objects.list(DEMO, "dataset", limit=9) == ()


async def test_removal_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        await all.ended(await all.create(stuck=True))
        await projects_of(all).hide(DEMO)
        await all.removal.sweep()
        assert len(await all.store.list_hidden_objects()) == 1, "its files could not be removed"
    async with opened(tmp_path) as again:
        again.removed.append(all.removed[0])
        running = asyncio.create_task(again.removal.run())
        async with asyncio.timeout(30):
            while await again.store.list_hidden_projects():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()


async def test_a_project_whose_team_has_a_model_or_dataset_that_is_called_as_its_own_cannot_be_made(tmp_path: Path) -> None:
    async def names(team: str) -> tuple[str, ...]:
        return ("sales-dataset-3", "salesdataset-3")

    async with opened(tmp_path) as all:
        projects = Projects(all.store, all.jobs, names)
        await refused("name_taken", asyncio.ensure_future(projects.create(type(DEMO)("acme", "sales"), "Sales")))
        assert (await projects.create(type(DEMO)("acme", "salesdataset"), "Sales")).active == {}


async def test_a_project_shows_what_is_active_in_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as all:
        for kind, slot in (("dataset", ""), ("model", "SWE"), ("model", "NOR"), ("upload", None)):
            await all.ended(await all.create(kind, slot=slot))  # type: ignore[arg-type]
        card = await projects_of(all).get(DEMO)
        assert (card.name, card.active) == ("demo", {"dataset": [1], "model": [1, 2]})
        assert (card.only("dataset"), card.only("attribution_set")) == (1, None)


async def test_a_worker_that_knows_no_kind_of_projects_leaves_their_jobs_alone(tmp_path: Path) -> None:
    async with opened(tmp_path, is_started=False) as all:
        await all.create()
        other = await Store.open(tmp_path / "sluice.db")
        assert await other.list_abandoned_jobs(["dataset", "split"], worker="", silent_s=-1) == []
        assert await other.take_job("w", ["dataset", "split"], beside=["dataset"], most=1) is None
        await other.close()
