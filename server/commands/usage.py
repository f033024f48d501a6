"""How a command answers somebody who called it wrongly: with one line, and with exit code 64 as in sysexits.h."""

import argparse
import sys
from typing import NoReturn

EXIT_USAGE = 64


class UsageError(ValueError):
    """An argument has a value that it cannot have. The message says what was wrong and what would work."""


class Parser(argparse.ArgumentParser):
    """An argument parser that exits with 64, where argparse's own exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")
