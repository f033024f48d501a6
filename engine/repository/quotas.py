"""Quotas: how many models, versions and bytes each user may keep in the writable root.

What a user keeps is counted from the folders each time, so that the count is right whatever was put there or removed by hand: with
as much as the quotas allow by default, that is a few thousand files and some milliseconds. Blocks on the disk: call it in a thread.
Knows nothing of callers: the publisher says whose uploads are counted.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Code, EngineError, Kind
from engine.repository.index import VERSION

QUOTA_EXCEEDED = Code(
    "quota_exceeded",
    Kind.FULL,
    "the user keeps as many models, versions, datasets or bytes as the settings SLUICE_USER_... allow, or the projects of the team "
    "as many bytes as SLUICE_TEAM_PROJECT_BYTES",
)


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What one user may keep. Settings of server/config.py, by the same names."""

    user_models: int
    user_versions: int
    user_bytes: int
    keep_versions: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What one owner keeps. `versions` has the number of versions of each model that has some."""

    versions: dict[str, int]
    num_bytes: int


class Quotas:
    """The quotas of every user, over the folders of one root.

    is_left_out  tells of a model, by owner and name, whether it counts for no quota of its owner
    """

    def __init__(self, root: Path, limits: QuotaLimits) -> None:
        self.is_left_out: Callable[[str, str], bool] = lambda owner, name: False
        self._root = root
        self._limits = limits

    def room_bytes(self, owner: str) -> int:
        """The bytes that an owner may still publish; less than 0 when a quota was lowered."""
        return self._limits.user_bytes - self._kept(owner).num_bytes

    def _kept(self, owner: str) -> Kept:
        return kept(self._root / owner, lambda name: self.is_left_out(owner, name))

    def check(self, owner: str, name: str, num_bytes: int) -> None:
        """EngineError `quota_exceeded` when one more version of this model, of this many bytes, is more than the owner may keep."""
        limits, now = self._limits, self._kept(owner)
        if name not in now.versions and len(now.versions) >= limits.user_models:
            raise exceeded(f"{owner} keeps {len(now.versions)} models, which is the limit: delete one first")
        num_versions = sum(now.versions.values())
        is_oldest_going = now.versions.get(name, 0) >= limits.keep_versions  # the new version takes its place
        if num_versions >= limits.user_versions and not is_oldest_going:
            raise exceeded(f"{owner} keeps {num_versions} versions of models, which is the limit: delete one first")
        if now.num_bytes + num_bytes > limits.user_bytes:
            raise no_room(owner)


def no_room(owner: str) -> EngineError:
    return exceeded(f"the models of {owner} take as many bytes as they may: delete a model or a version first")


def exceeded(message: str) -> EngineError:
    return EngineError(QUOTA_EXCEEDED, message)


def kept(owner_folder: Path, is_left_out: Callable[[str], bool]) -> Kept:
    """What is in an owner's folder. Uploads that arrive and versions that are being removed are hidden, and do not count; nor do
    models that are left out.
    """
    versions: dict[str, set[str]] = {}
    num_bytes = 0
    for file in owner_folder.glob("*/*/*"):
        model, number = file.parent.parent.name, file.parent.name
        if VERSION.fullmatch(number) and not is_left_out(model):
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                num_bytes += file.stat().st_size
                versions.setdefault(model, set()).add(number)
    return Kept({model: len(numbers) for model, numbers in versions.items()}, num_bytes)
