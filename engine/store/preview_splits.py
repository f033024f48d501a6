"""What preview knows of splits: their state, their finished answers, and what is prepared of them.

The changes are steps of a transaction that the caller opens. Knows no kind of job, no file and no endpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from engine.store.connection import Database, Transaction

CacheStatus = Literal["empty", "error", "stalled", "valid"]
# Of what is made after the first rows: the Parquet files and the statistics.
LaterStatus = Literal["none", "waiting", "ok", "failed"]

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
SET_STATISTICS = "UPDATE preview_split SET statistics = ?, statistics_error = ? WHERE id = ?"
# The bytes of one answer.
FIND_ANSWER = "SELECT plain, gzip FROM preview_answer WHERE split = ? AND endpoint = ?"
# Which runs and prepared files are in use?
LIST_RUNS = "SELECT run FROM preview_split WHERE run <> ''"
LIST_PREPARED = "SELECT prepared FROM preview_split WHERE prepared IS NOT NULL"
LIST_PREPARED_SPLITS = "SELECT {columns} FROM preview_split WHERE prepared IS NOT NULL"


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
class SplitAnswers:
    """What was made of the first rows of a split.

    revision, run  of the dataset and of the job that made it
    about          JSON, as in CachedSplit
    bodies         endpoint, body, and the body compressed, which is empty if it is not
    """

    revision: str
    run: str
    about: str
    bodies: Sequence[tuple[str, bytes, bytes]]


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What reports say of a split. has_rows: it has an answer, perhaps of an older state."""

    dataset: str
    config: str
    split: str
    status: CacheStatus
    error: str | None
    has_rows: int


SPLIT_COLUMNS = ", ".join(one.name for one in fields(CachedSplit))


class PreviewSplitStore(Database):
    """What the store answers about splits."""

    # In a transaction of the caller

    async def cached_splits(self, transaction: Transaction, name: str) -> list[CachedSplit]:
        rows = await transaction.rows(LIST_SPLITS.format(columns=SPLIT_COLUMNS), (name,))
        return [CachedSplit(*row) for row in rows]

    async def cached_split(self, transaction: Transaction, name: str, config: str, split: str) -> CachedSplit | None:
        rows = await transaction.rows(FIND_SPLIT.format(columns=SPLIT_COLUMNS), (name, config, split))
        return CachedSplit(*rows[0]) if rows else None

    async def set_split_valid(self, transaction: Transaction, split: CachedSplit, answers: SplitAnswers) -> None:
        """A split has these answers."""
        values = {"id": split.id, "revision": answers.revision, "run": answers.run, "about": answers.about}
        await transaction.run(SET_SPLIT_VALID, values)
        for endpoint, plain, packed in answers.bodies:
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

    async def put_listed(self, transaction: Transaction, dataset: str, found: Sequence[ListedSplit]) -> list[CachedSplit]:
        """A dataset has these splits from now on, in this order; returns those that it had before and has not any more."""
        named = {(one.config, one.split) for one in found}
        gone = [one for one in await self.cached_splits(transaction, dataset) if (one.config, one.split) not in named]
        for split in gone:
            await transaction.run(REMOVE_SPLIT, (split.id,))
        for place, one in enumerate(found):
            values = {name: getattr(one, name) for name in ("config", "split", "num_bytes", "num_examples", "error")}
            about = {"dataset": dataset, "place": place, "is_config": not one.split}
            await transaction.run(PUT_SPLIT, {**values, **about})
        return gone

    # Questions

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

    async def list_runs(self) -> set[str]:
        """Runs whose files are shown."""
        return {run for (run,) in await self._rows(LIST_RUNS)}

    async def list_prepared(self) -> list[str]:
        """What was prepared, as JSON."""
        return [prepared for (prepared,) in await self._rows(LIST_PREPARED)]

    async def list_prepared_splits(self) -> list[CachedSplit]:
        """The splits of which something is prepared."""
        return [CachedSplit(*row) for row in await self._rows(LIST_PREPARED_SPLITS.format(columns=SPLIT_COLUMNS))]
