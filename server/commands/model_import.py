"""The command `model import`: makes an embedding model in a data directory from a sentence-transformers folder.

It works on the machine itself, beside a running server. A child process, started like a replica, reads the folder with the numeric
libraries; this process puts the files that the child wrote in place. Exit codes: 0 done, or 1 refused, with one line on stderr.
"""

import argparse
import asyncio
import logging
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from engine.accounts import ADMIN, OWNER_NAME
from engine.errors import EngineError
from engine.frames import Header
from engine.replicas.replica import ReplicaGone
from engine.repository import folders
from engine.repository.config import ModelConfig, parse_config
from engine.repository.index import MODEL_NAME, Repository
from engine.repository.listed import ListedModels
from engine.repository.publishing import take_number
from engine.store import Store, StoreError
from handlers.http.errors import dumps
from handlers.http.routes import RESERVED
from server.commands import remote
from server.commands.child import NotStarted, child
from server.config import SHIPPED_MODELS
from server.private import make_private

RELOAD_TIMEOUT_S = 60


class NotImported(Exception):
    """The model was not imported, or the server does not know of it. The message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Order:
    """Which folder to import, and the owner and name of the model to make of it."""

    source: Path
    owner: str
    name: str
    is_shared: bool


def add_arguments(parser: argparse.ArgumentParser) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """What stands behind the word `model` on the command line; returns the place of further words."""
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("import", help="make an embedding model from a sentence-transformers folder")
    action.add_argument("folder", metavar="DIR", type=Path, help="folder with modules.json, config.json, model.safetensors, ...")
    action.add_argument("--name", help="name of the model [the folder's name]")
    action.add_argument("--owner", default=ADMIN, help=f"owner of the model [{ADMIN}]")
    action.add_argument("--private", action="store_true", help="only the owner may use the model [every user may]")
    remote.add_arguments(action)
    return actions


def run(data_dir: Path, options: argparse.Namespace) -> int:
    """Import one folder. With --url, tell the server at that address to read its models again."""
    try:
        order = _order(options)
        server = remote.find_remote(options, os.environ | {"SLUICE_DATA_DIR": str(data_dir)}) if options.url else None
        make_private(data_dir)
        asyncio.run(_import(data_dir.resolve(), order))
        if server is not None:
            _reload(server)
    except (NotImported, NotStarted, EngineError, StoreError, OSError, remote.BadRemote) as error:
        print(f"model import: {error}", file=sys.stderr)
        return 1
    return 0


def _order(options: argparse.Namespace) -> Order:
    source: Path = options.folder.resolve()
    name = options.name or source.name
    if not source.is_dir():
        raise NotImported(f"there is no folder {options.folder}")
    if not MODEL_NAME.fullmatch(name):
        raise NotImported(f"'{name}' cannot name a model: use 1 to 100 letters, digits, _ . and -; choose a name with --name")
    if not OWNER_NAME.fullmatch(options.owner) or options.owner.lower() in RESERVED:
        raise NotImported(f"'{options.owner}' cannot be the owner of a model")
    return Order(source, options.owner, name, not options.private)


async def _import(data_dir: Path, order: Order) -> None:
    """Build the model beside its place, then put it in place and list it. A step that fails leaves nothing behind."""
    logging.getLogger("sluice").setLevel(logging.ERROR)  # the server reports faults of other models, not we
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
    """Let a child process write the model's files into `target`; returns the model's config. NotImported."""
    arguments: Header = {"source": str(order.source), "target": str(target), "owner": order.owner, "name": order.name}
    try:
        async with child() as builder:
            answer, _ = await builder.ask({"family": "publishing", "task": "import", "shared": order.is_shared, **arguments})
    except ReplicaGone:
        raise NotImported("the process that built the model died; is there enough memory?") from None
    if "refused" in answer:
        raise NotImported(answer["refused"])
    if "error" in answer:
        raise NotImported(f"the model could not be built: {answer['error']['reason']}")
    return parse_config(dumps(answer["config"]))


async def _publish(data_dir: Path, root: Path, order: Order, incoming: Path, config: ModelConfig) -> int:
    """Make the files the next version of the model, active and listed; returns its number."""
    store = await Store.open(data_dir / "sluice.db")
    try:
        repository = Repository([SHIPPED_MODELS, root])
        repository.scan(await store.list_model_overrides())
        number = await take_number(store, repository, order.owner, order.name)
        folders.put_in_place(incoming, config, incoming.with_name(str(number)))
        await store.set_active_version(order.owner, order.name, number)
        repository.scan(await store.list_model_overrides())
    finally:
        await store.close()
    listing = ListedModels(repository)
    listing.read()
    listing.enter(order.owner, order.name)
    return number


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the key in the request is for this server, and for no other that this one names."""

    def redirect_request(self, *_: object) -> None:
        return None


def _reload(server: remote.Remote) -> None:
    """Tell a running server to read its models again. NotImported when it cannot be told; the model stays in place."""
    url = f"{server.url.scheme}://{server.url.netloc}{server.path('api', 'models', 'reload')}"
    request = urllib.request.Request(url, method="POST", headers=server.headers)
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=RELOAD_TIMEOUT_S):
            pass
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise NotImported(f"the model is imported, but the server was not told: {error}") from None
