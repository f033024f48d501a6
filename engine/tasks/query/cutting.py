"""ORDER BY, LIMIT and OFFSET: how the rows of a query are ordered and cut."""

from engine.tasks.query import tree
from engine.tasks.query.bound import Bound, Limit, Node, Sort, SortKey, Value
from engine.tasks.query.context import Given
from engine.tasks.query.refusals import Refused


def sorted_by(node: Node, order: list[SortKey]) -> Node:
    keys = tuple(key for key in order if not isinstance(key.expression, Value))
    return Sort(node, keys) if keys else node


def limited(given: Given, node: Node, query: tree.Query) -> Node:
    number = None if query.limit is None else whole_number(given, query.limit)
    offset = 0 if query.offset is None else whole_number(given, query.offset)
    return node if number is None and not offset else Limit(node, number, offset)


def whole_number(given: Given, written: tree.Constant | tree.Parameter) -> int:
    is_parameter = isinstance(written, tree.Parameter)
    value = given.parameter(written).value if isinstance(written, tree.Parameter) else written.value
    if type(value) is not int or value < 0:
        code = "bad_param" if is_parameter else "type_mismatch"
        raise Refused(code, "LIMIT and OFFSET take whole numbers of 0 and more.", at=written.at)
    return min(value, 2**62)


def check_sortable(key: Bound, at: int | None) -> None:
    if key.type.name in ("vector", "matrix"):
        raise Refused("type_mismatch", f"Rows cannot be ordered by a {key.type}.", at=at)
