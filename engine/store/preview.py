"""What preview knows: the state of each dataset and split, and their finished answers.

The changes are steps of a transaction that the caller opens, so that all of an event is written or nothing. Knows no kind of job,
no file and no endpoint.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import aiosqlite

from engine.store.connection import Database, Transaction

CacheStatus = Literal["empty", "error", "stalled", "valid"]
# Of what is made after the first rows: the Parquet files and the statistics.
LaterStatus = Literal["none", "waiting", "ok", "failed"]

# A generation that no dataset had before.
NEXT_GENERATION = "UPDATE preview_generation SET number = number + 1 RETURNING number"
# What is known of one dataset?
FIND_DATASET = "SELECT {columns} FROM preview_dataset WHERE name = ?"
# What is known of all datasets that are not removed, in the order in which they came?
LIST_CACHED = "SELECT {columns} FROM preview_dataset WHERE NOT is_removed ORDER BY id"
# Which datasets were ever private?
LIST_ALL = "SELECT {columns} FROM preview_dataset ORDER BY id"
# A dataset is known from now on, with nothing in it yet.
ADD_DATASET = "INSERT INTO preview_dataset (name, status, generation, is_private) VALUES (?, 'empty', ?, ?)"
# What the cache says of datasets that few may see.
MARK_PRIVATE = "UPDATE preview_dataset SET is_private = 1 WHERE name IN (SELECT value FROM json_each(?)) AND NOT is_private"
# A dataset that was removed may be cached again.
BRING_BACK = "UPDATE preview_dataset SET is_removed = 0 WHERE name = ?"
# A dataset has this listing.
SET_LISTED = """
    UPDATE preview_dataset
    SET status = 'valid', error = NULL, is_listed = 1, root = ?, revision = ?, is_private = max(is_private, ?)
    WHERE name = ? AND generation = ?
"""
# A dataset could not be listed; a listing that it has stays.
SET_DATASET_ERROR = """
    UPDATE preview_dataset SET status = 'error', error = :error, root = coalesce(:root, root),
        revision = coalesce(:revision, revision), is_private = max(is_private, coalesce(:is_private, 0))
    WHERE name = :name AND generation = :generation
"""
# A dataset is taken out: its row says so, and nothing else.
SET_REMOVED = """
    UPDATE preview_dataset SET is_removed = 1, status = 'empty', error = NULL, is_listed = 0, revision = '', generation = ?
    WHERE name = ?
"""
REMOVE_SPLITS = "DELETE FROM preview_split WHERE dataset = ?"
# A dataset is not known any more.
FORGET_DATASET = "DELETE FROM preview_dataset WHERE name = ?"
# Nothing is known of any dataset that was not removed.
CLEAR_CACHE = "DELETE FROM preview_dataset WHERE NOT is_removed"
# Nor are the jobs of a dataset that few may know of.
FORGET_JOBS = "DELETE FROM job WHERE dataset = ? AND status IN ('success', 'error', 'cancelled')"

# What is known of the splits of one dataset, in listing order; what are they called; what is known of one split; of all?
LIST_SPLITS = "SELECT {columns} FROM preview_split WHERE dataset = ? ORDER BY place, id"
LIST_SPLIT_NAMES = "SELECT config, split FROM preview_split WHERE dataset = ? AND split <> '' ORDER BY place, id"
FIND_SPLIT = "SELECT {columns} FROM preview_split WHERE dataset = ? AND config = ? AND split = ?"
LIST_ALL_SPLITS = """
    SELECT s.dataset, s.config, s.split, s.status, s.error, s.about IS NOT NULL
    FROM preview_split s JOIN preview_dataset d ON d.name = s.dataset ORDER BY d.id, s.place, s.id
"""
# A split is listed: a new one is empty, and the answer of one that was valid is of an older state now.
PUT_SPLIT = """
    INSERT INTO preview_split (dataset, config, split, place, status, num_bytes, num_examples, error)
    VALUES (:dataset, :config, :split, :place, iif(:error IS NULL, 'empty', 'error'), :num_bytes, :num_examples, :error)
    ON CONFLICT (dataset, config, split) DO UPDATE SET
        place = excluded.place, num_bytes = excluded.num_bytes, num_examples = excluded.num_examples,
        error = iif(:is_config, excluded.error, error),
        status = iif(:is_config, 'error', iif(status = 'valid', 'stalled', status))
"""
REMOVE_SPLIT = "DELETE FROM preview_split WHERE id = ?"
# A split has this answer, and what is made later must be made anew unless it is there already.
SET_SPLIT_VALID = """
    UPDATE preview_split SET status = 'valid', error = NULL, revision = :revision, run = :run, about = :about
    WHERE id = :id
