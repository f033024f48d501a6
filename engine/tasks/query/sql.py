"""Pieces of SQL: text of our own words with a `?` for every constant, and the constants in the order of the text.

No character of what the user wrote ever gets into the text. Knows no table and no database.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from engine.tasks.query.refusals import Refused

# Some templates use a part several times, so nested ones double their text at each level.
MAX_CHARACTERS = 512 * 1024
_SLOT = re.compile(r"\{(\d*)\}|\?")


class Sql(NamedTuple):
    text: str
    constants: tuple[Any, ...] = ()


def fill(template: str, *parts: Sql, own: tuple[Any, ...] = ()) -> Sql:
    """The template with parts in the place of `{}` and `{0}`, and with the constants `own` for each `?` of its own.

    Refused (`too_complex`) where it grows beyond MAX_CHARACTERS.
    """
    text: list[str] = []
    constants: list[Any] = []
    remaining, unused, end = iter(parts), iter(own), 0
    for slot in _SLOT.finditer(template):
        text.append(template[end : slot.start()])
        end = slot.end()
        if slot.group() == "?":
            text.append("?")
            constants.append(next(unused))
            continue
        part = parts[int(slot.group(1))] if slot.group(1) else next(remaining)
        text.append(part.text)
        constants += part.constants
    text.append(template[end:])
    if sum(map(len, text)) > MAX_CHARACTERS:
        raise Refused("too_complex", "The query is too large once it is planned.")
    return Sql("".join(text), tuple(constants))


def join(separator: str, parts: Iterable[Sql]) -> Sql:
    listed = list(parts)
    return Sql(separator.join(part.text for part in listed), tuple(constant for part in listed for constant in part.constants))
