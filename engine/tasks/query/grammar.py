"""What sqlglot's parser may read: its tables, cut down to the grammar of TQL, and how it refuses.

Knows single words. The clauses are in clauses.py, expressions in dialect.py.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from sqlglot import exp
from sqlglot.errors import ParseError
from sqlglot.parser import IsPredicatePrecedence, Parser
from sqlglot.tokens import Token as ParserToken
from sqlglot.tokens import TokenType

from engine.tasks.query.refusals import Refused, quoted

WINDOW_HINT = "Use LIMIT n BY column."
_CLAUSE_HINTS = {
    ("SAMPLE", "BY"): None,
    ("UNGROUP", "BY"): None,
    ("EXPAND", "BY"): None,
    ("FETCH", "FIRST"): "Use LIMIT.",
    ("FETCH", "NEXT"): "Use LIMIT.",
    ("FOR", "UPDATE"): None,
    ("FOR", "SHARE"): None,
}


class Unexpected(ParseError):
    """The parser cannot go on at this offset."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class Grammar(Parser):
    """The tables of sqlglot's parser, cut down, and how it refuses."""

    FUNCTIONS: ClassVar[Any] = {}
    NO_PAREN_FUNCTIONS: ClassVar[Any] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[Any] = {"CASE": lambda self: self._parse_case()}
    FUNCTION_PARSERS: ClassVar[Any] = {"CAST": lambda self: self._parse_cast(True)}
    FUNC_TOKENS: ClassVar[Any] = {TokenType.VAR, TokenType.LEFT, TokenType.RIGHT}
    SUBQUERY_PREDICATES: ClassVar[Any] = {}
    STATEMENT_PARSERS: ClassVar[Any] = {}
    ID_VAR_TOKENS: ClassVar[Any] = {TokenType.VAR}
    ALIAS_TOKENS: ClassVar[Any] = {TokenType.VAR}
    TABLE_ALIAS_TOKENS: ClassVar[Any] = {TokenType.VAR}
    ASSIGNMENT: ClassVar[Any] = {}
    BITWISE: ClassVar[Any] = {}
    TERM: ClassVar[Any] = {TokenType.DASH: exp.Sub, TokenType.PLUS: exp.Add}
    FACTOR: ClassVar[Any] = {TokenType.MOD: exp.Mod, TokenType.SLASH: exp.Div, TokenType.STAR: exp.Mul}
    EXPONENT: ClassVar[Any] = {TokenType.CARET: exp.Pow}
    LAMBDAS: ClassVar[Any] = {}
    # `a = b IS NULL` asks whether the comparison is null.
    IS_PREDICATE_PRECEDENCE: ClassVar[Any] = IsPredicatePrecedence.LOW
    COLUMN_OPERATORS: ClassVar[Any] = {
        TokenType.DOT: None,
        TokenType.DCOLON: lambda self, this, to: self.expression(exp.Cast(this=this, to=to)),
    }
    CAST_COLUMN_OPERATORS: ClassVar[Any] = {TokenType.DCOLON}
    UNARY_PARSERS: ClassVar[Any] = {
        TokenType.PLUS: lambda self: self._parse_unary(),
        TokenType.NOT: lambda self: self._placed(lambda: exp.Not(this=self._parse_equality())),
        TokenType.DASH: lambda self: self._placed(lambda: exp.Neg(this=self._parse_unary())),
    }
    PRIMARY_PARSERS: ClassVar[Any] = {
        TokenType.STRING: lambda self, token: self.expression(exp.Literal(this=token.text, is_string=True), token),
        TokenType.NUMBER: lambda self, token: self.expression(exp.Literal(this=token.text, is_string=False), token),
        TokenType.NULL: lambda self, token: self.expression(exp.Null(), token),
        TokenType.TRUE: lambda self, token: self.expression(exp.Boolean(this=True), token),
        TokenType.FALSE: lambda self, token: self.expression(exp.Boolean(this=False), token),
        TokenType.STAR: lambda self, token: self.expression(exp.Star(), token),
        TokenType.ARRAY: lambda self, token: self._parse_array(token),
        TokenType.PLACEHOLDER: lambda self, token: self.expression(exp.Placeholder(this=token.text), token),
        TokenType.PARAMETER: lambda self, token: self.expression(exp.Parameter(this=token.text), token),
    }
    # sqlglot would take them for names, and so for an alias: `select a ?`.
    PLACEHOLDER_PARSERS: ClassVar[Any] = {}
    RANGE_PARSERS: ClassVar[Any] = {
        kind: Parser.RANGE_PARSERS[kind]
        for kind in (TokenType.BETWEEN, TokenType.ILIKE, TokenType.IN, TokenType.IS, TokenType.LIKE)
    }
    QUERY_MODIFIER_PARSERS: ClassVar[Any] = {
        kind: Parser.QUERY_MODIFIER_PARSERS[kind]
        for kind in (TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING, TokenType.ORDER_BY, TokenType.LIMIT, TokenType.OFFSET)
    }
    QUERY_MODIFIER_TOKENS: ClassVar[Any] = set(QUERY_MODIFIER_PARSERS)

    def raise_error(self, message: str, token: ParserToken | None = None) -> NoReturn:
        token = token or self._curr
        if token:
            self._refuse_clause(token)
            raise Unexpected(f'Unexpected "{quoted(self.sql[token.start : token.end + 1])}".', token.start)
        raise Unexpected("The text ends too early.", self._prev.end + 1 if self._prev else 0)

    def _refuse_clause(self, token: ParserToken) -> None:
        """Refused if a clause begins here that others have and we do not."""
        pair = (token.text.upper(), self._next.text.upper() if token is self._curr else "")
        if token.token_type in (TokenType.VAR, TokenType.FOR) and pair in _CLAUSE_HINTS:
            raise Refused("unsupported", f"{' '.join(pair)} is not offered here.", at=token.start, hint=_CLAUSE_HINTS[pair])

    def _unsupported(self, message: str, hint: str | None = None, token: ParserToken | None = None) -> NoReturn:
        raise Refused("unsupported", message, at=(token or self._curr or self._prev).start, hint=hint)

    def _expect(self, kind: TokenType) -> None:
        if not self._match(kind):
            self.raise_error("")

    def _required(self, node: Any) -> Any:
        if node is None:
            self.raise_error("")
        return node

    def _placed(self, parse: Callable[[], Any]) -> Any:
        """A node that begins with the token before; the parser keeps places of names and literals alone."""
        token = self._prev
        return self.expression(parse(), token)