"""
PUT_ANSWER = """
    INSERT INTO preview_answer (split, endpoint, plain, gzip) VALUES (?, ?, ?, ?)
    ON CONFLICT (split, endpoint) DO UPDATE SET plain = excluded.plain, gzip = excluded.gzip
"""
# A split could not be read; the answer that it has stays.
SET_SPLIT_ERROR = "UPDATE preview_split SET status = 'error', error = ? WHERE id = ?"
SET_PREPARE = "UPDATE preview_split SET prepare = ?, prepare_error = ?, prepared = coalesce(?, prepared) WHERE id = ?"
# The Parquet files of a split are lost.
FORGET_PREPARED = "UPDATE preview_split SET prepare = 'waiting', prepared = NULL WHERE id = ?"
# A dataset has other Parquet files from now on.
SET_VERSION = "UPDATE preview_dataset SET version = ? WHERE name = ?"
SET_STATISTICS = "UPDATE preview_split SET statistics = ?, statistics_error = ? WHERE id = ?"
# The bytes of one answer.
FIND_ANSWER = "SELECT plain, gzip FROM preview_answer WHERE split = ? AND endpoint = ?"

# How many datasets and splits are there, by status?
COUNT_DATASETS = "SELECT status, count(*) FROM preview_dataset WHERE NOT is_removed GROUP BY status"
COUNT_SPLITS = "SELECT status, count(*) FROM preview_split GROUP BY status"
# Which runs and prepared files are in use?
LIST_RUNS = "SELECT run FROM preview_split WHERE run <> ''"
LIST_PREPARED = "SELECT prepared FROM preview_split WHERE prepared IS NOT NULL"
LIST_PREPARED_SPLITS = "SELECT {columns} FROM preview_split WHERE prepared IS NOT NULL"
# How many jobs of these kinds wait?
COUNT_WAITING = "SELECT count(*) FROM job WHERE status = 'waiting' AND kind IN (SELECT value FROM json_each(?))"

ADD_DOWNLOADS = """
    INSERT INTO preview_download (dataset, number) VALUES (?, ?)
    ON CONFLICT (dataset) DO UPDATE SET number = number + excluded.number
"""
LIST_DOWNLOADS = "SELECT dataset, number FROM preview_download"


@dataclass(frozen=True, slots=True)
class CachedDataset:
    """One dataset.

    generation  new with each removal
    is_listed   its splits are known, perhaps as they were before an error
    root        absolute path of the root that holds it
    error       JSON, as engine/preview/faults.py writes it
    version     of what is prepared: the id of the last job that has changed it; 0 before there is anything
    """

    name: str
    status: CacheStatus
    generation: int
    is_removed: int
    is_private: int
    is_listed: int
    root: str
    revision: str
    error: str | None
    version: int


@dataclass(frozen=True, slots=True)
class CachedSplit:
    """One split, or a config that could not be listed: `split` is empty then.

    num_bytes, num_examples  as declared
    revision, run            of the answer that it has
    about                    JSON: the header that came with the answer; None while there is none
    prepared                 JSON: the header of what was prepared; None while there is nothing
    """

    id: int
    dataset: str
    config: str
    split: str
    status: CacheStatus
    num_bytes: int | None
    num_examples: int | None
    revision: str
    run: str
    about: str | None
    error: str | None
    prepare: LaterStatus
    prepared: str | None
    prepare_error: str | None
    statistics: LaterStatus
    statistics_error: str | None


@dataclass(frozen=True, slots=True)
class ListedSplit:
    """A split as a listing names it, or a config that could not be listed, with its error as JSON and an empty split."""

    config: str
    split: str
    num_bytes: int | None = None
    num_examples: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What reports say of a split. has_rows: it has an answer, perhaps of an older state."""

    dataset: str
    config: str
    split: str
    status: CacheStatus
    error: str | None
    has_rows: int


DATASET_COLUMNS = ", ".join(one.name for one in fields(CachedDataset))
SPLIT_COLUMNS = ", ".join(one.name for one in fields(CachedSplit))


