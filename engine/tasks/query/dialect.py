"""Our dialect of SQL: which tokens the parser of sqlglot gets, and what it does with them.

The parser is cut down to the grammar of TQL. Where sqlglot reads more than we offer, or swallows a word without a trace in its
tree, a method here reads less. Every node gets the offset of its first token where one is known. What the trees may hold is checked
again in allowed.py. Knows no dataset.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError
from sqlglot.parser import Parser
from sqlglot.tokens import Token as ParserToken
from sqlglot.tokens import TokenType

from engine.tasks.query.lifting import Token
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.tree import CastType

# A word that is not here is a name wherever it stands.
KEYWORDS = {
    word: getattr(TokenType, "ALIAS" if word == "AS" else word)
    for word in [
        "ALL",
        "ANTI",
        "AND",
        "AS",
        "ASC",
        "ASOF",
        "BETWEEN",
        "CASE",
        "CROSS",
        "DESC",
        "DISTINCT",
        "ELSE",
        "END",
        "ESCAPE",
        "EXCEPT",
        "FALSE",
        "FOR",
        "FROM",
        "FULL",
        "HAVING",
        "ILIKE",
        "IN",
        "INNER",
        "INTERSECT",
        "INTO",
        "IS",
        "JOIN",
        "LEFT",
        "LIKE",
        "LIMIT",
        "NATURAL",
        "NOT",
        "NULL",
        "OFFSET",
        "ON",
        "OR",
        "OUTER",
        "RECURSIVE",
        "RIGHT",
        "SELECT",
        "SEMI",
        "THEN",
        "TRUE",
        "UNION",
        "USING",
        "VALUES",
        "WHEN",
        "WHERE",
        "WITH",
    ]
}
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

CAST_TYPES: dict[str, CastType] = {
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


class Unexpected(ParseError):  # type: ignore[misc]
    """The parser cannot go on at this offset."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


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
        before = token.text if token.kind == "operator" else ""
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
    if next_word == "[" and word == "ARRAY":
        return TokenType.ARRAY
    if word == "INTERVAL" and following is not None and following.kind in ("string", "number"):
        return TokenType.INTERVAL
    return KEYWORDS.get(word, TokenType.VAR)


