"""The catalogue of datasets: what a list of them shows, and who may read them.

The rows and versions of a dataset are files; engine/datasets/ keeps them and writes here what they amount to.
"""

from dataclasses import dataclass
from typing import Literal

from engine.store.connection import Database

Visibility = Literal["private", "public"]

# Which datasets are there?
LIST_DATASETS = "SELECT org, name, visibility, description, version, num_rows, num_bytes, updated_at FROM datasets"
# Which users or teams have datasets?
LIST_DATASET_ORGS = "SELECT DISTINCT org FROM datasets"
# A dataset has this version from now on, and is as visible as this row says.
PUT_DATASET = """
    INSERT INTO datasets (org, name, visibility, description, version, num_rows, num_bytes, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (org, name) DO UPDATE SET
        visibility = excluded.visibility, description = excluded.description, version = excluded.version,
        num_rows = excluded.num_rows, num_bytes = excluded.num_bytes, updated_at = excluded.updated_at
"""
# Forget a dataset.
REMOVE_DATASET = "DELETE FROM datasets WHERE org = ? AND name = ?"


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One dataset of the catalogue.

    version     the current one
    num_bytes   of the files of that version
    updated_at  when that version was made; RFC 3339, UTC
    """

    org: str
    name: str
    visibility: Visibility
    description: str
    version: int
    num_rows: int
    num_bytes: int
    updated_at: str


class DatasetStore(Database):
    """What the store answers about datasets."""

    async def list_datasets(self) -> list[DatasetRow]:
        """In no particular order."""
        return [DatasetRow(*row) for row in await self._rows(LIST_DATASETS)]

    async def list_dataset_orgs(self) -> set[str]:
        """The users and teams that have datasets, also users that are gone."""
        return {org for (org,) in await self._rows(LIST_DATASET_ORGS)}

    async def put_dataset(self, row: DatasetRow) -> None:
        """Add a dataset, or replace what is known of it."""
        values = (row.org, row.name, row.visibility, row.description, row.version, row.num_rows, row.num_bytes, row.updated_at)
        await self._write((PUT_DATASET, values))

    async def remove_dataset(self, org: str, name: str) -> None:
        """Forget a dataset; nothing happens if there is none."""
        await self._write((REMOVE_DATASET, (org, name)))
