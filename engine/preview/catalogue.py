"""The catalogue as preview sees it: which datasets lie under the roots, what their cards say, and who may see them.

A replica scans. What it found is kept in memory until the next scan; a name that is asked for and not there is looked for at once,
because files may have been laid down a moment ago. Knows no HTTP and no state of the cache.
"""

import asyncio
import functools
import logging
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from engine.accounts import Caller
from engine.datasets import Dataset, Datasets
from engine.datasets.catalogue import may_read
from engine.datasets.names import DATASET_NAME, ORG_NAME
from engine.preview.hub import Lookups
from engine.preview.tasks import LOOK_TASK, PreviewFolders, ScannedDataset
from engine.replicas.pool import Pool

log = logging.getLogger("sluice.preview")

NAME = re.compile(rf"(?:{ORG_NAME.pattern}/)?{DATASET_NAME.pattern}")


def is_name(text: str) -> bool:
    """Whether a dataset can be called so: a name, or an org, a slash and a name."""
    return NAME.fullmatch(text) is not None and ".." not in text


class Catalogue:
    """What the last scan found. `scan` comes first; until it has ended once, `all` waits for it.

    hub         where names are looked for that no root has; `all` has none of it
    duration_s  that the last scan took
    """

    def __init__(self, jobs: Pool, folders: PreviewFolders, hub: Lookups) -> None:
        self.duration_s = 0.0
        self._jobs = jobs
        self._roots = folders.roots
        self._hub = hub
        self._found: dict[str, ScannedDataset] = {}
        self._shadowed: set[tuple[str, str]] = set()
        self._lookups: dict[str, asyncio.Task[ScannedDataset | None]] = {}  # by name: those whose result is of now
        self._tasks: set[asyncio.Task[ScannedDataset | None]] = set()  # these, and those that `changed` has overtaken
        self._changed: set[str] = set()  # names that `changed` was told since the last scan began
        self._was_scanned = asyncio.Event()

    async def close(self) -> None:
        lookups = list(self._tasks)
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        await self._hub.close()

    def get(self, name: str) -> ScannedDataset | None:
        """A dataset, as far as it is known."""
        return self._found.get(name) or self._hub.get(name)

    def is_of_hub(self, root: str) -> bool:
        """Whether a dataset with this root was fetched from a hub, of which no scan tells."""
        return self._hub.has(root)

    def is_own(self, root: str) -> bool:
        """Whether this is the root that the server itself writes to; no other program is expected to mount it later."""
        return root == str(self._roots[0])

    async def all(self) -> list[ScannedDataset]:
        """By name."""
        await self._was_scanned.wait()
        return [self._found[name] for name in sorted(self._found)]

    async def scan(self) -> None:
        """Look at everything. EngineError when no replica could."""
        started = time.monotonic()
        self._changed.clear()
        try:
            found: dict[str, ScannedDataset] = {}
            if await asyncio.to_thread(_is_any, self._roots):
                answer = await self._jobs.run(LOOK_TASK, {"roots": list(map(str, self._roots)), "name": None})
                found = {one["name"]: ScannedDataset.of_scan(one) for one in answer.header["datasets"]}
                self._log_shadowed({(one["name"], one["root"]) for one in answer.header.get("shadowed", ())})
            self._take(found)
        finally:
            self.duration_s = time.monotonic() - started
            self._was_scanned.set()

    def _take(self, found: dict[str, ScannedDataset]) -> None:
        """A scan has found these. Of names that have changed since it began it may have seen what was there before."""
        newer = {name: self._found[name] for name in self._changed & self._found.keys()}
        self._found = {name: one for name, one in found.items() if name not in self._changed} | newer

    def _log_shadowed(self, shadowed: set[tuple[str, str]]) -> None:
        for name, root in sorted(shadowed - self._shadowed):
            log.warning("dataset hidden by one of the same name in an earlier root dataset=%s root=%s", name, root)
        self._shadowed = shadowed

    def changed(self, name: str) -> None:
        """Somebody has laid down or removed a dataset: `find` looks for it anew, and nothing waits for the next scan."""
        self._found.pop(name, None)
        self._lookups.pop(name, None)
        self._changed.add(name)

    async def is_gone(self, name: str) -> bool:
        """Whether no root has a dataset of this name now."""
        return name not in self._found and not await asyncio.to_thread(_is_folder, self._roots, name)

    async def find(self, name: str) -> ScannedDataset | None:
        """A dataset, also one that was laid down just now; None if there is none. EngineError when no replica could look."""
        if not await asyncio.to_thread(_is_folder, self._roots, name):
            self._found.pop(name, None)  # somebody has removed it since the last scan
            return await self._hub.find(name)
        if name in self._found:
            return self._found[name]
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = asyncio.create_task(self._look_up(name), name=f"look for {name}")
            self._tasks.add(lookup)
            lookup.add_done_callback(functools.partial(self._looked_up, name))
        return await asyncio.shield(lookup)

    async def _look_up(self, name: str) -> ScannedDataset | None:
        answer = await self._jobs.run(LOOK_TASK, {"roots": list(map(str, self._roots)), "name": name})
        for one in answer.header["datasets"]:
            found = ScannedDataset.of_scan(one)
            if self._lookups.get(name) is asyncio.current_task():
                self._found[name] = found
            return found
        return await self._hub.find(name)

    def _looked_up(self, name: str, lookup: "asyncio.Task[ScannedDataset | None]") -> None:
        self._tasks.discard(lookup)
        if self._lookups.get(name) is lookup:
            del self._lookups[name]


