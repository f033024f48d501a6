"""The command line: `python -m server` starts the server, `python -m server user ...` keeps its accounts."""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from server import config, users
from server.config import BadSetting, Settings

EXIT_USAGE = 64


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.read_settings(os.environ, vars(options))
    except BadSetting as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if options.command == "user":
        return _user(settings.data_dir, options)
    from server.__main__ import serve  # the event loop is of no use to the other commands

    return serve(settings)


def _user(data_dir: Path, options: argparse.Namespace) -> int:
    if options.action == "add":
        return users.user_add(data_dir, options.name)
    if options.action == "remove":
        return users.user_remove(data_dir, options.name)
    return users.user_list(data_dir)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m server", description="Sluice: a streaming prediction server.")
    for setting in fields(Settings):
        text = f"{setting.metadata['text']} [{config.environment_name(setting.name)}, default {config.default_text(setting)}]"
        parser.add_argument(f"--{setting.name.replace('_', '-')}", dest=setting.name, metavar="VALUE", help=text.replace("%", "%%"))
    commands = parser.add_subparsers(dest="command", title="commands", metavar="{serve,user}")
    commands.add_parser("serve", help="start the server (also without a command)")
    user = commands.add_parser("user", help="keep the accounts of a data directory").add_subparsers(dest="action", required=True)
    user.add_parser("list", help="names and times of creation")
    user.add_parser("add", help="make a user and print its key").add_argument("name")
    user.add_parser("remove", help="remove a user and its keys").add_argument("name")
    return parser
