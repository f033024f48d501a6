"""A Publisher makes an upload a version, a version the active one, and removes what is old. Real replicas, database and folders."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.disk import Disk
from engine.errors import EngineError
from engine.replicas.pool import Pool
from engine.replicas.replica import ReplicaOptions
from engine.repository.incoming import Incoming
from engine.repository.index import Model, Version
from engine.repository.listed import LIST_FILE, read_names
from engine.repository.publishing import MAX_UPLOADS, Published, Publisher, PublishingLimits
from tests.embeddings.small_models import SmallModels
from tests.engine.repository.opened import SLOW_TURNS, Opened, opened, running, until, write
from tests.publishing.uploads import config, counting, slow, times

# Two pools for all tests, so each test has models of its own names. All belong to eva.
pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_BYTES = 10_000_000
KEEP_VERSIONS = 3
DRAIN_S = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[Pool]:
    async with running() as pool:
        await until(lambda: len(pool.replicas) == pool.size)
        yield pool


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jobs() -> AsyncIterator[Pool]:
    async with running("jobs", 1, ReplicaOptions(is_lazy=True)) as pool:
        yield pool


class House:
    """A repository with its Publisher, and short ways to ask both."""

    def __init__(self, world: Opened, jobs: Pool) -> None:
        limits = PublishingLimits(
            max_uploads_per_user=3,
            model_limit_bytes=LIMIT_BYTES,
            keep_versions=KEEP_VERSIONS,
            check_timeout_s=30,
            user_models=1000,
            user_versions=1000,
            user_bytes=1000 * LIMIT_BYTES,
            drain_s=DRAIN_S,
        )
        self.world = world
        self.publisher = Publisher(world.store, world.serving, jobs, Disk(world.root.parent, reserve_bytes=0), limits)

    async def publish(self, name: str, graph: bytes, sent: dict[str, Any] | None = None) -> Published:
        async with self.publisher.incoming("eva", name) as incoming:
            await receive(incoming, "model.onnx", graph)
            if sent is not None:
                await receive(incoming, "config.json", json.dumps(sent).encode())
            return await self.publisher.publish(incoming)

    def find(self, name: str) -> Model | None:
        return self.world.repository.find("eva", name)

    def model(self, name: str) -> Model:
        model = self.find(name)
        assert model is not None
        return model

    def version(self, name: str, number: int) -> Version:
        return self.world.version(f"eva/{name}", number)

    async def answer(self, name: str) -> tuple[int, float]:
        """The number of the version that answers, and what it makes of x = 1."""
        active = self.world.active(f"eva/{name}")
        return active.number, (await self.world.answer(active, x=1))["y"]

    async def restart(self) -> None:
        """Read folders and overrides again, as the next server will."""
        await self.world.scan()

    def folders(self, name: str) -> list[str]:
        """What is in a model's folder, hidden folders included."""
        return [file.removeprefix(f"eva/{name}/") for file in self.world.files() if file.startswith(f"eva/{name}/")]


async def receive(incoming: Incoming, file_name: str, content: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    await incoming.receive(file_name, chunks())


@pytest_asyncio.fixture(loop_scope="module")
async def house(tmp_path: Path, pool: Pool, jobs: Pool) -> AsyncIterator[House]:
    async with opened(tmp_path, pool) as world:
        yield House(world, jobs)


@contextlib.contextmanager
def refused(code: str) -> Any:
    with pytest.raises(EngineError) as caught:
        yield
    assert caught.value.code == code


# An upload becomes a version


async def test_a_first_upload_is_version_1_and_answers_from_every_replica(house: House) -> None:
    assert await house.publish("first", times(2)) == Published(1, True, [])
    assert await house.answer("first") == (1, 2)
    assert house.world.is_open_everywhere(house.version("first", 1))
    assert house.folders("first") == ["1", "1/config.json", "1/model.onnx"]


async def published_from_inside(house: House, factor: float) -> Published:
    """What a replica does: it writes the files of a model, and files of its own, into a folder."""
    async with house.publisher.incoming_from_inside("eva", "fitted") as incoming:
        (incoming.folder / "model.onnx").write_bytes(times(factor))
        (incoming.folder / "config.json").write_text(json.dumps(config()))
        (incoming.folder / "draws.npy").write_bytes(b"draws")
        incoming.note_files()
        return await house.publisher.publish(incoming)


async def test_files_that_are_there_already_become_a_version_and_the_same_files_no_other(house: House) -> None:
    assert await published_from_inside(house, 2) == Published(1, True, [])
    assert await house.answer("fitted") == (1, 2)
    assert "1/draws.npy" in house.folders("fitted")
    assert await published_from_inside(house, 2) == Published(1, False, [])
    assert (await published_from_inside(house, 3)).version == 2


async def test_what_is_made_inside_takes_no_place_of_an_upload(house: House) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_UPLOADS + 1):
            await stack.enter_async_context(house.publisher.incoming_from_inside("eva", "fitted"))
        assert (await house.publish("sent", times(2))).is_new
    assert house.folders("fitted") == []


