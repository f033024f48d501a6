"""What is known of the rows of a relation: the order that they have all the way up, and which fields are in them."""

from engine.tasks.query.bound import (
    Aggregation,
    Apply,
    Bound,
    Combined,
    Extended,
    Field,
    Filter,
    Fused,
    InRows,
    Joined,
    Limit,
    Node,
    Numbered,
    Scan,
    Score,
    Sort,
    SortKey,
    Taken,
)
from engine.tasks.query.walking import inner_queries, scan_of


def order_of(node: Node) -> tuple[SortKey, ...]:
    """What orders the rows of a relation; no two rows are equal in all of it."""
    if isinstance(node, Taken):
        return (SortKey(node.position or node.scan.row, False),)
    if isinstance(node, Sort):
        return node.keys + order_of(node.input)
    if isinstance(node, Aggregation):
        return (SortKey(node.first, False),) if node.keys else ()
    if isinstance(node, Joined):
        return order_of(node.left) + order_of(node.right)
    if isinstance(node, Combined):
        return (SortKey(node.position, False),)
    return order_of(node.input)  # type: ignore[union-attr]  # a Scan is never written


def provides(node: Node, leaf: Field | Score) -> bool:
    """Whether a field or a score is known in the rows of a relation."""
    if isinstance(node, Scan):
        return scan_of(leaf) is node
    if isinstance(node, Taken):
        return scan_of(leaf) is node.scan or leaf == node.position or leaf in node.scores
    if isinstance(node, Joined):
        return provides(node.left, leaf) or provides(node.right, leaf)
    if isinstance(node, Combined):
        return leaf in node.fields or leaf == node.position
    if isinstance(node, Aggregation):
        own = (node.first, *(key for key, _ in node.keys), *(aggregate for aggregate, _ in node.aggregates))
        return leaf in own
    return leaf in _made(node) or provides(node.input, leaf)


def _made(node: Node) -> tuple[Field, ...]:
    """Fields that a relation adds to those of its input."""
    if isinstance(node, Numbered):
        return (node.position,)
    if isinstance(node, Fused):
        return (node.fused,)
    return tuple(made for made, _ in node.columns) if isinstance(node, Extended) else ()


def is_row_number(field: Field) -> bool:
    """Whether it is a row number; other positions may lie beyond RIGHT_SIDE."""
    return field.scan is not None and field == field.scan.row


def is_in_scan_order(node: Node) -> bool:
    """Whether DuckDB gives the rows in order by itself: it keeps the order of a table through filters and limits."""
    while isinstance(node, Filter | Limit | Extended):
        expressions = [node.condition] if isinstance(node, Filter) else []
        if any(any(True for _ in inner_queries(one)) or _has_long_list(one) for one in expressions):
            return False
        node = node.input
    return isinstance(node, Taken)


def _has_long_list(expression: Bound) -> bool:
    """Whether it has an IN, which becomes a join."""
    if isinstance(expression, Apply):
        return expression.function == "in" or any(map(_has_long_list, expression.arguments))
    return isinstance(expression, InRows)
