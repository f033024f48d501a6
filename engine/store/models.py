"""What was changed about models at run time, and which version numbers were ever used.

The models themselves are folders (the model repository); a row here overrides what a model's folder says.
"""

from dataclasses import dataclass

from engine.store.connection import Database

# What was changed about models at run time?
LIST_MODEL_OVERRIDES = """
    SELECT owner, name, active_version, shared FROM models WHERE active_version IS NOT NULL OR shared IS NOT NULL
"""
# From now on this version of a model answers.
SET_ACTIVE_VERSION = """
    INSERT INTO models (owner, name, active_version) VALUES (?, ?, ?)
    ON CONFLICT (owner, name) DO UPDATE SET active_version = excluded.active_version
"""
# From now on others may use a model, or may not.
SET_SHARED = """
    INSERT INTO models (owner, name, shared) VALUES (?, ?, ?)
    ON CONFLICT (owner, name) DO UPDATE SET shared = excluded.shared
"""
# Which is the highest number that a version of a model ever had?
HIGHEST_VERSION = "SELECT highest_version FROM models WHERE owner = ? AND name = ?"
# Note that a number is in use from now on, and which version answers if no override says so yet.
NOTE_VERSION = """
    INSERT INTO models (owner, name, highest_version, active_version) VALUES (?, ?, ?, ?)
    ON CONFLICT (owner, name) DO UPDATE SET
        highest_version = max(highest_version, excluded.highest_version),
        active_version = coalesce(active_version, excluded.active_version)
"""
# Forget what was changed about a model that is gone, but keep its highest version number.
FORGET_MODEL = "UPDATE models SET active_version = NULL, shared = NULL WHERE owner = ? AND name = ?"


@dataclass(frozen=True, slots=True)
class ModelOverrides:
    """What was changed about a model at run time; where a value is None, the model's folder decides."""

    active_version: int | None = None
    shared: bool | None = None


class ModelStore(Database):
    """What the store answers about models."""

    async def list_model_overrides(self) -> dict[tuple[str, str], ModelOverrides]:
        """Keyed by (owner, name). A model without overrides is not in it."""
        return {
            (owner, name): ModelOverrides(active_version, None if shared is None else bool(shared))
            for owner, name, active_version, shared in await self._rows(LIST_MODEL_OVERRIDES)
        }

    async def set_active_version(self, owner: str, name: str, version: int | None) -> None:
        """With None the model's folder decides again."""
        await self._write((SET_ACTIVE_VERSION, (owner, name, version)))

    async def set_shared(self, owner: str, name: str, shared: bool | None) -> None:
        """With None the model's folder decides again."""
        await self._write((SET_SHARED, (owner, name, shared)))

    async def highest_version(self, owner: str, name: str) -> int:
        """The highest number that a version of this model ever had; 0 when none is known."""
        rows = await self._rows(HIGHEST_VERSION, (owner, name))
        return int(rows[0][0]) if rows else 0

    async def note_version(self, owner: str, name: str, number: int, active_version: int | None) -> None:
        """Note that `number` is taken for ever. A model without an override gets `active_version` as its override."""
        await self._write((NOTE_VERSION, (owner, name, number, active_version)))

    async def forget_model(self, owner: str, name: str) -> None:
        """Drop a model's overrides; its highest version number stays known."""
        await self._write((FORGET_MODEL, (owner, name)))
