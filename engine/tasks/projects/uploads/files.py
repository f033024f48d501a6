"""What the readers of both kinds of files share: what they are asked for, and what they give. Knows no kind of file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.tasks.projects.progress import Stage
from engine.tasks.projects.uploads.checks import Cells
from engine.tasks.projects.uploads.problems import Problems

MAX_COLUMNS = 2_000
# More than any type has keys, so that the whole head of a wide file is among these.
MAX_HEAD_ROWS = 32
# A cell that is None is missing.
Record = list[str | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reader is asked for.

    skip        how many records at the start are not data
    labels      of the columns, as problems name them
    is_number   of each column
    max_rows    a file with more is refused
    as_text     numbers are wanted as they are written
    """

    skip: int
    labels: Sequence[str]
    is_number: Sequence[bool]
    max_rows: int
    as_text: bool


class DataFile(Protocol):
    """A file as records of cells.

    head     its first records; empty for an empty file
    is_text  numbers come as they are written, whether that is asked for or not
    """

    head: list[Record]
    is_text: bool

    def close(self) -> None:
        """Let go of the file."""
        ...

    def check_head(self, num_rows: int, problems: Problems) -> None:
        """Note the cells of the first records, which have headers, that are no values."""
        ...

    def columns(self, asked: Asked, problems: Problems) -> Stage[list[Cells]]:
        """The columns of all records but the skipped ones and the empty ones."""
        ...


def letter(column: int) -> str:
    """What a spreadsheet calls a column that is counted from 0."""
    name, rest = "", column + 1
    while rest:
        rest, place = divmod(rest - 1, 26)
        name = chr(ord("A") + place) + name
    return name