async def test_models_that_the_server_makes_itself_leave_their_owner_its_quota(house: House) -> None:
    quotas = house.publisher.quotas
    await published_from_inside(house, 2)
    await house.publish("sent", times(2))
    before = quotas.room_bytes("eva")
    quotas.is_left_out = lambda owner, name: name == "fitted"
    assert quotas.room_bytes("eva") > before
    quotas.is_left_out = lambda owner, name: True
    assert quotas.room_bytes("eva") == house.publisher.limits.user_bytes


async def test_a_model_that_is_not_opened_ahead_is_published_without_being_opened(house: House) -> None:
    house.world.serving.opens_ahead = lambda owner, name: False
    await published_from_inside(house, 2)
    assert house.world.replicas_with(house.version("fitted", 1)) == []
    assert await house.answer("fitted") == (1, 2)


async def test_the_same_upload_again_is_not_new(house: House) -> None:
    await house.publish("same", times(2))
    assert await house.publish("same", times(2)) == Published(1, False, [])
    assert house.folders("same") == ["1", "1/config.json", "1/model.onnx"]
    for is_new in (True, False):
        assert await house.publish("same", times(2), config(description="doubles")) == Published(2, is_new, [])


async def test_another_upload_is_the_next_version_and_the_old_one_is_unloaded_after_its_users(house: House) -> None:
    await house.publish("next", times(2))
    old = house.version("next", 1)
    with house.world.serving.using(house.world.serving.served(old)):
        assert (await house.publish("next", times(3))).version == 2
        assert await house.answer("next") == (2, 3)
        assert house.world.is_open_everywhere(old)
    assert not house.world.replicas_with(old)
    assert house.world.is_open_everywhere(house.version("next", 2))


async def test_what_an_upload_does_not_say_stays_as_it_was(house: House) -> None:
    await house.publish("said", times(2), config(description="doubles", shared=True))
    await house.publish("said", times(3))
    model = house.model("said")
    assert (model.active_version, model.description, model.shared) == (2, "doubles", True)


async def test_an_upload_that_is_refused_leaves_nothing(house: House) -> None:
    for graph, sent in ((b"garbage", None), (times(2), config(colour="red"))):
        with refused("invalid_model"):
            await house.publish("never", graph, sent)
    with refused("body_too_large"):
        await house.publish("never", b"x" * (LIMIT_BYTES + 1))
    assert house.find("never") is None
    assert house.world.files() == []


async def test_a_refused_upload_leaves_the_active_version_as_it_was(house: House) -> None:
    await house.publish("refused", times(2))
    with refused("invalid_model"):
        await house.publish("refused", b"garbage")
    assert await house.answer("refused") == (1, 2)
    assert house.folders("refused") == ["1", "1/config.json", "1/model.onnx"]


async def test_two_publishes_of_one_model_at_once_become_two_versions(house: House) -> None:
    published = await asyncio.gather(house.publish("both", times(2)), house.publish("both", times(3)))
    assert sorted(one.version for one in published) == [1, 2]
    last = max(published, key=lambda one: one.version)
    assert await house.answer("both") == (2, 2 if last is published[0] else 3)


