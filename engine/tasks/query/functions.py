"""Functions by name: what arguments each takes, and of which type its result is. Adding one needs its line in _FUNCTIONS.

Scores stand in score_calls.py. Knows no SQL.
"""

from collections.abc import Callable

from engine.tasks.query import tree
from engine.tasks.query.bound import Aggregated, Bound, Value, apply
from engine.tasks.query.context import Context
from engine.tasks.query.conversions import as_number, as_text, common, compare, convert, each
from engine.tasks.query.datatypes import BOOL, FLOAT64, INT, NULL, STRING, DataType, list_of
from engine.tasks.query.refusals import Refused, nearest, quoted
from engine.tasks.query.score_calls import METRICS, bind_bm25, bind_embed, bind_metric, bind_rrf

Binder = Callable[[Context, tree.Call], Bound]


def bind_call(context: Context, node: tree.Call) -> Bound:
    """Refused (`unknown_function`, `type_mismatch`)."""
    binder = _FUNCTIONS.get(node.name)
    if binder is None:
        hint = nearest(node.name, sorted(_FUNCTIONS))
        raise Refused("unknown_function", f'Unknown function "{quoted(node.name)}".', at=node.at, hint=hint)
    if (node.is_distinct or node.is_star) and node.name != "count":
        raise Refused("unsupported", "DISTINCT and * stand in count(...) alone.", at=node.at)
    return binder(context, node)


def _arguments(context: Context, node: tree.Call, least: int, most: int | None = None) -> list[Bound]:
    """The bound arguments; Refused where there are too few or too many."""
    number = len(node.arguments)
    if number < least or number > (least if most is None else most):
        wanted = str(least) if most is None else f"{least} to {most}"
        raise Refused("type_mismatch", f"{node.name} takes {wanted} arguments, and here are {number}.", at=node.at)
    return [context.bind(argument) for argument in node.arguments]


# Aggregates, and functions on the elements of a list


def _count(context: Context, node: tree.Call) -> Bound:
    if node.is_star:
        return context.aggregate(Aggregated("count_rows", None, INT), node.at)
    [argument] = _arguments(context.inside_aggregate(), node, 1)
    return context.aggregate(Aggregated("count", argument, INT, node.is_distinct), node.at)


def _sum_or_avg(context: Context, node: tree.Call) -> Bound:
    """Of the elements of a list, or of the rows: the type of the argument decides."""
    [argument] = _arguments(context.inside_aggregate(), node, 1)
    if argument.type.is_list:
        return _of_list(argument, node)
    number = convert(argument, INT) if argument.type == BOOL else as_number(argument, node.at)
    is_whole = node.name == "sum" and number.type == INT
    number = number if is_whole else convert(number, FLOAT64)
    return context.aggregate(Aggregated(node.name, number, INT if is_whole else FLOAT64), node.at)


def _min_or_max(context: Context, node: tree.Call) -> Bound:
    [argument] = _arguments(context.inside_aggregate(), node, 1)
    if argument.type.is_list or argument.type.name in ("matrix", "interval"):
        hint = f"Use a{node.name} for the elements of a list." if argument.type.is_list else None
        raise Refused("type_mismatch", f"{node.name} takes a scalar, and this is {argument.type}.", at=node.at, hint=hint)
    return context.aggregate(Aggregated(node.name, argument, argument.type), node.at)


def _of_elements(context: Context, node: tree.Call) -> Bound:
    return _of_list(_list(context, node), node)


def _of_list(numbers: Bound, node: tree.Call) -> Bound:
    """sum, avg, prod, amin and amax of a list of numbers."""
    element = numbers.type.element
    if node.name in ("amin", "amax"):
        return apply(node.name, (numbers,), element)
    if not element.is_number and element != NULL:
        raise Refused("type_mismatch", f"{node.name} takes numbers, and these are {element}.", at=node.at)
    is_whole = node.name in ("sum", "prod") and element == INT
    numbers = numbers if is_whole else convert(numbers, list_of(FLOAT64))
    return apply(f"list_{node.name}", (numbers,), INT if is_whole else FLOAT64)


def _list(context: Context, node: tree.Call) -> Bound:
    [values] = _arguments(context, node, 1)
    if not values.type.is_list:
        raise Refused("type_mismatch", f"{node.name} takes a list or a vector, and this is {values.type}.", at=node.at)
    return values


def _shape(context: Context, node: tree.Call) -> Bound:
    return apply("shape", (_list(context, node),), list_of(INT))


def _any_or_all(context: Context, node: tree.Call) -> Bound:
    return apply(node.name, (_conditions(context, node),), BOOL)


