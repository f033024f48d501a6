"""Queries of a checked text: from the parser's nodes to our own, with WITH expanded.

A query of WITH is read once, and every use of it is the same object; what it counts for is added at each use, so a text cannot grow
beyond the limits by naming its parts. Refused gives offsets in the lifted text. Knows no dataset: names of sources are checked for
their form alone.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from engine.tasks.query.allowed import offset_of
from engine.tasks.query.limits import MAX_DEPTH, MAX_OUTPUTS, MAX_SOURCES
from engine.tasks.query.operands import SOURCE_PREFIX, Operands
from engine.tasks.query.outline import too_deep
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.tree import (
    Column,
    Combination,
    Constant,
    Expression,
    Join,
    LimitBy,
    Order,
    Output,
    Parameter,
    Query,
    Select,
    Star,
    Subquery,
    Table,
)

_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_PART = "[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
# An org is a user's name or a team, which may hold `@` and `+`. A version is behind the last slash, so it is never part of an org.
_ORG = r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}"
_VERSION = "(?:@[0-9]{1,18})?"
# Which of the two a source means, the catalogue decides: engine/datasets/names.py.
_WITH_ORG = re.compile(rf"{_ORG}/{_NAME}(?:/{_PART}){{0,2}}{_VERSION}")
_WITHOUT_ORG = re.compile(f"{_NAME}(?:/{_PART}){{0,2}}{_VERSION}")
SOURCE_FORM = "A source is hub://org/name."

_OPERATORS = {exp.Union: "union", exp.Intersect: "intersect", exp.Except: "except"}


@dataclass(frozen=True, slots=True)
class _Named:
    """A query of WITH.

    num_nodes  what each use of it counts for
    depth      how deep it is
    """

    query: Query
    num_nodes: int
    depth: int


@dataclass(slots=True)
class Translation(Operands):
    """Reads queries.

    has_default_source  whether a SELECT without FROM reads the dataset of the request
    tables              every table of a dataset, also where the text does not name it
    named               the queries of WITH that can be used where we are
    """

    has_default_source: bool = False
    tables: list[Table] = field(default_factory=list)
    named: dict[str, _Named] = field(default_factory=dict)

    def query(self, node: Any) -> Query:
        outer = self.named
        with_ = node.args.get("with_")
        if with_ is not None:
            self._name_queries(with_)
        query = self._query(node)
        self.named = outer
        return query

    def _name_queries(self, with_: Any) -> None:
        """Read the queries of a WITH; each can use those before it."""
        names = set()
        for part in with_.expressions:
            name = part.args["alias"].this.this
            if name in names:
                raise Refused("syntax_error", f'WITH has two queries called "{quoted(name)}".', at=offset_of(part))
            names.add(name)
            self.named = {**self.named, name: self._named(part.this)}

    def _named(self, node: Any) -> _Named:
        num_nodes, depth, deepest = self.num_nodes, self.depth, self.deepest
        self.depth = self.deepest = 0
        query = self.query(node)
        named = _Named(query, self.num_nodes - num_nodes, self.deepest)
        self.num_nodes, self.depth, self.deepest = num_nodes, depth, deepest
        return named

    def _query(self, node: Any) -> Query:
        if isinstance(node, exp.Subquery):
            return self._parenthesised(node)
        with self.deeper(node):
            if isinstance(node, exp.Select):
                return self._select(node)
            if type(node) in _OPERATORS:
                return self._combination(node)
        raise Refused("only_select", "Only SELECT is answered.", at=offset_of(node))

    def _parenthesised(self, node: Any) -> Query:
        """A query in parentheses; ORDER BY and LIMIT behind them make a SELECT around it."""
        if node.args.get("alias") is not None:
            raise Refused("syntax_error", "An alias cannot stand here.", at=offset_of(node.args["alias"]))
        if not any(node.args.get(name) for name in ("order", "limit", "offset")):
            return self.query(node.this)
        with self.deeper(node):
            source = Subquery(self.query(node.this), at=offset_of(node))
            limit, limit_by = self._limits(node)
            order_by, offset = self._order_by(node), self._offset(node)
        return Select((Star(),), source, order_by=order_by, limit=limit, limit_by=limit_by, offset=offset, at=offset_of(node))

    def _combination(self, node: Any) -> Query:
        left = node.this
        if isinstance(left, exp.Select) and any(left.args.get(name) for name in ("order", "limit", "offset")):
            clause = next(left.args[name] for name in ("order", "limit", "offset") if left.args.get(name))
            raise Refused("syntax_error", "A clause stands before a set operator.", at=offset_of(clause), hint="Use parentheses.")
        limit, limit_by = self._limits(node)
        if limit_by is not None:
            raise Refused(
                "unsupported", "LIMIT n BY cannot follow a set operator.", at=limit_by.column.at, hint="Use a SELECT in FROM."
            )
        return Combination(
            _OPERATORS[type(node)],  # type: ignore[arg-type]
            not node.args.get("distinct"),
            self.query(left),
            self.query(node.expression),
            order_by=self._order_by(node),
            limit=limit,
            offset=self._offset(node),
            at=offset_of(node),
        )

    def _select(self, node: Any) -> Select:
        arguments = node.args
        outputs = self._outputs(node)
        source = self._source(node)
        joins = tuple(self._join(join) for join in arguments.get("joins") or ())
        where, group, having = arguments.get("where"), arguments.get("group"), arguments.get("having")
        limit, limit_by = self._limits(node)
        return Select(
            outputs,
            source,
            joins,
            where=where and self.expression(where.this),
            group_by=self.expressions(group.expressions) if group else (),
            having=having and self.expression(having.this),
            order_by=self._order_by(node),
            limit_by=limit_by,
            limit=limit,
            offset=self._offset(node),
            is_distinct=bool(arguments.get("distinct")),
            at=offset_of(node),
        )

    def _outputs(self, node: Any) -> tuple[Output | Star, ...]:
        nodes = node.expressions
        if not nodes:
            raise Refused("syntax_error", "The select is empty.", at=offset_of(node))
        if len(nodes) > MAX_OUTPUTS:
            raise Refused("too_complex", f"A select has more than {MAX_OUTPUTS} columns.", at=offset_of(nodes[MAX_OUTPUTS]))
        return tuple(self._output(output) for output in nodes)

    def _output(self, node: Any) -> Output | Star:
        if isinstance(node, exp.Star):
            return Star(at=offset_of(node))
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            table = node.args["table"]
            return Star(table.this.removeprefix(SOURCE_PREFIX), offset_of(table))
        if isinstance(node, exp.Alias):
            expression = self.expression(node.this)
            return Output(expression, node.args["alias"].this, expression.at)
        expression = self.expression(node)
        return Output(expression, None, expression.at)

    def _source(self, select: Any) -> Table | Subquery:
        from_ = select.args.get("from_")
        if from_ is not None:
            return self._from(from_.this)
        if not self.has_default_source:
            hint = "Add FROM, or the field `dataset`."
            raise Refused("syntax_error", "The select has no FROM, and the request no dataset.", at=offset_of(select), hint=hint)
        return self._add_table(Table(None, at=offset_of(select)), select)

    def _from(self, node: Any) -> Table | Subquery:
        alias = node.args.get("alias")
        alias = alias and alias.this.this
        if isinstance(node, exp.Subquery):
            return Subquery(self.query(node.this), alias, offset_of(node))
        name, at = node.this.this, offset_of(node)
        if name in self.named:
            return self._use(self.named[name], alias or name, node)
        return self._add_table(Table(source_name(name, at), alias, at), node)

    def _add_table(self, table: Table, node: Any) -> Table:
        self.count(node, 1)
        self.tables.append(table)
        if len({table.name for table in self.tables}) > MAX_SOURCES:
            raise Refused("too_complex", f"The text has more than {MAX_SOURCES} datasets.", at=table.at)
        return table

    def _use(self, named: _Named, alias: str, node: Any) -> Subquery:
        self.count(node, named.num_nodes)
        self.deepest = max(self.deepest, self.depth + named.depth)
        if self.deepest > MAX_DEPTH:
            raise too_deep(offset_of(node))
        return Subquery(named.query, alias, offset_of(node))

    def _join(self, node: Any) -> Join:
        kind, using = ("left" if node.args.get("side") else "inner"), node.args.get("using") or ()
        right = self._from(node.this)
        on = tuple(self._equalities(node.args["on"])) if node.args.get("on") is not None else ()
        return Join(kind, right, on, tuple(name.this for name in using), offset_of(node))  # type: ignore[arg-type]

    def _equalities(self, on: Any) -> list[tuple[Expression, Expression]]:
        """The two sides of each equality of ON."""
        rest, found = [on], []
        while rest:
            node = rest.pop()
            while isinstance(node, exp.Paren):
                node = node.this
            if isinstance(node, exp.And):
                rest += (node.expression, node.this)
            elif isinstance(node, exp.EQ):
                found.append((self.expression(node.this), self.expression(node.expression)))
            else:
                hint = "Put other conditions into WHERE."
                raise Refused("unsupported", "ON takes equalities joined by AND.", at=offset_of(node), hint=hint)
        return found

    def _order_by(self, node: Any) -> tuple[Order, ...]:
        order = node.args.get("order")
        keys = order.expressions if order is not None else ()
        return tuple(Order(self.expression(key.this), bool(key.args.get("desc"))) for key in keys)

    def _limits(self, node: Any) -> tuple[Constant | Parameter | None, LimitBy | None]:
        limit = node.args.get("limit")
        if limit is None or isinstance(limit.expression, exp.Var):
            return None, None
        number = self._row_number(limit.expression, "LIMIT")
        if not limit.expressions:
            return number, None
        column = self.expression(limit.expressions[0])
        if len(limit.expressions) > 1 or not isinstance(column, Column):
            raise Refused("unsupported", "LIMIT n BY takes one column.", at=offset_of(limit.expressions[-1]))
        return None, LimitBy(number, column)

    def _offset(self, node: Any) -> Constant | Parameter | None:
        offset = node.args.get("offset")
        return self._row_number(offset.expression, "OFFSET") if offset is not None else None

    def _row_number(self, node: Any, clause: str) -> Constant | Parameter:
        number = self.expression(node)
        is_number = isinstance(number, Constant) and type(number.value) is int and number.value >= 0
        if not is_number and not isinstance(number, Parameter):
            message = f"{clause} takes a whole number of at least 0, or a parameter."
            raise Refused("invalid_parameter", message, at=offset_of(node))
        return number  # type: ignore[return-value]


def source_name(name: str, at: int | None = None) -> str:
    """A name of a source without `hub://`. Refused if it does not have the form of one."""
    path = name.removeprefix(SOURCE_PREFIX)
    if _WITH_ORG.fullmatch(path) or _WITHOUT_ORG.fullmatch(path):
        return path
    raise Refused("bad_name", SOURCE_FORM, at=at)
