"""What the front door cannot show of datasets: which files a reader holds, how a commit ends, which segments are merged."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.accounts import Caller
from engine.columns import Column
from engine.datasets import Conditions, Dataset, DatasetChanges, DatasetLimits, Datasets, Readable, Sources
from engine.datasets.changes import NewRows
from engine.datasets.folders import DatasetFolder
from engine.datasets.merging import MAX_SEGMENTS, SEGMENT_ROWS, mergeable, replaced
from engine.datasets.names import parse_source
from engine.datasets.versions import DatasetVersion, StoredSegment
from engine.disk import Disk
from engine.engine import JOBS_OPTIONS
from engine.errors import EngineError
from engine.frames import Buffer
from engine.ingestion import Ingestion, IngestionLimits, Order, UploadOptions
from engine.ingestion.uploads import BLOCK_BYTES, BLOCKS_PER_REPLICA
from engine.replicas.lines import LineSpan
from engine.replicas.pool import Pool
from engine.repository.listed import ListedModel
from engine.store import Store

EVA = Caller("eva", "full", is_admin=False)
TOM = Caller("tom", "full", is_admin=False)


class House:
    """A catalogue over real files and a real database. Its segments have no rows in them: nothing here opens them."""

    def __init__(self, data_dir: Path, store: Store) -> None:
        self.datasets = Datasets(data_dir / "datasets", store)
        self.sources = Sources([self.datasets])
        self.changes = DatasetChanges(self.datasets, Disk(data_dir, reserve_bytes=0), DatasetLimits(3, 10, 1000))

    async def append(self, *, config: str = "default", split: str = "train", replaces: bool = False) -> DatasetVersion:
        """A new version of eva/facts with one more segment, or with this one only."""
        folder = await self.changes.folder("eva", "facts")
        staging = folder.make_staging()
        new = StoredSegment(secrets.token_hex(16), 10, 100, config, split, (0,))
        (staging / new.id).mkdir()
        (staging / new.id / "rows.parquet").write_bytes(b"rows")
        async with self.changes.turn("eva", "facts") as dataset:
            kept = dataset.head.segments if dataset and not replaces else ()
            rows = NewRows("append", "eva", [Column(0, "n", "int64")], [*kept, new], [staging / new.id])
            version = await self.changes.commit(folder, "eva", "facts", rows)
        folder.remove_staging(staging)
        return version

    def reading(self, source: str, caller: Caller = EVA, wait_s: float = 30) -> AbstractAsyncContextManager[Readable]:
        return self.sources.reading(source, caller, wait_s)

    @property
    def facts(self) -> Dataset:
        return self.datasets.find(EVA, "eva", "facts")

    def on_disk(self) -> set[str]:
        return {path.name for path in self.datasets.root.glob("eva/facts/.sluice/segments/*")}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(tmp_path / "sluice.db")
    house = House(tmp_path, store)
    await house.datasets.open()
    yield house
    await house.datasets.close()
    await store.close()


# Readers


async def test_segments_stay_while_a_query_reads_them_and_go_with_the_last_reader(house: House) -> None:
    first = await house.append()
    [old] = first.segments
    async with house.reading("eva/facts") as one, house.reading("eva/facts@1"):
        for _ in range(3):
            await house.append(replaces=True)
        assert 1 not in house.facts.versions
        assert old.id in house.on_disk()
        assert one.grant()["segments"] == [{"id": old.id, "rows": 10}]
    await house.datasets.close()
    assert house.on_disk() == {segment.id for segment in house.facts.segments}


async def test_a_dataset_that_is_deleted_under_a_query_leaves_its_files_until_the_end(house: House) -> None:
    [old] = (await house.append()).segments
    async with house.reading("eva/facts"):
        await house.changes.delete(house.facts, Conditions())
        with pytest.raises(EngineError, match="There is no dataset"):
            house.facts  # noqa: B018 - it raises
        assert house.on_disk() == {old.id}
        [new] = (await house.append()).segments
        assert house.on_disk() == {old.id, new.id}
    await house.datasets.close()
    assert house.on_disk() == {new.id}
    assert house.facts.head.number == 1


async def test_the_folder_of_a_deleted_dataset_goes_with_its_last_reader(house: House) -> None:
    await house.append()
    async with house.reading("eva/facts"):
        await house.changes.delete(house.facts, Conditions())
    await house.datasets.close()
    assert not (house.datasets.root / "eva").exists()


async def test_a_query_waits_until_missing_sidecars_are_made(house: House) -> None:
    await house.append()
    house.facts.is_whole.clear()

    async def read() -> str:
        async with house.reading("eva/facts") as readable:
            return readable.title

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    assert not reading.done()
    house.facts.is_whole.set()
    assert await reading == "eva/facts@1"


async def test_a_source_names_a_config_a_split_and_a_version(house: House) -> None:
    ids = [(await house.append(config=config, split=split)).segments[-1].id for config, split in
           (("other", "test"), ("default", "test"), ("default", "train"))]  # fmt: skip
    expected = {
        "eva/facts": [ids[2]],
        "hub://eva/facts/test": [ids[1]],
        "eva/facts/other/test": [ids[0]],
        "eva/facts@2": [ids[1]],
        "eva/facts@1": [ids[0]],
    }
    for name, found in expected.items():
        async with house.reading(name) as readable:
            assert [segment.id for segment in readable.segments] == found


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("eva/facts/none", "dataset_not_found"),
        ("eva/none", "dataset_not_found"),
        ("facts", "dataset_not_found"),
        ("eva/facts@9", "version_not_found"),
        ("eva/facts@x", "bad_name"),
        ("../facts", "bad_name"),
        ("/etc/passwd", "bad_name"),
        ("s3://eva/facts", "bad_name"),
        ("a/b/c/d/e", "bad_name"),
    ],
)
async def test_a_source_that_is_not_there_or_no_name_is_refused(house: House, name: str, code: str) -> None:
    await house.append()
    with pytest.raises(EngineError) as refused:
        async with house.reading(name):
            pass
    assert refused.value.code == code


async def test_a_foreign_source_is_refused_in_the_words_of_a_missing_one(house: House) -> None:
    await house.append()
    messages = []
    for name in ("eva/facts", "eva/fakes"):
        with pytest.raises(EngineError) as refused:
            async with house.reading(name, TOM):
                pass
        messages.append((refused.value.code, refused.value.message.replace("fakes", "facts")))
    assert messages[0] == messages[1]


async def test_a_query_hears_that_sidecars_are_being_made_when_its_time_is_over(house: House) -> None:
    await house.append()
    house.facts.is_whole.clear()
    with pytest.raises(EngineError) as refused:
        async with house.reading("eva/facts", wait_s=0):
            pass
    assert (refused.value.code, refused.value.retry_after_s) == ("dataset_not_ready", 1)


@pytest.mark.parametrize(
    ("text", "meanings"),
    [
        ("a", [(None, "a", None, None)]),
        ("a/b", [("a", "b", None, None), (None, "a", None, "b")]),
        ("a/b/c", [("a", "b", None, "c"), (None, "a", "b", "c")]),
        ("a/b/c/d", [("a", "b", "c", "d")]),
        ("a@b/c", [("a@b", "c", None, None)]),
        ("a/_b", [(None, "a", None, "_b")]),
    ],
)
def test_a_source_may_mean_a_dataset_with_an_org_or_one_without(text: str, meanings: list[object]) -> None:
    found = parse_source(f"hub://{text}@7")
    assert [(one.org, one.name, one.config, one.split) for one in found] == meanings
    assert {one.version for one in found} == {7}


@given(st.text(max_size=60))
def test_any_text_is_a_source_or_is_refused(text: str) -> None:
    with contextlib.suppress(EngineError):
        for source in parse_source(text):
            assert not {"..", "/", ""} & {source.org, source.name, source.config, source.split}
        return
    with pytest.raises(EngineError, match="A source is hub://org/name"):
        parse_source(text)


# Commits


async def test_a_commit_comes_to_its_end_when_its_caller_is_cancelled(house: House) -> None:
    """Else the disk would have a version that memory does not know."""
    await house.append()
    appending = asyncio.create_task(house.append())
    while not appending.done():
        if len(house.on_disk()) == 2:
            appending.cancel()
        await asyncio.sleep(0)
    assert house.facts.head.number == DatasetFolder(house.datasets.root, "eva", "facts").head()


async def test_a_commit_that_fails_leaves_the_version_before(house: House) -> None:
    """A folder stands where HEAD would be written first."""
    await house.append()
    obstacle = house.datasets.root / "eva/facts/.sluice/.HEAD.new"
    obstacle.mkdir()
    (obstacle / "file").touch()
    card = (house.datasets.root / "eva/facts/README.md").read_text()
    with pytest.raises(OSError, match="HEAD"):
        await house.append()
    assert house.facts.head.number == 1
    assert house.on_disk() == {segment.id for segment in house.facts.head.segments}
    assert (house.datasets.root / "eva/facts/README.md").read_text() == card
    assert not (house.datasets.root / "eva/facts/.sluice/versions/2.json").exists()


@pytest.mark.parametrize("card", ["# Facts\n", "---\nconfigs:\n- config_name: a\n---\n# eva/facts\n", b"\xff".decode("latin-1")])
async def test_a_card_that_a_person_wrote_outlives_a_folder_of_ours_without_a_version(house: House, card: str) -> None:
    folder = house.datasets.root / "eva/facts"
    (folder / ".sluice/staging").mkdir(parents=True)
    (folder / "README.md").write_text(card, encoding="latin-1")
    assert DatasetFolder(house.datasets.root, "eva", "facts").recover() == {}
    assert (folder / "README.md").read_text(encoding="latin-1") == card
    assert not (folder / ".sluice").exists()


@pytest.mark.parametrize("has_rows", [True, False])
async def test_a_card_of_a_version_that_was_never_current_goes(house: House, has_rows: bool) -> None:
    version = await house.append()
    folder = DatasetFolder(house.datasets.root, "eva", "facts")
    folder.write_readme(version if has_rows else replace(version, segments=()), "What is known.")
    (house.datasets.root / "eva/facts/.sluice/HEAD").unlink()
    assert folder.recover() == {}
    assert not (house.datasets.root / "eva").exists()


async def test_what_was_committed_is_read_again_by_the_next_server(house: House) -> None:
    await house.append()
    await house.append(split="test")
    await house.changes.describe(house.facts, Conditions(), visibility="public", description="Facts.")
    again = Datasets(house.datasets.root, house.datasets.store)
    await again.open()
    facts = again.find(TOM, "eva", "facts")
    assert (facts.row, facts.head.as_json()) == (house.facts.row, house.facts.head.as_json())
    first, second = facts.versions[1].segments[0], facts.versions[2].segments[0]
    assert first is second


# Merges


def segments(*num_rows: int, split: str = "train") -> list[StoredSegment]:
    return [StoredSegment(secrets.token_hex(4), rows, rows, split=split, nulls=(0,)) for rows in num_rows]


def test_few_segments_are_left_alone() -> None:
    assert mergeable(segments(*[1] * MAX_SEGMENTS)) == ()


def test_the_smallest_neighbours_are_merged() -> None:
    many = segments(*[1000] * 8, *[1] * 9)
    assert mergeable(many) == many[-9:]


def test_large_segments_are_left_alone_and_do_not_count() -> None:
    assert mergeable(segments(*[SEGMENT_ROWS] * 20, *[1] * MAX_SEGMENTS)) == ()


def test_a_row_is_written_again_a_few_times_only_however_many_appends_come() -> None:
    many: list[StoredSegment] = []
    rows_written = 0
    for _ in range(1000):
        many += segments(100)
        if old := mergeable(many):
            rows_written += sum(one.num_rows for one in old)
            many = replaced(many, old, segments(sum(one.num_rows for one in old))) or []
        assert len(many) <= MAX_SEGMENTS
    assert rows_written < 8 * 100_000


def test_neighbours_are_those_of_one_split_whatever_stands_between_them() -> None:
    """No source has two splits, so nobody sees in which order these stand."""
    train, test = segments(*[1] * 9), segments(*[2] * 9, split="test")
    many = [one for pair in zip(train, test, strict=True) for one in pair]
    assert mergeable(many) == train
    [new] = segments(9)
    assert replaced(many, train, [new]) == [new, *test]


def test_a_merge_makes_no_segment_that_is_too_large() -> None:
    many = segments(*[SEGMENT_ROWS // 3] * 20)
    assert len(mergeable(many)) == 3


@given(st.lists(st.integers(1, SEGMENT_ROWS), max_size=60))
def test_merging_comes_to_an_end_and_keeps_every_row(num_rows: Sequence[int]) -> None:
    many: list[StoredSegment] | None = segments(*num_rows)
    merges = 0
    while many is not None and (old := mergeable(many)):
        before = sum(one.num_rows for one in many)
        many = replaced(many, old, segments(sum(one.num_rows for one in old)))
        assert many is not None
        assert sum(one.num_rows for one in many) == before
        merges += 1
    assert merges <= len(num_rows)


def test_what_is_no_neighbour_any_more_is_not_replaced() -> None:
    many = segments(*range(1, 21))
    old = many[3:7]
    assert replaced(many, old, segments(22)) is not None
    assert replaced([*many[:4], *many[5:]], old, segments(22)) is None
    assert replaced(many[4:], old, segments(22)) is None
    assert replaced(many[:6], old, segments(22)) is None


# Uploads


class NoEmbedder:
    """For uploads that embed nothing."""

    def find_model(self, caller: Caller, name: str | None) -> ListedModel:
        raise NotImplementedError

    async def embed_lines(self, model: ListedModel, lines: memoryview, num_lines: int) -> list[Buffer]:
        raise NotImplementedError


def block(first_line: int) -> LineSpan:
    """As many lines as are sent to a replica at once."""
    line = b'{"n":1}\n'
    num_lines = -(-BLOCK_BYTES // len(line))
    return LineSpan(line * num_lines, 0, len(line) * num_lines, num_lines, first_line)


async def test_an_upload_that_breaks_off_before_a_block_has_begun_gives_the_place_of_the_block_back(house: House) -> None:
    jobs = Pool("jobs", 1, JOBS_OPTIONS, silence_limit_s=30)
    await jobs.start()
    ingestion = Ingestion(house.changes, jobs, NoEmbedder(), IngestionLimits(max_uploads_per_user=4))
    order = Order("eva", "facts", "append", "eva", UploadOptions(), Conditions(), {}, is_counted=False)
    num_lines = block(1).num_lines
    async with asyncio.timeout(60), ingestion.upload(order) as other:  # what a user may have in work is kept while one is open
        for _ in range(BLOCKS_PER_REPLICA + 1):
            with contextlib.suppress(ConnectionResetError):
                async with ingestion.upload(order) as upload:
                    await upload.feed(block(1))
                    await upload.feed(block(num_lines + 1))
                    raise ConnectionResetError
        await other.feed(block(1))
        assert (await other.finish(no_objection)).added == num_lines
    await jobs.stop()


async def no_objection() -> None:
    """Nothing has changed while the rows came."""
