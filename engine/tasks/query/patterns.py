"""Patterns of LIKE: `%` and `*` are any run of characters, `_` and `?` one character, and `\\` takes the next one as it is."""

ESCAPE = "\\"
_WILDCARDS = {"%": "%", "*": "%", "_": "_", "?": "_"}


def like_pattern(pattern: str) -> str:
    """The same pattern with `%`, `_` and the escape alone, as SQL has them."""
    written: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == ESCAPE:
            written.append(_literal(next(characters, ESCAPE)))
        else:
            written.append(_WILDCARDS.get(character) or _literal(character))
    return "".join(written)


def _literal(character: str) -> str:
    return ESCAPE + character if character in ("%", "_", ESCAPE) else character
