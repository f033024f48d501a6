"""The job of a model: what it publishes, what a second attempt and a cancel leave, and which models replicas open ahead."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.projects.objects import ONLY_SLOT
from engine.replicas.pool import Pool
from engine.store import ObjectEnd
from tests.engine.projects.modelling import LONG, modelling, until
from tests.engine.repository.opened import running

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "demo-model-1"
FOLDER = f"acme/{NAME}"
VERSION = [f"{FOLDER}/1/{name}" for name in ("config.json", "draws.npy", "fitted.json", "model.onnx")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def score() -> AsyncIterator[Pool]:
    async with running(size=1) as pool:
        yield pool


async def test_a_fit_is_published_with_its_draws_and_opened_by_nobody(tmp_path: Path, score: Pool) -> None:
    async with modelling(tmp_path, score) as house:
        made = await house.build()
        assert (made.iid, made.status) == (1, "waiting")
        done = await house.ended(made)
        assert (done.status, done.error) == ("success", None)
        assert house.published() == ["acme", FOLDER, f"{FOLDER}/1", *VERSION]
        version = house.world.active(FOLDER)
        assert house.world.replicas_with(version) == []
        assert version.config.inputs[-1].kind == "period_days"


async def test_the_kept_fit_is_started_again_and_publishes_no_second_version(tmp_path: Path, score: Pool) -> None:
    async with modelling(tmp_path, score) as house:
        made = await house.build()
        await house.ended(made)
        written = (tmp_path / "models" / VERSION[-1]).read_bytes()
        # As a server leaves it that is killed after the files are in place and before the row is written.
        async with house.objects.store.transaction() as transaction:
            await transaction.run("UPDATE project_object SET status = 'waiting' WHERE kind = 'model'")
            await transaction.run("UPDATE job SET status = 'waiting', finished_at = NULL, worker = NULL WHERE kind = 'fit'")
        house.jobs.wake()
        done = await house.ended(made)
        assert (done.status, done.attempts) == ("success", 2)
        assert house.published() == ["acme", FOLDER, f"{FOLDER}/1", *VERSION]
        assert (tmp_path / "models" / VERSION[-1]).read_bytes() == written


async def test_a_fit_that_is_cancelled_leaves_nothing(tmp_path: Path, score: Pool) -> None:
    async with modelling(tmp_path, score) as house:
        made = await house.build(LONG)
        await house.until(made, lambda found: house.objects.progress(found) is not None)
        assert any(".incoming-" in name for name in house.published())
        await house.objects.cancel(made.project, made.kind, made.iid)

        async def is_empty() -> bool:
            return house.published() == []

        await until(is_empty)
        assert (await house.ended(made)).status == "cancelled"


async def test_what_was_published_of_a_model_that_nobody_wants_is_removed(tmp_path: Path, score: Pool) -> None:
    async with modelling(tmp_path, score) as house:
        made = await house.ended(await house.build())
        await house.publishing.remove_unwanted(made)
        assert house.published(), "a model that has succeeded is wanted"
        async with house.objects.store.transaction() as transaction:
            await transaction.run("UPDATE project_object SET status = 'cancelled' WHERE kind = 'model'")
        await house.publishing.remove_unwanted(made)
        assert house.published() == []


async def test_a_start_removes_models_whose_job_has_failed_after_they_were_published(tmp_path: Path, score: Pool) -> None:
    async with modelling(tmp_path, score) as house:
        await house.ended(await house.build())
        async with house.objects.store.transaction() as transaction:
            await transaction.run("UPDATE project_object SET status = 'error' WHERE kind = 'model'")
    async with modelling(tmp_path, score, is_started=False) as house:
        assert house.published()
        await house.publishing.clean()
        assert house.published() == []


async def test_only_active_models_are_opened_ahead(tmp_path: Path, score: Pool) -> None:
    async with modelling(tmp_path, score) as house:
        made = await house.ended(await house.build())
        assert not house.names.opens_ahead("acme", NAME)
        assert house.names.opens_ahead("acme", "sent-by-hand")
        await house.objects.activate(made.project, made.kind, made.iid, ONLY_SLOT)
        house.publishing.note_activation()

        async def is_open() -> bool:
            return bool(house.world.replicas_with(house.world.active(FOLDER)))

        await until(is_open)
        assert house.names.opens_ahead("acme", NAME)


async def test_a_fit_whose_model_was_deleted_meanwhile_publishes_nothing(tmp_path: Path, score: Pool) -> None:
    async with modelling(tmp_path, score, is_started=False) as house:
        made = await house.build()
        async with house.objects.store.transaction() as transaction:
            await house.objects.store.end_object(transaction, made.name, ObjectEnd("cancelled", "2026-01-31T09:00:00Z"), None)
        await house.jobs.start()

        async def is_over() -> bool:
            jobs = await house.objects.store.list_jobs(["fit"], ["waiting", "started"])
            return jobs == []

        await until(is_over)
        assert house.published() == []
