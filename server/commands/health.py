"""The command `health`: whether the server can score, for health checks of containers. It needs no credentials.

Exit codes: 0 it can, 1 it cannot or does not answer, 64 usage error.
"""

import argparse
import http.client
import os
import sys

from server.commands.asking import Refused, answered
from server.commands.remote import Remote, find_url
from server.commands.usage import EXIT_USAGE, Parser, UsageError, program

TIMEOUT_S = 5.0


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        remote = Remote(find_url(options.url, os.environ), "", None)
        with answered(remote, "GET", remote.path("healthcheck"), {}, None, TIMEOUT_S) as answer:
            print(answer.read().decode("utf-8", "replace"))
    except UsageError as error:
        print(f"health: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (Refused, OSError, http.client.HTTPException) as error:
        print(f"health: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=f"{program()} health", description="Say whether a server can score: exit code 0 if so, else 1.")
    parser.add_argument("--url", help="address of the server [SLUICE_URL, else SLUICE_PORT on this machine]")
    return parser
