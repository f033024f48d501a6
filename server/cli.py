"""The command line of the server: `sluice` starts it, `sluice user ...` keeps its accounts."""

import argparse
import os
import sys
from dataclasses import fields

from server import __version__, config
from server.commands import model_import, queue, user, watch
from server.commands.usage import EXIT_USAGE, Parser, program
from server.config import BadSetting, Settings

# Commands that ask a running server; server/__main__.py runs them without loading it.
CLIENTS = {
    "score": "send the records of a file through a model",
    "dataset": "put files into datasets, list, export them",
    "health": "whether the server can score",
}
# The same for the words behind `model`.
MODEL_CLIENTS = ("publish", "list", "rollback", "delete")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if options.command in CLIENTS or (options.command == "model" and options.action in MODEL_CLIENTS):
        parser.error(_misplaced(options))
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        settings = config.read_settings(os.environ, vars(options))
    except BadSetting as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if options.command == "user":
        return user.run(settings.data_dir, options)
    if options.command == "model":
        return model_import.run(settings.data_dir, options)
    if options.command in queue.COMMANDS:
        return queue.run(settings.data_dir, options)
    if options.command == "watch":
        return watch.run([word for word in arguments or sys.argv[1:] if word != "watch"])
    if options.command == "worker":
        from server.commands import worker  # loads uvloop, too

        return worker.run(settings)
    from server.serve import serve  # loads uvloop and the application, which the other commands do not use

    return serve(settings)


def _misplaced(options: argparse.Namespace) -> str:
    """Why a client takes no settings before its word, and where those that were given belong."""
    given = [config.environment_name(setting.name) for setting in fields(Settings) if getattr(options, setting.name) is not None]
    word = options.command
    advice = f", and set {', '.join(given)} in the environment" if given else ""
    return f"{word} asks a running server: write the word {word} first{advice}"


def _parser() -> argparse.ArgumentParser:
    usage = "%(prog)s [--SETTING VALUE ...] [COMMAND ...]"
    parser = Parser(prog=program(), usage=usage, description="Sluice: a streaming prediction server.")
    parser.add_argument("--version", action="version", version=f"sluice {__version__}")
    for setting in fields(Settings):
        text = f"{setting.metadata['text']} [{config.environment_name(setting.name)}, default {config.default_text(setting)}]"
        parser.add_argument(f"--{setting.name.replace('_', '-')}", dest=setting.name, metavar="VALUE", help=text.replace("%", "%%"))
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND", prog=program())
    commands.add_parser("serve", help="start the server (as without a command)")
    commands.add_parser("worker", help="take jobs of SLUICE_WORKER_QUEUE, beside a server or without one")
    commands.add_parser("watch", help="start the server, and start it again whenever its code changes")
    queue.add_arguments(commands)
    for name, text in CLIENTS.items():
        client = commands.add_parser(name, add_help=False, help=f"{text}; see {name} --help")
        client.add_argument("arguments", nargs=argparse.REMAINDER)
    models = commands.add_parser("model", help="publish, list, roll back, delete and import models; see model --help")
    actions = model_import.add_arguments(models)
    for name in MODEL_CLIENTS:
        actions.add_parser(name, add_help=False).add_argument("arguments", nargs=argparse.REMAINDER)
    user.add_arguments(commands.add_parser("user", help="list, add and remove the users of a data directory"))
    return parser
