"""The command `model import`: a sentence-transformers folder becomes an embedding model of a data directory.

Works on the machine itself, beside a running server. The folder is read in a child process started like a replica, which has the
numeric libraries; what it wrote is put in place here. Exit codes: 0 done, 1 refused, with one line on stderr.
"""

import argparse
import asyncio
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from engine import folders
from engine.accounts import ADMIN, OWNER_NAME
from engine.blocks import Batch
from engine.errors import EngineError
from engine.frames import Header
from engine.listing import Listing
from engine.model_config import ModelConfig, parse_config
from engine.publishing import take_number
from engine.replica import Replica, ReplicaGone
from engine.repository import MODEL_NAME, Repository
from engine.store import Store, StoreError
from handlers.http.errors import dumps
from handlers.http.routes import RESERVED
from server import remote
from server.users import SHIPPED_MODELS

RELOAD_TIMEOUT_S = 60


class NotImported(Exception):
    """Why there is no model, in one line."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be imported, and as what."""

    source: Path
    owner: str
    name: str
    is_shared: bool


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder with modules.json, config.json, model.safetensors, ...")
    parser.add_argument("--name", help="the model's name [the folder's]")
    parser.add_argument("--owner", default=ADMIN, help=f"who has the model [{ADMIN}]")
    parser.add_argument("--private", action="store_true", help="for its owner alone; else every user may use it")
    remote.add_arguments(parser)


def model_import(data_dir: Path, options: argparse.Namespace) -> int:
    """Import one folder; with --url tell the server there to look again."""
    try:
        order = _order(options)
        there = remote.find_remote(options, os.environ | {"SLUICE_DATA_DIR": str(data_dir)}) if options.url else None
        data_dir.mkdir(parents=True, exist_ok=True)
        asyncio.run(_import(data_dir.resolve(), order))
        if there is not None:
            _reload(there)
    except (NotImported, EngineError, StoreError, OSError, remote.BadRemote) as error:
        print(f"model import: {error}", file=sys.stderr)
        return 1
    return 0


def _order(options: argparse.Namespace) -> Order:
    source: Path = options.folder.resolve()
    name = options.name or source.name
    if not source.is_dir():
        raise NotImported(f"there is no folder {options.folder}")
    if not MODEL_NAME.fullmatch(name):
        raise NotImported(f"'{name}' cannot be a model's name: 1 to 100 letters, digits and _ . -; choose one with --name")
    if not OWNER_NAME.fullmatch(options.owner) or options.owner.lower() in RESERVED:
        raise NotImported(f"'{options.owner}' cannot be an owner")
    return Order(source, options.owner, name, not options.private)


async def _import(data_dir: Path, order: Order) -> None:
    """Build beside, put in place, list. Whatever fails leaves nothing behind."""
    logging.getLogger("sluice").setLevel(logging.ERROR)  # what other models lack is the server's to tell
    root = data_dir / "models"
    incoming = folders.incoming_folder(root / order.owner / order.name)
    folders.make(incoming)
    try:
        print(f"building {order.owner}/{order.name}; large models take a minute or two", file=sys.stderr)
        config = await _build(order, incoming)
        number = await _publish(data_dir, root, order, incoming, config)
    finally:
        folders.remove(incoming)
    print(f"{order.owner}/{order.name} version {number}: {config.dim} dimensions, {config.max_tokens} tokens")


async def _build(order: Order, target: Path) -> ModelConfig:
    """The model's files into `target`, by a child process; its config. NotImported."""
    header: Header = {"source": str(order.source), "target": str(target), "owner": order.owner, "name": order.name}
    async with _child() as child:
        try:
            answer, _ = await child.request({"task": "import", "shared": order.is_shared, **header})
        except ReplicaGone:
            raise NotImported("the process that built it died; is there enough memory?") from None
    if "refused" in answer:
        raise NotImported(answer["refused"])
    if "error" in answer:
        raise NotImported(f"it could not be built: {answer['error']['reason']}")
    return parse_config(dumps(answer["config"]))


@asynccontextmanager
async def _child() -> AsyncIterator[Replica]:
    child = Replica(_Nobody(), name="import")
    try:
        await child.start()
        yield child
    except ReplicaGone:
        raise NotImported("no process could be started to build it") from None
    finally:
        await child.stop()


class _Nobody:
    """The owner of a child that is asked once and gets no blocks."""

    def batch_answered(self, replica: Replica, batch: Batch, header: Header, payload: memoryview) -> None: ...

    def replica_lost(self, replica: Replica, culprit: Batch | None) -> None: ...


async def _publish(data_dir: Path, root: Path, order: Order, incoming: Path, config: ModelConfig) -> int:
    """The next version of the model, active and listed; its number."""
    store = await Store.open(data_dir / "sluice.db")
    try:
        repository = Repository([SHIPPED_MODELS, root])
        repository.scan(await store.list_model_states())
        number = await take_number(store, repository, order.owner, order.name)
        folders.put_in_place(incoming, config, incoming.with_name(str(number)))
        await store.set_active_version(order.owner, order.name, number)
        repository.scan(await store.list_model_states())
    finally:
        await store.close()
    listing = Listing(repository)
    listing.read()
    if model := repository.find(order.owner, order.name):
        listing.add(model)
    return number


def _reload(there: remote.Remote) -> None:
    """Tell a running server. NotImported when it does not listen: the model is there all the same."""
    url = f"{there.url.scheme}://{there.url.netloc}{there.path('api', 'models', 'reload')}"
    request = urllib.request.Request(url, method="POST", headers=there.headers)
    try:
        with urllib.request.urlopen(request, timeout=RELOAD_TIMEOUT_S):
            pass
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise NotImported(f"the model is imported, but the server was not told: {error}") from None