def _nonzero(context: Context, node: tree.Call) -> Bound:
    """The positions, from 0, of the elements that are true or not 0."""
    return apply("nonzero", (_conditions(context, node),), list_of(INT))


def _conditions(context: Context, node: tree.Call) -> Bound:
    values = _list(context, node)
    if values.type.element in (BOOL, NULL):
        return convert(values, list_of(BOOL))
    return each(values, lambda element: compare("!=", element, Value(0, INT), node.at))


# Texts


def _contains(context: Context, node: tree.Call) -> Bound:
    """Whether a text holds another, or a list an element."""
    held, wanted = _arguments(context, node, 2)
    if held.type.is_list:
        return apply("any", (compare("=", held, wanted, node.at),), BOOL)
    return apply("contains", (as_text(held, node.at), as_text(wanted, node.at)), BOOL)


def _equals(context: Context, node: tree.Call) -> Bound:
    left, right = _arguments(context, node, 2)
    return compare("=", left, right, node.at)


def _on_texts(number: int, data_type: DataType) -> Binder:
    def bind(context: Context, node: tree.Call) -> Bound:
        texts = tuple(as_text(one, node.at) for one in _arguments(context, node, number))
        return apply(node.name, texts, data_type)

    return bind


def _length(context: Context, node: tree.Call) -> Bound:
    """Characters of a text, bytes, or elements of a list."""
    [value] = _arguments(context, node, 1)
    if value.type.is_list:
        return apply("list_length", (value,), INT)
    if value.type.name == "bytes":
        return apply("bytes_length", (value,), INT)
    return apply("length", (as_text(value, node.at),), INT)


# Numbers and the rest


def _on_double(context: Context, node: tree.Call) -> Bound:
    [value] = _arguments(context, node, 1)
    return apply(node.name, (convert(as_number(value, node.at), FLOAT64),), FLOAT64)


def _keeps_integers(context: Context, node: tree.Call) -> Bound:
    """abs, floor and ceil: an integer stays one."""
    [value] = _arguments(context, node, 1)
    number = as_number(value, node.at)
    if number.type == INT:
        return apply("abs", (number,), INT) if node.name == "abs" else number
    return apply(node.name, (convert(number, FLOAT64),), FLOAT64)


def _round(context: Context, node: tree.Call) -> Bound:
    number, *digits = _arguments(context, node, 1, 2)
    number = as_number(number, node.at)
    places = digits[0] if digits else Value(0, INT)
    if not isinstance(places, Value) or places.type != INT or abs(places.value) > 30:
        raise Refused("type_mismatch", "The number of digits is a whole number up to 30.", at=node.at)
    if number.type == INT:
        return number if places.value >= 0 else apply("round", (number, places), INT)
    return apply("round", (convert(number, FLOAT64), places), FLOAT64)


def _coalesce(context: Context, node: tree.Call) -> Bound:
    values = common(_arguments(context, node, 1, 256), node.at)
    return apply("coalesce", tuple(values), values[0].type)


def _row_number(context: Context, node: tree.Call) -> Bound:
    _arguments(context, node, 0)
    return context.row_number()


def _keys(context: Context, node: tree.Call) -> Bound:
    [value] = _arguments(context, node, 1)
    if value.type.name != "json":
        raise Refused("type_mismatch", f"keys takes a JSON value, and this is {value.type}.", at=node.at)
    return apply("keys", (value,), list_of(STRING))


_FUNCTIONS: dict[str, Binder] = {
    **dict.fromkeys(METRICS, bind_metric),
    "embed": bind_embed,
    "bm25_similarity": bind_bm25,
    "rrf": bind_rrf,
    "count": _count,
    **dict.fromkeys(("sum", "avg"), _sum_or_avg),
    **dict.fromkeys(("min", "max"), _min_or_max),
    **dict.fromkeys(("prod", "amin", "amax"), _of_elements),
    "shape": _shape,
    **dict.fromkeys(("any", "all"), _any_or_all),
    "nonzero": _nonzero,
    "contains": _contains,
    "equals": _equals,
    **dict.fromkeys(("lower", "upper"), _on_texts(1, STRING)),
    **dict.fromkeys(("starts_with", "ends_with"), _on_texts(2, BOOL)),
    "length": _length,
    **dict.fromkeys(("sqrt", "ln", "exp"), _on_double),
    **dict.fromkeys(("abs", "floor", "ceil"), _keeps_integers),
    "round": _round,
    "coalesce": _coalesce,
    "row_number": _row_number,
    "keys": _keys,
}
