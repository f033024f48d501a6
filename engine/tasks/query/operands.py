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

from engine.tasks.query.allowed import BINARY_OPERATORS, check_function, offset_of
from engine.tasks.query.limits import MAX_DEPTH, MAX_INT, MAX_NODES, MIN_INT
from engine.tasks.query.outline import too_deep
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

MAX_EMBEDDED_TEXTS = 16
MAX_EMBEDDED_BYTES = 32 * 1024
SOURCE_PREFIX = "hub://"

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
            raise too_deep(offset_of(node))
        yield
        self.depth -= 1

    def count(self, node: Any, num_nodes: int) -> None:
        self.num_nodes += num_nodes
        if self.num_nodes > MAX_NODES:
            raise Refused("too_complex", f"The text grows to more than {MAX_NODES:,} nodes.", at=offset_of(node))

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
            return Constant(node.this, offset_of(node))
        return Constant(_number(node, ""), offset_of(node))

    def negative(self, node: Any) -> Expression:
        operand = node.this
        if isinstance(operand, exp.Literal) and not operand.args.get("is_string"):
            return Constant(_number(operand, "-"), offset_of(node))
        return Unary("-", self.expression(operand), offset_of(node))

    def parameter(self, node: Any) -> Expression:
        key = node.this
        parameter = Parameter(int(key) if key.isdigit() else key, offset_of(node))
        self.parameters.append(parameter)
        return parameter

    def column(self, node: Any) -> Expression:
        table = node.args.get("table")
        if not isinstance(node.this, exp.Identifier):
            raise _no_operand(node.this)
        return Column(node.this.this, table and table.this.removeprefix(SOURCE_PREFIX), offset_of(table or node))

    def call(self, node: Any) -> Expression:
        name, at, nodes = node.this.lower(), offset_of(node), node.expressions
        check_function(name, at)
        if name == "count" and len(nodes) == 1 and isinstance(nodes[0], exp.Star):
            return Call(name, is_star=True, at=at)
        if len(nodes) == 1 and isinstance(nodes[0], exp.Distinct):
            if name != "count":
                raise Refused("unsupported", "DISTINCT stands in count alone.", at=offset_of(nodes[0]))
            return Call(name, self.expressions(nodes[0].expressions), is_distinct=True, at=at)
        if any(isinstance(one, exp.Distinct) for one in nodes):
            raise Refused("unsupported", "DISTINCT takes one expression.", at=at)
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
        at = offset_of(node) if "start" in node.meta else operand.at
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
            raise Refused("unsupported", "IN takes a list.", at=offset_of(single), hint=hint)
        if single is None and not choices:
            raise Refused("syntax_error", "The list of IN is empty.", at=operand.at)
        return In(operand, self.expressions([single] if single is not None else choices), operand.at)

    def is_null(self, node: Any) -> Expression:
        if not isinstance(node.expression, exp.Null):
            raise Refused("unsupported", "IS takes NULL or NOT NULL.", at=offset_of(node.expression), hint="Use =.")
        operand = self.expression(node.this)
        return IsNull(operand, operand.at)

    def case(self, node: Any) -> Expression:
        operand, otherwise = node.this, node.args.get("default")
        branches = tuple((self.expression(branch.this), self.expression(branch.args["true"])) for branch in node.args["ifs"])
        return Case(operand and self.expression(operand), branches, otherwise and self.expression(otherwise), offset_of(node))

    def cast(self, node: Any) -> Expression:
        return Cast(self.expression(node.this), node.args["to"].this, offset_of(node))

    def interval(self, node: Any) -> Expression:
        at, unit = offset_of(node), node.args.get("unit")
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
    exp.Null: lambda _, node: Constant(None, offset_of(node)),
    exp.Boolean: lambda _, node: Constant(bool(node.this), offset_of(node)),
    exp.Neg: Operands.negative,
    exp.Not: Operands.inverse,
    exp.Placeholder: Operands.parameter,
    exp.Parameter: lambda _, node: Lifted(int(node.this), offset_of(node)),
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
    exp.Array: lambda self, node: Array(self.expressions(node.expressions), offset_of(node)),
}


def check_embedded(text: str, at: int | None) -> None:
    """Refused if a text is empty, or too long to be embedded."""
    if not text:
        raise Refused("invalid_parameter", "A text to embed is not empty.", at=at)
    if len(text.encode(errors="surrogatepass")) > MAX_EMBEDDED_BYTES:
        raise Refused("invalid_parameter", f"A text to embed has at most {MAX_EMBEDDED_BYTES // 1024} KiB.", at=at)


def _number(node: Any, sign: str) -> int | float:
    text = node.this
    value = int(sign + text) if text.isdigit() else float(sign + text)
    if isinstance(value, int) and not MIN_INT <= value <= MAX_INT:
        raise Refused(
            "arithmetic_error", "An integer has at most 64 bits.", at=offset_of(node), hint="Write it with a decimal point."
        )
    if value in (float("inf"), float("-inf")):
        raise Refused("arithmetic_error", "The number is not finite in float64.", at=offset_of(node))
    return value


def _no_operand(node: Any) -> Refused:
    if isinstance(node, (exp.Subquery, exp.Query)):
        return Refused("unsupported", "A scalar subquery is not offered here.", at=offset_of(node), hint=_NO_SCALAR_SUBQUERY)
    if isinstance(node, exp.Star):
        return Refused("syntax_error", "A star stands in a select list or in count(*).", at=offset_of(node))
    shown = f'"{quoted(str(node.name))}"' if node.name else "This"
    return Refused("unsupported", f"{shown} cannot stand here.", at=offset_of(node))