async def test_more_uploads_at_once_than_allowed_are_refused(house: House) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for i in range(MAX_UPLOADS):
            await stack.enter_async_context(house.publisher.incoming(f"eva{i}", "many"))
        with refused("too_many_requests"):
            await house.publish("many", times(2))
    assert house.world.files() == [], "the folders of uploads that were left are removed"
    assert (await house.publish("many", times(2))).is_new


async def test_one_owner_cannot_take_all_places_of_uploads(house: House) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for i in range(3):
            await stack.enter_async_context(house.publisher.incoming("tom", f"many{i}"))
        with refused("too_many_requests"):
            async with house.publisher.incoming("tom", "more"):
                pass
        assert (await house.publish("others", times(2))).is_new


async def test_a_publish_that_is_cancelled_during_its_check_leaves_nothing(house: House) -> None:
    publishing = asyncio.create_task(house.publish("left", slow(), counting(SLOW_TURNS)))
    await until(lambda: any(name.endswith("config.json") for name in house.folders("left")))
    publishing.cancel()
    await asyncio.wait([publishing])
    assert publishing.cancelled()
    assert house.world.files() == []
    assert (await house.publish("left", times(2))).version == 1


async def test_a_publish_that_is_cancelled_while_replicas_open_its_version_leaves_nothing_loaded(house: House) -> None:
    write(house.world.root, "eva/cancelled", times(2))
    await house.publisher.reload()
    await until(lambda: house.world.is_open_everywhere(house.version("cancelled", 1)))
    publishing = asyncio.create_task(house.publish("cancelled", slow(), counting(SLOW_TURNS)))
    await until(lambda: any(replica.num_opening for replica in house.world.pool.replicas))
    publishing.cancel()
    await asyncio.wait([publishing])
    assert publishing.cancelled()
    assert not house.world.replicas_with(house.version("cancelled", 2))
    assert not [name for name in house.folders("cancelled") if name.startswith(".")]
    await house.restart()
    assert await house.answer("cancelled") == (1, 2), "also after a restart, although version 2 is kept"
    assert (await house.publish("cancelled", times(3))).version == 3


