"""The task `scan`: which datasets lie in the roots, what their cards say, and a revision that changes with any file.

A name is only ever found here, never joined to a path from a request. Knows no configs and no formats beyond their suffixes.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.frames import Header
from engine.tasks.preview import readme
from engine.tasks.preview.failures import ParserError, TooManyFilesError
from engine.tasks.preview.files import NAME, ORG_NAME, File, Folder
from engine.tasks.preview.formats import format_of

REVISION_BYTES = 20
# What the server keeps of datasets that it writes itself: engine/datasets/folders.py.
HOME = ".sluice"
MAX_CACHED_CARDS = 10_000


@dataclass(frozen=True, slots=True)
class Card:
    """What README.md gives: None where it cannot be read."""

    card: dict[str, Any] | None
    is_private: bool


class Scanner:
    """Scans roots; keeps the cards whose README.md has not changed since the last scan."""

    def __init__(self) -> None:
        self._cards: dict[tuple[str, str, int, int], Card] = {}

    def scan(self, header: Header) -> Header:
        """The docstring of the family has header and answer."""
        found: dict[str, Header] = {}
        shadowed: list[Header] = []
        is_empty = True
        for root in header["roots"]:
            for name, folder in _datasets(root, header["name"]):
                is_empty = False
                with folder:
                    if name in found:
                        shadowed.append({"name": name, "root": root})
                    elif described := self._described(root, name, folder):
                        found[name] = described
        return {"datasets": [found[name] for name in sorted(found)], "shadowed": shadowed, "empty": is_empty}

    def _described(self, root: str, name: str, folder: Folder) -> Header | None:
        """None for a folder whose first upload has not ended, or that a query reads although it was deleted."""
        try:
            files = folder.walk()
        except (TooManyFilesError, OSError):  # the dataset job says so; a scan of others goes on
            files = folder.entries()[0]
        has_versions = folder.has(f"{HOME}/HEAD")
        if not files and not has_versions and HOME in folder.entries()[1]:
            return None
        readme_file = next((file for file in files if file.path == readme.README), None)
        card = self._card(root, name, folder, readme_file) if readme_file else Card(None, False)
        about = {"revision": revision(files), "versions": has_versions, "private": card.is_private, "card": card.card}
        return {"name": name, "root": root, **about}

    def _card(self, root: str, name: str, folder: Folder, about: File) -> Card:
        key = (root, name, about.size, about.mtime_ns)
        if key not in self._cards:
            if len(self._cards) >= MAX_CACHED_CARDS:
                self._cards.clear()
            self._cards[key] = _read_card(folder)
        return self._cards[key]


def _read_card(folder: Folder) -> Card:
    try:
        with folder.open(readme.README) as file:
            found = readme.read(file)
        return Card(readme.card(found), found.is_private)
    except ParserError:
        with folder.open(readme.README) as file:
            return Card(None, readme.says_private(readme.read_text(file)))
    except OSError:
        return Card(None, False)


def revision(files: list[File]) -> str:
    """40 hex digits of the names, sizes and times of all files."""
    digest = hashlib.blake2b(digest_size=REVISION_BYTES)
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path}\0{file.size}\0{file.mtime_ns}\0".encode())
    return digest.hexdigest()


def _datasets(root: str, wanted: str | None) -> Iterator[tuple[str, Folder]]:
    """Each dataset with its open folder, which the caller closes. A root that does not exist has none."""
    if not os.path.isdir(root):
        return
    with Folder.at(root) as top:
        for first in _names(top, ORG_NAME):
            if wanted is None or wanted.partition("/")[0] == first:
                yield from _below(top, first, wanted)


def _below(top: Folder, first: str, wanted: str | None) -> Iterator[tuple[str, Folder]]:
    """The dataset of this folder, or the datasets in it."""
    try:
        folder = top.folder([first])
    except OSError:  # it is gone, or nobody lets us in
        return
    with folder:
        if _is_dataset(folder):
            if wanted in (None, first) and NAME.fullmatch(first):
                yield first, folder.folder([])
            return
        for second in _names(folder, NAME):
            if wanted in (None, f"{first}/{second}"):
                with contextlib.suppress(OSError):
                    yield f"{first}/{second}", folder.folder([second])


def _names(folder: Folder, form: re.Pattern[str]) -> list[str]:
    return [name for name in folder.entries()[1] if form.fullmatch(name) and ".." not in name]


def _is_dataset(folder: Folder) -> bool:
    """Whether it is itself a dataset, not the folder of an owner."""
    return any(file.path == readme.README or format_of(file.path) for file in folder.entries()[0] if file.path[0] != ".")
