"""Sweeping: pictures, sound, Parquet files and unfinished work that nothing names any more are removed.

The folders are listed first and the database is asked afterwards: what a job begins meanwhile is not among the folders, and what it
ends is among the runs. Only the process that holds the lock of the data directory sweeps.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import ujson

from engine.preview.holds import Holds
from engine.preview.kinds import run_of
from engine.preview.tasks import KINDS, PreviewFolders
from engine.store import Store, StoreError

log = logging.getLogger("sluice.preview")

SWEEP_EVERY_S = 30.0
# A folder this old belongs to nobody who is about to say so. At the start there is nobody.
LEAST_AGE_S = 10.0
# What a job fetches from a hub is named only when the job has ended; until then it is touched with every file.
LEAST_AGE_OF_HUB_S = 600.0


class Sweeper:
    """`run` sweeps at once, every SWEEP_EVERY_S, and soon after `wake`."""

    def __init__(self, store: Store, folders: PreviewFolders, holds: Holds) -> None:
        self._store = store
        self._folders = folders
        self._holds = holds
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was replaced."""
        self._woken.set()

    async def run(self) -> None:
        least_age_s = 0.0
        while True:
            self._woken.clear()
            try:
                await self.sweep(least_age_s)
                least_age_s = LEAST_AGE_S
            except (StoreError, OSError) as error:
                log.warning("files of previews not swept reason=%r", str(error))
            except Exception:  # without this loop files stay for ever
                log.exception("sweeping failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY_S):
                    await self._woken.wait()
            await asyncio.sleep(LEAST_AGE_S)  # what was replaced a moment ago may still be read, and several changes need one sweep

    async def sweep(self, least_age_s: float) -> None:
        """Remove what is not named and at least this old."""
        runs, segments = await asyncio.to_thread(_listed, self._folders)
        started = {run_of(job) for job in await self._store.list_jobs(KINDS, ("started",))}
        named = await self._store.list_runs() | started
        kept = {one["id"] for prepared in await self._store.list_prepared() for one in ujson.loads(prepared)["segments"]}
        gone = [path for path in runs if path.name not in named]
        number = await asyncio.to_thread(_remove, gone, least_age_s)
        held = {self._folders.segments(name) for name in self._holds.names()}
        # A worker renames segments a moment before it commits that they are in use.
        unnamed = [path for path in segments if path.name not in kept and path.parent not in held]
        number += await asyncio.to_thread(_remove, unnamed, LEAST_AGE_S)
        number += await self._sweep_hub()
        if number:
            log.info("files of previews swept folders=%d", number)

    async def _sweep_hub(self) -> int:
        """Remove what was fetched of datasets that are not cached any more, or have another revision now."""
        roots = await asyncio.to_thread(lambda: list(self._folders.hub.glob("*")))
        if not roots:
            return 0
        named = {one.root for one in await self._store.list_cached_datasets()}
        return await asyncio.to_thread(_remove, [root for root in roots if str(root) not in named], LEAST_AGE_OF_HUB_S)


def _listed(folders: PreviewFolders) -> tuple[list[Path], list[Path]]:
    """The folders of runs, finished or not, and those of prepared segments. Blocks on the disk."""
    runs = [*folders.assets.glob("*/*/*"), *folders.prepared.glob(".staging/*")]
    return runs, list(folders.prepared.glob("*/*/segments/*"))


def _remove(paths: Iterable[Path], least_age_s: float) -> int:
    """Remove folders of at least this age, and what is empty above them. Blocks on the disk."""
    latest = time.time() - least_age_s
    number = 0
    for path in paths:
        try:
            if path.stat().st_mtime > latest:
                continue
        except OSError:  # somebody has removed it
            continue
        shutil.rmtree(path, ignore_errors=True)
        number += 1
        for parent in list(path.parents)[:3]:
            try:
                parent.rmdir()
            except OSError:  # it is not empty
                break
    return number
