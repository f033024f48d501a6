"""How commands are told that they were called wrongly: one line, and exit code 64 as in sysexits.h."""

import argparse
import sys
from typing import NoReturn

EXIT_USAGE = 64


class Parser(argparse.ArgumentParser):
    """An argument parser that ends so."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")
