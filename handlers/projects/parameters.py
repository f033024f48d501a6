"""What paths and queries of this surface say: numbers of objects, which part of a list is wanted, words and sizes."""

from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web

from engine.errors import ListedError
from engine.projects.codes import BAD_FIELD
from handlers.http.routes import whole

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
# No number of an object is larger.
MAX_DIGITS = 15
NO_LIMIT = 10**MAX_DIGITS
MAX_CHARACTERS = 200

LIST_QUERY = {
    "limit": whole(f"how many, from 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} without it", 1, MAX_LIMIT),
    "before": whole("only those with lower numbers than this IId", 1),
}


class ListPart(NamedTuple):
    """The part of a list that is wanted: the newest `limit` of those whose numbers are lower than `before`."""

    limit: int
    before: int


def list_part(request: web.Request) -> ListPart:
    """ListedError `bad_field`."""
    return ListPart(number(request, "limit", DEFAULT_LIMIT, most=MAX_LIMIT), number(request, "before", NO_LIMIT))


def number(request: web.Request, name: str, default: int | None, *, least: int = 1, most: int = NO_LIMIT) -> int:
    """A whole number; it must be there unless there is a default. ListedError `bad_field`."""
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    found = iid(text or "")
    if found is None or not least <= found <= most:
        raise _bad(name, f"Write a whole number from {least}{f' to {most}' if most < NO_LIMIT else ''}.")
    return found


def one_of(request: web.Request, name: str, words: Sequence[str], default: str | None = None) -> str:
    """One of these words; it must be there, and not be empty, unless there is a default. ListedError `bad_field`."""
    found = request.query.get(name) or default
    if found is None or found not in words:
        raise _bad(name, f"Write one of {', '.join(words)}.")
    return found


def short_text(request: web.Request, name: str, default: str | None = None) -> str:
    """A text of some characters; it must be there unless there is a default. ListedError `bad_field`."""
    found = request.query.get(name) or default
    if found is None or len(found) > MAX_CHARACTERS:
        raise _bad(name, f"Write 1 to {MAX_CHARACTERS} characters.")
    return found


def _bad(name: str, message: str) -> ListedError:
    return ListedError(BAD_FIELD, f"{name}: {message}", [{"Code": BAD_FIELD, "Column": name, "Message": message}])


def iid(text: str) -> int | None:
    """The number of an object as a path or a query has it; None for any other text."""
    return int(text) or None if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None
