"""Kept plans: what the block `plan` said of a body is tried for the next body that differs from it in its numbers alone.

Two such bodies have the same fields, because their strings and braces stand alike. They nearly always name the same sources, but
only a replica can tell: the block `query` compares, and does nothing else where a body names others. Knows no dataset, no rights.
"""

import re
from collections import OrderedDict

from engine.frames import Header

MAX_KEPT = 256
# Bodies that are longer are seldom sent, and looking for numbers takes 1 ns for each byte.
MAX_BODY_BYTES = 128 * 1024
# What is left of a longer body without its numbers is not worth its memory.
MAX_KEY_BYTES = 4 * 1024
# A list of numbers, as JSON and the language of queries have them, and a vector in base64. Neither can hold what ends a string.
NUMBERS = re.compile(rb'\[[-+0-9.eE, ]*\]|"b64" ?: ?"[A-Za-z0-9+/=]*"')

Key = tuple[str | None, bytes]


class KeptPlans:
    """The plans that were used last, of bodies that need no texts embedded."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Header] = OrderedDict()

    def find(self, key: Key | None) -> Header | None:
        """The plan of a body that was like this one, as the block `plan` answered it; it may not be the plan of this one."""
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def keep(self, key: Key | None, plan: Header) -> None:
        """Keep the plan of a body, or forget the one before it, which was wrong, if this one cannot be kept."""
        if key is None:
            return
        self._kept.pop(key, None)
        if not plan["texts"]:
            self._kept[key] = plan
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)


def key_of(body: bytes, workspace: str | None) -> Key | None:
    """Equal for bodies that differ in their numbers alone; None for a body whose plan is not kept."""
    if len(body) > MAX_BODY_BYTES:
        return None
    shape = NUMBERS.sub(b"[]", body)
    return (workspace, shape) if len(shape) <= MAX_KEY_BYTES else None
