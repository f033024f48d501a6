"""Sources that a replica keeps open from one query to the next: opening the files of a segment takes up to a millisecond.

A query gets only what its own header grants: what is kept here is found by the folder, the version and the segments of a grant.
Knows no query.
"""

import os.path
from collections import OrderedDict
from typing import Any

from engine.tasks.query.segments import Source

# Maps take no memory of their own, but they keep the room of deleted files on the disk.
MAX_KEPT = 16

Key = tuple[str, ...]


class OpenedSources:
    """The sources that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Source] = OrderedDict()

    def granted(self, grant: dict[str, Any]) -> Source:
        """The source of a grant, open."""
        key = (grant["folder"], grant["title"], *(segment["id"] for segment in grant["segments"]))
        if key not in self._kept:
            self._kept[key] = Source.granted(grant)
        self._kept.move_to_end(key)
        self._let_go()
        return self._kept[key]

    def _let_go(self) -> None:
        """Forget what was not used for longest, when there is too much or when it is deleted."""
        folder, _, *segments = next(iter(self._kept))
        is_gone = bool(segments) and not os.path.exists(os.path.join(folder, segments[0]))
        if len(self._kept) > MAX_KEPT or (is_gone and len(self._kept) > 1):
            self._kept.popitem(last=False)
