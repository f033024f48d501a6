"""Binding of expressions: each node of the tree becomes a bound expression with a type. One function for each kind of node.

Knows no clause; functions by name stand in functions.py, brackets in indexing.py.
"""

from collections.abc import Callable
from typing import Any

from engine.tasks.query import tree
from engine.tasks.query.bound import Bound, InRows, Value, apply
from engine.tasks.query.constants import interval_value, value_of
from engine.tasks.query.context import Context
from engine.tasks.query.conversions import (
    among,
    arithmetic,
    as_condition,
    as_text,
    cast,
    choices_of,
    common,
    comparable,
    compare,
    convert,
    negative,
)
from engine.tasks.query.datatypes import BOOL, DATE, FLOAT32, FLOAT64, INT, NULL, STRING, TIMESTAMP, DataType, list_of
from engine.tasks.query.functions import bind_call
from engine.tasks.query.indexing import bind_index
from engine.tasks.query.limits import MAX_INT
from engine.tasks.query.patterns import like_pattern
from engine.tasks.query.refusals import Refused

CAST_TYPES: dict[str, DataType] = {
    "int": INT,
    "bigint": INT,
    "float": FLOAT32,
    "double": FLOAT64,
    "text": STRING,
    "boolean": BOOL,
    "date": DATE,
    "timestamp": TIMESTAMP,
}


def bind_expression(context: Context, node: tree.Expression) -> Bound:
    """Refused where a name, a type or a value does not fit; `at` says where."""
    try:
        return _BINDERS[type(node)](context, node)
    except Refused as refused:
        if refused.at is None:
            refused.at = node.at
        raise


def _constant(context: Context, node: tree.Constant) -> Bound:
    return value_of(node.value, node.at)


def _parameter(context: Context, node: tree.Parameter) -> Bound:
    return context.given.parameter(node)


def _lifted(context: Context, node: tree.Lifted) -> Bound:
    return context.given.vector(node)


def _column(context: Context, node: tree.Column) -> Bound:
    return context.scope.find(node)


def _unary(context: Context, node: tree.Unary) -> Bound:
    if node.operator == "not":
        return apply("not", (as_condition(context.bind(node.operand), node.at),), BOOL)
    # -9223372036854775808 is an integer of 64 bits, and the number behind its sign is not.
    if isinstance(node.operand, tree.Constant) and type(node.operand.value) is int and node.operand.value == MAX_INT + 1:
        return Value(-node.operand.value, INT)
    return negative(context.bind(node.operand), node.at)


def _binary(context: Context, node: tree.Binary) -> Bound:
    left, right = context.bind(node.left), context.bind(node.right)
    at = _offset(node)
    if node.operator == "||":
        return _concatenation(left, right, at)
    if node.operator in ("+", "-", "*", "/", "%", "^"):
        return arithmetic(node.operator, left, right, at)
    return compare(node.operator, left, right, at)


def _offset(node: tree.Expression) -> int | None:
    """Where an error about an operator points to, which has no place of its own."""
    return node.at if node.at is not None or not isinstance(node, tree.Binary) else _offset(node.left)


def _concatenation(left: Bound, right: Bound, at: int | None) -> Bound:
    if left.type.is_list and right.type.is_list:
        left, right = common([convert(one, list_of(one.type.element)) for one in (left, right)], at)
        return apply("concat_lists", (left, right), left.type)
    return apply("||", (as_text(left, at), as_text(right, at)), STRING)


def _junction(context: Context, node: tree.Junction) -> Bound:
    return apply(node.operator, tuple(as_condition(context.bind(one), one.at) for one in node.conditions), BOOL)


def _between(context: Context, node: tree.Between) -> Bound:
    operand = context.bind(node.operand)
    low = compare(">=", operand, context.bind(node.low), node.at)
    high = compare("<=", operand, context.bind(node.high), node.at)
    return apply("and", (as_condition(low, node.at), as_condition(high, node.at)), BOOL)


