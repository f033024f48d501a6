"""The command `dataset`: puts files into a dataset of a running server, and lists, describes, exports and deletes datasets.

A client of the HTTP calls that everybody has. server/commands/importing.py sends files, and
server/commands/exporting.py writes them. Exit codes: 0 done, or 1 with one line on
stderr that says why; 64 usage error.
"""

import argparse
import http.client
import json
import os
import sys

from server.commands.asking import Refused, asked
from server.commands.remote import Remote, add_arguments, find_remote
from server.commands.usage import EXIT_USAGE, Parser, UsageError, program

PLAIN_LINE_S = 5.0

DESCRIPTION = "Put files into datasets of a running server, and list, describe, export and delete datasets."


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        remote = find_remote(options, os.environ)
        ACTIONS[options.action](remote, options)
    except UsageError as error:
        print(f"dataset: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # the reader of what we print has enough; server/__main__.py ends quietly
        raise
    except (Refused, OSError, http.client.HTTPException) as error:
        print(f"dataset {options.action}: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"dataset {options.action}: interrupted", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=f"{program()} dataset", description=DESCRIPTION)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    _add_import(actions.add_parser("import", help="make a dataset of files, or replace its rows"))
    listing = actions.add_parser("list", help="list the datasets that the user may read")
    listing.add_argument("org", metavar="ORG", nargs="?", help="only those of this user")
    describing = actions.add_parser("describe", help="print what is known of a dataset, as JSON")
    deleting = actions.add_parser("delete", help="delete a dataset, or one version of it")
    exporting = actions.add_parser("export", help="write the rows of a dataset to a file, one JSON object per line")
    for action in (describing, deleting, exporting):
        action.add_argument("dataset", metavar="ORG/NAME")
        action.add_argument("--version", metavar="N", help="a version that is not the current one")
    exporting.add_argument("output", metavar="OUT", help="the file to write; - for standard output")
    for action in (listing, describing, deleting, exporting):
        add_arguments(action)
    return parser


def _add_import(action: argparse.ArgumentParser) -> None:
    action.add_argument("dataset", metavar="ORG/NAME")
    action.add_argument("files", metavar="FILE", nargs="+", help="csv, tsv, jsonl or parquet, also with .gz")
    action.add_argument("--append", action="store_true", help="keep the rows that the dataset has")
    action.add_argument("--embed", metavar="SOURCE:COLUMN", action="append", help="compute a vector column from a text column")
    action.add_argument("--model", help="the embedding model [the first listed]")
    action.add_argument("--words", metavar="COLUMN", action="append", help="make a word index of a text column")
    action.add_argument("--types", metavar="COLUMN:TYPE,...", help="types that the rows alone would not tell")
    action.add_argument("--class-labels", metavar="COLUMN,...", help="text columns whose values become class labels")
    action.add_argument("--on-error", choices=("stop", "skip"), help="what to do with bad lines [stop]")
    action.add_argument("--split", help="the split that the rows belong to [train]")
    action.add_argument("--quiet", action="store_true", help="show no progress; the last line is still printed")
    add_arguments(action)


def dataset_path(title: str) -> tuple[str, ...]:
    """The segments of a dataset's path. UsageError."""
    org, _, name = title.removeprefix("hub://").partition("/")
    if not org or not name or "/" in name:
        raise UsageError(f"{title} does not name a dataset: write ORG/NAME")
    return "api", "datasets", org, name


# The actions


def _import(remote: Remote, options: argparse.Namespace) -> None:
    from server.commands import importing  # it loads an HTTP client and the engine's frames, which take 0.3 s

    answer = importing.run(remote, dataset_path(options.dataset), options)
    for error in answer["errors"]:
        print(f"line {error['line']}: {error['message']}", file=sys.stderr)


def _list(remote: Remote, options: argparse.Namespace) -> None:
    found = asked(remote, "GET", ("api", "datasets"), {"org": options.org})
    for one in found["datasets"]:
        title = one["dataset"].removeprefix("hub://")
        figures = (f"{one['rows']} rows", f"version {one['version']}", f"{one['bytes']} bytes", one["updated_at"] or "")
        print(title, *(("not prepared yet",) if one["rows"] is None else figures), sep="\t")


def _describe(remote: Remote, options: argparse.Namespace) -> None:
    found = asked(remote, "GET", dataset_path(options.dataset), {"version": options.version})
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _delete(remote: Remote, options: argparse.Namespace) -> None:
    asked(remote, "DELETE", dataset_path(options.dataset), {"version": options.version})


def _export(remote: Remote, options: argparse.Namespace) -> None:
    """Write the rows of every split, as one version has them."""
    from server.commands import exporting  # it imports this module

    exporting.run(remote, dataset_path(options.dataset), options.version, options.output)


ACTIONS = {"import": _import, "list": _list, "describe": _describe, "delete": _delete, "export": _export}
