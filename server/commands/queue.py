"""The commands `warm`, `clean-cache`, `clean-queues` and `cancel-jobs`: the queue of preview, from the machine itself.

They open the database beside a running server or without one, and act on the jobs of preview only: datasets, models, keys and all
other jobs stay as they are. A server sees what they did within seconds. Each returns an exit code: 0 done, or 1 with the reason on
stderr.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from engine.jobs import job_key
from engine.store import NewJob, Store, StoreError, Transaction
from server.private import make_private
from server.queues import PREVIEW_KINDS

# After requests and hooks, whose jobs have 0.
WARM_PRIORITY = 1


def add_arguments(commands: "argparse._SubParsersAction[Any]") -> None:
    """The words on the command line, and what stands behind them."""
    warm = commands.add_parser("warm", help="queue the datasets that preview has not read yet")
    warm.add_argument("--hub", action="store_true", help="also those that the hub lists")
    commands.add_parser("clean-cache", help="forget what preview has read; the datasets stay")
    commands.add_parser("clean-queues", help="forget all jobs of preview")
    cancel = commands.add_parser("cancel-jobs", help="cancel the jobs of preview that wait, or that are started")
    cancel.add_argument("status", choices=("started", "waiting"))


def run(data_dir: Path, options: argparse.Namespace) -> int:
    """Run the command that `options.command` names; returns its exit code."""
    name = options.command
    try:
        make_private(data_dir)
        print(asyncio.run(_in_transaction(data_dir, lambda store, transaction: COMMANDS[name](store, transaction, options))))
    except (StoreError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


async def _in_transaction(data_dir: Path, command: Callable[[Store, Transaction], Awaitable[str]]) -> str:
    """Run a command in one transaction of the database, which is created if it is missing."""
    store = await Store.open(data_dir / "sluice.db")
    try:
        async with store.transaction() as transaction:
            return await command(store, transaction)
    finally:
        await store.close()


async def _warm(store: Store, transaction: Transaction, options: argparse.Namespace) -> str:
    """One job, which queues what is missing. Its `config` is `hub` if it is to ask the hub for its list, too."""
    names = ("hub",) if options.hub else ()
    job = NewJob("warm", job_key("warm", *names), "warm", config=names[0] if names else None, priority=WARM_PRIORITY)
    return "queued" if await store.add_job(transaction, job) else "queued already"


async def _clean_cache(store: Store, transaction: Transaction, options: argparse.Namespace) -> str:
    """Jobs that would fill the cache again are cancelled with it."""
    number = await store.cancel_jobs(transaction, ["waiting", "started"], PREVIEW_KINDS)
    await store.clear_preview(transaction)
    return f"cancelled {number} jobs"


async def _clean_queues(store: Store, transaction: Transaction, options: argparse.Namespace) -> str:
    return f"removed {await store.remove_jobs(transaction, PREVIEW_KINDS)} jobs"


async def _cancel_jobs(store: Store, transaction: Transaction, options: argparse.Namespace) -> str:
    return f"cancelled {await store.cancel_jobs(transaction, [options.status], PREVIEW_KINDS)} jobs"


COMMANDS: dict[str, Callable[[Store, Transaction, argparse.Namespace], Awaitable[str]]] = {
    "warm": _warm,
    "clean-cache": _clean_cache,
    "clean-queues": _clean_queues,
    "cancel-jobs": _cancel_jobs,
}
