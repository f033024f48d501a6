"""Brackets: elements and slices of lists, vectors and matrices as Python counts them, and paths into JSON.

Knows no columns.
"""

from engine.tasks.query import tree
from engine.tasks.query.bound import Bound, Value, apply
from engine.tasks.query.constants import items_of, vector_of_value, vector_value
from engine.tasks.query.context import Context
from engine.tasks.query.conversions import as_number, each
from engine.tasks.query.datatypes import INT, JSON, NULL, STRING, list_of
from engine.tasks.query.refusals import Refused

Part = Bound | tuple[Bound | None, Bound | None]


def bind_index(context: Context, node: tree.Index) -> Bound:
    operand = context.bind(node.operand)
    parts = [_part(context, part) for part in node.parts]
    return _apply_parts(operand, parts, node.at)


def _part(context: Context, part: tree.Expression | tree.Slice) -> Part:
    if not isinstance(part, tree.Slice):
        return context.bind(part)
    start, stop = (None if end is None else _whole_number(context.bind(end), end.at) for end in (part.start, part.stop))
    return start, stop


def _whole_number(value: Bound, at: int | None) -> Bound:
    if as_number(value, at).type != INT and value.type != NULL:
        raise Refused("type_mismatch", f"An index is a whole number, and this is {value.type}.", at=at)
    return value


def _apply_parts(operand: Bound, parts: list[Part], at: int | None) -> Bound:
    """`a[i, j]`: the first part chooses among the rows, the others inside each of them."""
    found = _apply_part(operand, parts[0], at)
    if len(parts) == 1:
        return found
    if not isinstance(parts[0], tuple):
        return _apply_parts(found, parts[1:], at)
    if found.type.name == "matrix" and isinstance(found, Value) and len(parts) == 2:
        return _column_of_matrix(found, parts[1], at)
    if not found.type.is_list or not found.type.element.is_list:
        raise Refused("type_mismatch", f"A {operand.type} has one dimension.", at=at)
    return each(found, lambda row: _apply_parts(row, parts[1:], at))


def _apply_part(operand: Bound, part: Part, at: int | None) -> Bound:
    if operand.type == JSON and not isinstance(part, tuple):
        return apply("json_get", (operand, Value(_json_path(part, at), STRING)), JSON)
    if not operand.type.is_list and operand.type.name != "matrix":
        raise Refused("type_mismatch", f"A {operand.type} has no elements.", at=at)
    if isinstance(operand, Value) and operand.value is not None and _is_constant(part):
        return _of_constant(operand, part, at)
    if operand.type.name == "matrix":
        raise Refused("unsupported", "An index of a matrix is a number or a parameter.", at=at)
    if isinstance(part, tuple):
        start, stop = (Value(None, NULL) if end is None else end for end in part)
        kept = operand.type if operand.type.name == "list" else list_of(operand.type.element)
        return apply("slice", (operand, start, stop), kept)
    return apply("element", (operand, _whole_number(part, at)), operand.type.element)


def _is_constant(part: Part) -> bool:
    ends = part if isinstance(part, tuple) else (part,)
    return all(end is None or isinstance(end, Value) for end in ends)


def _number_of(end: Bound | None) -> int | None:
    return end.value if isinstance(end, Value) else None


def _of_constant(operand: Value, part: Part, at: int | None) -> Value:
    """An element or a slice, by Python's own rules; null out of range."""
    items = items_of(operand)
    if isinstance(part, tuple):
        chosen = slice(_number_of(part[0]), _number_of(part[1]))
        return _slice_of_constant(operand, chosen, at)
    index = _number_of(_whole_number(part, at))
    if index is None or not -len(items) <= index < len(items):
        return Value(None, operand.type.element)
    return items[index]


def _slice_of_constant(operand: Value, chosen: slice, at: int | None) -> Value:
    if operand.type.name == "list":
        return Value(operand.value[chosen], operand.type)
    part = vector_of_value(operand)[chosen]
    if not len(part):
        return Value((), list_of(operand.type.element))
    return vector_value(part, at)


def _column_of_matrix(matrix: Value, part: Part, at: int | None) -> Bound:
    """`m[:, j]`, or a slice of each row."""
    numbers = vector_of_value(matrix)
    if isinstance(part, tuple):
        return vector_value(numbers[:, _number_of(part[0]) : _number_of(part[1])], at)
    index = _number_of(_whole_number(part, at))
    if index is None or not -matrix.type.dim <= index < matrix.type.dim:
        return Value((None,) * len(numbers), list_of(matrix.type.element.element))
    return vector_value(numbers[:, index], at)


def _json_path(part: Bound, at: int | None) -> str:
    """A key as a JSON pointer, which can hold any key; a position as a JSON path, which can count from the end."""
    if not isinstance(part, Value) or part.value is None or part.type not in (STRING, INT):
        raise Refused("type_mismatch", "An index of a JSON value is a text, a whole number or a parameter.", at=at)
    if part.type == STRING:
        return "/" + str(part.value).replace("~", "~0").replace("/", "~1")
    return f"$[{part.value}]" if part.value >= 0 else f"$[#{part.value}]"
