"""The command line of the server: `python -m server` starts it, `python -m server user ...` keeps its accounts."""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from server import config, users
from server.config import BadSetting, Settings
from server.importing import add_import_arguments, model_import
from server.usage import EXIT_USAGE, Parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "score":
        parser.error("score is a client and takes none of these settings: write it first")
    try:
        settings = config.read_settings(os.environ, vars(options))
    except BadSetting as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if options.command == "user":
        return _user(settings.data_dir, options)
    if options.command == "model":
        return model_import(settings.data_dir, options)
    from server.serve import serve  # the event loop is of no use to the other commands

    return serve(settings)


def _user(data_dir: Path, options: argparse.Namespace) -> int:
    if options.action == "add":
        return users.user_add(data_dir, options.name)
    if options.action == "remove":
        return users.user_remove(data_dir, options.name)
    return users.user_list(data_dir)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m server", description="Sluice: a streaming prediction server.")
    for setting in fields(Settings):
        text = f"{setting.metadata['text']} [{config.environment_name(setting.name)}, default {config.default_text(setting)}]"
        parser.add_argument(f"--{setting.name.replace('_', '-')}", dest=setting.name, metavar="VALUE", help=text.replace("%", "%%"))
    commands = parser.add_subparsers(dest="command", title="commands", metavar="{serve,score,model,user}")
    commands.add_parser("serve", help="start the server (also without a command)")
    score = commands.add_parser("score", add_help=False, help="send the records of a file through a model; see score --help")
    score.add_argument("arguments", nargs=argparse.REMAINDER)
    model = commands.add_parser("model", help="put models into a data directory").add_subparsers(dest="action", required=True)
    add_import_arguments(model.add_parser("import", help="make an embedding model of a sentence-transformers folder"))
    user = commands.add_parser("user", help="keep the accounts of a data directory").add_subparsers(dest="action", required=True)
    user.add_parser("list", help="names and times of creation")
    user.add_parser("add", help="make a user and print its key").add_argument("name")
    user.add_parser("remove", help="remove a user and its keys").add_argument("name")
    return parser
