"""What the types of two values make of an operator: comparisons, arithmetic, and the conversions before them.

A class label is compared by its index, a date or a time with the text that stands for it, and a JSON value as the type of what it
is compared with. Knows no columns and no functions.
"""

from collections.abc import Callable

from engine.tasks.query.bound import Apply, Bound, Element, Value, apply
from engine.tasks.query.constants import items_of, time_value
from engine.tasks.query.datatypes import (
    BOOL,
    DATE,
    FLOAT64,
    INT,
    INTERVAL,
    JSON,
    NULL,
    STRING,
    TIMESTAMP,
    DataType,
    common_type,
    list_of,
)
from engine.tasks.query.refusals import Refused, nearest, quoted

# Integers up to here are exact as doubles.
EXACT_DOUBLE = 2**53
_SCALARS = {"bool", "int", "float32", "float64", "string"}
_TIMES = {"date", "timestamp"}
# Type -> what CAST can make of it.
CASTS = {
    **{name: _SCALARS for name in ("bool", "int", "float32", "float64")},
    "class": {"int", "float32", "float64", "string"},
    **{name: _TIMES | {"string"} for name in _TIMES},
    **{name: _SCALARS | _TIMES for name in ("string", "json", "null")},
}


def convert(value: Bound, data_type: DataType) -> Bound:
    """A value as another type that it is known to have a form in; a failure of CAST is an error of the run."""
    if value.type == data_type:
        return value
    if isinstance(value, Value) and value.value is None:
        return Value(None, data_type)
    if isinstance(value, Value) and value.type == INT and data_type == FLOAT64:
        return Value(float(value.value), FLOAT64)
    return apply("convert", (value,), data_type)


def as_condition(value: Bound, at: int | None) -> Bound:
    """What WHERE, AND, OR and NOT take."""
    if value.type in (BOOL, NULL):
        return convert(value, BOOL)
    if value.type == JSON:
        return apply("json_as", (value,), BOOL)
    hint = "Close it with any(...) or all(...)." if value.type.is_list else None
    raise Refused("type_mismatch", f"A condition is true or false, and this is {value.type}.", at=at, hint=hint)


def as_text(value: Bound, at: int | None) -> Bound:
    """A text, a class label as its name, or a JSON value as its text."""
    if value.type.name in ("string", "class", "json", "null"):
        return convert(value, STRING)
    raise Refused("type_mismatch", f"A text is needed here, and this is {value.type}.", at=at, hint="Use CAST(... AS text).")


def as_number(value: Bound, at: int | None) -> Bound:
    if value.type.is_number:
        return value
    if value.type == NULL:
        return convert(value, FLOAT64)
    if value.type == JSON:
        return apply("json_as", (value,), FLOAT64)
    raise Refused("type_mismatch", f"A number is needed here, and this is {value.type}.", at=at)


def common(values: list[Bound], at: int | None) -> list[Bound]:
    """All values in the type they have in common, such as the branches of a CASE. JSON is taken as the type of the others."""
    other = next((value for value in values if value.type not in (JSON, NULL)), None)
    if other is not None:
        values = [_json_as(value, other) if value.type == JSON else value for value in values]
    found: DataType | None = NULL
    for value in values:
        together = None if found is None else common_type(found, value.type)
        if together is None:
            raise Refused("type_mismatch", f"{found} and {value.type} have no type in common.", at=at)
        found = together
    return [value if found is None else convert(value, found) for value in values]


def compare(operator: str, left: Bound, right: Bound, at: int | None) -> Bound:
    """A condition, or for a list and a scalar the list of the conditions of its elements."""
    if left.type.is_list and not right.type.is_list and right.type != NULL:
        return each(left, lambda element: compare(operator, element, right, at))
    if right.type.is_list and not left.type.is_list and left.type != NULL:
        return each(right, lambda element: compare(operator, left, element, at))
    left, right = comparable(left, right, at, is_ordering=operator not in ("=", "!="))
    return apply(operator, (left, right), BOOL)


def each(values: Bound, make: "Callable[[Bound], Bound]") -> Bound:
    """The list of what `make` gives for each element."""
    made = make(Element(values.type.element))
    return apply("each", (values, made), list_of(made.type))


def comparable(left: Bound, right: Bound, at: int | None, *, is_ordering: bool = False) -> tuple[Bound, Bound]:
    """Two values in one type, in which they can be compared."""
    left, right = _as_other(left, right, at, is_ordering), _as_other(right, left, at, is_ordering)
    shared = common_type(left.type, right.type)
    if shared is None or shared.name == "matrix" or (shared.name == "class" and is_ordering and left.type != right.type):
        raise Refused("type_mismatch", f"{left.type} and {right.type} cannot be compared.", at=at)
    if shared.is_float:
        shared = FLOAT64
    return convert(left, shared), convert(right, shared)


def _as_other(value: Bound, other: Bound, at: int | None, is_ordering: bool) -> Bound:
    """One side of a comparison, as the other side wants it."""
    if isinstance(value, Value) and value.type == STRING:
        if other.type in (DATE, TIMESTAMP):
            return _time(value, other, at)
        if other.type.name == "class" and not is_ordering:
            return Value(label_index(value, other.type, at), other.type)
    if value.type.name == "class" and other.type == INT:
        return convert(value, INT)
    if value.type.name == "class" and (is_ordering or other.type.name == "class") and other.type != value.type:
        return convert(value, STRING)
    if value.type == JSON:
        return convert(value, STRING) if not is_ordering and _is_beyond_doubles(other) else _json_as(value, other)
    if value.type == STRING and other.type in (DATE, TIMESTAMP):
        return convert(value, other.type)
    if value.type.name == "list" and other.type.name == "vector":
        return convert(value, other.type)
    if other.type == JSON and not is_ordering and _is_beyond_doubles(value):
        return Value(str(value.value), STRING) if isinstance(value, Value) else value
    return value


