"""Expressions of a checked text: from the parser's nodes to our own.

check_tree has been over the tree, so that only listed nodes come here, and none is deeper than the limit. Refused gives offsets in
the lifted text. Queries inside expressions are read by translation.py. Knows no dataset.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from engine.tasks.query.allowed import BINARY_OPERATORS, check_function, place
from engine.tasks.query.outline import MAX_DEPTH, too_deep
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.tree import (
    Array,
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Column,
    Constant,
    Expression,
    In,
    Index,
    InQuery,
    Interval,
    IsNull,
    Junction,
    Lifted,
    Like,
    Parameter,
    Query,
    Slice,
    Unary,
)

# After WITH is expanded.
MAX_NODES = 4096
MAX_EMBEDDED_TEXTS = 16
MAX_EMBEDDED_BYTES = 32 * 1024
SOURCE_PREFIX = "hub://"

_LARGEST_INTEGER = 2**63 - 1
_UNITS = ("microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "year")
_INTERVAL = re.compile(r"\s*([+-]?[0-9]{1,18})\s*([A-Za-z]*)\s*")
_NO_SCALAR_SUBQUERY = "Use IN (SELECT ...), or a SELECT in FROM."


@dataclass(slots=True)
class Operands:
    """Reads expressions, and counts what they grow to.

    num_nodes   nodes of our tree so far, with those of every use of a WITH
    depth       how deep in our tree we are
    deepest     the largest depth so far
    parameters  every place of a parameter
    embeds      every call of embed
    """

    num_nodes: int = 0
    depth: int = 0
    deepest: int = 0
    parameters: list[Parameter] = field(default_factory=list)
    embeds: list[Call] = field(default_factory=list)

    def query(self, node: Any) -> Query:
        """A query in parentheses; translation.py reads it."""
        raise NotImplementedError

    @contextmanager
    def deeper(self, node: Any) -> Iterator[None]:
        """While a node and what is below it are read. Refused where the tree gets too deep, or too large."""
        self.count(node, 1)
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        if self.depth > MAX_DEPTH:
            raise too_deep(place(node))
        yield
        self.depth -= 1

    def count(self, node: Any, num_nodes: int) -> None:
        self.num_nodes += num_nodes
        if self.num_nodes > MAX_NODES:
            raise Refused("too_complex", f"The text grows to more than {MAX_NODES:,} nodes.", at=place(node))

    def expression(self, node: Any) -> Expression:
        while isinstance(node, exp.Paren):
            node = node.this
        with self.deeper(node):
            operator = BINARY_OPERATORS.get(type(node))
            if operator is not None:
                left = self.expression(node.this)
                return Binary(operator, left, self.expression(node.expression), left.at)  # type: ignore[arg-type]
            reader = _READERS.get(type(node))
            if reader is None:
                raise _no_operand(node)
            return reader(self, node)

    def expressions(self, nodes: list[Any]) -> tuple[Expression, ...]:
        return tuple(self.expression(node) for node in nodes)

    def literal(self, node: Any) -> Expression:
        if node.args.get("is_string"):
            return Constant(node.this, place(node))
        return Constant(_number(node, ""), place(node))

    def negative(self, node: Any) -> Expression:
        operand = node.this
        if isinstance(operand, exp.Literal) and not operand.args.get("is_string"):
            return Constant(_number(operand, "-"), place(node))
        return Unary("-", self.expression(operand), place(node))

    def parameter(self, node: Any) -> Expression:
        key = node.this
        parameter = Parameter(int(key) if key.isdigit() else key, place(node))
        self.parameters.append(parameter)
        return parameter

    def column(self, node: Any) -> Expression:
        table = node.args.get("table")
        if not isinstance(node.this, exp.Identifier):
            raise _no_operand(node.this)
        return Column(node.this.this, table and table.this.removeprefix(SOURCE_PREFIX), place(table or node))

    def call(self, node: Any) -> Expression:
        name, at, nodes = node.this.lower(), place(node), node.expressions
        check_function(name, at)
        if name == "count" and len(nodes) == 1 and isinstance(nodes[0], exp.Star):
            return Call(name, is_star=True, at=at)
        if len(nodes) == 1 and isinstance(nodes[0], exp.Distinct):
            if name != "count":
                raise Refused("unsupported", "DISTINCT stands in count alone.", at=place(nodes[0]))
            return Call(name, self.expressions(nodes[0].expressions), is_distinct=True, at=at)
        call = Call(name, self.expressions(nodes), at=at)
        if name == "embed":
            self._embed(call)
        return call

    def _embed(self, call: Call) -> None:
        """Refused if this cannot be the text and the model of a vector."""
        words = [argument.value if isinstance(argument, Constant) else argument for argument in call.arguments]
        if not 1 <= len(words) <= 2 or not all(isinstance(word, (str, Parameter)) for word in words):
            raise Refused("type_mismatch", "embed takes a text, and the name of a model.", at=call.at, hint="Write embed('text').")
        if isinstance(words[0], str):
            check_embedded(words[0], call.at)
        self.embeds.append(call)
        if len(self.embeds) > MAX_EMBEDDED_TEXTS:
            raise Refused("too_complex", f"The text has more than {MAX_EMBEDDED_TEXTS} calls of embed.", at=call.at)

    def junction(self, node: Any) -> Expression:
        """A chain of AND, or of OR, as long as it is; the parser makes it as deep as it is long."""
        links: list[Any] = []
        first = node
        while type(first) is type(node):
            links.append(first.expression)
            first = first.this
        conditions = self.expressions([first, *reversed(links)])
        return Junction("and" if isinstance(node, exp.And) else "or", conditions, conditions[0].at)

    def inverse(self, node: Any) -> Expression:
        operand = self.expression(node.this)
        at = place(node) if "start" in node.meta else operand.at
        return Unary("not", operand, at)

    def like(self, node: Any) -> Expression:
        operand = self.expression(node.this)
        like = Like(operand, self.expression(node.expression), isinstance(node, exp.ILike), operand.at)
        return Unary("not", like, operand.at) if node.args.get("negate") else like

    def between(self, node: Any) -> Expression:
        operand = self.expression(node.this)
        return Between(operand, self.expression(node.args["low"]), self.expression(node.args["high"]), operand.at)

    def among(self, node: Any) -> Expression:
        operand = self.expression(node.this)
        choices, query, single = node.expressions, node.args.get("query"), node.args.get("field")
        if len(choices) == 1 and isinstance(choices[0], exp.Subquery):
            query = choices[0]
        if query is not None:
            return InQuery(operand, self.query(query), operand.at)
        if single is not None and not isinstance(single, (exp.Placeholder, exp.Parameter, exp.Array)):
            hint = "Write contains(list, value), or IN (...)."
            raise Refused("unsupported", "IN takes a list.", at=place(single), hint=hint)
        if single is None and not choices:
            raise Refused("syntax_error", "The list of IN is empty.", at=operand.at)
        return In(operand, self.expressions([single] if single is not None else choices), operand.at)

    def is_null(self, node: Any) -> Expression:
        if not isinstance(node.expression, exp.Null):
            raise Refused("unsupported", "IS takes NULL or NOT NULL.", at=place(node.expression), hint="Use =.")
        operand = self.expression(node.this)
        return IsNull(operand, operand.at)

    def case(self, node: Any) -> Expression:
        operand, otherwise = node.this, node.args.get("default")
        branches = tuple((self.expression(branch.this), self.expression(branch.args["true"])) for branch in node.args["ifs"])
        return Case(operand and self.expression(operand), branches, otherwise and self.expression(otherwise), place(node))

    def cast(self, node: Any) -> Expression:
        return Cast(self.expression(node.this), node.args["to"].this, place(node))

    def interval(self, node: Any) -> Expression:
        at, unit = place(node), node.args.get("unit")
        match = _INTERVAL.fullmatch(node.this.this)
        words = [word for word in (match and match.group(2), unit and unit.this) if word]
        singular = words[0].lower().removesuffix("s") if len(words) == 1 else ""
        if match is None or singular not in _UNITS:
            hint = f"Write INTERVAL '3' DAY; units are {', '.join(_UNITS)}."
            raise Refused("syntax_error", "An interval is a whole number of one unit.", at=at, hint=hint)
        return Interval(int(match.group(1)), singular, at)  # type: ignore[arg-type]

    def index(self, node: Any) -> Expression:
        operand = self.expression(node.this)
        return Index(operand, tuple(self._index_part(part) for part in node.expressions), operand.at)

    def _index_part(self, node: Any) -> Expression | Slice:
        if not isinstance(node, exp.Slice):
            return self.expression(node)
        start, stop = node.args.get("this"), node.args.get("expression")
        return Slice(start and self.expression(start), stop and self.expression(stop))


_READERS: dict[type, Callable[[Operands, Any], Expression]] = {
    exp.Literal: Operands.literal,
    exp.Null: lambda _, node: Constant(None, place(node)),
    exp.Boolean: lambda _, node: Constant(bool(node.this), place(node)),
    exp.Neg: Operands.negative,
    exp.Not: Operands.inverse,
    exp.Placeholder: Operands.parameter,
    exp.Parameter: lambda _, node: Lifted(int(node.this), place(node)),
    exp.Column: Operands.column,
    exp.Anonymous: Operands.call,
    exp.And: Operands.junction,
    exp.Or: Operands.junction,
    exp.Like: Operands.like,
    exp.ILike: Operands.like,
    exp.Between: Operands.between,
    exp.In: Operands.among,
    exp.Is: Operands.is_null,
    exp.Case: Operands.case,
    exp.Cast: Operands.cast,
    exp.Interval: Operands.interval,
    exp.Bracket: Operands.index,
    exp.Array: lambda self, node: Array(self.expressions(node.expressions), place(node)),
}


def check_embedded(text: str, at: int | None) -> None:
    """Refused if a text is too long to be embedded."""
    if len(text.encode(errors="surrogatepass")) > MAX_EMBEDDED_BYTES:
        raise Refused("invalid_parameter", f"A text to embed has at most {MAX_EMBEDDED_BYTES // 1024} KiB.", at=at)


def _number(node: Any, sign: str) -> int | float:
    text = node.this
    value = int(sign + text) if text.isdigit() else float(sign + text)
    if isinstance(value, int) and not -_LARGEST_INTEGER - 1 <= value <= _LARGEST_INTEGER:
        raise Refused("arithmetic_error", "An integer has at most 64 bits.", at=place(node), hint="Write it with a decimal point.")
    if value in (float("inf"), float("-inf")):
        raise Refused("arithmetic_error", "The number is not finite in float64.", at=place(node))
    return value


def _no_operand(node: Any) -> Refused:
    if isinstance(node, (exp.Subquery, exp.Query)):
        return Refused("unsupported", "A scalar subquery is not offered here.", at=place(node), hint=_NO_SCALAR_SUBQUERY)
    if isinstance(node, exp.Star):
        return Refused("syntax_error", "A star stands in a select list or in count(*).", at=place(node))
    return Refused("unsupported", f'"{quoted(str(node.name))}" cannot stand here.', at=place(node))