async def test_a_published_embedding_model_is_listed_until_it_is_deleted(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, sent = SmallModels(tmp_path_factory.mktemp("small")).files()
    async with house.publisher.incoming("eva", "texts") as incoming:
        for path in folder.iterdir():
            await receive(incoming, path.name, path.read_bytes())
        await receive(incoming, "config.json", json.dumps(sent | {"owner": "eva", "name": "texts"}).encode())
        await house.publisher.publish(incoming)
    assert [model.name for model in house.world.listed.visible(None)] == ["eva/texts"]
    await house.publisher.delete("eva", "texts")
    assert house.world.listed.visible(None) == []
    assert read_names(house.world.root / LIST_FILE) == []
    assert house.world.files() == []


async def test_a_list_that_cannot_be_written_stops_a_publish_before_anything_changes(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With models.txt a folder, as with a full disk, nothing is published; once it can be written, the same upload is listed."""
    folder, sent = SmallModels(tmp_path_factory.mktemp("small")).files()

    async def publish() -> Published:
        async with house.publisher.incoming("eva", "unlisted") as incoming:
            for path in folder.iterdir():
                await receive(incoming, path.name, path.read_bytes())
            await receive(incoming, "config.json", json.dumps(sent | {"owner": "eva", "name": "unlisted"}).encode())
            return await house.publisher.publish(incoming)

    house.world.root.mkdir(exist_ok=True)
    blocked = house.world.root / "models.txt"
    blocked.mkdir()
    with pytest.raises(IsADirectoryError):
        await publish()
    assert house.find("unlisted") is None
    blocked.rmdir()
    assert (await publish()).is_new
    assert [model.name for model in house.world.listed.visible(None)] == ["eva/unlisted"]
    (house.world.root / "models.txt").write_text("")
    house.world.listed.read()
    assert house.world.listed.visible(None) == []
    assert not (await publish()).is_new, "the files are the same"
    assert [model.name for model in house.world.listed.visible(None)] == ["eva/unlisted"], "and the list is repaired"


async def test_a_name_that_was_listed_for_a_version_that_does_not_load_is_taken_off_again(house: House) -> None:
    house.world.root.mkdir(exist_ok=True)
    entered = house.world.listed.enter("eva", "gone")
    assert entered == "eva/gone"
    house.world.listed.withdraw(entered)
    assert (house.world.root / "models.txt").read_text() == ""


# Uploads wait for their own owner's checks


async def test_checks_of_one_owner_run_one_after_the_other_and_another_owner_goes_past(tmp_path: Path, pool: Pool) -> None:
    """Two replicas check: the uploads of eva take one of them, however many there are."""
    async with opened(tmp_path, pool) as world, running("jobs", 2, ReplicaOptions(is_lazy=True)) as checkers:
        house = House(world, checkers)
        hanging = [asyncio.create_task(house.publish(f"hang{i}", slow(), counting(10**15))) for i in range(3)]
        await until(lambda: any(replica.working_on for replica in checkers.replicas))
        async with asyncio.timeout(25), house.publisher.incoming("tom", "quick") as incoming:
            await receive(incoming, "model.onnx", times(2))
            assert (await house.publisher.publish(incoming)).is_new
        assert sum(replica.working_on is not None for replica in checkers.replicas) == 1
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)


# What others do meanwhile


async def test_a_user_of_a_version_does_not_hold_its_deletion_for_longer_than_the_drain(house: House) -> None:
    await house.publish("held", times(2))
    served = house.world.serving.served(house.version("held", 1))
    with house.world.serving.using(served):
        began = asyncio.get_running_loop().time()
        await house.publisher.delete("eva", "held")
        assert DRAIN_S - 0.1 < asyncio.get_running_loop().time() - began < DRAIN_S + 10
        assert house.find("held") is None
        number = (await house.publish("held", times(3))).version
    assert await house.answer("held") == (number, 3), "the old user's end does not unload the new version"


async def test_a_folder_that_was_removed_by_hand_is_told_and_can_be_published_again(house: House) -> None:
    await house.publish("byhand", times(2))
    await house.publish("byhand", times(3))
    shutil.rmtree(house.world.root / "eva/byhand/1")
    with refused("files_missing"):
        await house.publisher.delete_version("eva", "byhand", 1)
    shutil.rmtree(house.world.root / "eva/byhand")
    assert (await house.publish("byhand", times(3))).is_new
    assert (await house.answer("byhand"))[1] == 3
    shutil.rmtree(house.world.root / "eva/byhand")
    await house.publisher.delete("eva", "byhand")
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(refused("files_missing"))
        incoming = await stack.enter_async_context(house.publisher.incoming("eva", "byhand"))
        shutil.rmtree(house.world.root / "eva")
        await receive(incoming, "model.onnx", times(2))


# Activate and share


async def test_an_older_version_is_activated_again_and_stays_active(house: House) -> None:
    await house.publish("back", times(2))
    await house.publish("back", times(3))
    await house.publisher.activate("eva", "back", 1)
    assert await house.answer("back") == (1, 2)
    assert house.world.is_open_everywhere(house.version("back", 1))
    assert not house.world.replicas_with(house.version("back", 2))
    await house.publisher.activate("eva", "back", 1)
    await house.restart()
    assert await house.answer("back") == (1, 2)


async def test_a_version_that_does_not_load_is_not_activated(house: House) -> None:
    await house.publish("spoiled", times(2))
    await house.publish("spoiled", times(3))
    (house.world.root / "eva/spoiled/1/model.onnx").write_bytes(b"spoiled")
    with refused("load_failed"):
        await house.publisher.activate("eva", "spoiled", 1)
    assert await house.answer("spoiled") == (2, 3)
    await house.restart()
    assert await house.answer("spoiled") == (2, 3)
    assert (await house.publish("spoiled", times(4))).version == 3


async def test_a_version_that_is_not_kept_is_not_activated(house: House) -> None:
    await house.publish("known", times(2))
    for name, number in (("known", 2), ("unknown", 1)):
        with refused("model_not_found"):
            await house.publisher.activate("eva", name, number)


async def test_sharing_stays_after_another_version_and_a_restart(house: House) -> None:
    await house.publish("given", times(2))
    assert not house.model("given").shared
    await house.publisher.share("eva", "given", True)
    assert house.model("given").shared
    await house.publish("given", times(3))
    await house.restart()
    assert house.model("given").shared
    await house.publisher.share("eva", "given", False)
    await house.restart()
    assert not house.model("given").shared


# Delete and prune


async def test_the_active_version_is_not_deleted_alone(house: House) -> None:
    await house.publish("active", times(2))
    with refused("active_version"):
        await house.publisher.delete_version("eva", "active", 1)
    with refused("model_not_found"):
        await house.publisher.delete_version("eva", "active", 2)
    assert await house.answer("active") == (1, 2)


async def test_a_version_is_deleted_with_its_folder_once_its_users_have_left(house: House) -> None:
    await house.publish("going", times(2))
    await house.publish("going", times(3))
    with house.world.serving.using(house.world.serving.served(house.version("going", 1))):
        deleting = asyncio.create_task(house.publisher.delete_version("eva", "going", 1))
        await until(lambda: house.model("going").numbers == [2])
        assert "1" in house.folders("going")
        assert not deleting.done()
    await deleting
    assert house.folders("going") == ["2", "2/config.json", "2/model.onnx"]
    assert await house.answer("going") == (2, 3)


async def test_a_model_is_deleted_with_its_folders_once_its_users_have_left(house: House) -> None:
    await house.publish("deleted", times(2))
    await house.publish("deleted", times(3))
    version = house.version("deleted", 2)
    with house.world.serving.using(house.world.serving.served(version)):
        deleting = asyncio.create_task(house.publisher.delete("eva", "deleted"))
        await until(lambda: "1" not in house.folders("deleted"))
        assert house.find("deleted") is None
        assert "2" in house.folders("deleted")
        assert house.world.is_open_everywhere(version)
        assert not deleting.done()
    await deleting
    assert house.world.files() == []
    assert not house.world.replicas_with(version)
    with refused("model_not_found"):
        await house.publisher.delete("eva", "deleted")


async def test_numbers_are_never_used_again(house: House) -> None:
    await house.publish("numbers", times(1))
    await house.publish("numbers", times(2))
    await house.publisher.activate("eva", "numbers", 1)
    await house.publisher.delete_version("eva", "numbers", 2)
    assert (await house.publish("numbers", times(3))).version == 3
    await house.publisher.delete("eva", "numbers")
    await house.restart()
    assert (await house.publish("numbers", times(4))).version == 4


async def test_numbers_that_somebody_gave_by_hand_are_never_used_again_either(house: House) -> None:
    for number in (6, 7):
        write(house.world.root, "eva/seven", times(number), number=number)
    await house.publisher.reload()
    await house.publisher.activate("eva", "seven", 6)
    await house.publisher.delete_version("eva", "seven", 7)
    assert (await house.publish("seven", times(8))).version == 8
    write(house.world.root, "eva/seven", times(9), number=9)
    await house.publisher.reload()
    await house.publisher.delete("eva", "seven")
    assert (await house.publish("seven", times(10))).version == 10


async def test_the_config_that_all_versions_share_is_deleted_with_their_model(house: House) -> None:
    folder = write(house.world.root, "eva/common", times(2))
    (folder / "config.json").rename(folder.with_name("config.json"))
    await house.publisher.reload()
    assert await house.answer("common") == (1, 2)
    await house.publisher.delete("eva", "common")
    assert house.world.files() == []


async def test_a_model_that_was_deleted_and_published_again_begins_afresh(house: House) -> None:
    await house.publish("afresh", times(1))
    await house.publisher.share("eva", "afresh", True)
    await house.publisher.delete("eva", "afresh")
    await house.publish("afresh", times(2))
    assert not house.model("afresh").shared
    assert await house.answer("afresh") == (2, 2)


async def test_what_was_changed_about_a_deleted_model_does_not_hold_for_a_folder_that_somebody_puts_there(house: House) -> None:
    await house.publish("revived", times(1))
    await house.publisher.share("eva", "revived", True)
    await house.publisher.delete("eva", "revived")
    write(house.world.root, "eva/revived", times(2))
    await house.publisher.reload()
    assert not house.model("revived").shared


async def test_what_was_changed_about_a_model_does_not_hold_after_somebody_took_it_away(house: House) -> None:
    await house.publish("vanished", times(1))
    await house.publisher.share("eva", "vanished", True)
    shutil.rmtree(house.world.root / "eva/vanished")
    await house.publisher.reload()
    await house.publish("vanished", times(2))
    assert not house.model("vanished").shared


async def test_the_newest_versions_are_kept(house: House) -> None:
    for factor in range(1, KEEP_VERSIONS + 3):
        await house.publish("kept", times(factor))
    assert house.model("kept").numbers == [3, 4, 5]
    assert [name for name in house.folders("kept") if "/" not in name] == ["3", "4", "5"]


async def test_a_version_in_use_is_kept_until_the_next_upload(house: House) -> None:
    await house.publish("busy", times(1))
    with house.world.serving.using(house.world.serving.served(house.version("busy", 1))):
        for factor in range(2, KEEP_VERSIONS + 2):
            await house.publish("busy", times(factor))
        assert house.model("busy").numbers == [1, 2, 3, 4]
    await house.publish("busy", times(9))
    assert house.model("busy").numbers == [3, 4, 5]


# Models that ship, and folders that somebody else changes


async def test_a_shipped_model_is_neither_deleted_nor_shared_otherwise(house: House) -> None:
    write(house.world.shipped, "eva/shipped", times(2))
    await house.publisher.reload()
    changes: list[Callable[[], Any]] = [
        lambda: house.publisher.delete("eva", "shipped"),
        lambda: house.publisher.share("eva", "shipped", False),
    ]
    for change in changes:
        with refused("shipped_model"):
            await change()
    with refused("shipped_model"):
        house.publisher.check_shareable("eva", "shipped")
    assert await house.answer("shipped") == (1, 2)


async def test_a_shipped_version_stays_but_one_published_beside_it_may_be_deleted(house: House) -> None:
    write(house.world.shipped, "eva/beside", times(2))
    await house.publisher.reload()
    assert (await house.publish("beside", times(3))).version == 2
    assert house.folders("beside") == ["2", "2/config.json", "2/model.onnx"]
    with refused("shipped_model"):
        await house.publisher.delete_version("eva", "beside", 1)
    await house.publisher.activate("eva", "beside", 1)
    await house.publisher.delete_version("eva", "beside", 2)
    assert house.world.files() == []
    assert await house.answer("beside") == (1, 2)


async def test_shipped_versions_are_not_pruned(house: House) -> None:
    write(house.world.shipped, "eva/crowded", times(1))
    await house.publisher.reload()
    for factor in range(2, KEEP_VERSIONS + 3):
        await house.publish("crowded", times(factor))
    assert house.model("crowded").numbers == [1, 3, 4, 5]


async def test_reload_finds_a_folder_that_somebody_put_there_and_every_replica_opens_it(house: House) -> None:
    write(house.world.root, "eva/byhand", times(2))
    assert house.find("byhand") is None
    assert await house.publisher.reload() == 1
    await until(lambda: house.world.is_open_everywhere(house.version("byhand", 1)))
    write(house.world.root, "eva/byhand", times(3), number=2)
    await house.publisher.reload()
    assert await house.answer("byhand") == (2, 3)
    assert (await house.publish("byhand", times(4))).version == 3


async def test_reload_forgets_and_unloads_what_somebody_took_away(house: House) -> None:
    for number in (1, 2):
        await house.publish("taken", times(number))
    await house.publish("whole", times(9))
    version, whole = house.version("taken", 2), house.version("whole", 1)
    shutil.rmtree(house.world.root / "eva/taken/2")
    shutil.rmtree(house.world.root / "eva/whole")
    assert await house.publisher.reload() == 1
    assert await house.answer("taken") == (1, 1)
    assert house.find("whole") is None
    assert not house.world.replicas_with(version)
    assert not house.world.replicas_with(whole)
