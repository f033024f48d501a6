"""The commands `user add`, `user list`, `user remove`: the accounts of a data directory, from the machine itself.

They open the database beside a running server, which takes a change up within a second. Each returns an exit code: 0 done,
1 refused, with the reason on stderr.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from engine.accounts import Accounts
from engine.errors import EngineError
from engine.repository import Repository
from engine.store import Store, StoreError
from handlers.http.routes import RESERVED

SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "models"


def user_add(data_dir: Path, name: str) -> int:
    """Make a user and print its full key, the only time it can be seen."""

    async def add(accounts: Accounts) -> None:
        print(await accounts.add_user(name))

    return _run(data_dir, add)


def user_list(data_dir: Path) -> int:
    """Print one user a line: name, tab, time of creation."""

    async def show(accounts: Accounts) -> None:
        for user in await accounts.list_users():
            print(f"{user.name}\t{user.created_at}")

    return _run(data_dir, show)


def user_remove(data_dir: Path, name: str) -> int:
    """Remove a user with its keys."""

    async def remove(accounts: Accounts) -> None:
        await accounts.remove_user(name)

    return _run(data_dir, remove)


def name_check(repository: Repository) -> Callable[[str], bool]:
    """Whether something other than a user has a name; what Accounts asks before it makes one."""
    return lambda name: name.lower() in RESERVED or name in repository.owners()


def _run(data_dir: Path, command: Callable[[Accounts], Awaitable[None]]) -> int:
    """Run a command on the accounts and turn its refusal into a line and an exit code."""

    async def run(repository: Repository) -> None:
        async with _accounts(data_dir, repository) as accounts:
            await command(accounts)

    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        repository = Repository([SHIPPED_MODELS, data_dir / "models"])
        repository.scan()
        asyncio.run(run(repository))
    except (EngineError, StoreError, OSError) as error:
        print(f"user: {error}", file=sys.stderr)
        return 1
    return 0


@asynccontextmanager
async def _accounts(data_dir: Path, repository: Repository) -> AsyncIterator[Accounts]:
    """The accounts of a data directory; its database is made if there is none yet."""
    store = await Store.open(data_dir / "sluice.db")
    try:
        yield Accounts(store, key_file=data_dir / "admin.key", is_taken=name_check(repository))
    finally:
        await store.close()