def _is_beyond_doubles(value: Bound) -> bool:
    """Whether a JSON number is compared with this constant by its text."""
    return isinstance(value, Value) and value.type == INT and value.value is not None and abs(value.value) > EXACT_DOUBLE


def _time(value: Value, other: Bound, at: int | None) -> Value:
    """A text compared with a date may name a time of day."""
    if other.type == DATE and len(value.value) > len("2026-11-23"):
        return time_value(value, TIMESTAMP, at)
    return time_value(value, other.type, at)


def _json_as(value: Bound, other: Bound) -> Bound:
    """A JSON value is taken as the type of what it is compared with; a value of another type is null then."""
    if other.type.is_number:
        return apply("json_as", (value,), FLOAT64)
    if other.type.name in ("bool", "date", "timestamp"):
        return apply("json_as", (value,), other.type)
    return convert(value, STRING)


def label_index(value: Value, class_type: DataType, at: int | None) -> int:
    """The index of a class label; Refused (`unknown_label`)."""
    if value.value in class_type.names:
        return class_type.names.index(value.value)
    raise Refused(
        "unknown_label", f'Unknown class label "{quoted(value.value)}".', at=at, hint=nearest(value.value, class_type.names)
    )


def among(operand: Bound, choices: list[Bound], at: int | None) -> Bound:
    """`operand IN (choices)`."""
    if not all(isinstance(choice, Value) for choice in choices) or operand.type.is_list:
        return any_of([compare("=", operand, choice, at) for choice in choices])
    known = [choice for choice in choices if choice.type != NULL]
    nulls = (None,) * (len(known) < len(choices))
    if not known:
        return apply("in", (operand, Value(nulls, list_of(operand.type))), BOOL)
    pairs = [comparable(operand, choice, at) for choice in known]
    values = common([right for _, right in pairs], at)
    left = next((left for left, right in pairs if right.type == values[0].type), pairs[0][0])
    items = tuple(value.value for value in values if isinstance(value, Value)) + nulls
    return apply("in", (convert(left, values[0].type), Value(items, list_of(values[0].type))), BOOL)


def any_of(conditions: list[Bound]) -> Bound:
    return conditions[0] if len(conditions) == 1 else apply("or", tuple(conditions), BOOL)


def choices_of(value: Bound, at: int | None) -> list[Bound]:
    """The elements of the one list that stands behind IN."""
    if isinstance(value, Value) and (value.type.is_list or value.type.name == "matrix"):
        return list(items_of(value))
    if isinstance(value, Apply) and value.function == "list":
        return list(value.arguments)
    return [value]


def arithmetic(operator: str, left: Bound, right: Bound, at: int | None) -> Bound:
    """`+ - * / % ^` of numbers, and `+ -` of times."""
    if operator in "+-":
        found = _time_arithmetic(operator, left, right)
        if found is not None:
            return found
    left, right = as_number(left, at), as_number(right, at)
    if operator in "/^":
        return apply(operator, (convert(left, FLOAT64), convert(right, FLOAT64)), FLOAT64)
    shared = INT if left.type == right.type == INT else FLOAT64
    return apply(operator, (convert(left, shared), convert(right, shared)), shared)


def _time_arithmetic(operator: str, left: Bound, right: Bound) -> Bound | None:
    """None where no time is among the two."""
    times = (DATE, TIMESTAMP)
    if left.type in times and right.type == INTERVAL:
        return apply(operator, (convert(left, TIMESTAMP), right), TIMESTAMP)
    if operator == "+" and left.type == INTERVAL and right.type in times:
        return apply("+", (convert(right, TIMESTAMP), left), TIMESTAMP)
    if left.type == right.type == INTERVAL:
        return apply(operator, (left, right), INTERVAL)
    if operator == "-" and left.type in times and right.type in times:
        if left.type == right.type == DATE:
            return apply("-", (left, right), INT)
        return apply("-", (convert(left, TIMESTAMP), convert(right, TIMESTAMP)), INTERVAL)
    return None


def negative(value: Bound, at: int | None) -> Bound:
    value = as_number(value, at)
    if isinstance(value, Value) and value.value is not None and value.type.is_number:
        return Value(-value.value, value.type) if -value.value < 2**63 else apply("negative", (value,), value.type)
    return apply("negative", (value,), FLOAT64 if value.type.is_float else value.type)


def cast(value: Bound, data_type: DataType, at: int | None) -> Bound:
    """CAST(value AS type), as the user writes it."""
    if isinstance(value, Value) and value.type == STRING and data_type in (DATE, TIMESTAMP):
        try:
            return time_value(value, data_type, at)
        except Refused as refused:
            raise Refused("arithmetic_error", refused.message, at=at, hint=refused.hint) from None
    if data_type.name not in CASTS.get(value.type.name, ()):
        raise Refused("type_mismatch", f"{value.type} cannot become {data_type}.", at=at)
    return convert(value, data_type)
