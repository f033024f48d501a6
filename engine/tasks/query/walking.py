"""Walking through a bound query: what an expression is computed from, and what a relation computes and reads."""

from collections.abc import Iterator

from engine.tasks.query.bound import (
    Aggregation,
    Apply,
    Bound,
    Combined,
    Element,
    Extended,
    Field,
    Filter,
    Fused,
    InRows,
    Joined,
    LimitBy,
    Node,
    Rows,
    Scan,
    Score,
    Sort,
    Taken,
    Value,
)


def leaves(expression: Bound) -> Iterator[Field | Score]:
    """The fields and scores that an expression is computed from."""
    if isinstance(expression, Apply):
        for argument in expression.arguments:
            yield from leaves(argument)
    elif isinstance(expression, InRows):
        yield from leaves(expression.operand)
    elif not isinstance(expression, Value | Element):
        yield expression


def inner_queries(expression: Bound) -> Iterator[InRows]:
    """The IN (SELECT ...) inside an expression."""
    if isinstance(expression, Apply):
        for argument in expression.arguments:
            yield from inner_queries(argument)
    elif isinstance(expression, InRows):
        yield expression
        yield from inner_queries(expression.operand)


def scan_of(leaf: Field | Score) -> Scan | None:
    return leaf.scan if isinstance(leaf, Field) else leaf.field.scan


def conjuncts(condition: Bound) -> list[Bound]:
    """The conditions that all must hold."""
    if isinstance(condition, Apply) and condition.function == "and":
        return [part for argument in condition.arguments for part in conjuncts(argument)]
    return [condition]


def expressions_of(node: Node) -> list[Bound]:
    """What a relation computes itself."""
    if isinstance(node, Filter):
        return [node.condition]
    if isinstance(node, Sort):
        return [key.expression for key in node.keys]
    if isinstance(node, LimitBy):
        return [node.key]
    if isinstance(node, Extended):
        return [expression for _, expression in node.columns]
    if isinstance(node, Fused):
        return [score for score, _ in node.scores]
    if isinstance(node, Aggregation):
        arguments = [one.argument for _, one in node.aggregates if one.argument is not None]
        return [*(key for _, key in node.keys), *arguments]
    return [side for pair in node.pairs for side in pair] if isinstance(node, Joined) else []


def inputs_of(node: Node) -> list[Node]:
    if isinstance(node, Scan | Taken):
        return []
    if isinstance(node, Joined):
        return [node.left, node.right]
    if isinstance(node, Combined):
        return [node.left.node, node.right.node]
    return [node.input]


def scored_scans(rows: Rows) -> Iterator[Scan]:
    """The scans of which the query uses a score, wherever it does."""
    waiting: list[Node] = [rows.node]
    expressions = [expression for _, expression in rows.columns]
    while waiting or expressions:
        if waiting:
            node = waiting.pop()
            waiting += inputs_of(node)
            expressions += expressions_of(node)
            if isinstance(node, Combined):
                expressions += [expression for side in (node.left, node.right) for _, expression in side.columns]
            continue
        expression = expressions.pop()
        yield from (leaf.field.scan for leaf in leaves(expression) if not isinstance(leaf, Field) and leaf.field.scan)
        for inner in inner_queries(expression):
            waiting.append(inner.query.node)
            expressions += [column for _, column in inner.query.columns]
