"""The commands `user add`, `user key`, `user list` and `user remove`: the accounts of a data directory, from the machine itself.

They open the database beside a running server, which sees a change within a second. Each returns an exit code: 0 done, or
1 refused, with the reason on stderr.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from engine.accounts import Accounts
from engine.errors import EngineError
from engine.repository.index import Repository
from engine.store import KeyKind, Store, StoreError
from server.config import SHIPPED_MODELS
from server.names import name_check
from server.private import make_private


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands behind the word `user` on the command line."""
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="print each user's name and when it was added")
    actions.add_parser("add", help="add a user and print its key").add_argument("name")
    key = actions.add_parser("key", help="give a user a new key in place of a lost one, and print it")
    key.add_argument("name")
    key.add_argument("--kind", choices=("full", "read_only"), default="full", help="which of its keys to replace [full]")
    actions.add_parser("remove", help="remove a user with its keys, tokens and memberships").add_argument("name")


def run(data_dir: Path, options: argparse.Namespace) -> int:
    """Run the command that `options.action` names; returns its exit code."""
    if options.action == "add":
        return user_add(data_dir, options.name)
    if options.action == "key":
        return user_key(data_dir, options.name, options.kind)
    if options.action == "remove":
        return user_remove(data_dir, options.name)
    return user_list(data_dir)


def user_add(data_dir: Path, name: str) -> int:
    """Add a user with its team, and print its full key. The key cannot be seen again."""

    async def add(accounts: Accounts) -> None:
        print(await accounts.add_user(name))

    return _run(data_dir, add)


def user_key(data_dir: Path, name: str, kind: KeyKind) -> int:
    """Print a new key for a user. The user's old key of that kind ends at once."""

    async def replace(accounts: Accounts) -> None:
        print(await accounts.reset_key(name, kind))

    return _run(data_dir, replace)


def user_list(data_dir: Path) -> int:
    """Print one line for each user: its name, a tab, and the time when it was added."""

    async def show(accounts: Accounts) -> None:
        for user in await accounts.list_users():
            print(f"{user.name}\t{user.created_at}")

    return _run(data_dir, show)


def user_remove(data_dir: Path, name: str) -> int:
    """Remove a user with its keys, tokens and memberships."""

    async def remove(accounts: Accounts) -> None:
        await accounts.remove_user(name)

    return _run(data_dir, remove)


def _run(data_dir: Path, command: Callable[[Accounts], Awaitable[None]]) -> int:
    """Run a command on the accounts; a refusal becomes one line and exit code 1."""

    async def run_with_accounts(repository: Repository) -> None:
        async with _accounts(data_dir, repository) as accounts:
            await command(accounts)

    try:
        make_private(data_dir)
        repository = Repository([SHIPPED_MODELS, data_dir / "models"])
        repository.scan()
        asyncio.run(run_with_accounts(repository))
    except (EngineError, StoreError, OSError) as error:
        print(f"user: {error}", file=sys.stderr)
        return 1
    return 0


@asynccontextmanager
async def _accounts(data_dir: Path, repository: Repository) -> AsyncIterator[Accounts]:
    """The accounts of a data directory. A database that is missing is created."""
    store = await Store.open(data_dir / "sluice.db")
    try:
        orgs = await store.list_dataset_orgs()
        yield Accounts(store, key_file=data_dir / "admin.key", is_taken=name_check(repository, lambda: orgs))
    finally:
        await store.close()