def _in(context: Context, node: tree.In) -> Bound:
    operand = context.bind(node.operand)
    if len(node.choices) == 1 and isinstance(node.choices[0], tree.Lifted):
        return among(operand, choices_of(context.given.lifted_numbers(node.choices[0]), node.at), node.at)
    choices = [context.bind(choice) for choice in node.choices]
    if len(choices) == 1:
        choices = choices_of(choices[0], node.at)
    return among(operand, choices, node.at)


def _in_query(context: Context, node: tree.InQuery) -> Bound:
    operand = context.bind(node.operand)
    query = context.given.bind_query(context.given, node.query, context.scope)
    if len(query.columns) != 1:
        raise Refused("type_mismatch", f"IN (SELECT ...) needs one column, and this has {len(query.columns)}.", at=node.at)
    [(name, column)] = query.columns
    left, right = comparable(operand, column, node.at)
    query.columns = ((name, right),)
    return InRows(left, query, BOOL)


def _is_null(context: Context, node: tree.IsNull) -> Bound:
    return apply("is_null", (context.bind(node.operand),), BOOL)


def _like(context: Context, node: tree.Like) -> Bound:
    pattern = as_text(context.bind(node.pattern), node.at)
    if not isinstance(pattern, Value):
        raise Refused("unsupported", "The pattern of LIKE is a text or a parameter.", at=node.at)
    operand = as_text(context.bind(node.operand), node.at)
    written = None if pattern.value is None else like_pattern(pattern.value)
    return apply("ilike" if node.ignores_case else "like", (operand, Value(written, STRING)), BOOL)


def _case(context: Context, node: tree.Case) -> Bound:
    operand = None if node.operand is None else context.bind(node.operand)
    conditions = [_case_condition(operand, context.bind(when), when.at) for when, _ in node.branches]
    results = [context.bind(then) for _, then in node.branches]
    results.append(Value(None, NULL) if node.otherwise is None else context.bind(node.otherwise))
    results = common(results, node.at)
    arguments = [part for pair in zip(conditions, results, strict=False) for part in pair]
    return apply("case", (*arguments, results[-1]), results[-1].type)


def _case_condition(operand: Bound | None, when: Bound, at: int | None) -> Bound:
    return as_condition(when if operand is None else compare("=", operand, when, at), at)


def _cast(context: Context, node: tree.Cast) -> Bound:
    return cast(context.bind(node.operand), CAST_TYPES[node.type], node.at)


def _interval(context: Context, node: tree.Interval) -> Bound:
    return interval_value(node.number, node.unit, node.at)


def _array(context: Context, node: tree.Array) -> Bound:
    items = common([context.bind(item) for item in node.items], node.at)
    item_type = items[0].type if items else NULL
    if items and all(isinstance(item, Value) for item in items):
        return _constant_array([item for item in items if isinstance(item, Value)], node.at)
    return apply("list", tuple(items), list_of(item_type))


def _constant_array(items: list[Value], at: int | None) -> Value:
    if items[0].type.name in ("list", "vector"):
        return value_of([list(choice.value for choice in _scalars(item, at)) for item in items], at)
    return Value(tuple(item.value for item in items), list_of(items[0].type))


def _scalars(item: Value, at: int | None) -> list[Value]:
    return [choice for choice in choices_of(item, at) if isinstance(choice, Value)]


_BINDERS: dict[type, Callable[[Context, Any], Bound]] = {
    tree.Constant: _constant,
    tree.Parameter: _parameter,
    tree.Lifted: _lifted,
    tree.Column: _column,
    tree.Call: bind_call,
    tree.Unary: _unary,
    tree.Binary: _binary,
    tree.Junction: _junction,
    tree.Between: _between,
    tree.In: _in,
    tree.InQuery: _in_query,
    tree.IsNull: _is_null,
    tree.Like: _like,
    tree.Case: _case,
    tree.Cast: _cast,
    tree.Interval: _interval,
    tree.Index: bind_index,
    tree.Array: _array,
}
