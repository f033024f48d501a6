"""Damage: prepared segments that somebody has removed, or that a disk has cut short, are noticed at the start and prepared again.

Until then a query of such a split waits, as it does for one that was never prepared.
"""

import asyncio
import logging
from pathlib import Path
from typing import Any

import ujson

from engine.datasets.folders import PAYLOAD_FILE, ROWS_FILE, is_whole_file
from engine.jobs import Jobs
from engine.preview.listings import split_job
from engine.preview.tasks import PREPARE, WARM_PRIORITY
from engine.store import CachedSplit, Store

log = logging.getLogger("sluice.preview")


async def ask_for_damaged(store: Store, jobs: Jobs) -> None:
    """Look at everything that is prepared, and ask for what is not whole. StoreError."""
    splits = await store.list_prepared_splits()
    for split in await asyncio.to_thread(_damaged, splits):
        async with store.transaction() as transaction:
            dataset = await store.cached_dataset(transaction, split.dataset)
            if dataset is not None:
                names = (split.dataset, split.config, split.split)
                await store.forget_prepared(transaction, split.id)
                await jobs.add(transaction, split_job(PREPARE, *names, dataset.generation, priority=WARM_PRIORITY))
                log.warning("prepared files are damaged dataset=%s config=%s split=%s", *names)


def _damaged(splits: list[CachedSplit]) -> list[CachedSplit]:
    """Those of which a file is missing or cut short; a payload that is cut short is removed. Blocks on the disk."""
    return [split for split in splits if not _is_whole(ujson.loads(split.prepared or "{}"))]


def _is_whole(prepared: dict[str, Any]) -> bool:
    """Rows that an upload has written are mended by their dataset (engine/datasets/mending.py)."""
    folders = [Path(prepared["folder"]) / one["id"] for one in prepared["segments"]]
    is_ours = "segment_columns" in prepared
    return not is_ours or all((one / ROWS_FILE).is_file() and is_whole_file(one / PAYLOAD_FILE, None) for one in folders)
