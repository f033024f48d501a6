"""How a command answers somebody who called it wrongly: with one line, and with exit code 64 as in sysexits.h."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

EXIT_USAGE = 64


class UsageError(ValueError):
    """An argument has a value that it cannot have. The message says what was wrong and what would work."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 64. argparse's own print all options, and exit with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def program() -> str:
    """The command as the caller has typed it: `sluice`, or `python -m server` where that was not on the path."""
    return "python -m server" if Path(sys.argv[0]).name == "__main__.py" else "sluice"
