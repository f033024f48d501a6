"""Groups: what the clauses of a SELECT mean once its rows have become groups, or distinct rows.

With an aggregate in the select GROUP BY has the meaning of SQL. Without one every column that is no key becomes the list of its
values in row order, which is the meaning of TQL.
"""

from dataclasses import dataclass, replace

from engine.tasks.query.bound import (
    Aggregated,
    Aggregation,
    Apply,
    Bound,
    Element,
    Field,
    Fields,
    InRows,
    Node,
    Value,
    apply,
)
from engine.tasks.query.datatypes import INT, list_of
from engine.tasks.query.refusals import Refused


class Ungrouped(Exception):
    """An expression uses a column that has several values in a group."""


@dataclass(slots=True)
class Grouped:
    """A relation of groups, and the fields that stand for expressions over the rows before them.

    known  expression over the rows -> field of the group
    own    fields of the group itself, such as its aggregates
    """

    node: Node
    known: dict[Bound, Field]
    own: set[Field]

    def over(self, expression: Bound, at: int | None, hint: str) -> Bound:
        """The expression over the groups. Refused where it uses a column that is not grouped."""
        try:
            return self._over(expression)
        except Ungrouped:
            raise Refused("unsupported", "Here a column is neither grouped nor inside an aggregate.", at=at, hint=hint) from None

    def _over(self, expression: Bound) -> Bound:
        if expression in self.known:
            return self.known[expression]
        if isinstance(expression, Apply):
            return apply(expression.function, tuple(self._over(one) for one in expression.arguments), expression.type)
        if isinstance(expression, InRows):
            return replace(expression, operand=self._over(expression.operand))
        if isinstance(expression, Value | Element) or expression in self.own:
            return expression
        raise Ungrouped


def group(node: Node, keys: list[Bound], aggregates: dict[Aggregated, Field], fields: Fields) -> Grouped:
    """The groups of SQL."""
    known = {key: fields.new(key.type) for key in keys}
    aggregation = Aggregation(
        node,
        tuple((new, key) for key, new in known.items()),
        tuple((new, aggregated) for aggregated, new in aggregates.items()),
        fields.new(INT),
    )
    return Grouped(aggregation, known, {*known.values(), *aggregates.values()})


def group_into_lists(
    node: Node, keys: list[Bound], aggregates: dict[Aggregated, Field], outputs: list[Bound], fields: Fields
) -> Grouped:
    """The groups of TQL: an output that the keys alone do not give is the list of its values."""
    by_keys = group(node, keys, aggregates, fields)
    lists: dict[Bound, Field] = {}
    for output in outputs:
        try:
            by_keys._over(output)
        except Ungrouped:
            lists.setdefault(output, fields.new(list_of(output.type)))
    held = tuple((new, Aggregated("list", output, new.type)) for output, new in lists.items())
    aggregation = by_keys.node
    if isinstance(aggregation, Aggregation):
        aggregation.aggregates += held
    return Grouped(aggregation, by_keys.known | lists, by_keys.own | set(lists.values()))
