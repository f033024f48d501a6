"""What preview knows of datasets: the state of each, and how often it was looked at. preview_splits.py has their splits.

The changes are steps of a transaction that the caller opens, so that all of an event is written or nothing. Knows no kind of job,
no file and no endpoint.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import aiosqlite

from engine.store.connection import Transaction
from engine.store.preview_splits import CachedSplit, CacheStatus, ListedSplit, PreviewSplitStore

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

# A dataset has other Parquet files from now on.
SET_VERSION = "UPDATE preview_dataset SET version = ? WHERE name = ?"
# How many datasets and splits are there, by status?
COUNT_DATASETS = "SELECT status, count(*) FROM preview_dataset WHERE NOT is_removed GROUP BY status"
COUNT_SPLITS = "SELECT status, count(*) FROM preview_split GROUP BY status"

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
class FoundDataset:
    """The files of a dataset, as a scan has found them. root: absolute path of the root that holds it."""

    root: str
    revision: str
    is_private: bool


DATASET_COLUMNS = ", ".join(one.name for one in fields(CachedDataset))


class PreviewStore(PreviewSplitStore):
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

    async def set_listed(
        self, transaction: Transaction, dataset: CachedDataset, found: FoundDataset, splits: Sequence[ListedSplit]
    ) -> list[CachedSplit]:
        """A dataset has this listing from now on; returns the splits that were in the listing before and are not any more."""
        values = (found.root, found.revision, int(found.is_private), dataset.name, dataset.generation)
        await transaction.run(SET_LISTED, values)
        return await self.put_listed(transaction, dataset.name, splits)

    async def set_dataset_error(
        self, transaction: Transaction, dataset: CachedDataset, error: str, found: FoundDataset | None
    ) -> None:
        """A dataset could not be listed. Where a scan has found nothing either, the rest is left as it is."""
        known = {"name": dataset.name, "generation": dataset.generation, "error": error}
        about = asdict(found) if found else dict.fromkeys(("root", "revision", "is_private"))
        await transaction.run(SET_DATASET_ERROR, known | about)

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

    async def set_version(self, transaction: Transaction, name: str, version: int) -> None:
        """A dataset has other Parquet files from now on."""
        await transaction.run(SET_VERSION, (version, name))

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

    async def count_cached(self) -> tuple[dict[str, int], dict[str, int]]:
        """Datasets and splits by status; what is 0 is left out."""
        datasets, splits = await self._rows(COUNT_DATASETS), await self._rows(COUNT_SPLITS)
        return {status: count for status, count in datasets}, {status: count for status, count in splits}

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
