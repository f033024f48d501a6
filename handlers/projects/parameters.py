"""What paths and queries of this surface have in common: numbers of objects, and which part of a list is wanted."""

from typing import NamedTuple

from aiohttp import web

from engine.errors import ListedError
from engine.projects.codes import BAD_FIELD

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
# No number of an object is larger.
MAX_DIGITS = 15
NO_LIMIT = 10**MAX_DIGITS

LIST_QUERY = {
    "limit": f"how many, from 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} without it",
    "before": "only those with lower numbers than this IId",
}


class Window(NamedTuple):
    """The part of a list that is wanted: the newest `limit` of those whose numbers are lower than `before`."""

    limit: int
    before: int


def window(request: web.Request) -> Window:
    """ListedError `bad_field`."""
    return Window(_number(request, "limit", DEFAULT_LIMIT, MAX_LIMIT), _number(request, "before", NO_LIMIT, NO_LIMIT))


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    number = iid(text)
    if number is None or number > most:
        message = f"Write a whole number from 1{f' to {most}' if most < NO_LIMIT else ''}."
        raise ListedError(BAD_FIELD, f"{name}: {message}", [{"Code": BAD_FIELD, "Column": name, "Message": message}])
    return number


def iid(text: str) -> int | None:
    """The number of an object as a path or a query has it; None for a text that can be none."""
    return int(text) or None if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None