class PreviewStore(Database):
    """What the store answers about preview.

    on_preview_change  is told after each commit that changed what is cached of a dataset
    """

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        super().__init__(writer, reader)
        self.on_preview_change: Callable[[str], object] = str

    # In a transaction of the caller

    async def ask_for_dataset(self, transaction: Transaction, name: str, *, is_private: bool = False) -> int:
        """Make sure that a dataset is known and not removed; returns its generation."""
        rows = await transaction.rows(FIND_DATASET.format(columns=DATASET_COLUMNS), (name,))
        if rows:
            known = CachedDataset(*rows[0])
            if known.is_removed:
                await transaction.run(BRING_BACK, (name,))
            return known.generation
        generation = await self._next_generation(transaction)
        await transaction.run(ADD_DATASET, (name, generation, int(is_private)))
        return generation

    async def cached_dataset(self, transaction: Transaction, name: str, generation: int | None = None) -> CachedDataset | None:
        """A dataset as it is now, if it is in this generation and not removed."""
        rows = await transaction.rows(FIND_DATASET.format(columns=DATASET_COLUMNS), (name,))
        found = CachedDataset(*rows[0]) if rows else None
        if found is None or found.is_removed or generation not in (None, found.generation):
            return None
        return found

    async def cached_splits(self, transaction: Transaction, name: str) -> list[CachedSplit]:
        rows = await transaction.rows(LIST_SPLITS.format(columns=SPLIT_COLUMNS), (name,))
        return [CachedSplit(*row) for row in rows]

    async def cached_split(self, transaction: Transaction, name: str, config: str, split: str) -> CachedSplit | None:
        rows = await transaction.rows(FIND_SPLIT.format(columns=SPLIT_COLUMNS), (name, config, split))
        return CachedSplit(*rows[0]) if rows else None

    async def set_listed(
        self,
        transaction: Transaction,
        dataset: CachedDataset,
        root: str,
        revision: str,
        is_private: bool,
        found: Sequence[ListedSplit],
    ) -> list[CachedSplit]:
        """A dataset has this listing from now on; returns the splits that were in the listing before and are not any more."""
        await transaction.run(SET_LISTED, (root, revision, int(is_private), dataset.name, dataset.generation))
        named = {(one.config, one.split) for one in found}
        gone = [one for one in await self.cached_splits(transaction, dataset.name) if (one.config, one.split) not in named]
        for split in gone:
            await transaction.run(REMOVE_SPLIT, (split.id,))
        for place, one in enumerate(found):
            values = {name: getattr(one, name) for name in ("config", "split", "num_bytes", "num_examples", "error")}
            about = {"dataset": dataset.name, "place": place, "is_config": not one.split}
            await transaction.run(PUT_SPLIT, {**values, **about})
        return gone

    async def set_dataset_error(
        self,
        transaction: Transaction,
        dataset: CachedDataset,
        error: str,
        *,
        root: str | None = None,
        revision: str | None = None,
        is_private: bool | None = None,
    ) -> None:
        """A dataset could not be listed. What is None is left as it is."""
        values = {"name": dataset.name, "generation": dataset.generation, "error": error, "root": root, "revision": revision}
        await transaction.run(SET_DATASET_ERROR, {**values, "is_private": None if is_private is None else int(is_private)})

    async def remove_dataset_from_cache(self, transaction: Transaction, name: str) -> None:
        """All of it goes but a row that says so; work that was asked for before changes nothing any more."""
        await transaction.run(REMOVE_SPLITS, (name,))
        await transaction.run(SET_REMOVED, (await self._next_generation(transaction), name))

    async def clear_preview(self, transaction: Transaction) -> None:
        """All of the cache goes. A dataset is cached anew when it is asked for; one that was removed stays removed."""
        await transaction.run(CLEAR_CACHE)

    async def forget_dataset(self, transaction: Transaction, dataset: CachedDataset) -> None:
        """A dataset is not there any more. If few could see it, nobody sees its old jobs."""
        await transaction.run(FORGET_DATASET, (dataset.name,))
        if dataset.is_private:
            await transaction.run(FORGET_JOBS, (dataset.name,))

    async def set_split_valid(
        self,
        transaction: Transaction,
        split: CachedSplit,
        *,
        revision: str,
        run: str,
        about: str,
        answers: Iterable[tuple[str, bytes, bytes]],
    ) -> None:
        """A split has these answers: endpoint, body, and the body compressed, which is empty if it is not."""
        await transaction.run(SET_SPLIT_VALID, {"id": split.id, "revision": revision, "run": run, "about": about})
        for endpoint, plain, packed in answers:
            await transaction.run(PUT_ANSWER, (split.id, endpoint, plain, packed))

    async def set_split_error(self, transaction: Transaction, split: CachedSplit, error: str) -> None:
        await transaction.run(SET_SPLIT_ERROR, (error, split.id))

    async def set_prepare(
        self, transaction: Transaction, split_id: int, status: LaterStatus, *, error: str | None = None, prepared: str | None = None
    ) -> None:
        """prepared  None leaves it as it is."""
        await transaction.run(SET_PREPARE, (status, error, prepared, split_id))

    async def forget_prepared(self, transaction: Transaction, split_id: int) -> None:
        """The Parquet files of a split are lost, and must be made again."""
        await transaction.run(FORGET_PREPARED, (split_id,))

    async def set_version(self, transaction: Transaction, name: str, version: int) -> None:
        """A dataset has other Parquet files from now on."""
        await transaction.run(SET_VERSION, (version, name))

    async def set_statistics(
        self,
        transaction: Transaction,
        split_id: int,
        status: LaterStatus,
        *,
        error: str | None = None,
        answer: tuple[bytes, bytes] | None = None,
    ) -> None:
        await transaction.run(SET_STATISTICS, (status, error, split_id))
        if answer:
            await transaction.run(PUT_ANSWER, (split_id, "statistics", *answer))

    async def num_waiting_jobs(self, transaction: Transaction, kinds: Iterable[str]) -> int:
        [(number,)] = await transaction.rows(COUNT_WAITING, (json.dumps(list(kinds)),))
        return int(number)

    async def _next_generation(self, transaction: Transaction) -> int:
        [(number,)] = await transaction.rows(NEXT_GENERATION)
        return int(number)

    # Questions

    async def find_cached_dataset(self, name: str) -> CachedDataset | None:
        """Also one that was removed."""
        rows = await self._rows(FIND_DATASET.format(columns=DATASET_COLUMNS), (name,))
        return CachedDataset(*rows[0]) if rows else None

    async def list_cached_datasets(self, *, also_removed: bool = False) -> list[CachedDataset]:
        """In the order in which they were first cached."""
        statement = LIST_ALL if also_removed else LIST_CACHED
        return [CachedDataset(*row) for row in await self._rows(statement.format(columns=DATASET_COLUMNS))]

    async def list_cached_splits(self, name: str) -> list[CachedSplit]:
        """In listing order, with the configs that could not be listed."""
        return [CachedSplit(*row) for row in await self._rows(LIST_SPLITS.format(columns=SPLIT_COLUMNS), (name,))]

    async def list_split_names(self, name: str) -> list[tuple[str, str]]:
        """Config and split of each split, in listing order."""
        return [(config, split) for config, split in await self._rows(LIST_SPLIT_NAMES, (name,))]

    async def find_cached_split(self, name: str, config: str, split: str) -> CachedSplit | None:
        rows = await self._rows(FIND_SPLIT.format(columns=SPLIT_COLUMNS), (name, config, split))
        return CachedSplit(*rows[0]) if rows else None

    async def find_answer(self, split_id: int, endpoint: str) -> tuple[bytes, bytes] | None:
        """A body, and the body compressed, which is empty if it is not."""
        rows = await self._rows(FIND_ANSWER, (split_id, endpoint))
        return (rows[0][0], rows[0][1]) if rows else None

    async def list_split_reports(self) -> list[SplitReport]:
        """All splits that are cached, by dataset in the order of first caching."""
        return [SplitReport(*row) for row in await self._rows(LIST_ALL_SPLITS)]

    async def count_cached(self) -> tuple[dict[str, int], dict[str, int]]:
        """Datasets and splits by status; what is 0 is left out."""
        datasets, splits = await self._rows(COUNT_DATASETS), await self._rows(COUNT_SPLITS)
        return {status: count for status, count in datasets}, {status: count for status, count in splits}

    async def list_runs(self) -> set[str]:
        """Runs whose files are shown."""
        return {run for (run,) in await self._rows(LIST_RUNS)}

    async def list_prepared(self) -> list[str]:
        """What was prepared, as JSON."""
        return [prepared for (prepared,) in await self._rows(LIST_PREPARED)]

    async def list_prepared_splits(self) -> list[CachedSplit]:
        """The splits of which something is prepared."""
        return [CachedSplit(*row) for row in await self._rows(LIST_PREPARED_SPLITS.format(columns=SPLIT_COLUMNS))]

    async def add_downloads(self, numbers: dict[str, int]) -> None:
        async with self.transaction() as transaction:
            for name, number in numbers.items():
                await transaction.run(ADD_DOWNLOADS, (name, number))

    async def mark_private(self, names: Iterable[str]) -> None:
        """Once the files of these datasets are gone, nobody else may learn of them from the cache."""
        async with self.transaction() as transaction:
            await transaction.run(MARK_PRIVATE, (json.dumps(list(names)),))

    async def list_downloads(self) -> dict[str, int]:
        return {name: number for name, number in await self._rows(LIST_DOWNLOADS)}
