"""The command line of the server: `python -m server` starts it, `python -m server user ...` keeps its accounts."""

import argparse
import os
import sys
from dataclasses import fields

from server import config
from server.commands import model, queue, user, watch
from server.commands.usage import EXIT_USAGE, Parser
from server.config import BadSetting, Settings

# Commands that ask a running server; server/__main__.py runs them without loading it.
CLIENTS = ("score", "dataset")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command in CLIENTS:
        parser.error(f"{options.command} is a client and takes none of these settings: write the word {options.command} first")
    try:
        settings = config.read_settings(os.environ, vars(options))
    except BadSetting as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if options.command == "user":
        return user.run(settings.data_dir, options)
    if options.command == "model":
        return model.run(settings.data_dir, options)
    if options.command in queue.COMMANDS:
        return queue.run(settings.data_dir, options)
    if options.command == "watch":
        return watch.run([word for word in arguments or sys.argv[1:] if word != "watch"])
    if options.command == "worker":
        from server.commands import worker  # loads uvloop, too

        return worker.run(settings)
    from server.serve import serve  # loads uvloop and the application, which the other commands do not use

    return serve(settings)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m server", description="Sluice: a streaming prediction server.")
    for setting in fields(Settings):
        text = f"{setting.metadata['text']} [{config.environment_name(setting.name)}, default {config.default_text(setting)}]"
        parser.add_argument(f"--{setting.name.replace('_', '-')}", dest=setting.name, metavar="VALUE", help=text.replace("%", "%%"))
    commands = parser.add_subparsers(dest="command", title="commands", metavar="{serve,worker,...}")
    commands.add_parser("serve", help="start the server (as without a command)")
    commands.add_parser("worker", help="take jobs of SLUICE_WORKER_QUEUE, beside a server or without one")
    commands.add_parser("watch", help="start the server, and start it again whenever its code changes")
    queue.add_arguments(commands)
    score = commands.add_parser("score", add_help=False, help="send the records of a file through a model; see score --help")
    score.add_argument("arguments", nargs=argparse.REMAINDER)
    dataset = commands.add_parser("dataset", add_help=False, help="put files into datasets, list, export them; see dataset --help")
    dataset.add_argument("arguments", nargs=argparse.REMAINDER)
    model.add_arguments(commands.add_parser("model", help="add models to a data directory"))
    user.add_arguments(commands.add_parser("user", help="list, add and remove the users of a data directory"))
    return parser