class TqlParser(Parser):  # type: ignore[misc]
    """sqlglot's parser, cut down."""

    FUNCTIONS: dict[str, Any] = {}
    NO_PAREN_FUNCTIONS: dict[Any, Any] = {}
    NO_PAREN_FUNCTION_PARSERS = {"CASE": lambda self: self._parse_case()}
    FUNCTION_PARSERS = {"CAST": lambda self: self._parse_cast(True)}
    FUNC_TOKENS = {TokenType.VAR, TokenType.ALL, TokenType.LEFT, TokenType.RIGHT, TokenType.CASE}
    SUBQUERY_PREDICATES: dict[Any, Any] = {}
    STATEMENT_PARSERS: dict[Any, Any] = {}
    ID_VAR_TOKENS = {TokenType.VAR}
    ALIAS_TOKENS = {TokenType.VAR}
    TABLE_ALIAS_TOKENS = {TokenType.VAR}
    ASSIGNMENT: dict[Any, Any] = {}
    BITWISE: dict[Any, Any] = {}
    TERM = {TokenType.DASH: exp.Sub, TokenType.PLUS: exp.Add}
    FACTOR = {TokenType.MOD: exp.Mod, TokenType.SLASH: exp.Div, TokenType.STAR: exp.Mul}
    EXPONENT = {TokenType.CARET: exp.Pow}
    LAMBDAS: dict[Any, Any] = {}
    COLUMN_OPERATORS = {
        TokenType.DOT: None,
        TokenType.DCOLON: lambda self, this, to: self.expression(exp.Cast(this=this, to=to)),
    }
    CAST_COLUMN_OPERATORS = {TokenType.DCOLON}
    UNARY_PARSERS = {
        TokenType.PLUS: lambda self: self._parse_unary(),
        TokenType.NOT: lambda self: self._placed(lambda: exp.Not(this=self._parse_equality())),
        TokenType.DASH: lambda self: self._placed(lambda: exp.Neg(this=self._parse_unary())),
    }
    PRIMARY_PARSERS = {
        TokenType.STRING: lambda self, token: self.expression(exp.Literal(this=token.text, is_string=True), token),
        TokenType.NUMBER: lambda self, token: self.expression(exp.Literal(this=token.text, is_string=False), token),
        TokenType.NULL: lambda self, token: self.expression(exp.Null(), token),
        TokenType.TRUE: lambda self, token: self.expression(exp.Boolean(this=True), token),
        TokenType.FALSE: lambda self, token: self.expression(exp.Boolean(this=False), token),
        TokenType.STAR: lambda self, token: self.expression(exp.Star(), token),
        TokenType.ARRAY: lambda self, token: self._parse_array(token),
    }
    PLACEHOLDER_PARSERS = {
        TokenType.PLACEHOLDER: lambda self: self.expression(exp.Placeholder(this=self._prev.text), self._prev),
        TokenType.PARAMETER: lambda self: self.expression(exp.Parameter(this=self._prev.text), self._prev),
    }
    RANGE_PARSERS = {
        kind: Parser.RANGE_PARSERS[kind]
        for kind in (TokenType.BETWEEN, TokenType.ILIKE, TokenType.IN, TokenType.IS, TokenType.LIKE)
    }
    QUERY_MODIFIER_PARSERS = {
        kind: Parser.QUERY_MODIFIER_PARSERS[kind]
        for kind in (TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING, TokenType.ORDER_BY, TokenType.LIMIT, TokenType.OFFSET)
    }
    QUERY_MODIFIER_TOKENS = set(QUERY_MODIFIER_PARSERS)

    # Errors

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

    # Queries

    def _parse_statement(self) -> Any:
        return self._required(self._parse_ddl_select())

    def _parse_select_query(self, *args: Any, **options: Any) -> Any:
        token = self._curr
        if token.token_type in (TokenType.FROM, TokenType.VALUES):
            self._unsupported(f"A query cannot begin with {token.text.upper()}.")
        if token.token_type == TokenType.SELECT:
            self._check_select_words()
        query = super()._parse_select_query(*args, **options)
        if isinstance(query, exp.Query) and "start" not in query.meta:
            query.update_positions(token)
        return query

    def _check_select_words(self) -> None:
        index = self._index + 1
        words = [*self._tokens[index : index + 4], *[self._tokens[-1]] * 4]
        if words[0].token_type == TokenType.DISTINCT and words[1].token_type == TokenType.ON:
            self._unsupported("DISTINCT ON is not offered here.", WINDOW_HINT, words[1])
        top, number = words[1:3] if words[0].token_type == TokenType.DISTINCT else words[:2]
        is_number = number.token_type in (TokenType.NUMBER, TokenType.PLACEHOLDER)
        if top.token_type == TokenType.VAR and top.text.upper() == "TOP" and is_number:
            self._unsupported("TOP is not offered here.", "Use LIMIT.", top)

    def _parse_with(self, skip_with_token: bool = False) -> Any:
        if self._curr.token_type == TokenType.WITH and self._next.token_type == TokenType.RECURSIVE:
            self._unsupported("WITH RECURSIVE is not offered here.", None, self._next)
        return super()._parse_with(skip_with_token)

    def _parse_recursive_with_search(self) -> None:
        return None

    def _parse_cte(self) -> Any:
        token = self._curr
        alias = exp.TableAlias(this=self._required(self._parse_id_var(any_token=False)))
        self._refuse_column_names()
        self._expect(TokenType.ALIAS)
        self._expect(TokenType.L_PAREN)
        query = self._parse_statement()
        self._expect(TokenType.R_PAREN)
        return self.expression(exp.CTE(this=query, alias=alias), token)

    def _parse_into(self) -> None:
        if self._curr.token_type == TokenType.INTO:
            self._unsupported("SELECT INTO is not offered here.")

    def _parse_table(self, **options: Any) -> Any:
        token = self._curr
        if self._match(TokenType.L_PAREN):
            query = self._parse_statement()
            self._expect(TokenType.R_PAREN)
            return self.expression(exp.Subquery(this=query, alias=self._parse_table_alias()), token)
        name = self._parse_source_name()
        return self.expression(exp.Table(this=name, alias=self._parse_table_alias()), token)

    def _parse_source_name(self) -> Any:
        token = self._curr
        if token.token_type == TokenType.STRING:
            self._unsupported("A source is a name, not a string.", 'Write the name in double quotes: "hub://org/name".')
        if token.token_type == TokenType.VALUES:
            self._unsupported("VALUES is not offered here.", "Use parameters, or a dataset.")
        if token.token_type == TokenType.PLACEHOLDER:
            self._unsupported("A source cannot be a parameter.")
        if self._next.token_type == TokenType.L_PAREN and token.token_type not in (TokenType.IDENTIFIER, TokenType.SELECT):
            self._unsupported("A function cannot be a source.", "A source is hub://org/name.")
        name = self._required(self._parse_id_var(any_token=False))
        if self._curr.token_type == TokenType.DOT:
            raise Refused("bad_name", "A source is hub://org/name.", at=token.start)
        return name

    def _parse_table_alias(self, alias_tokens: Any = None) -> Any:
        self._refuse_clause(self._curr) if self._curr else None
        is_named = self._match(TokenType.ALIAS)
        name = self._parse_id_var(any_token=is_named, tokens=self.TABLE_ALIAS_TOKENS)
        self._refuse_column_names()
        if is_named:
            self._required(name)
        return exp.TableAlias(this=name) if name else None

    def _refuse_column_names(self) -> None:
        if self._curr.token_type == TokenType.L_PAREN:
            self._unsupported("An alias has no column names here.", "Write AS in the select.")

    def _parse_join(self, **options: Any) -> Any:
        token = self._curr
        if token.token_type == TokenType.COMMA:
            self._unsupported("A comma cannot join sources.", "Write JOIN ... ON.")
        index = self._index
        _, side, kind = self._parse_join_parts()
        if not self._match(TokenType.JOIN):
            self._retreat(index)
            return None
        words = [part.text.upper() for part in self._tokens[index : self._index - 1]]
        if words not in ([], ["INNER"], ["LEFT"], ["LEFT", "OUTER"]):
            self._unsupported(f"{quoted(' '.join(words))} JOIN is not offered here.", "Write JOIN or LEFT JOIN.", token)
        join = exp.Join(this=self._parse_table(), side=side and "LEFT", kind=None)
        self._parse_join_condition(join)
        return self.expression(join, token)

    def _parse_join_condition(self, join: Any) -> None:
        if self._match(TokenType.ON):
            join.set("on", self._required(self._parse_disjunction()))
        elif self._match(TokenType.USING):
            self._expect(TokenType.L_PAREN)
            join.set("using", self._parse_csv(lambda: self._required(self._parse_id_var(any_token=False))))
            self._expect(TokenType.R_PAREN)
        else:
            raise Refused("syntax_error", "JOIN needs ON or USING.", at=(self._curr or self._prev).start)

    # Clauses

    def _parse_group(self, skip_group_by_token: bool = False) -> Any:
        token = self._curr
        self._expect(TokenType.GROUP_BY)
        return self.expression(exp.Group(expressions=self._parse_csv(lambda: self._required(self._parse_disjunction()))), token)

    def _parse_ordered(self, parse_method: Any = None) -> Any:
        this = self._required(self._parse_disjunction())
        is_descending = bool(self._match(TokenType.DESC)) or (self._match(TokenType.ASC) and False)
        if self._match_text_seq("NULLS", "FIRST"):
            self._unsupported("NULLS FIRST is not offered here.", "Nulls are last in both directions.", self._prev)
        self._match_text_seq("NULLS", "LAST")
        return self.expression(exp.Ordered(this=this, desc=is_descending, nulls_first=False))

    def _parse_limit(self, this: Any = None, top: bool = False, skip_limit_token: bool = False) -> Any:
        if top or not self._match(TokenType.LIMIT):
            return this
        token = self._prev
        if self._match(TokenType.ALL):
            return self.expression(exp.Limit(expression=exp.Var(this="ALL")), token)
        number = self._required(self._parse_unary())
        if self._curr.token_type == TokenType.COMMA:
            self._unsupported("LIMIT a, b is not offered here.", "Write LIMIT b OFFSET a.")
        if self._curr.token_type == TokenType.MOD or self._match_text_seq("PERCENT", advance=False):
            self._unsupported("LIMIT n PERCENT is not offered here.", "Use LIMIT with a number of rows.")
        by = self._match_text_seq("BY")
        columns = self._parse_csv(lambda: self._required(self._parse_unary())) if by else None
        return self.expression(exp.Limit(expression=number, expressions=columns), token)

    def _parse_offset(self, this: Any = None) -> Any:
        if not self._match(TokenType.OFFSET):
            return this
        token = self._prev
        return self.expression(exp.Offset(expression=self._required(self._parse_unary())), token)

    def _can_parse_limit_or_offset(self) -> bool:
        return self._curr.token_type in (TokenType.LIMIT, TokenType.OFFSET)

    # Expressions

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

    def _parse_types(self, *args: Any, **options: Any) -> Any:
        token = self._curr
        is_word = token.token_type == TokenType.VAR
        if is_word and token.text.upper() in CAST_TYPES:
            self._advance()
            return self.expression(exp.Var(this=CAST_TYPES[token.text.upper()]), token)
        if token.token_type in (TokenType.NUMBER, TokenType.DASH):
            self._unsupported("A slice has no step here.", "Write start:stop.", self._prev)
        if token.token_type in (TokenType.VAR, TokenType.IDENTIFIER):
            hint = f"Types are {', '.join(dict.fromkeys(CAST_TYPES.values()))}."
            self._unsupported(f'Unknown type "{quoted(token.text)}".', hint)
        self.raise_error("")

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
        """Indexes behind an expression. A bracket with nothing before it is no expression."""
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


class Tql(Dialect):  # type: ignore[misc]
    """Identifiers in `"`, strings in `'`, indexes as written, nulls last, `^` is power."""

    NULL_ORDERING = "nulls_are_last"
    INDEX_OFFSET = 0
    parser_class = TqlParser


def syntax_tree(tokens: Sequence[Token], lifted: str) -> Any:
    """sqlglot's tree of a lifted text. Refused, with an offset in the lifted text."""
    try:
        [found] = TqlParser(dialect=Tql()).parse(parser_tokens(tokens), lifted)
    except Unexpected as error:
        raise Refused("syntax_error", str(error), at=error.at) from None
    except RecursionError:
        raise Refused("too_complex", "The text is nested too deeply.") from None
    return found
