"""Parameters of queries that choose: a number within limits, one word of several, a short text. ListedError `bad_field`."""

from collections.abc import Sequence

from aiohttp import web

from engine.errors import ListedError
from engine.projects.codes import BAD_FIELD
from handlers.projects.parameters import MAX_DIGITS

MAX_CHARACTERS = 200


def number(request: web.Request, name: str, default: int | None, most: int, *, least: int = 1) -> int:
    """A whole number from `least` to `most`; it must be there unless there is a default."""
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    found = int(text) if text and text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else -1
    if not least <= found <= most:
        raise _bad(name, f"Write a whole number from {least} to {most}.")
    return found


def one_of(request: web.Request, name: str, words: Sequence[str], default: str | None = None) -> str:
    """One of these words; it must be there unless there is a default."""
    found = request.query.get(name, default)
    if found is None or found not in words:
        raise _bad(name, f"Write one of {', '.join(words)}.")
    return found


def text(request: web.Request, name: str, default: str | None = None) -> str:
    """A text of some characters; it must be there unless there is a default."""
    found = request.query.get(name, default)
    if found is None or not 0 < len(found) <= MAX_CHARACTERS:
        raise _bad(name, f"Write 1 to {MAX_CHARACTERS} characters.")
    return found


def _bad(name: str, message: str) -> ListedError:
    return ListedError(BAD_FIELD, f"{name}: {message}", [{"Code": str(BAD_FIELD), "Column": name, "Message": message}])
