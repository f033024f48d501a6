"""What a row of tokens shows before it is parsed: refusals with an exact place, made by one loop.

A parser that calls itself for every bracket must not meet a text that is nested deeply, and our parser takes some texts that are
no SQL, such as `select a, from t`. Both are refused here. Knows no tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.tasks.query.lifting import Token
from engine.tasks.query.refusals import Refused, nearest, quoted

MAX_DEPTH = 64

_CLOSING = {")": "(", "]": "["}
_ENDS_OF_LISTS = frozenset({")", "]", ",", ";", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET"})
_SET_OPERATORS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_AFTER_EMPTY_SELECT = (_ENDS_OF_LISTS | _SET_OPERATORS | {"AS"}) - {","}
# The parser takes FROM before SELECT, and a TABLE, as whole queries; we do not.
_QUERY_STARTS = frozenset({"(", "AS", "ALL", "UNION", "INTERSECT", "EXCEPT"})
_NO_QUERIES = {"FROM": "Begin with SELECT.", "TABLE": "Write SELECT * FROM.", "VALUES": "Use parameters, or a dataset."}


def check_outline(tokens: Sequence[Token], size: int) -> None:
    """Refused, with an offset in the lifted text, which has `size` characters."""
    if not tokens:
        raise Refused("syntax_error", "The text is empty.", hint="Begin with SELECT.")
    _check_first(tokens)
    nesting = _Nesting()
    before, before_at = "", 0
    for token in tokens:
        word = _word(token) if before != "." else ""
        nesting.take(word, token.start)
        _check_pair(before, before_at, word, token)
        # SELECT DISTINCT is as empty as SELECT.
        if before != "SELECT" or word not in ("DISTINCT", "ALL"):
            before, before_at = word, token.start
    if before == ",":
        raise Refused("syntax_error", "Nothing follows the comma.", at=before_at)
    if before == "SELECT":
        raise Refused("syntax_error", "The select is empty.", at=size)
    nesting.finish()


def _word(token: Token) -> str:
    """The operator, or the word in upper case; empty for anything else."""
    if token.kind == "operator":
        return token.text
    return token.text.upper() if token.kind == "word" and token.text.isascii() else ""


def _check_first(tokens: Sequence[Token]) -> None:
    first = next((token for token in tokens if token.text != "(" or token.kind != "operator"), tokens[0])
    word = _word(first)
    if word in ("SELECT", "WITH"):
        return
    if word in _NO_QUERIES:
        raise Refused("unsupported", f"A query cannot begin with {word}.", at=first.start, hint=_NO_QUERIES[word])
    if word in (")", ";"):
        raise Refused("syntax_error", f'Unexpected "{word}".', at=first.start)
    hint = nearest(first.text.lower(), ("select", "with")) if first.kind == "word" else None
    raise Refused("only_select", "Only SELECT is answered.", at=first.start, hint=hint)


def _check_pair(before: str, before_at: int, word: str, token: Token) -> None:
    """Two neighbours that no query has; words in upper case, empty for what is no word and no operator."""
    if before == ";" and word != ";":
        raise Refused("one_statement", "Only one statement is answered.", at=token.start)
    if before == "," and word in _ENDS_OF_LISTS:
        raise Refused("syntax_error", "Nothing follows the comma.", at=before_at)
    if word == "," and before in ("(", "[", "SELECT"):
        raise Refused("syntax_error", "Nothing is before the comma.", at=token.start)
    if before == "SELECT" and word in _AFTER_EMPTY_SELECT:
        raise Refused("syntax_error", "The select is empty.", at=token.start)
    if word in _NO_QUERIES and before in _QUERY_STARTS:
        raise Refused("unsupported", f"A query cannot begin with {word}.", at=token.start, hint=_NO_QUERIES[word])


@dataclass(slots=True)
class _Nesting:
    """Counts what makes a parser call itself: brackets, CASE, and prefixes in a row.

    opened    `(`, `[` and `CASE` that are open, each with its offset
    prefixes  how many NOT, INTERVAL and signs stand directly before what is read now
    """

    opened: list[tuple[str, int]] = field(default_factory=list)
    prefixes: int = 0

    def take(self, word: str, at: int) -> None:
        if word in ("NOT", "INTERVAL", "+", "-"):
            self.prefixes += 1
        else:
            self.prefixes = 0
        if word in ("(", "[", "CASE"):
            self.opened.append((word, at))
        elif word in _CLOSING:
            self._close(word, at)
        elif word == "END" and self.opened and self.opened[-1][0] == "CASE":
            self.opened.pop()
        if len(self.opened) + self.prefixes > MAX_DEPTH:
            raise too_deep(at)

    def _close(self, bracket: str, at: int) -> None:
        while self.opened and self.opened[-1][0] == "CASE":
            self.opened.pop()
        if not self.opened or self.opened[-1][0] != _CLOSING[bracket]:
            raise Refused("syntax_error", f'Unexpected "{bracket}".', at=at)
        self.opened.pop()

    def finish(self) -> None:
        for opening, at in reversed(self.opened):
            missing = "END" if opening == "CASE" else ")" if opening == "(" else "]"
            raise Refused("syntax_error", f'"{quoted(opening)}" has no "{missing}".', at=at)


def too_deep(at: int | None) -> Refused:
    return Refused("too_complex", f"The text is nested more than {MAX_DEPTH} levels deep.", at=at)
