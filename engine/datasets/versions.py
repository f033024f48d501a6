"""What a dataset holds: its columns, its segments and its versions, as the files `versions/<n>.json` keep them.

Plain data. Knows no folder, no caller and no replica. A version never changes; a segment belongs to every version that names it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.columns import Column

Json = dict[str, Any]
# What made a version: an upload, a deletion of rows by a condition, or the merging of small segments, which changes no row.
Change = Literal["create", "replace", "append", "delete", "merge"]

DEFAULT_CONFIG = "default"
DEFAULT_SPLIT = "train"


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegment:
    """Up to 1,000,000 consecutive rows of a dataset, in a folder of their own.

    id         32 hex digits: the name of the folder
    num_bytes  of all files in the folder
    nulls      rows without a value in each column, by its number; a column whose number is missing is younger than the segment
    """

    id: str
    num_rows: int
    num_bytes: int
    config: str = DEFAULT_CONFIG
    split: str = DEFAULT_SPLIT
    nulls: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, written: Json, *, config: str | None = None, split: str | None = None) -> "StoredSegment":
        """From a version file; or from the answer of a replica, which knows neither config nor split."""
        config = written["config"] if config is None else config
        split = written["split"] if split is None else split
        return cls(written["id"], written["rows"], written["bytes"], config, split, tuple(written["nulls"]))

    def has(self, column: Column) -> bool:
        """Whether the segment is not older than a column."""
        return column.number < len(self.nulls)

    def as_json(self) -> Json:
        return {
            "id": self.id,
            "rows": self.num_rows,
            "bytes": self.num_bytes,
            "config": self.config,
            "split": self.split,
            "nulls": list(self.nulls),
        }


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """The rows of a dataset between two changes: its segments in order.

    by          name of the user who made the change
    created_at  RFC 3339, UTC
    """

    number: int
    what: Change
    by: str
    created_at: str
    columns: tuple[Column, ...] = ()
    segments: tuple[StoredSegment, ...] = ()

    @property
    def num_rows(self) -> int:
        return sum(segment.num_rows for segment in self.segments)

    @property
    def num_bytes(self) -> int:
        return sum(segment.num_bytes for segment in self.segments)

    @property
    def splits(self) -> dict[str, int]:
        """Split -> rows, in the order of the segments."""
        splits: dict[str, int] = {}
        for segment in self.segments:
            splits[segment.split] = splits.get(segment.split, 0) + segment.num_rows
        return splits

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def nulls(self, column: Column) -> int:
        """Rows without a value in this column, with the rows of segments that are older than the column."""
        return sum(one.nulls[column.number] if one.has(column) else one.num_rows for one in self.segments)

    def part(self, config: str | None, split: str | None) -> tuple[StoredSegment, ...] | None:
        """The segments of one config and split (`chosen_part`); None when there is no such part.

        A version without rows has the part that it would have by default.
        """
        config, split = chosen_part([(segment.config, segment.split) for segment in self.segments], config, split)
        part = tuple(segment for segment in self.segments if (segment.config, segment.split) == (config, split))
        is_whole = not self.segments and (config, split) == (DEFAULT_CONFIG, DEFAULT_SPLIT)
        return part if part or is_whole else None

    def as_json(self) -> Json:
        return {
            "version": self.number,
            "rows": self.num_rows,
            "what": self.what,
            "by": self.by,
            "created_at": self.created_at,
            "columns": [{**column.as_json(), "nulls": self.nulls(column)} for column in self.columns],
            "segments": [segment.as_json() for segment in self.segments],
        }

    @classmethod
    def from_json(cls, written: Json, segments: dict[str, StoredSegment]) -> "DatasetVersion":
        """From a version file.

        segments  those that other versions of the dataset name; the ones of this version are added
        """
        ours = [segments.setdefault(one["id"], StoredSegment.from_json(one)) for one in written["segments"]]
        return cls(
            written["version"],
            written["what"],
            written["by"],
            written["created_at"],
            tuple(map(Column.from_json, written["columns"])),
            tuple(ours),
        )


@dataclass(frozen=True, slots=True)
class Readable:
    """What a query may read of one source: the rows of one split.

    title   `name@version` or `org/name@version`
    folder  of the segments
    """

    title: str
    folder: Path
    columns: tuple[Column, ...]
    segments: tuple[StoredSegment, ...]

    def grant(self) -> Json:
        """What the header of a query block says of this source; engine/tasks/query/segments.py reads it."""
        return {
            "title": self.title,
            "folder": str(self.folder),
            "columns": [column.as_json() for column in self.columns],
            "segments": [{"id": segment.id, "rows": segment.num_rows} for segment in self.segments],
        }

    def model_of(self, column: str) -> str | None:
        """The model that computed a vector column; None for any other column, or one that is not there."""
        return next((one.model for one in self.columns if one.name == column), None)


@dataclass(frozen=True, slots=True)
class Listed:
    """One dataset as lists show it. What is None is not known before the dataset is prepared.

    title       `name` or `org/name`
    num_bytes   of the files of the current version
    updated_at  when that version was made; RFC 3339, UTC
    """

    title: str
    num_rows: int | None = None
    version: int | None = None
    num_bytes: int | None = None
    updated_at: str | None = None


def chosen_part(parts: Sequence[tuple[str, str]], config: str | None, split: str | None) -> tuple[str, str]:
    """Config and split that a source means, of those that a dataset has, in their order; perhaps one that it does not have.

    Without a config this is `default`, else the first one; without a split it is `train`, else the first one of that config.
    """
    config = _chosen(config, DEFAULT_CONFIG, (one for one, _ in parts))
    return config, _chosen(split, DEFAULT_SPLIT, (other for one, other in parts if one == config))


def _chosen(wanted: str | None, usual: str, present: Iterable[str]) -> str:
    """The wanted name, else the usual one, else the first that is present."""
    names = list(present)
    return wanted or (usual if usual in names or not names else names[0])
