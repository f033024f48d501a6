"""Serving opens versions in replicas, lets requests wait for them, brings new versions in and unloads old ones. Real replicas."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from engine import metrics
from engine.errors import EngineError
from engine.replicas.pool import Pool
from engine.replicas.replica import Replica
from engine.repository.index import Version
from tests.embeddings.small_models import SmallModels
from tests.engine.repository.opened import SLOW_TURNS, Opened, deadly, num_loads, opened, running, scored, until, write
from tests.publishing.uploads import TURNS_A_SECOND, counting, slow, times

# One pool for all tests, unless a test says how many replicas it needs. So each test has models of its own names.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[Pool]:
    async with running() as pool:
        yield pool


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path, pool: Pool) -> AsyncIterator[Opened]:
    await until(lambda: len(pool.replicas) == pool.size)
    async with opened(tmp_path, pool) as world:
        yield world


def kill(replica: Replica) -> None:
    assert replica.pid
    os.kill(replica.pid, signal.SIGKILL)


async def bring_in(world: Opened, version: Version, inside: Callable[[], object] = lambda: None) -> None:
    """Bring a version in, and do something when it is open everywhere."""
    async with world.serving.coming(version):
        inside()


# Active versions


async def test_every_replica_that_becomes_ready_opens_the_active_version_of_each_model(tmp_path: Path) -> None:
    for title in ("eva/first", "eva/second"):
        write(tmp_path / "models", title, times(2))
        write(tmp_path / "models", title, times(3), number=2)
    pool = Pool("score", 2, silence_limit_s=30)
    async with opened(tmp_path, pool) as world:
        await pool.start()
        try:
            await until(lambda: world.is_open_everywhere(world.active("eva/first")))
            assert world.is_open_everywhere(world.active("eva/second"))
            assert not world.replicas_with(world.version("eva/first", 1))
            first = pool.replicas[0]
            kill(first)
            await until(lambda: first not in pool.replicas and world.is_open_everywhere(world.active("eva/first")))
        finally:
            await pool.stop()


async def test_of_the_embedding_models_only_the_first_of_the_list_is_opened_before_it_is_asked_for(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, pool: Pool
) -> None:
    models = SmallModels(tmp_path_factory.mktemp("small"))
    for title in ("eva/one", "eva/two"):
        models.put(tmp_path, title)
    (tmp_path / "models" / "models.txt").write_text("two\none\n")
    async with opened(tmp_path, pool) as world:
        world.serving.open_new()
        await until(lambda: world.is_open_everywhere(world.active("eva/two")))
        assert not world.replicas_with(world.active("eva/one"))
        assert await world.serving.ensure_loaded(world.serving.served(world.active("eva/one")))


async def test_a_model_that_is_not_opened_ahead_is_opened_when_it_is_first_asked_for(world: Opened) -> None:
    write(world.root, "eva/demo-model-1", times(2))
    write(world.root, "eva/other", times(3))
    world.serving.opens_ahead = lambda owner, name: name == "other"
    await world.scan()
    world.serving.open_new()
    await until(lambda: world.is_open_everywhere(world.active("eva/other")))
    assert world.replicas_with(world.active("eva/demo-model-1")) == []
    assert (await world.answer(world.active("eva/demo-model-1"), x=1))["y"] == 2
    assert world.replicas_with(world.active("eva/demo-model-1"))


async def test_open_new_opens_what_has_become_active_in_the_replicas_that_run(world: Opened) -> None:
    write(world.root, "eva/new", times(2))
    await world.scan()
    version = world.active("eva/new")
    assert not world.replicas_with(version)
    world.serving.open_new()
    await until(lambda: world.is_open_everywhere(version))
    loads = num_loads("eva/new")
    world.serving.open_new()
    await world.answer(version, x=1)
    assert num_loads("eva/new") == loads, "open versions are not opened again"


async def test_a_version_that_kills_replicas_is_not_opened_any_more(tmp_path: Path) -> None:
    write(tmp_path / "models", "eva/deadly", *deadly())
    pool = Pool("score", 1, silence_limit_s=30)
    async with opened(tmp_path, pool) as world:
        version = world.active("eva/deadly")
        await pool.start()
        try:
            await until(lambda: world.serving.status(version) == "offline")
            await until(lambda: bool(pool.replicas))
            [replica] = pool.replicas
            with pytest.raises(EngineError) as caught:
                await world.serving.ensure_loaded(world.serving.served(version))
            assert caught.value.code == "no_instances"
            await replica.ask_for_sign_of_life()
            assert pool.replicas == [replica], "it lives, since it never opened that version"
        finally:
            await pool.stop()


async def test_two_replicas_that_are_killed_from_outside_do_not_take_the_version_they_open_offline(tmp_path: Path) -> None:
    write(tmp_path / "models", "eva/unlucky", slow(), counting(SLOW_TURNS))
    pool = Pool("score", 1, silence_limit_s=30)
    async with opened(tmp_path, pool) as world:
        version = world.active("eva/unlucky")
        await pool.start()
        try:
            for _ in range(2):
                await until(lambda: any(replica.num_opening for replica in pool.replicas))
                [replica] = pool.replicas
                kill(replica)
                await replica.gone()
                assert world.serving.status(version) == "building"
            await until(lambda: world.serving.status(version) == "online")
        finally:
            await pool.stop()


# Waiting for a version


async def test_a_version_is_building_until_a_replica_has_opened_it_and_online_from_then_on(world: Opened) -> None:
    write(world.root, "eva/built", times(2))
    await world.scan()
    version = world.active("eva/built")
    assert world.serving.status(version) == "building"
    assert (await world.serving.ensure_loaded(world.serving.served(version))).key == "eva/built@1"
    assert world.serving.status(version) == "online"
    assert len(world.replicas_with(version)) == 1
    assert await world.answer(version, x=3) == {"y": 6}


async def test_a_version_whose_files_cannot_be_used_is_offline(world: Opened) -> None:
    assert world.serving.status(None) == "offline"


async def test_a_graph_that_does_not_load_is_offline_and_refused(world: Opened) -> None:
    write(world.root, "eva/broken", b"this is not a graph")
    await world.scan()
    version = world.active("eva/broken")
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            await world.serving.ensure_loaded(world.serving.served(version))
        assert (caught.value.code, caught.value.retry_after_s) == ("no_instances", None)
        assert world.serving.status(version) == "offline"
    assert num_loads("eva/broken", "failed") == 2, "each request tries again: the file may have been repaired"
    assert not world.replicas_with(version)


async def test_all_who_wait_for_one_version_share_one_load(world: Opened) -> None:
    write(world.root, "eva/shared", times(2))
    await world.scan()
    version = world.active("eva/shared")
    models = await asyncio.gather(*(world.serving.ensure_loaded(world.serving.served(version)) for _ in range(20)))
    assert len({id(model) for model in models}) == 1
    assert num_loads("eva/shared") == 1


async def test_one_who_waits_and_leaves_does_not_end_the_load_for_the_others(world: Opened) -> None:
    write(world.root, "eva/awaited", slow(), counting(SLOW_TURNS))
    await world.scan()
    version = world.active("eva/awaited")
    waiting = [asyncio.create_task(world.serving.ensure_loaded(world.serving.served(version))) for _ in range(2)]
    await until(lambda: any(replica.num_opening for replica in world.pool.replicas))
    waiting[0].cancel()
    assert (await waiting[1]).key == "eva/awaited@1"
    assert num_loads("eva/awaited") == 1


async def test_a_load_that_outlasts_the_limit_goes_on_but_nobody_waits_for_it_longer(tmp_path: Path, pool: Pool) -> None:
    write(tmp_path / "models", "eva/slow", slow(), counting(SLOW_TURNS))
    async with opened(tmp_path, pool, load_timeout_s=0.05) as world:
        version = world.active("eva/slow")
        with pytest.raises(EngineError) as caught:
            await world.serving.ensure_loaded(world.serving.served(version))
        assert (caught.value.code, caught.value.retry_after_s) == ("model_building", 5)
        assert world.serving.status(version) == "building"
        await until(lambda: world.serving.status(version) == "online")
        assert num_loads("eva/slow") == 1


async def test_a_request_that_comes_before_the_first_replica_waits_for_it(tmp_path: Path) -> None:
    write(tmp_path / "models", "eva/early", times(2))
    pool = Pool("score", 1, silence_limit_s=30)
    async with opened(tmp_path, pool) as world:
        waiting = asyncio.create_task(world.serving.ensure_loaded(world.serving.served(world.active("eva/early"))))
        await pool.start()
        try:
            assert (await waiting).key == "eva/early@1"
        finally:
            await pool.stop()


# Versions that come


async def test_a_version_that_is_coming_is_open_in_every_replica_also_in_one_that_starts_meanwhile(world: Opened) -> None:
    write(world.root, "eva/coming", times(2))
    await world.scan()
    version = world.active("eva/coming")
    world.repository.replace("eva", "coming", None)  # so that it is not opened because it is active
    async with world.serving.coming(version):
        assert world.is_open_everywhere(version)
        assert world.serving.status(version) == "online"
        killed = world.pool.replicas[0]
        kill(killed)
        await until(lambda: killed not in world.pool.replicas and world.is_open_everywhere(version))
    assert world.is_open_everywhere(version), "it stays open after the context"
    await world.serving.retire(version).wait()


async def test_a_coming_version_survives_one_death_while_it_is_opened(tmp_path: Path) -> None:
    write(tmp_path / "models", "eva/survivor", slow(), counting(SLOW_TURNS))
    async with running(size=1) as pool, opened(tmp_path, pool) as world:
        await until(lambda: bool(pool.replicas))
        version, [killed] = world.active("eva/survivor"), pool.replicas
        seen: list[Replica] = []
        opening = asyncio.create_task(bring_in(world, version, inside=lambda: seen.extend(world.replicas_with(version))))
        await until(lambda: bool(killed.num_opening))
        kill(killed)
        await opening
        assert seen == pool.replicas
        assert seen != [killed]
        assert world.serving.status(version) == "online"


async def test_a_coming_version_that_kills_replicas_is_refused_and_nothing_of_it_stays(world: Opened) -> None:
    write(world.root, "eva/killer", *deadly())
    await world.scan()
    version = world.active("eva/killer")
    world.repository.replace("eva", "killer", None)
    with pytest.raises(EngineError) as caught:
        await bring_in(world, version)
    assert caught.value.code == "load_failed"
    await until(lambda: len(world.pool.replicas) == world.pool.size)
    assert not world.replicas_with(version)


async def test_a_coming_version_that_does_not_load_is_refused_and_nothing_of_it_stays(world: Opened) -> None:
    write(world.root, "eva/spoiled", b"this is not a graph")
    await world.scan()
    version = world.active("eva/spoiled")
    with pytest.raises(EngineError) as caught:
        await bring_in(world, version)
    assert caught.value.code == "load_failed"
    assert not world.replicas_with(version)


async def test_a_coming_version_is_unloaded_when_the_context_fails(world: Opened) -> None:
    write(world.root, "eva/failed", times(2))
    await world.scan()
    version = world.active("eva/failed")
    world.repository.replace("eva", "failed", None)
    with pytest.raises(ZeroDivisionError):
        await bring_in(world, version, inside=lambda: 1 // 0)
    world.serving.open_new()
    await asyncio.gather(*(replica.ask_for_sign_of_life() for replica in world.pool.replicas))
    assert not world.replicas_with(version), "it is not coming any more"


async def test_a_version_that_was_retired_and_comes_again_stays_open_when_its_old_users_leave(world: Opened) -> None:
    write(world.root, "eva/again", times(2))
    await world.scan()
    version = world.active("eva/again")
    await world.serving.ensure_loaded(world.serving.served(version))
    with world.serving.using(world.serving.served(version)):
        world.serving.retire(version)
        await bring_in(world, version)
    assert world.is_open_everywhere(version)


# Versions that go


async def test_a_retired_version_is_unloaded_when_its_last_user_has_left(world: Opened) -> None:
    folder = write(world.root, "eva/used", times(2))
    await world.scan()
    version = world.active("eva/used")
    world.serving.open_new()
    await until(lambda: world.is_open_everywhere(version))
    served = world.serving.served(version)
    with world.serving.using(served):
        with world.serving.using(served):
            is_retired = world.serving.retire(version)
        assert world.serving.is_used(version)
        assert await world.answer(version, x=1) == {"y": 2}
        assert world.is_open_everywhere(version)
        assert not is_retired.is_set()
    assert is_retired.is_set()
    assert not world.serving.is_used(version)
    assert not world.replicas_with(version)
    (folder / "model.onnx").unlink()  # a replica that still had it open would not need its file
    for _ in world.pool.replicas:
        with pytest.raises(EngineError):
            await world.answer(version, x=1)


async def test_a_version_that_nobody_uses_is_retired_at_once(world: Opened) -> None:
    write(world.root, "eva/unused", times(2))
    await world.scan()
    version = world.active("eva/unused")
    await world.serving.ensure_loaded(world.serving.served(version))
    assert world.serving.retire(version).is_set()
    assert not world.replicas_with(version)
    assert world.serving.status(version) == "building", "it may be opened again when somebody asks for it"
    assert await world.answer(version, x=1) == {"y": 2}


async def test_a_request_that_comes_after_its_version_was_removed_shows_the_model_nowhere_again(world: Opened) -> None:
    """It was admitted before, so it has found the version."""
    write(world.root, "eva/deleted", times(2))
    await world.scan()
    version = world.active("eva/deleted")
    await world.serving.ensure_loaded(world.serving.served(version))
    world.repository.replace("eva", "deleted", None)
    await world.serving.retire_within(version, 0)
    for _ in range(2):
        with pytest.raises(EngineError, match="removed") as caught:
            await world.answer(version, x=1)
        assert caught.value.code == "model_removed"
    assert world.serving.retire(version).is_set()
    assert "eva/deleted" not in world.serving.titles()


async def test_an_answer_that_comes_after_its_version_was_removed_shows_the_model_nowhere_again(world: Opened) -> None:
    write(world.root, "eva/late", slow(), counting(1))
    await world.scan()
    version = world.active("eva/late")
    model = await world.serving.ensure_loaded(world.serving.served(version))
    with world.serving.using(world.serving.served(version)):
        late = asyncio.create_task(scored(world.pool, model, {"count": TURNS_A_SECOND}))
        await until(lambda: any(replica.working_on for replica in world.pool.replicas))
        await world.serving.retire_within(version, 0)
        world.repository.replace("eva", "late", None)
        metrics.keep_models(world.serving.titles())
        assert await late
    assert b"eva/late" not in b"".join(metrics.texts())
    assert world.pool.scheduler.costs.of(model) == world.pool.scheduler.costs.of(replace(model, key="eva/never@1"))


async def test_a_version_that_is_removed_while_it_is_opened_shows_the_model_nowhere_again(world: Opened) -> None:
    write(world.root, "eva/opening", slow(), counting(SLOW_TURNS))
    await world.scan()
    version = world.active("eva/opening")
    world.serving.open_new()
    await until(lambda: bool(world.replicas_with(version)))
    assert world.serving.retire(version).is_set()
    world.repository.replace("eva", "opening", None)
    metrics.keep_models(world.serving.titles())
    await asyncio.gather(*(replica.ask_for_sign_of_life() for replica in world.pool.replicas))
    assert b"eva/opening" not in b"".join(metrics.texts())
