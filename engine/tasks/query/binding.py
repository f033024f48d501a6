"""Binding: the tree of a query becomes relations and typed expressions, with every name, type and parameter checked.

The clauses of a SELECT are bound in the order in which they see each other: FROM, the outputs, WHERE, GROUP BY, HAVING, ORDER BY,
LIMIT; then its relation is put together in the order in which they take effect. Knows no SQL, and reads no row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.tasks.query import tree
from engine.tasks.query.bound import (
    MAX_NODES,
    Bound,
    Fields,
    Filter,
    Fused,
    LimitBy,
    Node,
    Numbered,
    Rows,
    Scan,
    SortKey,
    size_of,
)
from engine.tasks.query.combining import bind_combination
from engine.tasks.query.context import Context, Embedded, Found, Given
from engine.tasks.query.conversions import as_condition
from engine.tasks.query.cutting import check_sortable, limited, sorted_by, whole_number
from engine.tasks.query.datatypes import INT
from engine.tasks.query.expressions import bind_expression
from engine.tasks.query.grouping import Grouped, group, group_into_lists
from engine.tasks.query.joining import bind_from
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.scopes import Scope
from engine.tasks.query.segments import Source, Vectors
from engine.tasks.query.walking import leaves

MAX_OUTPUTS = 256
GROUP_HINT = "Add it to GROUP BY, or put it into an aggregate."
DISTINCT_HINT = "ORDER BY of a SELECT DISTINCT uses its output columns alone."


@dataclass(frozen=True, slots=True)
class Named:
    """An output column; `at` is where it was written."""

    name: str
    expression: Bound
    at: int | None


def bind(
    query: tree.Query,
    *,
    vectors: Sequence[Vectors] = (),
    numbers: Sequence[list[Any]] = (),
    params: Any = None,
    embedded: Embedded | None = None,
    sources: Mapping[str | None, Source],
) -> tuple[Rows, Fields]:
    """Refused where the query does not fit the sources or the parameters."""
    given = Given(vectors, numbers, params, embedded, sources, bind_expression, _bind_query)
    rows = _bind_query(given, query, None)
    _check_kinds(query, rows)
    return rows, given.fields


def _check_kinds(query: tree.Query, rows: Rows) -> None:
    """Refused for a column of a type that no answer can hold."""
    for i, (name, expression) in enumerate(rows.columns):
        if expression.type.name == "interval":
            written = query.outputs[i] if isinstance(query, tree.Select) and i < len(query.outputs) else None
            at = _place(written) if isinstance(written, tree.Output) else None
            raise Refused("type_mismatch", f'The column "{quoted(name)}" is an interval, which no answer can hold.', at=at)


def _bind_query(given: Given, query: tree.Query, outer: Scope | None) -> Rows:
    if isinstance(query, tree.Combination):
        return bind_combination(given, query, outer)
    return _Selecting(given, query, outer).bind()


class _Selecting:
    """One SELECT while it is bound."""

    def __init__(self, given: Given, select: tree.Select, outer: Scope | None) -> None:
        self.given = given
        self.select = select
        self.source = bind_from(given, select, outer)
        self.scope = replace(self.source.scope, outer=outer)
        node = self.source.node
        self.found = Found(node.row if isinstance(node, Scan) else given.fields.new(INT))
        self.outputs = self._bind_outputs()
        self.aliases = {output.name: output.expression for output in self.outputs}
        self.is_into_lists = bool(select.group_by) and not self.found.aggregates

    def bind(self) -> Rows:
        where = self._bind_where()
        keys = [self._bind_key(written) for written in self.select.group_by]
        having = self._bind_having()
        order = [self._bind_order(one) for one in self.select.order_by]
        limit_by = None if self.select.limit_by is None else self._bind_limit_by(self.select.limit_by)
        self._check_size([*self.aliases.values(), where, *keys, having, *(key.expression for key in order)])
        node = self._chosen(where)
        node, order, limit_by = self._grouped(node, keys, having, order, limit_by)
        node, order, limit_by = self._distinct(node, order, limit_by)
        columns = tuple((output.name, output.expression) for output in self.outputs)
        return Rows(self._cut(sorted_by(node, order), limit_by), columns)

    # The clauses

    def _bind_outputs(self) -> list[Named]:
        context = Context(self.given, self.scope, self.found)
        outputs: list[Named] = []
        for written in self.select.outputs:
            if isinstance(written, tree.Star):
                outputs += self._bind_star(written)
            else:
                name = _name(written, len(outputs))
                outputs.append(Named(name, context.bind(written.expression), _place(written)))
        _check_names(outputs)
        return outputs

    def _bind_star(self, star: tree.Star) -> list[Named]:
        """All columns of all sources, or of one; those of USING once."""
        found: list[Named] = []
        sources = [source for source in self.scope.sources if star.table is None or star.table in source.tables]
        if not sources:
            raise Refused("unknown_column", f'Unknown source "{quoted(star.table or "")}".', at=star.at)
        for i, source in enumerate(sources):
            for name, column in source.columns.items():
                if star.table is None and name in self.scope.shared:
                    if any(name in other.columns for other in sources[:i]):
                        continue
                    column = self.scope.shared[name]
                found.append(Named(name, column, star.at))
        return found

    def _context(self, refused: str | None, *, aliases_win: bool = False) -> Context:
        return Context(self.given, replace(self.scope, aliases=self.aliases, aliases_win=aliases_win), self.found, refused)

    def _bind_where(self) -> Bound | None:
        written = self.select.where
        if written is None:
            return None
        where = as_condition(self._context("WHERE chooses rows before they are grouped: use HAVING.").bind(written), written.at)
        self._check_before_groups(where, written)
        if set(self.found.fused.values()) & set(leaves(where)):
            hint = "Filter by it in a SELECT around this one."
            raise Refused("unsupported", "rrf ranks the rows that WHERE has left.", at=written.at, hint=hint)
        return where

    def _check_before_groups(self, bound: Bound, written: tree.Expression) -> None:
        if set(self.found.aggregates.values()) & set(leaves(bound)):
            raise Refused(
                "unsupported", "An aggregate is known only after the rows are grouped.", at=written.at, hint="Use HAVING."
            )

    def _bind_key(self, written: tree.Expression) -> Bound:
        key = self._output_at(written) or self._context("GROUP BY cannot have aggregates.").bind(written)
        self._check_before_groups(key, written)
        return key

    def _output_at(self, written: tree.Expression) -> Bound | None:
        """The output at a position, counted from 1, where a whole number stands for it."""
        if not isinstance(written, tree.Constant) or type(written.value) is not int:
            return None
        if not 1 <= written.value <= len(self.outputs):
            raise Refused("unknown_column", f"There are {len(self.outputs)} output columns.", at=written.at)
        return self.outputs[written.value - 1].expression

    def _bind_having(self) -> Bound | None:
        written = self.select.having
        return None if written is None else as_condition(self._context(None).bind(written), written.at)

    def _bind_order(self, order: tree.Order) -> SortKey:
        key = self._output_at(order.expression) or self._context(None, aliases_win=True).bind(order.expression)
        check_sortable(key, order.expression.at)
        return SortKey(key, order.is_descending)

    def _bind_limit_by(self, written: tree.LimitBy) -> tuple[int, Bound]:
        number = whole_number(self.given, written.number)
        return number, self._context(None, aliases_win=True).bind(written.column)

    def _check_size(self, expressions: list[Bound | None]) -> None:
        if sum(size_of(one) for one in expressions if one is not None) > MAX_NODES:
            raise Refused("too_complex", f"With its aliases and subselects the query has more than {MAX_NODES} nodes.")

    # The relation

    def _chosen(self, where: Bound | None) -> Node:
        """The rows that WHERE leaves, with their numbers and fused scores where an expression uses these."""
        node = self.source.node
        if self.found.uses_row_number and not isinstance(node, Scan):
            node = Numbered(node, self.found.row_number)
        if where is not None:
            node = Filter(node, where)
        for scores, fused in self.found.fused.items():
            node = Fused(node, scores, fused)
        return node

    def _grouped(
        self, node: Node, keys: list[Bound], having: Bound | None, order: list[SortKey], limit_by: tuple[int, Bound] | None
    ) -> tuple[Node, list[SortKey], tuple[int, Bound] | None]:
        if not keys and not self.found.aggregates and having is None:
            return node, order, limit_by
        fields = self.given.fields
        if self.is_into_lists:
            outputs = list(self.aliases.values())
            groups = group_into_lists(node, keys, self.found.aggregates, outputs, fields)
        else:
            groups = group(node, keys, self.found.aggregates, fields)
        kept = groups.node if having is None else Filter(groups.node, groups.over(having, self.select.at, GROUP_HINT))
        return kept, *self._over(groups, order, limit_by, GROUP_HINT)

    def _over(
        self, groups: Grouped, order: list[SortKey], limit_by: tuple[int, Bound] | None, hint: str
    ) -> tuple[list[SortKey], tuple[int, Bound] | None]:
        """The outputs and what follows them, over groups."""
        self.outputs = [replace(one, expression=groups.over(one.expression, one.at, hint)) for one in self.outputs]
        places = [one.expression.at for one in self.select.order_by]
        order = [replace(key, expression=groups.over(key.expression, at, hint)) for key, at in zip(order, places, strict=True)]
        if limit_by is not None and self.select.limit_by is not None:
            limit_by = limit_by[0], groups.over(limit_by[1], self.select.limit_by.column.at, hint)
        return order, limit_by

    def _distinct(
        self, node: Node, order: list[SortKey], limit_by: tuple[int, Bound] | None
    ) -> tuple[Node, list[SortKey], tuple[int, Bound] | None]:
        if not self.select.is_distinct:
            return node, order, limit_by
        groups = group(node, [output.expression for output in self.outputs], {}, self.given.fields)
        return groups.node, *self._over(groups, order, limit_by, DISTINCT_HINT)

    def _cut(self, node: Node, limit_by: tuple[int, Bound] | None) -> Node:
        if limit_by is not None:
            node = LimitBy(node, *limit_by, self.given.fields.new(INT))
        return limited(self.given, node, self.select)


def _name(output: tree.Output, position: int) -> str:
    """The alias, the column's own name, the name of the function, or the position."""
    if output.alias is not None:
        return output.alias
    if isinstance(output.expression, tree.Column | tree.Call):
        return output.expression.name
    return f"column_{position}"


def _place(output: tree.Output) -> int | None:
    return output.at if output.at is not None else output.expression.at


def _check_names(outputs: list[Named]) -> None:
    """Refused (`duplicate_column`, `too_complex`)."""
    if len(outputs) > MAX_OUTPUTS:
        raise Refused("too_complex", f"A SELECT has at most {MAX_OUTPUTS} output columns.")
    seen: set[str] = set()
    for output in outputs:
        if output.name in seen:
            message = f'Two output columns are called "{quoted(output.name)}".'
            raise Refused("duplicate_column", message, at=output.at, hint="Use AS to give one of them another name.")
        seen.add(output.name)
