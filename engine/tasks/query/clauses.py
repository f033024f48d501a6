"""Queries and their clauses, as sqlglot's parser reads them for us.

Where sqlglot reads more than we offer, or swallows a word without a trace in its tree, a method here reads less. Every node gets
the offset of its first token. Expressions are in dialect.py.
"""

from typing import Any

from sqlglot import exp
from sqlglot.tokens import TokenType

from engine.tasks.query.grammar import WINDOW_HINT, Grammar
from engine.tasks.query.refusals import Refused, quoted


class Clauses(Grammar):
    """Reads queries."""

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

    def _parse_table(self, *args: Any, **options: Any) -> Any:
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
        self._refuse_clause(self._curr)
        is_named = self._match(TokenType.ALIAS)
        name = self._parse_id_var(any_token=is_named, tokens=self.TABLE_ALIAS_TOKENS)
        self._refuse_column_names()
        if is_named:
            self._required(name)
        return exp.TableAlias(this=name) if name else None

    def _refuse_column_names(self) -> None:
        if self._curr.token_type == TokenType.L_PAREN:
            self._unsupported("An alias has no column names here.", "Write AS in the select.")

    def _parse_join(self, *args: Any, **options: Any) -> Any:
        token = self._curr
        if token.token_type == TokenType.COMMA:
            self._unsupported("A comma cannot join sources.", "Write JOIN ... ON.", self._next)
        index = self._index
        side = self._parse_join_parts()[1]
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