class Access:
    """Who may see which dataset: one function says so, and everything that lists or shows datasets asks it.

    shows_private  False hides private datasets from everybody
    """

    def __init__(self, datasets: Datasets, catalogue: Catalogue, *, shows_private: bool) -> None:
        self._datasets = datasets
        self._catalogue = catalogue
        self._shows_private = shows_private
        self._kept: set[str] = set()  # datasets of the server itself: of one that was deleted, files may be found a while

    def is_kept(self, name: str) -> bool:
        """Whether the server keeps the dataset itself, so that no folder says who may see it."""
        return self._own(name) is not None

    def is_private(self, name: str, *, was_private: bool = False) -> bool:
        """was_private  what the cache says of a dataset that is not in the catalogue"""
        if kept := self._own(name):
            self._kept.add(name)
            return kept.visibility != "public"
        if name in self._kept:
            return True
        found = self._catalogue.get(name)
        return found.is_private if found else was_private

    def may_see(self, caller: Caller | None, name: str, *, was_private: bool = False) -> bool:
        """Everybody sees a public dataset; the admin, and those whose org or team it is in, a private one."""
        if not self.is_private(name, was_private=was_private):
            return True
        if caller is None or not self._shows_private:
            return False
        if kept := self._own(name):
            return may_read(caller, kept)
        org, slash, _ = name.rpartition("/")
        return caller.is_admin or (bool(slash) and caller.role_in(org) is not None)

    def private(self) -> set[str]:
        """The private datasets that the server keeps itself, by name."""
        return {dataset.title for dataset in self._datasets if self.is_private(dataset.title)}

    def _own(self, name: str) -> Dataset | None:
        org, slash, rest = name.rpartition("/")
        return self._datasets.get(org, rest) if slash else None


def _is_any(roots: Iterable[Path]) -> bool:
    """Whether a root holds anything that is not hidden. Blocks on the disk."""
    for root in roots:
        try:
            with os.scandir(root) as entries:
                if any(not entry.name.startswith(".") for entry in entries):
                    return True
        except OSError:  # it is not there, which is as if it were empty
            continue
    return False


def _is_folder(roots: Iterable[Path], name: str) -> bool:
    """Whether a root has a folder of a name that `is_name` has passed. Blocks on the disk."""
    return any(_is_plain(root, name.split("/")) for root in roots)


def _is_plain(folder: Path, parts: list[str]) -> bool:
    for part in parts:
        folder = folder / part
        if folder.is_symlink() or not folder.is_dir():
            return False
    return True
