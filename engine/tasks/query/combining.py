"""UNION, INTERSECT and EXCEPT: columns by position, in the types that both sides have in common."""

from engine.tasks.query import tree
from engine.tasks.query.bound import Combined, Field, Node, Rows, SortKey
from engine.tasks.query.context import Context, Found, Given
from engine.tasks.query.conversions import convert
from engine.tasks.query.cutting import check_sortable, limited, sorted_by
from engine.tasks.query.datatypes import BOOL, INT, common_type
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.scopes import Scope, Visible


def bind_combination(given: Given, query: tree.Combination, outer: Scope | None) -> Rows:
    left, right = given.bind_query(given, query.left, outer), given.bind_query(given, query.right, outer)
    fields = _match(given, left, right, query)
    node: Node = Combined(query.operator, query.is_all, left, right, fields, given.fields.new(INT), given.fields.new(BOOL))
    columns = {name: column for (name, _), column in zip(left.columns, fields, strict=True)}
    order = [_order_combined(given, one, columns) for one in query.order_by]
    return Rows(limited(given, sorted_by(node, order), query), tuple(columns.items()))


def _match(given: Given, left: Rows, right: Rows, query: tree.Combination) -> tuple[Field, ...]:
    """Bring both sides into the same types, by position; the fields of the result."""
    if len(left.columns) != len(right.columns):
        message = f"The two sides of {query.operator.upper()} have {len(left.columns)} and {len(right.columns)} columns."
        raise Refused("type_mismatch", message, at=query.at)
    fields: list[Field] = []
    for i, ((name, one), (other_name, other)) in enumerate(zip(left.columns, right.columns, strict=True)):
        shared = common_type(one.type, other.type)
        if shared is None:
            message = (
                f'The column "{quoted(name)}" is {one.type} on one side of {query.operator.upper()}, {other.type} on the other.'
            )
            code = "dimension_mismatch" if one.type.name == other.type.name == "vector" else "type_mismatch"
            raise Refused(code, message, at=query.at)
        left.columns = (*left.columns[:i], (name, convert(one, shared)), *left.columns[i + 1 :])
        right.columns = (*right.columns[:i], (other_name, convert(other, shared)), *right.columns[i + 1 :])
        fields.append(given.fields.new(shared))
    return tuple(fields)


def _order_combined(given: Given, order: tree.Order, columns: dict[str, Field]) -> SortKey:
    written = order.expression
    if isinstance(written, tree.Constant) and type(written.value) is int:
        if not 1 <= written.value <= len(columns):
            raise Refused("unknown_column", f"There are {len(columns)} output columns.", at=written.at)
        return SortKey(list(columns.values())[written.value - 1], order.is_descending)
    scope = Scope((Visible((), dict(columns)),))
    context = Context(given, scope, Found(given.fields.new(INT)), "The rows of a set operation have no groups.")
    key = context.bind(written)
    check_sortable(key, written.at)
    if context.found.fused or context.found.uses_row_number:
        raise Refused("unsupported", "rrf and row_number stand in a SELECT.", at=written.at)
    return SortKey(key, order.is_descending)
