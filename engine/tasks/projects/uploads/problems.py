"""Problems: what is wrong with a file, in words for the person who can mend it. Knows no file."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from engine.tasks.projects.refusals import MAX_DETAILS, Refusal

Array = np.ndarray

MAX_SHOWN = 100
# Before the rows of a file come the problems of the file itself.
NO_ROW = -1


class Problems:
    """The first problems of a file by row, and how many there are in all."""

    def __init__(self) -> None:
        self.total = 0
        self._kept: list[tuple[int, dict[str, Any]]] = []

    def __bool__(self) -> bool:
        return self.total > 0

    def add(self, code: str, message: str, row: int | None = None, column: str | None = None, value: Any = None) -> None:
        self.add_many([NO_ROW if row is None else row], lambda _: (code, message, column, value))

    def add_many(self, rows: Iterable[int] | Array, told: Callable[[int], tuple[str, str, str | None, Any]]) -> None:
        """One problem in each of these rows of the file, which ascend.

        told  from the place in `rows` to code, message, column and value; it is called for those that are kept alone
        """
        rows = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
        self.total += len(rows)
        for place, row in enumerate(rows[:MAX_DETAILS].tolist()):
            self._kept.append((row, _detail(row, *told(place))))
        if len(self._kept) > 20 * MAX_DETAILS:
            self._forget()

    def refuse(self, file_name: str) -> None:
        """Refusal `invalid_file`, if there is a problem."""
        if not self.total:
            return
        self._forget()
        told = "1 problem" if self.total == 1 else f"{self.total:,} problems"
        raise Refusal("invalid_file", f"{told} in {file_name}.", [detail for _, detail in self._kept], self.total)

    def _forget(self) -> None:
        """Keep the first ones by row; those of one row stay in the order in which they were found."""
        self._kept = sorted(self._kept, key=lambda kept: kept[0])[:MAX_DETAILS]


def _detail(row: int, code: str, message: str, column: str | None, value: Any) -> dict[str, Any]:
    shown = None if value is None else str(value)[:MAX_SHOWN]
    return {"Code": code, "Row": None if row == NO_ROW else row, "Column": column, "Value": shown, "Message": message}
