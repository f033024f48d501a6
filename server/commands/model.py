"""The command `model`: publishes models to a running server, and lists, rolls back and deletes them.

A client of the HTTP calls that everybody has. `model import` is no client: it works on a data directory
(server/commands/model_import.py). Results are lines on standard output with tabs between their fields, for programs to cut. Exit
codes: 0 done, or 1 with one line on stderr that says why; 64 usage error.
"""

import argparse
import http.client
import os
import sys
from pathlib import Path
from typing import Any

from server.commands.asking import Refused, answered, asked, not_sluice, told
from server.commands.multipart import Multipart, PartFile
from server.commands.remote import Remote, add_arguments, find_remote
from server.commands.usage import EXIT_USAGE, Parser, UsageError, program

# The check of a model has a limit of its own on the server, and others' checks may come before it.
PUBLISH_TIMEOUT_S = 900.0

DESCRIPTION = "Publish models to a running server, and list, roll back and delete them."


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(find_remote(options, os.environ), options)
    except UsageError as error:
        print(f"model: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # the reader of what we print has enough; server/__main__.py ends quietly
        raise
    except (Refused, OSError, http.client.HTTPException) as error:
        print(f"model {options.action}: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"model {options.action}: interrupted", file=sys.stderr)
        return 1
    return 0


def _run(remote: Remote, options: argparse.Namespace) -> None:
    try:
        ACTIONS[options.action](remote, options)
    except (LookupError, TypeError, AttributeError):  # the JSON of the answer has another shape
        raise Refused(not_sluice(remote)) from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=f"{program()} model", description=DESCRIPTION)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    publishing = actions.add_parser("publish", help="publish an ONNX file as a new version, which then answers")
    listing = actions.add_parser("list", help="list the models that the user may use")
    listing.add_argument("owner", metavar="OWNER", nargs="?", help="only those of this owner")
    returning = actions.add_parser("rollback", help="let the version before the active one answer again, or another")
    deleting = actions.add_parser("delete", help="delete a model, or one version of it that is not active")
    actions.add_parser("import", help="make an embedding model of a sentence-transformers folder, in a data directory")
    _add_publish(publishing)
    for action in (returning, deleting):
        action.add_argument("model", metavar="[OWNER/]NAME")
        action.add_argument("--version", metavar="N", type=int, help="this version")
    for action in (publishing, listing, returning, deleting):
        add_arguments(action)
    return parser


def _add_publish(action: argparse.ArgumentParser) -> None:
    action.add_argument("file", metavar="FILE", type=Path, help="the ONNX file")
    action.add_argument("--name", metavar="[OWNER/]NAME", help="the model [the name of the file, of the user who asks]")
    action.add_argument("--config", metavar="FILE", type=Path, help="a config.json for it [what its graph tells]")
    action.add_argument("--tokenizer", metavar="FILE", type=Path, help="the tokenizer.json of a model that reads texts")
    action.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a file with tensors that the graph names; for each one",
    )
    action.add_argument("--shared", action="store_true", help="let other users predict with the model")


def _named(text: str, remote: Remote) -> tuple[str, str]:
    """Owner and name of a model; without an owner it is the user's own. UsageError."""
    owner, slash, name = text.rpartition("/")
    if not name or "/" in owner or (slash and not owner):
        raise UsageError(f"{text} does not name a model: write NAME or OWNER/NAME")
    return owner or remote.user, name


# The actions


def _publish(remote: Remote, options: argparse.Namespace) -> None:
    owner, name = _named(options.name or options.file.stem, remote)
    named = [("model", options.file), ("config", options.config), ("tokenizer", options.tokenizer)]
    parts = [PartFile(part, path) for part, path in named if path] + [PartFile("data", path) for path in options.data]
    form = Multipart(parts)
    target = remote.path(owner, "models", name)
    with answered(remote, "PUT", target, form.headers, form.chunks(), PUBLISH_TIMEOUT_S) as answer:
        published = told(remote, answer)
    for warning in published.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{owner}/{name}", f"version {published['version']}", sep="\t", flush=True)
    if options.shared:
        asked(remote, "PATCH", ("api", "models", owner, name), body={"shared": True})


def _list(remote: Remote, options: argparse.Namespace) -> None:
    for model in asked(remote, "GET", ("api", "models"))["models"]:
        if options.owner in (None, model["owner"]):
            print(*_fields(model), sep="\t")


def _fields(model: dict[str, Any]) -> tuple[str, ...]:
    versions = ",".join(map(str, model["versions"]))
    access = "shared" if model["shared"] else "private"
    title = f"{model['owner']}/{model['name']}"
    return title, f"version {model['active_version']}", f"of {versions}", model["status"], model["task"] or "-", access


def _rollback(remote: Remote, options: argparse.Namespace) -> None:
    owner, name = _named(options.model, remote)
    path = ("api", "models", owner, name)
    number = options.version if options.version is not None else _version_before(asked(remote, "GET", path))
    changed = asked(remote, "PATCH", path, body={"active_version": number})
    print(f"{owner}/{name}", f"version {changed['active_version']}", sep="\t")


def _version_before(model: dict[str, Any]) -> int:
    """The newest kept version that is older than the active one. Refused when there is none."""
    older = [number for number in model["versions"] if number < model["active_version"]]
    if not older:
        raise Refused(f"no version before {model['active_version']} is kept")
    return max(older)


def _delete(remote: Remote, options: argparse.Namespace) -> None:
    owner, name = _named(options.model, remote)
    number = None if options.version is None else str(options.version)
    asked(remote, "DELETE", (owner, "models", name), {"version": number})


ACTIONS = {"publish": _publish, "list": _list, "rollback": _rollback, "delete": _delete}
