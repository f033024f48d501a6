"""Our dialect of SQL: expressions, as sqlglot's parser reads them for us, and the way from tokens to its tree.

What the trees may hold is checked again in allowed.py. Knows no dataset.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.tokens import Token as ParserToken
from sqlglot.tokens import TokenType

from engine.tasks.query.clauses import Clauses
from engine.tasks.query.grammar import WINDOW_HINT, Unexpected
from engine.tasks.query.keywords import parser_tokens
from engine.tasks.query.lifting import Token
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.tree import CastType

CAST_WORDS: dict[str, CastType] = {
    "INT": "int",
    "INTEGER": "int",
    "BIGINT": "bigint",
    "FLOAT": "float",
    "DOUBLE": "double",
    "TEXT": "text",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
}


class TqlParser(Clauses):
    """Reads expressions."""

    def _parse_alias(self, this: Any, explicit: bool = False) -> Any:
        if self._curr.token_type == TokenType.VAR:
            self._refuse_clause(self._curr)
        if self._curr.token_type == TokenType.ALIAS and self._next.token_type == TokenType.L_PAREN:
            self._advance()
            self.raise_error("")
        return super()._parse_alias(this, explicit)

    def _advance_any(self, ignore_reserved: bool = False) -> Any:
        if self._curr.token_type in (TokenType.NUMBER, TokenType.STRING, TokenType.PLACEHOLDER, TokenType.PARAMETER):
            return None
        return super()._advance_any(ignore_reserved)

    def _parse_type(self, parse_interval: bool = True, fallback_to_identifier: bool = False) -> Any:
        token = self._curr
        is_typed = token.token_type == TokenType.VAR and self._next.token_type == TokenType.STRING
        if is_typed and token.text.upper() in ("DATE", "TIMESTAMP"):
            to = self._parse_types()
            cast = self.expression(exp.Cast(this=self._parse_primary(), to=to), token)
            return self._parse_column_ops(cast)
        if token.token_type == TokenType.INTERVAL:
            return self._parse_interval()
        atom = self._parse_atom()
        return atom if atom is not None else self._parse_column()

    def _parse_primary(self) -> Any:
        # sqlglot reads `()` as a row without values, which has no place.
        if self._curr.token_type == TokenType.L_PAREN and self._next.token_type == TokenType.R_PAREN:
            self._advance()
            self.raise_error("")
        # sqlglot reads `. 5` as 0.5.
        return None if self._curr.token_type == TokenType.DOT else super()._parse_primary()

    def _parse_types(self, *args: Any, **options: Any) -> Any:
        token = self._curr
        is_word = token.token_type == TokenType.VAR
        if is_word and token.text.upper() in CAST_WORDS:
            self._advance()
            return self.expression(exp.Var(this=CAST_WORDS[token.text.upper()]), token)
        if token.token_type in (TokenType.NUMBER, TokenType.DASH):
            self._unsupported("A slice has no step here.", "Write start:stop.", self._prev)
        if token.token_type in (TokenType.VAR, TokenType.IDENTIFIER):
            hint = f"Types are {', '.join(dict.fromkeys(CAST_WORDS.values()))}."
            self._unsupported(f'Unknown type "{quoted(token.text)}".', hint)
        return self.raise_error("")

    def _parse_cast(self, strict: bool, safe: bool | None = None) -> Any:
        token = self._tokens[self._index - 2]
        this = self._required(self._parse_disjunction())
        self._expect(TokenType.ALIAS)
        return self.expression(exp.Cast(this=this, to=self._parse_types()), token)

    def _parse_interval(self, *args: Any, **options: Any) -> Any:
        token = self._curr
        self._advance()
        this = self._parse_primary()
        unit = exp.Var(this=self._prev.text) if self._match(TokenType.VAR) else None
        return self.expression(exp.Interval(this=this, unit=unit), token)

    def _parse_case(self) -> Any:
        token = self._prev
        operand = self._parse_disjunction()
        branches = list(self._parse_branches())
        otherwise = self._required(self._parse_disjunction()) if self._match(TokenType.ELSE) else None
        if not branches:
            self.raise_error("")
        self._expect(TokenType.END)
        return self.expression(exp.Case(this=operand, ifs=branches, default=otherwise), token)

    def _parse_branches(self) -> Iterator[Any]:
        while self._match(TokenType.WHEN):
            condition = self._required(self._parse_disjunction())
            self._expect(TokenType.THEN)
            yield self.expression(exp.If(this=condition, true=self._required(self._parse_disjunction())))

    def _parse_between(self, this: Any) -> Any:
        low = self._required(self._parse_bitwise())
        self._expect(TokenType.AND)
        return self.expression(exp.Between(this=this, low=low, high=self._required(self._parse_bitwise())))

    def _parse_in(self, this: Any, alias: bool = False) -> Any:
        if self._curr.token_type == TokenType.L_BRACKET:
            self.raise_error("")
        return super()._parse_in(this)

    def _parse_function_call(self, *args: Any, **options: Any) -> Any:
        if self._curr.text.upper() == "EXISTS" and self._next.token_type == TokenType.L_PAREN:
            self._unsupported("EXISTS is not offered here.", "Use IN (SELECT ...).")
        return super()._parse_function_call(*args, **options)

    def _parse_lambda(self, alias: bool = False) -> Any:
        if self._curr.token_type in (TokenType.SELECT, TokenType.WITH):
            self._unsupported("A scalar subquery is not offered here.", "Use IN (SELECT ...), or a SELECT in FROM.")
        if self._match(TokenType.DISTINCT):
            return self._placed(lambda: exp.Distinct(expressions=[self._required(self._parse_disjunction())]))
        return self._parse_disjunction()

    def _parse_window(self, this: Any, alias: bool = False) -> Any:
        pair = (self._curr.text.upper(), self._next.token_type)
        is_window = pair[0] == "OVER" and pair[1] in (TokenType.L_PAREN, TokenType.VAR)
        if self._curr.token_type == TokenType.VAR and (is_window or pair == ("FILTER", TokenType.L_PAREN)):
            what = "A window function" if is_window else "FILTER"
            self._unsupported(f"{what} is not offered here.", WINDOW_HINT if is_window else "Use CASE.")
        return this

    def _parse_bracket(self, this: Any = None) -> Any:
        """Indexes behind an expression. A bracket with nothing before it is not an expression."""
        while this is not None and self._match(TokenType.L_BRACKET):
            parts = self._parse_csv(self._parse_index_part)
            if not parts:
                self.raise_error("")
            self._expect(TokenType.R_BRACKET)
            this = self.expression(exp.Bracket(this=this, expressions=parts))
        return this

    def _parse_index_part(self) -> Any:
        if self._curr.token_type == TokenType.DCOLON:
            self._unsupported("A slice has no step here.", "Write start:stop.")
        start = None if self._curr.token_type == TokenType.COLON else self._required(self._parse_disjunction())
        if not self._match(TokenType.COLON):
            return start
        token = self._prev
        stop = self._parse_disjunction()
        if self._curr.token_type == TokenType.COLON:
            self._unsupported("A slice has no step here.", "Write start:stop.")
        return self.expression(exp.Slice(this=start, expression=stop), token)

    def _parse_array(self, token: ParserToken) -> Any:
        """`ARRAY[...]`, or a bracket inside one."""
        self._expect(TokenType.L_BRACKET)
        items = self._parse_csv(self._parse_array_item)
        self._expect(TokenType.R_BRACKET)
        return self.expression(exp.Array(expressions=items), token)

    def _parse_array_item(self) -> Any:
        if self._curr.token_type == TokenType.L_BRACKET:
            return self._parse_array(self._curr)
        return self._parse_disjunction()


class Tql(Dialect):
    """Identifiers in `"`, strings in `'`, indexes as written, nulls last, `^` is power."""

    NULL_ORDERING = "nulls_are_last"
    INDEX_OFFSET = 0
    parser_class = TqlParser  # type: ignore[assignment]


def syntax_tree(tokens: Sequence[Token], lifted: str) -> Any:
    """sqlglot's tree of a lifted text. Refused, with an offset in the lifted text."""
    try:
        [found] = TqlParser(dialect=Tql()).parse(parser_tokens(tokens), lifted)
    except Unexpected as error:
        raise Refused("syntax_error", str(error), at=error.at) from None
    except RecursionError:
        raise Refused("too_complex", "The text is nested too deeply.") from None
    return found
