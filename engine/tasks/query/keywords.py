"""The tokens of a lifted text in the words of sqlglot's parser.

sqlglot has a tokenizer of its own, which takes hundreds of words for keywords and reads `0x10` as a number with an alias. It is not
used, so a text has one meaning: that of lifting.py.
"""

from collections.abc import Sequence

from sqlglot.tokens import Token as ParserToken
from sqlglot.tokens import TokenType

from engine.tasks.query.lifting import Token

# A word that is not here is a name wherever it stands.
# fmt: off
_KEYWORDS = (
    "ALL", "AND", "ANTI", "ASC", "ASOF", "BETWEEN", "CASE", "CROSS", "DESC", "DISTINCT", "ELSE", "END", "ESCAPE", "EXCEPT", "FALSE",
    "FOR", "FROM", "FULL", "HAVING", "ILIKE", "IN", "INNER", "INTERSECT", "INTO", "IS", "JOIN", "LEFT", "LIKE", "LIMIT", "NATURAL",
    "NOT", "NULL", "OFFSET", "ON", "OR", "OUTER", "RECURSIVE", "RIGHT", "SELECT", "SEMI", "THEN", "TRUE", "UNION", "USING",
    "VALUES", "WHEN", "WHERE", "WITH",
)
# fmt: on
KEYWORDS = {"AS": TokenType.ALIAS, **{word: TokenType[word] for word in _KEYWORDS}}
_SET_OPERATORS = ("UNION", "INTERSECT", "EXCEPT")
_PAIRS = {"GROUP": TokenType.GROUP_BY, "ORDER": TokenType.ORDER_BY}
OPERATORS = {
    "(": TokenType.L_PAREN,
    ")": TokenType.R_PAREN,
    "[": TokenType.L_BRACKET,
    "]": TokenType.R_BRACKET,
    ",": TokenType.COMMA,
    ".": TokenType.DOT,
    ":": TokenType.COLON,
    "::": TokenType.DCOLON,
    "=": TokenType.EQ,
    "==": TokenType.EQ,
    "!=": TokenType.NEQ,
    "<>": TokenType.NEQ,
    "<": TokenType.LT,
    "<=": TokenType.LTE,
    ">": TokenType.GT,
    ">=": TokenType.GTE,
    "+": TokenType.PLUS,
    "-": TokenType.DASH,
    "*": TokenType.STAR,
    "/": TokenType.SLASH,
    "%": TokenType.MOD,
    "^": TokenType.CARET,
    "||": TokenType.DPIPE,
}
_KINDS = {
    "name": TokenType.IDENTIFIER,
    "string": TokenType.STRING,
    "number": TokenType.NUMBER,
    "parameter": TokenType.PLACEHOLDER,
    "vector": TokenType.PARAMETER,
}


def parser_tokens(tokens: Sequence[Token]) -> list[ParserToken]:
    """The tokens of a lifted text in the words of sqlglot; a semicolon at the end is left out."""
    found: list[ParserToken] = []
    before = ""
    rest = iter(enumerate(tokens))
    for i, token in rest:
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        kind = _parser_kind(token, following, before)
        if kind in _PAIRS.values():
            next(rest)
        before = token.text.upper() if token.kind in ("operator", "word") else ""
        if kind is not None:
            text = str(token.key) if token.kind in ("parameter", "vector") else token.text
            found.append(ParserToken(kind, text, 1, 1, token.start, token.end - 1))
    return found


def _parser_kind(token: Token, following: Token | None, before: str) -> TokenType | None:
    if token.kind == "operator":
        return OPERATORS.get(token.text)
    if token.kind != "word":
        return _KINDS[token.kind]
    # The parser compares the upper case of words, where the long s is an S.
    if not token.text.isascii():
        return TokenType.IDENTIFIER
    word = token.text.upper()
    next_word = following.text.upper() if following is not None and following.kind in ("word", "operator") else ""
    if before == ".":
        return TokenType.VAR
    if next_word == "BY" and word in _PAIRS:
        return _PAIRS[word]
    # `all(condition)` is a function, except behind a set operator, where the parenthesis begins a query.
    if next_word == "(" and word == "ALL" and before not in _SET_OPERATORS:
        return TokenType.VAR
    if next_word == "[" and word == "ARRAY":
        return TokenType.ARRAY
    if word == "INTERVAL" and following is not None and following.kind in ("string", "number"):
        return TokenType.INTERVAL
    return KEYWORDS.get(word, TokenType.VAR)
