"""Parameters of the query: flags and numbers. A value that cannot be read never fails here; the surface decides what it means."""

from aiohttp import web

TRUE = frozenset({"true", "1", "yes", "on"})
MAX_DIGITS = 9


def flag(request: web.Request, name: str) -> bool:
    """Whether a parameter says yes; False without it."""
    return bool(request.query_string) and request.query.get(name, "").lower() in TRUE


def number(request: web.Request, name: str) -> int | None:
    """A parameter that counts something from 1; None without it, 0 when its value is not a number of 1 to 9 digits."""
    text = request.query.get(name) if request.query_string else None
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else 0
