"""Holds: what is prepared of a dataset stays on the disk while somebody reads it, also when something newer takes its place.

A reader holds the dataset before it asks which files are current; the sweep asks for the holds after it has asked the same. So the
sweep either sees the hold, or has seen as current what the reader is told of.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator


class Holds:
    """The datasets that somebody reads now, by name."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Hold what is prepared of a dataset until the context ends."""
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]

    def names(self) -> set[str]:
        return set(self._held)
